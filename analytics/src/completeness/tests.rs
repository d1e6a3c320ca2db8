//! Tables of cases: what is expected, what is late, what a clock is off by, and who is to blame.

use meterlake_model::{CivilDay, Commodity, MeterId, ReadingFlags, Timestamp, UsagePointId, Zone};

use super::cause::{Evidence, assign};
use super::clock::estimate;
use super::count::{Arrival, DayInput};
use super::steps::median_step_s;
use super::{CompletenessRules, IntervalFrom, MeterDay, Reason};

const DAY: &str = "2026-03-10";

fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn madrid() -> Zone {
    Zone::parse("Europe/Madrid").unwrap()
}

/// A day of one meter under test.
struct Case {
    zone: Zone,
    day: CivilDay,
    interval_s: i64,
    installed: Vec<(Timestamp, Timestamp)>,
    readings: Vec<Arrival>,
    horizon: Timestamp,
}

impl Case {
    fn on(day_text: &str, interval_s: i64) -> Self {
        let always = (at("2020-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z"));
        let horizon = at("2029-01-01T00:00:00Z");
        Self { zone: madrid(), day: day(day_text), interval_s, installed: vec![always], readings: Vec::new(), horizon }
    }

    fn bounds(&self) -> (Timestamp, Timestamp) {
        (self.zone.start_of_day(self.day), self.zone.start_of_day(self.day.plus_days(1)))
    }

    /// A reading each interval from the day before to the day after, `off_s` beside the round time, there after 5 s.
    fn spoken(mut self, off_s: i64) -> Self {
        let (start, end) = self.bounds();
        let mut ts = start.plus_seconds(-self.interval_s * 2 + off_s);
        while ts < end.plus_seconds(self.interval_s * 2) {
            self.readings.push(arrival(ts, 5));
            ts = ts.plus_seconds(self.interval_s);
        }
        self
    }

    /// Without the readings between two times of the day in UTC.
    fn but(mut self, from: &str, to: &str) -> Self {
        let time = |text: &str| at(&format!("{}T{text}:00Z", self.day));
        let (from, to) = (time(from), time(to));
        self.readings.retain(|r| r.ts < from || to <= r.ts);
        self
    }

    /// Expected, received, late, distinct readings of the day.
    fn counted(&self) -> (i32, i32, i32, i32) {
        let count = self.count();
        (count.expected.len(), count.expected.len() - count.missing.len(), count.late, count.readings)
    }

    fn count(&self) -> super::count::DayCount {
        let (start, end) = self.bounds();
        DayInput {
            start,
            end,
            interval_s: self.interval_s,
            installed: &self.installed,
            readings: &self.readings,
            horizon_s: self.horizon.unix_seconds(),
            late_after_s: 3600,
        }
        .count()
    }
}

fn arrival(ts: Timestamp, delay_s: i64) -> Arrival {
    Arrival { ts, received_at_s: ts.unix_seconds() + delay_s, flags: ReadingFlags::NONE }
}

#[test]
fn a_civil_day_has_as_many_readings_as_its_zone_has_hours() {
    for (what, case, expected) in [
        ("a day of quarters", Case::on(DAY, 900).spoken(0), (96, 96, 0, 96)),
        ("the short day", Case::on("2026-03-29", 900).spoken(0), (92, 92, 0, 92)),
        ("the long day", Case::on("2026-10-25", 900).spoken(0), (100, 100, 0, 100)),
        ("the short day of hours", Case::on("2026-03-29", 3600).spoken(0), (23, 23, 0, 23)),
        ("the long day of hours", Case::on("2026-10-25", 3600).spoken(0), (25, 25, 0, 25)),
        ("once a day", Case::on("2026-10-25", 86_400).spoken(3 * 3600), (1, 1, 0, 1)),
        ("once on the short day", Case::on("2026-03-29", 86_400).spoken(23 * 3600 - 60), (1, 1, 0, 1)),
        ("every minute", Case::on(DAY, 60).spoken(0), (1440, 1440, 0, 1440)),
        ("nothing at all", Case::on(DAY, 900), (96, 0, 0, 0)),
    ] {
        assert_eq!(case.counted(), expected, "{what}");
    }
}

#[test]
fn a_reading_belongs_to_the_expected_time_that_is_nearest() {
    for off_s in [-3, 2, 100, -200, 400, 440, 700, 899] {
        let case = Case::on(DAY, 900).spoken(off_s);
        let (expected, received, ..) = case.counted();
        assert_eq!((expected, received), (96, 96), "{off_s} s beside the quarters");
    }
    // A polled meter answers now a little before, now a little after.
    let mut case = Case::on(DAY, 900).spoken(0);
    for (n, reading) in case.readings.iter_mut().enumerate() {
        reading.ts = reading.ts.plus_seconds(if n % 2 == 0 { -9 } else { 8 });
    }
    assert_eq!(case.counted().0 - case.counted().1, 0, "jitter misses nothing");
}

#[test]
fn what_comes_twice_counts_once() {
    let mut case = Case::on(DAY, 900).spoken(0).but("10:00", "12:00");
    let more: Vec<Arrival> = case.readings.iter().map(|r| arrival(r.ts.plus_seconds(60), 5)).collect();
    case.readings.extend(more);
    case.readings.sort_by_key(|r| r.ts);
    assert_eq!(case.counted(), (96, 88, 0, 176), "a second telegram a minute later fills no gap");
}

#[test]
fn what_is_late_is_not_missing() {
    let mut case = Case::on(DAY, 900).spoken(0).but("10:00", "11:00");
    for reading in case.readings.iter_mut().filter(|r| r.ts >= at("2026-03-10T12:00:00Z")).take(4) {
        reading.received_at_s += 3 * 3600;
    }
    assert_eq!(case.counted(), (96, 92, 4, 92));
    let count = case.count();
    assert_eq!(count.longest_gap_s, 4500, "from 09:45 to 11:00");
    assert!(count.closed);
}

#[test]
fn nothing_is_missing_before_it_may_be_late() {
    let mut case = Case::on(DAY, 900).spoken(0).but("10:00", "23:59");
    case.readings.retain(|r| r.ts < at("2026-03-10T12:00:00Z"));
    for (horizon, missing, closed) in [
        ("2026-03-10T10:45:00Z", 0, false),
        ("2026-03-10T11:00:00Z", 1, false),
        ("2026-03-10T12:00:00Z", 5, false),
        ("2026-03-11T00:00:00Z", 52, true),
    ] {
        case.horizon = at(horizon);
        let count = case.count();
        assert_eq!((count.missing.len(), count.closed), (missing, closed), "as of {horizon}");
    }
}

#[test]
fn only_the_time_of_the_installation_is_expected() {
    // 10:00 in Madrid is the 41st quarter of the day.
    let exchange = at("2026-03-10T09:00:00Z");
    let whole = Case::on(DAY, 900).installed[0];
    for (what, installed, expected) in [
        ("before", vec![(whole.0, exchange)], 40),
        ("after", vec![(exchange, whole.1)], 56),
        ("both", vec![(whole.0, exchange), (exchange, whole.1)], 96),
        ("with a pause", vec![(whole.0, exchange), (exchange.plus_seconds(7200), whole.1)], 88),
        ("never", vec![], 0),
    ] {
        let case = Case { installed, ..Case::on(DAY, 900).spoken(0) };
        assert_eq!((case.counted().0, case.counted().1), (expected, expected), "{what}");
    }
}

#[test]
fn a_meter_that_speaks_weekly_is_due_a_week_after_it_spoke() {
    let spoke = at("2026-03-03T10:00:00Z");
    for (day_text, expected) in [("2026-03-09", 0), ("2026-03-10", 1), ("2026-03-11", 0), ("2026-03-17", 1)] {
        let case = Case { readings: vec![arrival(spoke, 5)], ..Case::on(day_text, 7 * 86_400) };
        assert_eq!(case.counted(), (expected, 0, 0, 0), "{day_text}");
    }
    let case = Case { readings: vec![arrival(spoke, 5)], ..Case::on("2026-03-03", 7 * 86_400) };
    assert_eq!(case.counted(), (1, 1, 0, 1));
    // Nobody ever heard it: due once a week all the same.
    let days = (1..=28).map(|n| Case::on(&format!("2026-03-{n:02}"), 7 * 86_400).counted().0);
    assert_eq!(days.sum::<i32>(), 4);
}

#[test]
fn an_interval_that_nobody_states_is_the_median_of_the_meters_own_steps() {
    let times = |steps: &[i64]| {
        let mut ts = at("2026-03-10T00:00:00Z");
        let mut times = vec![ts];
        for step in steps {
            ts = ts.plus_seconds(*step);
            times.push(ts);
        }
        median_step_s(times.into_iter())
    };
    for (steps, expected) in [
        (&[600; 9][..], Some(600)),
        (&[899, 901, 899, 899, 7200, 900], Some(900)),
        (&[10, 10, 11, 10], Some(10)),
        (&[3600, 3600], None),
        (&[], None),
        (&[86_390, 86_400, 86_410, 172_800], Some(86_400)),
    ] {
        assert_eq!(times(steps), expected, "{steps:?}");
    }
}

#[test]
fn a_clock_that_is_off_is_told_from_readings_on_their_way() {
    let offset = |case: &Case| {
        let (start, end) = case.bounds();
        let day: Vec<Arrival> = case.readings.iter().copied().filter(|r| start <= r.ts && r.ts < end).collect();
        estimate(&day, case.interval_s).map(|clock| clock.offset_s)
    };
    let with = |change: &dyn Fn(usize, &mut Arrival)| {
        let mut case = Case::on(DAY, 900).spoken(0);
        case.readings.iter_mut().enumerate().for_each(|(n, reading)| change(n, reading));
        case.readings.sort_by_key(|r| r.ts);
        offset(&case)
    };
    // A fast clock stamps what it sends now with a later time.
    let fast = |s: i64| move |_: usize, r: &mut Arrival| r.ts = r.ts.plus_seconds(s);
    assert_eq!(with(&|_, _| {}), Some(-5), "transport alone");
    assert_eq!(with(&fast(405)), Some(400));
    assert_eq!(with(&fast(-85)), Some(-90));
    let slow_network = |n: usize, r: &mut Arrival| r.received_at_s += (i64::try_from(n).unwrap() * 37) % 300;
    assert!(with(&slow_network).unwrap() >= -60, "the fastest tell");
    // A frame an hour with the four values since the last one.
    let frames = |_: usize, r: &mut Arrival| {
        r.received_at_s = r.ts.unix_seconds().div_euclid(3600) * 3600 + 45 * 60 + 5;
    };
    assert_eq!(with(&frames), Some(-5), "only the newest of a frame is live");
    // Two hours of the past come at once after an outage, one message a second.
    let backlog = |n: usize, r: &mut Arrival| {
        if (30..38).contains(&n) {
            r.received_at_s = at("2026-03-10T09:00:00Z").unix_seconds() + i64::try_from(n).unwrap();
        }
    };
    assert_eq!(with(&backlog), Some(-5));
    // One time from the future.
    assert_eq!(with(&|n, r| r.received_at_s -= if n == 40 { 4000 } else { 0 }), Some(-5));
    // Yesterday's values, sent in the morning; what the broker kept; the collector's own time: none tells.
    assert_eq!(with(&|_, r| r.received_at_s = at("2026-03-11T06:00:00Z").unix_seconds()), None);
    assert_eq!(with(&|_, r| r.flags = ReadingFlags::RETAINED), None);
    assert_eq!(with(&|_, r| r.flags = ReadingFlags::COLLECTOR_TIME), None);
}

/// A fleet under test: meters with their gateway, source and the times of the day at which they said nothing.
struct Fleet {
    evidence: Evidence,
    days: Vec<MeterDay>,
}

impl Fleet {
    fn new() -> Self {
        Self { evidence: Evidence::new(at("2026-03-08T00:00:00Z")), days: Vec::new() }
    }

    fn meter(mut self, id: &str, gateway: Option<&str>, source: Option<&str>, silent: Option<(&str, &str)>) -> Self {
        self.add(id, gateway, source, silent, 900);
        self
    }

    fn meters(
        mut self,
        ids: std::ops::Range<u32>,
        gateway: Option<&str>,
        source: &str,
        silent: Option<(&str, &str)>,
    ) -> Self {
        for n in ids {
            self.add(&format!("m{n}"), gateway, Some(source), silent, 900);
        }
        self
    }

    fn add(
        &mut self,
        id: &str,
        gateway: Option<&str>,
        source: Option<&str>,
        silent: Option<(&str, &str)>,
        interval_s: i64,
    ) {
        let mut case = Case::on(DAY, interval_s).spoken(0);
        if let Some((from, to)) = silent {
            case = case.but(from, to);
        }
        for reading in &case.readings {
            self.evidence.arrived(reading.received_at_s);
        }
        let (start, end) = case.bounds();
        self.days.push(MeterDay {
            meter_id: MeterId::new(id).unwrap(),
            day: case.day,
            start,
            end,
            usage_point_id: UsagePointId::new(id).unwrap(),
            node_id: None,
            commodity: Commodity::Electricity,
            gateway: gateway.map(|name| self.evidence.gateways.number(name)),
            source: source.map(|name| self.evidence.sources.number(name)),
            interval_s,
            interval_from: IntervalFrom::Registry,
            count: case.count(),
            clock: None,
            cause: None,
        });
    }

    /// Reason, subject and how much it explains, by meter.
    fn causes(mut self) -> Vec<(String, Reason, String, i32)> {
        self.days.sort_by(|a, b| a.meter_id.cmp(&b.meter_id));
        assign(&mut self.days, &self.evidence, &CompletenessRules::default());
        let told = |day: MeterDay| {
            let cause = day.cause?;
            let subject = cause.subject.as_deref().unwrap_or("").to_owned();
            Some((day.meter_id.as_str().to_owned(), cause.reason, subject, cause.explains))
        };
        self.days.into_iter().filter_map(told).collect()
    }

    /// As [`Self::causes`], when all meters share one.
    fn one_cause(self) -> (usize, Reason, String) {
        let causes = self.causes();
        let (_, reason, subject, _) = causes.first().cloned().unwrap();
        let same = causes.iter().filter(|(_, r, s, _)| *r == reason && *s == subject).count();
        assert_eq!(same, causes.len(), "{causes:?}");
        (same, reason, subject)
    }
}

const NOON: Option<(&str, &str)> = Some(("12:00", "13:00"));

#[test]
fn the_lowest_common_cause_is_named() {
    let (g1, g2, g3) = (Some("G-1"), Some("G-2"), Some("G-3"));
    let yard = "yard";
    // A meter more at another source, so that the collector lives.
    let base = || Fleet::new().meters(90..94, None, "modbus/hall", None);
    let told = |n, reason, subject: &str| (n, reason, subject.to_owned());
    for (what, fleet, expected) in [
        (
            "one meter of ten",
            base().meters(0..9, g1, yard, None).meter("x", g1, Some(yard), NOON),
            told(1, Reason::Meter, "x"),
        ),
        (
            "a gateway, the other lives",
            base().meters(0..5, g1, yard, NOON).meters(5..10, g2, yard, None),
            told(5, Reason::Gateway, "G-1"),
        ),
        (
            "two of three gateways at once: what they share",
            base().meters(0..5, g1, yard, NOON).meters(5..10, g2, yard, NOON).meters(10..15, g3, yard, None),
            told(10, Reason::Broker, "yard"),
        ),
        ("the only gateway of a broker", base().meters(0..5, g1, yard, NOON), told(5, Reason::Gateway, "G-1")),
        ("a broker with meters of its own", base().meters(0..5, None, yard, NOON), told(5, Reason::Broker, "yard")),
        (
            "a line",
            Fleet::new().meters(0..6, None, "modbus/line-3", NOON).meters(6..9, None, yard, None),
            told(6, Reason::Line, "line-3"),
        ),
        (
            "a line of one meter is no common cause",
            base().meters(0..1, None, "modbus/line-3", NOON),
            told(1, Reason::Meter, "m0"),
        ),
        (
            "everything falls silent",
            Fleet::new().meters(0..6, None, "modbus/line-3", NOON).meters(6..12, None, yard, NOON),
            told(12, Reason::Collector, ""),
        ),
        (
            "a gateway of which the registry alone knows",
            base()
                .meters(0..5, g2, yard, None)
                .meter("a", g1, None, NOON)
                .meter("b", g1, None, NOON)
                .meter("c", g1, None, NOON),
            told(3, Reason::Gateway, "G-1"),
        ),
    ] {
        assert_eq!(fleet.one_cause(), expected, "{what}");
    }
}

#[test]
fn six_of_ten_are_common_and_five_are_not() {
    for (silent, common) in [(5, false), (6, true), (10, true)] {
        let fleet = Fleet::new()
            .meters(0..silent, Some("G-1"), "yard", NOON)
            .meters(silent..10, Some("G-1"), "yard", None)
            .meters(20..25, Some("G-2"), "yard", None);
        let gateways = fleet.causes().iter().filter(|(_, reason, ..)| *reason == Reason::Gateway).count();
        assert_eq!(gateways == usize::try_from(silent).unwrap(), common, "{silent} of ten");
    }
}

#[test]
fn meters_that_fail_one_after_the_other_have_no_common_cause() {
    let hours: Vec<(String, String)> = (6..12).map(|h| (format!("{h:02}:00"), format!("{:02}:00", h + 1))).collect();
    let mut fleet = Fleet::new().meters(20..25, Some("G-2"), "yard", None);
    for (n, (from, to)) in hours.iter().enumerate() {
        fleet = fleet.meter(&format!("m{n}"), Some("G-1"), Some("yard"), Some((from, to)));
    }
    let causes = fleet.causes();
    assert_eq!(causes.len(), 6);
    assert!(causes.iter().all(|(meter, reason, subject, n)| *reason == Reason::Meter && meter == subject && *n == 4));
}

#[test]
fn what_could_not_be_read_is_no_silence() {
    let mut fleet = Fleet::new().meters(0..5, Some("G-1"), "yard", NOON).meters(5..9, Some("G-2"), "yard", None);
    for minute in [0, 15, 30, 45] {
        let at_s = at("2026-03-10T12:00:05Z").unix_seconds() + minute * 60;
        fleet.evidence.add_letter("m3", at_s, "bad_value");
    }
    let causes = fleet.causes();
    let of = |meter: &str| causes.iter().find(|(m, ..)| m == meter).map(|(_, r, s, n)| (*r, s.as_str(), *n));
    assert_eq!(of("m3"), Some((Reason::Decode, "bad_value", 4)));
    assert_eq!(of("m2"), Some((Reason::Gateway, "G-1", 4)));
    // A topic that names only the gateway speaks for all of its meters.
    let mut fleet = Fleet::new().meters(0..5, Some("G-1"), "yard", Some(("12:00", "12:15")));
    fleet.evidence.add_letter("G-1", at("2026-03-10T12:01:00Z").unix_seconds(), "syntax");
    assert_eq!(fleet.one_cause(), (5, Reason::Decode, "syntax".to_owned()));
}

#[test]
fn the_cause_of_most_is_the_cause_of_the_day() {
    let fleet = Fleet::new()
        .meters(0..4, Some("G-1"), "yard", NOON)
        .meter("m9", Some("G-1"), Some("yard"), Some(("02:00", "13:00")))
        .meters(20..24, Some("G-2"), "yard", None);
    let causes = fleet.causes();
    assert_eq!(
        causes[4],
        ("m9".to_owned(), Reason::Meter, "m9".to_owned(), 40),
        "ten hours alone, one with the gateway"
    );
    assert_eq!(causes[0], ("m0".to_owned(), Reason::Gateway, "G-1".to_owned(), 4));
}

#[test]
fn slow_and_fast_meters_share_a_gateway() {
    for (interval_s, missing) in [(60, 60), (300, 12), (3600, 1)] {
        let mut fleet = Fleet::new().meters(20..25, Some("G-2"), "yard", None).meters(0..2, Some("G-1"), "yard", NOON);
        for n in 2..5 {
            fleet.add(&format!("m{n}"), Some("G-1"), Some("yard"), NOON, interval_s);
        }
        let causes = fleet.causes();
        assert_eq!(causes.len(), 5, "every {interval_s} s");
        let of_gateway =
            |(_, reason, _, n): &&(String, Reason, String, i32)| *reason == Reason::Gateway && *n == missing;
        assert_eq!(causes.iter().filter(of_gateway).count(), 3, "every {interval_s} s: {causes:?}");
    }
}

#[test]
fn what_came_in_arrears_and_could_not_be_read_is_no_silence_either() {
    // The broker held everything from noon on for three hours; one of the held messages could not be read.
    let restart = at("2026-03-10T15:00:00Z").unix_seconds();
    for (letter_at, reason) in
        [(restart + 30, Reason::Decode), (restart - 5400, Reason::Meter), (restart + 600, Reason::Meter)]
    {
        let mut fleet = Fleet::new().meters(0..4, None, "yard", None).meters(10..14, None, "modbus/hall", None);
        let mut case = Case::on(DAY, 900).spoken(0).but("13:00", "13:15");
        for reading in &mut case.readings {
            let noon = at("2026-03-10T12:00:00Z");
            if (noon..at("2026-03-10T15:00:00Z")).contains(&reading.ts) {
                let place = reading.ts.micros_since(noon) / 900_000_000;
                reading.received_at_s = restart + place * 10;
            }
        }
        fleet.days[0].count = case.count();
        fleet.evidence.add_letter("m0", letter_at, "syntax");
        let causes = fleet.causes();
        assert_eq!((causes.len(), causes[0].1), (1, reason), "{} s after the restart", letter_at - restart);
    }
}
