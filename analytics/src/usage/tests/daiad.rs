//! A year of 92 real water meters. The file is found by `METERLAKE_DATA` or beside the checkout.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use meterlake_model::LocalResolution;

use super::*;
use crate::billing::{BillingRules, CycleInput, read_cycle};

fn file() -> Option<PathBuf> {
    let roots = [
        std::env::var_os("METERLAKE_DATA").map(PathBuf::from),
        Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")),
    ];
    roots.into_iter().flatten().map(|root| root.join("daiad-water/readings.csv.gz")).find(|path| path.exists())
}

/// By meter, as the store would hold them: repeats dropped, contradictions as revisions.
fn load() -> Option<BTreeMap<String, Vec<Reading>>> {
    let Some(path) = file() else {
        println!("skipped: daiad-water/readings.csv.gz is absent; set METERLAKE_DATA to the folder that holds it");
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let mut meters: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
    let mut seen: BTreeMap<(String, Timestamp), Vec<Amount>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split(';');
        let (key, time, litres) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let resolved = zone.resolve_local_as(time, "%d/%m/%Y %H:%M:%S").unwrap();
        let flags = match resolved {
            LocalResolution::Ambiguous { .. } => ReadingFlags::AMBIGUOUS_LOCAL_TIME,
            _ => ReadingFlags::NONE,
        };
        let ts = resolved.earlier();
        let litres = meterlake_model::parse_scaled(litres, 0).unwrap();
        let value = Amount::from_scaled(litres, 3).unwrap();
        let values = seen.entry((key.to_owned(), ts)).or_default();
        if values.contains(&value) {
            continue;
        }
        let revision = i32::try_from(values.len()).unwrap();
        values.push(value);
        let row = Reading { ts, received_at_s: 0, revision, value, flags };
        meters.entry(key.to_owned()).or_default().push(row);
    }
    Some(meters)
}

fn case(readings: Vec<Reading>) -> Case {
    Case::water().meter(&[]).readings(readings)
}

#[test]
fn a_year_of_real_meters_is_never_negative_and_closes_to_the_litre() {
    let Some(meters) = load() else { return };
    assert_eq!(meters.len(), 92);
    assert_eq!(meters.values().map(Vec::len).sum::<usize>(), 673_949);
    for (key, readings) in &meters {
        let usage = case(readings.clone()).run();
        check_closure(&usage);
        let days = level(&usage, Level::Day);
        let (first, last) = (days[0], days[days.len() - 1]);
        let register = |boundary: Option<super::super::Boundary>| boundary.unwrap().register;
        let difference = register(last.end_register).checked_sub(register(first.start_register)).unwrap();
        assert_eq!(total(&usage), difference, "{key}");
        assert!(days.iter().all(|day| day.value.is_some()), "{key}: no day is unknown");
        let held: Vec<_> = usage.findings.iter().filter(|f| f.severity == super::super::Severity::Stop).collect();
        assert!(held.is_empty(), "{key}: {held:?}");
        for pair in days.windows(2) {
            assert_eq!(pair[0].end, pair[1].start, "{key}: days follow each other");
            assert_eq!(pair[0].end_register, pair[1].start_register, "{key}");
        }
        if key.starts_with("9348c9bb") {
            assert_eq!(total(&usage), amount("81.416"));
            let foreign = usage.findings.iter().filter(|f| f.rule == Rule::V13).count();
            assert_eq!(foreign, 4, "four reads of another meter");
        }
        let hours = |day: &str| {
            let (start, end) = (at(day), at(day).plus_seconds(26 * 3600));
            let zone = Zone::parse("Europe/Madrid").unwrap();
            let day = zone.day_of(start);
            level(&usage, Level::Slot)
                .iter()
                .filter(|slot| slot.start >= start && slot.start < end && zone.day_of(slot.start) == day)
                .count()
        };
        if days[0].start < at("2016-03-27") && days[days.len() - 1].end > at("2016-11-01") {
            assert_eq!(hours("2016-03-27"), 23, "{key}");
            assert_eq!(hours("2016-10-30"), 25, "{key}");
        }
    }
}

#[test]
fn a_month_by_itself_equals_the_month_of_the_year() {
    let Some(meters) = load() else { return };
    for readings in meters.values().take(12) {
        let year = case(readings.clone()).run();
        let mut month = case(readings.clone());
        (month.from, month.to) = (at("2016-08-01"), at("2016-09-01"));
        let month = month.run();
        let of_year: Vec<_> =
            year.spans.iter().filter(|s| s.start >= at("2016-08-01") && s.start < at("2016-09-01")).cloned().collect();
        assert_eq!(month.spans, of_year);
    }
}

#[test]
fn monthly_reads_are_never_negative_and_add_up_to_the_register() {
    let Some(meters) = load() else { return };
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, readings) in &meters {
        let case = case(readings.clone());
        let usage = case.run();
        let meter = Installation { channels: vec![case.meters[0].1.clone()], ..case.meters[0].0.clone() };
        let mut sum = Amount::ZERO;
        let mut last_read = None;
        for month in 0..12 {
            let start_day = CivilDay::parse("2016-03-01").unwrap().plus_months(month);
            let input = CycleInput {
                zone: &case.point.zone,
                channel: case.channel,
                start_day,
                end_day: start_day.plus_months(1),
                installations: &[&meter],
                spans: &usage.spans,
                findings: &usage.findings,
            };
            let read = read_cycle(&input, &BillingRules::default());
            let Some(used) = read.use_amount else { continue };
            assert!(used >= Amount::ZERO, "{key} {start_day}");
            assert!(
                last_read.is_none_or(|last| Some(last) == read.start_read),
                "{key} {start_day}: cycles follow each other"
            );
            last_read = read.end_read;
            sum = sum.checked_add(used).unwrap();
            for reason in read.reasons.iter().filter(|reason| reason.holds) {
                *held.entry(reason.code).or_default() += 1;
                assert_eq!(reason.code, "estimated", "{key} {start_day}: {reason:?}");
                assert!(!key.starts_with("4296fd72") && !key.starts_with("219ffd09"), "low by a litre is no reason");
            }
        }
        let order = |a: &&Reading, b: &&Reading| (a.ts, a.value).cmp(&(b.ts, b.value));
        let first = readings.iter().min_by(order).unwrap().value;
        // No register of the set ends on a fall or on another meter's read.
        let last = readings.iter().max_by(order).unwrap().value;
        let top = readings
            .iter()
            .map(|r| r.value)
            .filter(|v| *v <= last.checked_add(amount("0.020")).unwrap())
            .max()
            .unwrap();
        assert_eq!(Some(sum), top.checked_sub(first), "{key}");
    }
    println!("held: {held:?} of {} reads", meters.len() * 12);
}

#[test]
fn the_real_meters_leave_a_readable_trace() {
    let Some(meters) = load() else { return };
    let mut by_rule: BTreeMap<Rule, usize> = BTreeMap::new();
    let mut by_quality: BTreeMap<(Level, Quality), usize> = BTreeMap::new();
    let mut foreign = Vec::new();
    for (key, readings) in &meters {
        let usage = case(readings.clone()).run();
        for finding in &usage.findings {
            *by_rule.entry(finding.rule).or_default() += 1;
            if finding.rule != Rule::V09 {
                foreign.push(format!("{} {} {}", &key[..8], finding.rule, finding.evidence));
            }
        }
        for span in &usage.spans {
            *by_quality.entry((span.level, span.quality)).or_default() += 1;
        }
    }
    println!("{by_rule:?}\n{by_quality:?}\n{}", foreign.join("\n"));
    assert!(!by_rule.contains_key(&Rule::V11), "no fall of the set is a break");
    assert!(!by_rule.contains_key(&Rule::V05), "the eight contradictions lie in the two hours of one");
}
