//! Why an issued number changed: each cause by the way that it comes about, and what people were told before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use meterlake_analytics::book::{Runs, issue, load_book, pinned_run};
use meterlake_analytics::jobs::{BillsAgain, WhatIf, bills_again, bills_if};
use meterlake_analytics::ledger::{ItemKey, Posting};
use meterlake_analytics::{Job, JobOptions, JobReport, Rules, run_job};
use meterlake_model::calendar::{Calendar, CalendarPlan, CalendarRule, DayKinds, MonthDays};
use meterlake_model::determinant::{Determinant, Kind, Rounding, Scope, Within};
use meterlake_model::registry::Registry;
use meterlake_model::revision::FIRST_RE_DECODED;
use meterlake_model::{Amount, Channel, Commodity, ReadingBatch, ReadingFlags};
use meterlake_store::schema;

use crate::fixture::{TestLake, at, channel, day, push, quarter_year, registry, zone};

const TODAY: &str = "2026-04-10";
const MONTHS: [&str; 3] = ["2026-01", "2026-02", "2026-03"];

fn options(rules: &Rules) -> JobOptions {
    let of = JobOptions::new(day("2026-01-01"), day("2026-04-01"));
    JobOptions { today: Some(day(TODAY)), rules: rules.clone(), ..of }
}

async fn bill(lake: &TestLake, rules: &Rules) -> JobReport {
    let usage = JobOptions { rules: rules.clone(), ..JobOptions::new(day("2026-01-01"), day("2026-04-02")) };
    run_job(&lake.lake, Job::Usage, &usage).await.unwrap();
    run_job(&lake.lake, Job::Billing, &options(rules)).await.unwrap()
}

async fn issued(lake: &TestLake, rules: &Rules) {
    bill(lake, rules).await;
    for month in MONTHS {
        let list = issue(&lake.lake, month, "ana", (&rules.gates, &rules.notices), day(TODAY), None).await.unwrap();
        assert!(list.is_some_and(|list| list.bills > 3), "{month}");
    }
}

/// Rows that were posted, as `point run determinant/part cause`, and the sum of their deltas by item.
async fn posted(lake: &TestLake) -> (Vec<String>, BTreeMap<ItemKey, Amount>) {
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let (mut rows, mut sums) = (Vec::new(), BTreeMap::new());
    for (key, of) in &book.accounts {
        for row in of.account.rows().iter().filter(|row| row.seq > 0) {
            rows.push(format!("{} {} {}/{} {}", key.usage_point_id, of.run, key.determinant, key.part, row.cause));
            let sum = sums.entry(key.clone()).or_insert(Amount::ZERO);
            *sum = sum.checked_add(row.delta).unwrap();
        }
    }
    (rows, sums)
}

fn causes(rows: &[String]) -> Vec<&str> {
    let mut causes: Vec<_> = rows.iter().filter_map(|row| row.rsplit(' ').next()).collect();
    causes.sort_unstable();
    causes.dedup();
    causes
}

/// What every account says is what is computed anew from readings.
async fn assert_present(lake: &TestLake, now: &BillsAgain) {
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    for item in &now.items {
        let of = book.accounts.get(&item.key).map(|of| of.account.current());
        assert!(of.is_none_or(|current| current == Some(item.value)), "{}: {of:?} {}", item.key, item.value);
    }
}

/// The quarter year as a map with another scale would have read one meter between two instants.
fn scaled(meter: &str, (from, to): (&str, &str), by: i64) -> (ReadingBatch, ReadingBatch) {
    let (mut wrong, mut right) = (ReadingBatch::default(), ReadingBatch::default());
    let all = quarter_year();
    for commodity in Commodity::ALL {
        let rows = all.rows(commodity);
        for (index, header) in rows.headers().iter().enumerate() {
            let values: Vec<_> = rows.values(index).collect();
            let off = header.meter_id.as_str() == meter && at(from) <= header.ts && header.ts < at(to);
            let off_by: Vec<_> = values.iter().map(|(c, v)| (*c, if off { v * by } else { *v })).collect();
            wrong.rows_mut(commodity).push(header.clone(), &off_by);
            if off {
                let mut header = header.clone();
                header.flags = ReadingFlags::RE_DECODED;
                right.rows_mut(commodity).push(header, &values);
            }
        }
    }
    (wrong, right)
}

/// Rows of electricity as they will be in the table.
fn as_table(batch: &ReadingBatch, commit_seq: i64) -> RecordBatch {
    let spec = schema::readings(Commodity::Electricity);
    let rows = &batch.electricity;
    let headers = rows.headers();
    let columns = spec.schema.fields().iter().map(|field| -> ArrayRef {
        let text = |of: fn(&meterlake_model::RowHeader) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(headers.iter().map(of)))
        };
        let instant = |of: fn(&meterlake_model::RowHeader) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(headers.iter().map(of)).with_timezone("UTC"))
        };
        match field.name().as_str() {
            "meter_id" => text(|h| h.meter_id.to_string()),
            "ts" => instant(|h| h.ts.micros()),
            "revision" => Arc::new(Int32Array::from(vec![FIRST_RE_DECODED; headers.len()])),
            "received_at" => instant(|h| h.received_at_s * 1_000_000),
            "source" => text(|h| h.source.to_string()),
            "profile" => text(|h| h.profile.to_string()),
            "flags" => Arc::new(Int32Array::from(vec![64; headers.len()])),
            "commit_seq" => Arc::new(Int64Array::from(vec![commit_seq; headers.len()])),
            "month" => text(|h| meterlake_model::month_key(h.ts)),
            name => {
                let channel = Channel::by_name(name).unwrap();
                let values: Decimal128Array =
                    (0..rows.len()).map(|row| rows.value(row, channel).map(i128::from)).collect();
                Arc::new(values.with_data_type(field.data_type().clone()))
            }
        }
    });
    RecordBatch::try_new(spec.schema.clone(), columns.collect()).unwrap()
}

#[tokio::test]
async fn f10_a_wrong_scale_of_three_months_is_previewed_and_posted_as_re_decoded() {
    let rules = tariff("peak");
    // The whole history of e1, so that its register is in order both times.
    let (wrong, right) = scaled("e1", ("2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), 10);
    let mut lake = TestLake::new(&registry()).await;
    let first = lake.commit(wrong).await;
    issued(&lake, &rules).await;
    let same = bill(&lake, &rules).await;
    assert!(!same.summary.contains("corrections"), "{}", same.summary);

    let what_if = WhatIf {
        rows: [("electricity_readings".to_owned(), as_table(&right, first))].into(),
        points: Some([meterlake_model::UsagePointId::new("E1").unwrap()].into()),
    };
    let preview =
        bills_if(&lake.lake, &JobOptions { commit_seq: Some(first), ..options(&rules) }, what_if).await.unwrap();
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let mut expected = BTreeMap::new();
    for item in &preview.items {
        let context = &preview.contexts[&item.key];
        let row = book.accounts[&item.key].account.next_row(&Posting { item, context, run_id: "preview" });
        expected.extend(row.map(|row| (item.key.clone(), row.delta)));
    }
    // Three months, each with two reads, the use and two buckets.
    assert_eq!(expected.len(), 3 * 5, "{expected:?}");
    assert_eq!(posted(&lake).await.0, Vec::<String>::new(), "a preview writes nothing");

    lake.commit(right.clone()).await;
    bill(&lake, &rules).await;
    let (rows, sums) = posted(&lake).await;
    assert_eq!(causes(&rows), ["re_decode"], "{rows:?}");
    assert_eq!(sums, expected, "the preview equals the result");
    assert_present(&lake, &bills_again(&lake.lake, &options(&rules)).await.unwrap()).await;

    // The same rows again are there already; nothing is posted twice.
    lake.commit(right).await;
    let again = bill(&lake, &rules).await;
    assert!(!again.summary.contains("corrections"), "{}", again.summary);
    // What was then is still seen by who asks for then, and one row a time is seen by who asks for now.
    let then = bills_again(&lake.lake, &JobOptions { commit_seq: Some(first), ..options(&rules) }).await.unwrap();
    let key = |of: &BillsAgain| of.items.iter().find(|i| i.key.determinant == "use").unwrap().value;
    assert_eq!(key(&then).micros(), 10 * key(&preview).micros());
    let ten = lake.rows("SELECT count(*) FROM electricity WHERE meter_id = 'e1' AND energy_import_kwh > 9000").await;
    assert_eq!(ten, ["0"]);
    let kept = lake
        .rows("SELECT count(*) = 2 * count(DISTINCT ts), count(DISTINCT revision) FROM electricity_readings WHERE meter_id = 'e1'")
        .await;
    assert_eq!(kept, ["true,2"], "nothing is written over, and the same again is dropped");
    lake.compact().await;
    assert_present(&lake, &bills_again(&lake.lake, &options(&rules)).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_not_decoded_any_more_stands_no_more() {
    let mut lake = TestLake::new(&registry()).await;
    let mut all = quarter_year();
    // Another register's readings under the name of e1, higher than its own.
    let strange = ["2026-02-11T00:07:00Z", "2026-02-12T00:07:00Z"].map(at);
    for ts in strange {
        push(&mut all, "e1", ts, &[("energy_import_kwh", 1_400_000)]);
    }
    lake.commit(all).await;
    let rules = Rules::default();
    issued(&lake, &rules).await;
    let mut gone = ReadingBatch::default();
    for ts in strange {
        push(&mut gone, "e1", ts, &[("energy_import_kwh", 0)]);
    }
    let mut void = ReadingBatch::default();
    for header in gone.electricity.headers() {
        let mut header = header.clone();
        header.flags = ReadingFlags::RE_DECODED;
        void.electricity.push(header, &[]);
    }
    lake.commit(void).await;
    bill(&lake, &rules).await;
    let seen = "SELECT count(*) FROM electricity WHERE meter_id = 'e1' AND ts IN ('2026-02-11T00:07:00Z', '2026-02-12T00:07:00Z')";
    assert_eq!(lake.rows(seen).await, ["0"]);
    let found = "SELECT count(*) FROM findings WHERE usage_point_id = 'E1' AND start >= '2026-02-10T00:00:00Z'
                 AND start < '2026-02-13T00:00:00Z'";
    assert_eq!(lake.rows(found).await, ["0"], "the walk does not see them, and was taken up before them");
    let (rows, _) = posted(&lake).await;
    assert!(rows.iter().all(|row| row.ends_with("re_decode")), "{rows:?}");
    assert_present(&lake, &bills_again(&lake.lake, &options(&rules)).await.unwrap()).await;
}

/// A bucket of use in the day and one in the night, of every meter for electricity.
fn tariff(first: &str) -> Rules {
    let mut plan = CalendarPlan::new("home", zone(), ["valley", "peak"]);
    plan.default = Some(0);
    let from = if first == "peak" { 8 } else { 10 };
    plan.rules = vec![CalendarRule::new(DayKinds::workdays(), MonthDays::all(), (from * 60, 22 * 60), 1)];
    let within = Within { calendar: "home".to_owned(), buckets: Vec::new() };
    let close_to = meterlake_model::determinant::CloseTo::UseOf(channel("energy_import_kwh"));
    let kind = Kind::Bucket { channel: channel("energy_import_kwh"), within, close_to };
    let tou = Determinant { id: "tou".to_owned(), scope: Scope::default(), kind, round: Rounding::default() };
    Rules {
        calendars: [("home".to_owned(), Calendar::prove(plan).unwrap())].into(),
        determinants: vec![tou],
        ..Rules::default()
    }
}

/// Imports another registry and bills again; the causes of what that changed.
async fn after_registry(change: impl Fn(&mut Registry)) -> Vec<String> {
    let rules = tariff("peak");
    let mut lake = TestLake::new(&registry()).await;
    lake.commit(quarter_year()).await;
    issued(&lake, &rules).await;
    let mut registry = registry();
    change(&mut registry);
    lake.lake.write_registry(&registry).await.unwrap();
    bill(&lake, &rules).await;
    assert_present(&lake, &bills_again(&lake.lake, &options(&rules)).await.unwrap()).await;
    posted(&lake).await.0
}

#[tokio::test]
async fn a_multiplier_that_was_wrong_on_file_is_its_own_cause() {
    let rows = after_registry(|registry| registry.installations[0].channels[0].multiplier_micros = 20_000_000).await;
    assert_eq!(causes(&rows), ["multiplier"], "{rows:?}");
    assert!(rows.iter().all(|row| row.starts_with("E1 ")), "{rows:?}");
    assert_eq!(rows.len(), 3 * 3, "use and two buckets of three months; registers are as they were read");
}

#[tokio::test]
async fn an_exchange_that_was_on_file_for_another_time_is_its_own_cause() {
    let rows = after_registry(|registry| {
        for installation in &mut registry.installations {
            for at in [&mut installation.installed_at, &mut installation.removed_at].into_iter().flatten() {
                *at = at.plus_seconds(-3 * 86_400);
            }
        }
    })
    .await;
    assert_eq!(causes(&rows), ["exchange"], "{rows:?}");
    assert!(rows.iter().all(|row| row.starts_with("E4 2026-02")), "{rows:?}");
}

#[tokio::test]
async fn another_rule_and_another_calendar_are_told_apart() {
    let mut lake = TestLake::new(&registry()).await;
    let (mut gapped, mut late) = (ReadingBatch::default(), ReadingBatch::default());
    let all = quarter_year();
    for commodity in Commodity::ALL {
        let rows = all.rows(commodity);
        for (index, header) in rows.headers().iter().enumerate() {
            let values: Vec<_> = rows.values(index).collect();
            // Two days without readings over the end of February.
            let hole = at("2026-02-28T05:00:00Z") < header.ts && header.ts < at("2026-03-01T05:00:00Z");
            let hole = hole && header.meter_id.as_str() == "e2";
            let to = if hole { &mut late } else { &mut gapped };
            to.rows_mut(commodity).push(header.clone(), &values);
        }
    }
    lake.commit(gapped).await;
    let rules = tariff("peak");
    issued(&lake, &rules).await;

    let other = tariff("later");
    bill(&lake, &other).await;
    let (rows, sums) = posted(&lake).await;
    assert_eq!(causes(&rows), ["calendar_change"], "{rows:?}");
    assert!(rows.iter().all(|row| row.contains(" tou/")), "a tariff moves buckets alone: {rows:?}");
    assert_eq!(Amount::sum(sums.into_values()), Some(Amount::ZERO), "from bucket to bucket");
    assert_present(&lake, &bills_again(&lake.lake, &options(&other)).await.unwrap()).await;

    // What was a straight line at the end of February is shaped by like days under another rule.
    let mut shaped = other.clone();
    shaped.usage.boundary_gap_s = 3600;
    bill(&lake, &shaped).await;
    let (all, _) = posted(&lake).await;
    let new: Vec<_> = all.iter().filter(|row| !rows.contains(row)).collect();
    assert!(new.len() > 3, "{all:?}");
    assert!(new.iter().all(|row| row.starts_with("E2 ") && row.ends_with(" rule_change")), "{new:?}");

    // Late readings are late readings whatever changed before.
    lake.commit(late).await;
    bill(&lake, &shaped).await;
    let (rows, _) = posted(&lake).await;
    let new: Vec<_> = rows.iter().filter(|row| !all.contains(row)).collect();
    assert!(!new.is_empty(), "{rows:?}");
    assert!(new.iter().all(|row| row.starts_with("E2 ") && row.ends_with(" late_read")), "{new:?}");
    assert_present(&lake, &bills_again(&lake.lake, &options(&shaped)).await.unwrap()).await;
}

#[tokio::test]
async fn an_old_run_is_computed_again_with_its_determinants() {
    let rules = tariff("peak");
    let mut lake = TestLake::new(&registry()).await;
    lake.commit(quarter_year()).await;
    let report = bill(&lake, &rules).await;
    let mut late = ReadingBatch::default();
    push(&mut late, "e1", at("2026-02-11T00:07:00Z"), &[("energy_import_kwh", 1_400_000)]);
    lake.commit(late).await;
    bill(&lake, &rules).await;
    let pinned = pinned_run(&lake.lake, &report.run_id).await.unwrap();
    let again = pinned.again(&lake.lake, &rules).await.unwrap();
    assert!(again.is(&pinned.output_hash), "{} is not {}", again.hash, pinned.output_hash);
    assert_eq!(pinned.output_hash.split(' ').count(), 2, "bills and figures");
    let of_bills = pinned.output_hash.split(' ').next().unwrap();
    assert!(again.is(of_bills), "a run of before figures were hashed");
    assert!(!again.is(&format!("{of_bills} 00")), "figures that differ are told");
    let figures: Vec<_> = again.items.iter().filter(|i| i.key.determinant == "tou").collect();
    assert_eq!(figures.len(), 3 * 4 * 2, "four points, three months, two buckets");
    let table = "SELECT CAST(sum(value) AS DECIMAL(18,6)) FROM billing_determinants WHERE month = '2026-01'";
    let of_january = figures.iter().filter(|i| i.key.first_day == day("2026-01-01")).map(|i| i.value);
    assert_eq!(lake.rows(table).await, [Amount::sum(of_january).unwrap().to_string()]);
}
