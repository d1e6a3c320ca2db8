//! D4: the highest demand over windows of the cycle.

use meterlake_model::calendar::{Bucket, Calendar};
use meterlake_model::determinant::{Peak, Ratchet, Rounding};
use meterlake_model::{Amount, Method, Quality, Timestamp};

use super::boundary::span_text;
use super::{Cycle, Figure, Note, OUT_OF_SEASON, Slots, rate_unit_of, share_ppm};
use crate::usage::Span;

/// A window whose use is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// Use in it, in millionths.
    pub(super) used: i64,
    /// What of it is estimated.
    pub(super) estimated: i64,
    pub(super) quality: Quality,
    /// Why it may not be the highest.
    pub(super) barred: Option<&'static str>,
}

/// All windows of a cycle that count, and how many of them are not known.
#[derive(Debug, Default)]
pub(super) struct Demands {
    pub(super) known: Vec<Demand>,
    pub(super) unknown: u32,
    pub(super) coarse: u32,
}

/// The `nth` highest demand of a cycle, the earliest of equals, as a rate by the hour.
///
/// A window counts where it lies in the cycle and, with a calendar, whole in its buckets; blocks that the end of a civil day
/// cuts do not count. Only what was read may be the highest, unless estimates are included; a higher window that was
/// left out is noted. `restored`: instants at which supply came back.
pub fn highest(
    cycle: &Cycle<'_>,
    slots: &Slots<'_>,
    peak: &Peak,
    calendar: Option<&Calendar>,
    restored: &[Timestamp],
    rounding: Rounding,
) -> Figure {
    let found = demands(cycle, slots, peak, calendar, restored);
    let unit = rate_unit_of(slots.channel);
    let rate = |used: i64| rate(used, peak.window.length_s, rounding);
    let mut notes = Vec::new();
    if found.unknown > 0 {
        let all = found.known.len() + usize::try_from(found.unknown).unwrap_or(0);
        notes.push(Note::new("missing", false, format!("{} of {all} windows are not known", found.unknown)));
    }
    if found.coarse > 0 {
        let detail = format!("{} windows are shorter than the meter's slots", found.coarse);
        notes.push(Note::new("coarse", true, detail));
    }
    let allowed: Vec<Demand> = found.known.iter().copied().filter(|demand| demand.barred.is_none()).collect();
    let chosen = nth(cycle, allowed, peak);
    let barred = found.known.iter().filter(|demand| demand.barred.is_some());
    let higher = barred.filter(|demand| chosen.is_none_or(|chosen| demand.used > chosen.used));
    // The earliest of the highest.
    if let Some(higher) = higher.rev().max_by_key(|demand| demand.used) {
        let (why, value) = (higher.barred.unwrap_or_default(), rate(higher.used).unwrap_or_default());
        let detail = format!("higher value {why}: {value} {unit}, {}", span_text((higher.start, higher.end)));
        notes.push(Note::new("higher", false, detail));
    }
    let Some(chosen) = chosen else {
        let none = found.known.is_empty() && found.unknown == 0 && found.coarse == 0;
        notes.push(match none && peak.within.is_some() {
            true => Note::new(OUT_OF_SEASON, false, "no window of the cycle lies in the buckets"),
            false => Note::new("nothing", true, "no window is known that may be the highest"),
        });
        let mut figure = Figure::unknown("", unit, Note::new("nothing", true, ""));
        figure.notes = notes;
        return figure;
    };
    Figure {
        part: String::new(),
        value: rate(chosen.used),
        unit: unit.to_owned(),
        quality: chosen.quality,
        estimated_ppm: share_ppm(i128::from(chosen.estimated), i128::from(chosen.used)),
        at: Some((chosen.start, chosen.end)),
        notes,
    }
}

/// Use in a window as a rate by the hour.
pub(super) fn rate(used: i64, length_s: i64, rounding: Rounding) -> Option<Amount> {
    rounding.ratio(i128::from(used) * 3600, i128::from(length_s) * 1_000_000)
}

/// A demand no less than a share of the highest of earlier cycles: the figure that is billed, and part `measured`.
pub fn at_least(measured: Figure, earlier: &[Amount], ratchet: Ratchet, rounding: Rounding) -> Vec<Figure> {
    let floor = earlier
        .iter()
        .max()
        .and_then(|best| rounding.ratio(i128::from(best.micros()) * i128::from(ratchet.permille), 1000 * 1_000_000));
    let mut billed = measured.clone();
    if let Some(floor) = floor.filter(|floor| billed.value.is_none_or(|value| value < *floor)) {
        let share = format!("{}.{} %", ratchet.permille / 10, ratchet.permille % 10);
        let best = earlier.iter().max().copied().unwrap_or_default();
        billed.notes.push(Note::new("ratchet", false, format!("{share} of {best}, the highest of earlier cycles")));
        billed.value = Some(floor);
    }
    vec![billed, Figure { part: "measured".to_owned(), ..measured }]
}

/// Whether a value of this quality may be a maximum.
fn may_be_highest(quality: Quality, method: Option<Method>) -> bool {
    match quality {
        Quality::Valid | Quality::Verified | Quality::Edited => true,
        Quality::Derived => method == Some(Method::Twin),
        Quality::Missing | Quality::Failed | Quality::Estimated | Quality::EstimatedScaled => false,
    }
}

pub(super) fn demands(
    cycle: &Cycle<'_>,
    slots: &Slots<'_>,
    peak: &Peak,
    calendar: Option<&Calendar>,
    restored: &[Timestamp],
) -> Demands {
    let spans = cycle.of(slots.spans);
    let (mut found, mut at) = (Demands::default(), 0);
    let within = buckets(peak, calendar);
    let mut walk = calendar.filter(|_| peak.within.is_some()).map(|calendar| calendar.walk(Some(cycle.point)));
    for (start, end) in windows(cycle, peak) {
        if let Some(walk) = &mut walk {
            let inside = |bucket: Option<Bucket>| bucket.is_some_and(|bucket| within.contains(&bucket));
            if !walk.between(start, end).all(|slice| inside(slice.bucket)) {
                continue;
            }
        }
        while spans.get(at).is_some_and(|span| span.end <= start) {
            at += 1;
        }
        match demand(&spans[at..], (start, end), peak, restored) {
            Some(Window::Known(demand)) => found.known.push(demand),
            Some(Window::Coarse) => found.coarse += 1,
            None => found.unknown += 1,
        }
    }
    found
}

fn buckets(peak: &Peak, calendar: Option<&Calendar>) -> Vec<Bucket> {
    let (Some(within), Some(calendar)) = (&peak.within, calendar) else { return Vec::new() };
    let named = |bucket: &String| within.buckets.is_empty() || within.buckets.contains(bucket);
    calendar.buckets().iter().filter(|bucket| named(bucket)).filter_map(|bucket| calendar.bucket(bucket)).collect()
}

/// The windows of a cycle in order of time, counted from each civil midnight.
fn windows(cycle: &Cycle<'_>, peak: &Peak) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let (length, step) = (peak.window.length_s, peak.window.step_s.max(1));
    let (zone, end_day, cycle_end) = (cycle.zone.clone(), cycle.end_day, cycle.span().1);
    let mut day = cycle.start_day;
    std::iter::from_fn(move || {
        if day >= end_day {
            return None;
        }
        let (start, end) = zone.span_of_day(day);
        day = day.plus_days(1);
        // Blocks stay within their day; sliding windows may reach into the next.
        let last = if length == step { end } else { cycle_end };
        let steps = (end.micros_since(start) + step * 1_000_000 - 1) / (step * 1_000_000);
        let begins = (0..steps).map(move |n| start.plus_seconds(n * step));
        Some(begins.map(move |begin| (begin, begin.plus_seconds(length))).filter(move |(_, to)| *to <= last))
    })
    .flatten()
}

enum Window {
    Known(Demand),
    /// The slots are longer than the window, or do not end with it.
    Coarse,
}

/// The use of the slots that tile a window.
fn demand(spans: &[Span], (start, end): (Timestamp, Timestamp), peak: &Peak, restored: &[Timestamp]) -> Option<Window> {
    let (mut reached, mut used, mut estimated, mut quality) = (start, 0_i64, 0_i64, Quality::Edited);
    let (mut read, mut failed, mut came_back) = (true, false, false);
    for span in spans {
        if reached >= end || span.start >= end {
            break;
        }
        if span.start < reached || span.end > end {
            return span.value.map(|_| Window::Coarse);
        }
        if span.start > reached {
            return None;
        }
        let value = span.value?.micros();
        used = used.checked_add(value)?;
        if span.quality.is_estimate() {
            estimated = estimated.checked_add(value)?;
        }
        quality = quality.min(span.quality);
        read &= may_be_highest(span.quality, span.method);
        failed |= span.quality == Quality::Failed;
        let next = restored.partition_point(|ts| *ts < span.start);
        came_back |= restored.get(next).is_some_and(|ts| *ts < span.end);
        reached = span.end;
    }
    if reached != end {
        return None;
    }
    let barred = match () {
        () if came_back && !peak.restored => Some("after an outage"),
        () if failed => Some("failed"),
        () if !read && !peak.estimated => Some("estimated"),
        () => None,
    };
    Some(Window::Known(Demand { start, end, used, estimated, quality, barred }))
}

/// The nth highest of windows that do not overlap.
fn nth(cycle: &Cycle<'_>, mut demands: Vec<Demand>, peak: &Peak) -> Option<Demand> {
    demands.sort_by_key(|demand| (std::cmp::Reverse(demand.used), demand.start));
    let mut chosen: Vec<Demand> = Vec::new();
    for demand in demands {
        let overlaps = |other: &Demand| other.start < demand.end && demand.start < other.end;
        let same_day = |other: &Demand| cycle.zone.day_of(other.start) == cycle.zone.day_of(demand.start);
        // A sliding window may reach over midnight into the highest of the next day.
        let taken = |other: &Demand| overlaps(other) || (peak.by_day && same_day(other));
        if chosen.iter().any(taken) {
            continue;
        }
        chosen.push(demand);
        if chosen.len() >= usize::from(peak.nth.max(1)) {
            return chosen.pop();
        }
    }
    None
}
