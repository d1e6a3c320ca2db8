//! The walk along one meter's register: which readings stand, which are another's, and where the line breaks.
//!
//! The register as read is unwrapped into a number that never falls. A line is a stretch without a break; between two
//! lines the use is unknown. Every look ahead and back is bounded, so that the walk is linear in the readings.

use meterlake_model::{Amount, Timestamp};

use super::anchor::Anchor;
use super::finding::{Finding, Rule, Severity};
use super::register::{Point, PointKind, Register, average, scale, shown};
use super::{Counts, Reading};

/// A look ahead or back ends after so many readings, whatever the time.
const LOOK: usize = 1024;
/// A value that left in one step and came back within this is not the meter's own.
pub(super) const RETURN_US: i64 = 7 * 86_400_000_000;
/// A register may wrap from this share of its range on, in tenths, and lands below the rest.
const WRAP_FROM_TENTHS: i64 = 9;

/// The lines of one installation.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) points: Vec<Point>,
    /// Where each line begins in `points`; lines are never empty.
    pub(super) lines: Vec<usize>,
    /// Readings after the last line that nothing confirms yet reach to here.
    pub(super) pending: Option<Timestamp>,
    pub(super) findings: Vec<Finding>,
    pub(super) counts: Counts,
    /// Where the walk was taken up, when not at the installation: its first point.
    pub(super) seed: Option<Anchor>,
    /// Whether the readings before it would have been looked at.
    pub(super) short: bool,
}

impl Walked {
    /// The lines in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[Point]> {
        let ends = self.lines.iter().skip(1).copied().chain([self.points.len()]);
        self.lines.iter().zip(ends).map(|(from, to)| &self.points[*from..to])
    }
}

/// A break that a return to the old register takes back.
struct Break {
    finding: usize,
    old: Point,
    offset: i64,
    first: i64,
    ts: Timestamp,
}

/// What follows a fall.
struct Ahead {
    /// Readings that go on above the fall.
    high: usize,
    /// Those of them that a register shows which flickers about its wrap.
    flicker: usize,
    /// Readings that go on from below.
    low: usize,
    settled: bool,
}

struct Walk<'a> {
    register: &'a Register,
    rows: &'a [Reading],
    out: Walked,
    offset: i64,
    /// The last point that was read.
    last: Option<Point>,
    broke: Option<Break>,
}

/// Walks the readings of one installation that the register can show, in canonical order: all of them, or those behind an
/// anchor.
pub(super) fn walk(register: &Register, rows: &[Reading], seed: Option<Anchor>) -> Walked {
    let mut walk = Walk { register, rows, out: Walked::default(), offset: 0, last: None, broke: None };
    walk.out.points.reserve(rows.len());
    walk.out.counts.readings = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if let Some(anchor) = seed {
        walk.out.seed = seed;
        walk.offset = register.wrap.map_or(0, |range| anchor.register - anchor.register.rem_euclid(range));
        walk.begin_line(Point { ts: anchor.ts, register: anchor.register, kind: PointKind::Read });
    }
    walk.run();
    walk.prune();
    walk.out
}

impl Walk<'_> {
    fn run(&mut self) {
        let rows = self.rows;
        let mut i = 0;
        while i < rows.len() {
            let ts = rows[i].ts;
            let mut end = i + 1;
            while end < rows.len() && rows[end].ts == ts {
                end += 1;
            }
            let row = if end == i + 1 { rows[i] } else { self.choose(i, end) };
            i = end;
            if !self.step(ts, row.value.micros(), i) {
                break;
            }
        }
    }

    /// Takes one value; `next` is the row after it. False ends the walk.
    fn step(&mut self, ts: Timestamp, value: i64, next: usize) -> bool {
        let Some(last) = self.last else {
            self.begin_line(Point { ts, register: value, kind: PointKind::Read });
            return true;
        };
        let register = value + self.offset;
        let step = register - last.register;
        if step >= 0 {
            self.rise(last, Point { ts, register, kind: PointKind::Read }, next);
            return true;
        }
        if -step <= self.register.jitter {
            self.out.counts.jitter += 1;
            self.out.points.push(Point { ts, register: last.register, kind: PointKind::Low });
            return true;
        }
        self.fall(last, ts, value, next)
    }

    fn rise(&mut self, last: Point, mut point: Point, next: usize) {
        let step = point.register - last.register;
        let time = point.ts.micros_since(last.ts);
        let range = self.register.wrap.unwrap_or(0);
        if self.offset >= range && range > 0 && last.register - (point.register - range) <= self.register.jitter {
            // Just after a wrap the register flickers back below it.
            if point.register - range <= last.register {
                self.out.counts.jitter += 1;
                self.out.points.push(Point { register: last.register, kind: PointKind::Low, ..point });
                return;
            }
        }
        if self.register.exceeds(step, time, self.register.resolution) && !self.confirmed(point, next) {
            self.out.counts.foreign += 1;
            let text = format!("{} follows {} and nothing confirms it", self.shown(point), self.shown(last));
            let limit = self.as_read(self.register.limit(time));
            self.find(Rule::V13, Severity::Issue, (point.ts, point.ts), (step, limit), text);
            return;
        }
        if self.takes_break_back(last, point) {
            return;
        }
        if self.register.exceeds(step, time.max(self.register.interval_us), 0) {
            point.kind = PointKind::Over;
            let text = format!("{} follows {}", self.shown(point), self.shown(last));
            let used = scale(step, self.register.multiplier).unwrap_or(i64::MAX);
            let limit = self.register.limit(time).map(Amount::micros);
            self.find(Rule::V14, Severity::Issue, (last.ts, point.ts), (used, limit), text);
        }
        self.accept(point);
    }

    /// A fall beyond jitter: another's reading, a return from another's readings, a wrap, a reset, or not yet known.
    fn fall(&mut self, last: Point, ts: Timestamp, value: i64, next: usize) -> bool {
        let register = value + self.offset;
        let ahead = self.look_ahead(register, last.register, ts, next);
        if let Some(tail) = self.returns(register, ts, &ahead) {
            self.drop_tail(tail, ts);
            return self.step(ts, value, next);
        }
        let measured = register - last.register;
        let wrapped = self.register.wrap.map(|range| register + range - last.register);
        let time = ts.micros_since(last.ts);
        if let (Some(range), Some(step)) = (self.register.wrap, wrapped) {
            let plausible = match self.register.capacity {
                Some(_) => !self.register.exceeds(step, time, self.register.resolution),
                None => step <= range / 10,
            };
            let from = range / 10 * WRAP_FROM_TENTHS;
            let high = ahead.high - ahead.flicker;
            if last.register - self.offset >= from && plausible && (high == 0 || ahead.low > 2 * high) {
                let text = format!("the register wrapped from {} to {}", self.shown(last), shown(value));
                let limit = self.as_read(self.register.limit(time));
                self.find(Rule::V12, Severity::Information, (last.ts, ts), (step, limit), text);
                self.offset += range;
                self.accept(Point { ts, register: value + self.offset, kind: PointKind::Read });
                return true;
            }
        }
        if ahead.high > 0 {
            self.out.counts.foreign += 1;
            let text = format!("{} lies below {} and the register goes on above", shown(value), self.shown(last));
            self.find(Rule::V13, Severity::Issue, (ts, ts), (measured, Some(-self.register.jitter)), text);
            return true;
        }
        let until = if ahead.settled { ts } else { self.rows.last().map_or(ts, |row| row.ts) };
        let like_average = wrapped.is_some_and(|step| self.like_average(step, time));
        let (rule, text) = match wrapped {
            Some(_) if like_average => (
                Rule::V12,
                format!(
                    "{} follows {}: perhaps the register wrapped, which would be a use like the average",
                    shown(value),
                    self.shown(last)
                ),
            ),
            _ if ahead.settled => {
                (Rule::V11, format!("{} follows {} and stays below: reset suspected", shown(value), self.shown(last)))
            }
            _ => (Rule::V11, format!("{} follows {}", shown(value), self.shown(last))),
        };
        self.find(rule, Severity::Stop, (last.ts, until), (measured, Some(-self.register.jitter)), text);
        if !ahead.settled {
            self.out.pending = Some(until);
            return false;
        }
        let finding = self.out.findings.len() - 1;
        self.broke = Some(Break { finding, old: last, offset: self.offset, first: value, ts });
        self.offset = 0;
        self.begin_line(Point { ts, register: value, kind: PointKind::Read });
        true
    }

    fn look_ahead(&self, register: i64, maximum: i64, ts: Timestamp, next: usize) -> Ahead {
        let mut ahead = Ahead { high: 0, flicker: 0, low: 0, settled: false };
        for row in self.rows[next..].iter().take(LOOK) {
            let value = row.value.micros() + self.offset;
            if value >= maximum - self.register.jitter {
                ahead.high += 1;
                let wrapped = self.register.wrap.map(|range| register + range - value);
                ahead.flicker += usize::from(wrapped.is_some_and(|below| below <= self.register.jitter));
            } else if value >= register - self.register.jitter {
                ahead.low += 1;
            }
            if row.ts.micros_since(ts) >= self.register.settle_us {
                ahead.settled = ahead.high == 0;
                return ahead;
            }
        }
        ahead.settled = ahead.high == 0 && self.rows.len() - next > LOOK;
        ahead
    }

    /// Where the readings begin that left the line in one step and from which this value comes back to it.
    fn returns(&mut self, register: i64, ts: Timestamp, ahead: &Ahead) -> Option<usize> {
        let begin = *self.out.lines.last()?;
        let last = self.last?;
        let (mut tail, mut count) = (None, 0);
        for (at, point) in self.out.points.iter().enumerate().skip(begin).rev().take(LOOK) {
            if point.kind == PointKind::Low {
                continue;
            }
            if point.register <= register + self.register.jitter {
                let first: usize = tail?;
                let left = self.out.points[first];
                let in_one_step = (left.register - point.register).saturating_mul(2) >= last.register - register;
                let soon = ts.micros_since(left.ts) <= RETURN_US;
                let settles = ahead.settled && ahead.high == 0;
                let more = 2 + ahead.low > count + ahead.high;
                return (in_one_step && soon && (settles || more)).then_some(first);
            }
            tail = Some(at);
            count += 1;
        }
        // Before the anchor there are more points of this line. They matter only while the anchor itself could have left it.
        let seeded = self.seeded_line().filter(|seed| ts.micros_since(seed.ts) <= RETURN_US);
        if seeded.is_some() && self.out.points.len() < LOOK {
            self.out.short = true;
        }
        None
    }

    /// The anchor, while the walk is on its line and that began before it.
    fn seeded_line(&self) -> Option<Anchor> {
        self.out.seed.filter(|seed| self.out.lines.len() == 1 && seed.line_start < seed.ts)
    }

    fn drop_tail(&mut self, tail: usize, back: Timestamp) {
        let dropped: Vec<Point> = self.out.points.drain(tail..).filter(|p| p.kind != PointKind::Low).collect();
        self.last = self.out.points.iter().rev().find(|p| p.kind != PointKind::Low).copied();
        // What was said of steps into the tail no longer holds.
        if let Some(first) = dropped.first() {
            self.out.findings.retain(|f| f.rule != Rule::V14 || f.end < first.ts);
        }
        for point in dropped {
            self.foreign(point, back);
        }
    }

    fn foreign(&mut self, point: Point, back: Timestamp) {
        self.out.counts.foreign += 1;
        let running = self.last.map_or(0, |last| last.register);
        let text = format!("{} left the running register, which is back at {back}", self.shown(point));
        let measured = point.register - running;
        self.find(Rule::V13, Severity::Issue, (point.ts, point.ts), (measured, None), text);
    }

    /// A long excursion below ends: the step back covers more than the excursion itself ever rose.
    fn takes_break_back(&mut self, last: Point, point: Point) -> bool {
        let Some(broke) = self.broke.take() else {
            // The line of the anchor may have begun with a break so short ago that this step could take it back.
            let fresh = |seed: &Anchor| !seed.first_line && point.ts.micros_since(seed.line_start) <= RETURN_US;
            if self.out.lines.len() == 1 && self.out.seed.as_ref().is_some_and(fresh) {
                self.out.short = true;
            }
            return false;
        };
        let register = point.register - self.offset + broke.offset;
        let gap = broke.old.register - (last.register - self.offset + broke.offset);
        let back = register >= broke.old.register - self.register.jitter
            && gap > self.register.jitter
            && gap > last.register - broke.first
            && point.ts.micros_since(broke.ts) <= RETURN_US;
        if !back {
            if point.ts.micros_since(broke.ts) <= RETURN_US {
                self.broke = Some(broke);
            }
            return false;
        }
        let begin = self.out.lines.pop().unwrap_or(0);
        let dropped: Vec<Point> = self.out.points.drain(begin..).filter(|p| p.kind != PointKind::Low).collect();
        self.out.findings.truncate(broke.finding);
        self.last = Some(broke.old);
        self.offset = broke.offset;
        for low in dropped {
            self.foreign(low, point.ts);
        }
        if register < broke.old.register {
            self.out.counts.jitter += 1;
            self.out.points.push(Point { ts: point.ts, register: broke.old.register, kind: PointKind::Low });
        } else {
            self.accept(Point { register, ..point });
        }
        true
    }

    /// Whether the next two readings go on from a jump.
    fn confirmed(&self, point: Point, next: usize) -> bool {
        let (mut from, mut seen) = (point, 0);
        for row in &self.rows[next..] {
            if row.ts == from.ts {
                continue;
            }
            let register = row.value.micros() + self.offset;
            let step = register - from.register;
            let time = row.ts.micros_since(from.ts);
            if step < -self.register.jitter || self.register.exceeds(step, time, self.register.resolution) {
                return false;
            }
            seen += 1;
            if seen == 2 {
                return true;
            }
            from = Point { ts: row.ts, register: register.max(from.register), kind: PointKind::Read };
        }
        false
    }

    /// Whether a wrapped step would be 50 to 200 % of the use at the average rate before it.
    fn like_average(&mut self, step: i64, time: i64) -> bool {
        let begin = self.out.lines.last().copied().unwrap_or(0);
        let (last, over) = (self.last.map(|last| last.ts), self.register.average_us);
        let within = |seed: Anchor| last.is_some_and(|last| last.micros_since(seed.ts) <= over);
        if self.seeded_line().is_some_and(within) {
            self.out.short = true;
        }
        let Some((rise, over)) = average(&self.out.points[begin..], self.register.average_us) else { return false };
        let usual = i128::from(rise) * i128::from(time);
        let this = i128::from(step) * i128::from(over);
        usual > 0 && this * 2 >= usual && this <= usual * 2
    }

    /// One of several values of the same time: the one that keeps the order, else the latest to arrive.
    fn choose(&mut self, from: usize, to: usize) -> Reading {
        let same = &self.rows[from..to];
        let latest = *same.iter().max_by_key(|row| row.order()).unwrap_or(&same[0]);
        let distinct =
            same.iter().enumerate().filter(|(i, row)| same[..*i].iter().all(|r| r.value != row.value)).count();
        self.out.counts.repeats += u64::try_from(same.len() - distinct).unwrap_or(0);
        if distinct == 1 {
            return latest;
        }
        let jitter = self.register.jitter;
        let floor = self.last.map(|last| last.register - self.offset);
        let ceiling = self.ceiling(to, floor);
        // A value that keeps the order is better than one that has to be taken for jitter.
        let in_order = |room: i64| {
            let keeps = |row: &&Reading| {
                let value = row.value.micros();
                floor.is_none_or(|floor| value >= floor - room)
                    && ceiling.is_none_or(|ceiling| value <= ceiling.saturating_add(room))
            };
            same.iter().filter(keeps).max_by_key(|row| row.order()).copied()
        };
        let chosen = in_order(0).or_else(|| in_order(jitter)).unwrap_or(latest);
        self.out.counts.conflicts += u64::try_from(distinct - 1).unwrap_or(0);
        let spread = same.iter().map(|row| (row.value.micros() - chosen.value.micros()).abs()).max().unwrap_or(0);
        if spread > self.register.resolution {
            let others: Vec<String> =
                same.iter().filter(|row| row.value != chosen.value).map(|row| row.value.to_string()).collect();
            let text = format!("{} kept beside {}", chosen.value, others.join(", "));
            let limit = Some(self.register.resolution);
            self.find(Rule::V05, Severity::Information, (chosen.ts, chosen.ts), (spread, limit), text);
        }
        chosen
    }

    /// What no earlier value can lie above: the first that reaches the floor again, of the next three times. Times with one value
    /// are asked before those that are in doubt themselves.
    fn ceiling(&self, next: usize, floor: Option<i64>) -> Option<i64> {
        let times = || self.rows[next..].chunk_by(|a, b| a.ts == b.ts).take(3);
        let reaches = |row: &&Reading| floor.is_none_or(|floor| row.value.micros() >= floor - self.register.jitter);
        let sure = times().filter(|same| same.iter().all(|row| row.value == same[0].value)).map(|same| &same[0]);
        sure.chain(times().flatten()).find(reaches).map(|row| row.value.micros())
    }

    fn begin_line(&mut self, point: Point) {
        self.out.lines.push(self.out.points.len());
        self.accept(point);
    }

    fn accept(&mut self, point: Point) {
        self.last = Some(point);
        self.out.points.push(point);
    }

    /// Takes out the low readings that have real ones near by; the others stand in for the register's maximum.
    fn prune(&mut self) {
        let points = &mut self.out.points;
        if points.iter().all(|p| p.kind != PointKind::Low) {
            return;
        }
        let mut kept: Vec<Point> = Vec::with_capacity(points.len());
        let mut lines = Vec::with_capacity(self.out.lines.len());
        for (line, from) in self.out.lines.iter().enumerate() {
            let to = self.out.lines.get(line + 1).copied().unwrap_or(points.len());
            lines.push(kept.len());
            let mut i = *from;
            while i < to {
                let before = kept.last().copied();
                let run_end = points[i..to].iter().position(|p| p.kind != PointKind::Low).map_or(to, |n| i + n);
                let near = match (before, points[..to].get(run_end)) {
                    (Some(a), Some(b)) => b.ts.micros_since(a.ts) <= self.register.actual_gap_us,
                    _ => false,
                };
                if !near {
                    kept.extend_from_slice(&points[i..run_end]);
                }
                if run_end < to {
                    kept.push(points[run_end]);
                }
                i = run_end + 1;
            }
        }
        self.out.points = kept;
        self.out.lines = lines;
    }

    fn find(
        &mut self,
        rule: Rule,
        severity: Severity,
        (start, end): (Timestamp, Timestamp),
        (measured, limit): (i64, Option<i64>),
        evidence: String,
    ) {
        self.out.findings.push(Finding {
            rule,
            severity,
            start,
            end,
            measured: Amount::from_micros(measured),
            limit: limit.and_then(Amount::from_micros),
            installation: self.register.installation,
            evidence,
        });
    }

    /// A limit after the multiplier as a register step.
    fn as_read(&self, limit: Option<Amount>) -> Option<i64> {
        let limit = i128::from(limit?.micros()) * 1_000_000 / i128::from(self.register.multiplier.max(1));
        i64::try_from(limit).ok()
    }

    fn shown(&self, point: Point) -> String {
        let register = self.register.wrap.map_or(point.register, |range| point.register.rem_euclid(range));
        format!("{} at {}", shown(register), point.ts)
    }
}
