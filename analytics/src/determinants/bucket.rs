//! D3: use by bucket of a calendar, made to add up to the register.

use std::collections::BTreeMap;

use meterlake_model::calendar::Calendar;
use meterlake_model::determinant::Rounding;
use meterlake_model::{Amount, Channel, Quality};

use super::boundary::known_use;
use super::cut::{Piece, pieces};
use super::{Cycle, Figure, Note, Slots, round, share_ppm, unit_of};
use crate::billing::BillingRead;
use crate::usage::{common_step, share, tolerance};

/// What fell into one bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    known: i64,
    estimated: i64,
    quality: Option<Quality>,
    cut: u32,
    unknown_us: i64,
}

impl Sum {
    fn add(&mut self, piece: &Piece) {
        self.quality = Some(self.quality.map_or(piece.quality, |quality| quality.min(piece.quality)));
        self.cut += u32::from(piece.cut);
        match piece.value {
            Some(value) => {
                self.known = self.known.saturating_add(value.micros());
                if piece.quality.is_estimate() {
                    self.estimated = self.estimated.saturating_add(value.micros());
                }
            }
            None => self.unknown_us += piece.end.micros_since(piece.start),
        }
    }
}

/// The use of each bucket of a calendar, or of those that are named, in their order.
///
/// All buckets add up to `whole`: what is missing within tolerance goes to the largest; beyond it the whole carries the
/// total, the slots the shape, and `V16` holds the bill. Where slots are unknown nothing is closed.
pub fn by_bucket(
    cycle: &Cycle<'_>,
    slots: &Slots<'_>,
    calendar: &Calendar,
    named: &[String],
    whole: Option<Amount>,
    rounding: Rounding,
) -> Vec<Figure> {
    let mut sums = vec![Sum::default(); calendar.buckets().len()];
    let mut outside = 0;
    for piece in pieces(cycle, slots, calendar) {
        match piece.bucket.and_then(|bucket| sums.get_mut(usize::from(bucket))) {
            Some(sum) => sum.add(&piece),
            None => outside += piece.end.micros_since(piece.start),
        }
    }
    let unit = unit_of(slots.channel);
    let complete = outside == 0 && sums.iter().all(|sum| sum.unknown_us == 0);
    let known: Vec<Amount> = sums.iter().filter_map(|sum| Amount::from_micros(sum.known)).collect();
    let mut notes = Vec::new();
    let values = match whole {
        Some(whole) if complete && known.len() == sums.len() => close(&known, whole, slots.step, &mut notes),
        _ => Some(known),
    };
    let values = values.and_then(|values| round::parts(&values, rounding));
    if outside > 0 {
        let detail = format!("calendar {} does not hold for {} s of the cycle", calendar.name(), outside / 1_000_000);
        notes.push(Note::new("calendar", true, detail));
    }
    let mut figures = Vec::new();
    for (at, (bucket, sum)) in calendar.buckets().iter().zip(&sums).enumerate() {
        if !named.is_empty() && !named.contains(bucket) {
            continue;
        }
        let mut notes = notes.clone();
        if sum.cut > 0 {
            notes.push(Note::new("V04", false, format!("{} slots were cut at a bucket's border", sum.cut)));
        }
        if sum.unknown_us > 0 {
            let detail = format!("{} s are not known; the rest is {}", sum.unknown_us / 1_000_000, shown(sum.known));
            notes.push(Note::new("missing", true, detail));
        }
        let value = values.as_ref().and_then(|values| values.get(at)).copied();
        figures.push(Figure {
            part: bucket.clone(),
            value: value.filter(|_| sum.unknown_us == 0 && outside == 0),
            unit: unit.to_owned(),
            // A bucket that no slot fell into was surely not used.
            quality: if outside > 0 { Quality::Missing } else { sum.quality.unwrap_or(Quality::Valid) },
            estimated_ppm: share_ppm(i128::from(sum.estimated), i128::from(sum.known)),
            at: None,
            notes,
        });
    }
    if !named.is_empty() {
        figures.sort_by_key(|figure| named.iter().position(|name| *name == figure.part));
    }
    figures
}

/// Buckets of a cycle of which a part is not known, such as where a register was set back: none has a value, because a part
/// is not shown as a whole.
pub fn not_whole(figures: Vec<Figure>) -> Vec<Figure> {
    let unknown = |mut figure: Figure| {
        if let Some(value) = figure.value.take() {
            figure.quality = Quality::Missing;
            let detail = format!("a part of the cycle is not known; the rest is {value}");
            figure.notes.push(Note::new("missing", true, detail));
        }
        figure
    };
    figures.into_iter().map(unknown).collect()
}

fn shown(micros: i64) -> Amount {
    Amount::from_micros(micros).unwrap_or_default()
}

/// Parts that add up to the whole.
fn close(known: &[Amount], whole: Amount, step: Amount, notes: &mut Vec<Note>) -> Option<Vec<Amount>> {
    let sum = Amount::sum(known.iter().copied())?;
    let rest = whole.checked_sub(sum)?;
    let mut values = known.to_vec();
    let limit = tolerance(whole, step);
    if rest.micros().unsigned_abs() <= limit.micros().unsigned_abs() {
        let largest = (0..values.len()).rev().max_by_key(|at| values[*at])?;
        values[largest] = values[largest].checked_add(rest)?;
        return Some(values);
    }
    notes.push(v16(sum, whole, limit));
    let total = whole.micros();
    let weights: Vec<i128> = known.iter().map(|part| i128::from(part.micros().max(0))).collect();
    if total < 0 {
        return Some(values);
    }
    let step = common_step(total, step.micros());
    let mut shares = Vec::with_capacity(weights.len());
    share(total / step, &weights, &mut shares);
    shares.into_iter().map(|units| Amount::from_micros(units * step)).collect()
}

fn v16(sum: Amount, whole: Amount, limit: Amount) -> Note {
    let detail = format!("the parts add up to {sum}, the whole is {whole}; at most {limit} may be between");
    Note::new("V16", true, detail)
}

/// The use of the meter's own tariff registers, by bucket. They stand as read: where they miss the whole beyond tolerance,
/// `V16` holds the bill.
pub fn by_register(
    reads: &BTreeMap<String, (Channel, Option<&BillingRead>)>,
    whole: Option<Amount>,
    step: Amount,
    rounding: Rounding,
) -> Vec<Figure> {
    let uses = reads.values().map(|(_, read)| read.and_then(known_use));
    let sum = uses.collect::<Option<Vec<_>>>().and_then(Amount::sum);
    let mut notes = Vec::new();
    if let Some((sum, whole)) = sum.zip(whole) {
        let limit = tolerance(whole, step);
        let off = whole.micros().saturating_sub(sum.micros()).unsigned_abs();
        if off > limit.micros().unsigned_abs() {
            notes.push(v16(sum, whole, limit));
        }
    }
    let figure = |(bucket, (channel, read)): (&String, &(Channel, Option<&BillingRead>))| {
        let Some(read) = read else {
            return Figure::unknown(bucket.clone(), unit_of(*channel), Note::new("missing", true, "no meter has it"));
        };
        let mut figure = super::use_of(*channel, read, rounding);
        figure.part.clone_from(bucket);
        figure.notes.extend(notes.iter().cloned());
        figure
    };
    reads.iter().map(figure).collect()
}
