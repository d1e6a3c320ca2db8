//! Slots cut where a bucket ends within: by time, in whole steps, the shares adding up to the slot.

use meterlake_model::calendar::{Bucket, Calendar};
use meterlake_model::{Amount, Method, Quality, Timestamp};

use super::{Cycle, Slots};
use crate::usage::{Span, common_step, share};

/// A slot, or the part of one that lies in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) value: Option<Amount>,
    pub(super) quality: Quality,
    pub(super) method: Option<Method>,
    /// `None`: outside the calendar's years.
    pub(super) bucket: Option<Bucket>,
    /// Whether it is only a part.
    pub(super) cut: bool,
}

/// The slots of a cycle, cut by a calendar.
pub(super) fn pieces(cycle: &Cycle<'_>, slots: &Slots<'_>, calendar: &Calendar) -> Vec<Piece> {
    let mut walk = calendar.walk(Some(cycle.point));
    let spans = cycle.of(slots.spans);
    let mut pieces = Vec::with_capacity(spans.len());
    for span in spans {
        let first = walk.at(span.start);
        if first.end >= span.end {
            let (start, end, value) = (span.start, span.end, span.value);
            let (quality, method, bucket) = (span.quality, span.method, first.bucket);
            pieces.push(Piece { start, end, value, quality, method, bucket, cut: false });
            continue;
        }
        let slices: Vec<_> = walk.between(span.start, span.end).collect();
        // Neighbours of one bucket, at midnight or a change of the clock, are no border.
        let mut parts: Vec<(Timestamp, Timestamp, Option<Bucket>)> = Vec::with_capacity(1);
        for slice in slices {
            match parts.last_mut() {
                Some(last) if last.2 == slice.bucket => last.1 = slice.end,
                _ => parts.push((slice.start, slice.end, slice.bucket)),
            }
        }
        let times: Vec<_> = parts.iter().map(|(start, end, _)| (*start, *end)).collect();
        let values = split(span, &times, slots.step);
        let cut = parts.len() > 1;
        for ((start, end, bucket), value) in parts.into_iter().zip(values) {
            let quality = if cut { span.quality.min(Quality::Derived) } else { span.quality };
            pieces.push(Piece { start, end, value, quality, method: span.method, bucket, cut });
        }
    }
    pieces
}

/// A slot's value shared out over stretches of it by their length: exactly, in steps where it is a multiple of them.
pub(super) fn split(span: &Span, times: &[(Timestamp, Timestamp)], step: Amount) -> Vec<Option<Amount>> {
    let (Some(value), true) = (span.value, times.len() > 1) else { return vec![span.value; times.len()] };
    let lengths: Vec<i128> = times.iter().map(|(start, end)| i128::from(end.micros_since(*start))).collect();
    let size = i64::try_from(value.micros().unsigned_abs()).unwrap_or(i64::MAX);
    let sign = if value.micros() < 0 { -1 } else { 1 };
    let step = common_step(size, step.micros());
    let mut shares = Vec::with_capacity(times.len());
    share(size / step, &lengths, &mut shares);
    shares.into_iter().map(|units| Amount::from_micros(units * step * sign)).collect()
}
