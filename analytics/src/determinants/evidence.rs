//! D10: what the figures of a cycle rest on.

use meterlake_model::{Amount, Quality, Timestamp};

use super::{Cycle, Figure, Slots, share_ppm};
use crate::billing::BillingRead;

/// Parts `days`, `days_covered`, `estimated` (share of the use in ‰ of ‰), `share_STATE` (share of the time by state, likewise),
/// `missing_slots`, `outage_h`, `findings`.
pub fn evidence(
    cycle: &Cycle<'_>,
    slots: &Slots<'_>,
    read: &BillingRead,
    outages: &[(Timestamp, Timestamp)],
    findings: usize,
) -> Vec<Figure> {
    let (start, end) = cycle.span();
    let whole = i128::from(end.micros_since(start));
    let mut by_state = [0_i128; Quality::ALL.len()];
    let (mut seen, mut missing) = (0_i128, 0_i64);
    for span in cycle.of(slots.spans) {
        let length = i128::from(span.end.micros_since(span.start));
        seen += length;
        missing += i64::from(span.value.is_none());
        let quality = if span.value.is_none() { Quality::Missing } else { span.quality };
        if let Some(sum) = Quality::ALL.iter().position(|q| *q == quality).and_then(|at| by_state.get_mut(at)) {
            *sum += length;
        }
    }
    // Times without a meter are nobody's state, but they are not covered.
    by_state[0] += whole - seen;
    let out: i64 = outages.iter().map(|(from, to)| (*to).min(end).micros_since((*from).max(start)).max(0)).sum();
    let mut figures = vec![
        count("days", i64::from(read.days), "d"),
        count("days_covered", i64::from(read.days_covered), "d"),
        figure("estimated", Amount::from_micros(read.estimated_share_ppm), "1"),
    ];
    for (quality, time) in Quality::ALL.iter().zip(by_state) {
        figures.push(figure(format!("share_{quality}"), Amount::from_micros(share_ppm(time, whole)), "1"));
    }
    figures.push(count("missing_slots", missing, "1"));
    figures.push(figure("outage_h", Amount::from_micros(out / 3600), "h"));
    figures.push(count("findings", i64::try_from(findings).unwrap_or(i64::MAX), "1"));
    figures
}

fn count(part: &str, count: i64, unit: &str) -> Figure {
    figure(part, count.checked_mul(1_000_000).and_then(Amount::from_micros), unit)
}

fn figure(part: impl Into<String>, value: Option<Amount>, unit: &str) -> Figure {
    Figure {
        part: part.into(),
        value,
        unit: unit.to_owned(),
        quality: Quality::Valid,
        estimated_ppm: 0,
        at: None,
        notes: Vec::new(),
    }
}
