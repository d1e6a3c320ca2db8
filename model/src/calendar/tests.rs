//! Worked cases by their ids, the proof's faults, and every civil day of every zone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SLOT_US: i64 = 15 * 60 * 1_000_000;

fn ts(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

fn rule(days: DayKinds, minutes: (u16, u16), bucket: Bucket) -> CalendarRule {
    CalendarRule::new(days, MonthDays::all(), minutes, bucket)
}

fn h(hour: u16) -> u16 {
    hour * 60
}

/// Peak on workdays from 8 to 22 o'clock, valley else.
fn workday_peak(zone: &str) -> CalendarPlan {
    let mut plan = CalendarPlan::new("home", Zone::parse(zone).unwrap(), ["valley", "peak"]);
    plan.default = Some(0);
    plan.rules = vec![rule(DayKinds::workdays(), (h(8), h(22)), 1)];
    plan
}

/// D02: sharp outranks peak in its months.
fn shanghai() -> CalendarPlan {
    let mut plan = CalendarPlan::new("cn", Zone::parse("Asia/Shanghai").unwrap(), ["sharp", "peak", "flat", "valley"]);
    plan.default = Some(2);
    plan.rules = vec![
        rule(DayKinds::all(), (h(23), h(7)), 3),
        rule(DayKinds::all(), (h(8), h(11)), 1),
        rule(DayKinds::all(), (h(17), h(22)), 1),
        CalendarRule {
            priority: 1,
            ..CalendarRule::new(DayKinds::all(), MonthDays::months([7, 8, 12, 1]), (h(18), h(20)), 0)
        },
    ];
    plan
}

/// Hours of each bucket of a civil day, in quarters of an hour, and the number of slots.
fn quarters(calendar: &Calendar, of: &str, point: Option<&UsagePointId>) -> (BTreeMap<String, i64>, i64) {
    let (start, end) = calendar.zone().span_of_day(day(of));
    let mut counts = BTreeMap::new();
    let (mut at, mut slots) = (start, 0);
    let mut walk = calendar.walk(point);
    while at < end {
        let next = at.plus_micros(SLOT_US).min(end);
        for slice in walk.between(at, next) {
            let name = calendar.bucket_name(slice.bucket.unwrap()).to_owned();
            *counts.entry(name).or_insert(0) += slice.end.micros_since(slice.start) / SLOT_US;
            assert_eq!(calendar.bucket_at(slice.start, point), slice.bucket);
        }
        slots += 1;
        at = next;
    }
    (counts, slots)
}

fn check(calendar: &Calendar, of: &str, expected: &[(&str, i64)]) {
    let hours = quarters(calendar, of, None).0.into_iter().map(|(name, n)| (name, n / 4));
    let expected = expected.iter().map(|(name, hours)| ((*name).to_owned(), *hours));
    assert_eq!(hours.collect::<BTreeMap<_, _>>(), expected.collect(), "{of}");
}

#[test]
fn c01_c02_hours_that_a_zone_skips_or_repeats_are_in_the_bucket_that_the_wall_shows() {
    let calendar = Calendar::prove({
        let mut plan = CalendarPlan::new("m", Zone::parse("Europe/Madrid").unwrap(), ["valley", "day"]);
        plan.rules = vec![rule(DayKinds::all(), (0, h(8)), 0), rule(DayKinds::all(), (h(8), h(24)), 1)];
        plan
    })
    .unwrap();
    check(&calendar, "2016-03-26", &[("valley", 8), ("day", 16)]);
    check(&calendar, "2016-03-27", &[("valley", 7), ("day", 16)]);
    check(&calendar, "2016-10-30", &[("valley", 9), ("day", 16)]);
}

#[test]
fn c05_half_an_hour_of_summer_time_is_two_slots_more_or_less() {
    let calendar = Calendar::prove(workday_peak("Australia/Lord_Howe")).unwrap();
    assert_eq!(quarters(&calendar, "2024-04-07", None).1, 98);
    assert_eq!(quarters(&calendar, "2024-10-06", None).1, 94);
}

#[test]
fn c06_a_day_that_a_zone_left_out_has_no_slot_and_one_without_midnight_begins_at_one() {
    let apia = Calendar::prove(workday_peak("Pacific/Apia")).unwrap();
    assert_eq!(quarters(&apia, "2011-12-30", None), (BTreeMap::new(), 0));
    let calendar = Calendar::prove(workday_peak("America/Sao_Paulo")).unwrap();
    assert_eq!(quarters(&calendar, "2018-11-04", None).1, 92);
    assert_eq!(calendar.zone().local_text(calendar.zone().start_of_day(day("2018-11-04"))), "2018-11-04T01:00:00");
    check(&calendar, "2018-11-04", &[("valley", 23)]);
    check(&calendar, "2018-11-05", &[("valley", 10), ("peak", 14)]);
}

#[test]
fn d01_a_holiday_is_valley_all_day() {
    let mut plan = workday_peak("Europe/Madrid");
    plan.holidays.insert(day("2026-05-01"), "labour_day".to_owned());
    plan.holiday = HolidayMeans::Bucket(0);
    let calendar = Calendar::prove(plan).unwrap();
    check(&calendar, "2026-04-30", &[("valley", 10), ("peak", 14)]);
    check(&calendar, "2026-05-01", &[("valley", 24)]);
}

#[test]
fn d02_four_buckets_of_a_summer_day_in_shanghai_add_up_to_24() {
    let calendar = Calendar::prove(shanghai()).unwrap();
    check(&calendar, "2026-07-15", &[("valley", 8), ("sharp", 2), ("peak", 6), ("flat", 8)]);
    check(&calendar, "2026-04-15", &[("valley", 8), ("peak", 8), ("flat", 8)]);
}

#[test]
fn d03_a_border_within_an_hour_cuts_it_there() {
    let mut plan = workday_peak("Europe/Madrid");
    plan.rules[0].minutes = (h(8) + 30, h(22));
    let calendar = Calendar::prove(plan).unwrap();
    let (start, end) = (ts("2026-04-30T06:00:00Z"), ts("2026-04-30T07:00:00Z"));
    let parts: Vec<_> = calendar.walk(None).between(start, end).collect();
    let half = ts("2026-04-30T06:30:00Z");
    assert_eq!(
        parts,
        [BucketSlice { start, end: half, bucket: Some(0) }, BucketSlice { start: half, end, bucket: Some(1) }]
    );
}

#[test]
fn d16_an_event_takes_its_hours_from_the_others() {
    let mut plan = workday_peak("Europe/Madrid");
    plan.buckets.push("critical".to_owned());
    let point = UsagePointId::new("E1").unwrap();
    plan.events.push(CalendarEvent {
        from: ts("2026-07-15T14:00:00+02:00"),
        to: ts("2026-07-15T18:00:00+02:00"),
        bucket: 2,
        points: Some([point.clone()].into()),
    });
    let calendar = Calendar::prove(plan).unwrap();
    let hours = |point| quarters(&calendar, "2026-07-15", point).0;
    assert_eq!(
        hours(Some(&point)),
        [("critical", 16), ("peak", 40), ("valley", 40)].map(|(n, q)| (n.to_owned(), q)).into()
    );
    assert_eq!(hours(None), [("peak", 56), ("valley", 40)].map(|(n, q)| (n.to_owned(), q)).into());
}

#[test]
fn a_weekend_day_that_is_worked_is_a_workday_and_an_event_outranks_a_holiday() {
    let mut plan = workday_peak("Asia/Shanghai");
    plan.years = Some([2026].into());
    plan.working_days.insert(day("2026-05-09"));
    plan.holidays.insert(day("2026-05-01"), "labour_day".to_owned());
    plan.holidays.insert(day("2026-10-01"), "national_day".to_owned());
    plan.holiday = HolidayMeans::Weekday(6);
    plan.buckets.extend(["deep".to_owned(), "critical".to_owned()]);
    let deep = DayKinds { holidays: ["national_day".to_owned()].into(), ..DayKinds::default() };
    plan.rules.push(rule(deep, (h(11), h(14)), 2));
    let (from, to) = (ts("2026-10-01T12:00:00+08:00"), ts("2026-10-01T13:00:00+08:00"));
    plan.events.push(CalendarEvent { from, to, bucket: 3, points: None });
    let calendar = Calendar::prove(plan).unwrap();
    check(&calendar, "2026-05-09", &[("valley", 10), ("peak", 14)]);
    check(&calendar, "2026-05-16", &[("valley", 24)]);
    check(&calendar, "2026-05-01", &[("valley", 24)]);
    check(&calendar, "2026-10-01", &[("valley", 21), ("deep", 2), ("critical", 1)]);
    assert_eq!(calendar.bucket_at(ts("2027-01-01T12:00:00+08:00"), None), None, "outside its years nothing is known");
    let over: Vec<_> =
        calendar.walk(None).between(ts("2026-12-31T23:00:00+08:00"), ts("2027-01-01T01:00:00+08:00")).collect();
    assert_eq!(over.iter().map(|slice| slice.bucket).collect::<Vec<_>>(), [Some(0), None]);
}

#[test]
fn every_fault_of_a_plan_is_told_at_once_with_its_place() {
    let mut plan = shanghai();
    plan.default = None;
    plan.buckets.push("peak".to_owned());
    plan.rules[3].priority = 0;
    let unknown = DayKinds { holidays: ["new_yaer".to_owned()].into(), ..DayKinds::default() };
    plan.rules.push(rule(unknown, (0, 0), 9));
    let at = ts("2026-07-15T14:00:00Z");
    for (from, to) in [(0, 7200), (3600, 3600)] {
        let (from, to) = (at.plus_seconds(from), at.plus_seconds(to));
        plan.events.push(CalendarEvent { from, to, bucket: 0, points: None });
    }
    let faults = Calendar::prove(plan).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.at, fault.with, fault.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (Place::Plan, None, "names bucket `peak` twice"),
            (Place::Rule(4), None, "has no bucket number 9"),
            (Place::Rule(3), Some(Place::Rule(2)), "overlaps another rule of the same priority"),
            (Place::Rule(4), None, "is no stretch of a day: from 00:00 to 24:00 is possible"),
            (Place::Rule(4), None, "names a holiday `new_yaer` that the calendar does not have"),
            (Place::Event(1), None, "ends before it begins"),
            (Place::Event(1), Some(Place::Event(0)), "overlaps another event of the same usage points"),
            (
                Place::Plan,
                None,
                "has no bucket for 01-01 from 07:00 on Mondays; name it in a rule, or give a `default`"
            ),
        ]
    );
}

#[test]
fn a_season_over_the_end_of_the_year_is_one_season() {
    let mut winter = MonthDays::none();
    assert!(winter.add((11, 15), (2, 29)));
    assert!(!winter.add((2, 30), (3, 1)));
    let mut plan = workday_peak("UTC");
    plan.rules[0].dates = winter;
    plan.rules[0].days = DayKinds::all();
    let calendar = Calendar::prove(plan).unwrap();
    for (at, expected) in
        [("2025-11-14", 0), ("2025-11-15", 1), ("2024-02-29", 1), ("2026-02-28", 1), ("2026-03-01", 0)]
    {
        assert_eq!(calendar.bucket_at(ts(&format!("{at}T12:00:00Z")), None), Some(expected), "{at}");
    }
}

/// Days around which zones are looked at: `METERLAKE_ZONE_YEARS=1970-2037` looks at every day of those years (about
/// 10 minutes), otherwise it is the days around each change of the clock in a few years.
fn days_to_look_at(zone: &Zone) -> BTreeSet<CivilDay> {
    let mut days = BTreeSet::new();
    let years = std::env::var("METERLAKE_ZONE_YEARS").ok();
    let whole = years.as_deref().and_then(|years| {
        let (from, to) = years.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    if let Some((from, to)) = whole {
        let mut at = CivilDay::new(from, 1, 1).unwrap();
        while at.year() <= to {
            days.insert(at);
            at = at.plus_days(1);
        }
        return days;
    }
    for (from, to) in [("2011-12-20", "2012-01-10"), ("2025-01-01", "2025-12-31")] {
        let mut at = zone.start_of_day(day(from));
        while let Some(change) = zone.next_change(at).filter(|change| *change < zone.start_of_day(day(to))) {
            let of = zone.day_of(change);
            days.extend((-1..=1).map(|by| of.plus_days(by)));
            at = change;
        }
    }
    days.extend(["2011-12-30", "2026-07-04"].map(day));
    days
}

#[test]
fn every_civil_day_of_every_zone_is_tiled_by_slots_of_one_bucket() {
    let mut looked_at = 0_u64;
    for name in jiff::tz::TimeZoneDatabase::bundled().available() {
        let Ok(zone) = Zone::parse(name.as_str()) else { continue };
        let calendar = Calendar::prove(CalendarPlan { zone: zone.clone(), ..shanghai() }).unwrap();
        let mut walk = calendar.walk(None);
        for of in days_to_look_at(&zone) {
            let (start, end) = zone.span_of_day(of);
            let mut at = start;
            while at < end {
                let next = at.plus_micros(SLOT_US).min(end);
                let mut reached = at;
                for slice in walk.between(at, next) {
                    assert_eq!(slice.start, reached, "{zone:?} {of}: slices tile the slot");
                    assert!(slice.end > slice.start);
                    let last = slice.end.plus_micros(-1);
                    for ts in [slice.start, last] {
                        assert_eq!(calendar.bucket_at(ts, None), slice.bucket, "{zone:?} {ts}");
                    }
                    // By hand, from the wall clock alone.
                    let hour = zone.hour_of(slice.start);
                    let expected = match hour {
                        23 | 0..=6 => 3,
                        18 | 19 if [1, 7, 8, 12].contains(&zone.day_of(slice.start).month()) => 0,
                        8..=10 | 17..=21 => 1,
                        _ => 2,
                    };
                    assert_eq!(slice.bucket, Some(expected), "{zone:?} {}", slice.start);
                    reached = slice.end;
                    looked_at += 1;
                }
                assert_eq!(reached, next, "{zone:?} {of}");
                at = next;
            }
            assert_eq!(at, end.max(start));
        }
    }
    assert!(looked_at > 100_000, "{looked_at}");
}
