//! Completeness over a lake: what is expected, what is not there, and why.

use std::sync::Arc;

use meterlake_analytics::completeness::{GroupBy, Question, days_told, last_day_figures, listing, summary};
use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_model::registry::Registry;
use meterlake_model::{
    Channel, Commodity, DeadLetter, DeadReason, GatewayId, MeterId, RawMessage, ReadingBatch, ReadingFlags, RowHeader,
    Timestamp,
};

use crate::fixture::{HOUR_S, QUARTER_S, TestLake, at, channel, day, registry, zone};

const FROM: &str = "2026-03-28";
const TO: &str = "2026-03-31";

/// As the fixture's, with gateway G-1 in front of the electricity meters, and W2 without a stated interval.
fn with_gateway() -> Registry {
    let mut registry = registry();
    for meter in registry.meters.values_mut().filter(|m| m.commodity == Commodity::Electricity) {
        meter.gateway_id = GatewayId::new("G-1").ok();
    }
    for installation in registry.installations.iter_mut().filter(|i| i.meter_id.as_str() == "w2") {
        installation.channels[0].interval_assumed = true;
    }
    registry
}

/// Readings from the first to the last instant of the days, as often as `every_s`, of which `change` makes something
/// else or nothing.
fn speak(
    batch: &mut ReadingBatch,
    (meter, name, source): (&str, &str, &str),
    every_s: i64,
    change: impl Fn(RowHeader) -> Option<RowHeader>,
) {
    let (mut ts, end) = (zone().start_of_day(day(FROM)), zone().start_of_day(day(TO)));
    let mut register = 1_000_000;
    while ts < end {
        let header = RowHeader {
            meter_id: MeterId::new(meter).unwrap(),
            ts,
            received_at_s: ts.unix_seconds() + 5,
            source: source.into(),
            profile: "test@1".into(),
            flags: ReadingFlags::NONE,
        };
        let channel: Channel = channel(name);
        if let Some(header) = change(header) {
            batch.rows_mut(channel.commodity()).push(header, &[(channel, register)]);
        }
        register += 10;
        ts = ts.plus_seconds(every_s);
    }
}

fn within(ts: Timestamp, from: &str, to: &str) -> bool {
    at(from) <= ts && ts < at(to)
}

/// 28 to 30 March, the 29th one hour short: e1 to e4 through G-1 and the broker `yard`, of which the gateway is silent for
/// two hours; e1 late once, e2 with a clock that runs ahead, e4 sends for an hour what cannot be read; w1 and w2 by line.
fn three_days() -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let energy = "energy_import_kwh";
    let silent = |ts| within(ts, "2026-03-29T10:00:00Z", "2026-03-29T12:00:00Z");
    for meter in ["e1", "e2", "e3", "e4"] {
        speak(&mut batch, (meter, energy, "yard"), QUARTER_S, |header| {
            let ts = header.ts;
            if silent(ts) || (meter == "e4" && within(ts, "2026-03-28T06:00:00Z", "2026-03-28T07:00:00Z")) {
                return None;
            }
            let late = meter == "e1" && ts == at("2026-03-30T08:00:00Z");
            let ahead = if meter == "e2" { 200 } else { 0 };
            let received_at_s = header.received_at_s + if late { 2 * HOUR_S } else { 0 };
            Some(RowHeader { ts: ts.plus_seconds(ahead), received_at_s, ..header })
        });
    }
    let lost =
        |header: RowHeader| (!within(header.ts, "2026-03-30T09:00:00Z", "2026-03-30T10:00:00Z")).then_some(header);
    speak(&mut batch, ("w1", "volume_m3", "modbus/cellar"), HOUR_S, lost);
    speak(&mut batch, ("w2", "volume_m3", "modbus/cellar"), 2 * HOUR_S, Some);
    for quarter in 0..4 {
        let received_at_s = at("2026-03-28T06:00:03Z").unix_seconds() + quarter * QUARTER_S;
        let topic: Arc<str> = "meters/e4/readings".into();
        batch.dead_letters.push(DeadLetter {
            reason: DeadReason::Syntax,
            detail: "no JSON".to_owned(),
            message: RawMessage { source: "yard".into(), topic, payload: b"{".to_vec(), received_at_s },
            decoder: "test@1".into(),
        });
    }
    batch
}

async fn lake() -> TestLake {
    let mut lake = TestLake::new(&with_gateway()).await;
    let mut batch = three_days();
    // A day later, so that all three are over.
    let after = zone().start_of_day(day(TO)).plus_seconds(2 * HOUR_S);
    crate::fixture::push(&mut batch, "e1", after, &[("energy_import_kwh", 9_000_000)]);
    lake.commit(batch).await;
    lake
}

#[tokio::test]
async fn expected_and_received_by_meter_and_day_with_the_cause_of_what_is_missing() {
    let lake = lake().await;
    lake.run(Job::Completeness, FROM, TO).await;
    let rows = lake
        .rows(
            "SELECT day, meter_id, expected, received, late, longest_gap_s, clock_offset_s, interval_from, interval_s,
                    closed, reason, reason_subject, explained
             FROM completeness WHERE day >= DATE '2026-03-28' AND day < DATE '2026-03-31' ORDER BY day, meter_id",
        )
        .await;
    assert_eq!(
        rows,
        [
            "2026-03-28,e1,96,96,0,900,-5,registry,900,true,,,0",
            // Without a date of installation it begins with its first reading, 200 s after midnight.
            "2026-03-28,e2,95,95,0,900,195,registry,900,true,,,0",
            "2026-03-28,e3,96,96,0,900,-5,registry,900,true,,,0",
            "2026-03-28,e4,96,92,0,4500,-5,registry,900,true,decode,syntax,4",
            "2026-03-28,w1,24,24,0,3600,-5,registry,3600,true,,,0",
            "2026-03-28,w2,12,12,0,7200,-5,estimated,7200,true,,,0",
            "2026-03-29,e1,92,84,0,8100,-5,registry,900,true,gateway,G-1,8",
            "2026-03-29,e2,92,84,0,8100,195,registry,900,true,gateway,G-1,8",
            "2026-03-29,e3,92,84,0,8100,-5,registry,900,true,gateway,G-1,8",
            "2026-03-29,e4,92,84,0,8100,-5,registry,900,true,gateway,G-1,8",
            "2026-03-29,w1,23,23,0,3600,-5,registry,3600,true,,,0",
            "2026-03-29,w2,12,12,0,7200,-5,estimated,7200,true,,,0",
            "2026-03-30,e1,96,96,1,900,-5,registry,900,true,,,0",
            "2026-03-30,e2,96,96,0,900,195,registry,900,true,,,0",
            "2026-03-30,e3,96,96,0,900,-5,registry,900,true,,,0",
            "2026-03-30,e4,96,96,0,900,-5,registry,900,true,,,0",
            "2026-03-30,w1,24,23,0,7200,-5,registry,3600,true,meter,w1,1",
            "2026-03-30,w2,12,12,0,7200,-5,estimated,7200,true,,,0",
        ]
    );
    let none_after_removal = lake.rows("SELECT count(*) FROM completeness WHERE meter_id = 'z4'").await;
    assert_eq!(none_after_removal, ["0"], "z4 was removed in February");
}

#[tokio::test]
async fn sums_listings_and_the_figures_of_the_last_whole_day() {
    let lake = lake().await;
    let whole = Question { from: day(FROM), to: day(TO), meter: None, missing_only: false };
    assert!(summary(&lake.lake, &whole).await.is_err(), "nothing is derived yet");
    lake.run(Job::Completeness, FROM, TO).await;
    assert_eq!(days_told(&lake.lake).await.unwrap(), Some(day("2026-03-30")));

    let told = summary(&lake.lake, &whole).await.unwrap();
    let [electricity, water] = &told.tallies[..] else { panic!("{told:?}") };
    assert_eq!((electricity.expected, electricity.received), (4 * 284 - 1, 4 * 284 - 1 - 36));
    assert_eq!((electricity.meters, electricity.late_meters, electricity.silent_meters), (4, 1, 0));
    assert_eq!((water.expected, water.received), (71 + 36, 71 + 36 - 1));
    let cause = |reason: &str, subject: &str, missing| (reason.to_owned(), Some(subject.to_owned()), missing);
    assert_eq!(told.causes, [cause("gateway", "G-1", 32), cause("decode", "syntax", 4), cause("meter", "w1", 1)]);

    for (by, missing_only, rows) in [
        (GroupBy::Meter, false, 18),
        (GroupBy::Meter, true, 6),
        (GroupBy::Day, false, 3),
        (GroupBy::Line, false, 2),
        (GroupBy::Gateway, false, 2),
        (GroupBy::Reason, false, 3),
    ] {
        let question = Question { missing_only, ..whole.clone() };
        let found: usize = listing(&lake.lake, &question, by).await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(found, rows, "{by:?}");
    }
    let one = Question { meter: Some("e4".to_owned()), ..whole };
    let batches = listing(&lake.lake, &one, GroupBy::Meter).await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 3);

    let figures = last_day_figures(&lake.lake).await.unwrap().unwrap();
    assert_eq!(figures.day, day("2026-03-30"));
    assert_eq!(figures.tallies.iter().map(|t| t.expected - t.received).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(figures.causes, [("water".to_owned(), "meter".to_owned(), 1)]);
}

#[tokio::test]
async fn a_silent_meter_is_told_and_a_day_that_is_not_over_is_not() {
    let mut lake = TestLake::new(&with_gateway()).await;
    let batch = three_days();
    let noon = at("2026-03-30T12:00:00Z");
    let mut some = ReadingBatch::default();
    for commodity in Commodity::ALL {
        let rows = batch.rows(commodity);
        for (index, header) in rows.headers().iter().enumerate() {
            if header.ts < noon && header.meter_id.as_str() != "e3" {
                some.rows_mut(commodity).push(header.clone(), &rows.values(index).collect::<Vec<_>>());
            }
        }
    }
    lake.commit(some).await;
    lake.run(Job::Completeness, FROM, TO).await;
    assert_eq!(days_told(&lake.lake).await.unwrap(), Some(day("2026-03-29")));
    let rows = lake
        .rows(
            "SELECT day, meter_id, expected, received, closed, source, reason FROM completeness
             WHERE meter_id IN ('e1', 'e3') AND day >= DATE '2026-03-28' ORDER BY day, meter_id",
        )
        .await;
    // From 22:00 to 11:45 are 56 quarters, of which the last four of e3 may still come.
    assert_eq!(
        rows,
        [
            "2026-03-28,e1,96,96,true,yard,",
            "2026-03-28,e3,96,0,true,yard,meter",
            "2026-03-29,e1,92,84,true,yard,gateway",
            "2026-03-29,e3,92,0,true,yard,meter",
            "2026-03-30,e1,56,56,false,yard,",
            "2026-03-30,e3,52,0,false,yard,meter",
        ]
    );
}

#[tokio::test]
async fn rule_6_completeness_of_a_pin_has_the_same_bytes_whatever_came_since() {
    let mut lake = TestLake::new(&with_gateway()).await;
    let first = lake.commit(three_days()).await;
    let pinned = JobOptions { commit_seq: Some(first), ..JobOptions::new(day(FROM), day(TO)) };
    run_job(&lake.lake, Job::Completeness, &pinned).await.unwrap();
    let before = lake.files(&["completeness"]);
    let mut late = ReadingBatch::default();
    let ts = at("2026-03-30T09:00:00Z");
    crate::fixture::push(&mut late, "w1", ts, &[("volume_m3", 5_000_000)]);
    lake.commit(late).await;
    let again = run_job(&lake.lake, Job::Completeness, &pinned).await.unwrap();
    assert_eq!(again.partitions_changed, 0, "{}", again.summary);
    assert!(before == lake.files(&["completeness"]), "no byte changed");
    let free = lake.run(Job::Completeness, FROM, TO).await;
    assert_eq!((free.partitions, free.partitions_changed), (1, 1), "{}", free.summary);
    let missing = lake.rows("SELECT count(*) FROM completeness WHERE meter_id = 'w1' AND missing > 0").await;
    assert_eq!(missing, ["0"], "the late reading came");
}
