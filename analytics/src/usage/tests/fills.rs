//! The rungs E1, E6 and E7 of the fills, whose history they learn from, and what waits in a storm.

use super::super::Shape;
use super::resumed::profile;
use super::*;
use meterlake_model::Method;
use proptest::prelude::*;

/// Hourly interval use from a local time on; `None` is missing.
fn intervals(start: Timestamp, uses: impl IntoIterator<Item = Option<&'static str>>) -> Case {
    let rows =
        uses.into_iter().zip(1_i64..).filter_map(|(use_, n)| Some(reading(start.plus_seconds(3600 * n), use_?, 0)));
    Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]).readings(rows)
}

fn filled(usage: &PointUsage) -> Vec<(Option<Amount>, Quality, Option<Method>)> {
    let unread = |s: &&&Span| s.quality != Quality::Valid;
    level(usage, Level::Slot).iter().filter(unread).map(|s| (s.value, s.quality, s.method)).collect()
}

fn evidence(usage: &PointUsage) -> String {
    level(usage, Level::Slot).iter().rev().find_map(|s| s.evidence.as_deref()).unwrap().to_owned()
}

/// Five weeks of 1.0 an hour from Monday, 4 May 2026, and a gap of five hours on Monday, 8 June.
fn five_weeks() -> Case {
    let start = at("2026-05-04");
    let mut case = intervals(start, (0..36 * 24).map(|hour| (!(850..855).contains(&hour)).then_some("1")));
    case.point.customer_id = meterlake_model::CustomerId::new("c").ok();
    case
}

#[test]
fn e12_an_estimated_like_day_teaches_nothing() {
    let mut case = five_weeks();
    assert!(evidence(&case.run()).ends_with("like days 2026-05-18, 2026-05-25, 2026-06-01"));
    // On 25 May the same hours are missing, too: they are estimated, and are no history.
    let missing = |row: &Reading| !(at("2026-05-25 10:00")..=at("2026-05-25 16:00")).contains(&row.ts);
    case.meters[0].2.retain(missing);
    let usage = case.run();
    assert!(evidence(&usage).ends_with("like days 2026-05-11, 2026-05-18, 2026-06-01"), "{}", evidence(&usage));
}

#[test]
fn e12_what_was_used_before_the_customer_moved_in_teaches_nothing() {
    let rung = |since: &str| {
        let mut case = five_weeks();
        case.point.customer_since = Some(at(since));
        let usage = case.run();
        (filled(&usage)[0].2, filled(&usage)[0].0, evidence(&usage))
    };
    let (method, _, days) = rung("2026-05-01");
    assert_eq!(method, Some(Method::LikeDay), "{days}");
    // Ten days ago: one Monday is left, and six workdays.
    let (method, _, days) = rung("2026-05-29");
    assert_eq!(method, Some(Method::DayType), "{days}");
    assert!(days.contains("2026-05-29") && !days.contains("2026-05-28"), "{days}");
    let (method, _, days) = rung("2026-05-29 09:30");
    assert_eq!(method, Some(Method::DayType), "{days}");
    assert!(days.contains("2026-06-01") && !days.contains("2026-05-29"), "the day of the move is nobody's: {days}");
    let (method, value, days) = rung("2026-06-04");
    assert_eq!((method, value), (None, None), "and nobody else's use is taken: {days}");
    let (method, _, days) = rung("2026-06-20");
    assert_eq!(method, Some(Method::LikeDay), "the one before learns from his own: {days}");
}

/// Four days of one temperature and use each, then a day at 30 °C with a gap.
fn by_weather(days: [(i32, &'static str); 4]) -> Case {
    let start = at("2026-07-05");
    let uses = days.iter().flat_map(|(_, use_)| std::iter::repeat_n(Some(*use_), 24));
    let target = (0..24).map(|hour| (!(10..16).contains(&hour)).then_some("9"));
    let mut case = intervals(start, uses.chain(target));
    let first = CivilDay::parse("2026-07-05").unwrap();
    let known = days.iter().map(|(milli, _)| *milli).chain([30_000]).zip(0..);
    case.temperatures = Some(Temperatures::new(known.map(|(milli, n)| (first.plus_days(n), milli))));
    case
}

#[test]
fn e14_days_of_like_weather_stand_in_for_like_days() {
    let days = [(29_000, "2.0"), (31_000, "2.4"), (24_000, "1.0"), (30_500, "2.2")];
    let usage = by_weather(days).run();
    check_closure(&usage);
    let found = filled(&usage);
    assert_eq!(found, [(Some(amount("2.2")), Quality::Estimated, Some(Method::ProxyDay)); 6]);
    assert!(evidence(&usage).ends_with("like days 2026-07-05, 2026-07-06, 2026-07-08"));
    let mut case = by_weather(days);
    case.temperatures = None;
    assert_eq!(filled(&case.run())[0].0, None, "without weather there is no such rung");
    let mut case = by_weather(days);
    case.point.customer_since = Some(at("2026-07-07"));
    assert_eq!(filled(&case.run())[0].0, None, "two days are too few");
    // Of days as near, the latest.
    let usage = by_weather([(29_000, "8"), (29_000, "1"), (31_000, "2"), (29_000, "3")]).run();
    assert_eq!(filled(&usage)[0].0, Some(amount("2")));
}

#[test]
fn e7_a_profile_at_the_customers_own_level() {
    // Two workdays at half a kWh a weight; a gap from 17 to 21 o'clock on the third.
    let start = at("2026-07-06");
    let day = (0..24).map(|hour| Some(if (18..20).contains(&hour) { "1.5" } else { "0.5" }));
    let last = (0..24).map(|hour| (!(17..21).contains(&hour)).then_some("7"));
    let mut case = intervals(start, day.clone().chain(day).chain(last));
    case.profile = Some(profile(Some("99")));
    let usage = case.run();
    check_closure(&usage);
    let values = ["0.5", "1.5", "1.5", "0.5"].map(|v| (Some(amount(v)), Quality::Estimated, Some(Method::Profile)));
    assert_eq!(filled(&usage), values);
    assert!(
        evidence(&usage).ends_with("; profile homes at the use of 2026-07-06 to 2026-07-07"),
        "{}",
        evidence(&usage)
    );
    case.point.customer_since = Some(at("2026-07-08"));
    // Nothing of his own: the class's 99 kWh a day, in a week of 5 × 28 + 28 + 2 × 28 weights.
    let of_class = amount("3.09375");
    assert_eq!(filled(&case.run())[0].0, Some(of_class), "99 × 7 ÷ 224");
    case.profile = Some(profile(None));
    assert_eq!(filled(&case.run())[0].0, None, "nor a level of the class");
}

#[test]
fn e7_the_register_gives_the_level_of_a_gap_without_history() {
    let mut case = Case::electricity().meter(&[("2026-07-06 00:00", "100"), ("2026-07-08 00:00", "156")]);
    case.profile = Some(profile(None));
    let usage = case.run();
    check_closure(&usage);
    let slots = level(&usage, Level::Slot);
    assert_eq!((slots.len(), total(&usage)), (48, amount("56")));
    for (hour, slot) in slots.iter().enumerate() {
        let expected = if (18..20).contains(&(hour % 24)) { "3" } else { "1" };
        assert_eq!((slot.value, slot.method), (Some(amount(expected)), Some(Method::Profile)), "hour {hour}");
        assert_eq!(slot.quality, Quality::EstimatedScaled);
    }
    assert!(evidence(&usage).ends_with("; profile homes"));
}

#[test]
fn the_order_of_the_rungs_is_a_rule() {
    let mut case = by_weather([(29_000, "2.0"), (31_000, "2.4"), (24_000, "1.0"), (30_500, "2.2")]);
    case.profile = Some(profile(Some("48")));
    let run = |shapes: &[Shape]| {
        let rules = UsageRules { shapes: shapes.to_vec(), ..UsageRules::default() };
        filled(&case.run_by(&rules))[0].2
    };
    assert_eq!(run(&Shape::ALL), Some(Method::ProxyDay));
    assert_eq!(run(&[Shape::Profile, Shape::ProxyDay]), Some(Method::Profile));
    assert_eq!(run(&[Shape::LikeDay]), None, "what is not named is not tried, and the class's level neither");
    assert_eq!(Shape::ALL.map(|s| Shape::parse(s.as_str())), Shape::ALL.map(Some));
}

/// A register of 1 kWh an hour, silent from 10 to 16 o'clock, and what a check meter says of it.
fn with_twin(uses: &[&str]) -> Case {
    let start = at("2026-07-06 08:00");
    let rows: Vec<_> = hourly(start, "100", &["1"; 16])
        .into_iter()
        .filter(|row| !(at("2026-07-06 10:30")..at("2026-07-06 15:30")).contains(&row.ts))
        .collect();
    Case::electricity().meter(&[]).readings(rows).twin(hourly(start, "7000", uses))
}

fn uses_of(usage: &PointUsage) -> Vec<String> {
    level(usage, Level::Slot).iter().map(|s| s.value.map_or("-".into(), |v| v.to_string())).collect()
}

#[test]
fn e1_a_check_meter_tells_what_the_meter_did_not() {
    // From 8 o'clock on; the gap is its hours 2 to 7, of which it knows 0.4, 0.6, 2, 1.5, 0.5 and 1.
    let mut uses = ["1"; 16];
    uses[2..8].copy_from_slice(&["0.4", "0.6", "2", "1.5", "0.5", "1"]);
    let usage = with_twin(&uses).run();
    check_closure(&usage);
    let derived = |v: &str| (Some(amount(v)), Quality::Derived, Some(Method::Twin));
    assert_eq!(filled(&usage), ["0.4", "0.6", "2", "1.5", "0.5", "1"].map(derived));
    assert!(level(&usage, Level::Day).iter().all(|day| day.estimated == Amount::ZERO));
    // It measured a little less: the register carries the total, the twin the shape.
    uses[4] = "1.97";
    let usage = with_twin(&uses).run();
    check_closure(&usage);
    assert_eq!(total(&usage), amount("16"));
    assert!(filled(&usage).iter().all(|(_, quality, _)| *quality == Quality::Derived), "within one per cent");
    uses[4] = "1";
    let usage = with_twin(&uses).run();
    check_closure(&usage);
    assert_eq!(total(&usage), amount("16"));
    let shaped = (Quality::EstimatedScaled, Some(Method::Twin));
    assert!(filled(&usage).iter().all(|(_, quality, method)| (*quality, *method) == shaped), "5 of 6 is no twin");
}

#[test]
fn e1_what_the_check_meter_leaves_is_shared_out() {
    let mut uses = ["1"; 16];
    uses[2..8].copy_from_slice(&["0.4", "0.6", "2", "1", "1", "1"]);
    let mut case = with_twin(&uses);
    // It is silent from 13 to 16 o'clock itself.
    case.twins[0].2.retain(|row| row.ts <= at("2026-07-06 13:00") || row.ts > at("2026-07-06 17:00"));
    let usage = case.run();
    check_closure(&usage);
    let found = filled(&usage);
    let values: Vec<_> = found.iter().map(|(value, ..)| value.unwrap()).collect();
    assert_eq!(values, ["0.4", "0.6", "2", "1", "1", "1"].map(amount), "3 kWh are left for three hours");
    assert_eq!([found[2].1, found[3].1], [Quality::Derived, Quality::EstimatedScaled]);
}

#[test]
fn e1_a_check_meter_that_says_what_cannot_be_says_nothing() {
    let even = |case: Case, why: &str| {
        let usage = case.run();
        check_closure(&usage);
        assert!(filled(&usage).iter().all(|(.., method)| *method == Some(Method::Even)), "{why}: {:?}", filled(&usage));
    };
    let uses = ["1"; 16];
    let near = |row: &Reading| (at("2026-07-06 09:30")..at("2026-07-06 16:30")).contains(&row.ts);
    let mut foreign = with_twin(&uses);
    foreign.twins[0].2.iter_mut().filter(|row| near(row)).step_by(2).for_each(|row| row.value = amount("99"));
    even(foreign, "another meter's readings between its own");
    let mut two = with_twin(&uses);
    let again: Vec<_> = two.twins[0]
        .2
        .iter()
        .filter(|row| near(row))
        .map(|row| Reading { value: amount("9999"), revision: 1, ..*row })
        .collect();
    two.twins[0].2.extend(again);
    even(two, "two values for one time");
    even(with_twin(&["1", "1", "60", "60", "60", "60", "60", "60", "1"]), "more than can flow");
    let mut gone = with_twin(&uses);
    gone.twins[0].0.removed_at = Some(at("2026-07-06 09:00"));
    even(gone, "it hung there before only");
}

#[test]
fn e1_a_check_meter_goes_on_where_the_meter_died() {
    let start = at("2026-07-06 08:00");
    let mut case = Case::electricity().meter(&[]).readings(hourly(start, "100", &["1"; 8]));
    case = case.with(|i, _| i.installed_at = Some(start)).twin(hourly(start, "0", &["2"; 40]));
    case.to = at("2026-07-10");
    let usage = case.run();
    check_closure(&usage);
    let days: Vec<_> = level(&usage, Level::Day).iter().map(|d| (d.value, d.quality)).collect();
    let known = |v: &str, quality| (Some(amount(v)), quality);
    assert_eq!(days[..2], [known("24", Quality::Derived), known("48", Quality::Derived)]);
    assert!(days[2..].iter().all(|day| day.0.is_none()), "and where both are silent nobody knows: {days:?}");
    let slots = level(&usage, Level::Slot);
    assert_eq!((slots.len(), slots[20].method), (40, Some(Method::Twin)));
    // When its own reading comes, that counts.
    case = case.readings([reading(start.plus_seconds(40 * 3600), "172.5", 0)]);
    let usage = case.run();
    assert_eq!(total(&usage), amount("72.5"));
    // And interval use alike.
    let mut case = intervals(start, [Some("1"); 8]).with(|i, _| i.installed_at = Some(start));
    case.to = at("2026-07-08");
    let twin = (1..=12).map(|n| reading(start.plus_seconds(3600 * n), "2", 0));
    let usage = case.twin(twin).run();
    assert_eq!(uses_of(&usage)[6..].to_vec(), ["1", "1", "2", "2", "2", "2"].map(|v| amount(v).to_string()));
}

#[test]
fn e15_in_a_storm_nothing_is_estimated_and_then_all_is() {
    let mut case = five_weeks();
    let estimated = case.run();
    case.suspended = Some(at("2026-06-08 09:00"));
    let usage = case.run();
    assert_eq!(filled(&usage), [(None, Quality::Missing, None); 5]);
    assert!(evidence(&usage).ends_with("; nothing is estimated while so much of the area is silent"));
    let day = level(&usage, Level::Day).into_iter().find(|day| day.start == at("2026-06-08")).unwrap();
    assert_eq!((day.value, day.quality), (None, Quality::Missing));
    case.suspended = Some(at("2026-06-09"));
    assert_eq!(case.run().spans, estimated.spans, "what lies before the storm is estimated as ever");

    // A register alike, though it tells the total; what is no estimate stays.
    let start = at("2026-07-06");
    let gap = |row: &Reading| !(at("2026-07-07 10:30")..at("2026-07-07 20:30")).contains(&row.ts);
    let rows: Vec<_> = hourly(start, "0", &["1"; 72]).into_iter().filter(gap).collect();
    let mut case = Case::electricity().meter(&[]).readings(rows.clone());
    let estimated = case.run();
    case.suspended = Some(at("2026-07-07 10:00"));
    let usage = case.run();
    assert_eq!(filled(&usage), [(None, Quality::Missing, None); 11]);
    let days = level(&usage, Level::Day);
    assert_eq!(days.iter().map(|d| d.value).collect::<Vec<_>>(), [Some(amount("24")), None, Some(amount("24"))]);
    assert_eq!(usage.wholes.len(), estimated.wholes.len(), "the register's days still stand behind interval use");
    let mut still = rows.clone();
    still
        .iter_mut()
        .filter(|row| row.ts > at("2026-07-07 12:00"))
        .for_each(|row| row.value = row.value.checked_sub(amount("11")).unwrap());
    let unmoved = Case { suspended: case.suspended, ..Case::electricity().meter(&[]).readings(still) };
    assert!(
        filled(&unmoved.run()).iter().all(|(value, ..)| *value == Some(Amount::ZERO)),
        "an unmoved register is no estimate"
    );
    let mut by_twin = case.clone().twin(hourly(start, "0", &["1"; 72]));
    assert!(
        filled(&by_twin.run())
            .iter()
            .all(|(value, _, method)| (*value, *method) == (Some(amount("1")), Some(Method::Twin)))
    );
    by_twin.outages = vec![(at("2026-07-07 10:00"), at("2026-07-07 12:00"))];
    by_twin.twins.clear();
    assert_eq!(filled(&by_twin.run())[3].2, None, "and E0 alone does not make the rest known");
}

/// Interval use with holes, weather, a profile and a check meter.
fn holes() -> impl Strategy<Value = Vec<Option<i64>>> {
    prop::collection::vec(prop_oneof![8 => (0_i64..900).prop_map(Some), 3 => Just(None)], 60..400)
}

fn three_hourly(values: &[Option<i64>]) -> Case {
    let start = at("2016-09-30");
    let rows = values.iter().zip(1_i64..).filter_map(|(value, n)| {
        let row = reading(start.plus_seconds(10_800 * n), "0", 0);
        Some(Reading { value: Amount::from_scaled((*value)?, 3).unwrap(), ..row })
    });
    let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]).readings(rows);
    case = case.with(|_, c| c.interval_s = 10_800);
    let day = CivilDay::parse("2016-09-01").unwrap();
    case.temperatures = Some(Temperatures::new((0..90).map(|n| (day.plus_days(n), (n * 7919) % 30_000))));
    case.profile = Some(profile(Some("5")));
    case
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_estimate_is_an_ancestor_of_an_estimate(values in holes(), order in any::<bool>()) {
        let case = three_hourly(&values);
        let mut shapes = Shape::ALL.to_vec();
        if order { shapes.reverse(); }
        let rules = UsageRules { shapes, ..UsageRules::default() };
        let usage = case.run_by(&rules);
        check_closure(&usage);
        // What an estimate says, a reading of it in its place teaches: all others stay, since none learned from it.
        let slots = level(&usage, Level::Slot);
        let Some(estimate) = slots.iter().rev().find(|s| s.quality.is_estimate()) else { return Ok(()) };
        let earlier: Vec<_> = slots.iter().filter(|s| s.start < estimate.start).map(|s| (s.start, s.value)).collect();
        let mut more = case.clone();
        more.meters[0].2.push(Reading { ts: estimate.end, value: amount("900"), ..reading(estimate.end, "0", 0) });
        let after = more.run_by(&rules);
        let same: Vec<_> = level(&after, Level::Slot).iter().filter(|s| s.start < estimate.start && s.method != Some(Method::Linear)).map(|s| (s.start, s.value)).collect();
        // A gap that it splits may become short enough for a straight line, and nothing else changes before it.
        prop_assert!(same.iter().all(|slot| earlier.contains(slot)));
        // Taking all that was estimated out of the input, or leaving it in as nothing, is the same.
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let read: BTreeSet<String> = slots.iter().filter(|s| s.quality.feeds_history()).map(|s| zone.day_of(s.start).to_string()).collect();
        for slot in slots.iter().filter(|s| s.quality.is_estimate()) {
            let text = slot.evidence.as_deref().unwrap();
            let days = text.split_once("; like days ").map_or("", |(_, days)| days.split(';').next().unwrap());
            for day in days.split(", ").filter(|day| !day.is_empty()) {
                prop_assert!(read.contains(day), "{day} has a slot that was read");
            }
        }
    }

    #[test]
    fn a_worse_reading_of_a_check_meter_changes_no_value_that_was_read(values in holes(), at_slot in any::<prop::sample::Index>()) {
        let case = three_hourly(&values);
        let place = 1 + i64::try_from(at_slot.index(values.len())).unwrap();
        let ts = at("2016-09-30").plus_seconds(10_800 * place);
        let usage = case.run();
        for worse in ["-1", "5000000"] {
            let with = case.clone().with(|_, c| c.capacity_per_hour = Some(amount("100"))).twin([reading(ts, worse, 0)]);
            let mut without = with.clone();
            without.twins.clear();
            prop_assert_eq!(with.run().spans, without.run().spans, "what cannot be says nothing");
        }
        let twin = case.clone().twin([reading(ts, "0.5", 0)]).run();
        for (before, after) in level(&usage, Level::Slot).iter().zip(level(&twin, Level::Slot)) {
            prop_assert!(before.quality < Quality::Derived || before.value == after.value, "{before:?} {after:?}");
            prop_assert!(after.quality >= before.quality);
        }
    }
}
