//! Rule 6: a job is a function of its pin, the registry, the rules and the program.

use meterlake_analytics::jobs::forget_usage;
use meterlake_analytics::{Job, JobError, JobOptions, run_job};
use meterlake_model::{Amount, ReadingBatch};

use crate::fixture::{QUARTER_S, TestLake, at, day, lake_with_usage, push, quarter_year, registry, zone};

const DERIVED: [&str; 10] = [
    "usage_spans",
    "usage_days",
    "usage_anchors",
    "findings",
    "billing_reads",
    "billing_runs",
    "alerts",
    "alert_events",
    "profiles",
    "completeness",
];

#[tokio::test]
async fn rule_6_a_rerun_gives_the_same_bytes() {
    let lake = lake_with_usage().await;
    for job in [Job::Billing, Job::Alerts, Job::Profiles, Job::Completeness] {
        lake.run(job, "2026-01-01", "2026-04-01").await;
    }
    let before = lake.files(&DERIVED);
    assert!(before.len() > 12, "{:?}", before.keys());
    for job in Job::ALL {
        let report = lake.run(job, "2026-01-01", "2026-04-01").await;
        assert_eq!(report.partitions_changed, 0, "{}", report.summary);
        assert!(report.run_id.ends_with("-2") || report.job != Job::Usage, "{}", report.run_id);
    }
    let after = lake.files(&DERIVED);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "no file came or went");
    assert!(before == after, "no byte changed");

    // From nothing, in another folder: the data files are the same, too.
    let other = lake_with_usage().await;
    for job in [Job::Billing, Job::Alerts, Job::Profiles, Job::Completeness] {
        other.run(job, "2026-01-01", "2026-04-01").await;
    }
    let data = |lake: &TestLake| {
        let files = lake.files(&DERIVED);
        let root = lake.lake.root().to_owned();
        let data = files.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "parquet"));
        data.map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes)).collect::<Vec<_>>()
    };
    assert!(data(&lake) == data(&other), "same readings, same files");
}

#[tokio::test]
async fn rule_6_a_late_reading_rewrites_only_the_partitions_that_it_touched() {
    let mut lake = TestLake::new(&registry()).await;
    let mut batch = ReadingBatch::default();
    let late = at("2026-02-17T10:00:00Z");
    let all = quarter_year();
    for commodity in meterlake_model::Commodity::ALL {
        let rows = all.rows(commodity);
        for (index, header) in rows.headers().iter().enumerate() {
            if header.meter_id.as_str() == "e2" && header.ts == late {
                continue;
            }
            let values: Vec<_> = rows.values(index).collect();
            batch.rows_mut(commodity).push(header.clone(), &values);
        }
    }
    lake.commit(batch).await;
    for job in Job::ALL {
        lake.run(job, "2026-01-01", "2026-04-01").await;
    }
    let walked = ["usage_spans", "usage_days", "findings", "usage_anchors"];
    let before = lake.files(&walked);

    let rows = all.electricity_row("e2", late);
    let mut one = ReadingBatch::default();
    push(&mut one, "e2", late, &[("energy_import_kwh", rows)]);
    lake.commit(one).await;
    let report = lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    // Of spans, their days and findings; where the next walk is taken up has not changed.
    assert!((1..=3).contains(&report.partitions_changed), "{}", report.summary);
    let after = lake.files(&walked);
    let data = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "parquet");
    for path in after.keys().filter(data).filter(|p| !before.contains_key(*p)) {
        assert!(path.to_string_lossy().contains("month=2026-02"), "{} is of another month", path.display());
    }
    let span = lake
        .rows(
            "SELECT value, quality FROM usage_spans WHERE usage_point_id = 'E2' AND level = 'slot'
             AND \"end\" = TIMESTAMP '2026-02-17T10:00:00Z'",
        )
        .await;
    assert!(span[0].ends_with(",valid"), "{span:?}");
}

#[tokio::test]
async fn rule_6_a_run_that_is_pinned_sees_nothing_later() {
    let mut lake = TestLake::new(&registry()).await;
    let first = lake.commit(quarter_year()).await;
    let pinned = JobOptions { commit_seq: Some(first), ..JobOptions::new(day("2026-01-01"), day("2026-05-01")) };
    let report = run_job(&lake.lake, Job::Usage, &pinned).await.unwrap();
    assert_eq!(report.commit_seq, first);
    let mut more = ReadingBatch::default();
    let after = zone().start_of_day(day("2026-04-01")).plus_seconds(QUARTER_S);
    push(&mut more, "e1", after, &[("energy_import_kwh", 5_000_000)]);
    lake.commit(more).await;
    let again = run_job(&lake.lake, Job::Usage, &pinned).await.unwrap();
    assert_eq!((again.partitions_changed, again.rows), (0, report.rows));
    let free = lake.run(Job::Usage, "2026-01-01", "2026-05-01").await;
    assert_eq!((free.commit_seq, free.partitions_changed > 0), (first + 1, true));
}

#[tokio::test]
async fn every_run_is_taken_down_with_what_it_went_by() {
    let lake = lake_with_usage().await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    let rows = lake
        .rows("SELECT job, from_day, to_day, commit_seq, registry_revision, rows, partitions_changed FROM job_runs ORDER BY run_id")
        .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].starts_with("usage,2026-01-01,2026-04-01,1,1,"), "{rows:?}");
    assert!(rows[1].ends_with(",0"), "{rows:?}");
}

#[tokio::test]
async fn jobs_say_kindly_what_they_miss() {
    let empty = tempfile::tempdir().unwrap();
    let lake = meterlake_store::Lake::open(empty.path()).unwrap();
    let options = JobOptions::new(day("2026-01-01"), day("2026-02-01"));
    let error = run_job(&lake, Job::Usage, &options).await.unwrap_err();
    assert!(matches!(error, JobError::NoRegistry), "{error}");
    let lake = TestLake::new(&registry()).await;
    let error = run_job(&lake.lake, Job::Billing, &options).await.unwrap_err();
    assert_eq!(error.to_string(), "job billing reads table usage_days, which is not there yet: run job usage first");
    let nothing = JobOptions::new(day("2026-02-01"), day("2026-02-01"));
    assert!(matches!(run_job(&lake.lake, Job::Usage, &nothing).await, Err(JobError::NoDays { .. })));
    // Without a reading there is nothing to derive, and that is no error.
    let report = run_job(&lake.lake, Job::Usage, &options).await.unwrap();
    assert_eq!(report.partitions_changed, 0, "{}", report.summary);
}

/// What a test takes out of a batch.
trait RowOf {
    /// The register of an electricity meter at a time, in thousandths.
    fn electricity_row(&self, meter: &str, ts: meterlake_model::Timestamp) -> i64;
}

impl RowOf for ReadingBatch {
    fn electricity_row(&self, meter: &str, ts: meterlake_model::Timestamp) -> i64 {
        let rows = self.rows(meterlake_model::Commodity::Electricity);
        let at = rows.headers().iter().position(|h| h.meter_id.as_str() == meter && h.ts == ts).unwrap();
        rows.value(at, crate::fixture::channel("energy_import_kwh")).unwrap()
    }
}

#[test]
fn amounts_of_the_fixture_are_thousandths() {
    assert_eq!(Amount::from_scaled(1_000_000, 3), Amount::parse("1000"));
}

#[tokio::test]
async fn rule_6_months_derived_one_by_one_are_the_months_derived_at_once() {
    let lake = lake_with_usage().await;
    for (from, to) in [("2026-02-01", "2026-03-01"), ("2026-03-01", "2026-04-01"), ("2026-01-05", "2026-01-06")] {
        // Otherwise nothing would be derived.
        forget_usage(&lake.lake).await.unwrap();
        let report = lake.run(Job::Usage, from, to).await;
        assert!(report.rows_read > 0, "{from}: {}", report.summary);
        assert_eq!(report.partitions_changed, 0, "{from}: {}", report.summary);
    }
}
