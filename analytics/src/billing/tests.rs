//! Cycles from readings to the read.

use meterlake_model::ReadingFlags;

use super::*;
use crate::usage::tests::{Case, amount, at, hourly, reading};
use crate::usage::{Reading, Rule, Severity};

fn bill(case: &Case, from: &str, to: &str) -> BillingRead {
    bill_as(case, from, to, |finding| finding.severity)
}

/// As [`bill`], where the settings give findings another weight.
fn bill_as(case: &Case, from: &str, to: &str, severity: impl Fn(&Finding) -> Severity) -> BillingRead {
    let mut usage = case.run();
    for finding in &mut usage.findings {
        finding.severity = severity(finding);
    }
    let installations: Vec<Installation> = case
        .meters
        .iter()
        .map(|(installation, channel, _)| Installation { channels: vec![channel.clone()], ..installation.clone() })
        .collect();
    let installations: Vec<&Installation> = installations.iter().collect();
    let input = CycleInput {
        zone: &case.point.zone,
        channel: case.channel,
        start_day: CivilDay::parse(from).unwrap(),
        end_day: CivilDay::parse(to).unwrap(),
        installations: &installations,
        spans: &usage.spans,
        findings: &usage.findings,
    };
    read_cycle(&input, &BillingRules::default())
}

fn holds(read: &BillingRead) -> Vec<&'static str> {
    read.reasons.iter().filter(|reason| reason.holds).map(|reason| reason.code).collect()
}

/// Readings at each midnight from a day on.
fn midnights(from: &str, registers: impl IntoIterator<Item = i64>) -> Vec<crate::usage::Reading> {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let mut day = CivilDay::parse(from).unwrap();
    let mut out = Vec::new();
    for register in registers {
        out.push(reading(zone.start_of_day(day), &register.to_string(), 0));
        day = day.plus_days(1);
    }
    out
}

fn exchange() -> Case {
    Case::electricity()
        .meter(&[("2026-03-01", "1000")])
        .readings(midnights("2026-03-02", (1..14).map(|d| 1000 + d * 17)))
        .with(|i, c| {
            i.removed_at = Some(at("2026-03-15 10:00"));
            c.interval_s = 86_400;
            c.end_register = Some(amount("1250"));
        })
        .meter(&[])
        .readings(midnights("2026-03-16", (0..16).map(|d| 10 + d * 12)))
        .readings([reading(at("2026-04-01"), "203", 9)])
        .with(|i, c| {
            i.installed_at = Some(at("2026-03-15 10:00"));
            c.interval_s = 86_400;
            c.start_register = Some(amount("3"));
        })
}

#[test]
fn b01_an_exchange_adds_both_meters_in_one_read() {
    let read = bill(&exchange(), "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("450")));
    let parts: Vec<_> = read.parts.iter().map(|part| part.use_amount).collect();
    assert_eq!(parts, [amount("250"), amount("200")]);
    assert_eq!(
        (read.start_read.unwrap().register, read.end_read.unwrap().register),
        (Some(amount("1000")), Some(amount("203")))
    );
    assert_eq!(
        (read.state, read.days_covered, read.estimated),
        (ReadState::Ready, 31, Amount::ZERO),
        "{:?}",
        read.reasons
    );
}

#[test]
fn b02_each_meter_has_its_own_multiplier() {
    let mut case = exchange();
    case.meters[0].2 = vec![reading(at("2026-03-01"), "5000", 0), reading(at("2026-03-15 09:00"), "5059", 0)];
    case.meters[0].1.end_register = Some(amount("5060"));
    case.meters[0].1.multiplier_micros = 20_000_000;
    case.meters[1].2 = vec![reading(at("2026-04-01"), "30", 0)];
    case.meters[1].1.start_register = Some(amount("2"));
    case.meters[1].1.multiplier_micros = 40_000_000;
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("2320")));
    assert_eq!(read.parts.iter().map(|part| part.use_amount).collect::<Vec<_>>(), [amount("1200"), amount("1120")]);
    assert_eq!(read.state, ReadState::Ready, "{:?}", read.reasons);
    assert_eq!(read.start_read.unwrap().register, Some(amount("5000")), "registers are never multiplied");
}

#[test]
fn b03_a_missing_removal_read_is_estimated() {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let removed = zone.start_of_day(CivilDay::parse("2026-03-14").unwrap()).plus_seconds(34 * 3600);
    let mut case = exchange();
    case.meters[0].1.end_register = None;
    case.meters[0].0.removed_at = Some(removed);
    case.meters[1].0.installed_at = Some(removed);
    case.meters[0].2 = midnights("2026-03-01", (0..14).map(|d| 928 + 24 * d));
    let read = bill(&case, "2026-03-01", "2026-04-01");
    let old = &read.parts[0];
    assert_eq!((old.end.register, old.end.quality), (Some(amount("1274")), Quality::Estimated));
    assert_eq!((read.use_amount, read.estimated), (Some(amount("546")), amount("34")));

    // As the case has it: 240 known, 34 estimated, 200 of the new meter.
    case.meters[0].2 = vec![reading(at("2026-03-04"), "1000", 0), reading(at("2026-03-14"), "1240", 0)];
    case.meters[0].0.installed_at = Some(at("2026-03-04"));
    let read = bill(&case, "2026-03-04", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("474")));
    assert_eq!(read.estimated, amount("34"));
    assert_eq!(read.estimated_share_ppm, 71_730, "7.17 %");
    assert_eq!(holds(&read), ["estimated"]);
}

#[test]
fn b04_a_changed_ratio_is_a_new_installation_of_the_same_meter() {
    let mut case = Case::electricity()
        .meter(&[("2026-03-01", "100"), ("2026-03-10", "110")])
        .with(|i, c| {
            i.removed_at = Some(at("2026-03-10"));
            c.multiplier_micros = 20_000_000;
        })
        .meter(&[("2026-03-10", "110"), ("2026-04-01", "118")])
        .with(|i, c| {
            i.meter_id = MeterId::new("meter-1").unwrap();
            i.installed_at = Some(at("2026-03-10"));
            c.multiplier_micros = 30_000_000;
        });
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("440")));
    assert_eq!(read.state, ReadState::Ready, "{:?}", read.reasons);

    // Without a reading at the very moment the register is straight between the near ones.
    case.meters[0].2[1] = reading(at("2026-03-09 20:00"), "109", 1);
    case.meters[1].2[0] = reading(at("2026-03-10 04:00"), "111", 0);
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("440")));
    assert_eq!(read.parts[1].start.quality, Quality::Derived);
}

#[test]
fn b06_a_removal_without_a_successor_is_held() {
    let mut case = exchange();
    case.meters.truncate(1);
    case.meters[0].0.removed_at = Some(at("2026-03-20"));
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("250")));
    assert_eq!((read.days_covered, read.days), (19, 31));
    assert_eq!(holds(&read), ["no_meter"]);
}

#[test]
fn c07_midnight_between_near_readings_is_derived_and_no_estimate() {
    let case = Case::electricity().meter(&[
        ("2026-03-31 23:40", "1000"),
        ("2026-04-01 00:20", "1001"),
        ("2026-04-30 23:50", "1100"),
        ("2026-05-01 00:10", "1101"),
    ]);
    let read = bill(&case, "2026-04-01", "2026-05-01");
    let start = read.start_read.unwrap();
    assert_eq!((start.register, start.quality), (Some(amount("1000.5")), Quality::Derived));
    assert_eq!(read.use_amount, Some(amount("100")));
    assert_eq!((read.estimated, read.estimated_share_ppm), (Amount::ZERO, 0), "the gap inside is between two reads");
    assert_eq!(read.state, ReadState::Ready, "{:?}", read.reasons);
}

#[test]
fn c08_a_boundary_in_a_long_gap_is_estimated_and_both_cycles_close() {
    let case = Case::electricity().meter(&[("2026-04-30 06:00", "1000"), ("2026-05-02 18:00", "1060")]);
    let (april, may) = (bill(&case, "2026-04-01", "2026-05-01"), bill(&case, "2026-05-01", "2026-06-01"));
    assert_eq!(april.end_read.unwrap().quality, Quality::EstimatedScaled);
    assert_eq!(april.end_read, may.start_read);
    let sum = april.use_amount.unwrap().checked_add(may.use_amount.unwrap());
    assert_eq!(sum, Some(amount("60")));
    assert_eq!(april.estimated, april.use_amount.unwrap());
    assert_eq!(holds(&april), ["estimated"]);
}

#[test]
fn b03_a_reading_between_two_gaps_ends_what_is_estimated() {
    // Midnights of 29 and 30 April and of 1 and 2 May lie in gaps, but the register of 30 April noon is known.
    let case = Case::electricity().meter(&[
        ("2026-04-28 06:00", "1000"),
        ("2026-04-30 12:00", "1054"),
        ("2026-05-02 12:00", "1102"),
        ("2026-05-30 12:00", "1900"),
    ]);
    let april = bill(&case, "2026-04-01", "2026-05-01");
    assert_eq!((april.use_amount, april.estimated), (Some(amount("66")), amount("12")));
    let may = bill(&case, "2026-05-01", "2026-06-01");
    assert_eq!((may.use_amount, may.estimated), (Some(amount("834")), amount("36")));
    assert_eq!(may.state, ReadState::Ready, "36 of 834: {:?}", may.reasons);

    // A cycle between two estimates, with a reading and without one.
    let between = bill(&case, "2026-04-30", "2026-05-01");
    assert_eq!(between.use_amount, Some(between.estimated), "12 h before noon and 12 h behind it");
    let inside = bill(&case, "2026-05-01", "2026-05-02");
    assert_eq!((inside.use_amount, inside.estimated), (Some(amount("24")), amount("24")));
}

#[test]
fn a_fall_nobody_explains_is_held_and_nothing_is_negative() {
    let case = Case::electricity()
        .meter(&[("2026-03-01", "61000"), ("2026-03-20", "62000"), ("2026-03-21", "100")])
        .with(|_, c| c.digits = Some(5));
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.use_amount, Some(amount("1000")));
    assert_eq!(holds(&read), ["backward"]);
}

#[test]
fn whatever_the_settings_make_a_stop_holds_by_its_name() {
    let mark = |row| Reading { flags: ReadingFlags::TEST_MODE, ..row };
    let case = Case::electricity()
        .meter(&[("2026-03-01", "100000"), ("2026-03-01", "61000"), ("2026-03-20 12:00", "5"), ("2026-04-01", "62000")])
        .readings([mark(reading(at("2026-03-25"), "61700", 0))])
        .with(|_, c| c.digits = Some(5));
    assert_eq!(holds(&bill(&case, "2026-03-01", "2026-04-01")), [""; 0]);
    for (rule, name) in [(Rule::V07, "device_flag"), (Rule::V09, "gap"), (Rule::V13, "foreign"), (Rule::V15, "digits")]
    {
        let severity = |finding: &Finding| if finding.rule == rule { Severity::Stop } else { finding.severity };
        let read = bill_as(&case, "2026-03-01", "2026-04-01", severity);
        assert_eq!((read.use_amount, holds(&read)), (Some(amount("1000")), vec![name]));
    }
}

#[test]
fn a_meter_that_falls_silent_is_missing_and_one_without_dates_is_clipped() {
    let mut case = Case::water().meter(&[]).readings(hourly(at("2026-03-01"), "10", &["0.1"; 48]));
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!((read.use_amount, read.state), (Some(amount("4.8")), ReadState::Ready));
    assert_eq!(read.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["clipped"]);
    assert_eq!(read.days_covered, 2);

    case.meters[0].0.installed_at = Some(at("2026-02-01"));
    case.meters[0].1.start_register = Some(amount("9"));
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(holds(&read), ["missing"]);
    let read = bill(&case, "2026-02-01", "2026-03-01");
    assert_eq!((read.use_amount, read.state), (Some(amount("1")), ReadState::Ready), "{:?}", read.reasons);
}

#[test]
fn a_cycle_before_the_first_meter_has_nothing_to_bill() {
    let read = bill(&exchange(), "2026-01-01", "2026-02-01");
    assert_eq!((read.use_amount, read.state), (None, ReadState::Held));
    let mut case = exchange();
    case.meters.remove(0);
    let read = bill(&case, "2026-03-01", "2026-04-01");
    assert_eq!(read.state, ReadState::Ready, "a new connection is billed from its first day: {:?}", read.reasons);
    assert_eq!(read.use_amount, Some(amount("200")));
}
