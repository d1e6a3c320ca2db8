//! What holds for any use.

use meterlake_model::calendar::{Calendar, CalendarPlan, CalendarRule, DayKinds};
use meterlake_model::determinant::{Peak, Window};
use proptest::prelude::*;

use super::tests::{MADRID, Place, amount, day, energy, energy_slots, rounding, rule, span, workday_peak};
use super::*;

/// Quarters of an hour over some days, in thousandths.
fn quarters(place: &Place, values: &[i64], multiplier: i64) -> Vec<Span> {
    let (start, end) = place.cycle().span();
    let (mut at, mut spans) = (start, Vec::new());
    while at < end {
        let next = at.plus_seconds(900).min(end);
        let value = values[spans.len() % values.len()] * 1000 * multiplier;
        spans.push(span(at, next, Amount::from_micros(value), Quality::Valid));
        at = next;
    }
    spans
}

fn place(first: i32, days: i32) -> Place {
    let first = day("2026-03-20").plus_days(first);
    Place::new(MADRID, &first.to_string(), &first.plus_days(days).to_string())
}

fn calendar() -> Calendar {
    let mut plan = workday_peak();
    plan.buckets.push("sharp".to_owned());
    plan.rules.push(CalendarRule {
        priority: 1,
        minutes: (18 * 60 + 10, 20 * 60 + 35),
        ..rule(DayKinds::all(), (18, 20), 2)
    });
    Calendar::prove(CalendarPlan { ..plan }).unwrap()
}

fn total(spans: &[Span]) -> Amount {
    Amount::sum(spans.iter().filter_map(|span| span.value)).unwrap()
}

fn buckets(place: &Place, spans: &[Span], whole: Option<Amount>) -> Vec<Amount> {
    let figures = by_bucket(&place.cycle(), &energy_slots(spans), &calendar(), &[], whole, rounding());
    figures.into_iter().map(|figure| figure.value.unwrap()).collect()
}

fn demand(place: &Place, spans: &[Span], length_s: i64, step_s: i64) -> Option<Amount> {
    let peak = Peak {
        channel: energy(),
        window: Window { length_s, step_s },
        within: None,
        estimated: false,
        restored: false,
        nth: 1,
        by_day: false,
        ratchet: None,
    };
    highest(&place.cycle(), &energy_slots(spans), &peak, None, &[], rounding()).value
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn slots_register_buckets_and_tiers_have_one_sum(
        values in prop::collection::vec(0_i64..5000, 1..40),
        (first, days) in (0_i32..12, 1_i32..10),
        off in -20_i64..20,
        before in 0_i64..400,
    ) {
        let place = place(first, days);
        let spans = quarters(&place, &values, 1);
        let register = Amount::from_micros((total(&spans).micros() + off * 1000).max(0)).unwrap();
        prop_assert_eq!(Amount::sum(buckets(&place, &spans, None)), Some(total(&spans)));
        prop_assert_eq!(Amount::sum(buckets(&place, &spans, Some(register))), Some(register));
        let of = TierUse { before: Amount::from_scaled(before, 0).unwrap(), used: register };
        let found = tiers(&["100", "250.5", "300"].map(amount), of).unwrap();
        prop_assert_eq!(Amount::sum(found), Some(register));
        let cells = curve(&place.cycle(), &energy_slots(&spans), 3600, rounding());
        prop_assert_eq!(Amount::sum(cells.iter().filter_map(|cell| cell.value)), Some(total(&spans)));
    }

    #[test]
    fn a_cycle_is_the_sum_of_its_halves(
        values in prop::collection::vec(0_i64..5000, 1..40),
        (first, days, cut) in (0_i32..12, 2_i32..10, 1_i32..9),
    ) {
        let cut = cut.min(days - 1);
        let (all, left, right) = (place(first, days), place(first, cut), place(first + cut, days - cut));
        let spans = quarters(&all, &values, 1);
        let [all, left, right] = [&all, &left, &right].map(|place| buckets(place, &spans, None));
        for (all, (left, right)) in all.into_iter().zip(left.into_iter().zip(right)) {
            prop_assert_eq!(left.checked_add(right), Some(all));
        }
    }

    #[test]
    fn a_block_s_peak_is_no_higher_than_a_sliding_one(
        values in prop::collection::vec(0_i64..5000, 1..200),
        (first, days) in (0_i32..12, 1_i32..4),
    ) {
        let place = place(first, days);
        let spans = quarters(&place, &values, 1);
        let (block, sliding) = (demand(&place, &spans, 1800, 1800), demand(&place, &spans, 1800, 900));
        prop_assert!(block.is_some() && block <= sliding, "{block:?} {sliding:?}");
    }

    #[test]
    fn a_multiplier_multiplies_use_buckets_and_peaks(
        values in prop::collection::vec(0_i64..5000, 1..60),
        (first, multiplier) in (0_i32..12, 2_i64..200),
    ) {
        let place = place(first, 2);
        let (one, many) = (quarters(&place, &values, 1), quarters(&place, &values, multiplier));
        let times = |amount: Amount| Amount::from_micros(amount.micros() * multiplier);
        prop_assert_eq!(times(total(&one)), Some(total(&many)));
        let expected: Vec<_> = buckets(&place, &one, None).into_iter().filter_map(times).collect();
        // Slots are cut in steps of the resolution after the multiplier.
        let slots = Slots { step: Amount::from_micros(1000 * multiplier).unwrap(), ..energy_slots(&many) };
        let found = by_bucket(&place.cycle(), &slots, &calendar(), &[], None, rounding());
        let found: Vec<_> = found.into_iter().filter_map(|figure| figure.value).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(demand(&place, &one, 1800, 900).and_then(times), demand(&place, &many, 1800, 900));
    }

    #[test]
    fn tiers_flow_on_whatever_the_months_were(uses in prop::collection::vec(-300_i64..900, 1..12)) {
        let limits = ["500", "1200"].map(amount);
        let (mut before, mut sums) = (0_i64, [0_i64; 3]);
        for used in &uses {
            let of = TierUse { before: Amount::from_scaled(before, 0).unwrap(), used: Amount::from_scaled(*used, 0).unwrap() };
            let found = tiers(&limits, of).unwrap();
            prop_assert_eq!(found.iter().map(|part| part.micros()).sum::<i64>(), used * 1_000_000);
            sums.iter_mut().zip(&found).for_each(|(sum, part)| *sum += part.micros());
            before += used;
        }
        let at_once = tiers(&limits, TierUse { before: Amount::ZERO, used: Amount::from_scaled(before, 0).unwrap() }).unwrap();
        prop_assert_eq!(at_once.iter().map(|part| part.micros()).collect::<Vec<_>>(), sums.to_vec());
    }

    #[test]
    fn cos_phi_is_the_nearest_millionth(p in 0_i64..1_000_000_000_000, q in 0_i64..1_000_000_000_000) {
        prop_assume!(p + q > 0);
        let cos = cos_phi_micros(Amount::from_micros(p).unwrap(), Amount::from_micros(q).unwrap()).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "to compare with the library's root")]
        let expected = p as f64 / (p as f64).hypot(q as f64) * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "up to a million")]
        let off = (cos as f64 - expected).abs();
        prop_assert!(off <= 0.500_001, "{cos} {expected}");
    }
}
