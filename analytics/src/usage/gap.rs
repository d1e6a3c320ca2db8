//! The shape of a gap: how its pieces share what the register moved, or what it may have moved where no register says.

use std::collections::BTreeSet;

use meterlake_model::{Method, Quality, Timestamp};

use super::grid::Grid;
use super::history::DayNumber;
use super::reconcile::{share, spread};
use super::register::{Register, scale};
use super::sink::Sink;
use super::weight::{Weight, over_one};

/// How the value of a stretch of the curve came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) quality: Quality,
    pub(super) method: Option<Method>,
    /// Whether a day's value rests on it, since no near reading fixes the day's border.
    pub(super) bears: bool,
}

/// It was read.
pub(super) const READ: Origin = Origin { quality: Quality::Valid, method: None, bears: false };

/// A part of a gap within one slot.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) to: Timestamp,
    day: DayNumber,
    place: usize,
    micros: i64,
    slot_micros: i64,
    /// Whether a day ends with it.
    pub(super) midnight: bool,
    weight: Weight,
    /// Its share, in steps of the register.
    pub(super) steps: i64,
    pub(super) origin: Origin,
}

impl Piece {
    fn from(&self) -> Timestamp {
        self.to.plus_micros(-self.micros)
    }

    fn set(&mut self, weight: Weight, quality: Quality, method: Method) {
        self.weight = weight;
        self.origin = Origin { quality, method: Some(method), bears: false };
    }
}

/// The pieces of the grid from an instant in its slot to `end`.
pub(super) fn pieces(mut grid: Grid<'_>, mut from: Timestamp, end: Timestamp) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while from < end {
        let to = grid.end().min(end);
        pieces.push(Piece {
            to,
            day: grid.day(),
            place: grid.place(),
            micros: to.micros_since(from),
            slot_micros: grid.end().micros_since(grid.start()),
            midnight: to == grid.day_end(),
            weight: Weight::ZERO,
            steps: 0,
            origin: READ,
        });
        from = to;
        grid.advance();
    }
    pieces
}

/// What the fills go by.
pub(super) struct Fills<'s, 'a> {
    pub(super) sink: &'s Sink<'a>,
    pub(super) register: &'s Register,
    /// Whether any of it is asked for.
    pub(super) matters: bool,
    /// Days that they learned from.
    pub(super) used: BTreeSet<DayNumber>,
}

impl Fills<'_, '_> {
    /// Shares `steps` of `unit` of the register among pieces by the first fill that applies. `time` is that of the whole
    /// gap.
    pub(super) fn scaled(&mut self, pieces: &mut [Piece], steps: i64, unit: i64, time: i64) {
        let Some((start, end)) = pieces.first().zip(pieces.last()).map(|(first, last)| (first.from(), last.to)) else {
            return;
        };
        let mut dark: Vec<bool> = pieces.iter().map(|p| self.sink.outage_covers(p.from(), p.to)).collect();
        if steps != 0 && dark.iter().all(|d| *d) {
            // The register moved, so there was supply after all.
            dark.fill(false);
        }
        let lit = dark.iter().filter(|d| !**d).count();
        let lit_micros: i64 = pieces.iter().zip(&dark).filter(|(_, d)| !**d).map(|(p, _)| p.micros).sum();
        let margin = self.register.interval_us;
        let straight = time <= self.sink.rules.linear_gap_s * 1_000_000
            && !self.sink.outage_touches(start.plus_micros(-margin), end.plus_micros(margin));
        let total = i128::from(scale(steps.saturating_mul(unit), self.register.multiplier).unwrap_or(i64::MAX));
        for (piece, dark) in pieces.iter_mut().zip(&dark) {
            let even = Weight::new(total * i128::from(piece.micros), i128::from(lit_micros.max(1)));
            if *dark {
                piece.set(Weight::ZERO, Quality::Valid, Method::NoSupply);
            } else if steps == 0 || lit == 1 {
                piece.set(even, Quality::Derived, Method::Closure);
            } else if straight {
                piece.set(Weight::new(i128::from(piece.micros), 1), Quality::EstimatedScaled, Method::Linear);
            } else if let Some((weight, method)) = self.like(piece) {
                piece.set(weight, Quality::EstimatedScaled, method);
            } else {
                piece.set(even, Quality::EstimatedScaled, Method::Even);
            }
        }
        if pieces.iter().all(|p| p.weight.is_zero()) {
            // Fills of nothing under a whole of something: evenly over the time with supply.
            for (piece, _) in pieces.iter_mut().zip(&dark).filter(|(_, dark)| !**dark) {
                piece.weight = Weight::new(i128::from(piece.micros), 1);
                if steps != 0 && piece.origin.quality.is_estimate() {
                    piece.origin.method = Some(Method::Even);
                }
            }
        }
        distribute(pieces, steps);
    }

    /// Weighs pieces that no register bounds; their sum in steps of the resolution, or `None` where a piece has no fill.
    /// `rate` is a rise as read over microseconds, for pieces without like days.
    pub(super) fn unscaled(&mut self, pieces: &mut [Piece], rate: Option<((i64, i64), Method)>) -> Option<i64> {
        for piece in pieces.iter_mut() {
            if self.sink.outage_covers(piece.from(), piece.to) {
                piece.set(Weight::ZERO, Quality::Valid, Method::NoSupply);
                continue;
            }
            let (weight, method) = self.like(piece).or_else(|| {
                let ((rise, over), method) = rate.filter(|((_, over), _)| *over > 0)?;
                let rise = i128::from(scale(rise, self.register.multiplier)?);
                Some((Weight::new(rise * i128::from(piece.micros), i128::from(over)), method))
            })?;
            piece.set(weight, Quality::Estimated, method);
            piece.origin.bears = true;
        }
        let weights: Vec<Weight> = pieces.iter().map(|p| p.weight).collect();
        let (weights, denominator) = over_one(&weights);
        let sum: i128 = weights.iter().sum();
        let unit = i128::from(scale(self.register.resolution, self.register.multiplier)?.max(1)) * denominator;
        i64::try_from((2 * sum + unit) / (2 * unit)).ok()
    }

    fn like(&mut self, piece: &Piece) -> Option<(Weight, Method)> {
        let fill = self.sink.history.fill(piece.day, piece.place, &mut self.used, self.matters)?;
        let whole = fill.count * i128::from(piece.slot_micros.max(1));
        Some((Weight::new(fill.sum * i128::from(piece.micros), whole), fill.method))
    }
}

/// Gives each piece its share of `steps` by its weight. Days come first: the register at a midnight is where the weight up
/// to it says, whatever lies before and behind, and the slots of a day share what is left to it. So the steps that are left
/// over from slots do not gather in the first days of a long gap.
pub(super) fn distribute(pieces: &mut [Piece], steps: i64) {
    let exact: Vec<Weight> = pieces.iter().map(|p| p.weight).collect();
    let (exact, _) = over_one(&exact);
    let ends: Vec<usize> = (1..=pieces.len()).filter(|end| *end == pieces.len() || pieces[*end - 1].midnight).collect();
    let (mut weights, mut days) = (Vec::with_capacity(ends.len()), Vec::with_capacity(ends.len()));
    let mut from = 0;
    for end in &ends {
        weights.push(exact[from..*end].iter().sum());
        from = *end;
    }
    spread(steps, &weights, &mut days);
    let mut shares = Vec::with_capacity(pieces.len());
    from = 0;
    for (end, steps) in ends.into_iter().zip(days) {
        share(steps, &exact[from..end], &mut shares);
        from = end;
    }
    for (piece, steps) in pieces.iter_mut().zip(shares) {
        piece.steps = steps;
    }
}
