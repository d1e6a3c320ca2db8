//! Worked cases by their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meterlake_model::calendar::{
    Calendar, CalendarEvent, CalendarPlan, CalendarRule, DayKinds, HolidayMeans, MonthDays,
};
use meterlake_model::determinant::{
    Peak, PowerFactorStandard, Ratchet, Rounding, UnmeteredItem, UnmeteredLoad, Window, Within,
};
use meterlake_model::formula::{Formula, Name};
use meterlake_model::{MeterId, Method};

use super::*;
use crate::billing::{BillingRead, BoundaryRead, CyclePart, ReadState};
use crate::usage::Level;

pub(super) const MADRID: &str = "Europe/Madrid";

pub(super) fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

pub(super) fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

fn ts(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub(super) fn energy() -> Channel {
    Channel::by_name("energy_import_kwh").unwrap()
}

/// A cycle with its own point and zone.
pub(super) struct Place {
    point: UsagePointId,
    pub(super) zone: Zone,
    pub(super) days: (CivilDay, CivilDay),
}

impl Place {
    pub(super) fn new(zone: &str, first: &str, end: &str) -> Self {
        let point = UsagePointId::new("E1").unwrap();
        Self { point, zone: Zone::parse(zone).unwrap(), days: (day(first), day(end)) }
    }

    pub(super) fn cycle(&self) -> Cycle<'_> {
        Cycle { point: &self.point, zone: &self.zone, start_day: self.days.0, end_day: self.days.1 }
    }
}

pub(super) fn span(start: Timestamp, end: Timestamp, value: Option<Amount>, quality: Quality) -> Span {
    Span {
        level: Level::Slot,
        start,
        end,
        value,
        quality,
        method: None,
        estimated: Amount::ZERO,
        start_register: None,
        end_register: None,
        installation: 0,
        evidence: None::<Arc<str>>,
        parts: None,
    }
}

/// Slots of one length from an instant on.
pub(super) fn slots(from: Timestamp, minutes: i64, values: &[&str]) -> Vec<Span> {
    let at = |n: usize| from.plus_seconds(i64::try_from(n).unwrap() * minutes * 60);
    let slot = |(n, text): (usize, &&str)| span(at(n), at(n + 1), Some(amount(text)), Quality::Valid);
    values.iter().enumerate().map(slot).collect()
}

/// One kWh an hour on every day of the cycle.
fn hourly(place: &Place) -> Vec<Span> {
    let (start, end) = place.cycle().span();
    let hours = usize::try_from(end.micros_since(start) / 3_600_000_000).unwrap();
    slots(start, 60, &vec!["1"; hours])
}

pub(super) fn energy_slots(spans: &[Span]) -> Slots<'_> {
    Slots { channel: energy(), spans, step: amount("0.001") }
}

pub(super) fn rounding() -> Rounding {
    Rounding::default()
}

pub(super) fn rule(days: DayKinds, hours: (u16, u16), bucket: u16) -> CalendarRule {
    CalendarRule::new(days, MonthDays::all(), (hours.0 * 60, hours.1 * 60), bucket)
}

pub(super) fn workday_peak() -> CalendarPlan {
    let mut plan = CalendarPlan::new("home", Zone::parse(MADRID).unwrap(), ["valley", "peak"]);
    plan.default = Some(0);
    plan.rules = vec![rule(DayKinds::workdays(), (8, 22), 1)];
    plan
}

fn prove(plan: CalendarPlan) -> Calendar {
    Calendar::prove(plan).unwrap()
}

pub(super) fn values(figures: &[Figure]) -> BTreeMap<&str, String> {
    let text = |value: Amount| {
        let text = value.to_string();
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    figures.iter().map(|figure| (figure.part.as_str(), figure.value.map_or("-".to_owned(), text))).collect()
}

fn expected(of: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    of.iter().map(|(part, value)| (*part, (*value).to_owned())).collect()
}

fn codes(figures: &[Figure]) -> BTreeSet<&str> {
    figures.iter().flat_map(|figure| figure.notes.iter().map(|note| note.code)).collect()
}

fn used(place: &Place, calendar: &Calendar) -> Vec<Figure> {
    let spans = hourly(place);
    let whole = Amount::sum(spans.iter().filter_map(|span| span.value));
    by_bucket(&place.cycle(), &energy_slots(&spans), calendar, &[], whole, rounding())
}

#[test]
fn c01_c02_days_of_23_and_25_hours_are_billed_by_the_hours_that_they_have() {
    let mut plan = workday_peak();
    plan.rules = vec![rule(DayKinds::all(), (8, 24), 1)];
    let calendar = prove(plan);
    for (month, of, slots_of_day, valley, hours) in
        [("2016-03-01", "2016-03-27", 23, "14", 743), ("2016-10-01", "2016-10-30", 25, "18", 745)]
    {
        let end = day(of).plus_days(1).to_string();
        let place = Place::new(MADRID, of, &end);
        let (start, _) = place.cycle().span();
        let spans = slots(start, 60, &vec!["2.0"; slots_of_day]);
        let figures = by_bucket(&place.cycle(), &energy_slots(&spans), &calendar, &[], None, rounding());
        assert_eq!(values(&figures), expected(&[("valley", valley), ("peak", "32")]));
        let whole = Place::new(MADRID, month, &day(month).plus_months(1).to_string());
        assert_eq!(hourly(&whole).len(), hours);
    }
}

#[test]
fn d01_a_workday_has_14_hours_of_peak_and_a_holiday_none() {
    let mut plan = workday_peak();
    plan.holidays.insert(day("2026-05-01"), "labour_day".to_owned());
    plan.holiday = HolidayMeans::Bucket(0);
    let calendar = prove(plan);
    let thursday = used(&Place::new(MADRID, "2026-04-30", "2026-05-01"), &calendar);
    assert_eq!(values(&thursday), expected(&[("peak", "14"), ("valley", "10")]));
    let friday = used(&Place::new(MADRID, "2026-05-01", "2026-05-02"), &calendar);
    assert_eq!(values(&friday), expected(&[("peak", "0"), ("valley", "24")]));
    assert!(codes(&friday).is_empty());
}

#[test]
fn d02_sharp_peak_flat_and_valley_of_a_day_in_shanghai() {
    let mut plan = CalendarPlan::new("cn", Zone::parse("Asia/Shanghai").unwrap(), ["sharp", "peak", "flat", "valley"]);
    plan.default = Some(2);
    plan.rules = vec![
        rule(DayKinds::all(), (23, 7), 3),
        rule(DayKinds::all(), (8, 11), 1),
        rule(DayKinds::all(), (17, 22), 1),
        CalendarRule { priority: 1, ..rule(DayKinds::all(), (18, 20), 0) },
    ];
    let figures = used(&Place::new("Asia/Shanghai", "2026-07-15", "2026-07-16"), &prove(plan));
    assert_eq!(values(&figures), expected(&[("valley", "8"), ("sharp", "2"), ("peak", "6"), ("flat", "8")]));
}

#[test]
fn d03_an_hour_across_a_border_is_cut_by_time_and_derived() {
    let mut plan = workday_peak();
    plan.rules[0].minutes = (8 * 60 + 30, 22 * 60);
    let place = Place::new(MADRID, "2026-04-30", "2026-05-01");
    let spans = slots(ts("2026-04-30T06:00:00Z"), 60, &["10.000"]);
    let figures = by_bucket(&place.cycle(), &energy_slots(&spans), &prove(plan), &[], None, rounding());
    assert_eq!(values(&figures), expected(&[("valley", "5"), ("peak", "5")]));
    assert!(figures.iter().all(|figure| figure.quality == Quality::Derived));
    assert_eq!(codes(&figures), ["V04"].into());
}

#[test]
fn buckets_of_a_cycle_with_a_hole_are_no_whole() {
    let figures = not_whole(used(&Place::new(MADRID, "2026-04-30", "2026-05-01"), &prove(workday_peak())));
    assert_eq!(values(&figures), expected(&[("peak", "-"), ("valley", "-")]));
    assert!(figures.iter().all(|figure| figure.notes.iter().any(|note| note.code == "missing" && note.holds)));
    assert!(figures.iter().all(|figure| figure.quality == Quality::Missing));
}

/// Three hours in three buckets.
fn three() -> (Place, Calendar) {
    let mut plan = CalendarPlan::new("three", Zone::utc(), ["peak", "flat", "valley"]);
    plan.default = Some(2);
    plan.rules = vec![rule(DayKinds::all(), (0, 1), 0), rule(DayKinds::all(), (1, 2), 1)];
    (Place::new("UTC", "2026-04-30", "2026-05-01"), prove(plan))
}

fn closed(of: &[&str], whole: &str) -> Vec<Figure> {
    let (place, calendar) = three();
    let spans = slots(place.cycle().span().0, 60, of);
    by_bucket(&place.cycle(), &energy_slots(&spans), &calendar, &[], Some(amount(whole)), rounding())
}

#[test]
fn d04_what_is_missing_to_the_register_goes_to_the_largest_bucket() {
    let figures = closed(&["10.333", "20.333", "29.333"], "60.000");
    assert_eq!(values(&figures), expected(&[("peak", "10.333"), ("flat", "20.333"), ("valley", "29.334")]));
    assert!(codes(&figures).is_empty());
}

#[test]
fn d05_beyond_tolerance_the_register_carries_the_total_and_the_slots_the_shape() {
    let figures = closed(&["29", "29"], "60");
    assert_eq!(values(&figures), expected(&[("peak", "30"), ("flat", "30"), ("valley", "0")]));
    assert!(figures.iter().all(|figure| figure.notes.iter().any(|note| note.code == "V16" && note.holds)));
    assert!(codes(&closed(&["29.8", "29.8"], "60")).is_empty(), "within 1 % it is closed and nothing is said");
}

/// A cycle's read that says this use and nothing else.
fn read(use_amount: Option<&str>, quality: Quality) -> BillingRead {
    let (start, end) = (ts("2026-04-01T00:00:00Z"), ts("2026-05-01T00:00:00Z"));
    let at = |ts, register: &str| BoundaryRead { ts, register: Some(amount(register)), quality };
    let part = use_amount.map(|use_amount| CyclePart {
        meter_id: MeterId::new("M1").unwrap(),
        start: at(start, "100"),
        end: at(end, "101"),
        use_amount: amount(use_amount),
    });
    let parts: Vec<_> = part.into_iter().collect();
    BillingRead {
        start,
        end,
        start_read: parts.first().map(|part| part.start),
        end_read: parts.last().map(|part| part.end),
        use_amount: use_amount.map(amount),
        estimated: Amount::ZERO,
        estimated_share_ppm: 0,
        covered_s: 30 * 86_400,
        days_covered: 30,
        days: 30,
        parts,
        state: ReadState::Ready,
        reasons: Vec::new(),
    }
}

#[test]
fn a15_a_boundary_is_as_read_and_never_multiplied() {
    let read = read(Some("40"), Quality::Valid);
    let figures = boundary(energy(), &read);
    assert_eq!(values(&figures), expected(&[("start", "100"), ("end", "101")]));
    assert_eq!(use_of(energy(), &read, rounding()).value, Some(amount("40")));
}

#[test]
fn b01_an_exchange_shows_all_four_registers() {
    let mut read = read(Some("250"), Quality::Valid);
    let mut second = read.parts[0].clone();
    second.meter_id = MeterId::new("M2").unwrap();
    read.parts.push(second);
    let parts: Vec<_> = boundary(energy(), &read).into_iter().map(|figure| figure.part).collect();
    assert_eq!(parts, ["start", "removed:M1", "installed:M2", "end"]);
}

#[test]
fn d06_tariff_registers_that_miss_the_total_are_held_and_stand_as_read() {
    let (t1, t2) = (read(Some("100.0"), Quality::Valid), read(Some("200.0"), Quality::Valid));
    let channel = |name| Channel::by_name(name).unwrap();
    let reads = [
        ("peak".to_owned(), (channel("energy_import_t1_kwh"), Some(&t1))),
        ("valley".to_owned(), (channel("energy_import_t2_kwh"), Some(&t2))),
    ];
    for (whole, holds) in [("310.0", true), ("303.0", false), ("300.0", false)] {
        let figures = by_register(&reads.clone().into(), Some(amount(whole)), amount("0.001"), rounding());
        assert_eq!(values(&figures), expected(&[("peak", "100"), ("valley", "200")]));
        assert_eq!(codes(&figures).contains("V16"), holds, "{whole}");
    }
}

fn peak(length_min: i64, step_min: i64) -> Peak {
    Peak {
        channel: energy(),
        window: Window { length_s: length_min * 60, step_s: step_min * 60 },
        within: None,
        estimated: false,
        restored: false,
        nth: 1,
        by_day: false,
        ratchet: None,
    }
}

fn a_day() -> Place {
    Place::new("UTC", "2026-04-30", "2026-05-01")
}

fn highest_of(spans: &[Span], peak: &Peak, restored: &[Timestamp]) -> Figure {
    highest(&a_day().cycle(), &energy_slots(spans), peak, None, restored, rounding())
}

#[test]
fn d07_blocks_and_sliding_windows() {
    let spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["5", "10", "12", "5"]);
    for (length, step, expected, at) in [(15, 15, "48", "10:30"), (30, 30, "34", "10:30"), (30, 15, "44", "10:15")] {
        let figure = highest_of(&spans, &peak(length, step), &[]);
        assert_eq!(figure.value, Some(amount(expected)), "{length} by {step}");
        assert_eq!(figure.unit, "kW");
        assert_eq!(figure.at.unwrap().0, ts(&format!("2026-04-30T{at}:00Z")));
    }
}

#[test]
fn d08_what_follows_an_outage_is_no_maximum_unless_it_is_allowed() {
    let spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["3", "0", "9", "4"]);
    let restored = [ts("2026-04-30T10:30:00Z")];
    let figure = highest_of(&spans, &peak(15, 15), &restored);
    assert_eq!(figure.value, Some(amount("16")));
    assert!(figure.notes.iter().any(|note| note.detail.starts_with("higher value after an outage: 36")));
    let allowed = Peak { restored: true, ..peak(15, 15) };
    assert_eq!(highest_of(&spans, &allowed, &restored).value, Some(amount("36")));
}

#[test]
fn d09_an_estimate_is_no_maximum_and_a_higher_one_is_noted() {
    let mut spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["8", "10"]);
    spans[1].quality = Quality::EstimatedScaled;
    let figure = highest_of(&spans, &peak(15, 15), &[]);
    assert_eq!((figure.value, figure.quality), (Some(amount("32")), Quality::Valid));
    assert!(
        figure.notes.iter().any(|note| note.detail.starts_with("higher value estimated: 40")),
        "{:?}",
        figure.notes
    );
    let figure = highest_of(&spans, &Peak { estimated: true, ..peak(15, 15) }, &[]);
    assert_eq!((figure.value, figure.estimated_ppm), (Some(amount("40")), 1_000_000));
    spans[1].quality = Quality::Derived;
    assert_eq!(highest_of(&spans, &peak(15, 15), &[]).value, Some(amount("32")));
    spans[1].method = Some(Method::Twin);
    assert_eq!(highest_of(&spans, &peak(15, 15), &[]).value, Some(amount("40")), "a twin meter's is as good");
}

#[test]
fn the_nth_highest_counts_no_window_twice() {
    let spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["5", "10", "12", "5", "7", "7"]);
    let nth = |nth, by_day| highest_of(&spans, &Peak { nth, by_day, ..peak(30, 15) }, &[]).value;
    assert_eq!(nth(1, false), Some(amount("44")));
    assert_eq!(nth(2, false), Some(amount("28")), "10:15 to 10:45 is taken, so 11:00 to 11:30");
    assert_eq!(nth(2, true), None, "one day has one highest");
}

#[test]
fn the_highest_of_two_days_do_not_overlap_at_midnight() {
    let place = Place::new("UTC", "2026-04-29", "2026-05-01");
    let spans = slots(ts("2026-04-29T23:30:00Z"), 15, &["1", "9", "8", "7", "2", "2"]);
    let nth = |nth| {
        let peak = Peak { nth, by_day: true, ..peak(30, 15) };
        highest(&place.cycle(), &energy_slots(&spans), &peak, None, &[], rounding())
    };
    let found = [1, 2].map(|n| (nth(n).value.unwrap(), nth(n).at.unwrap().0));
    assert_eq!(found[0], (amount("34"), ts("2026-04-29T23:45:00Z")));
    assert_eq!(found[1], (amount("18"), ts("2026-04-30T00:15:00Z")), "00:00 to 00:30 has a quarter of the higher one");
}

#[test]
fn of_a_demand_so_much_is_estimated_as_of_its_use() {
    let mut spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["6", "10"]);
    spans[1].quality = Quality::EstimatedScaled;
    let figure = highest_of(&spans, &Peak { estimated: true, ..peak(30, 30) }, &[]);
    assert_eq!((figure.value, figure.estimated_ppm), (Some(amount("32")), 625_000));
    assert_eq!(figure.quality, Quality::EstimatedScaled);
}

#[test]
fn what_failed_is_no_maximum_even_where_estimates_are() {
    let mut spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["6", "90"]);
    spans[1].quality = Quality::Failed;
    let figure = highest_of(&spans, &Peak { estimated: true, ..peak(15, 15) }, &[]);
    assert_eq!(figure.value, Some(amount("24")));
    assert!(figure.notes.iter().any(|note| note.detail.starts_with("higher value failed: 360")), "{:?}", figure.notes);
}

#[test]
fn a_demand_within_buckets_that_a_cycle_has_not_holds_no_bill() {
    let plan = CalendarPlan { rules: Vec::new(), ..workday_peak() };
    let mut asked = peak(30, 15);
    asked.within = Some(Within { calendar: "home".to_owned(), buckets: vec!["peak".to_owned()] });
    let spans = slots(ts("2026-04-30T10:00:00Z"), 15, &["6", "10"]);
    let found = |plan| highest(&a_day().cycle(), &energy_slots(&spans), &asked, Some(&prove(plan)), &[], rounding());
    let out_of_season = found(plan);
    assert_eq!((out_of_season.value, codes(std::slice::from_ref(&out_of_season))), (None, ["out_of_season"].into()));
    assert!(!out_of_season.holds());
    // Where there are such windows and none is known, it does.
    let spans = slots(ts("2026-04-30T02:00:00Z"), 15, &["6", "10"]);
    let unknown =
        highest(&a_day().cycle(), &energy_slots(&spans), &asked, Some(&prove(workday_peak())), &[], rounding());
    assert_eq!((unknown.value, codes(std::slice::from_ref(&unknown))), (None, ["missing", "nothing"].into()));
    assert!(unknown.holds());
}

#[test]
fn a_demand_within_buckets_lies_whole_in_them() {
    let (_, calendar) = three();
    let spans = slots(ts("2026-04-30T00:30:00Z"), 15, &["1", "2", "9", "1"]);
    let mut asked = peak(30, 15);
    asked.within = Some(Within { calendar: "three".to_owned(), buckets: vec!["peak".to_owned()] });
    let found = highest(&a_day().cycle(), &energy_slots(&spans), &asked, Some(&calendar), &[], rounding());
    assert_eq!((found.value, found.at.unwrap().0), (Some(amount("6")), ts("2026-04-30T00:30:00Z")));
}

#[test]
fn slots_longer_than_the_window_give_no_demand() {
    let spans = slots(ts("2026-04-30T10:00:00Z"), 60, &["5", "10"]);
    let figure = highest_of(&spans, &peak(15, 15), &[]);
    assert_eq!(figure.value, None);
    assert!(figure.notes.iter().any(|note| note.code == "coarse" && note.holds));
}

#[test]
fn d10_points_together_peak_at_one_hour_and_each_at_its_own() {
    let place = a_day();
    let points = [["12", "10", "11"], ["11", "12", "13"], ["13", "12", "10"]];
    let spans = points.map(|values| slots(ts("2026-04-30T01:00:00Z"), 60, &values));
    let asked = peak(60, 60);
    let mut together = Together::default();
    for spans in &spans {
        together.add(&place.cycle(), &energy_slots(spans), &asked, None, &[]);
    }
    let (window, demand) = together.highest(&asked, rounding()).unwrap();
    assert_eq!((window.0, demand), (ts("2026-04-30T01:00:00Z"), amount("36")));
    for (spans, (share, own)) in spans.iter().zip([("12", "12"), ("11", "13"), ("13", "13")]) {
        assert_eq!(share_in(Some(window), &energy_slots(spans), rounding()).value, Some(amount(share)));
        assert_eq!(highest_of(spans, &asked, &[]).value, Some(amount(own)));
    }
}

#[test]
fn d11_a_ratchet_is_a_floor() {
    let spans = slots(ts("2026-04-30T10:00:00Z"), 60, &["60"]);
    let measured = highest_of(&spans, &peak(60, 60), &[]);
    let ratchet = Ratchet { permille: 800, cycles: 11 };
    let earlier = ["90", "20", "70"].map(amount);
    let figures = at_least(measured.clone(), &earlier, ratchet, rounding());
    assert_eq!(values(&figures), expected(&[("", "72"), ("measured", "60")]));
    assert_eq!(codes(&figures[..1]), ["missing", "ratchet"].into());
    assert_eq!(
        values(&at_least(measured, &[amount("70")], ratchet, rounding())),
        expected(&[("", "60"), ("measured", "60")])
    );
}

fn figure(value: &str) -> Figure {
    Figure {
        part: String::new(),
        value: Some(amount(value)),
        unit: "kWh".to_owned(),
        quality: Quality::Valid,
        estimated_ppm: 0,
        at: None,
        notes: Vec::new(),
    }
}

#[test]
fn d12_reactive_energy_counts_both_ways() {
    let reactive = [figure("5500"), figure("-500")];
    let figures = power_factor(&[figure("8000")], &reactive, Some(PowerFactorStandard::P90), rounding());
    assert_eq!(values(&figures), expected(&[("", "0.8"), ("adjustment", "5")]));
    for (p, q, expected) in [("1", "0", 1_000_000), ("0", "1", 0), ("1", "1", 707_107), ("3", "4", 600_000)] {
        assert_eq!(cos_phi_micros(amount(p), amount(q)), Some(expected));
    }
    assert_eq!(cos_phi_micros(Amount::ZERO, Amount::ZERO), None);
    let most = amount("999999999999.999999");
    assert_eq!(cos_phi_micros(most, most), Some(707_107), "the largest numbers fit");
}

#[test]
fn the_adjustment_follows_the_rule_of_1983() {
    use PowerFactorStandard::{P80, P85, P90};
    for (standard, hundredths, permyriad) in [
        (P90, 100, -75),
        (P90, 95, -75),
        (P90, 91, -15),
        (P90, 90, 0),
        (P90, 89, 50),
        (P90, 70, 1000),
        (P90, 69, 1100),
        (P90, 65, 1500),
        (P90, 64, 1700),
        (P85, 94, -110),
        (P85, 90, -50),
        (P85, 85, 0),
        (P85, 65, 1000),
        (P85, 60, 1500),
        (P85, 59, 1700),
        (P80, 92, -130),
        (P80, 80, 0),
        (P80, 60, 1000),
        (P80, 55, 1500),
        (P80, 54, 1700),
    ] {
        assert_eq!(adjustment_permyriad(standard, hundredths), Some(permyriad), "{standard:?} {hundredths}");
    }
    for standard in [P90, P85, P80] {
        let all: Vec<_> = (0..=100).map(|hundredths| adjustment_permyriad(standard, hundredths).unwrap()).collect();
        assert!(all.windows(2).all(|pair| pair[0] >= pair[1]), "a better factor never costs more");
    }
    assert_eq!(adjustment_permyriad(P90, 101), None);
}

fn tiers_of(before: &str, used: &str) -> Vec<Amount> {
    let limits = ["2760", "4800"].map(amount);
    tiers(&limits, TierUse { before: amount(before), used: amount(used) }).unwrap()
}

#[test]
fn d13_tiers_of_a_year_fill_up_from_month_to_month() {
    assert_eq!(tiers_of("2600", "400"), ["160", "240", "0"].map(amount));
    assert_eq!(tiers_of("3000", "2000"), ["0", "1800", "200"].map(amount));
}

#[test]
fn d14_a_correction_flows_on_through_the_tiers() {
    let (october, november) = (tiers_of("2600", "340"), tiers_of("2940", "2000"));
    assert_eq!(october, ["160", "180", "0"].map(amount));
    assert_eq!(november, ["0", "1860", "140"].map(amount));
    let delta = |new: &[Amount], old: &[Amount]| -> Vec<i64> {
        new.iter().zip(old).map(|(new, old)| (new.micros() - old.micros()) / 1_000_000).collect()
    };
    let (october, november) = (delta(&october, &tiers_of("2600", "400")), delta(&november, &tiers_of("3000", "2000")));
    assert_eq!((&october[..], &november[..]), (&[0, -60, 0][..], &[0, 60, -60][..]));
    assert_eq!(october.iter().chain(&november).sum::<i64>(), -60);
}

#[test]
fn d15_limits_are_for_the_months_from_the_move_in_on() {
    let limits = ["2760", "4800"].map(amount);
    let half = prorated(&limits, day("2026-01-01"), Some(day("2026-07-01")), rounding());
    assert_eq!(half, ["1380", "2400"].map(amount));
    let of = TierUse { before: Amount::ZERO, used: amount("1500") };
    let figures = by_tier(&figure("1500"), &[(half, of)], rounding());
    assert_eq!(values(&figures), expected(&[("t1", "1380"), ("t2", "120"), ("t3", "0")]));
    let months = |moved_in| prorated(&[amount("12")], day("2026-01-01"), Some(day(moved_in)), rounding())[0];
    for (moved_in, left) in [("2025-05-01", "12"), ("2026-01-01", "12"), ("2026-07-31", "6"), ("2026-12-31", "1")] {
        assert_eq!(months(moved_in), amount(left), "{moved_in}: the month of the move-in counts");
    }
}

#[test]
fn d16_an_event_takes_its_hours_from_the_others_and_the_sum_stands() {
    let mut plan = workday_peak();
    plan.buckets.push("critical".to_owned());
    let (from, to) = (ts("2026-07-15T12:00:00Z"), ts("2026-07-15T16:00:00Z"));
    plan.events.push(CalendarEvent { from, to, bucket: 2, points: None });
    let figures = used(&Place::new(MADRID, "2026-07-15", "2026-07-16"), &prove(plan));
    assert_eq!(values(&figures), expected(&[("valley", "10"), ("peak", "10"), ("critical", "4")]));
}

#[test]
fn outside_the_calendar_s_years_nothing_is_billed() {
    let mut plan = workday_peak();
    plan.years = Some([2025].into());
    let figures = used(&Place::new(MADRID, "2025-12-01", "2026-01-15"), &prove(plan));
    assert!(figures.iter().all(|figure| figure.value.is_none()));
    assert_eq!(codes(&figures), ["calendar"].into());
}

#[test]
fn a_bucket_with_an_unknown_slot_has_no_value_and_the_others_do() {
    let (place, calendar) = three();
    let mut spans = slots(place.cycle().span().0, 60, &["1", "2", "3"]);
    spans[1].value = None;
    spans[1].quality = Quality::Missing;
    let figures = by_bucket(&place.cycle(), &energy_slots(&spans), &calendar, &[], Some(amount("6")), rounding());
    assert_eq!(values(&figures), expected(&[("peak", "1"), ("flat", "-"), ("valley", "3")]));
}

#[test]
fn b08_a_60_min_and_a_15_min_meter_have_one_curve_and_their_totals() {
    let place = a_day();
    let start = place.cycle().span().0;
    let mut spans = slots(start, 60, &["1.001"; 12]);
    spans.extend(slots(start.plus_seconds(12 * 3600), 15, &["0.3"; 48]));
    let whole = Amount::sum(spans.iter().filter_map(|span| span.value)).unwrap();
    for (interval_s, cells) in [(3600, 24), (900, 96), (7200, 12), (86_400, 1)] {
        let figures = curve(&place.cycle(), &energy_slots(&spans), interval_s, rounding());
        assert_eq!(figures.len(), cells);
        assert_eq!(Amount::sum(figures.iter().filter_map(|figure| figure.value)), Some(whole), "{interval_s}");
    }
    let figures = curve(&place.cycle(), &energy_slots(&spans), 900, rounding());
    let first: Vec<_> = figures[..4].iter().map(|figure| (figure.value.unwrap(), figure.quality)).collect();
    let quarter = |text| (amount(text), Quality::Derived);
    assert_eq!(first, [quarter("0.251"), quarter("0.25"), quarter("0.25"), quarter("0.25")]);
    assert_eq!(figures[95].quality, Quality::Valid);
    assert_eq!(figures[0].part, "2026-04-30T00:00:00Z");
}

#[test]
fn d9_net_losses_and_a_virtual_meter() {
    let value = |name: &Name| match name {
        Name::Use(channel, None) if channel.name() == "energy_import_kwh" => Some(figure("120.5")),
        Name::Use(_, None) => Some(figure("20.5")),
        Name::Sum(_) => Some(Figure { quality: Quality::EstimatedScaled, estimated_ppm: 70_000, ..figure("10") }),
        _ => None,
    };
    let of = |text: &str| of_formula(&Formula::parse(text).unwrap(), "kWh", rounding(), value);
    assert_eq!(of("energy_import_kwh - energy_export_kwh").value, Some(amount("100")));
    let virtual_meter = of("(energy_import_kwh + sum(energy_import_kwh)) * 1.02");
    assert_eq!((virtual_meter.value, virtual_meter.quality), (Some(amount("133.11")), Quality::EstimatedScaled));
    assert_eq!(virtual_meter.estimated_ppm, 70_000);
    let unknown = of("energy_import_kwh - other");
    assert_eq!((unknown.value, unknown.notes[0].detail.as_str()), (None, "not known: other"));
    assert_eq!(of("1 / 0").notes[0].detail, "the formula divides by zero");
}

#[test]
fn d10_evidence_tells_the_days_the_shares_and_the_outage() {
    let place = a_day();
    let start = place.cycle().span().0;
    let mut spans = slots(start, 60, &["1"; 18]);
    spans[17].quality = Quality::Estimated;
    spans[16].value = None;
    let outages = [(start.plus_seconds(-3600), start.plus_seconds(5400))];
    let figures = evidence(&place.cycle(), &energy_slots(&spans), &read(Some("18"), Quality::Valid), &outages, 2);
    let found = values(&figures);
    for (part, expected) in [
        ("days", "30"),
        ("share_valid", "0.666667"),
        ("share_estimated", "0.041667"),
        ("share_none", "0.291667"),
        ("missing_slots", "1"),
        ("outage_h", "1.5"),
        ("findings", "2"),
    ] {
        assert_eq!(found[part], expected, "{part}");
    }
}

#[test]
fn e16_a_hundred_items_of_24_a_day_are_exact() {
    let place = a_day();
    let item = |load| UnmeteredItem { name: "lamp".to_owned(), count: 100, load };
    for load in [UnmeteredLoad::Daily(amount("24")), UnmeteredLoad::Hourly(amount("1"))] {
        let figure = unmetered(&place.cycle(), &[item(load)], None, "kWh", rounding());
        assert_eq!(figure.value, Some(amount("2400")));
    }
    let days = Place::new(MADRID, "2026-01-01", "2026-04-11");
    let one = UnmeteredItem { count: 1, ..item(UnmeteredLoad::Daily(amount("24"))) };
    assert_eq!(unmetered(&days.cycle(), &[one], None, "kWh", rounding()).value, Some(amount("2400")), "100 days");
}

#[test]
fn d11_lamps_burn_in_the_hours_of_their_buckets() {
    let calendar = prove(workday_peak());
    let within = Within { calendar: "home".to_owned(), buckets: vec!["valley".to_owned()] };
    let lamps = UnmeteredItem { name: "lamp".to_owned(), count: 120, load: UnmeteredLoad::Hourly(amount("0.07")) };
    for (first, hours) in [("2026-04-30", 10), ("2026-03-29", 23), ("2026-10-25", 25)] {
        let place = Place::new(MADRID, first, &day(first).plus_days(1).to_string());
        let figure =
            unmetered(&place.cycle(), std::slice::from_ref(&lamps), Some((&calendar, &within)), "kWh", rounding());
        assert_eq!(figure.value, Amount::from_micros(120 * 70_000 * hours), "{first}");
    }
}
