//! Issued estimates stay: the next cycle begins where the last bill ended, until better evidence comes for that very place.

use meterlake_model::{Amount, Timestamp, Zone};

use super::account::Account;
use super::item::{END_READ, ItemKey};
use crate::usage::{Boundary, Finding, Level, Rule, Span};

/// What an estimated boundary rests on: the accepted readings around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The reading before.
    pub from: Timestamp,
    /// Its register.
    pub low: Amount,
    /// The reading after, with its register; `None`: nobody has read since.
    pub until: Option<(Timestamp, Amount)>,
}

impl Evidence {
    /// One line, for tables.
    pub fn to_line(&self) -> String {
        match self.until {
            Some((until, high)) => format!("{} {} {until} {high}", self.from, self.low),
            None => format!("{} {}", self.from, self.low),
        }
    }

    /// Reads [`Self::to_line`] back.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || Some((Timestamp::parse_rfc3339(words.next()?).ok()?, Amount::parse(words.next()?).ok()?));
        let (from, low) = next()?;
        Some(Self { from, low, until: next() })
    }
}

/// A boundary that was issued as an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedBoundary {
    /// Where.
    pub at: Timestamp,
    /// The register that was issued.
    pub register: Amount,
    /// What it rested on then.
    pub evidence: Evidence,
}

impl PinnedBoundary {
    /// Whether what is known now is better evidence for this very boundary than what was known then: another reading
    /// before it, or one after it that is within `near_s` seconds or nearer than the one that was there. A later reading
    /// far behind is none: the next bill just begins where this one ended, unless the registers contradict it.
    fn is_void(&self, now: &Evidence, near_s: i64) -> bool {
        let then = &self.evidence;
        if (then.from, then.low) != (now.from, now.low) {
            return true;
        }
        let contradicts = self.register < now.low || now.until.is_some_and(|(_, high)| self.register > high);
        let better = match (then.until, now.until) {
            (None, Some((until, _))) => until.micros_since(self.at) <= near_s * 1_000_000,
            (then, now) => then != now,
        };
        contradicts || better
    }
}

/// The boundaries among these accounts that stand as estimates: the ends of issued cycles.
pub fn pins_of<'a>(accounts: impl IntoIterator<Item = (&'a ItemKey, &'a Account)>, zone: &Zone) -> Vec<PinnedBoundary> {
    let ends = accounts.into_iter().filter(|(key, _)| key.determinant == END_READ);
    ends.filter_map(|(key, account)| {
        let last = account.last().filter(|row| row.quality.is_estimate())?;
        let evidence = Evidence::parse(&last.basis)?;
        Some(PinnedBoundary { at: zone.start_of_day(key.end_day), register: account.current()?, evidence })
    })
    .collect()
}

/// Days around an estimated boundary that hang together through estimates.
struct Around {
    /// The first day of the run before the boundary, the first behind it, and the one behind its last.
    first: usize,
    middle: usize,
    end: usize,
    /// Whether a reading ends the run behind it.
    closed: bool,
    register: Amount,
}

fn around(days: &[Span], at: Timestamp) -> Option<Around> {
    let guessed = |b: Option<Boundary>| b.is_some_and(|b| b.quality.is_estimate());
    let before = days.iter().position(|s| s.level == Level::Day && s.end == at && guessed(s.end_register))?;
    let mut first = before;
    while guessed(days[first].start_register) {
        let previous = first.checked_sub(1)?;
        if days[previous].end != days[first].start {
            return None;
        }
        first = previous;
    }
    let (middle, mut end) = (before + 1, before + 1);
    let mut closed = false;
    while !closed && end < days.len() && days[end].start == days[end - 1].end && guessed(days[end].start_register) {
        closed = days[end].end_register.is_some_and(|b| !b.quality.is_estimate());
        end += 1;
    }
    Some(Around { first, middle, end, closed, register: days[before].end_register?.register })
}

/// The register that lies so much use away.
fn unscaled(used: i128, multiplier_micros: i64) -> Option<i64> {
    i64::try_from(used.checked_mul(1_000_000)? / i128::from(multiplier_micros.max(1))).ok()
}

fn estimated(days: &[Span]) -> i128 {
    days.iter().map(|s| i128::from(s.estimated.micros())).sum()
}

/// What an estimated boundary rests on; `None` where it is no estimate or has no register. `days` are in order of time,
/// `gaps` the findings V09.
pub fn evidence_at(days: &[Span], gaps: &[Finding], at: Timestamp, multiplier_micros: i64) -> Option<Evidence> {
    let run = around(days, at)?;
    evidence_of(days, gaps, at, &run, multiplier_micros)
}

fn evidence_of(
    days: &[Span],
    gaps: &[Finding],
    at: Timestamp,
    run: &Around,
    multiplier_micros: i64,
) -> Option<Evidence> {
    let gap = gaps.iter().find(|f| f.rule == Rule::V09 && f.start < at && at < f.end);
    let register = run.register.micros();
    let low = register - unscaled(estimated(&days[run.first..run.middle]), multiplier_micros)?;
    let high = register + unscaled(estimated(&days[run.middle..run.end]), multiplier_micros)?;
    // A projection begins where the last day ends.
    let projected = days[run.first..run.middle].iter().find(|s| s.estimated != Amount::ZERO)?.start;
    let last = days.get(run.end.checked_sub(1)?)?.end;
    let until = Some((gap.map_or(last, |f| f.end), Amount::from_micros(high)?)).filter(|_| run.closed);
    let from = gap.filter(|_| run.closed).map_or(projected, |f| f.start);
    Some(Evidence { from, low: Amount::from_micros(low)?, until })
}

/// Moves estimated boundaries back to where they were issued, with the estimated days around them, so that the days go on
/// adding up to the registers. Each pin comes with the multiplier of its meter, in millionths, and the step of its register.
/// Gives the boundaries that stayed pinned; one that better evidence has undone is as the walk has it, and so is one that an
/// earlier one of the same gap contradicts.
pub fn apply_pins(
    days: &mut [Span],
    gaps: &[Finding],
    pins: &[(PinnedBoundary, (i64, Amount))],
    near_s: i64,
) -> Vec<Timestamp> {
    let mut kept: Vec<Timestamp> = Vec::new();
    let mut pins: Vec<&(PinnedBoundary, (i64, Amount))> = pins.iter().collect();
    pins.sort_by_key(|(pin, _)| pin.at);
    for (pin, (multiplier, resolution)) in pins {
        let Some(mut run) = around(days, pin.at) else { continue };
        let Some(mut now) = evidence_of(days, gaps, pin.at, &run, *multiplier) else { continue };
        if pin.is_void(&now, near_s) {
            continue;
        }
        // A boundary of the same gap that is pinned before it does not move any more.
        if let Some(at) = (run.first..run.middle).rev().find(|i| kept.contains(&days[*i].start)) {
            run.first = at;
            now.low = days[at].start_register.map_or(now.low, |b| b.register);
        }
        let is_after = pin.register >= now.low;
        let scale = (*multiplier, resolution.micros().max(1));
        if is_after && shift(days, &run, &now, pin.register, scale).is_some() {
            kept.push(pin.at);
        }
    }
    kept
}

/// Scales the registers between the reading before and the boundary, and between the boundary and the reading after.
fn shift(
    days: &mut [Span],
    run: &Around,
    now: &Evidence,
    register: Amount,
    (multiplier, unit): (i64, i64),
) -> Option<()> {
    let (low, old, new) = (now.low.micros(), run.register.micros(), register.micros());
    let scaled = |from: i64, at: i64, old: i64, new: i64| -> Option<i64> {
        // `at` keeps its share of the way from `from` to the boundary, in steps of the register.
        let (way, whole) = (i128::from(at) - i128::from(from), i128::from(old) - i128::from(from));
        if whole == 0 {
            return Some(from);
        }
        let unit = i128::from(unit);
        let part = way * (i128::from(new) - i128::from(from)) * whole.signum();
        let steps = (2 * part + unit * whole.abs()).div_euclid(2 * unit * whole.abs());
        from.checked_add(i64::try_from(steps * unit).ok()?)
    };
    let mut borders = Vec::with_capacity(run.end - run.first);
    for (i, day) in days[run.first..run.end].iter().enumerate() {
        let at = day.end_register?.register.micros();
        let moved = match run.first + i + 1 {
            upto if upto < run.middle => scaled(low, at, old, new)?,
            upto if upto == run.middle => new,
            upto if upto == run.end && run.closed => at,
            _ => match now.until {
                Some((_, high)) => scaled(high.micros(), at, old, new)?,
                None => at.checked_add(new - old)?,
            },
        };
        borders.push((at, moved));
    }
    let mut changed = Vec::with_capacity(borders.len());
    let mut before = 0_i64;
    for (i, (at, moved)) in borders.iter().enumerate() {
        let day = &days[run.first + i];
        let by = Amount::from_micros((moved - at) - before)?.checked_scale(multiplier)?;
        before = moved - at;
        let (value, estimated) = (day.value?.checked_add(by)?, day.estimated.checked_add(by)?);
        if value < Amount::ZERO {
            return None;
        }
        changed.push((value, estimated, Amount::from_micros(*moved)?));
    }
    let mut start: Option<Amount> = None;
    for (day, (value, estimated, end)) in days[run.first..run.end].iter_mut().zip(changed) {
        (day.value, day.estimated) = (Some(value), estimated);
        if let (Some(boundary), Some(register)) = (&mut day.start_register, start) {
            boundary.register = register;
        }
        if let Some(boundary) = &mut day.end_register {
            boundary.register = end;
        }
        start = Some(end);
    }
    Some(())
}
