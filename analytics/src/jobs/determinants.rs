//! The part of the job `billing` that computes the configured determinants: one partition of `billing_determinants` a run.
//!
//! Slots and days are read in the order of usage points, beside the reads that the job has, and one point is held at a time.
//! With nothing configured nothing is read.

mod compute;
mod point;
mod source;
mod walked;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use futures::Stream;
use meterlake_model::determinant::{Determinant, Kind, Peak, TierPeriod};
use meterlake_model::formula::Name;
use meterlake_model::{Amount, Channel, CivilDay, Timestamp, UsagePointId, Zone};
use sha2::{Digest, Sha256};

use super::JobError;
use super::billing::again::Silence;
use super::billing::{ReadRow, Reads};
use super::derive::Outages;
use super::groups::Groups;
use super::profiles::period_key;
use super::run::{Output, Run, month_partition};
use crate::alerts::hex;
use crate::book::determinants::{self as booked, ByBill};
use crate::determinants::{Cycle, Figure, Slots, Together};
use crate::rules::Rules;
use crate::tables;
use crate::tables::read::{Rows, amount_at};
use crate::usage::Level;

use compute::Computing;
use point::{Installed, Point};
use source::Source;
use walked::Walked;

const SLOTS: &str = include_str!("../../sql/determinant_slots.sql");
const DAYS: &str = include_str!("../../sql/determinant_days.sql");
const MEASURED: &str = include_str!("../../sql/determinant_measured.sql");
const TABLE: &str = "billing_determinants";

/// A row of `billing_determinants`.
pub(crate) struct FigureRow<'a> {
    pub(crate) point: &'a str,
    pub(crate) determinant: &'a Determinant,
    pub(crate) first_day: CivilDay,
    /// The day after the last.
    pub(crate) end_day: CivilDay,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) figure: Figure,
}

/// What the configured determinants need to be read.
#[derive(Default)]
struct Needs {
    slots: BTreeSet<Channel>,
    days: BTreeSet<Channel>,
    outages: bool,
    ratchets: bool,
    /// Points whose uses formulas of others name.
    named: HashSet<UsagePointId>,
}

impl Needs {
    fn of(determinants: &[Determinant]) -> Self {
        let mut needs = Self::default();
        for determinant in determinants {
            match &determinant.kind {
                Kind::Bucket { channel, .. } | Kind::Curve { channel, .. } => drop(needs.slots.insert(*channel)),
                Kind::Peak(peak) | Kind::Coincident(peak) => {
                    needs.slots.insert(peak.channel);
                    needs.outages |= !peak.restored;
                    needs.ratchets |= peak.ratchet.is_some();
                }
                Kind::Evidence { channel } => {
                    needs.slots.insert(*channel);
                    needs.outages = true;
                }
                Kind::Tier { channel, period: TierPeriod::Year(..), .. } => drop(needs.days.insert(*channel)),
                Kind::Formula { formula, of, .. } => {
                    needs.named.extend(of.iter().cloned());
                    needs.named.extend(formula.names().into_iter().filter_map(|name| match name {
                        Name::Use(_, Some(point)) => Some(point.clone()),
                        _ => None,
                    }));
                }
                Kind::Boundary { .. }
                | Kind::Use { .. }
                | Kind::TariffRegisters { .. }
                | Kind::PowerFactor { .. }
                | Kind::Tier { .. }
                | Kind::Unmetered { .. } => {}
            }
        }
        needs
    }
}

/// Demands that were measured in earlier cycles, by determinant and usage point.
type Measured = HashMap<(String, String), BTreeMap<String, Amount>>;

/// Whether bills of some usage points follow from readings of others: coincident demands, formulas over other points.
pub fn hang_together(rules: &Rules) -> bool {
    let coincident = rules.determinants.iter().any(|d| matches!(d.kind, Kind::Coincident(_)));
    coincident || !Needs::of(&rules.determinants).named.is_empty()
}

/// Hash of figures as they are computed, point by point.
#[derive(Clone, Default)]
struct Hash(Arc<Mutex<Sha256>>);

impl Hash {
    fn take(&self, row: &FigureRow<'_>) {
        let mut hash = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The derived text names every field with its value, in a fixed order.
        hash.update(format!("{} {} {} {:?}\n", row.point, row.determinant.id, row.first_day, row.figure));
    }

    fn finish(&self) -> String {
        hex(&self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize())
    }
}

/// Figures that were computed again, with their hash where determinants are configured.
#[derive(Default)]
pub(super) struct Again {
    pub(super) bills: ByBill,
    pub(super) hash: Option<String>,
}

/// Computes the determinants of runs from readings alone, as far as the run looks at their points; nothing is written.
pub(super) async fn again(run: &Run<'_>, reads: &Reads<'_>, silence: &Arc<Silence>) -> Result<Again, JobError> {
    let mut again = Again::default();
    let determinants = &run.rules.determinants;
    if determinants.is_empty() {
        return Ok(again);
    }
    let needs = Needs::of(determinants);
    let mut measured = Measured::new();
    if needs.ratchets && run.has(TABLE) {
        measured = measured_before(run, &reads.keys().next().cloned().unwrap_or_default()).await?;
    }
    let known = if needs.outages { silence.outages.as_ref().clone() } else { Outages::new() };
    let installed = Installed::of(&run.registry, &known);
    let hash = Hash::default();
    for (month, rows) in reads {
        let Ok(first_of_month) = CivilDay::parse(&format!("{month}-01")) else { continue };
        let mut pass = Pass::new(run, (&needs, &installed), (first_of_month, rows), Some(silence), &hash);
        let together = pass.together().await?;
        let mut points = pass.points(together, &mut measured).await?;
        while let Some(batch) = points.next().await? {
            booked::take(&batch, &mut again.bills).map_err(|e| run.failed(e))?;
        }
    }
    again.hash = Some(hash.finish());
    Ok(again)
}

/// Computes the determinants of every run that there are reads of, and replaces their partitions. Gives the hash of their
/// figures where any are configured.
pub(super) async fn derive(run: &Run<'_>, reads: &Reads<'_>, output: &mut Output) -> Result<Option<String>, JobError> {
    let determinants = &run.rules.determinants;
    if determinants.is_empty() && !run.has(TABLE) {
        return Ok(None);
    }
    let hash = Hash::default();
    let needs = Needs::of(determinants);
    if !needs.slots.is_empty() {
        run.needs("usage_spans", super::Job::Usage, output)?;
    }
    let outages = match needs.outages {
        true => super::usage::outages(run, output).await?,
        false => Outages::new(),
    };
    let mut measured = Measured::new();
    if needs.ratchets && run.reads(TABLE, output).is_some() {
        let first = reads.keys().next().cloned().unwrap_or_default();
        measured = measured_before(run, &first).await?;
    }
    let installed = Installed::of(&run.registry, &outages);
    let spec = tables::billing_determinants();
    let mut replacement = run.lake.replacement(&spec).await?;
    for (month, rows) in reads {
        output.partitions += 1;
        let Ok(first_of_month) = CivilDay::parse(&format!("{month}-01")) else { continue };
        let mut pass = Pass::new(run, (&needs, &installed), (first_of_month, rows), None, &hash);
        let together = pass.together().await?;
        let read_before = pass.rows_read;
        let points = pass.points(together, &mut measured).await?;
        let counted = Arc::new(AtomicU64::new(0));
        replacement.partition(month_partition(month), points.into_stream(counted.clone())).await?;
        output.rows_read += read_before + counted.load(Ordering::Relaxed);
    }
    let done = replacement.commit().await?;
    output.partitions_changed += done.changed;
    *output.tables.entry(spec.name).or_default() += done.rows;
    Ok((!determinants.is_empty()).then(|| hash.finish()))
}

/// Demands of the months before one, as the table has them.
async fn measured_before(run: &Run<'_>, month: &str) -> Result<Measured, JobError> {
    let mut measured = Measured::new();
    let mut rows = run.stream(MEASURED).await?;
    while let Some(batch) = run.next(&mut rows).await? {
        let mut take = || {
            let rows = Rows(&batch);
            let (point, determinant) = (rows.text("usage_point_id")?, rows.text("determinant")?);
            let (of, value) = (rows.text("month")?, rows.amount("value")?);
            for row in 0..rows.len() {
                let known = amount_at(value, row)?.filter(|_| of.at(row) < month);
                if let Some(value) = known {
                    let key = (determinant.at(row).to_owned(), point.at(row).to_owned());
                    measured.entry(key).or_default().insert(of.at(row).to_owned(), value);
                }
            }
            Ok::<_, DataFusionError>(())
        };
        take().map_err(|e| run.failed(e))?;
    }
    Ok(measured)
}

/// The computing of one run.
struct Pass<'a, 'r> {
    run: &'a Run<'r>,
    needs: &'a Needs,
    installed: &'a Installed<'a>,
    /// First day of the run's month.
    month: CivilDay,
    /// Its reads, in the order of usage points.
    rows: &'a [ReadRow<'a>],
    rows_read: u64,
    /// Slots and days are walked anew from readings.
    walked: Option<&'a Arc<Silence>>,
    hash: Hash,
}

/// The window in which the points of a coincident determinant used most together, and the demand in it.
#[derive(Debug, Clone, Copy)]
struct CommonPeak {
    /// First day of the members' cycle.
    first_day: CivilDay,
    window: Option<((Timestamp, Timestamp), Amount)>,
}

impl<'a, 'r> Pass<'a, 'r> {
    fn new(
        run: &'a Run<'r>,
        (needs, installed): (&'a Needs, &'a Installed<'a>),
        (month, rows): (CivilDay, &'a [ReadRow<'a>]),
        walked: Option<&'a Arc<Silence>>,
        hash: &Hash,
    ) -> Self {
        Self { run, needs, installed, month, rows, rows_read: 0, walked, hash: hash.clone() }
    }

    /// The instants of all cycles of the run.
    fn span(&self) -> (Timestamp, Timestamp) {
        let start = self.rows.iter().map(|row| row.read.start).min();
        let end = self.rows.iter().map(|row| row.read.end).max();
        start.zip(end).unwrap_or((Timestamp::EPOCH, Timestamp::EPOCH))
    }

    /// The slots of some channels in some time, in the order of usage points.
    async fn slots(&self, channels: &BTreeSet<Channel>) -> Result<Source, JobError> {
        self.source(SLOTS, channels, self.span()).await
    }

    async fn source(
        &self,
        sql: &str,
        channels: &BTreeSet<Channel>,
        span: (Timestamp, Timestamp),
    ) -> Result<Source, JobError> {
        if channels.is_empty() || self.rows.is_empty() {
            return Ok(Source::none());
        }
        if let Some(silence) = self.walked {
            let level = if sql == SLOTS { Level::Slot } else { Level::Day };
            let points = self.rows.iter().map(|row| row.point.id.clone()).collect();
            return Ok(Source::Walked(Walked::new(silence, level, channels.clone(), span, points)));
        }
        let names: Vec<_> = channels.iter().map(|channel| format!("'{channel}'")).collect();
        let sql = sql.replace("{channels}", &names.join(", "));
        let rows = self.run.stream_between(&sql, span).await?;
        Source::of(self.run, Groups::new(rows, &["usage_point_id"])).await
    }

    /// Where the points of each coincident determinant peak together, by the determinant's place.
    async fn together(&mut self) -> Result<BTreeMap<usize, CommonPeak>, JobError> {
        let determinants = &self.run.rules.determinants;
        let asked: Vec<(usize, &Determinant, &Peak)> = determinants
            .iter()
            .enumerate()
            .filter_map(|(at, determinant)| match &determinant.kind {
                Kind::Coincident(peak) => Some((at, determinant, peak)),
                _ => None,
            })
            .collect();
        let mut found: BTreeMap<usize, (CivilDay, Zone, Together)> = BTreeMap::new();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let channels: BTreeSet<Channel> = asked.iter().map(|(_, _, peak)| peak.channel).collect();
        let mut source = self.slots(&channels).await?;
        for rows in self.rows.chunk_by(|a, b| a.point.id == b.point.id) {
            let Some(first) = rows.first() else { continue };
            let slots = source.take(self.run, first.point.id.as_str()).await?;
            let slots = source::slots(slots.as_ref()).map_err(|e| self.run.failed(e))?;
            let cycle = cycle_of(first);
            for (at, determinant, peak) in &asked {
                let has = rows.iter().any(|row| row.channel == peak.channel);
                if !has || !determinant.scope.has(&first.point.id, &first.point.class) {
                    continue;
                }
                let new = || (first.first_day, first.point.zone.clone(), Together::default());
                let (day, zone, together) = found.entry(*at).or_insert_with(new);
                if *day != first.first_day || *zone != first.point.zone {
                    continue;
                }
                let spans = slots.get(&peak.channel).map(Vec::as_slice).unwrap_or_default();
                let step = self.installed.step(&first.point.id, peak.channel);
                let slots = Slots { channel: peak.channel, spans, step };
                let calendar = peak.within.as_ref().and_then(|w| self.run.rules.calendars.get(&w.calendar));
                together.add(&cycle, &slots, peak, calendar, &self.installed.restored(&first.point.id));
            }
        }
        self.rows_read += source.rows_read();
        let peak_of = |at: &usize| asked.iter().find(|(of, _, _)| of == at);
        let common = found.into_iter().filter_map(|(at, (first_day, _, together))| {
            let (_, determinant, peak) = peak_of(&at)?;
            Some((at, CommonPeak { first_day, window: together.highest(peak, determinant.round) }))
        });
        Ok(common.collect())
    }

    /// The run's rows, point by point.
    async fn points<'m>(
        self,
        together: BTreeMap<usize, CommonPeak>,
        measured: &'m mut Measured,
    ) -> Result<Points<'a, 'r, 'm>, JobError> {
        let slots = self.slots(&self.needs.slots).await?;
        let (_, end) = self.span();
        let days = self.source(DAYS, &self.needs.days, (self.year_before(), end)).await?;
        let mut named = HashMap::new();
        for row in self.rows.iter().filter(|row| self.needs.named.contains(&row.point.id)) {
            named.insert((row.point.id.clone(), row.channel), row);
        }
        let ids = self.run.registry.usage_points.keys().filter(|id| self.run.looks_at(id));
        let ids = ids.cloned().collect::<Vec<_>>().into_iter();
        Ok(Points { pass: self, ids, at: 0, slots, days, named, together, measured })
    }

    /// The first instant of the earliest year of tiers that a cycle of the run lies in, and a day more.
    fn year_before(&self) -> Timestamp {
        let starts = self.run.rules.determinants.iter().filter_map(|determinant| match determinant.kind {
            Kind::Tier { period: TierPeriod::Year(month, day), .. } => Some((month, day)),
            _ => None,
        });
        let first = self.rows.iter().map(|row| row.first_day).min().unwrap_or(self.month);
        let day = starts.map(|start| compute::year_start(first, start)).min().unwrap_or(first);
        Zone::utc().start_of_day(day.plus_days(-1))
    }
}

fn cycle_of<'r>(row: &ReadRow<'r>) -> Cycle<'r> {
    Cycle { point: &row.point.id, zone: &row.point.zone, start_day: row.first_day, end_day: row.end_day }
}

/// Goes through the usage points of a run.
struct Points<'a, 'r, 'm> {
    pass: Pass<'a, 'r>,
    ids: std::vec::IntoIter<UsagePointId>,
    /// The next read.
    at: usize,
    slots: Source,
    days: Source,
    /// Reads of points that formulas name.
    named: HashMap<(UsagePointId, Channel), &'a ReadRow<'a>>,
    together: BTreeMap<usize, CommonPeak>,
    measured: &'m mut Measured,
}

impl Points<'_, '_, '_> {
    async fn next(&mut self) -> Result<Option<RecordBatch>, JobError> {
        let run = self.pass.run;
        for id in self.ids.by_ref() {
            let Some(usage_point) = run.registry.usage_points.get(&id) else { continue };
            let rest = self.pass.rows.get(self.at..).unwrap_or_default();
            let count = rest.iter().take_while(|row| row.point.id == id).count();
            let reads = rest.get(..count).unwrap_or_default();
            self.at += count;
            let wanted = run.rules.determinants.iter().any(|d| d.scope.has(&id, &usage_point.class));
            if !wanted {
                continue;
            }
            let (slots, days) = (self.slots.take(run, id.as_str()).await?, self.days.take(run, id.as_str()).await?);
            let cycle = match reads.first() {
                Some(row) => Some((row.first_day, row.end_day)),
                None => run.rules.cycles.ending_in(self.pass.month, usage_point).map(|c| (c.first_day, c.end_day)),
            };
            let Some((first_day, end_day)) = cycle else { continue };
            let point = Point {
                usage_point,
                cycle: Cycle { point: &usage_point.id, zone: &usage_point.zone, start_day: first_day, end_day },
                reads,
                slots: source::slots(slots.as_ref()).map_err(|e| run.failed(e))?,
                days: source::days(days.as_ref()).map_err(|e| run.failed(e))?,
                installed: self.pass.installed,
            };
            let month = period_key(self.pass.month);
            let computing = Computing {
                rules: &run.rules,
                named: &self.named,
                together: &self.together,
                measured: &mut *self.measured,
                month: &month,
            };
            let figures = computing.figures(&point);
            if figures.is_empty() {
                continue;
            }
            let (start, end) = point.cycle.span();
            let mut rows: Vec<FigureRow<'_>> = figures
                .into_iter()
                .map(|(determinant, figure)| FigureRow {
                    point: id.as_str(),
                    determinant,
                    first_day,
                    end_day,
                    start,
                    end,
                    figure,
                })
                .collect();
            rows.sort_by(|a, b| (&a.determinant.id, &a.figure.part).cmp(&(&b.determinant.id, &b.figure.part)));
            rows.iter().for_each(|row| self.pass.hash.take(row));
            return tables::write::billing_determinants(&rows).map(Some).map_err(|e| run.failed(e.into()));
        }
        Ok(None)
    }

    /// All batches; at their end it says how many rows were read.
    fn into_stream(self, counted: Arc<AtomicU64>) -> impl Stream<Item = Result<RecordBatch, JobError>> {
        futures::stream::try_unfold((self, counted), |(mut points, counted)| async move {
            let next = points.next().await?;
            let read = points.slots.rows_read() + points.days.rows_read();
            counted.store(read, Ordering::Relaxed);
            Ok(next.map(|batch| (batch, (points, counted))))
        })
    }
}
