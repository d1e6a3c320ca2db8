//! A run of billing computed again when a year has gone over it.

use std::collections::BTreeMap;
use std::time::Duration;

use meterlake_analytics::book::{Runs, answer, issue, load_book, pinned_run};
use meterlake_analytics::jobs::{BillsAgain, bills_again};
use meterlake_analytics::ledger::{Cause, Item, Materiality};
use meterlake_analytics::runs::GateRules;
use meterlake_analytics::{Job, JobOptions, Rules, run_job};
use meterlake_model::{Amount, CivilDay, ReadingBatch, Timestamp};

use crate::fixture::{HOUR_S, QUARTER_S, TestLake, at, day, push, registry, zone};

const MONTHS: i32 = 12;
/// A boundary reading comes so many months after the bill that had to do without it.
const LATE_MONTHS: i32 = 2;
/// The meter that is silent around the end of each month.
const SILENT: &str = "e1";

fn first() -> CivilDay {
    day("2026-01-01")
}

/// A register that rises by more than it wavers.
fn value(seed: i64, slot: i64) -> i64 {
    1_000_000 + 60 * slot + (slot * seed) % 41
}

fn silent_around(border: Timestamp) -> (Timestamp, Timestamp) {
    (border.plus_seconds(-18 * HOUR_S), border.plus_seconds(18 * HOUR_S))
}

/// The readings that came since the last bill, up to the third of the month behind, but those of the silent meter around the
/// end of each month.
fn readings_for(month: i32) -> ReadingBatch {
    let start = zone().start_of_day(first());
    let third = |month| zone().start_of_day(first().plus_months(month).plus_days(2));
    let (from, to) = (if month == 0 { start } else { third(month) }, third(month + 1));
    let border = zone().start_of_day(first().plus_months(month + 1));
    let exchange = at("2026-02-10T10:00:00Z");
    let mut batch = ReadingBatch::default();
    for (meter, name, every_s, seed) in [
        ("e1", "energy_import_kwh", QUARTER_S, 3),
        ("e4", "energy_import_kwh", QUARTER_S, 11),
        ("z4", "energy_import_kwh", QUARTER_S, 13),
        ("w1", "volume_m3", HOUR_S, 17),
    ] {
        let mut ts = from;
        while ts < to {
            let (since, until) = silent_around(border);
            let silent = meter == SILENT && since < ts && ts < until;
            let hangs = match meter {
                "e4" => ts >= exchange,
                "z4" => ts < exchange,
                _ => true,
            };
            if hangs && !silent {
                push(&mut batch, meter, ts, &[(name, value(seed, ts.micros_since(start) / 1_000_000 / every_s))]);
            }
            ts = ts.plus_seconds(every_s);
        }
    }
    batch
}

/// What the silent meter's register stood at when a month ended: less than a straight line says.
fn late_boundary(month: i32) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let border = zone().start_of_day(first().plus_months(month + 1));
    let slot = border.micros_since(zone().start_of_day(first())) / 1_000_000 / QUARTER_S;
    push(&mut batch, SILENT, border, &[("energy_import_kwh", value(3, slot) - 1500)]);
    batch
}

/// The days of a month, asked on the fifth of the one behind it.
fn bill_of(from: CivilDay, month: i32) -> JobOptions {
    let end = first().plus_months(month + 1);
    JobOptions { today: Some(end.plus_days(4)), ..JobOptions::new(from, end) }
}

/// What upkeep does in a month, at once: few files, none that is no longer needed, a short log.
async fn upkeep(lake: &TestLake) {
    lake.compact().await;
    // As upkeep in an hour would find what was taken out five seconds ago; it wants a clock that ran steadily for as long.
    let (now, keep) = (Timestamp::now().plus_seconds(3600), Duration::from_secs(3605));
    for table in lake.lake.tables().await.unwrap() {
        lake.lake.checkpoint(&table).await.unwrap();
        lake.lake.vacuum_as_of(&table, now, keep).await.unwrap();
    }
}

fn by_key(items: &[Item]) -> BTreeMap<String, Amount> {
    items.iter().map(|item| (item.key.to_string(), item.value)).collect()
}

#[tokio::test]
async fn an_old_run_gives_the_same_bytes_after_a_year_and_the_ledger_has_the_difference_item_by_item() {
    let mut registry = registry();
    registry.usage_points.retain(|id, _| ["E1", "E4", "W1"].contains(&id.as_str()));
    registry.meters.retain(|id, _| ["e1", "e4", "z4", "w1"].contains(&id.as_str()));
    registry.installations.retain(|i| registry.meters.contains_key(&i.meter_id));
    let mut lake = TestLake::new(&registry).await;
    let mut runs: Vec<(String, BillsAgain)> = Vec::new();
    let (gates, notices) = (GateRules::default(), Materiality::default());
    for month in 0..MONTHS {
        lake.commit(readings_for(month)).await;
        let late = month - LATE_MONTHS;
        if late >= 0 {
            lake.commit(late_boundary(late)).await;
        }
        let asked = JobOptions { follow: true, ..bill_of(first().plus_months(month), month) };
        let usage = run_job(&lake.lake, Job::Usage, &asked).await.unwrap();
        assert!(late < 0 || usage.first_day < asked.from, "the run follows what the late reading touched");
        let report = run_job(&lake.lake, Job::Billing, &bill_of(usage.first_day.min(asked.from), month)).await.unwrap();
        let pinned = pinned_run(&lake.lake, &report.run_id).await.unwrap();
        let then = pinned.again(&lake.lake, &Rules::default()).await.unwrap();
        assert_eq!(then.hash, pinned.output_hash, "as it was written");
        let run = format!("2026-{:02}", month + 1);
        let list = issue(&lake.lake, &run, "ana", (&gates, &notices), pinned.today.unwrap(), None).await.unwrap();
        answer(&lake.lake, list.unwrap().number, None, "sap", None).await.unwrap();
        runs.push((report.run_id, then));
        upkeep(&lake).await;
        lake = lake.restarted().await;
    }
    // The last corrections are posted by the runs that follow.
    let asked = JobOptions { today: Some(day("2027-02-05")), ..JobOptions::new(first(), first().plus_months(MONTHS)) };
    lake.run(Job::Usage, "2026-01-01", "2027-01-01").await;
    run_job(&lake.lake, Job::Billing, &asked).await.unwrap();
    upkeep(&lake).await;
    let lake = lake.restarted().await;

    for (run_id, then) in &runs {
        let again = pinned_run(&lake.lake, run_id).await.unwrap().again(&lake.lake, &Rules::default()).await.unwrap();
        assert_eq!(again.hash, then.hash, "run {run_id}");
        assert_eq!(again.reads, then.reads, "run {run_id}");
        assert_eq!(again.items, then.items, "run {run_id}");
    }

    let now = by_key(&bills_again(&lake.lake, &asked).await.unwrap().items);
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let mut corrected = 0;
    for (key, account) in &book.accounts {
        let rows = account.account.rows();
        assert_eq!(
            account.account.current(),
            now.get(&key.to_string()).copied(),
            "{key}: the ledger adds up to what is"
        );
        corrected += usize::from(rows.iter().skip(1).any(|row| row.cause == Cause::LateRead));
    }
    // Of each boundary that came late: the end of one month, the start of the next, and the use of both.
    let late = usize::try_from(MONTHS - LATE_MONTHS).unwrap();
    assert!(corrected >= 2 * late, "{corrected} items were corrected");
    let differing = |(_, then): &(String, BillsAgain)| {
        by_key(&then.items).iter().filter(|(key, was)| now.get(*key) != Some(was)).count()
    };
    assert!(runs.iter().map(differing).sum::<usize>() >= 2 * late, "old runs say what was, not what is");
}
