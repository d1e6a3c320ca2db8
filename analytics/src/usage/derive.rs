//! The use of one usage point: its installations one after the other, and what lies between them.

use std::collections::BTreeSet;

use meterlake_model::{ChannelKind, Commodity, Timestamp};

use super::anchor::{self, Border, Start};
use super::aside::set_aside;
use super::finding::{Finding, Rule, Severity};
use super::fold;
use super::history::{DayNumber, History, Lore, number_of};
use super::interval;
use super::line::{self, Ends};
use super::register::{Point, PointKind, Register, range, scale};
use super::sink::Sink;
use super::twin::Twin;
use super::walk::{Walked, walk};
use super::{InstallationReadings, PointInput, PointUsage, Reading, UsageRules};

/// Derives spans and findings of one usage point and channel. Physical channels have no use: the result is empty.
///
/// ```text
/// days of a register channel: Σ days = (last − first accepted register) × multiplier, installation by installation
/// slots of a day:             Σ slots = day
/// ```
///
/// With [`PointInput::anchor`] the walk begins there, and the result is the same, or [`PointUsage::short`] says that it may
/// not be: the walk must then come from further back.
pub fn derive(point: &PointInput<'_>, rules: &UsageRules) -> PointUsage {
    // What was used long ago matters to a few long gaps only.
    let learn = point.from.plus_seconds(-86_400 * LEARN_DAYS);
    let usage = derive_from(point, rules, point.anchor.is_none().then_some(learn));
    if usage.short && point.anchor.is_none() { derive_from(point, rules, None) } else { usage }
}

/// Mostly the like days of a gap lie within so many days before it.
const LEARN_DAYS: i64 = 40;

/// As [`derive`], without most of what lies before `learn`.
fn derive_from(point: &PointInput<'_>, rules: &UsageRules, learn: Option<Timestamp>) -> PointUsage {
    let holidays: BTreeSet<DayNumber> = point.holidays.iter().map(|day| number_of(*day)).collect();
    let mut sink = Sink {
        input: point,
        rules,
        history: History::new(lore(point, rules, &holidays)),
        twins: twins(point, rules),
        outage_days: outage_days(point),
        slots: Vec::new(),
        days: Vec::new(),
        findings: Vec::new(),
        wholes: Vec::new(),
        learn,
        short: false,
    };
    if let Some(left_out) = point.anchor.map(|anchor| anchor.ts).or(learn) {
        // What a twin said is looked at a little before, too.
        let whole = left_out.plus_micros(sink.twins.iter().map(Twin::reach_us).max().unwrap_or(0));
        sink.history.set_floor(number_of(point.usage_point.zone.day_of(whole)) + 1);
    }
    let mut usage = PointUsage::default();
    match point.channel.kind() {
        ChannelKind::Register => registers(&mut sink, &mut usage),
        ChannelKind::Interval => interval::derive(&mut sink, &mut usage),
        ChannelKind::Physical => return usage,
    }
    usage.short = sink.short || sink.history.is_short();
    let Sink { mut slots, days, mut findings, wholes, .. } = sink;
    usage.wholes = wholes;
    findings.retain(|finding| point.from <= finding.start && finding.start < point.to);
    findings.sort_by(|a, b| (a.start, a.rule, a.end, &a.evidence).cmp(&(b.start, b.rule, b.end, &b.evidence)));
    usage.findings = findings;
    // In place: the slots were given room for their days.
    slots.splice(0..0, days);
    usage.spans = slots;
    usage
}

fn lore<'a>(point: &PointInput<'a>, rules: &'a UsageRules, holidays: &'a BTreeSet<DayNumber>) -> Lore<'a> {
    let zone = &point.usage_point.zone;
    let moved_in = point.usage_point.customer_since.map(|since| {
        let day = zone.day_of(since);
        let whole = zone.start_of_day(day) == since;
        (number_of(day), number_of(day) + i32::from(!whole))
    });
    Lore {
        holidays,
        back: rules.history_days,
        average_days: rules.average_days,
        shapes: &rules.shapes,
        temperatures: point.aids.temperatures,
        profile: point.aids.profile,
        moved_in,
    }
}

fn twins(point: &PointInput<'_>, rules: &UsageRules) -> Vec<Twin> {
    let of = |twin: &InstallationReadings<'_>| Twin::new(point, twin, register_of(point, 0, twin, rules));
    point.aids.twins.iter().map(of).collect()
}

fn outage_days(point: &PointInput<'_>) -> BTreeSet<DayNumber> {
    let zone = &point.usage_point.zone;
    let mut days = BTreeSet::new();
    for (start, end) in point.outages {
        let mut ts = *start;
        while ts < *end {
            let day = zone.day_of(ts);
            days.insert(number_of(day));
            ts = zone.start_of_day(day.plus_days(1)).max(ts.plus_micros(1));
        }
    }
    days
}

/// Readings of an installation within its dates, in canonical order, each at its true instant.
pub(super) fn rows(point: &PointInput<'_>, installation: &InstallationReadings<'_>) -> Vec<Reading> {
    let mut rows = installation.readings.to_vec();
    if !rows.is_sorted_by_key(Reading::order) {
        rows.sort_unstable_by_key(Reading::order);
    }
    fold::place(&mut rows, &point.usage_point.zone, installation.channel.interval_s);
    let (from, to) = (installation.installation.installed_at, installation.installation.removed_at);
    let begin = from.map_or(0, |from| rows.partition_point(|row| row.ts < from));
    let end = to.map_or(rows.len(), |to| rows.partition_point(|row| row.ts <= to));
    rows.truncate(end);
    rows.drain(..begin.min(end));
    rows
}

fn register_of(point: &PointInput<'_>, at: usize, of: &InstallationReadings<'_>, rules: &UsageRules) -> Register {
    let channel = of.channel;
    let resolution = channel.resolution.micros().max(1);
    let interval_us = channel.interval_s.clamp(1, 86_400) * 1_000_000;
    let water = match point.usage_point.commodity {
        Commodity::Water => rules.actual_gap_water_s * 1_000_000,
        Commodity::Electricity => 0,
    };
    let mut register = Register {
        installation: at,
        resolution,
        jitter: resolution.saturating_mul(rules.jitter_steps),
        wrap: range(channel),
        multiplier: channel.multiplier_micros,
        capacity: channel.capacity_per_hour.map(|capacity| capacity.micros()),
        capacity_percent: rules.capacity_percent,
        usual_step: 0,
        interval_us,
        // A clock that drifts by less than half an interval has skipped no reading.
        actual_gap_us: (interval_us + interval_us / 2).max(water),
        settle_us: rules.settle_s * 1_000_000,
        average_us: i64::from(rules.average_days) * 86_400_000_000,
    };
    register.usual_step = register.step_of_half_interval();
    register
}

fn registers(sink: &mut Sink<'_>, usage: &mut PointUsage) {
    let point = sink.input;
    let begin = point.anchor.map_or(0, |anchor| anchor.installation);
    let mut lines: Vec<(Register, Walked)> = Vec::with_capacity(point.installations.len());
    let mut all = Vec::with_capacity(point.installations.len());
    for at in begin..point.installations.len() {
        let register = register_of(point, at, &point.installations[at], sink.rules);
        let mut readings = rows(point, &point.installations[at]);
        take_aside(sink, usage, at, &mut readings);
        add_ends(&mut readings, &point.installations[at]);
        let seed = point.anchor.filter(|_| at == begin);
        if let Some(anchor) = seed {
            let behind = readings.partition_point(|row| row.ts <= anchor.ts);
            readings.drain(..behind);
        }
        let walked = walk(&register, &readings, seed);
        usage.counts.add(&walked.counts);
        usage.heard |= !readings.is_empty();
        sink.short |= walked.short;
        lines.push((register, walked));
        all.push(readings);
    }
    for at in 1..lines.len() {
        let (before, after) = lines.split_at_mut(at);
        if let (Some(before), Some(after)) = (before.last_mut(), after.first_mut()) {
            join(point, begin + at, sink.rules.boundary_gap_s, &mut before.1, before.0.wrap, &mut after.1);
        }
    }
    for border in point.borders {
        usage.borders.push(at_border(&lines, &all, point, *border));
    }
    for (at, (register, mut walked)) in (begin..).zip(lines) {
        sink.findings.append(&mut walked.findings);
        installation(sink, at, &register, &walked);
    }
}

/// Leaves what is set aside out of what is walked.
pub(super) fn take_aside(sink: &mut Sink<'_>, usage: &mut PointUsage, at: usize, readings: &mut Vec<Reading>) {
    let before = readings.len();
    sink.findings.append(&mut set_aside(readings, sink.input.installations[at].channel, at));
    let aside = u64::try_from(before - readings.len()).unwrap_or(0);
    usage.counts.readings += aside;
    usage.counts.foreign += aside;
}

/// What is known at a border: the anchor is that of the last installation that has one.
fn at_border(lines: &[(Register, Walked)], all: &[Vec<Reading>], point: &PointInput<'_>, border: Timestamp) -> Border {
    let each = || lines.iter().zip(all).map(|((register, walked), rows)| (register, (walked, rows.as_slice())));
    let closed_at = each()
        .find_map(|(register, of)| anchor::closed_at(point, register.installation, of, register.settle_us, border));
    let mut found = each()
        .rev()
        .filter_map(|(register, of)| anchor::of_register(point, register.installation, of, register.settle_us, border));
    let silent = || all.iter().all(|rows| rows.first().is_none_or(|row| row.ts > border));
    let start = match found.next() {
        Some(anchor) => Start::Anchor(anchor),
        None if point.anchor.is_none() && silent() => Start::Nothing,
        None => Start::Unsure,
    };
    let closed_at = closed_at.or_else(|| anchor::closed_before_any(point, start, border));
    Border { ts: border, start, closed_at }
}

/// The registers at installation and removal stand like readings, before all others of their time.
fn add_ends(rows: &mut Vec<Reading>, of: &InstallationReadings<'_>) {
    let end = |ts: Option<Timestamp>, value| {
        Some(Reading { ts: ts?, received_at_s: i64::MAX, revision: 0, value: value?, flags: Default::default() })
    };
    let first = end(of.installation.installed_at, of.channel.start_register);
    let last = end(of.installation.removed_at, of.channel.end_register);
    if let Some(first) = first {
        rows.insert(0, first);
    }
    rows.extend(last);
    if first.is_some() || last.is_some() {
        rows.sort_by_key(Reading::order);
    }
}

/// Where the registry gives one meter a new row (a changed ratio) the register goes on: it is straight between the near
/// readings on both sides.
fn join(point: &PointInput<'_>, at: usize, gap_s: i64, before: &mut Walked, wrap: Option<i64>, after: &mut Walked) {
    let (old, new) = (point.installations[at - 1].installation, point.installations[at].installation);
    let (Some(border), true) = (new.installed_at, old.meter_id == new.meter_id && old.removed_at == new.installed_at)
    else {
        return;
    };
    let (Some(a), Some(b)) = (before.points.last().copied(), after.points.first().copied()) else { return };
    if a.ts >= border || b.ts <= border || before.pending.is_some() {
        return;
    }
    let shown = wrap.map_or(a.register, |range| a.register.rem_euclid(range));
    let (rise, time) = (b.register - shown, b.ts.micros_since(a.ts));
    if rise < 0 || time > gap_s * 1_000_000 {
        return;
    }
    let resolution = point.installations[at].channel.resolution.micros().max(1);
    let part = i128::from(rise / resolution) * i128::from(border.micros_since(a.ts));
    let steps = (2 * part + i128::from(time)) / (2 * i128::from(time));
    let part = i64::try_from(steps).unwrap_or(0) * resolution;
    before.points.push(Point { ts: border, register: a.register + part, kind: PointKind::Derived });
    after.points.insert(0, Point { ts: border, register: shown + part, kind: PointKind::Derived });
    for line in after.lines.iter_mut().skip(1) {
        *line += 1;
    }
}

fn installation(sink: &mut Sink<'_>, at: usize, register: &Register, walked: &Walked) {
    let dates = sink.input.installations[at].installation;
    let (from, to) = (dates.installed_at, dates.removed_at);
    let Some((first, last)) = walked.points.first().zip(walked.points.last()) else {
        if let Some(from) = from {
            nothing(sink, at, from, to, "no reading of the installation");
        }
        return;
    };
    // What lies before an anchor is told by the run that found it.
    let head = from.filter(|from| *from < first.ts && walked.seed.is_none());
    // An installation without dates ends at its last reading; one that is still there has yet to say more.
    let open = to.is_none() && from.is_some();
    let tail = to.filter(|to| *to > last.ts && walked.pending.is_none());
    let lines = walked.lines.len();
    let mut before: Option<Timestamp> = None;
    // So far another meter tells what this one does not.
    let mut reached = last.ts;
    for (n, points) in walked.lines().enumerate() {
        let (Some(line_start), Some(line_end)) = (points.first(), points.last()) else { continue };
        if let Some(before) = before {
            sink.missing(at, before, line_start.ts, "the register fell and nothing explains the step");
        }
        let seed = walked.seed.filter(|_| n == 0);
        let (base, begun) =
            seed.map_or((line_start.register, line_start.ts), |seed| (seed.line_register, seed.line_start));
        let whole = scale(line_end.register - base, register.multiplier);
        if whole.is_none() {
            let text = format!("the use from {begun} to {} does not fit 18 digits", line_end.ts);
            sink.missing(at, line_start.ts, line_end.ts, &text);
            sink.findings.push(Finding {
                rule: Rule::V15,
                severity: Severity::Stop,
                start: line_start.ts,
                end: line_end.ts,
                measured: None,
                limit: None,
                installation: at,
                evidence: text,
            });
            before = Some(line_end.ts);
            continue;
        }
        let until_twin = open && walked.pending.is_none() && n + 1 == lines;
        let beside = until_twin.then(|| line::reach_of_twins(sink, register, line_end.ts)).flatten();
        let ends = Ends { head: head.filter(|_| n == 0), tail: tail.filter(|_| n + 1 == lines).or(beside) };
        // What precedes the line in time is emitted first.
        let days = sink.days.len();
        let unfilled = line::emit(sink, register, points, seed, ends);
        if let Some(head) = ends.head.filter(|_| unfilled.head) {
            let after = sink.days.split_off(days);
            nothing(sink, at, head, Some(line_start.ts), "no reading since the installation");
            sink.days.extend(after);
        }
        if let Some(tail) = ends.tail.filter(|_| unfilled.tail && beside.is_none()) {
            nothing(sink, at, line_end.ts, Some(tail), "no reading before the removal");
        }
        before = Some(line_end.ts);
        reached = beside.filter(|_| !unfilled.tail).unwrap_or(line_end.ts);
    }
    if let Some(pending) = walked.pending {
        let until = if open { sink.horizon() } else { to.unwrap_or(pending) };
        sink.missing(at, last.ts, until.max(pending), "the register fell and nothing confirms the step");
    } else if open {
        let horizon = sink.horizon();
        sink.missing(at, reached, horizon, "no reading since");
    }
}

/// A hole that nothing fills, to its end or as far as is asked for.
pub(super) fn nothing(sink: &mut Sink<'_>, at: usize, from: Timestamp, to: Option<Timestamp>, why: &str) {
    let horizon = sink.horizon();
    sink.missing(at, from, to.unwrap_or(horizon), why);
    // An open end says nothing of how far is asked for, so that a later run finds the same.
    sink.gap_finding(at, Severity::Issue, (from, to.unwrap_or(from)), why);
}
