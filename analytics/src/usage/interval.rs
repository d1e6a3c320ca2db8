//! Interval channels: the readings are the slots. Missing slots are filled, and parts are brought to the totals that a
//! register gives.

use std::sync::Arc;

use meterlake_model::{Amount, Method, Quality, Timestamp};

use super::anchor::{self, Anchor, Border, Start};
use super::derive::{nothing, rows, take_aside};
use super::finding::{Finding, Rule, Severity};
use super::grid::Grid;
use super::history::{DayNumber, Used};
use super::line::WAITS;
use super::reconcile::{Closure, Part, reconcile, tolerance};
use super::register::scale;
use super::sink::Sink;
use super::span::{Level, Parts, Span};
use super::twin::Twin;
use super::{PointUsage, Reading, Whole};

/// A slot while it is worked on.
struct Slot {
    start: Timestamp,
    end: Timestamp,
    day: DayNumber,
    place: usize,
    /// Whether it ends on the grid, and not with the newest reading or the installation.
    whole: bool,
    value: Option<i64>,
    quality: Quality,
    method: Option<Method>,
    evidence: Option<Arc<str>>,
    /// Whether an estimate has to wait.
    suspended: bool,
}

pub(super) fn derive(sink: &mut Sink<'_>, usage: &mut PointUsage) {
    let begin_at = sink.input.anchor.map_or(0, |anchor| anchor.installation);
    let mut silent = vec![sink.input.anchor.is_none(); sink.input.borders.len()];
    let mut anchors: Vec<Option<Anchor>> = vec![None; sink.input.borders.len()];
    let mut closed: Vec<Option<Timestamp>> = vec![None; sink.input.borders.len()];
    for at in begin_at..sink.input.installations.len() {
        let of = sink.input.installations[at];
        let mut readings = rows(sink.input, &of);
        take_aside(sink, usage, at, &mut readings);
        let seed = sink.input.anchor.filter(|_| at == begin_at);
        if let Some(anchor) = seed {
            let behind = readings.partition_point(|row| row.ts <= anchor.ts);
            readings.drain(..behind);
            sink.short |= readings.is_empty();
        }
        usage.heard |= !readings.is_empty();
        usage.counts.readings += u64::try_from(readings.len()).unwrap_or(0);
        let interval_us = of.channel.interval_s.clamp(1, 86_400) * 1_000_000;
        let (installed, removed) = (of.installation.installed_at, of.installation.removed_at);
        let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
            if let Some(from) = installed {
                nothing(sink, at, from, removed, "no reading of the installation");
            }
            continue;
        };
        let first_slot = installed.unwrap_or(first.ts.plus_micros(-interval_us));
        let start = match seed {
            Some(anchor) => anchor.ts,
            None => learned(sink, &readings, interval_us).map_or(first_slot, |ts| ts.max(first_slot)),
        };
        let end = removed.unwrap_or_else(|| reach_of_twins(sink, at, last.ts));
        let mut slots = read(sink, usage, at, &readings, (start, end));
        let cut = seed.is_some() || start > first_slot;
        // A hole is told whole.
        sink.short |= cut && slots.first().is_none_or(|slot| slot.value.is_none());
        for (n, border) in sink.input.borders.iter().enumerate() {
            silent[n] &= first.ts > *border;
            let anchor = anchor(sink, at, (&slots, cut), &readings, *border);
            sink.short |= cut && anchor.is_none();
            anchors[n] = anchor.or(anchors[n]);
            closed[n] = closed[n].or_else(|| closed_at(sink, at, &slots, &readings, *border));
        }
        fill(sink, at, &mut slots);
        close(sink, at, &mut slots);
        emit(sink, at, &slots);
        if removed.is_none() && installed.is_some() {
            let horizon = sink.horizon();
            sink.missing(at, end, horizon, "no reading since");
        }
    }
    for (n, border) in sink.input.borders.iter().enumerate() {
        let start = match anchors[n] {
            Some(anchor) => Start::Anchor(anchor),
            None if silent[n] => Start::Nothing,
            None => Start::Unsure,
        };
        let closed_at = closed[n].or_else(|| anchor::closed_before_any(sink.input, start, *border));
        usage.borders.push(Border { ts: *border, start, closed_at });
    }
}

/// So far goes what is told: to the last reading, or as far as a meter beside this one goes on from there.
fn reach_of_twins(sink: &Sink<'_>, at: usize, last: Timestamp) -> Timestamp {
    if sink.twins.is_empty() {
        return last;
    }
    let interval_s = sink.input.installations[at].channel.interval_s;
    // A reading just beside its border is the slot's that ends there.
    let mut grid =
        Grid::at(&sink.input.usage_point.zone, interval_s, last.plus_micros(interval_s.clamp(1, 86_400) * 100_000));
    let mut reach = last;
    while sink.twin_use(grid.start(), grid.end()).is_some() {
        reach = grid.end();
        grid.advance();
    }
    reach
}

/// Where the slots may begin instead of at the installation: at the last one that was read long enough before.
fn learned(sink: &Sink<'_>, readings: &[Reading], interval_us: i64) -> Option<Timestamp> {
    let learn = sink.learn?;
    let row = readings[..readings.partition_point(|row| row.ts <= learn)].last()?;
    let inside = row.ts.plus_micros(-interval_us / 2);
    Some(Grid::at(&sink.input.usage_point.zone, interval_us / 1_000_000, inside).start())
}

/// The last slot up to `border` that was read. The first one of an installation may begin off the grid.
fn anchor(
    sink: &Sink<'_>,
    at: usize,
    (slots, cut): (&[Slot], bool),
    readings: &[Reading],
    border: Timestamp,
) -> Option<Anchor> {
    let end = slots.partition_point(|slot| slot.end <= border);
    let begin = usize::from(!cut).min(end);
    let slot = slots[begin..end].iter().rev().find(|slot| stands(sink, at, slot, readings))?;
    Some(Anchor {
        installation: at,
        ts: slot.start,
        register: 0,
        line_register: 0,
        line_start: slot.start,
        first_line: true,
        settled_at: settled_at(sink, at, slot),
    })
}

/// From when on nothing changes any more before `border`: the first slot behind the last day is read.
fn closed_at(sink: &Sink<'_>, at: usize, slots: &[Slot], readings: &[Reading], border: Timestamp) -> Option<Timestamp> {
    let end = anchor::last_day(sink.input, border);
    let behind = &slots[slots.partition_point(|slot| slot.start < end)..];
    let slot = behind.iter().find(|slot| stands(sink, at, slot, readings))?;
    // An outage just behind it changes how a gap before it is filled, and so does what a twin says near by.
    let near = sink.twins.iter().map(Twin::reach_us).max().unwrap_or(0).max(slot.end.micros_since(slot.start));
    Some(settled_at(sink, at, slot).plus_micros(near))
}

/// Whether a slot was read, and at a time that no wall clock shows twice. One that the newest reading cuts off is another
/// slot when more is read.
fn stands(sink: &Sink<'_>, at: usize, slot: &Slot, readings: &[Reading]) -> bool {
    let alone = slot.value.is_some() && slot.whole && anchor::is_alone(sink.input, at, slot.start);
    alone && !anchor::is_folded(readings, slot.end)
}

/// The last time at which a reading belongs to a slot.
fn settled_at(sink: &Sink<'_>, at: usize, slot: &Slot) -> Timestamp {
    let interval_s = sink.input.installations[at].channel.interval_s.clamp(1, 86_400);
    slot.end.plus_micros(interval_s * 100_000)
}

/// Lays the readings on the grid.
fn read(
    sink: &mut Sink<'_>,
    usage: &mut PointUsage,
    at: usize,
    readings: &[Reading],
    (start, end): (Timestamp, Timestamp),
) -> Vec<Slot> {
    let channel = sink.input.installations[at].channel;
    let mut grid = Grid::at(&sink.input.usage_point.zone, channel.interval_s, start);
    let slack = grid.interval_us() / 10;
    let mut slots = Vec::with_capacity(readings.len());
    let mut i = readings.partition_point(|row| row.ts <= start);
    while grid.start() < end {
        let (from, to) = (grid.start().max(start), grid.end().min(end));
        let mut slot = Slot {
            start: from,
            end: to,
            day: grid.day(),
            place: grid.place(),
            whole: to == grid.end(),
            value: None,
            quality: Quality::Missing,
            method: None,
            evidence: None,
            suspended: false,
        };
        while let Some(row) = readings.get(i).filter(|row| row.ts.micros_since(to) < -slack) {
            usage.counts.foreign += 1;
            let evidence = format!("{} ends at {}, which is no border of a slot", row.value, row.ts);
            let span = (row.ts, row.ts);
            find(sink, at, (Rule::V04, Severity::Issue), span, (row.value.micros(), None), evidence);
            i += 1;
        }
        while let Some(row) = readings.get(i).filter(|row| row.ts.micros_since(to) <= slack) {
            take(sink, usage, at, &mut slot, row);
            i += 1;
        }
        slots.push(slot);
        grid.advance();
    }
    slots
}

/// Takes a reading for its slot. Later arrivals win over earlier ones.
fn take(sink: &mut Sink<'_>, usage: &mut PointUsage, at: usize, slot: &mut Slot, row: &Reading) {
    let channel = sink.input.installations[at].channel;
    let Some(value) = scale(row.value.micros(), channel.multiplier_micros) else {
        usage.counts.foreign += 1;
        let evidence = format!("{} times the multiplier does not fit 18 digits", row.value);
        return find(
            sink,
            at,
            (Rule::V15, Severity::Issue),
            (slot.start, slot.end),
            (row.value.micros(), None),
            evidence,
        );
    };
    if value < 0 {
        usage.counts.foreign += 1;
        let evidence = format!("{} is less than nothing", row.value);
        return find(sink, at, (Rule::V11, Severity::Issue), (slot.start, slot.end), (value, Some(0)), evidence);
    }
    let limit = channel.capacity_per_hour.and_then(|capacity| {
        let allowed = i128::from(capacity.micros())
            * i128::from(slot.end.micros_since(slot.start))
            * i128::from(sink.rules.capacity_percent);
        i64::try_from(allowed / 360_000_000_000).ok()
    });
    if let Some(limit) = limit.filter(|limit| value > *limit) {
        usage.counts.foreign += 1;
        let evidence = format!("{} is more than the connection can carry", row.value);
        return find(sink, at, (Rule::V14, Severity::Issue), (slot.start, slot.end), (value, Some(limit)), evidence);
    }
    match slot.value {
        Some(known) if known == value => usage.counts.repeats += 1,
        Some(known) => {
            usage.counts.conflicts += 1;
            let evidence = format!("{} kept, which arrived last", row.value);
            find(
                sink,
                at,
                (Rule::V05, Severity::Information),
                (row.ts, row.ts),
                ((known - value).abs(), None),
                evidence,
            );
        }
        None => {}
    }
    (slot.value, slot.quality) = (Some(value), Quality::Valid);
}

/// Fills what is missing from outages, near neighbours and the days before.
fn fill(sink: &mut Sink<'_>, at: usize, slots: &mut [Slot]) {
    let interval_s = sink.input.installations[at].channel.interval_s.clamp(1, 86_400);
    let unit = sink.input.installations[at];
    let step = scale(unit.channel.resolution.micros().max(1), unit.channel.multiplier_micros).unwrap_or(1).max(1);
    let slots_a_day = Grid::at(&sink.input.usage_point.zone, interval_s, sink.input.from).slots_a_day();
    sink.history.set_slots(slots_a_day, interval_s);
    let mut i = 0;
    while i < slots.len() {
        if let Some(value) = slots[i].value {
            if !sink.outage_days.contains(&slots[i].day) {
                sink.history.remember(slots[i].day, slots[i].place, value);
            }
            i += 1;
            continue;
        }
        let end = slots[i..].iter().position(|slot| slot.value.is_some()).map_or(slots.len(), |n| i + n);
        fill_run(sink, at, slots, (i, end), step);
        i = end;
    }
}

fn fill_run(sink: &mut Sink<'_>, at: usize, slots: &mut [Slot], (from, to): (usize, usize), step: i64) {
    let (start, end) = (slots[from].start, slots[to - 1].end);
    let margin = slots[from].end.micros_since(start);
    let neighbours = from.checked_sub(1).and_then(|i| slots[i].value).zip(slots.get(to).and_then(|slot| slot.value));
    let near = end.micros_since(start) <= sink.rules.linear_gap_s * 1_000_000
        && !sink.outage_touches(start.plus_micros(-margin), end.plus_micros(margin));
    let matters = end > sink.input.from;
    let count = i128::try_from(to - from + 1).unwrap_or(1);
    let mut used = Used::default();
    for (n, slot) in slots[from..to].iter_mut().enumerate() {
        if sink.outage_covers(slot.start, slot.end) {
            (slot.value, slot.quality, slot.method) = (Some(0), Quality::Valid, Some(Method::NoSupply));
            continue;
        }
        if let Some(value) = sink.twin_use(slot.start, slot.end) {
            (slot.value, slot.quality, slot.method) = (Some(value), Quality::Derived, Some(Method::Twin));
            if !sink.outage_days.contains(&slot.day) {
                sink.history.remember(slot.day, slot.place, value);
            }
            continue;
        }
        if sink.is_suspended(slot.end) {
            slot.suspended = true;
            continue;
        }
        let fill = match neighbours.filter(|_| near) {
            Some((a, b)) => {
                let part = i128::try_from(n + 1).unwrap_or(1) * i128::from(b - a);
                let steps = (2 * part + count * i128::from(step)).div_euclid(2 * count * i128::from(step));
                i64::try_from(steps).ok().map(|steps| ((a + steps * step).max(0), Method::Linear))
            }
            None => {
                let known = sink.history.fill(slot.day, slot.place, &mut used, matters);
                let fill = known.or_else(|| sink.history.by_class(slot.day, slot.place, &mut used));
                fill.map(|fill| (fill.value(), fill.method))
            }
        };
        if let Some((value, method)) = fill {
            (slot.value, slot.quality, slot.method) = (Some(value), Quality::Estimated, Some(method));
        }
    }
    let mut text = format!("no reading for the slots from {start} to {end}");
    let grid = Grid::at(&sink.input.usage_point.zone, 86_400, start);
    if slots[from..to].iter().any(|slot| slot.suspended) {
        text.push_str(WAITS);
    }
    text.push_str(&sink.history.told(&used, |day| grid.civil(day)));
    let evidence: Arc<str> = text.into();
    for slot in &mut slots[from..to] {
        slot.evidence = Some(Arc::clone(&evidence));
    }
    sink.gap_finding(at, Severity::Issue, (start, end), &evidence);
}

/// Brings the slots under each known total to it, the shortest total first.
fn close(sink: &mut Sink<'_>, at: usize, slots: &mut [Slot]) {
    let channel = sink.input.installations[at].channel;
    let unit = scale(channel.resolution.micros().max(1), channel.multiplier_micros).unwrap_or(1).max(1);
    let unit = Amount::from_micros(unit).unwrap_or_default();
    let mut wholes: Vec<Whole> = sink.input.wholes.to_vec();
    wholes.sort_by_key(|whole| (whole.end.micros_since(whole.start), whole.start));
    for whole in wholes {
        let from = slots.partition_point(|slot| slot.start < whole.start);
        let to = slots.partition_point(|slot| slot.end <= whole.end);
        let fits = from < to && slots[from].start == whole.start && slots[to - 1].end == whole.end;
        if fits {
            close_one(sink, at, &mut slots[from..to], whole, unit);
        }
    }
}

fn close_one(sink: &mut Sink<'_>, at: usize, slots: &mut [Slot], whole: Whole, unit: Amount) {
    // What a shorter total has scaled is as good as known to a longer one.
    let known = |slot: &Slot| slot.value.is_some() && slot.quality > Quality::Estimated;
    let unknown = slots.iter().filter(|slot| !known(slot)).count();
    if unknown > 1 && slots.iter().any(|slot| slot.suspended) {
        return;
    }
    let time = whole.end.micros_since(whole.start);
    let parts: Vec<Part> = slots
        .iter()
        .map(|slot| match slot.value.and_then(Amount::from_micros) {
            Some(value) if known(slot) => Part::Known(value),
            Some(value) => Part::Unknown(value),
            None => Part::Unknown(whole.value.proportion(slot.end.micros_since(slot.start), time).unwrap_or_default()),
        })
        .collect();
    let Some(result) = reconcile(whole.value, &parts, unit) else { return };
    if let Closure::Open(rest) = result.closure {
        // Without an unknown part the register carries the total and the slots keep the shape.
        let severity = if unknown == 0 { Severity::Issue } else { Severity::Stop };
        let evidence = format!("the slots miss the register's {} by {rest}", whole.value);
        let limit = Some(tolerance(whole.value, unit).micros());
        return find(sink, at, (Rule::V16, severity), (whole.start, whole.end), (rest.micros(), limit), evidence);
    }
    for (slot, value) in slots.iter_mut().zip(result.values) {
        if known(slot) {
            continue;
        }
        slot.value = Some(value.micros());
        if unknown == 1 {
            (slot.quality, slot.method) = (Quality::Derived, Some(Method::Closure));
        } else {
            slot.quality = Quality::EstimatedScaled;
            slot.method = slot.method.or(Some(Method::Even));
        }
    }
}

fn emit(sink: &mut Sink<'_>, at: usize, slots: &[Slot]) {
    for day in slots.chunk_by(|a, b| a.day == b.day) {
        for slot in day.iter().filter(|slot| sink.input.from <= slot.start && slot.start < sink.input.to) {
            sink.slots.push(span(Level::Slot, slot.start, slot.end, at, slot, slot.value, slot.quality));
        }
        let Some((first, last)) = day.first().zip(day.last()) else { continue };
        if !sink.wants(first.start) {
            continue;
        }
        let Some(worst) = day.iter().min_by_key(|slot| slot.quality) else { continue };
        let value: Option<i64> = day.iter().try_fold(0_i64, |sum, slot| sum.checked_add(slot.value?));
        let quality = if value.is_none() { Quality::Missing } else { worst.quality };
        let mut whole = span(Level::Day, first.start, last.end, at, worst, value, quality);
        let estimated = day.iter().filter(|slot| slot.quality.is_estimate()).filter_map(|slot| slot.value).sum();
        whole.estimated = Amount::from_micros(estimated).unwrap_or_default();
        let mut parts = Parts::default();
        day.iter().for_each(|slot| parts.add(slot.quality, slot.value.unwrap_or(0)));
        whole.parts = Some(Box::new(parts));
        sink.days.push(whole);
    }
}

fn span(
    level: Level,
    start: Timestamp,
    end: Timestamp,
    installation: usize,
    like: &Slot,
    value: Option<i64>,
    quality: Quality,
) -> Span {
    let value = value.and_then(Amount::from_micros);
    Span {
        level,
        start,
        end,
        value,
        quality,
        method: like.method,
        estimated: value.filter(|_| quality.is_estimate()).unwrap_or_default(),
        start_register: None,
        end_register: None,
        installation,
        evidence: like.evidence.clone(),
        parts: None,
    }
}

fn find(
    sink: &mut Sink<'_>,
    installation: usize,
    (rule, severity): (Rule, Severity),
    (start, end): (Timestamp, Timestamp),
    (measured, limit): (i64, Option<i64>),
    evidence: String,
) {
    if sink.wants(start) {
        sink.findings.push(Finding {
            rule,
            severity,
            start,
            end,
            measured: Amount::from_micros(measured),
            limit: limit.and_then(Amount::from_micros),
            installation,
            evidence,
        });
    }
}
