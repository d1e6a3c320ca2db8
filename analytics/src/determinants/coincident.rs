//! D5: the highest demand of several points together, and each one's share in it.
//!
//! Points are added one by one and not kept: what is held is one sum a window of the cycle.

use std::collections::BTreeMap;

use meterlake_model::calendar::Calendar;
use meterlake_model::determinant::{Peak, Rounding};
use meterlake_model::{Amount, Quality, Timestamp};

use super::peak::{demands, rate};
use super::{Cycle, Figure, Note, Slots, rate_unit_of, share_ppm};

/// What the points of a group used together, by window.
#[derive(Debug, Clone, Default)]
pub struct Together {
    points: u32,
    /// By start of the window: its end, the use of all, and how many points are known in it.
    windows: BTreeMap<Timestamp, (Timestamp, i64, u32)>,
}

impl Together {
    /// Adds one point. All must have the same cycle and zone.
    pub fn add(
        &mut self,
        cycle: &Cycle<'_>,
        slots: &Slots<'_>,
        peak: &Peak,
        calendar: Option<&Calendar>,
        restored: &[Timestamp],
    ) {
        self.points += 1;
        let found = demands(cycle, slots, peak, calendar, restored);
        for demand in found.known.into_iter().filter(|demand| demand.barred.is_none()) {
            let window = self.windows.entry(demand.start).or_insert((demand.end, 0, 0));
            window.1 = window.1.saturating_add(demand.used);
            window.2 += 1;
        }
    }

    /// The window in which all used most together, the earliest of equals, and the demand in it. Windows in which a point is
    /// not known do not count.
    pub fn highest(&self, peak: &Peak, rounding: Rounding) -> Option<((Timestamp, Timestamp), Amount)> {
        let whole = self.windows.iter().filter(|(_, (_, _, points))| *points == self.points);
        let (start, (end, used, _)) = whole.rev().max_by_key(|(_, (_, used, _))| *used)?;
        Some(((*start, *end), rate(*used, peak.window.length_s, rounding)?))
    }
}

/// One point's demand in the window in which all used most together.
pub fn share_in(window: Option<(Timestamp, Timestamp)>, slots: &Slots<'_>, rounding: Rounding) -> Figure {
    let unit = rate_unit_of(slots.channel);
    let Some((start, end)) = window else {
        let note = Note::new("nothing", true, "there is no window in which every point is known");
        return Figure::unknown("", unit, note);
    };
    let inside = slots.spans.iter().filter(|span| span.start >= start && span.end <= end);
    let (mut used, mut estimated, mut covered, mut quality) = (0_i64, 0_i64, 0, Quality::Edited);
    for span in inside {
        let Some(value) = span.value else { continue };
        used = used.saturating_add(value.micros());
        if span.quality.is_estimate() {
            estimated = estimated.saturating_add(value.micros());
        }
        covered += span.end.micros_since(span.start);
        quality = quality.min(span.quality);
    }
    let length = end.micros_since(start);
    if covered != length {
        return Figure::unknown("", unit, Note::new("missing", true, "the use of the common window is not known"));
    }
    Figure {
        part: String::new(),
        value: rate(used, length / 1_000_000, rounding),
        unit: unit.to_owned(),
        quality,
        estimated_ppm: share_ppm(i128::from(estimated), i128::from(used)),
        at: Some((start, end)),
        notes: Vec::new(),
    }
}
