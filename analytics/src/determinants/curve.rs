//! D8: use on a common grid, whatever the meters' intervals were.

use meterlake_model::determinant::Rounding;
use meterlake_model::{Amount, Quality, Timestamp};

use super::cut::split;
use super::{Cycle, Figure, Note, Slots, round, share_ppm, unit_of};

/// One slot of the grid while it is filled.
#[derive(Debug, Clone, Copy)]
struct Cell {
    start: Timestamp,
    end: Timestamp,
    used: i64,
    estimated: i64,
    covered_us: i64,
    quality: Quality,
}

/// Slots of `interval_s` from each civil midnight: longer ones are sums, shorter ones shares of the meter's by time
/// (derived), and together they are the use that is known. The part is the slot's start. Slots without any meter are left
/// out; those of which a part is not known have no value.
pub fn curve(cycle: &Cycle<'_>, slots: &Slots<'_>, interval_s: i64, rounding: Rounding) -> Vec<Figure> {
    let mut cells = grid(cycle, interval_s);
    let mut at = 0;
    let mut touched = vec![false; cells.len()];
    for span in cycle.of(slots.spans) {
        while cells.get(at).is_some_and(|cell| cell.end <= span.start) {
            at += 1;
        }
        let inside = cells[at..].iter().take_while(|cell| cell.start < span.end);
        let times: Vec<_> = inside.map(|cell| (cell.start.max(span.start), cell.end.min(span.end))).collect();
        let quality = if times.len() > 1 { span.quality.min(Quality::Derived) } else { span.quality };
        for (by, (value, (start, end))) in split(span, &times, slots.step).into_iter().zip(&times).enumerate() {
            let (Some(cell), Some(touched)) = (cells.get_mut(at + by), touched.get_mut(at + by)) else { continue };
            *touched = true;
            cell.quality = cell.quality.min(quality);
            if let Some(value) = value {
                cell.used = cell.used.saturating_add(value.micros());
                cell.covered_us += end.micros_since(*start);
                if quality.is_estimate() {
                    cell.estimated = cell.estimated.saturating_add(value.micros());
                }
            }
        }
    }
    let cells: Vec<Cell> =
        cells.into_iter().zip(touched).filter(|(_, touched)| *touched).map(|(cell, _)| cell).collect();
    let values: Option<Vec<Amount>> = cells.iter().map(|cell| Amount::from_micros(cell.used)).collect();
    let values = values.and_then(|values| round::parts(&values, rounding)).unwrap_or_default();
    let figure = |(at, cell): (usize, &Cell)| {
        let whole = cell.covered_us == cell.end.micros_since(cell.start);
        let notes = match whole {
            true => Vec::new(),
            false => vec![Note::new("missing", false, "a part of the slot is not known")],
        };
        Figure {
            part: cell.start.to_string(),
            value: values.get(at).copied().filter(|_| whole),
            unit: unit_of(slots.channel).to_owned(),
            quality: if whole { cell.quality } else { Quality::Missing },
            estimated_ppm: share_ppm(i128::from(cell.estimated), i128::from(cell.used)),
            at: Some((cell.start, cell.end)),
            notes,
        }
    };
    cells.iter().enumerate().map(figure).collect()
}

fn grid(cycle: &Cycle<'_>, interval_s: i64) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut day = cycle.start_day;
    while day < cycle.end_day {
        let (mut start, end) = cycle.zone.span_of_day(day);
        while start < end {
            let next = start.plus_seconds(interval_s.max(1)).min(end);
            let quality = Quality::Edited;
            cells.push(Cell { start, end: next, used: 0, estimated: 0, covered_us: 0, quality });
            start = next;
        }
        day = day.plus_days(1);
    }
    cells
}
