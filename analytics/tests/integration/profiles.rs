//! Profiles out of the lake.

use meterlake_analytics::Job;
use meterlake_model::ReadingBatch;

use crate::fixture::{HOUR_S, TestLake, day, lake_with_usage, register, registry, zone};

#[tokio::test]
async fn profiles_have_figures_and_a_rank_in_their_class() {
    let lake = lake_with_usage().await;
    let report = lake.run(Job::Profiles, "2026-02-01", "2026-03-01").await;
    assert_eq!(report.rows, 6, "{}", report.summary);
    let rows = lake
        .rows(
            "SELECT usage_point_id, period, days, complete_days, rank_in_class, class_size,
               cardinality(shape_workday), cardinality(daily)
             FROM profiles ORDER BY channel, daily_use DESC",
        )
        .await;
    let ranks: Vec<&str> = rows.iter().map(|r| r.split(',').nth(4).unwrap()).collect();
    assert_eq!(ranks, ["1", "2", "3", "4", "1", "2"], "{rows:?}");
    assert!(rows.iter().all(|r| r.ends_with(",24,28")), "{rows:?}");
    // On the day of the exchange a quarter of an hour of the old meter is estimated: E4 has one day less.
    let complete = |r: &&String| r.contains(",2026-02,28,28,");
    let less: Vec<_> = rows.iter().filter(|r| !complete(r)).collect();
    assert!(less.len() == 1 && less[0].starts_with("E4,2026-02,28,27,"), "{rows:?}");
}

#[tokio::test]
async fn rule_7_a_month_of_estimates_has_no_figures() {
    let mut lake = TestLake::new(&registry()).await;
    let mut batch = ReadingBatch::default();
    let (from, to) = (zone().start_of_day(day("2026-01-01")), zone().start_of_day(day("2026-02-01")));
    register(&mut batch, ("w1", "volume_m3"), (from, to, HOUR_S), 200_000, |i| i % 24);
    // Nothing is heard in February; the register of March says how much it was.
    let (from, to) = (zone().start_of_day(day("2026-03-01")), zone().start_of_day(day("2026-03-05")));
    register(&mut batch, ("w1", "volume_m3"), (from, to, HOUR_S), 500_000, |i| i % 24);
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    lake.run(Job::Profiles, "2026-01-01", "2026-04-01").await;
    let rows = lake
        .rows("SELECT period, complete_days, daily_use IS NULL FROM profiles WHERE usage_point_id = 'W1' ORDER BY 1")
        .await;
    assert_eq!(rows, ["2026-01,31,false", "2026-02,0,true", "2026-03,4,true"]);
}
