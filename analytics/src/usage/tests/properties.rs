//! What holds for every meter.

use proptest::prelude::*;

use super::*;

/// A year's slice of a meter: steps in minutes and use in litres between its reads, and which to leave out.
fn steps() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((prop_oneof![8 => 50_i64..70, 1 => 100_i64..4000], 0_i64..400), 2..120)
}

fn readings(steps: &[(i64, i64)]) -> Vec<Reading> {
    let (mut ts, mut litres) = (at("2016-10-20 00:17"), 1_000_000);
    let mut out = Vec::new();
    for (n, (minutes, use_)) in steps.iter().enumerate() {
        out.push(Reading {
            ts,
            received_at_s: ts.unix_seconds() + 5,
            revision: 0,
            value: Amount::from_scaled(litres, 3).unwrap(),
            flags: ReadingFlags::NONE,
        });
        ts = ts.plus_seconds(minutes * 60 + i64::try_from(n).unwrap() % 7);
        litres += use_;
    }
    out
}

fn water(readings: Vec<Reading>) -> Case {
    Case::water().meter(&[]).readings(readings)
}

fn use_of(readings: &[Reading]) -> Amount {
    let (first, last) = (readings[0], readings[readings.len() - 1]);
    last.value.checked_sub(first.value).unwrap()
}

fn between(usage: &PointUsage, from: Timestamp, to: Timestamp) -> Amount {
    Amount::sum(level(usage, Level::Day).iter().filter(|s| s.start >= from && s.start < to).filter_map(|s| s.value))
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn slots_and_days_add_up_to_the_register(steps in steps(), multiplier in prop_oneof![Just(1_i64), Just(40), Just(7)]) {
        let rows = readings(&steps);
        let usage = water(rows.clone()).with(|_, c| c.multiplier_micros = multiplier * 1_000_000).run();
        check_closure(&usage);
        prop_assert_eq!(Some(total(&usage)), use_of(&rows).checked_scale(multiplier * 1_000_000));
        let one = water(rows).run();
        for (a, b) in one.spans.iter().zip(&usage.spans) {
            prop_assert_eq!(a.value.and_then(|v| v.checked_scale(multiplier * 1_000_000)), b.value);
        }
    }

    #[test]
    fn a_multiplier_with_many_decimals_still_closes(steps in steps(), multiplier in 1_i64..90_000_000) {
        let rows = readings(&steps);
        let usage = water(rows).with(|_, c| c.multiplier_micros = multiplier).run();
        check_closure(&usage);
    }

    #[test]
    fn the_order_of_arrival_in_a_file_does_not_matter(steps in steps(), seed in any::<u64>()) {
        let rows = readings(&steps);
        let mut shuffled = rows.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
        }
        prop_assert_eq!(water(rows).run(), water(shuffled).run());
    }

    #[test]
    fn a_message_sent_again_changes_no_span(steps in steps(), again in any::<prop::sample::Index>()) {
        let rows = readings(&steps);
        let mut more = rows.clone();
        more.push(rows[again.index(rows.len())]);
        prop_assert_eq!(water(rows).run().spans, water(more).run().spans);
    }

    #[test]
    fn a_period_is_the_sum_of_its_parts(steps in steps(), cut in 1_i64..60) {
        let rows = readings(&steps);
        let case = water(rows);
        let usage = case.run();
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let (a, c) = (at("2016-10-01"), at("2018-01-01"));
        let b = zone.start_of_day(CivilDay::parse("2016-10-20").unwrap().plus_days(i32::try_from(cut).unwrap()));
        let whole = between(&usage, a, c);
        prop_assert_eq!(between(&usage, a, b).checked_add(between(&usage, b, c)), Some(whole));
        // And each part derived by itself is the same.
        let part = |from, to| { let mut case = case.clone(); (case.from, case.to) = (from, to); case.run() };
        let mut spans = part(a, b).spans;
        spans.extend(part(b, c).spans);
        spans.sort_by_key(|span| (span.level == Level::Slot, span.start));
        prop_assert_eq!(spans, usage.spans);
    }

    #[test]
    fn a_wrapped_register_is_used_like_any_other(steps in steps(), k in 1_i64..4) {
        let rows = readings(&steps);
        let digits = |case: Case| case.with(|_, c| c.digits = Some(4));
        // The register starts at 1,000 m³ and wraps at 10,000: so that it wraps on the way, move it to just below.
        let moved: Vec<Reading> = rows.iter().map(|row| {
            let value = row.value.micros() + 8_995_000_000 + k;
            Reading { value: Amount::from_micros((value / 1000 * 1000).rem_euclid(10_000_000_000)).unwrap(), ..*row }
        }).collect();
        let (plain, wrapped) = (digits(water(rows)).run(), digits(water(moved)).run());
        let values = |usage: &PointUsage| usage.spans.iter().map(|s| (s.start, s.value, s.quality)).collect::<Vec<_>>();
        prop_assert_eq!(values(&plain), values(&wrapped));
    }

    #[test]
    fn a_worse_reading_changes_no_value(steps in steps(), place in any::<prop::sample::Index>(), low in 25_000_i64..900_000) {
        let rows = readings(&steps);
        prop_assume!(rows.len() > 3);
        let at = 1 + place.index(rows.len() - 2);
        let mut more = rows.clone();
        let bad = Amount::from_scaled(rows[at].value.micros() / 1000 - low, 3).unwrap();
        more.push(Reading { ts: rows[at].ts.plus_seconds(1), value: bad, ..rows[at] });
        prop_assert_eq!(water(rows).run().spans, water(more).run().spans);
    }

    #[test]
    fn no_estimate_learns_from_an_estimate(steps in steps()) {
        let usage = water(readings(&steps)).run();
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let taught: BTreeSet<String> = level(&usage, Level::Slot).iter().filter(|s| s.quality.feeds_history()).map(|s| zone.day_of(s.start).to_string()).collect();
        for span in usage.spans.iter().filter(|s| s.quality.is_estimate()) {
            let evidence = span.evidence.as_deref().unwrap();
            if let Some((_, days)) = evidence.split_once("; like days ") {
                for day in days.split(", ") {
                    prop_assert!(taught.contains(day), "{day} has a slot that was read");
                    prop_assert!(*day < *zone.local_text(span.start.plus_seconds(86_400)), "{day} lies before");
                }
            }
        }
    }

    #[test]
    fn any_readings_at_all_give_no_negative_use(
        rows in prop::collection::vec((0_i64..500, 0_i64..3_000_000, 0_i64..3, 0_u32..8), 0..60),
        digits in prop::option::of(3_u8..6),
        capacity in prop::option::of(1_i64..50),
        dates in any::<(bool, bool)>(),
        cut in 0_i64..600,
    ) {
        let start = at("2016-10-28");
        let rows: Vec<Reading> = rows.into_iter().map(|(hours, litres, revision, flags)| Reading {
            ts: start.plus_seconds(hours * 1800),
            received_at_s: hours,
            revision: i32::try_from(revision).unwrap(),
            value: Amount::from_scaled(litres, 3).unwrap(),
            flags: ReadingFlags::from_bits(flags),
        }).collect();
        let mut backwards = rows.clone();
        backwards.reverse();
        let mut case = water(rows).with(|i, c| {
            c.digits = digits;
            c.capacity_per_hour = capacity.and_then(|c| Amount::from_scaled(c, 0).ok());
            i.installed_at = dates.0.then_some(start);
            i.removed_at = dates.1.then(|| start.plus_seconds(500 * 1800));
        });
        case.to = at("2016-12-01");
        let usage = case.run();
        check_closure(&usage);
        let mut other = case.clone();
        other.meters[0].2 = backwards;
        prop_assert_eq!(&other.run(), &usage, "the order of arrival in a file does not matter");
        // Asked for in two parts, which need not meet at midnight, it is the same.
        let middle = start.plus_seconds(cut * 1800 + 7);
        let part = |from, to| { let mut case = case.clone(); (case.from, case.to) = (from, to); case.run() };
        let (mut first, second) = (part(case.from, middle), part(middle, case.to));
        first.spans.extend(second.spans);
        first.spans.sort_by_key(|span| (span.level == Level::Slot, span.start));
        first.findings.extend(second.findings);
        prop_assert_eq!(&first.spans, &usage.spans);
        prop_assert_eq!(&first.findings, &usage.findings);
        let days = level(&usage, Level::Day);
        for pair in days.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start, "days do not overlap: {:?}", pair);
        }
    }

    #[test]
    fn interval_use_adds_up_and_known_slots_stand(
        values in prop::collection::vec(prop::option::weighted(0.9, 0_i64..3000), 2..200),
        short in 0_i64..100,
    ) {
        prop_assume!(values[0].is_some() && values[values.len() - 1].is_some());
        let start = at("2016-10-28");
        let rows = values.iter().enumerate().filter_map(|(i, v)| {
            let ts = start.plus_seconds(900 * (i64::try_from(i).unwrap() + 1));
            let value = Amount::from_scaled((*v)?, 3).unwrap();
            Some(Reading { ts, received_at_s: 0, revision: 0, value, flags: ReadingFlags::NONE })
        });
        let known: i64 = values.iter().flatten().sum();
        let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]).readings(rows);
        case = case.with(|_, c| c.interval_s = 900);
        let end = start.plus_seconds(900 * i64::try_from(values.len()).unwrap());
        let whole = Amount::from_scaled(known + 100 - short, 3).unwrap();
        case.wholes = vec![Whole { start, end, value: whole }];
        let usage = case.run();
        check_closure(&usage);
        let slots = level(&usage, Level::Slot);
        prop_assert_eq!(slots.len(), values.len());
        for (slot, value) in slots.iter().zip(&values) {
            if let Some(value) = value {
                prop_assert_eq!(slot.value, Amount::from_scaled(*value, 3).ok());
            }
        }
        if values.iter().any(Option::is_none) {
            prop_assert_eq!(total(&usage), whole);
        }
    }
}
