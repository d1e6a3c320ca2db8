//! One line of a register into slots and days: the curve between accepted readings, read off at the edges of the grid.
//!
//! Slots and days are differences of the same curve, so slots add up to their day, and days to last minus first register,
//! exactly. A gap is a stretch of the curve whose shape comes from a fill and whose ends come from readings.

use std::sync::Arc;

use meterlake_model::{Amount, Method, Quality, Timestamp};

use super::Whole;
use super::anchor::Anchor;
use super::finding::Severity;
use super::gap::{Fills, Origin, Piece, READ, distribute, pieces};
use super::grid::{DAY_US, Grid};
use super::history::Used;
use super::reconcile::common_step;
use super::register::{Point, PointKind, Register, average, scale};
use super::sink::Sink;
use super::span::{Boundary, Level, Parts, Span};

/// What evidence says of a gap whose estimates have to wait.
pub(super) const WAITS: &str = "; nothing is estimated while so much of the area is silent";

/// A slot or day that is being added up.
#[derive(Clone)]
struct Open {
    start: Timestamp,
    register: i64,
    used: i64,
    border: Quality,
    quality: Quality,
    method: Option<Method>,
    estimated: i64,
    /// What of it had been estimated at the first and at the last reading so far.
    at_readings: Option<[i64; 2]>,
    evidence: Option<Arc<str>>,
    /// Whether nobody knows a part of it yet.
    unknown: bool,
}

/// The open ends of a line that the registry bounds but no reading does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    pub(super) head: Option<Timestamp>,
    pub(super) tail: Option<Timestamp>,
}

/// What of [`Ends`] nothing could fill.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unfilled {
    pub(super) head: bool,
    pub(super) tail: bool,
}

/// Turns one line into slots and days. With a seed it began before its first point here.
pub(super) fn emit(
    sink: &mut Sink<'_>,
    register: &Register,
    points: &[Point],
    seed: Option<Anchor>,
    ends: Ends,
) -> Unfilled {
    let interval_s = register.interval_us / 1_000_000;
    let zone = &sink.input.usage_point.zone;
    let begin = sink.learn.map_or(0, |learn| points.partition_point(|p| p.ts <= learn).saturating_sub(1));
    let (first, last) = (points[begin], points[points.len() - 1]);
    let line = Line {
        grid: Grid::at(zone, interval_s, first.ts),
        base: seed.map_or(points[0].register, |seed| seed.line_register),
        older: seed.is_some_and(|seed| seed.line_start < points[0].ts),
        slot: open(first, Quality::Valid, 0),
        day: open(first, Quality::Valid, 0),
        at: first.ts,
        here: first.register,
        used: 0,
        border: Quality::Valid,
        parts: Parts::default(),
        register,
        sink,
    };
    line.run(points, begin, last, ends)
}

fn open(point: Point, border: Quality, used: i64) -> Open {
    Open {
        start: point.ts,
        register: point.register,
        used,
        border,
        quality: Quality::Valid,
        method: None,
        estimated: 0,
        at_readings: None,
        evidence: None,
        unknown: false,
    }
}

struct Line<'a, 'b> {
    sink: &'b mut Sink<'a>,
    register: &'b Register,
    grid: Grid<'a>,
    /// Registers are multiplied as distances from here, so that a wrapped register is used like any other.
    base: i64,
    /// Whether the line has points before those that are here.
    older: bool,
    slot: Open,
    day: Open,
    /// Where the walk stands, with the register as read, the use since `base` and how sure the register is.
    at: Timestamp,
    here: i64,
    used: i64,
    border: Quality,
    /// The slots of the day so far.
    parts: Parts,
}

impl<'a> Line<'a, '_> {
    fn run(mut self, points: &[Point], begin: usize, last: Point, ends: Ends) -> Unfilled {
        self.sink.history.set_slots(self.grid.slots_a_day(), self.grid.interval_us() / 1_000_000);
        let wanted = last.ts.min(self.sink.input.to).micros_since(points[begin].ts.max(self.sink.input.from));
        let room = wanted / self.register.interval_us + wanted / DAY_US + 4;
        self.sink.slots.reserve(usize::try_from(room).unwrap_or(0));
        let mut unfilled = Unfilled::default();
        let first = points[begin];
        self.start(first.ts, first.register, border_of(first));
        self.at_reading();
        if let Some(head) = ends.head.filter(|_| begin == 0) {
            unfilled.head = !self.head(head, points);
        }
        let (boundary_us, actual_us) = (self.sink.rules.boundary_gap_s * 1_000_000, self.register.actual_gap_us);
        for pair in points[begin..].windows(2) {
            if self.day.start >= self.sink.input.to {
                break;
            }
            let time = pair[1].ts.micros_since(pair[0].ts);
            if time <= actual_us && time <= boundary_us {
                self.actual(pair[0], pair[1], time);
            } else {
                self.gap(pair[0], pair[1], time);
            }
            self.at_reading();
        }
        if let Some(tail) = ends.tail.filter(|_| self.at == last.ts) {
            unfilled.tail = !self.tail(tail, points);
        }
        self.finish();
        unfilled
    }

    fn start(&mut self, ts: Timestamp, register: i64, border: Quality) {
        self.used = self.scaled(register);
        (self.at, self.here, self.border) = (ts, register, border);
        self.grid = Grid::at(&self.sink.input.usage_point.zone, self.register.interval_us / 1_000_000, ts);
        let point = Point { ts, register, kind: PointKind::Read };
        self.slot = open(point, border, self.used);
        self.day = self.slot.clone();
        self.parts = Parts::default();
    }

    /// The curve stands at a reading, which ends what an estimate at an end of the day reaches.
    fn at_reading(&mut self) {
        let estimated = self.day.estimated;
        self.day.at_readings.get_or_insert([estimated; 2])[1] = estimated;
    }

    fn scaled(&self, register: i64) -> i64 {
        // The walk made sure that the whole line fits.
        scale(register - self.base, self.register.multiplier).unwrap_or(i64::MAX)
    }

    /// Between two readings with no room for another.
    fn actual(&mut self, a: Point, b: Point, time: i64) {
        let mut origin = READ;
        if b.kind == PointKind::Over {
            origin.quality = Quality::Failed;
        } else if a.kind == PointKind::Low || b.kind == PointKind::Low {
            origin.quality = Quality::Derived;
        }
        let rise = b.register - a.register;
        while self.grid.end() < b.ts {
            let edge = self.grid.end();
            let part = self.between(rise, edge.micros_since(a.ts), time);
            self.piece(edge, a.register + part, origin, None, Quality::Derived);
        }
        self.piece(b.ts, b.register, origin, None, border_of(b));
    }

    /// The part of a rise after a part of its time, in steps of the resolution, half a step up.
    fn between(&self, rise: i64, part: i64, time: i64) -> i64 {
        if rise == 0 {
            return 0;
        }
        let unit = self.unit(rise);
        let steps = rise / unit;
        if let Some(twice) = steps.checked_mul(part).and_then(|p| p.checked_mul(2)).and_then(|p| p.checked_add(time)) {
            return twice / (2 * time) * unit;
        }
        let twice = 2 * i128::from(steps) * i128::from(part) + i128::from(time);
        i64::try_from(twice / (2 * i128::from(time))).unwrap_or(steps) * unit
    }

    fn unit(&self, rise: i64) -> i64 {
        let resolution = self.register.resolution;
        if rise % resolution == 0 { resolution } else { common_step(rise, resolution) }
    }

    /// Between two readings that miss others: the register gives the total, a fill the shape.
    fn gap(&mut self, a: Point, b: Point, time: i64) {
        let rise = b.register - a.register;
        let near = time <= self.sink.rules.boundary_gap_s * 1_000_000;
        let mut pieces = pieces(self.grid.clone(), self.at, b.ts);
        let unit = self.unit(rise);
        let used = if rise == 0 {
            for piece in &mut pieces {
                piece.origin = Origin { quality: Quality::Derived, method: Some(Method::Closure), bears: false };
            }
            Used::default()
        } else if near {
            // Midnights are straight between the readings; what lies between two of them is a whole of its own.
            let midnights: Vec<(usize, i64)> = (0..pieces.len())
                .filter(|i| pieces[*i].midnight || i + 1 == pieces.len())
                .map(|i| (i + 1, self.between(rise, pieces[i].to.micros_since(a.ts), time)))
                .collect();
            let mut fills = self.fills(b.ts);
            let (mut from, mut before) = (0, 0);
            for (to, upto) in midnights {
                fills.scaled(&mut pieces[from..to], (upto - before) / unit, unit, time);
                (from, before) = (to, upto);
            }
            fills.used
        } else {
            let mut fills = self.fills(b.ts);
            fills.scaled(&mut pieces, rise / unit, unit, time);
            for piece in &mut pieces {
                piece.origin.bears = true;
            }
            fills.used
        };
        let evidence = self.evidence(a.ts, b.ts, &used);
        let severity = if rise == 0 { Severity::Information } else { Severity::Issue };
        self.sink.gap_finding(self.register.installation, severity, (a.ts, b.ts), &evidence);
        let border = match () {
            () if near || rise == 0 => Quality::Derived,
            () if told_by_twin(&pieces) => Quality::Derived,
            () if pieces.iter().any(|p| p.origin.quality == Quality::Missing) => Quality::Missing,
            () => Quality::EstimatedScaled,
        };
        let mut register = a.register;
        for piece in &pieces {
            register += piece.steps * unit;
            let border = if piece.to == b.ts { border_of(b) } else { border };
            self.piece(piece.to, register, piece.origin, Some(&evidence), border);
        }
    }

    /// From the installation to the first reading, no register known at its start.
    fn head(&mut self, head: Timestamp, points: &[Point]) -> bool {
        let first = points[0];
        let (first_ts, register) = (first.ts, first.register);
        self.start(head, register, Quality::Estimated);
        let mut pieces = pieces(self.grid.clone(), self.at, first_ts);
        let time = first_ts.micros_since(head);
        let near = time <= self.sink.rules.linear_gap_s * 1_000_000;
        let rate = points.get(1).filter(|_| near).map(|p| (p.register - register, p.ts.micros_since(first_ts)));
        let mut fills = self.fills(first_ts);
        let steps = fills.unscaled(&mut pieces, rate.map(|r| (r, Method::Linear)));
        let used = fills.used;
        let Some(steps) = steps else {
            self.start(first_ts, register, border_of(first));
            self.at_reading();
            return false;
        };
        let unit = self.register.resolution;
        let steps = steps.min(register / unit);
        let mut at = register - steps * unit;
        self.start(head, at, if told_by_twin(&pieces) { Quality::Derived } else { Quality::Estimated });
        distribute(&mut pieces, steps);
        let evidence = self.evidence(head, first_ts, &used);
        for piece in &pieces {
            at += piece.steps * unit;
            let border = if piece.to == first_ts { border_of(first) } else { self.border };
            self.piece(piece.to, at, piece.origin, Some(&evidence), border);
        }
        self.at_reading();
        self.sink.gap_finding(self.register.installation, Severity::Issue, (head, first_ts), &evidence);
        true
    }

    /// From the last reading to a removal without a register.
    fn tail(&mut self, tail: Timestamp, points: &[Point]) -> bool {
        let last = points[points.len() - 1];
        let mut pieces = pieces(self.grid.clone(), self.at, tail);
        let beside = pieces.iter().all(|p| self.sink.twin_use(p.from(), p.to).is_some());
        if !beside && tail.micros_since(last.ts) > self.sink.rules.project_s * 1_000_000 {
            return false;
        }
        let rate = average(self.sink.of_customer(points), self.register.average_us);
        if !beside && self.older && last.ts.micros_since(points[0].ts) <= self.register.average_us {
            self.sink.short |= tail > self.sink.input.from;
        }
        let mut fills = self.fills(tail);
        let Some(steps) = fills.unscaled(&mut pieces, rate.map(|r| (r, Method::Project))) else { return false };
        let used = fills.used;
        distribute(&mut pieces, steps);
        let evidence = self.evidence(last.ts, tail, &used);
        let mut at = last.register;
        let border = if told_by_twin(&pieces) { Quality::Derived } else { Quality::Estimated };
        for piece in &pieces {
            at += piece.steps * self.register.resolution;
            self.piece(piece.to, at, piece.origin, Some(&evidence), border);
        }
        self.sink.gap_finding(self.register.installation, Severity::Issue, (last.ts, tail), &evidence);
        true
    }

    /// What fills a gap that ends at `until`.
    fn fills(&self, until: Timestamp) -> Fills<'_, 'a> {
        let matters = until > self.sink.input.from;
        let suspended = self.sink.is_suspended(until);
        Fills { sink: self.sink, register: self.register, matters, suspended, used: Used::default() }
    }

    fn evidence(&self, from: Timestamp, to: Timestamp, used: &Used) -> Arc<str> {
        let waits = if self.sink.is_suspended(to) { WAITS } else { "" };
        let told = self.sink.history.told(used, |day| self.grid.civil(day));
        format!("no reading between {from} and {to}{waits}{told}").into()
    }

    /// Moves along the curve to `to`, at most to the next edge, and closes what ends there.
    fn piece(&mut self, to: Timestamp, register: i64, origin: Origin, evidence: Option<&Arc<str>>, border: Quality) {
        let used = self.scaled(register);
        if origin.quality != Quality::Valid || origin.method.is_some() {
            let value = used - self.used;
            if origin.quality <= self.slot.quality {
                let method = origin.method.filter(|_| origin.quality != Quality::Missing);
                (self.slot.quality, self.slot.method) = (origin.quality, method);
                self.slot.evidence = evidence.cloned();
            }
            if origin.quality == Quality::Missing {
                self.day.evidence = evidence.cloned();
            }
            if origin.quality.is_estimate() {
                self.slot.estimated += value;
                if origin.bears {
                    self.day.estimated += value;
                    self.day.method = origin.method;
                    self.day.evidence = evidence.cloned();
                }
            }
        }
        self.used = used;
        (self.at, self.here, self.border) = (to, register, border);
        if to < self.grid.end() {
            return;
        }
        let point = Point { ts: to, register, kind: PointKind::Read };
        let whole = self.slot.start == self.grid.start();
        self.close_slot(whole);
        self.slot = open(point, border, used);
        if to == self.grid.day_end() {
            self.close_day(point, border);
            self.day = self.slot.clone();
        }
        self.grid.advance();
    }

    fn close_slot(&mut self, whole: bool) {
        let slot = &mut self.slot;
        let value = self.used - slot.used;
        self.day.unknown |= slot.quality == Quality::Missing;
        self.parts.add(slot.quality, if slot.quality == Quality::Missing { 0 } else { value });
        if whole && slot.quality.feeds_history() && !self.sink.outage_days.contains(&self.grid.day()) {
            self.sink.history.remember(self.grid.day(), self.grid.place(), value);
        }
        if self.sink.wants(slot.start) {
            self.sink.slots.push(Span {
                level: Level::Slot,
                start: slot.start,
                end: self.at,
                value: Amount::from_micros(value).filter(|_| slot.quality != Quality::Missing),
                quality: slot.quality,
                method: slot.method,
                estimated: Amount::from_micros(slot.estimated).unwrap_or_default(),
                start_register: None,
                end_register: None,
                installation: self.register.installation,
                evidence: slot.evidence.take(),
                parts: None,
            });
        }
    }

    fn close_day(&mut self, end: Point, border: Quality) {
        let day = &mut self.day;
        let loose = day.at_readings.map(|[first, last]| [first, day.estimated - last]);
        let parts = Parts { loose, ..std::mem::take(&mut self.parts) };
        let quality = day.border.min(border);
        let value = Amount::from_micros(self.used - day.used);
        if let (Quality::Valid | Quality::Derived | Quality::Verified, Some(value)) = (quality, value) {
            self.sink.wholes.push(Whole { start: day.start, end: end.ts, value });
        }
        if !self.sink.wants(day.start) {
            return;
        }
        let quality = if day.unknown { Quality::Missing } else { quality };
        let method = match quality {
            Quality::Missing => None,
            Quality::Derived => Some(Method::Boundary),
            _ if quality.is_estimate() => day.method,
            _ => None,
        };
        let shown = |register: i64| self.register.wrap.map_or(register, |range| register.rem_euclid(range));
        let boundary = |register: i64, quality| {
            let known = Some(register).filter(|_| quality != Quality::Missing);
            known.and_then(|r| Amount::from_micros(shown(r))).map(|register| Boundary { register, quality })
        };
        self.sink.days.push(Span {
            level: Level::Day,
            start: day.start,
            end: end.ts,
            value: value.filter(|_| quality != Quality::Missing),
            quality,
            method,
            estimated: Amount::from_micros(day.estimated).filter(|_| quality != Quality::Missing).unwrap_or_default(),
            start_register: boundary(day.register, day.border),
            end_register: boundary(end.register, border),
            installation: self.register.installation,
            evidence: day.evidence.take(),
            parts: Some(Box::new(parts)),
        });
    }

    /// Closes what the end of the line cuts off.
    fn finish(&mut self) {
        let point = Point { ts: self.at, register: self.here, kind: PointKind::Read };
        if self.at > self.slot.start {
            self.close_slot(false);
        }
        if self.at > self.day.start {
            self.close_day(point, self.border);
        }
    }
}

/// Whether a twin tells of all that had supply.
fn told_by_twin(pieces: &[Piece]) -> bool {
    let method = |p: &Piece| p.origin.method;
    pieces.iter().any(|p| method(p) == Some(Method::Twin))
        && pieces.iter().all(|p| p.origin.quality >= Quality::Derived)
}

/// How far meters beside this one tell without a gap what was used from a time on.
pub(super) fn reach_of_twins(sink: &Sink<'_>, register: &Register, from: Timestamp) -> Option<Timestamp> {
    if sink.twins.is_empty() {
        return None;
    }
    let mut grid = Grid::at(&sink.input.usage_point.zone, register.interval_us / 1_000_000, from);
    let mut reach = from;
    while sink.twin_use(reach, grid.end()).is_some() {
        reach = grid.end();
        grid.advance();
    }
    (reach > from).then_some(reach)
}

fn border_of(point: Point) -> Quality {
    match point.kind {
        PointKind::Read | PointKind::Over => Quality::Valid,
        PointKind::Low | PointKind::Derived => Quality::Derived,
    }
}
