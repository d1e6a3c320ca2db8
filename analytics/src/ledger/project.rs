//! E8: what is used beyond the last reading, at the customer's own average, for a bill that can wait no longer.

use std::sync::Arc;

use meterlake_model::{Amount, Method, Quality, Timestamp, Zone};

use crate::usage::{Boundary, Level, Span};

/// What a projection follows from.
#[derive(Debug, Clone, Copy)]
pub struct ProjectInput<'a> {
    /// Civil time of the usage point.
    pub zone: &'a Zone,
    /// How far is projected.
    pub until: Timestamp,
    /// Days whose average counts.
    pub average_days: i32,
    /// What was used before does not count: it was another's.
    pub customer_since: Option<Timestamp>,
    /// Millionths.
    pub multiplier_micros: i64,
    /// The step of the register as read.
    pub resolution: Amount,
}

/// A civil day weighs so much; a part of one by its share of it.
const DAY: i64 = 86_400;

/// Goes on from the last known day up to `until`; spans without a value behind it give way. `days` are in order of time and
/// of one installation at their end. False: there is nothing to go by, or nothing to project.
///
/// The average is that of the time between two registers that were read or derived: the last one, and the first one within
/// the days that count, or the last one before them. So an estimate is no ancestor of it. Every civil day counts the same,
/// however long it is.
pub fn project(days: &mut Vec<Span>, input: &ProjectInput<'_>) -> bool {
    let Some(last) = days.iter().rposition(|s| s.level == Level::Day && s.value.is_some()) else { return false };
    let Some((used, weight, from)) = average(&days[..=last], input) else { return false };
    let end = &days[last];
    let (begin, installation) = (end.end, end.installation);
    let mut register = end.end_register.map(|b| b.register);
    if begin >= input.until || weight == 0 {
        return false;
    }
    let unit = input.resolution.checked_scale(input.multiplier_micros).map_or(1, Amount::micros).max(1);
    let text = format!("projected from {begin} on at the average since {from}: {used} in {weight} s of civil days");
    let evidence: Arc<str> = text.into();
    let mut spans = Vec::new();
    let (mut at, mut upto, mut before) = (begin, 0_i64, 0_i64);
    while at < input.until {
        let end = input.zone.start_of_day(input.zone.day_of(at).plus_days(1)).min(input.until);
        upto = upto.saturating_add(weight_of(input.zone, at, end));
        let Some(total) = used.proportion(upto, weight) else { return false };
        // Half a step up, and the sum so far is rounded, so that no day's rounding adds to another's.
        let total = (2 * total.micros() + unit).div_euclid(2 * unit) * unit;
        let Some(value) = Amount::from_micros(total - before) else { return false };
        before = total;
        let rise = value.micros().checked_mul(1_000_000).filter(|n| n % input.multiplier_micros == 0);
        let rise = rise.and_then(|n| Amount::from_micros(n / input.multiplier_micros));
        let next = register.zip(rise).and_then(|(r, rise)| r.checked_add(rise));
        let border = |register: Option<Amount>, quality| register.map(|register| Boundary { register, quality });
        let first = spans.is_empty();
        let start_quality = days[last].end_register.filter(|_| first).map_or(Quality::Estimated, |b| b.quality);
        spans.push(Span {
            level: Level::Day,
            start: at,
            end,
            value: Some(value),
            quality: Quality::Estimated,
            method: Some(Method::Project),
            estimated: value,
            start_register: border(register, start_quality),
            end_register: border(next, Quality::Estimated),
            installation,
            evidence: Some(Arc::clone(&evidence)),
            parts: None,
        });
        (at, register) = (end, next);
    }
    days.retain(|s| s.level != Level::Day || s.value.is_some() || s.start < begin || s.start >= input.until);
    days.extend(spans);
    days.sort_by_key(|s| (s.level, s.start));
    true
}

/// Use, weight and beginning of the time whose average counts.
fn average(days: &[Span], input: &ProjectInput<'_>) -> Option<(Amount, i64, Timestamp)> {
    let last = days.last()?;
    let floor = input.zone.start_of_day(input.zone.day_of(last.end).plus_days(-input.average_days));
    let (mut used, mut weight) = (0_i128, 0_i64);
    let mut found = None;
    let mut next = last;
    for day in days.iter().rev().filter(|s| s.level == Level::Day) {
        let joined = std::ptr::eq(day, next) || (day.end == next.start && day.installation == next.installation);
        let others = input.customer_since.is_some_and(|since| day.start < since && since < last.end);
        let Some(value) = day.value.filter(|_| joined && !others && good(day)) else { break };
        used += i128::from(value.micros());
        weight += weight_of(input.zone, day.start, day.end);
        next = day;
        let solid = day.start_register.is_none_or(|b| !b.quality.is_estimate());
        if solid && (found.is_none() || day.start >= floor) {
            found = Some((used, weight, day.start));
        }
        if day.start < floor && found.is_some() {
            break;
        }
    }
    let (used, weight, from) = found?;
    Some((Amount::from_micros(i64::try_from(used).ok()?)?, weight, from))
}

/// Whether a day's use is fixed by registers or was read. A day within a gap is, together with the gap's others.
fn good(day: &Span) -> bool {
    matches!(day.quality, Quality::EstimatedScaled | Quality::Derived | Quality::Valid | Quality::Verified)
}

fn weight_of(zone: &Zone, from: Timestamp, to: Timestamp) -> i64 {
    let (start, end) = zone.span_of_day(zone.day_of(from));
    let whole = end.micros_since(start).max(1);
    let part = i128::from(to.micros_since(from)) * i128::from(DAY) / i128::from(whole);
    i64::try_from(part).unwrap_or(DAY)
}
