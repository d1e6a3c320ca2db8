//! The cases of validation and estimation, under their ids.

use super::super::Severity;
use super::*;
use meterlake_model::Method;

pub(super) fn values(usage: &PointUsage) -> Vec<String> {
    level(usage, Level::Slot).iter().map(|s| s.value.map_or("-".into(), |v| v.to_string())).collect()
}

pub(super) fn amounts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| amount(t).to_string()).collect()
}

fn five_digits(case: Case) -> Case {
    case.with(|_, c| c.digits = Some(5))
}

#[test]
fn a01_use_is_the_difference_of_two_reads() {
    let usage = Case::electricity().meter(&[("2026-03-01", "12345.678"), ("2026-03-02", "12400.000")]).run();
    assert_eq!(total(&usage), amount("54.322"));
    let day = level(&usage, Level::Day)[0];
    assert_eq!((day.quality, day.method, day.estimated), (Quality::Valid, None, Amount::ZERO));
    check_closure(&usage);
}

#[test]
fn a02_a_plausible_wrap_is_accepted() {
    let usage = five_digits(Case::electricity().meter(&[("2026-03-01", "99950"), ("2026-03-02", "30")]))
        .with(|_, c| c.capacity_per_hour = Some(amount("41.4")))
        .run();
    assert_eq!(total(&usage), amount("80"));
    let wrap = told(&usage)[0];
    assert_eq!((wrap.rule, wrap.severity), (Rule::V12, Severity::Information));
    assert_eq!(wrap.limit, Some(amount("1092.96")), "993.6 in a day, and a tenth more");
    let day = level(&usage, Level::Day)[0];
    assert_eq!(day.end_register.unwrap().register, amount("30"), "as the meter shows it");
}

#[test]
fn a03_a_fall_without_a_wrap_has_no_use_and_stops_the_bill() {
    let usage = five_digits(Case::electricity().meter(&[("2026-03-01", "62000"), ("2026-03-02", "100")])).run();
    assert_eq!(total(&usage), Amount::ZERO);
    let found = told(&usage);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule, found[0].severity), (Rule::V11, Severity::Stop));
    assert_eq!((found[0].start, found[0].end), (at("2026-03-01"), at("2026-03-02")));
    assert!(level(&usage, Level::Day).iter().all(|day| day.value.is_none()));
}

#[test]
fn a04_a_wrap_above_what_can_flow_is_none() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01", "9900"), ("2026-03-02", "5000")])
        .with(|_, c| {
            c.digits = Some(4);
            c.capacity_per_hour = Amount::from_micros(110_000_000 * 100 / 110 / 24);
        })
        .run();
    assert_eq!(told(&usage)[0].rule, Rule::V11);
    assert_eq!(total(&usage), Amount::ZERO);
}

#[test]
fn a05_a_wrapped_register_is_multiplied_like_any_other() {
    let usage = five_digits(Case::electricity().meter(&[("2026-03-01", "99990"), ("2026-03-02", "15")]))
        .with(|_, c| c.multiplier_micros = 40_000_000)
        .run();
    assert_eq!(total(&usage), amount("1000"));
}

#[test]
fn a06_decimals_do_not_count_as_digits() {
    let usage = five_digits(Case::electricity().meter(&[("2026-03-01", "99998.7"), ("2026-03-02", "0.4")]))
        .with(|_, c| c.resolution = amount("0.1"))
        .run();
    assert_eq!(total(&usage), amount("1.7"));
}

#[test]
fn a07_a_wrap_like_the_average_is_only_suspected() {
    let usage = five_digits(Case::electricity().meter(&[
        ("2022-02-01", "84300"),
        ("2022-03-01", "85000"),
        ("2024-02-29", "3000"),
    ]))
    .run();
    let found = told(&usage);
    assert_eq!((found[0].rule, found[0].severity), (Rule::V12, Severity::Stop));
    assert_eq!(total(&usage), amount("700"), "the step itself is not used unasked");
}

#[test]
fn a08_a_litre_of_jitter_is_dropped() {
    let usage = Case::water()
        .meter(&[
            ("2026-03-01 00:00", "105.000"),
            ("2026-03-01 01:00", "105.120"),
            ("2026-03-01 02:00", "105.119"),
            ("2026-03-01 03:00", "105.240"),
        ])
        .run();
    assert_eq!(values(&usage), amounts(&["0.120", "0.060", "0.060"]));
    assert_eq!(total(&usage), amount("0.240"));
    assert_eq!(usage.counts.jitter, 1);
    assert!(usage.findings.is_empty());
}

#[test]
fn a09_a_neighbours_reads_are_dropped_and_never_billed() {
    let reads = [
        ("2026-03-01 00:00", "207.774"),
        ("2026-03-01 00:58", "456.017"),
        ("2026-03-01 01:00", "207.814"),
        ("2026-03-01 01:58", "456.031"),
        ("2026-03-01 02:00", "207.850"),
    ];
    let usage = Case::water().meter(&reads).run();
    assert_eq!(rules(&usage), [Rule::V13, Rule::V13]);
    assert_eq!(total(&usage), amount("0.076"));
    assert_eq!(values(&usage), amounts(&["0.040", "0.036"]));

    // The same with a capacity on file.
    let usage = Case::water().meter(&reads).with(|_, c| c.capacity_per_hour = Some(amount("3.125"))).run();
    assert_eq!(rules(&usage), [Rule::V13, Rule::V13]);
    assert_eq!(total(&usage), amount("0.076"));
}

#[test]
fn a10_a_flipped_bit_is_dropped() {
    let usage = Case::water()
        .meter(&[("2026-03-01 00:00", "20.500"), ("2026-03-01 01:00", "8.212"), ("2026-03-01 02:00", "20.513")])
        .run();
    assert_eq!(total(&usage), amount("0.013"));
    assert_eq!(rules(&usage), [Rule::V13]);

    // Upwards.
    let usage = Case::water()
        .meter(&[("2026-03-01 00:00", "20.500"), ("2026-03-01 01:00", "32.788"), ("2026-03-01 02:00", "20.513")])
        .run();
    assert_eq!(total(&usage), amount("0.013"));
    assert_eq!(rules(&usage), [Rule::V13]);
}

#[test]
fn a11_a_reset_is_suspected_and_the_step_stays_unknown() {
    let usage = Case::water()
        .meter(&[
            ("2026-03-01 00:00", "0.195"),
            ("2026-03-01 02:00", "0"),
            ("2026-03-01 04:00", "0.003"),
            ("2026-03-01 06:00", "0.007"),
            ("2026-03-01 08:00", "0.009"),
        ])
        .run();
    assert_eq!(total(&usage), amount("0.009"));
    let found = told(&usage);
    assert_eq!((found.len(), found[0].rule, found[0].severity), (1, Rule::V11, Severity::Stop));
    let unknown: Vec<_> = level(&usage, Level::Day).into_iter().filter(|day| day.value.is_none()).collect();
    assert_eq!((unknown.len(), unknown[0].start, unknown[0].end), (1, at("2026-03-01 00:00"), at("2026-03-01 02:00")));
}

#[test]
fn a12_of_two_values_of_one_time_the_one_in_order_wins() {
    let case = Case::electricity().meter(&[
        ("2026-03-01 00:00", "495"),
        ("2026-03-01 01:00", "500"),
        ("2026-03-01 01:00", "512"),
        ("2026-03-01 02:00", "506"),
    ]);
    let usage = case.run();
    assert_eq!(values(&usage), amounts(&["5", "6"]));
    assert_eq!(rules(&usage), [Rule::V05]);
}

#[test]
fn a12_a_value_above_its_successor_by_less_than_jitter_breaks_the_order_too() {
    let case = Case::electricity().meter(&[
        ("2026-03-01 00:00", "495"),
        ("2026-03-01 01:00", "500"),
        ("2026-03-01 01:00", "500.007"),
        ("2026-03-01 02:00", "500"),
        ("2026-03-01 03:00", "506"),
    ]);
    assert_eq!(values(&case.run()), amounts(&["5", "0", "6"]), "received later, but the register stood at 500");
}

#[test]
fn a12_a_value_is_held_against_the_next_time_that_is_not_in_doubt() {
    let two = |time: &str, first: &str, later: &str| [reading(at(time), first, 3), reading(at(time), later, 9)];
    let case = |at_one: [Reading; 2], at_two: [Reading; 2], at_three: &str| {
        let around = [("2026-03-01 00:00", "495"), ("2026-03-01 03:00", at_three)];
        values(&Case::electricity().meter(&around).readings(at_one).readings(at_two).run())
    };
    // A clock that was fast: what it sent for these times came before what belongs there.
    let fast = case(two("2026-03-01 01:00", "496", "500"), two("2026-03-01 02:00", "497", "506"), "512");
    assert_eq!(fast, amounts(&["5", "6", "6"]));
    // A clock that was put back: what it sent for these times came after what belongs there.
    let back = case(two("2026-03-01 01:00", "500", "509"), two("2026-03-01 02:00", "501", "510"), "502");
    assert_eq!(back, amounts(&["5", "1", "1"]));
}

#[test]
fn a13_of_two_values_in_order_the_later_arrival_wins() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:00", "495"), ("2026-03-01 02:00", "506")])
        .readings([reading(at("2026-03-01 01:00"), "500.4", 9), reading(at("2026-03-01 01:00"), "500.0", 3)])
        .run();
    assert_eq!(values(&usage), amounts(&["5.4", "5.6"]));
    assert_eq!(rules(&usage), [Rule::V05]);
    assert_eq!((usage.findings[0].severity, usage.counts.conflicts), (Severity::Information, 1));
}

#[test]
fn a14_an_identical_message_counts_once() {
    let repeat = || reading(at("2026-03-01 01:00"), "500", 3);
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:00", "495"), ("2026-03-01 02:00", "506")])
        .readings([repeat(), repeat(), repeat()])
        .run();
    assert_eq!(values(&usage), amounts(&["5", "6"]));
    assert_eq!(usage.counts.repeats, 2);
    assert!(usage.findings.is_empty());
}

#[test]
fn a15_a_boundary_is_as_read_and_only_the_use_is_multiplied() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01", "100.000"), ("2026-03-02", "101.000")])
        .with(|_, c| c.multiplier_micros = 40_000_000)
        .run();
    let day = level(&usage, Level::Day)[0];
    assert_eq!(day.start_register.unwrap().register, amount("100.000"));
    assert_eq!(day.value, Some(amount("40")));
}

#[test]
fn b07_the_hole_before_the_first_read_is_seen() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01 13:00", "10"), ("2026-03-01 14:00", "11")])
        .with(|i, _| i.installed_at = Some(at("2026-03-01 10:00")))
        .run();
    let gap = &usage.findings[0];
    assert_eq!((gap.rule, gap.start, gap.end), (Rule::V09, at("2026-03-01 10:00"), at("2026-03-01 13:00")));
    let first = level(&usage, Level::Day)[0];
    assert_eq!((first.start, first.end, first.value), (at("2026-03-01 10:00"), at("2026-03-01 13:00"), None));
}

fn even_hours(from: &str, hours: usize) -> Case {
    Case::electricity().meter(&[]).readings(hourly(at(from), "1000", &vec!["2.0"; hours]))
}

#[test]
fn c01_a_spring_day_has_23_slots() {
    let usage = even_hours("2016-03-27", 23).run();
    let slots = level(&usage, Level::Slot);
    assert_eq!(slots.len(), 23);
    assert!(slots.iter().all(|slot| slot.value == Some(amount("2"))));
    let days = level(&usage, Level::Day);
    assert_eq!((days.len(), days[0].value, days[0].end), (1, Some(amount("46")), at("2016-03-28")));
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let valley: Vec<_> =
        slots.iter().filter(|slot| zone.hour_of(slot.start) < 8).filter_map(|slot| slot.value).collect();
    assert_eq!((valley.len(), Amount::sum(valley)), (7, Some(amount("14"))));
}

#[test]
fn c02_an_autumn_day_has_25_slots() {
    let usage = even_hours("2016-10-30", 25).run();
    assert_eq!(level(&usage, Level::Slot).len(), 25);
    let days = level(&usage, Level::Day);
    assert_eq!((days.len(), days[0].value, days[0].end), (1, Some(amount("50")), at("2016-10-31")));
    let month = even_hours("2016-10-01", 745).run();
    assert_eq!(level(&month, Level::Slot).len(), 745);
}

#[test]
fn c03_arrival_and_a_rising_register_tell_the_repeated_hour() {
    let mut case = Case::electricity().meter(&[
        ("2016-10-30 01:00", "100"),
        ("2016-10-30 02:00", "102"),
        ("2016-10-30 02:00", "104"),
        ("2016-10-30 03:00", "106"),
    ]);
    for row in &mut case.meters[0].2[1..3] {
        row.flags = ReadingFlags::AMBIGUOUS_LOCAL_TIME;
    }
    let usage = case.run();
    assert_eq!(values(&usage), amounts(&["2", "2", "2"]));
    let starts: Vec<_> = level(&usage, Level::Slot).iter().map(|slot| slot.start.to_string()).collect();
    assert_eq!(starts, ["2016-10-29T23:00:00Z", "2016-10-30T00:00:00Z", "2016-10-30T01:00:00Z"]);
    assert!(usage.findings.is_empty());
}

#[test]
fn c07_midnight_is_straight_between_near_reads() {
    let usage = Case::electricity().meter(&[("2026-03-31 23:40", "1000.0"), ("2026-04-01 00:20", "1001.0")]).run();
    let days = level(&usage, Level::Day);
    let border = days[0].end_register.unwrap();
    assert_eq!((border.register, border.quality), (amount("1000.5"), Quality::Derived));
    assert_eq!(days[0].end_register, days[1].start_register);
    assert!(days.iter().all(|day| day.estimated == Amount::ZERO && day.value == Some(amount("0.5"))));
}

#[test]
fn c08_a_long_gap_is_shaped_by_like_days_and_scaled_to_the_register() {
    // Thursdays to Sundays use 2 an hour before the gap, and the register moves by 60 in it.
    let mut case = Case::electricity().meter(&[]).readings(hourly(at("2026-04-01"), "0", &["1"; 29 * 24 + 6]));
    let last = case.meters[0].2.last().unwrap().value;
    assert_eq!(case.meters[0].2.last().unwrap().ts, at("2026-04-30 06:00"));
    let mut next = reading(at("2026-05-02 18:00"), "0", 0);
    next.value = last.checked_add(amount("60")).unwrap();
    case.meters[0].2.push(next);
    let usage = case.run();
    check_closure(&usage);
    let day = |text: &str| level(&usage, Level::Day).into_iter().find(|d| d.start == at(text)).unwrap();
    let april = day("2026-04-30");
    assert_eq!(april.end_register.unwrap().quality, Quality::EstimatedScaled);
    assert_eq!(april.value, Some(amount("24")), "6 read and 18 of 60 hours estimated");
    assert_eq!((april.estimated, april.method), (amount("18"), Some(Method::LikeDay)));
    let evidence = april.evidence.clone().unwrap();
    assert!(evidence.contains("like days") && evidence.contains("2026-04-23"), "{evidence}");
}

#[test]
fn e01_an_unchanged_register_is_zero_and_valid() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:00", "100"), ("2026-03-01 01:00", "100"), ("2026-03-01 02:00", "100")])
        .run();
    for slot in level(&usage, Level::Slot) {
        assert_eq!((slot.value, slot.quality), (Some(Amount::ZERO), Quality::Valid));
    }
    assert_eq!(level(&usage, Level::Slot).len(), 2);
}

#[test]
fn e02_a_missing_read_makes_two_estimates_under_one_whole() {
    let usage = Case::electricity().meter(&[("2026-03-01 00:00", "100"), ("2026-03-01 02:00", "106")]).run();
    assert_eq!(values(&usage), amounts(&["3", "3"]));
    for slot in level(&usage, Level::Slot) {
        assert_eq!((slot.quality, slot.method), (Quality::EstimatedScaled, Some(Method::Linear)));
    }
    assert_eq!(rules(&usage), [Rule::V09]);
    assert_eq!(level(&usage, Level::Day)[0].quality, Quality::Valid, "the register carries the total");
}

#[test]
fn e03_an_outage_is_zero_and_the_rest_closes() {
    let mut case = Case::electricity().meter(&[
        ("2026-03-01 10:00", "100"),
        ("2026-03-01 11:00", "100.3"),
        ("2026-03-01 13:00", "101.2"),
    ]);
    case.outages = vec![(at("2026-03-01 10:20"), at("2026-03-01 12:40"))];
    let usage = case.run();
    assert_eq!(values(&usage), amounts(&["0.3", "0", "0.9"]));
    let quality: Vec<_> = level(&usage, Level::Slot).iter().map(|s| (s.quality, s.method)).collect();
    assert_eq!(
        quality,
        [(Quality::Valid, None), (Quality::Valid, Some(Method::NoSupply)), (Quality::Derived, Some(Method::Closure))]
    );

    // The same as an interval channel under its register.
    let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh")
        .meter(&[("2026-03-01 11:00", "0.3"), ("2026-03-01 13:00", "0.9")]);
    case.outages = vec![(at("2026-03-01 10:20"), at("2026-03-01 12:40"))];
    case.wholes = vec![Whole { start: at("2026-03-01 10:00"), end: at("2026-03-01 13:00"), value: amount("1.2") }];
    let usage = case.run();
    assert_eq!(values(&usage), amounts(&["0.3", "0", "0.9"]));
    assert!(level(&usage, Level::Slot).iter().all(|slot| slot.quality == Quality::Valid));
    assert_eq!(total(&usage), amount("1.2"));
    assert!(!rules(&usage).contains(&Rule::V16));
}

#[test]
fn e04_silence_is_neither_zero_nor_an_outage() {
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:00", "100"), ("2026-03-01 01:00", "101")])
        .with(|i, c| {
            i.installed_at = Some(at("2026-03-01"));
            c.start_register = Some(amount("100"));
        })
        .run();
    let silent: Vec<_> = level(&usage, Level::Day).into_iter().filter(|day| day.value.is_none()).collect();
    assert_eq!(silent[0].start, at("2026-03-01 01:00"));
    assert_eq!((silent[1].start, silent[1].quality), (at("2026-03-02"), Quality::Missing));
    assert!(level(&usage, Level::Slot).iter().all(|slot| slot.method != Some(Method::NoSupply)));
}

fn parts(known: &[&str], after: &str, whole: &str) -> Case {
    let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]);
    let start = at("2026-03-02");
    let hour = |n: usize| start.plus_seconds(3600 * i64::try_from(n).unwrap());
    case = case.readings(known.iter().enumerate().map(|(i, value)| reading(hour(i + 1), value, 0)));
    case = case.readings([reading(hour(known.len() + 4), after, 0)]);
    let end = hour(known.len() + 3);
    case.wholes = vec![Whole { start, end, value: amount(whole) }];
    case.with(|_, c| c.interval_s = 3600)
}

#[test]
fn e05_unknown_parts_are_scaled_to_the_register_and_known_ones_stay() {
    let mut known = vec!["2"; 21];
    (known[0], known[20]) = ("2", "2.0");
    // Three hours are longer than a straight line goes by default, so the quarter-hour grid carries the case.
    let start = at("2026-03-02");
    let quarter = |n: usize| start.plus_seconds(900 * i64::try_from(n).unwrap());
    let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]);
    case = case.readings(known.iter().enumerate().map(|(i, value)| reading(quarter(i + 1), value, 0)));
    case = case.readings([reading(quarter(25), "5.0", 0)]).with(|_, c| c.interval_s = 900);
    case.wholes = vec![Whole { start, end: quarter(24), value: amount("50") }];
    let usage = case.run();
    let found = values(&usage);
    assert_eq!(found[..21], amounts(&["2"; 21])[..]);
    assert_eq!(found[21..24], amounts(&["2.095", "2.667", "3.238"])[..]);
    for slot in &level(&usage, Level::Slot)[21..24] {
        assert_eq!((slot.quality, slot.method), (Quality::EstimatedScaled, Some(Method::Linear)));
    }
}

#[test]
fn e06_parts_above_their_whole_stop_the_bill() {
    let mut known = vec!["2"; 21];
    known[3] = "11";
    let usage = parts(&known, "2", "50").run();
    let found: Vec<_> = usage.findings.iter().filter(|f| f.rule == Rule::V16).collect();
    assert_eq!((found.len(), found[0].severity), (1, Severity::Stop));
    assert_eq!((found[0].measured, found[0].limit), (Some(amount("-1")), Some(amount("0.5"))));
    check_closure(&usage);
}

#[test]
fn e07_a_day_without_any_shape_is_shared_evenly() {
    let usage = Case::electricity().meter(&[("2026-03-02", "0"), ("2026-03-03", "100.000")]).run();
    let found = values(&usage);
    assert_eq!(found.iter().filter(|v| **v == "4.167000").count(), 16);
    assert_eq!(found.iter().filter(|v| **v == "4.166000").count(), 8);
    assert_eq!(total(&usage), amount("100"));
    assert!(level(&usage, Level::Slot).iter().all(|slot| slot.method == Some(Method::Even)));
}

#[test]
fn e09_a_longer_whole_counts_what_is_known() {
    let mut case =
        Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[("2026-03-05", "100")]).with(|i, c| {
            i.installed_at = Some(at("2026-03-02"));
            i.removed_at = Some(at("2026-03-05"));
            c.interval_s = 86_400;
        });
    case.wholes = vec![Whole { start: at("2026-03-02"), end: at("2026-03-05"), value: amount("150") }];
    assert_eq!(values(&case.run()), amounts(&["25", "25", "100"]));
}

#[test]
fn e13_a_power_failure_beside_the_gap_forbids_the_straight_line() {
    let mut case = Case::electricity().meter(&[
        ("2026-03-01 09:00", "98"),
        ("2026-03-01 10:00", "100"),
        ("2026-03-01 12:00", "104"),
        ("2026-03-01 13:00", "105"),
    ]);
    assert_eq!(level(&case.run(), Level::Slot)[1].method, Some(Method::Linear));
    case.outages = vec![(at("2026-03-01 09:40"), at("2026-03-01 09:50"))];
    assert_eq!(level(&case.run(), Level::Slot)[1].method, Some(Method::Even));
}

#[test]
fn a_register_that_stays_low_for_weeks_keeps_its_maximum() {
    let mut readings = hourly(at("2026-03-01"), "634.002", &["0"; 24]);
    readings.extend(hourly(at("2026-03-02 01:00"), "634.000", &["0"; 500]));
    let end = readings.last().unwrap().ts;
    readings.push(reading(end.plus_seconds(3600), "634.020", 0));
    let usage = Case::water().meter(&[]).readings(readings).run();
    assert_eq!(total(&usage), amount("0.018"));
    assert!(usage.findings.is_empty(), "{:?}", usage.findings);
    assert!(usage.spans.iter().all(|span| !span.quality.is_estimate()));
}

#[test]
fn an_excursion_of_many_hours_is_taken_back_when_the_register_returns() {
    let mut readings = hourly(at("2026-03-01"), "20.500", &["0.010"; 24]);
    readings.extend(hourly(at("2026-03-02 01:00"), "8.212", &["0.001"; 9]));
    readings.extend(hourly(at("2026-03-02 11:00"), "20.760", &["0.010"; 24]));
    let usage = Case::water().meter(&[]).readings(readings).run();
    assert_eq!(total(&usage), amount("0.500"));
    assert!(rules(&usage).iter().all(|rule| matches!(rule, Rule::V13 | Rule::V09)), "{:?}", usage.findings);
    assert!(level(&usage, Level::Day).iter().all(|day| day.value.is_some()));

    // And one above it.
    let mut readings = hourly(at("2026-03-01"), "20.500", &["0.010"; 24]);
    readings.extend(hourly(at("2026-03-02 01:00"), "456.000", &["0.001"; 9]));
    readings.extend(hourly(at("2026-03-02 11:00"), "20.760", &["0.010"; 24]));
    let usage = Case::water().meter(&[]).readings(readings).run();
    assert_eq!(total(&usage), amount("0.500"));
}

#[test]
fn a_wrap_that_flickers_is_one_wrap() {
    let usage = five_digits(Case::water().meter(&[
        ("2026-03-01 00:00", "99999.990"),
        ("2026-03-01 01:00", "0.001"),
        ("2026-03-01 02:00", "99999.999"),
        ("2026-03-01 03:00", "0.020"),
    ]))
    .run();
    assert_eq!(total(&usage), amount("0.030"));
    assert_eq!(rules(&usage), [Rule::V12]);
}

#[test]
fn a_jump_above_capacity_needs_two_more_reads_to_stand() {
    let alone = [("2026-03-01 00:00", "100"), ("2026-03-01 01:00", "300"), ("2026-03-01 02:00", "102")];
    let usage = Case::electricity().meter(&alone).run();
    assert_eq!(total(&usage), amount("2"));
    assert_eq!(told(&usage)[0].rule, Rule::V13);

    let stands = [
        ("2026-03-01 00:00", "100"),
        ("2026-03-01 01:00", "300"),
        ("2026-03-01 02:00", "302"),
        ("2026-03-01 03:00", "303"),
    ];
    let usage = Case::electricity().meter(&stands).run();
    assert_eq!(total(&usage), amount("203"));
    assert_eq!(rules(&usage), [Rule::V14]);
    assert_eq!(level(&usage, Level::Slot)[0].quality, Quality::Failed);
}

#[test]
fn g03_capacity_is_exceeded_beyond_a_tenth_more() {
    for (end, expected) in [("147.817", vec![]), ("147.818", vec![Rule::V14])] {
        let usage = Case::electricity().meter(&[("2026-03-01 00:00", "100"), ("2026-03-01 01:00", end)]).run();
        assert_eq!(rules(&usage), expected, "{end}");
    }
}

#[test]
fn interval_use_is_taken_as_it_comes() {
    let mut case =
        Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]).with(|_, c| c.interval_s = 900);
    let start = at("2026-03-02");
    case = case.readings((1..=96).map(|n| reading(start.plus_seconds(900 * n), "0.123456", 0)));
    let usage = case.run();
    assert_eq!(total(&usage), amount("11.851776"));
    let days = level(&usage, Level::Day);
    assert_eq!((days.len(), days[0].quality), (1, Quality::Valid));
    check_closure(&usage);
    assert!(usage.findings.is_empty());
}

#[test]
fn missing_intervals_learn_from_like_days_and_stay_unscaled() {
    let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]);
    let start = at("2026-02-02");
    let hours = (1..=28 * 24).filter(|n| !(660..=668).contains(n));
    case = case.readings(hours.map(|n| reading(start.plus_seconds(3600 * n), "1.5", 0)));
    let usage = case.run();
    check_closure(&usage);
    let filled: Vec<_> = level(&usage, Level::Slot).into_iter().filter(|s| s.quality == Quality::Estimated).collect();
    assert_eq!(filled.len(), 9);
    assert!(filled.iter().all(|s| s.value == Some(amount("1.5")) && s.method == Some(Method::LikeDay)));
    let estimated = Amount::sum(level(&usage, Level::Day).iter().map(|day| day.estimated));
    assert_eq!(estimated, Some(amount("13.5")));
}

#[test]
fn e07_shares_that_tie_go_to_the_earliest_where_like_days_have_thirds() {
    // Hours 1, 2 and 3 of three Mondays used 1, 4 and 1 thirds of a watt-hour in the mean; 2 Wh are shared out.
    let monday = at("2026-03-02");
    let mut uses = vec!["0"; 22 * 24];
    for (week, hours) in [["0.001", "0.001", "0"], ["0", "0.001", "0.001"], ["0", "0.002", "0"]].iter().enumerate() {
        uses[week * 168 + 1..week * 168 + 4].copy_from_slice(hours);
    }
    uses[3 * 168 + 2] = "0.002";
    let gap = [2, 3].map(|hour| at("2026-03-23").plus_seconds(hour * 3600));
    let readings = hourly(monday, "100", &uses).into_iter().filter(|reading| !gap.contains(&reading.ts));
    let usage = Case::electricity().meter(&[]).readings(readings).run();
    let slots = level(&usage, Level::Slot);
    let filled: Vec<_> = slots.iter().filter(|slot| slot.quality == Quality::EstimatedScaled).collect();
    assert!(filled.iter().all(|slot| slot.method == Some(Method::LikeDay)), "{filled:?}");
    let values: Vec<_> = filled.iter().map(|slot| slot.value.unwrap()).collect();
    assert_eq!(values, ["0.001", "0.001", "0"].map(amount), "1/3, 4/3 and 1/3 leave the same remainder");
}
