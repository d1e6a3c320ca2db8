//! One cycle added up from its days.

use meterlake_model::registry::InstallationChannel;
use meterlake_model::{Amount, Quality, Timestamp};

use super::{BillingRead, BillingRules, BoundaryRead, CycleInput, CyclePart, ReadState, Reason};
use crate::usage::{Boundary, Level, Rule, Severity, Span};

/// The read of one usage point, channel and cycle.
///
/// The use is the sum of the days, and installation by installation it equals the difference of the registers at both
/// ends times the multiplier; where it does not, the read is held with reason `closure`.
pub fn read_cycle(input: &CycleInput<'_>, rules: &BillingRules) -> BillingRead {
    let (start, end) = (input.zone.start_of_day(input.start_day), input.zone.start_of_day(input.end_day));
    let mut days: Vec<&Span> =
        input.spans.iter().filter(|span| span.level == Level::Day && span.start >= start && span.end <= end).collect();
    days.sort_by_key(|span| span.start);
    let chunks: Vec<&[&Span]> = days.chunk_by(|a, b| belong(a, b)).filter(|chunk| chunk[0].value.is_some()).collect();
    let parts: Vec<CyclePart> = chunks.iter().filter_map(|chunk| part(input, chunk)).collect();
    let use_amount = if parts.is_empty() { None } else { Amount::sum(parts.iter().map(|part| part.use_amount)) };
    let estimated = Amount::sum(chunks.iter().filter_map(|chunk| estimated(chunk))).unwrap_or_default();
    let known = |span: &&&Span| span.value.is_some();
    let covered: i64 = days.iter().filter(known).map(|span| span.end.micros_since(span.start)).sum();
    let mut read = BillingRead {
        start,
        end,
        start_read: parts.first().map(|part| part.start),
        end_read: parts.last().map(|part| part.end),
        use_amount,
        estimated,
        estimated_share_ppm: share_ppm(estimated, use_amount.unwrap_or_default()),
        covered_s: covered / 1_000_000,
        days_covered: days_covered(input, &days),
        days: input.end_day.days_since(input.start_day),
        parts,
        state: ReadState::Ready,
        reasons: Vec::new(),
    };
    read.reasons.extend(of_findings(input, start, end));
    read.reasons.extend(of_days(input, &days));
    read.reasons.extend(of_holes(input, &days, start, end));
    read.reasons.extend(of_closure(input, &chunks));
    if read.estimated_share_ppm > rules.estimated_limit_permille * 1000 {
        let detail = format!("{} of {} is estimated", estimated, use_amount.unwrap_or_default());
        read.reasons.push(Reason { code: "estimated", holds: true, start, end, detail });
    }
    if read.use_amount.is_none() && !read.reasons.iter().any(|reason| reason.holds) {
        let detail = "no use is known in the cycle".to_owned();
        read.reasons.push(Reason { code: "nothing", holds: true, start, end, detail });
    }
    read.reasons.sort_by(|a, b| (a.start, a.code, a.end, &a.detail).cmp(&(b.start, b.code, b.end, &b.detail)));
    read.reasons.dedup();
    if read.reasons.iter().any(|reason| reason.holds) {
        read.state = ReadState::Held;
    }
    read
}

/// Whether two days in order are of one unbroken register.
fn belong(a: &Span, b: &Span) -> bool {
    a.installation == b.installation
        && a.end == b.start
        && a.value.is_some() == b.value.is_some()
        && a.end_register.map(|at| at.register) == b.start_register.map(|at| at.register)
}

fn part(input: &CycleInput<'_>, chunk: &[&Span]) -> Option<CyclePart> {
    let (first, last) = (chunk.first()?, chunk.last()?);
    let boundary = |ts: Timestamp, at: Option<Boundary>, quality: Quality| BoundaryRead {
        ts,
        register: at.map(|at| at.register),
        quality: at.map_or(quality, |at| at.quality),
    };
    Some(CyclePart {
        meter_id: input.installations.get(first.installation)?.meter_id.clone(),
        start: boundary(first.start, first.start_register, first.quality),
        end: boundary(last.end, last.end_register, last.quality),
        use_amount: Amount::sum(chunk.iter().filter_map(|span| span.value))?,
    })
}

/// What of an unbroken stretch rests on an estimate.
///
/// A gap within it does not count, since the registers on both sides give the total: only what lies between an estimated
/// end of the stretch and the nearest reading.
fn estimated(chunk: &[&Span]) -> Option<Amount> {
    let guessed = |at: Option<Boundary>| at.is_some_and(|at| at.quality.is_estimate());
    if chunk.iter().any(|span| span.start_register.is_none()) {
        return Amount::sum(chunk.iter().map(|span| span.estimated));
    }
    let loose = |span: &Span| span.parts.as_ref().and_then(|parts| parts.loose);
    let (mut counted, mut from_start) = (Amount::ZERO, 0);
    if guessed(chunk.first()?.start_register) {
        for span in chunk {
            let [part, _] = loose(span).unwrap_or([span.estimated.micros(), 0]);
            counted = counted.checked_add(Amount::from_micros(part)?)?;
            if loose(span).is_some() {
                break;
            }
            from_start += 1;
            if !guessed(span.end_register) {
                break;
            }
        }
    }
    if guessed(chunk.last()?.end_register) {
        for span in chunk[from_start..].iter().rev() {
            let [_, part] = loose(span).unwrap_or([0, span.estimated.micros()]);
            counted = counted.checked_add(Amount::from_micros(part)?)?;
            if loose(span).is_some() || !guessed(span.start_register) {
                break;
            }
        }
    }
    Some(counted)
}

fn share_ppm(part: Amount, whole: Amount) -> i64 {
    if part == Amount::ZERO {
        return 0;
    }
    Amount::from_micros(1_000_000)
        .and_then(|million| million.proportion(part.micros(), whole.micros()))
        .map_or(1_000_000, Amount::micros)
}

/// Whole civil days of the cycle whose use is known to the last second.
fn days_covered(input: &CycleInput<'_>, days: &[&Span]) -> i32 {
    let mut covered = 0;
    for day in days.chunk_by(|a, b| input.zone.day_of(a.start) == input.zone.day_of(b.start)) {
        let (start, end) = input.zone.span_of_day(input.zone.day_of(day[0].start));
        let known: i64 =
            day.iter().filter(|span| span.value.is_some()).map(|span| span.end.micros_since(span.start)).sum();
        covered += i32::from(known == end.micros_since(start));
    }
    covered
}

/// What findings say about the cycle.
fn of_findings(input: &CycleInput<'_>, start: Timestamp, end: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for finding in input.findings {
        let touches =
            finding.start < end && (finding.end > start || finding.start == finding.end && finding.start >= start);
        let stops = finding.severity == Severity::Stop;
        // The register says so, but nobody can have used that much.
        let beyond = finding.rule == Rule::V14 && finding.severity >= Severity::Issue;
        let (code, holds) = (finding.rule.name(), stops || beyond);
        if touches && holds {
            let detail = finding.evidence.clone();
            reasons.push(Reason { code, holds, start: finding.start, end: finding.end, detail });
        }
    }
    reasons
}

/// Days without a value, and days that failed a check.
fn of_days(input: &CycleInput<'_>, days: &[&Span]) -> Vec<Reason> {
    let explained = |span: &Span| {
        input
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Stop && finding.start < span.end && span.start < finding.end)
    };
    let mut reasons: Vec<Reason> = Vec::new();
    for day in days {
        let code = match (day.value, day.quality) {
            (None, _) if explained(day) => continue,
            (None, _) => "missing",
            (Some(_), Quality::Failed) => "failed",
            _ => continue,
        };
        let otherwise = if day.value.is_none() { "no use is known" } else { "a check failed" };
        let detail = day.evidence.as_deref().unwrap_or(otherwise).to_owned();
        match reasons.last_mut() {
            Some(last) if last.code == code && last.end == day.start && last.detail == detail => last.end = day.end,
            _ => reasons.push(Reason { code, holds: true, start: day.start, end: day.end, detail }),
        }
    }
    reasons
}

/// Stretches of the cycle without a span: no meter, or not yet derived.
fn of_holes(input: &CycleInput<'_>, days: &[&Span], start: Timestamp, end: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut at = start;
    for day in days.iter().copied().map(|day| (day.start, day.end)).chain([(end, end)]) {
        if day.0 > at {
            reasons.push(of_hole(input, at, day.0, end));
        }
        at = at.max(day.1);
    }
    reasons
}

fn of_hole(input: &CycleInput<'_>, from: Timestamp, to: Timestamp, cycle_end: Timestamp) -> Reason {
    let reason = |code, holds, detail: &str| Reason { code, holds, start: from, end: to, detail: detail.to_owned() };
    let meter = input.installations.iter().find(|installation| installation.covers(from));
    match meter {
        None if input.installations.iter().all(|i| i.installed_at.is_some_and(|at| at >= to)) && to < cycle_end => {
            reason("begins", false, "the first meter is installed in the cycle")
        }
        None => reason("no_meter", true, "no meter is installed"),
        // Without a date the installation reaches from its first to its last reading, and the cycle is cut to it.
        Some(meter) if meter.installed_at.is_none() => {
            reason("clipped", false, "the registry gives no date, and there is no reading")
        }
        Some(_) => reason("missing", true, "no use has been derived"),
    }
}

/// Each unbroken stretch must equal its registers' difference.
fn of_closure(input: &CycleInput<'_>, chunks: &[&[&Span]]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for chunk in chunks {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let channel = input
            .installations
            .get(first.installation)
            .and_then(|installation| installation.channels.iter().find(|c| c.channel == input.channel));
        let registers = first.start_register.zip(last.end_register);
        let (Some(channel), Some((from, to))) = (channel, registers) else { continue };
        let sum = Amount::sum(chunk.iter().filter_map(|span| span.value));
        if !closes(channel, from.register, to.register, sum, chunk.len()) {
            let detail = format!(
                "the days add up to {}, the register goes from {} to {}",
                sum.unwrap_or_default(),
                from.register,
                to.register
            );
            reasons.push(Reason { code: "closure", holds: true, start: first.start, end: last.end, detail });
        }
    }
    reasons
}

fn closes(channel: &InstallationChannel, from: Amount, to: Amount, sum: Option<Amount>, days: usize) -> bool {
    let Some(sum) = sum else { return false };
    let mut rise = i128::from(to.micros()) - i128::from(from.micros());
    if let Some(range) = channel.digits.and_then(|digits| 10_i128.checked_pow(u32::from(digits) + 6)) {
        rise = rise.rem_euclid(range);
    }
    let off = (rise * i128::from(channel.multiplier_micros) - i128::from(sum.micros()) * 1_000_000).unsigned_abs();
    // A multiplier whose product has more than six decimals costs each day's border half a millionth.
    let exact = i128::from(channel.multiplier_micros) * i128::from(channel.resolution.micros()) % 1_000_000 == 0;
    let room = if exact { 0 } else { u128::try_from(days).unwrap_or(0).saturating_add(1) * 1_000_000 };
    off <= room
}
