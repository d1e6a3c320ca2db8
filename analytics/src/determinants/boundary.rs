//! D1 and D2: registers at both ends of the cycle as read, and use, out of the cycle's read.

use meterlake_model::determinant::Rounding;
use meterlake_model::{Amount, Channel, Quality, Timestamp};

use super::{Figure, Note, unit_of};
use crate::billing::{BillingRead, BoundaryRead};

/// Parts `start` and `end`, and where the meter was exchanged `removed:METER` and `installed:METER`. Never multiplied, and
/// never rounded.
pub fn boundary(channel: Channel, read: &BillingRead) -> Vec<Figure> {
    let figure = |part: String, at: &BoundaryRead| Figure {
        part,
        value: at.register,
        unit: unit_of(channel).to_owned(),
        quality: if at.register.is_some() { at.quality } else { Quality::Missing },
        estimated_ppm: if at.quality.is_estimate() { 1_000_000 } else { 0 },
        at: Some((at.ts, at.ts)),
        notes: Vec::new(),
    };
    let (Some(first), Some(last)) = (read.parts.first(), read.parts.last()) else {
        let note = || Note::new("missing", true, "no register is known in the cycle");
        return ["start", "end"].map(|part| Figure::unknown(part, unit_of(channel), note())).into();
    };
    let mut figures = vec![figure("start".to_owned(), &first.start)];
    for pair in read.parts.windows(2) {
        figures.push(figure(format!("removed:{}", pair[0].meter_id), &pair[0].end));
        figures.push(figure(format!("installed:{}", pair[1].meter_id), &pair[1].start));
    }
    figures.push(figure("end".to_owned(), &last.end));
    figures
}

/// The use of the cycle, with why it is held.
pub fn use_of(channel: Channel, read: &BillingRead, rounding: Rounding) -> Figure {
    let notes = read.reasons.iter().map(|reason| Note::new(reason.code, reason.holds, reason.detail.clone()));
    let unit = unit_of(channel).to_owned();
    let qualities = read.parts.iter().flat_map(|part| [part.start.quality, part.end.quality]);
    Figure {
        part: String::new(),
        value: read.use_amount.and_then(|value| rounding.amount(value)),
        unit,
        quality: match read.use_amount {
            Some(_) => qualities.min().unwrap_or(Quality::Missing),
            None => Quality::Missing,
        },
        estimated_ppm: read.estimated_share_ppm,
        at: None,
        notes: notes.collect(),
    }
}

/// What a cycle's use is known to be: nothing where a part of it is not known.
pub fn known_use(read: &BillingRead) -> Option<Amount> {
    let unknown = |code: &str| ["missing", "nothing", "backward", "wrap"].contains(&code);
    let open = read.reasons.iter().any(|reason| reason.holds && unknown(reason.code));
    read.use_amount.filter(|_| !open)
}

/// Start and end as texts.
pub(super) fn span_text((start, end): (Timestamp, Timestamp)) -> String {
    format!("{start} to {end}")
}
