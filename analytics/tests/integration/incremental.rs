//! Rule 6: a run that goes on from the one before, over what came since, leaves the bytes that a run from nothing leaves.

use std::path::PathBuf;

use meterlake_analytics::jobs::forget_usage;
use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_model::registry::Registry;
use meterlake_model::{
    Commodity, EventKind, MeterEvent, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp, UsagePointId,
};
use meterlake_store::CompactOptions;
use meterlake_store::schema::readings_name;

use crate::fixture::{HOUR_S, TestLake, at, channel, day, lake_with_usage, push, quarter_year, registry};

const WALKED: [&str; 4] = ["usage_spans", "usage_days", "findings", "usage_anchors"];
const FROM: &str = "2026-01-01";
const TO: &str = "2026-07-01";

/// Numbers that are the same in every run of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }
}

/// One message: when it arrives, in days from the first, and what it says.
struct Message {
    arrives: i64,
    meter: &'static str,
    ts: Timestamp,
    values: Vec<(&'static str, i64)>,
    flags: ReadingFlags,
}

/// A registry with hourly meters of every kind: as the fixture's, and E3 has intervals beside its register and a meter of its
/// own for what it feeds in, which tells of an outage; at E5 two meters hang beside each other for six weeks.
fn mixed() -> Registry {
    let mut registry = registry();
    for installation in &mut registry.installations {
        installation.channels[0].interval_s = 4 * HOUR_S;
        if installation.meter_id.as_str() == "e1" {
            installation.channels[0].multiplier_micros = 333_333;
            installation.channels[0].digits = Some(4);
        }
        if installation.meter_id.as_str() == "e3" {
            let mut interval = installation.channels[0].clone();
            interval.channel = channel("energy_import_delta_kwh");
            installation.channels.push(interval);
        }
    }
    let mut fifth = registry.usage_points[&UsagePointId::new("E1").unwrap()].clone();
    fifth.id = UsagePointId::new("E5").unwrap();
    registry.usage_points.insert(fifth.id.clone(), fifth);
    let template = registry.installations[1].clone();
    for (meter, point, from, to) in [
        ("e5", "E5", None, Some("2026-03-20T10:00:00Z")),
        ("e6", "E5", Some("2026-02-06T10:00:00Z"), None),
        ("e7", "E3", None, None),
    ] {
        let mut installation = template.clone();
        installation.meter_id = MeterId::new(meter).unwrap();
        installation.usage_point_id = UsagePointId::new(point).unwrap();
        (installation.installed_at, installation.removed_at) = (from.map(at), to.map(at));
        if meter == "e7" {
            installation.channels[0].channel = channel("energy_export_kwh");
        }
        registry.installations.push(installation);
    }
    registry
}

/// Five months of all meters, in no order of arrival: gaps of hours and of weeks, jitter, another's readings, resets,
/// contradictions, the repeated hour without an offset, and some that come weeks late.
fn messages(dice: &mut Dice) -> Vec<Message> {
    let mut messages = Vec::new();
    let start = at("2026-01-01T00:00:00Z");
    for meter in ["e1", "e2", "e3", "e4", "e5", "e6", "e7", "w1", "w2", "z4"] {
        let (mut register, mut shift, mut silent) = (9_900_000_i64, 0_i64, 0_u64);
        for n in 0..6 * 150_i64 {
            let used = i64::try_from(dice.below(700)).unwrap();
            register += used;
            let ts = start.plus_seconds(n * 4 * HOUR_S + i64::try_from(dice.below(3)).unwrap());
            let exchange = at("2026-02-10T10:00:00Z");
            if meter == "e4" && ts < exchange || meter == "z4" && ts > exchange {
                continue;
            }
            if silent > 0 {
                silent -= 1;
                continue;
            }
            match dice.below(400) {
                0..4 => silent = dice.below(6),
                4 => silent = 60 + dice.below(200),
                5 => shift -= 200_000,
                6 => shift = 0,
                _ => {}
            }
            let value = register + shift - if dice.one_in(90) { 4 } else { 0 };
            let value = match dice.below(300) {
                0 => value + 3_000_000,
                1 => value - 300_000,
                _ => value,
            };
            let (name, value) = match meter {
                "w1" | "w2" => ("volume_m3", value.max(0)),
                "e7" => ("energy_export_kwh", value.max(0)),
                "e1" => ("energy_import_kwh", value.rem_euclid(10_000_000)),
                _ => ("energy_import_kwh", value.max(0)),
            };
            let mut values = vec![(name, value)];
            let ts = if meter == "e3" { slot_end(dice, n) } else { ts };
            if meter == "e3" {
                values.push(("energy_import_delta_kwh", used * 1000));
            }
            let days = n / 6;
            let arrives = days
                + match dice.below(60) {
                    0 => i64::try_from(dice.below(70)).unwrap(),
                    1..4 => 1,
                    _ => 0,
                };
            let flags = if dice.one_in(700) { ReadingFlags::AMBIGUOUS_LOCAL_TIME } else { ReadingFlags::NONE };
            if dice.one_in(200) {
                let other = vec![(name, value + 30)];
                messages.push(Message { arrives: arrives + 2, meter, ts, values: other, flags });
            }
            messages.push(Message { arrives, meter, ts, values, flags });
        }
    }
    messages.sort_by_key(|m| m.arrives);
    messages
}

/// The end of a slot of four hours on the wall clock, and now and then a time between two.
fn slot_end(dice: &mut Dice, n: i64) -> Timestamp {
    let utc = at("2026-01-01T00:00:00Z").plus_seconds(n * 4 * HOUR_S);
    let summer = utc >= at("2026-03-29T02:00:00Z");
    let ahead = if dice.one_in(20) { 0 } else { HOUR_S * if summer { 2 } else { 1 } };
    utc.plus_seconds(-ahead)
}

fn batch(messages: &[Message]) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    for message in messages {
        let values: Vec<_> = message.values.iter().map(|(name, value)| (channel(name), *value)).collect();
        let header = RowHeader {
            meter_id: MeterId::new(message.meter).unwrap(),
            ts: message.ts,
            received_at_s: at("2026-01-01T00:00:00Z").unix_seconds() + message.arrives * 86_400,
            source: "test".into(),
            profile: "test@1".into(),
            flags: message.flags,
        };
        batch.rows_mut(values[0].0.commodity()).push(header, &values);
    }
    batch
}

/// From a last gasp to a restoration, as messages that arrive on a day.
fn outage(batch: &mut ReadingBatch, meter: &str, from: Timestamp, to: Timestamp) {
    for (ts, kind) in [(from, EventKind::LastGasp), (to, EventKind::Restoration)] {
        batch.events.push(MeterEvent {
            meter_id: MeterId::new(meter).unwrap(),
            ts,
            kind,
            detail: "".into(),
            received_at_s: ts.unix_seconds(),
            source: "test".into(),
        });
    }
}

/// Data files of the walk's tables by their place below the lake, whether live or not.
async fn live(lake: &TestLake) -> Vec<(PathBuf, Vec<u8>)> {
    let mut live = Vec::new();
    for table in WALKED {
        let snapshot = lake.lake.snapshot(table).await.unwrap();
        for file in snapshot.files {
            let path = PathBuf::from(table).join(&file.path);
            live.push((path.clone(), std::fs::read(lake.lake.root().join(path)).unwrap()));
        }
    }
    live.sort();
    live
}

async fn assert_as_from_nothing(lake: &TestLake, batches: Vec<ReadingBatch>, what: &str) {
    let mut other = TestLake::new(&mixed()).await;
    for batch in batches {
        other.queue(batch);
    }
    other.flush().await;
    other.run(Job::Usage, FROM, TO).await;
    let (ours, from_nothing) = (live(lake).await, live(&other).await);
    let paths = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    if paths(&ours) != paths(&from_nothing) {
        // Which rows, for whoever mends it.
        for table in WALKED {
            let text = format!("SELECT * FROM {table} ORDER BY usage_point_id, channel, start, 4");
            let text = if table == "usage_anchors" { text.replace("start", "month") } else { text };
            let (ours, theirs) = (lake.rows(&text).await, other.rows(&text).await);
            let differ = ours.iter().zip(&theirs).find(|(a, b)| a != b);
            assert!(differ.is_none() && ours.len() == theirs.len(), "{what}, {table}: {differ:#?}");
        }
    }
    assert_eq!(paths(&ours), paths(&from_nothing), "{what}");
    assert!(ours == from_nothing, "{what}: no byte differs");
}

fn seeds() -> u64 {
    // The long form: METERLAKE_INCREMENTAL_SEEDS=200.
    std::env::var("METERLAKE_INCREMENTAL_SEEDS").map_or(2, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_run_after_run_over_late_arrivals_leaves_the_bytes_of_one_run_from_nothing() {
    for seed in 1..=seeds() {
        let dice = &mut Dice(seed);
        let messages = messages(dice);
        let mut lake = TestLake::new(&mixed()).await;
        let mut batches = Vec::new();
        let mut rest = messages.as_slice();
        let mut step = 0;
        while !rest.is_empty() {
            let until = rest[0].arrives + 1 + i64::try_from(dice.below(25)).unwrap();
            let count = rest.iter().take_while(|m| m.arrives < until).count();
            let mut batch = batch(&rest[..count]);
            rest = &rest[count..];
            if step == 3 {
                outage(&mut batch, "e2", at("2026-01-20T08:00:00Z"), at("2026-01-21T17:00:00Z"));
                outage(&mut batch, "e7", at("2026-01-14T08:00:00Z"), at("2026-01-16T17:00:00Z"));
            }
            batches.push(batch.clone());
            lake.commit(batch).await;
            let report = lake.run(Job::Usage, FROM, TO).await;
            assert!(report.rows > 0, "{}", report.summary);
            step += 1;
            if step == 4 || rest.is_empty() {
                assert_as_from_nothing(&lake, batches.clone(), &format!("seed {seed}, step {step}")).await;
            }
        }
        let again = lake.run(Job::Usage, FROM, TO).await;
        assert_eq!((again.partitions_changed, again.rows_read), (0, 0), "{}", again.summary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_months_asked_for_one_by_one_as_they_come_are_the_months_of_one_run() {
    let messages = messages(&mut Dice(77));
    let mut lake = TestLake::new(&mixed()).await;
    let mut batches = Vec::new();
    let months = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01", TO];
    for (n, part) in messages.chunks(messages.len().div_ceil(6)).enumerate() {
        batches.push(batch(part));
        lake.commit(batch(part)).await;
        // Only the month at hand: what a late reading touched before is no longer as it should be, and known to be so.
        lake.run(Job::Usage, months[n], months[n + 1]).await;
    }
    lake.run(Job::Usage, FROM, TO).await;
    assert_as_from_nothing(&lake, batches, "month by month").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_run_that_follows_derives_the_months_before_that_late_readings_touch() {
    let messages = messages(&mut Dice(78));
    let mut lake = TestLake::new(&mixed()).await;
    let mut batches = Vec::new();
    let months = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01", TO];
    let mut followed = 0;
    for (n, part) in messages.chunks(messages.len().div_ceil(6)).enumerate() {
        batches.push(batch(part));
        lake.commit(batch(part)).await;
        let asked = JobOptions { follow: true, ..JobOptions::new(day(months[n]), day(months[n + 1])) };
        let report = run_job(&lake.lake, Job::Usage, &asked).await.unwrap();
        followed += i32::from(report.first_day < day(months[n]).plus_months(-1));
    }
    assert!(followed > 0);
    assert_as_from_nothing(&lake, batches, "followed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_pinned_rerun_gives_the_same_bytes_after_compaction_and_what_came_since_is_not_lost() {
    let messages = messages(&mut Dice(5));
    let (first, second) = messages.split_at(messages.len() / 2);
    let mut lake = TestLake::new(&mixed()).await;
    let pin = lake.commit(batch(first)).await;
    lake.run(Job::Usage, FROM, TO).await;
    let at_pin = live(&lake).await;
    lake.commit(batch(second)).await;
    lake.run(Job::Usage, FROM, TO).await;
    let newest = live(&lake).await;
    assert!(at_pin != newest);

    let closed = CompactOptions { now: Some(at("2027-01-01T00:00:00Z")), ..CompactOptions::default() };
    for commodity in Commodity::ALL {
        lake.lake.compact(readings_name(commodity), &closed).await.unwrap();
    }
    let pinned = JobOptions { commit_seq: Some(pin), ..JobOptions::new(day(FROM), day(TO)) };
    run_job(&lake.lake, Job::Usage, &pinned).await.unwrap();
    assert!(live(&lake).await == at_pin, "as of the pin");
    run_job(&lake.lake, Job::Usage, &pinned).await.unwrap();
    assert!(live(&lake).await == at_pin, "and again");
    lake.run(Job::Usage, FROM, TO).await;
    assert!(live(&lake).await == newest, "and back to the present");
    forget_usage(&lake.lake).await.unwrap();
    lake.run(Job::Usage, "2026-03-01", "2026-04-01").await;
    assert!(live(&lake).await == newest, "a month from nothing is the month that was there");
}

#[tokio::test]
async fn rule_6_a_run_over_what_came_since_does_not_begin_at_the_installation() {
    let mut lake = lake_with_usage().await;
    let all = lake.run(Job::Usage, FROM, "2026-04-01").await;
    assert_eq!(all.rows_read, 0, "nothing is new: {}", all.summary);
    let mut late = ReadingBatch::default();
    push(&mut late, "e2", at("2026-03-20T10:05:00Z"), &[("energy_import_kwh", 1)]);
    lake.commit(late).await;
    let one = lake.run(Job::Usage, FROM, "2026-04-01").await;
    // A quarter of an hour of one meter from the last of January on, of three months.
    assert!((1..6000).contains(&one.rows_read), "{}", one.summary);
    forget_usage(&lake.lake).await.unwrap();
    let from_nothing = lake.run(Job::Usage, FROM, "2026-04-01").await;
    assert!(from_nothing.rows_read > 30_000, "{}", from_nothing.summary);
    assert_eq!(from_nothing.partitions_changed, 0, "{}", from_nothing.summary);
}

#[tokio::test]
async fn points_are_shared_out_to_buckets_as_their_number_grows() {
    let mut lake = TestLake::new(&registry()).await;
    lake.commit(quarter_year()).await;
    lake.run(Job::Usage, FROM, "2026-04-01").await;
    let sums = "SELECT usage_point_id, level, count(*), sum(value) FROM usage_spans GROUP BY 1, 2 ORDER BY 1, 2";
    let before = lake.rows(sums).await;
    let mut many = registry();
    let template = many.usage_points[&UsagePointId::new("E1").unwrap()].clone();
    let installation = many.installations[0].clone();
    for n in 0..16_384 {
        let id = UsagePointId::new(&format!("S{n:05}")).unwrap();
        let mut silent = installation.clone();
        silent.meter_id = MeterId::new(&format!("s{n:05}")).unwrap();
        silent.usage_point_id = id.clone();
        many.installations.push(silent);
        let mut point = template.clone();
        point.id = id.clone();
        many.usage_points.insert(id, point);
    }
    lake.lake.write_registry(&many).await.unwrap();
    lake.run(Job::Usage, FROM, "2026-04-01").await;
    assert_eq!(lake.rows(sums).await, before, "every point is there once");
    let buckets = lake.rows("SELECT DISTINCT bucket FROM usage_spans ORDER BY 1").await;
    assert_eq!(buckets, ["0", "1"]);
    let again = lake.run(Job::Usage, FROM, "2026-04-01").await;
    assert_eq!(again.partitions_changed, 0, "{}", again.summary);
}
