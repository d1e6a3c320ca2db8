//! A walk that is taken up at an anchor gives what the walk from the installation on gives, also when readings came late.

use proptest::prelude::*;

use super::super::{Border, Start};
use super::*;

/// One month after the other, some of them without a reading.
fn borders(from: Timestamp, days: i32) -> Vec<Timestamp> {
    let zone = Zone::utc();
    let mut day = zone.day_of(from).plus_days(3);
    (0..days / 9)
        .map(|_| {
            day = day.plus_days(9);
            zone.start_of_day(day)
        })
        .collect()
}

/// Days of a meter: steps between readings in minutes, their use, and now and then something wrong.
type Step = (i64, i64, u8);

fn steps(days: usize) -> impl Strategy<Value = Vec<Step>> {
    let minutes = prop_oneof![30 => 170_i64..190, 2 => 60_i64..1200, 1 => 3000_i64..40_000];
    let wrong = prop_oneof![24 => Just(0_u8), 8 => 1_u8..12];
    prop::collection::vec((minutes, 0_i64..900, wrong), days * 8)
}

fn readings(start: Timestamp, steps: &[Step], interval: bool) -> Vec<Reading> {
    let (mut ts, mut total, mut shift) = (start, 9_700_000_i64, 0_i64);
    let mut rows = Vec::new();
    let fold = Timestamp::parse_rfc3339("2016-10-30T00:00:00Z").unwrap();
    for (n, (minutes, used, wrong)) in steps.iter().enumerate() {
        let at = if interval { ts } else { ts.plus_seconds(i64::try_from(n % 5).unwrap()) };
        let n = i64::try_from(n).unwrap();
        let value = if interval { *used } else { (total + shift).rem_euclid(10_000_000) };
        // A feed without an offset shows two hours as one when the clock is put back.
        let second = at > fold.plus_seconds(3600);
        let folded = !interval && at >= fold && at < fold.plus_seconds(7200);
        let at = if folded && second { at.plus_seconds(-3600) } else { at };
        let flags = if folded { ReadingFlags::AMBIGUOUS_LOCAL_TIME } else { ReadingFlags::NONE };
        let row = |value: i64, ts: Timestamp, revision| Reading {
            ts,
            received_at_s: ts.unix_seconds() + i64::from(revision),
            revision,
            value: Amount::from_scaled(value, 3).unwrap(),
            flags,
        };
        match wrong {
            1 => rows.push(row(value - 7, at, 0)),
            2 => rows.push(row((value - 90_000).max(0), at, 0)),
            3 => rows.push(row(value + 3_000_000, at, 0)),
            4 => shift -= 400_000,
            5 => shift += 400_000,
            6 => rows.extend([row(value, at, 0), row(value + 55, at, 1)]),
            7 => rows.push(row(-5, at, 0)),
            8 if n % 3 == 0 => shift = 0,
            9 => rows.push(Reading { flags: ReadingFlags::TEST_MODE, ..row(value + 2_000_000, at, 0) }),
            10 => rows.push(Reading { flags: flags.with(ReadingFlags::OVERFLOW), ..row(value, at, 0) }),
            _ => rows.push(row(value, at, 0)),
        }
        ts = ts.plus_seconds(if interval { (minutes / 180).max(1) * 10_800 } else { minutes * 60 });
        total += used;
    }
    rows
}

fn seen(borders: &[Border], from: Timestamp) -> Vec<Border> {
    borders.iter().filter(|border| border.ts >= from).copied().collect()
}

/// Derives from scratch and from each anchor that the late readings leave, and compares. What comes behind the first `known`
/// percent of the readings is late, too. Gives the number of walks that were taken up.
fn check(mut case: Case, late: &[bool], known: usize) -> usize {
    let (all, all_twins) = (case.meters.clone(), case.twins.clone());
    let mut newest_late: Option<Timestamp> = None;
    let mut first_late: Option<Timestamp> = None;
    for (_, _, rows) in case.meters.iter_mut().chain(&mut case.twins) {
        let mut kept = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            if late[n % late.len()] && n % 7 == 3 || n * 100 >= rows.len() * known {
                newest_late = newest_late.max(Some(row.ts));
                first_late = Some(first_late.map_or(row.ts, |ts| ts.min(row.ts)));
            } else {
                kept.push(*row);
            }
        }
        *rows = kept;
    }
    let before = case.run();
    case.meters = all;
    case.twins = all_twins;
    let mut taken_up = 0;
    for border in &before.borders {
        // What starts before a border that is closed is as it was.
        let still = |after: &PointUsage| {
            let old = |s: &&Span| s.start < border.ts;
            assert_eq!(
                before.spans.iter().filter(old).collect::<Vec<_>>(),
                after.spans.iter().filter(old).collect::<Vec<_>>(),
                "closed at {:?}, late from {first_late:?}",
                border.closed_at
            );
            let old = |f: &&Finding| f.start < border.ts;
            assert_eq!(
                before.findings.iter().filter(old).collect::<Vec<_>>(),
                after.findings.iter().filter(old).collect::<Vec<_>>(),
                "closed at {:?}, late from {first_late:?}",
                border.closed_at
            );
        };
        if border.closed_at.zip(first_late).is_some_and(|(closed, late)| closed < late) {
            still(&case.run());
        }
        let Start::Anchor(anchor) = border.start else { continue };
        if first_late.is_some_and(|late| late <= anchor.settled_at) {
            continue;
        }
        let from = border.ts.plus_seconds(6 * 86_400);
        let mut whole = case.clone();
        whole.from = from;
        let mut resumed = whole.clone();
        resumed.anchor = Some(anchor);
        for (_, _, rows) in &mut resumed.twins {
            // What lies before is not read.
            rows.retain(|row| row.ts >= anchor.ts);
        }
        let mut everything = case.clone();
        everything.from = at("2000-01-01");
        let (whole, resumed) = (whole.run(), resumed.run());
        assert!(!whole.short);
        let cut: Vec<Span> = everything.run().spans.into_iter().filter(|span| span.start >= from).collect();
        assert_eq!(whole.spans, cut, "a part of the time is as the same part of all of it");
        if resumed.short {
            continue;
        }
        taken_up += 1;
        assert_eq!(resumed.spans, whole.spans, "anchor {anchor:?}");
        assert_eq!(resumed.findings, whole.findings, "anchor {anchor:?}");
        assert_eq!(seen(&resumed.borders, from), seen(&whole.borders, from), "anchor {anchor:?}");
        let late_wholes = |usage: &PointUsage| {
            usage.wholes.iter().filter(|w| w.start >= from.plus_seconds(-86_400)).copied().collect::<Vec<_>>()
        };
        assert_eq!(late_wholes(&resumed), late_wholes(&whole));
    }
    taken_up
}

/// A check meter that heard most of what the meter did not, and some of its faults; weather, a profile and few like days.
fn with_aids(mut case: Case, rows: Vec<Reading>) -> Case {
    let (_, channel, mine) = case.meters[0].clone();
    let mut own = mine.iter().enumerate().filter(|(n, _)| n % 11 != 5).map(|(_, row)| row.ts).collect::<Vec<_>>();
    own.sort_unstable();
    // Between readings that are far apart the twin has more.
    let mut twin: Vec<Reading> = rows;
    for pair in own.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let steps = to.micros_since(from) / 1_000_000 / channel.interval_s;
        let Some(first) = mine.iter().find(|row| row.ts == from).filter(|_| (2..60).contains(&steps)) else { continue };
        for n in 1..steps {
            let value = if channel.channel.kind() == meterlake_model::ChannelKind::Interval {
                n
            } else {
                first.value.micros() / 1000 + n
            };
            let ts = from.plus_seconds(n * channel.interval_s);
            twin.push(Reading { ts, value: Amount::from_scaled(value, 3).unwrap(), ..*first });
        }
    }
    case = case.twin(twin);
    let day = CivilDay::parse("2016-08-01").unwrap();
    case.temperatures = Some(Temperatures::new((0..500).map(|n| (day.plus_days(n), (n * 7919) % 30_000))));
    case.profile = Some(profile(Some("5")));
    case
}

/// One step in the day from 18 to 20 weighs three times the others; a Sunday weighs twice.
pub(crate) fn profile(daily: Option<&str>) -> LoadProfile {
    let day =
        |times: i64| (0..24).map(|hour| times * if (18..20).contains(&hour) { 3 } else { 1 }).collect::<Vec<i64>>();
    let weights = std::array::from_fn(|_| [day(1), day(1), day(2)]);
    let profile = LoadProfile::new("homes".into(), Commodity::Electricity, Vec::new(), weights).unwrap();
    profile.with_daily_use(daily.map(amount))
}

fn cases() -> u32 {
    // The long form: METERLAKE_ANCHOR_CASES=20000.
    std::env::var("METERLAKE_ANCHOR_CASES").map_or(12, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn rule_6_a_register_walked_from_an_anchor_is_the_register_walked_from_the_installation(
        steps in steps(120),
        late in prop::collection::vec(prop::bool::weighted(0.02), 1..97),
        multiplier in prop_oneof![Just(1_000_000_i64), Just(40_000_000), Just(333_333)],
        digits in prop::option::of(Just(4_u8)),
        capacity in prop::option::of(Just(20_i64)),
        dates in any::<(bool, bool)>(),
        electricity in any::<bool>(),
        beside in any::<bool>(),
        known in 30_usize..=100,
    ) {
        let start = at("2016-09-02 00:17");
        let rows = readings(start, &steps, false);
        let base = if electricity { Case::electricity() } else { Case::water() };
        let mut case = base.meter(&[]).readings(rows.clone()).with(|i, c| {
            c.multiplier_micros = multiplier;
            c.digits = digits;
            c.interval_s = 10_800;
            c.capacity_per_hour = capacity.and_then(|c| Amount::from_scaled(c, 0).ok());
            i.installed_at = dates.0.then(|| start.plus_seconds(-86_400));
            i.removed_at = dates.1.then(|| rows[rows.len() - 1].ts.plus_seconds(7200));
        });
        case.borders = borders(start, 200);
        case.to = at("2018-01-01");
        if beside { case = with_aids(case, readings(start, &steps, false)); }
        case.outages = vec![(start.plus_seconds(40 * 86_400), start.plus_seconds(40 * 86_400 + 30_000))];
        check(case, &late, known);
    }

    #[test]
    fn rule_6_intervals_derived_from_an_anchor_are_those_derived_from_the_installation(
        steps in steps(60),
        late in prop::collection::vec(prop::bool::weighted(0.02), 1..97),
        dates in any::<(bool, bool)>(),
        known in 30_usize..=100,
        off in prop_oneof![3 => Just(0_i64), 1 => Just(3600)],
        beside in any::<bool>(),
    ) {
        let start = at("2016-09-02").plus_seconds(off);
        let rows = readings(start, &steps, true);
        let mut case = Case::new(Commodity::Electricity, "energy_import_delta_kwh").meter(&[]).readings(rows.clone());
        case = case.with(|i, c| {
            c.interval_s = 10_800;
            i.installed_at = dates.0.then(|| start.plus_seconds(-86_400));
            i.removed_at = dates.1.then(|| rows[rows.len() - 1].ts.plus_seconds(7200));
        });
        case.borders = borders(start, 150);
        case.to = at("2018-01-01");
        if beside { case = with_aids(case, readings(start, &steps, true)); }
        check(case, &late, known);
    }
}

#[test]
fn most_walks_are_taken_up_at_the_anchor_before() {
    // Otherwise the properties above would hold of nothing.
    let start = at("2016-09-02 00:17");
    let steady: Vec<Step> = (0..1600).map(|n| (180, 100 + n % 70, u8::from(n % 50 == 49))).collect();
    let mut case = Case::water().meter(&[]).readings(readings(start, &steady, false));
    case = case.with(|_, c| c.interval_s = 10_800);
    case.borders = borders(start, 190);
    case.to = at("2018-01-01");
    let late: Vec<bool> = (0..1600).map(|n| n > 1400).collect();
    let borders = case.borders.len();
    let taken_up = check(case, &late, 100);
    assert!(taken_up + 5 > borders, "{taken_up} of {borders}");
}
