//! The figures of one usage point and cycle, determinant by determinant.

use std::collections::{BTreeMap, HashMap};

use meterlake_model::calendar::Calendar;
use meterlake_model::determinant::{CloseTo, Determinant, Kind, Peak, Rounding, TierPeriod, Within};
use meterlake_model::formula::{Formula, Name};
use meterlake_model::{Amount, Channel, CivilDay, Quality, UsagePointId};

use super::point::Point;
use super::{CommonPeak, Measured};
use crate::determinants::{
    Figure, Note, TierUse, at_least, boundary, by_bucket, by_register, by_tier, curve, evidence, highest, known_use,
    not_whole, of_formula, power_factor, prorated, rate_unit_of, share_in, unit_of, unmetered, use_of,
};
use crate::jobs::billing::ReadRow;
use crate::rules::Rules;

/// What the figures of a point follow from besides the point itself.
pub(super) struct Computing<'c> {
    pub(super) rules: &'c Rules,
    pub(super) named: &'c HashMap<(UsagePointId, Channel), &'c ReadRow<'c>>,
    pub(super) together: &'c BTreeMap<usize, CommonPeak>,
    pub(super) measured: &'c mut Measured,
    /// The run.
    pub(super) month: &'c str,
}

impl<'c> Computing<'c> {
    /// All figures, in the order of the configuration.
    pub(super) fn figures(mut self, point: &Point<'_>) -> Vec<(&'c Determinant, Figure)> {
        let mut found: Vec<(&Determinant, Figure)> = Vec::new();
        for (at, determinant) in self.rules.determinants.iter().enumerate() {
            if determinant.scope.has(&point.usage_point.id, &point.usage_point.class) {
                let figures = self.figures_of(point, at, determinant, &found);
                found.extend(figures.into_iter().map(|figure| (determinant, figure)));
            }
        }
        found
    }

    fn figures_of(
        &mut self,
        point: &Point<'_>,
        at: usize,
        determinant: &Determinant,
        before: &[(&Determinant, Figure)],
    ) -> Vec<Figure> {
        let round = determinant.round;
        let whole = |close_to: &CloseTo| match close_to {
            CloseTo::Itself => None,
            CloseTo::UseOf(channel) => point.read(*channel).and_then(known_use),
        };
        match &determinant.kind {
            Kind::Boundary { channel } => point.read(*channel).map(|read| boundary(*channel, read)).unwrap_or_default(),
            Kind::Use { channel } => {
                point.read(*channel).map(|read| use_of(*channel, read, round)).into_iter().collect()
            }
            Kind::Bucket { channel, within, close_to } => {
                let Some(calendar) = self.rules.calendars.get(&within.calendar) else { return Vec::new() };
                let Some(read) = point.read(*channel) else { return Vec::new() };
                let slots = point.slots(*channel);
                let figures = by_bucket(&point.cycle, &slots, calendar, &within.buckets, whole(close_to), round);
                match known_use(read) {
                    Some(_) => figures,
                    None => not_whole(figures),
                }
            }
            Kind::TariffRegisters { registers, close_to } => {
                let reads = registers.iter().map(|(bucket, c)| (bucket.clone(), (*c, point.read(*c))));
                let reads: BTreeMap<_, _> = reads.collect();
                let step = registers.values().map(|channel| point.step(*channel)).max().unwrap_or_default();
                match reads.values().any(|(_, read)| read.is_some()) {
                    true => by_register(&reads, whole(close_to), step, round),
                    false => Vec::new(),
                }
            }
            Kind::Peak(peak) => self.peak(point, determinant, peak),
            Kind::Coincident(peak) => self.coincident(point, at, peak, round),
            Kind::PowerFactor { active, reactive, standard } => {
                let uses = |channels: &[Channel]| -> Vec<Figure> {
                    channels.iter().filter_map(|channel| whole_use(point, *channel)).collect()
                };
                let (active, reactive) = (uses(active), uses(reactive));
                match active.is_empty() || reactive.is_empty() {
                    true => Vec::new(),
                    false => power_factor(&active, &reactive, *standard, round),
                }
            }
            Kind::Tier { channel, limits, period, prorate } => {
                tier(point, (*channel, limits.as_slice()), (*period, *prorate), round)
            }
            Kind::Curve { channel, interval_s } => match point.read(*channel) {
                Some(_) => curve(&point.cycle, &point.slots(*channel), *interval_s, round),
                None => Vec::new(),
            },
            Kind::Formula { formula, of, unit } => {
                let named = determinant.scope.points.contains(&point.usage_point.id);
                self.formula(point, (formula, unit.as_str()), of, named, before, round).into_iter().collect()
            }
            Kind::Evidence { channel } => match point.row(*channel) {
                Some(row) => {
                    let outages = point.installed.outages(&point.usage_point.id);
                    evidence(&point.cycle, &point.slots(*channel), &row.read, &outages, row.findings)
                }
                None => Vec::new(),
            },
            Kind::Unmetered { items, within, unit } => {
                let calendar = within.as_ref().and_then(|w| Some((self.rules.calendars.get(&w.calendar)?, w)));
                vec![unmetered(&point.cycle, items, calendar, unit, round)]
            }
        }
    }

    fn calendar(&self, within: Option<&Within>) -> Option<&'c Calendar> {
        self.rules.calendars.get(&within?.calendar)
    }

    fn peak(&mut self, point: &Point<'_>, determinant: &Determinant, peak: &Peak) -> Vec<Figure> {
        if point.read(peak.channel).is_none() {
            return Vec::new();
        }
        let id = &point.usage_point.id;
        let restored = if peak.restored { Vec::new() } else { point.installed.restored(id) };
        let (slots, calendar) = (point.slots(peak.channel), self.calendar(peak.within.as_ref()));
        let figure = highest(&point.cycle, &slots, peak, calendar, &restored, determinant.round);
        let Some(ratchet) = peak.ratchet else { return vec![figure] };
        let months = self.measured.entry((determinant.id.clone(), id.as_str().to_owned())).or_default();
        let cycles = i32::from(ratchet.cycles);
        let first = CivilDay::parse(&format!("{}-01", self.month)).map(|month| month.plus_months(-cycles));
        let first = first.map(crate::jobs::profiles::period_key).unwrap_or_default();
        let earlier: Vec<Amount> = months.range(first..self.month.to_owned()).map(|(_, value)| *value).collect();
        if let Some(value) = figure.value {
            months.insert(self.month.to_owned(), value);
        }
        at_least(figure, &earlier, ratchet, determinant.round)
    }

    fn coincident(&self, point: &Point<'_>, at: usize, peak: &Peak, round: Rounding) -> Vec<Figure> {
        let (Some(common), true) = (self.together.get(&at), point.read(peak.channel).is_some()) else {
            return Vec::new();
        };
        if common.first_day != point.cycle.start_day {
            let note = Note::new("cycle", true, "its cycle is not that of the others");
            return vec![Figure::unknown("", rate_unit_of(peak.channel), note)];
        }
        let share = share_in(common.window.map(|(window, _)| window), &point.slots(peak.channel), round);
        let together =
            Figure { part: "together".to_owned(), value: common.window.map(|(_, demand)| demand), ..share.clone() };
        vec![share, together]
    }

    fn formula(
        &self,
        point: &Point<'_>,
        (formula, unit): (&Formula, &str),
        of: &[UsagePointId],
        named: bool,
        before: &[(&Determinant, Figure)],
        round: Rounding,
    ) -> Option<Figure> {
        // Who is not named gets a figure only where there is something of its own to compute it from.
        let own = |name: &&Name| matches!(name, Name::Use(_, None) | Name::Determinant(..));
        let has = |name: &Name| match name {
            Name::Use(channel, None) => point.read(*channel).is_some(),
            Name::Determinant(id, _) => before.iter().any(|(determinant, _)| determinant.id == *id),
            Name::Use(_, Some(_)) | Name::Sum(_) => true,
        };
        let names = formula.names();
        if !named && (!names.iter().copied().any(|name| own(&name)) || !names.iter().copied().all(has)) {
            return None;
        }
        let other = |id: &UsagePointId, channel: Channel| {
            let row = self.named.get(&(id.clone(), channel))?;
            let same = row.first_day == point.cycle.start_day && row.end_day == point.cycle.end_day;
            same.then(|| use_as_figure(channel, row))
        };
        Some(of_formula(formula, unit, round, |name| match name {
            Name::Use(channel, None) => whole_use(point, *channel),
            Name::Use(channel, Some(id)) => other(id, *channel),
            Name::Sum(channel) => sum(*channel, of.iter().map(|id| other(id, *channel))),
            Name::Determinant(id, part) => {
                let found = before.iter().find(|(d, figure)| d.id == *id && figure.part == *part);
                found.map(|(_, figure)| figure.clone())
            }
        }))
    }
}

/// The use of a channel, without a value where a part of it is not known.
fn whole_use(point: &Point<'_>, channel: Channel) -> Option<Figure> {
    point.row(channel).map(|row| use_as_figure(channel, row))
}

fn use_as_figure(channel: Channel, row: &ReadRow<'_>) -> Figure {
    let figure = use_of(channel, &row.read, Rounding::default());
    Figure { value: known_use(&row.read), ..figure }
}

/// The sum of figures; nothing where one is missing.
fn sum(channel: Channel, figures: impl Iterator<Item = Option<Figure>>) -> Option<Figure> {
    let figures: Vec<Figure> = figures.collect::<Option<_>>()?;
    let value = figures.iter().map(|figure| figure.value).collect::<Option<Vec<_>>>().and_then(Amount::sum);
    Some(Figure {
        part: String::new(),
        value,
        unit: unit_of(channel).to_owned(),
        quality: figures.iter().map(|figure| figure.quality).min().unwrap_or(Quality::Missing),
        estimated_ppm: figures.iter().map(|figure| figure.estimated_ppm).max().unwrap_or(0),
        at: None,
        notes: figures.into_iter().flat_map(|figure| figure.notes).filter(|note| note.holds).collect(),
    })
}

/// The day on which the year of tiers begins that a day lies in.
pub(super) fn year_start(day: CivilDay, (month, of_month): (i8, i8)) -> CivilDay {
    let this = CivilDay::new(day.year(), month, of_month).unwrap_or(day);
    if this <= day { this } else { this.plus_months(-12) }
}

fn tier(
    point: &Point<'_>,
    (channel, limits): (Channel, &[Amount]),
    (period, prorate): (TierPeriod, bool),
    round: Rounding,
) -> Vec<Figure> {
    let Some(read) = point.read(channel) else { return Vec::new() };
    let mut total = use_of(channel, read, round);
    let used = known_use(read);
    total.value = used.and_then(|used| round.amount(used));
    let TierPeriod::Year(month, day) = period else {
        let of = TierUse { before: Amount::ZERO, used: used.unwrap_or_default() };
        return by_tier(&total, &[(limits.to_vec(), of)], round);
    };
    let (cycle, zone) = (&point.cycle, &point.usage_point.zone);
    let begins = year_start(cycle.start_day, (month, day));
    let next = begins.plus_months(12);
    let moved_in = point.installed.moved_in(point.usage_point, cycle.end_day);
    let limits_of = |year: CivilDay| prorated(limits, year, moved_in.filter(|_| prorate), Rounding::default());
    // Days in a range, and whether all of them are known.
    let between = |first: CivilDay, end: CivilDay| -> (Option<Amount>, bool) {
        let (first, end) = (zone.start_of_day(first), zone.start_of_day(end));
        let days = point.days.get(&channel).map(Vec::as_slice).unwrap_or_default();
        let inside = days.iter().filter(|(start, until, _)| *start >= first && *until <= end);
        let values: Vec<Option<Amount>> = inside.map(|(_, _, value)| *value).collect();
        (Amount::sum(values.iter().copied().flatten()), values.iter().all(Option::is_some))
    };
    // What another customer used before fills up nobody's tiers.
    let (before, known) = between(moved_in.map_or(begins, |day| begins.max(day)), cycle.start_day);
    if !known {
        total.notes.push(Note::new("missing", true, "not all days of the year before the cycle are known"));
    }
    let before = before.unwrap_or_default();
    let mut stretches = Vec::new();
    if next < cycle.end_day {
        let (old, new) = (between(cycle.start_day, next).0, between(next, cycle.end_day).0);
        stretches.push((limits_of(begins), TierUse { before, used: old.unwrap_or_default() }));
        stretches.push((limits_of(next), TierUse { before: Amount::ZERO, used: new.unwrap_or_default() }));
    } else {
        stretches.push((limits_of(begins), TierUse { before, used: used.unwrap_or_default() }));
    }
    by_tier(&total, &stretches, round)
}
