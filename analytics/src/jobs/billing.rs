//! The job `billing`: the days of `usage_days` and findings to one read a usage point, channel and cycle.
//!
//! A run is a civil month: all cycles whose last day lies in it. The asked days are widened to whole months, since a run
//! is replaced whole; a cycle that is not over is held, because its days are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use meterlake_model::registry::{Installation, UsagePoint};
use meterlake_model::{Amount, Channel, ChannelKind, CivilDay, Quality, Timestamp};
use meterlake_store::Lake;
use sha2::{Digest, Sha256};

use super::groups::Groups;
use super::profiles::{civil_months, period_key, span_of};
use super::run::{Output, Run, WhatIf, month_partition};
use super::{Job, JobError, JobOptions};
use crate::alerts::hex;
use crate::billing::{BillingRead, ReadState};
use crate::book::determinants::ByBill;
use crate::book::{self, Book, Runs};
use crate::checks::apply_policy;
use crate::ledger::{Bill, BillInput, Context, Item, ItemKey, bill};
use crate::runs::Cycle;
use crate::tables;
use crate::tables::read::{Rows, amount_at, instant_at};
use crate::usage::{Boundary, Finding, Level, Parts, Rule, Severity, Span};

pub(super) mod again;
mod decoded;
mod post;

use decoded::Decoded;

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
    pub(crate) bill: Bill,
    pub(crate) context: Context,
}

impl ReadRow<'_> {
    pub(crate) fn cycle(&self) -> Cycle {
        Cycle { first_day: self.first_day, end_day: self.end_day }
    }

    /// What it is made of.
    pub(crate) fn items(&self) -> Vec<Item> {
        self.bill.items(self.point.id.as_str(), self.channel, self.cycle())
    }
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

/// Derives the runs of the civil months that the asked days touch; then posts to the ledger what changed of issued bills.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    run.needs("usage_days", Job::Usage, &mut output)?;
    run.needs("findings", Job::Usage, &mut output)?;
    let book = book(run, &mut output).await?;
    let rows = reads(run, &book, DAYS, &mut output).await?;
    write(run, &mut output, &rows).await?;
    let figures = super::determinants::derive(run, &rows, &mut output).await?;
    output.output_hash = Some(whole_hash(&rows, figures));
    if let Some(figures) = output.tables.get(tables::billing_determinants().name) {
        output.summary.push_str(&format!("; {figures} figures of determinants"));
    }
    if run.is_fresh() {
        let posted = post::corrections(run, &rows, &output).await?;
        if posted > 0 {
            output.tables.insert("billing_corrections", posted);
            output.summary.push_str(&format!("; {posted} corrections of issued bills"));
        }
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
    run.needs("usage_days", Job::Usage, &mut output)?;
    let book = book(&run, &mut output).await?;
    let rows = reads(&run, &book, DAYS_OF_SPANS, &mut output).await?;
    let batches = rows.values().map(|rows| tables::write::billing_reads(rows));
    batches.collect::<Result<_, _>>().map_err(|e| run.failed(e.into()))
}

/// What a run of the job `billing` makes of the readings that it is pinned to, computed anew from them: nothing that was
/// derived before is read, and nothing is written.
#[derive(Debug, Clone)]
pub struct BillsAgain {
    /// Hash of all bills and of the figures of configured determinants, as `job_runs` has it of the run.
    pub hash: String,
    /// The rows of `billing_reads`.
    pub reads: Vec<RecordBatch>,
    /// The items of all bills that have a use, those of configured determinants among them, in order.
    pub items: Vec<Item>,
    /// What each item goes by beside the readings.
    pub contexts: BTreeMap<ItemKey, Context>,
}

impl BillsAgain {
    /// Whether it is what `job_runs` took down of a run. Of a run that is older than figures are hashed the bills count.
    pub fn is(&self, output_hash: &str) -> bool {
        let mut words = self.hash.split(' ');
        output_hash.split(' ').all(|word| words.next() == Some(word))
    }
}

/// Computes the bills of a pinned run again, from readings. A ratchet alone goes by what is in `billing_determinants` of
/// earlier cycles.
///
/// # Errors
/// As [`super::run_job`].
pub async fn bills_again(lake: &Lake, options: &JobOptions) -> Result<BillsAgain, JobError> {
    bills_if(lake, options, WhatIf::default()).await
}

/// As [`bills_again`], as if the tables held more readings.
///
/// # Errors
/// As [`super::run_job`].
pub async fn bills_if(lake: &Lake, options: &JobOptions, what_if: WhatIf) -> Result<BillsAgain, JobError> {
    let run = Run::begin_if(lake, Job::Billing, options, what_if).await?;
    let mut output = Output::default();
    let silence = Arc::new(again::Silence::read(&run, &mut output).await?);
    let book = book(&run, &mut output).await?;
    let months = civil_months(options.from, options.to);
    let mut rows: Reads<'_> = months.iter().map(|m| (period_key(*m), Vec::new())).collect();
    if let (Some(first), Some(last)) = (months.first(), months.last()) {
        let back = run.rules.cycles.longest_months() + LOOK_MONTHS;
        let range = span_of(&run, first.plus_months(-back), last.plus_months(LOOK_MONTHS));
        let installed = installed(&run);
        let known = Known::new(&run, &book, range).await?;
        let mut walked = again::walk(&run, &silence, range, &installed, &mut output).await?;
        for (id, point) in run.registry.usage_points.iter().filter(|(id, _)| run.looks_at(id)) {
            let Some(installations) = installed.get(id.as_str()) else { continue };
            let of = walked.remove(id.as_str()).unwrap_or_default();
            add_point(&run, &known, (point, installations), of, &months, &mut rows);
        }
    }
    let batches = rows.values().map(|rows| tables::write::billing_reads(rows));
    let reads = batches.collect::<Result<_, _>>().map_err(|e| run.failed(ArrowError::into(e)))?;
    let figures = super::determinants::again(&run, &rows, &silence).await?;
    let (mut items, mut contexts) = (Vec::new(), BTreeMap::new());
    for (row, item) in with_figures(&rows, figures.bills) {
        contexts.insert(item.key.clone(), row.context.clone());
        items.push(item);
    }
    items.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(BillsAgain { hash: whole_hash(&rows, figures.hash), reads, items, contexts })
}

/// The items of all bills, each with the row that it goes by. Determinants go with the bill's first channel.
fn with_figures<'r, 'a>(
    rows: &'r Reads<'a>,
    mut figures: ByBill,
) -> impl Iterator<Item = (&'r ReadRow<'a>, Item)> + use<'r, 'a> {
    rows.values().flatten().flat_map(move |row| {
        let more = figures.remove(&(row.point.id.as_str().to_owned(), row.cycle())).unwrap_or_default();
        let more = more.items.into_iter().map(|item| Item { basis: row.bill.basis.clone(), ..item });
        row.items().into_iter().chain(more).map(move |item| (row, item)).collect::<Vec<_>>()
    })
}

/// Hash of all bills, and behind a space that of their figures where determinants are configured.
fn whole_hash(rows: &Reads<'_>, figures: Option<String>) -> String {
    let bills = hash_of(rows);
    figures.map_or_else(|| bills.clone(), |figures| format!("{bills} {figures}"))
}

/// Gaps are followed so many months before and after the cycles when bills are computed from readings.
const LOOK_MONTHS: i32 = 14;

/// Hash of all bills, whatever form their rows have.
fn hash_of(rows: &Reads<'_>) -> String {
    let mut hash = Sha256::new();
    for row in rows.values().flatten() {
        // The derived text names every field with its value, in a fixed order.
        hash.update(format!("{} {} {} {:?}\n", row.run, row.point.id, row.channel, row.bill));
    }
    hex(&hash.finalize())
}

/// What people did, up to the event that the run is pinned to.
async fn book(run: &Run<'_>, output: &mut Output) -> Result<Book, JobError> {
    let longest = run.rules.cycles.longest_months();
    let first = run.options.from.first_of_month().plus_months(-longest * (run.rules.gates.estimated_cycles + 1));
    let runs = Runs::From(period_key(first));
    let read = book::read(run.session(), |table| run.has(table), &runs, run.options.events).await;
    let book = read.map_err(|e| run.failed(e))?;
    output.events = Some(book.last_event);
    Ok(book)
}

/// What all bills of a run go by beside their readings.
struct Known<'b> {
    book: &'b Book,
    decoded: Decoded,
    rules: String,
    /// Tariff calendars and determinants, where there are any.
    tariffs: String,
    determinants: String,
}

impl<'b> Known<'b> {
    async fn new(run: &Run<'_>, book: &'b Book, range: (Timestamp, Timestamp)) -> Result<Self, JobError> {
        let decoded = Decoded::read(run, range).await?;
        let rules = format!("{:?}{:?}{:?}", run.rules.usage, run.rules.billing, run.rules.gates);
        let (mut tariffs, mut determinants) = (String::new(), String::new());
        if !run.rules.determinants.is_empty() {
            tariffs = hex(&Sha256::digest(format!("{:?}", run.rules.calendars))[..8]);
            determinants = hex(&Sha256::digest(format!("{:?}", run.rules.determinants))[..8]);
        }
        Ok(Self { book, decoded, rules, tariffs, determinants })
    }
}

pub(super) type Reads<'a> = BTreeMap<String, Vec<ReadRow<'a>>>;

/// The installations of every usage point, in order of time.
fn installed<'a>(run: &'a Run<'_>) -> BTreeMap<&'a str, Vec<&'a Installation>> {
    let mut installed: BTreeMap<&str, Vec<&Installation>> = BTreeMap::new();
    for installation in run.registry.installations.iter().filter(|i| !i.is_check) {
        installed.entry(installation.usage_point_id.as_str()).or_default().push(installation);
    }
    for installations in installed.values_mut() {
        installations.sort_by_key(|i| i.installed_at);
    }
    installed
}

/// Day spans and findings of a usage point, by channel.
#[derive(Default)]
struct Derived {
    spans: BTreeMap<String, Vec<Span>>,
    findings: BTreeMap<String, Vec<Finding>>,
}

/// The reads of the civil months that the asked days touch, by run, out of a query for days.
async fn reads<'a>(run: &'a Run<'_>, book: &Book, days: &str, output: &mut Output) -> Result<Reads<'a>, JobError> {
    let months = civil_months(run.options.from, run.options.to);
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(Reads::new()) };
    // A cycle whose last day is in the first month began a cycle's months before it; an average and a gap reach further.
    let back = run.rules.cycles.longest_months() + AVERAGE_MONTHS;
    let range = span_of(run, first.plus_months(-back), last.plus_months(2));
    let installed = installed(run);
    let known = Known::new(run, book, range).await?;
    let (mut findings, range) = findings(run, range, &installed, output).await?;
    let mut groups = Groups::new(run.stream_between(days, range).await?, &["usage_point_id"]);
    let mut next = groups.next(run).await?;
    let mut rows: Reads<'a> = months.iter().map(|m| (period_key(*m), Vec::new())).collect();
    for (id, point) in &run.registry.usage_points {
        // Groups come in the order of the registry; those of points that it no longer knows are passed over.
        while next.as_ref().is_some_and(|g| g.key.first().is_some_and(|k| k.as_str() < id.as_str())) {
            next = groups.next(run).await?;
        }
        let Some(installations) = installed.get(id.as_str()) else { continue };
        let spans = match next.take_if(|g| g.key.first().is_some_and(|k| k == id.as_str())) {
            Some(group) => {
                next = groups.next(run).await?;
                spans(&group.batches, installations).map_err(|e| run.failed(e))?
            }
            None => BTreeMap::new(),
        };
        let derived = Derived { spans, findings: findings.remove(id.as_str()).unwrap_or_default() };
        add_point(run, &known, (point, installations), derived, &months, &mut rows);
    }
    output.rows_read += groups.rows_read;
    Ok(rows)
}

/// The average of a projection lies in so many months before a cycle.
const AVERAGE_MONTHS: i32 = 2;

/// Adds the bills of one usage point.
fn add_point<'a>(
    run: &'a Run<'_>,
    known: &Known<'_>,
    (point, installations): (&'a UsagePoint, &[&'a Installation]),
    mut derived: Derived,
    months: &[CivilDay],
    rows: &mut Reads<'a>,
) {
    let (id, book) = (point.id.as_str(), known.book);
    let channels: BTreeSet<Channel> = installations.iter().flat_map(|i| i.channels.iter().map(|c| c.channel)).collect();
    for channel in channels.into_iter().filter(|c| c.kind() != ChannelKind::Physical) {
        let with: Vec<&Installation> = with_channel(installations, channel).collect();
        let spans = derived.spans.remove(channel.name()).unwrap_or_default();
        let mut findings = derived.findings.remove(channel.name()).unwrap_or_default();
        apply_policy(&run.rules.checks, point, channel.name(), &mut findings);
        let pins = book.pins(id, channel, &point.zone);
        for month in months {
            let Some(cycle) = run.rules.cycles.ending_in(*month, point) else { continue };
            if !overlaps(&with, point, cycle.first_day, cycle.end_day) {
                continue;
            }
            let edits = book.edits.standing(id, channel, cycle.first_day, cycle.end_day);
            let input = BillInput {
                zone: &point.zone,
                channel,
                cycle,
                today: run.options.today.unwrap_or(cycle.end_day),
                installations: &with,
                spans: around(&spans, &findings, point, cycle),
                findings: &findings,
                pins: &pins,
                edits: &edits,
                average_days: run.rules.usage.average_days,
                customer_since: point.customer_since,
                estimated_before: book.estimated_before(id, channel, cycle.first_day),
            };
            let bill = bill(&input, &run.rules.billing, &run.rules.gates);
            let context = context(run, &input, &with, known);
            let key = period_key(*month);
            let Cycle { first_day, end_day } = cycle;
            let read = bill.read.clone();
            let touching = findings.iter().filter(|f| f.touches(read.start, read.end)).count();
            let run = key.clone();
            let row = ReadRow { run, point, channel, first_day, end_day, read, findings: touching, bill, context };
            rows.entry(key).or_default().push(row);
        }
    }
}

/// The spans that a cycle's bill may look at, whatever else was asked for: from so long before it that an average is
/// there, to so long after it that a gap over its end is closed.
fn around<'s>(spans: &'s [Span], findings: &[Finding], point: &UsagePoint, cycle: Cycle) -> &'s [Span] {
    let mut from = point.zone.start_of_day(cycle.first_day.plus_months(-AVERAGE_MONTHS));
    let mut to = point.zone.start_of_day(cycle.end_day.plus_days(1));
    let (early, late) = (from, to);
    for gap in findings.iter().filter(|f| f.rule == Rule::V09 && f.start < late && early < f.end) {
        from = from.min(gap.start.plus_seconds(-86_400));
        to = to.max(gap.end.plus_seconds(86_400));
    }
    let begin = spans.partition_point(|s| s.start < from);
    let end = spans.partition_point(|s| s.start < to);
    &spans[begin.min(end)..end]
}

/// What else a bill goes by.
fn context(run: &Run<'_>, input: &BillInput<'_>, with: &[&Installation], known: &Known<'_>) -> Context {
    let period = (input.zone.start_of_day(input.cycle.first_day), input.zone.start_of_day(input.cycle.end_day));
    let of = Context::of_installations(with, input.channel, period);
    let edits = input.edits.iter().map(|e| format!("{}={}", e.id, e.value)).collect::<Vec<_>>().join(",");
    let rules = &known.rules;
    let calendar = format!("{} {:?}", input.zone.name(), run.rules.holidays);
    Context {
        edits,
        rules: hex(&Sha256::digest(format!("{}{rules}", of.rules))[..8]),
        calendar: hex(&Sha256::digest(calendar)[..8]),
        decoded: known.decoded.of(with, period),
        tariffs: known.tariffs.clone(),
        determinants: known.determinants.clone(),
        ..of
    }
}

/// The installations that have a channel: what its spans name by index.
fn with_channel<'a>(installations: &[&'a Installation], channel: Channel) -> impl Iterator<Item = &'a Installation> {
    installations.iter().copied().filter(move |i| i.channels.iter().any(|c| c.channel == channel))
}

/// Whether any meter may have hung there in the cycle.
fn overlaps(installations: &[&Installation], point: &UsagePoint, first: CivilDay, end: CivilDay) -> bool {
    let (from, to) = (point.zone.start_of_day(first), point.zone.start_of_day(end));
    installations.iter().any(|i| i.installed_at.is_none_or(|t| t < to) && i.removed_at.is_none_or(|t| t > from))
}

type FindingsOf = BTreeMap<String, BTreeMap<String, Vec<Finding>>>;

/// Findings by usage point and channel, and the range widened to the gaps that reach over its ends.
async fn findings(
    run: &Run<'_>,
    range: (Timestamp, Timestamp),
    installed: &BTreeMap<&str, Vec<&Installation>>,
    output: &mut Output,
) -> Result<(FindingsOf, (Timestamp, Timestamp)), JobError> {
    let mut found = FindingsOf::new();
    let mut wide = range;
    let mut groups = Groups::new(run.stream_between(FINDINGS, range).await?, &["usage_point_id", "channel"]);
    while let Some(group) = groups.next(run).await? {
        let [point, channel] = group.key.as_slice() else { continue };
        let (Some(installations), Some(channel)) = (installed.get(point.as_str()), Channel::by_name(channel)) else {
            continue;
        };
        let with: Vec<&Installation> = with_channel(installations, channel).collect();
        let rows = findings_of(&group.batches, &with).map_err(|e| run.failed(e))?;
        for gap in rows.iter().filter(|f| f.rule == Rule::V09) {
            wide.0 = wide.0.min(gap.start.plus_seconds(-86_400));
            wide.1 = wide.1.max(gap.end.plus_seconds(86_400));
        }
        found.entry(point.clone()).or_default().insert(channel.name().to_owned(), rows);
    }
    output.rows_read += groups.rows_read;
    Ok((found, wide))
}

fn findings_of(batches: &[RecordBatch], with: &[&Installation]) -> Result<Vec<Finding>, DataFusionError> {
    let mut found = Vec::new();
    for batch in batches {
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
fn spans(
    batches: &[RecordBatch],
    installations: &[&Installation],
) -> Result<BTreeMap<String, Vec<Span>>, DataFusionError> {
    let mut found: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut with: Vec<&Installation> = Vec::new();
    let mut of = String::new();
    for batch in batches {
        let rows = Rows(batch);
        let (channel, meter_id) = (rows.text("channel")?, rows.text("meter_id")?);
        let (start, end) = (rows.time("start")?, rows.time("end")?);
        let (value, estimated) = (rows.amount("value")?, rows.amount("estimated")?);
        let (quality, method) = (rows.text("quality")?, rows.text("method")?);
        let (first, first_quality) = (rows.amount("start_register")?, rows.text("start_register_quality")?);
        let (last, last_quality) = (rows.amount("end_register")?, rows.text("end_register_quality")?);
        let (loose_start, loose_end) = (rows.amount("estimated_start")?, rows.amount("estimated_end")?);
        for row in 0..rows.len() {
            if channel.at(row) != of {
                channel.at(row).clone_into(&mut of);
                with = Channel::by_name(&of).map(|c| with_channel(installations, c).collect()).unwrap_or_default();
            }
            let boundary = |register: Option<Amount>, quality: &str| {
                Some(Boundary { register: register?, quality: Quality::parse(quality)? })
            };
            let start = instant_at(start, row)?;
            let loose = amount_at(loose_start, row)?.zip(amount_at(loose_end, row)?);
            let loose = loose.map(|(start, end)| [start.micros(), end.micros()]);
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
                parts: Some(Box::new(Parts { loose, ..Parts::default() })),
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
