//! Fills that go by more than the meter's own readings: a check meter beside it, and the area around it.

use meterlake_analytics::jobs::forget_usage;
use meterlake_analytics::usage::storm::StormRules;
use meterlake_analytics::{FillRules, Job, JobOptions, Rules, run_job};
use meterlake_model::registry::Registry;
use meterlake_model::{MeterId, ReadingBatch, Timestamp};

use crate::fixture::{QUARTER_S, TestLake, at, day, push, register, registry};

const ENERGY: &str = "energy_import_kwh";
const WALKED: [&str; 4] = ["usage_spans", "usage_days", "findings", "usage_anchors"];

/// The fixture's places, with a check meter beside e2.
fn with_check_meter() -> Registry {
    let mut registry = registry();
    let beside = registry.installations.iter().find(|i| i.meter_id.as_str() == "e2").unwrap().clone();
    let meter = registry.meters[&beside.meter_id].clone();
    let id = MeterId::new("c2").unwrap();
    registry.meters.insert(id.clone(), meterlake_model::registry::Meter { id: id.clone(), ..meter });
    registry.installations.push(meterlake_model::registry::Installation { meter_id: id, is_check: true, ..beside });
    registry.installations.sort_by(|a, b| (&a.meter_id, a.installed_at).cmp(&(&b.meter_id, b.installed_at)));
    registry
}

fn rise(quarter: i64) -> i64 {
    40 + quarter * 7 % 31
}

/// A register of e2 from 1 to 10 January, without what `silent` names.
fn e2(batch: &mut ReadingBatch, silent: impl Fn(Timestamp) -> bool) {
    let (mut ts, mut value) = (at("2025-12-31T23:00:00Z"), 1_000_000);
    for quarter in 0..9 * 96 {
        if !silent(ts) {
            push(batch, "e2", ts, &[(ENERGY, value)]);
        }
        value += rise(quarter);
        ts = ts.plus_seconds(QUARTER_S);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_check_meter_beside_fills_the_gap_and_counts_for_nothing_else() {
    let mut lake = TestLake::new(&with_check_meter()).await;
    let (from, to) = (at("2026-01-05T08:00:00Z"), at("2026-01-05T18:00:00Z"));
    let mut batch = ReadingBatch::default();
    e2(&mut batch, |ts| from < ts && ts < to);
    let span = (at("2025-12-31T23:00:00Z"), at("2026-01-09T23:00:00Z"), QUARTER_S);
    register(&mut batch, ("c2", ENERGY), span, 77, rise);
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-01", "2026-01-10").await;
    let gap = "usage_point_id = 'E2' AND level = 'slot' AND start >= '2026-01-05T08:00:00Z' AND start < '2026-01-05T18:00:00Z'";
    let filled =
        lake.rows(&format!("SELECT quality, method, count(*) FROM usage_spans WHERE {gap} GROUP BY 1, 2")).await;
    assert_eq!(filled, ["derived,twin,40"]);
    let slots = lake.rows(&format!("SELECT value FROM usage_spans WHERE {gap} ORDER BY start")).await;
    let since = from.micros_since(at("2025-12-31T23:00:00Z")) / 1_000_000 / QUARTER_S;
    let used: Vec<String> = (since..since + 40).map(|quarter| format!("0.{:03}000", rise(quarter))).collect();
    assert_eq!(slots, used, "its own use, quarter by quarter");
    let others = lake.rows("SELECT count(*) FROM usage_spans WHERE meter_id = 'c2'").await;
    assert_eq!(others, ["0"], "what hangs beside is not counted again");
    let days = lake.rows("SELECT DISTINCT estimated FROM usage_days WHERE usage_point_id = 'E2'").await;
    assert_eq!(days, ["0.000000"]);
    lake.run(Job::Billing, "2026-01-01", "2026-02-01").await;
    assert_eq!(lake.rows("SELECT count(*) FROM billing_reads WHERE usage_point_id = 'E2'").await, ["1"]);

    // What the check meter says later is new, too: the gap follows it.
    let mut late = ReadingBatch::default();
    register(&mut late, ("c2", ENERGY), (to, to.plus_seconds(6 * QUARTER_S), QUARTER_S), 999_000_000, |_| 1);
    lake.commit(late).await;
    lake.run(Job::Usage, "2026-01-01", "2026-01-10").await;
    let after = lake.files(&WALKED);
    forget_usage(&lake.lake).await.unwrap();
    lake.run(Job::Usage, "2026-01-01", "2026-01-10").await;
    let lasting = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "parquet"))
            .map(|(_, b)| b.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(lasting(&after), lasting(&lake.files(&WALKED)), "a run from nothing leaves the same");
}

fn storm(from: &str, to: &str) -> JobOptions {
    let storm = StormRules { enabled: true, min_meters: 4, ..StormRules::default() };
    let rules = Rules { fills: FillRules { storm, ..FillRules::default() }, ..Rules::default() };
    JobOptions { rules, ..JobOptions::new(day(from), day(to)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_estimates_of_a_silent_transformer_wait_and_come_by_themselves() {
    let mut lake = TestLake::new(&registry()).await;
    let (start, storm_at, now) = (at("2025-12-31T23:00:00Z"), at("2026-01-09T00:00:00Z"), at("2026-01-09T12:00:00Z"));
    let gap = |ts: Timestamp| at("2026-01-09T01:00:00Z") < ts && ts < at("2026-01-09T06:00:00Z");
    let mut batch = ReadingBatch::default();
    e2(&mut batch, |ts| gap(ts) || ts > now);
    register(&mut batch, ("z4", ENERGY), (start, now, QUARTER_S), 9_000_000, |_| 50);
    for meter in ["e1", "e3"] {
        // Two of four are silent since midnight.
        register(&mut batch, (meter, ENERGY), (start, storm_at.plus_seconds(-1), QUARTER_S), 5_000_000, |_| 50);
    }
    lake.commit(batch).await;
    let options = storm("2026-01-01", "2026-01-10");
    let report = run_job(&lake.lake, Job::Usage, &options).await.unwrap();
    assert!(report.summary.contains("nothing is estimated in T1 since 2026-01-09T00:00:00Z"), "{}", report.summary);
    let state = "SELECT area, suspended_since FROM usage_progress WHERE area IS NOT NULL";
    assert_eq!(lake.rows(state).await.len(), 1);
    let slots = "SELECT quality, method, count(*) FROM usage_spans WHERE usage_point_id = 'E2' AND level = 'slot' \
                 AND start >= '2026-01-09T01:00:00Z' AND start < '2026-01-09T06:00:00Z' GROUP BY 1, 2";
    assert_eq!(lake.rows(slots).await, ["none,,20"]);
    // The same run again changes nothing, and without storm mode there are estimates.
    assert_eq!(run_job(&lake.lake, Job::Usage, &options).await.unwrap().partitions_changed, 0);

    let mut late = ReadingBatch::default();
    for meter in ["e1", "e3"] {
        let known = storm_at.micros_since(start) / 1_000_000 / QUARTER_S;
        register(&mut late, (meter, ENERGY), (storm_at, now, QUARTER_S), 5_000_000 + known * 50, |_| 50);
    }
    lake.commit(late).await;
    let report = run_job(&lake.lake, Job::Usage, &options).await.unwrap();
    assert!(!report.summary.contains("nothing is estimated"), "{}", report.summary);
    assert_eq!(lake.rows(slots).await, ["estimated_scaled,day_type,20"], "its neighbours came, and it is estimated");
    assert_eq!(lake.rows(state).await.len(), 0);
    let spans = "SELECT * FROM usage_spans ORDER BY usage_point_id, channel, level, start";
    let went_on = lake.rows(spans).await;
    forget_usage(&lake.lake).await.unwrap();
    run_job(&lake.lake, Job::Usage, &options).await.unwrap();
    assert_eq!(lake.rows(spans).await, went_on, "a run from nothing leaves the same");
}
