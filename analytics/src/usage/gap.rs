//! The shape of a gap: how its pieces share what the register moved, or what it may have moved where no register says.

use meterlake_model::{Method, Quality, Timestamp};

use super::grid::Grid;
use super::history::{DayNumber, Fill, Used};
use super::reconcile::{share, spread};
use super::register::{Register, scale};
use super::sink::Sink;
use super::twin::Beside;
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
    /// Where it begins.
    pub(super) fn from(&self) -> Timestamp {
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
    /// Whether estimates have to wait.
    pub(super) suspended: bool,
    /// What they went by.
    pub(super) used: Used,
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
        let told = |(p, dark): (&Piece, &bool)| self.twin(p).filter(|_| !dark);
        let twins: Vec<Option<i64>> =
            if self.sink.twins.is_empty() { Vec::new() } else { pieces.iter().zip(&dark).map(told).collect() };
        let lit_micros: i64 = pieces.iter().zip(&dark).filter(|(_, d)| !**d).map(|(p, _)| p.micros).sum();
        let margin = self.register.interval_us;
        let straight = time <= self.sink.rules.linear_gap_s * 1_000_000
            && !self.sink.outage_touches(start.plus_micros(-margin), end.plus_micros(margin));
        let total = i128::from(scale(steps.saturating_mul(unit), self.register.multiplier).unwrap_or(i64::MAX));
        let beside = Beside::of(&twins, lit, total, scale(unit, self.register.multiplier).unwrap_or(unit));
        let shape: Option<Vec<i128>> =
            pieces.iter().zip(&dark).map(|(p, dark)| self.profile(p).map(|w| if *dark { 0 } else { w })).collect();
        let heavy: i128 = shape.iter().flatten().sum();
        for (n, piece) in pieces.iter_mut().enumerate() {
            let even = Weight::new(total * i128::from(piece.micros), i128::from(lit_micros.max(1)));
            if dark[n] {
                piece.set(Weight::ZERO, Quality::Valid, Method::NoSupply);
            } else if steps == 0 || lit == 1 {
                piece.set(even, Quality::Derived, Method::Closure);
            } else if let Some(value) = twins.get(n).copied().flatten() {
                piece.set(Weight::new(i128::from(value), 1), beside.quality(), Method::Twin);
            } else if self.suspended {
                piece.set(even, Quality::Missing, Method::Even);
            } else if straight {
                let line = if beside == Beside::None { Weight::new(i128::from(piece.micros), 1) } else { even };
                piece.set(line, Quality::EstimatedScaled, Method::Linear);
            } else if let Some((weight, method)) = self.like(piece) {
                piece.set(weight, Quality::EstimatedScaled, method);
            } else if let Some(weight) = shape.as_ref().filter(|_| heavy > 0).map(|shape| shape[n]) {
                // E7 at the level of the gap itself, which the register gives.
                self.used.profile_at(None);
                piece.set(
                    Weight::about(total.saturating_mul(weight), heavy),
                    Quality::EstimatedScaled,
                    Method::Profile,
                );
            } else {
                piece.set(even, Quality::EstimatedScaled, Method::Even);
            }
        }
        if let Beside::Part { known } = beside {
            fit(pieces, &twins, total - known);
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
            if let Some(value) = self.twin(piece) {
                piece.set(Weight::new(i128::from(value), 1), Quality::Derived, Method::Twin);
                continue;
            }
            if self.suspended {
                return None;
            }
            let rate = rate.filter(|((_, over), _)| *over > 0);
            let (weight, method) = self
                .like(piece)
                .or_else(|| self.profile_at(piece, rate?.0))
                .or_else(|| {
                    let ((rise, over), method) = rate?;
                    let rise = i128::from(scale(rise, self.register.multiplier)?);
                    Some((Weight::new(rise * i128::from(piece.micros), i128::from(over)), method))
                })
                .or_else(|| {
                    let fill = self.sink.history.by_class(piece.day, piece.place, &mut self.used)?;
                    Some(part_of(piece, fill))
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
        Some(part_of(piece, fill))
    }

    /// E1, where a check meter tells of the piece.
    fn twin(&self, piece: &Piece) -> Option<i64> {
        self.sink.twin_use(piece.from(), piece.to)
    }

    /// What a piece weighs in the profile, where there is one.
    fn profile(&self, piece: &Piece) -> Option<i128> {
        let weight = self.sink.history.weight(piece.day, piece.place)?;
        Some(weight * i128::from(piece.micros) / i128::from(piece.slot_micros.max(1)))
    }

    /// E7 at an average: a rise as read over microseconds.
    fn profile_at(&mut self, piece: &Piece, (rise, over): (i64, i64)) -> Option<(Weight, Method)> {
        let (weight, week) = (self.profile(piece)?, self.sink.history.week(piece.day)?);
        let rise = i128::from(scale(rise, self.register.multiplier)?);
        let over = i128::from(over / 1_000_000).checked_mul(week).filter(|over| *over > 0)?;
        let rise = rise.checked_mul(weight)?.checked_mul(7 * 86_400)?;
        self.used.profile_at(None);
        Some((Weight::about(rise, over), Method::Profile))
    }
}

/// What of a slot's fill falls to a piece of it.
fn part_of(piece: &Piece, fill: Fill) -> (Weight, Method) {
    let (sum, count) =
        (fill.sum.saturating_mul(i128::from(piece.micros)), fill.count * i128::from(piece.slot_micros.max(1)));
    let weight = if fill.method == Method::Profile { Weight::about(sum, count) } else { Weight::new(sum, count) };
    (weight, fill.method)
}

/// Scales the weights of all pieces that no twin tells of to what is left beside it; evenly where they weigh nothing.
fn fit(pieces: &mut [Piece], twins: &[Option<i64>], rest: i128) {
    let others =
        || (0..pieces.len()).filter(|n| twins[*n].is_none() && pieces[*n].origin.method != Some(Method::NoSupply));
    let weights: Vec<Weight> = others().map(|n| pieces[n].weight).collect();
    let (mut weights, _) = over_one(&weights);
    if weights.iter().all(|weight| *weight == 0) {
        weights = others().map(|n| i128::from(pieces[n].micros)).collect();
    }
    let sum = weights.iter().sum::<i128>().max(1);
    for (n, weight) in others().collect::<Vec<_>>().into_iter().zip(weights) {
        pieces[n].weight = Weight::about(rest.saturating_mul(weight), sum);
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
