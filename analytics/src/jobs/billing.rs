//! The job `billing`: the days of `usage_days` and findings to one read a usage point, channel and cycle.
//!
//! A run is a civil month: all cycles whose last day lies in it. The asked days are widened to whole months, since a run
//! is replaced whole; a cycle that is not over is held, because its days are missing.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use meterlake_model::registry::{Installation, UsagePoint};
use meterlake_model::{Amount, Channel, ChannelKind, CivilDay, Quality, Timestamp};
use meterlake_store::Lake;

use super::groups::{Group, Groups};
use super::profiles::{civil_months, period_key, span_of};
use super::run::{Output, Run, month_partition};
use super::{Job, JobError, JobOptions};
use crate::billing::{BillingRead, CycleInput, ReadState, read_cycle};
use crate::tables;
use crate::tables::read::{Rows, amount_at, instant_at};
use crate::usage::{Boundary, Finding, Level, Rule, Severity, Span};

const DAYS: &str = include_str!("../../sql/days.sql");
const DAYS_OF_SPANS: &str = include_str!("../../sql/days_of_spans.sql");
const FINDINGS: &str = include_str!("../../sql/findings.sql");

/// A row of `billing_reads`.
pub(crate) struct ReadRow<'a> {
    /// The run: its month.
    pub(crate) run: String,
    pub(crate) point: &'a UsagePoint,
    pub(crate) channel: Channel,
    pub(crate) first_day: CivilDay,
    /// The day after the last.
    pub(crate) end_day: CivilDay,
    pub(crate) read: BillingRead,
    /// How many findings touch the cycle.
    pub(crate) findings: usize,
}

/// A row of `billing_runs`.
#[derive(Default)]
pub(crate) struct RunTotals {
    pub(crate) reads: i64,
    pub(crate) ready: i64,
    pub(crate) held: i64,
    pub(crate) use_amount: Amount,
    pub(crate) estimated: Amount,
}

/// Derives the runs of the civil months that the asked days touch.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    run.needs("usage_days", Job::Usage, &mut output)?;
    run.needs("findings", Job::Usage, &mut output)?;
    let rows = reads(run, DAYS, &mut output).await?;
    write(run, &mut output, &rows).await?;
    super::determinants::derive(run, &rows, &mut output).await?;
    if let Some(figures) = output.tables.get(tables::billing_determinants().name) {
        output.summary.push_str(&format!("; {figures} figures of determinants"));
    }
    Ok(output)
}

/// The rows of `billing_reads` as they follow from the spans themselves instead of from their days in `usage_days`, by run:
/// what must be equal, and a check that it is. Nothing is written.
///
/// # Errors
/// As [`super::run_job`].
pub async fn billing_reads_of_spans(lake: &Lake, options: &JobOptions) -> Result<Vec<RecordBatch>, JobError> {
    let run = Run::begin(lake, Job::Billing, options).await?;
    let mut output = Output::default();
    run.needs("usage_spans", Job::Usage, &mut output)?;
    let rows = reads(&run, DAYS_OF_SPANS, &mut output).await?;
    let batches = rows.values().map(|rows| tables::write::billing_reads(rows));
    batches.collect::<Result<_, _>>().map_err(|e| run.failed(e.into()))
}

pub(super) type Reads<'a> = BTreeMap<String, Vec<ReadRow<'a>>>;

/// The reads of the civil months that the asked days touch, by run, out of a query for days.
async fn reads<'a>(run: &'a Run<'_>, days: &str, output: &mut Output) -> Result<Reads<'a>, JobError> {
    let months = civil_months(run.options.from, run.options.to);
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(Reads::new()) };
    // A cycle whose last day is in the first month began at most a month before it.
    let range = span_of(run, first.plus_months(-1), last.plus_months(1));
    let mut installed: BTreeMap<&str, Vec<&Installation>> = BTreeMap::new();
    for installation in &run.registry.installations {
        installed.entry(installation.usage_point_id.as_str()).or_default().push(installation);
    }
    for installations in installed.values_mut() {
        installations.sort_by_key(|i| i.installed_at);
    }
    let mut findings = findings(run, range, &installed, output).await?;
    let mut groups = Groups::new(run.stream_between(days, range).await?, &["usage_point_id"]);
    let mut next = groups.next(run).await?;
    let mut rows: Reads<'a> = months.iter().map(|m| (period_key(*m), Vec::new())).collect();
    for (id, point) in &run.registry.usage_points {
        // Groups come in the order of the registry; those of points that it no longer knows are passed over.
        while next.as_ref().is_some_and(|g| g.key.first().is_some_and(|k| k.as_str() < id.as_str())) {
            next = groups.next(run).await?;
        }
        let Some(installations) = installed.get(id.as_str()) else { continue };
        let mut spans = match next.take_if(|g| g.key.first().is_some_and(|k| k == id.as_str())) {
            Some(group) => {
                next = groups.next(run).await?;
                spans(&group, installations).map_err(|e| run.failed(e))?
            }
            None => BTreeMap::new(),
        };
        let channels: BTreeSet<Channel> =
            installations.iter().flat_map(|i| i.channels.iter().map(|c| c.channel)).collect();
        for channel in channels.into_iter().filter(|c| c.kind() != ChannelKind::Physical) {
            let with: Vec<&Installation> = with_channel(installations, channel).collect();
            let spans = spans.remove(channel.name()).unwrap_or_default();
            let findings = findings.remove(&(id.as_str().to_owned(), channel)).unwrap_or_default();
            for month in &months {
                let (first_day, end_day) = cycle_ending_in(*month, point.billing_day);
                let cycle = CycleInput {
                    zone: &point.zone,
                    channel,
                    start_day: first_day,
                    end_day,
                    installations: &with,
                    spans: &spans,
                    findings: &findings,
                };
                if !overlaps(&with, point, first_day, end_day) {
                    continue;
                }
                let key = period_key(*month);
                let read = read_cycle(&cycle, &run.rules.billing);
                let touching = findings.iter().filter(|f| f.start < read.end && f.end >= read.start).count();
                let row = ReadRow { run: key.clone(), point, channel, first_day, end_day, read, findings: touching };
                rows.entry(key).or_default().push(row);
            }
        }
    }
    output.rows_read += groups.rows_read;
    Ok(rows)
}

/// The installations that have a channel: what its spans name by index.
fn with_channel<'a>(installations: &[&'a Installation], channel: Channel) -> impl Iterator<Item = &'a Installation> {
    installations.iter().copied().filter(move |i| i.channels.iter().any(|c| c.channel == channel))
}

/// The cycle whose last day is in the month: from the billing day up to the next one.
pub(super) fn cycle_ending_in(month: CivilDay, billing_day: u8) -> (CivilDay, CivilDay) {
    let day = i32::from(billing_day.clamp(1, 28));
    // A cycle from the first of the month on ends with it; any other ends in the month after it began.
    let end = if day == 1 { month.plus_months(1) } else { month.plus_days(day - 1) };
    (end.plus_months(-1), end)
}

/// Whether any meter may have hung there in the cycle.
fn overlaps(installations: &[&Installation], point: &UsagePoint, first: CivilDay, end: CivilDay) -> bool {
    let (from, to) = (point.zone.start_of_day(first), point.zone.start_of_day(end));
    installations.iter().any(|i| i.installed_at.is_none_or(|t| t < to) && i.removed_at.is_none_or(|t| t > from))
}

type FindingsOf = BTreeMap<(String, Channel), Vec<Finding>>;

async fn findings(
    run: &Run<'_>,
    range: (Timestamp, Timestamp),
    installed: &BTreeMap<&str, Vec<&Installation>>,
    output: &mut Output,
) -> Result<FindingsOf, JobError> {
    let mut found = FindingsOf::new();
    let mut groups = Groups::new(run.stream_between(FINDINGS, range).await?, &["usage_point_id", "channel"]);
    while let Some(group) = groups.next(run).await? {
        let [point, channel] = group.key.as_slice() else { continue };
        let (Some(installations), Some(channel)) = (installed.get(point.as_str()), Channel::by_name(channel)) else {
            continue;
        };
        let with: Vec<&Installation> = with_channel(installations, channel).collect();
        let rows = findings_of(&group, &with).map_err(|e| run.failed(e))?;
        found.insert((point.clone(), channel), rows);
    }
    output.rows_read += groups.rows_read;
    Ok(found)
}

fn findings_of(group: &Group, with: &[&Installation]) -> Result<Vec<Finding>, DataFusionError> {
    let mut found = Vec::new();
    for batch in &group.batches {
        let rows = Rows(batch);
        let (start, end) = (rows.time("start")?, rows.time("end")?);
        let (rule, severity) = (rows.text("rule")?, rows.text("severity")?);
        let (measured, limit) = (rows.amount("measured")?, rows.amount("limit")?);
        let (meter_id, evidence) = (rows.text("meter_id")?, rows.text("evidence")?);
        for row in 0..rows.len() {
            let (Some(rule), Some(severity)) = (Rule::parse(rule.at(row)), Severity::parse(severity.at(row))) else {
                continue;
            };
            let start = instant_at(start, row)?;
            found.push(Finding {
                rule,
                severity,
                start,
                end: instant_at(end, row)?,
                measured: amount_at(measured, row)?,
                limit: amount_at(limit, row)?,
                installation: index_of(with, meter_id.at(row), start),
                evidence: evidence.at(row).to_owned(),
            });
        }
    }
    Ok(found)
}

/// Day spans by channel.
fn spans(group: &Group, installations: &[&Installation]) -> Result<BTreeMap<String, Vec<Span>>, DataFusionError> {
    let mut found: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut with: Vec<&Installation> = Vec::new();
    let mut of = String::new();
    for batch in &group.batches {
        let rows = Rows(batch);
        let (channel, meter_id) = (rows.text("channel")?, rows.text("meter_id")?);
        let (start, end) = (rows.time("start")?, rows.time("end")?);
        let (value, estimated) = (rows.amount("value")?, rows.amount("estimated")?);
        let (quality, method) = (rows.text("quality")?, rows.text("method")?);
        let (first, first_quality) = (rows.amount("start_register")?, rows.text("start_register_quality")?);
        let (last, last_quality) = (rows.amount("end_register")?, rows.text("end_register_quality")?);
        for row in 0..rows.len() {
            if channel.at(row) != of {
                channel.at(row).clone_into(&mut of);
                with = Channel::by_name(&of).map(|c| with_channel(installations, c).collect()).unwrap_or_default();
            }
            let boundary = |register: Option<Amount>, quality: &str| {
                Some(Boundary { register: register?, quality: Quality::parse(quality)? })
            };
            let start = instant_at(start, row)?;
            let span = Span {
                level: Level::Day,
                start,
                end: instant_at(end, row)?,
                value: amount_at(value, row)?,
                quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
                method: method.get(row).and_then(meterlake_model::Method::parse),
                estimated: amount_at(estimated, row)?.unwrap_or_default(),
                start_register: boundary(amount_at(first, row)?, first_quality.at(row)),
                end_register: boundary(amount_at(last, row)?, last_quality.at(row)),
                installation: index_of(&with, meter_id.at(row), start),
                evidence: None,
                parts: None,
            };
            match found.get_mut(&of) {
                Some(list) => list.push(span),
                None => {
                    found.insert(of.clone(), vec![span]);
                }
            }
        }
    }
    Ok(found)
}

/// Which installation a row belongs to: the one of its meter at that time.
fn index_of(with: &[&Installation], meter: &str, at: Timestamp) -> usize {
    let same = |i: &&Installation| i.meter_id.as_str() == meter;
    let there = with.iter().position(|i| same(i) && i.covers(at));
    there.or_else(|| with.iter().position(same)).unwrap_or(0)
}

async fn write(
    run: &Run<'_>,
    output: &mut Output,
    by_run: &BTreeMap<String, Vec<ReadRow<'_>>>,
) -> Result<(), JobError> {
    let (mut reads, mut runs) = (Vec::new(), Vec::new());
    let (mut ready, mut held) = (0, 0);
    for (month, rows) in by_run {
        let mut totals: BTreeMap<Channel, RunTotals> = BTreeMap::new();
        for row in rows {
            let total = totals.entry(row.channel).or_default();
            total.reads += 1;
            match row.read.state {
                ReadState::Ready => total.ready += 1,
                ReadState::Held => total.held += 1,
            }
            total.use_amount = add(run, total.use_amount, row.read.use_amount.unwrap_or_default())?;
            total.estimated = add(run, total.estimated, row.read.estimated)?;
        }
        ready += totals.values().map(|t| t.ready).sum::<i64>();
        held += totals.values().map(|t| t.held).sum::<i64>();
        let batch = tables::write::billing_reads(rows).map_err(|e| run.failed(e.into()))?;
        reads.push((month_partition(month), vec![batch]));
        let batch = tables::write::billing_runs(month, &totals).map_err(|e| run.failed(e.into()))?;
        runs.push((month_partition(month), vec![batch]));
    }
    run.replace(output, &tables::billing_reads(), reads).await?;
    run.replace(output, &tables::billing_runs(), runs).await?;
    output.summary = format!(
        "{} billing reads, {ready} ready and {held} held; {} of {} partitions changed",
        ready + held,
        output.partitions_changed,
        output.partitions
    );
    Ok(())
}

fn add(run: &Run<'_>, total: Amount, more: Amount) -> Result<Amount, JobError> {
    total
        .checked_add(more)
        .ok_or_else(|| run.failed(tables::read::other("a run's total has more than 18 digits".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_every_cycle_whose_last_day_lies_in_its_month() {
        let day = |text| CivilDay::parse(text).unwrap();
        for (month, billing_day, first, end) in [
            ("2026-10-01", 1, "2026-10-01", "2026-11-01"),
            ("2026-10-01", 15, "2026-09-15", "2026-10-15"),
            ("2026-10-01", 2, "2026-09-02", "2026-10-02"),
            ("2026-03-01", 28, "2026-02-28", "2026-03-28"),
        ] {
            assert_eq!(cycle_ending_in(day(month), billing_day), (day(first), day(end)), "{month} {billing_day}");
        }
    }
}
