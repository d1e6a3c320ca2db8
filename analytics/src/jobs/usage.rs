//! The job `usage`: readings to `usage_spans` and `findings`.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::{DataFrame, Expr, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use meterlake_model::{Commodity, MeterId, Timestamp, UsagePointId, Zone};
use meterlake_store::Lake;
use meterlake_store::schema::readings_name;

use super::derive::{DeriveInput, Outages, SHORT, Suspensions, UsageDerive};
use super::run::{Month, Output, Run};
use super::{Job, JobError, JobOptions};
use crate::tables::bucket_of;
use crate::tables::read::{Rows, instant_at, other};

mod known;
mod marks;
mod plan;
mod point;
mod progress;
mod rows;
mod shelf;
mod storm;
mod write;

pub use progress::forget_usage;
pub(super) use storm::suspensions;

use plan::{Group, Work};
use rows::short_texts;
pub(super) use rows::table_rows;
use shelf::Shelf;

const OUTAGES: &str = include_str!("../../sql/outages.sql");

/// About so many bytes of derived rows are held in memory, beside what waits in files.
const HELD_BYTES: usize = 256 << 20;

/// Up to so many meters are named one by one when their readings are looked for.
const NAMED_METERS: usize = 1000;

/// Derives of the asked months what readings since the last run touched, and of months that no run has derived everything:
/// the rows are those of a run from nothing.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    let outages = Arc::new(outages(run, &mut output).await?);
    let suspended = suspensions(run).await?;
    let mut work = Work::plan(run, &outages, &suspended).await?;
    output.first_day = work.months.first().map(|month| Zone::utc().day_of(month.start));
    for commodity in Commodity::ALL {
        // They are inputs also when nothing in them is new.
        run.reads(readings_name(commodity), &mut output);
    }
    work.begin(run).await?;
    let mut shelf = Shelf::new(run.session(), HELD_BYTES);
    let mut short = Vec::new();
    while let Some(group) = work.next(run, std::mem::take(&mut short)).await? {
        short = walk(run, (&outages, &suspended), (&work, group), &mut shelf, &mut output).await?;
    }
    write::replace(run, &work, &mut shelf, &mut output).await?;
    work.finish(run).await?;
    output.spans = output.tables.get("usage_spans").copied().unwrap_or(0);
    output.findings = output.tables.get("findings").copied().unwrap_or(0);
    output.summary = format!(
        "{} spans and {} findings, {} rows read, {} of {} partitions changed",
        output.spans, output.findings, output.rows_read, output.partitions_changed, output.partitions
    );
    output.summary.push_str(&storm::told(&suspended));
    Ok(output)
}

/// Walks a group of points and puts their rows by; gives the points whose walk must be taken up further back.
async fn walk(
    run: &Run<'_>,
    (outages, suspended): (&Arc<Outages>, &Suspensions),
    (work, group): (&Work, Group),
    shelf: &mut Shelf,
    output: &mut Output,
) -> Result<Vec<UsagePointId>, JobError> {
    let months = work.months.as_slice();
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(Vec::new()) };
    let range = (first.start, last.end);
    let (registry, rules) = (run.registry.clone(), run.rules.clone());
    let borders = months.iter().map(|m| m.start).collect();
    let input = DeriveInput::new(group.commodity, registry, rules, outages.clone(), range);
    let input = Arc::new(input.with_suspended(suspended).with_plans(group.plans, borders));
    let mut short = Vec::new();
    if input.is_empty() || !run.has(readings_name(group.commodity)) {
        return Ok(short);
    }
    let session = run.session();
    let plan = plan(session, input, group.from).await.map_err(|e| run.failed(e))?;
    let mut batches = execute_stream(plan.clone(), session.task_ctx()).map_err(|e| run.failed(e))?;
    while let Some(batch) = batches.try_next().await.map_err(|e| run.failed(e))? {
        let derived = put(&batch, months, work.buckets, shelf).map_err(|e| run.failed(e))?;
        short.extend(derived);
    }
    output.rows_read += rows_of(plan.children());
    Ok(short)
}

/// Cuts the rows of one usage point by month and puts them by; gives the point when its walk was too short.
fn put(
    batch: &RecordBatch,
    months: &[Month],
    buckets: u16,
    shelf: &mut Shelf,
) -> Result<Option<UsagePointId>, DataFusionError> {
    let rows = Rows(batch);
    let start = rows.time("start")?;
    let points = short_texts(batch, "usage_point_id")?;
    let Some(point) = points.downcast_dict::<StringArray>().and_then(|d| d.into_iter().next().flatten()) else {
        return Ok(None);
    };
    let levels: &StringArray = short_texts(batch, "level")?.values().as_string();
    if levels.iter().flatten().any(|level| level == SHORT) {
        return UsagePointId::new(point).map(Some).map_err(|e| other(e.to_string()));
    }
    let mut by_month: Vec<Vec<RecordBatch>> = vec![Vec::new(); months.len()];
    let mut from = 0;
    while from < rows.len() {
        let at = instant_at(start, from)?;
        let Some(index) = months.iter().position(|m| m.start <= at && at < m.end) else {
            return Err(other(format!("a span of {point} starts at {at}, outside the months asked for")));
        };
        let (low, high) = (months[index].start.micros(), months[index].end.micros());
        let to = from + (from..rows.len()).take_while(|row| (low..high).contains(&start.value(*row))).count();
        by_month[index].push(batch.slice(from, to - from));
        from = to;
    }
    let point: Arc<str> = point.into();
    let bucket = bucket_of(&point, buckets);
    for (month, rows) in by_month.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        shelf.put((month, bucket), point.clone(), rows)?;
    }
    Ok(None)
}

/// The plan over the readings of one commodity, in the order in which their files are sorted: those of the input's meters
/// from `from` on.
pub(crate) async fn plan(
    session: &SessionContext,
    input: Arc<DeriveInput>,
    from: Option<Timestamp>,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let names = ["meter_id", "ts", "revision", "received_at", "flags"];
    let columns = names.into_iter().chain(input.channels().into_iter().map(|c| c.name())).map(col);
    let mut rows = session.table(readings_name(input.commodity)).await?;
    for filter in filters(&input, from) {
        rows = rows.filter(filter)?;
    }
    let (state, rows) = rows.select(columns)?.into_parts();
    let node = UsageDerive::new(rows, input)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    DataFrame::new(state, plan).create_physical_plan().await
}

/// What keeps files and pages from being read. Rows that come nevertheless are passed over.
fn filters(input: &DeriveInput, from: Option<Timestamp>) -> Vec<Expr> {
    let instant = |ts: Timestamp| lit(ScalarValue::TimestampMicrosecond(Some(ts.micros()), Some("UTC".into())));
    let mut filters: Vec<Expr> = from.map(|from| col("ts").gt_eq(instant(from))).into_iter().collect();
    let meters = input.meters();
    if input.is_partial()
        && let (Some(first), Some(last)) = (meters.first(), meters.last())
    {
        filters.push(col("meter_id").between(lit(first.as_str()), lit(last.as_str())));
        if meters.len() <= NAMED_METERS {
            filters.push(col("meter_id").in_list(meters.iter().map(|m| lit(m.as_str())).collect(), false));
        }
    }
    filters
}

/// The physical plan of the walk over one commodity's readings, as text: what is asked when a run is slow.
///
/// # Errors
/// When there is no registry, or the lake cannot be read.
pub async fn explain_usage(lake: &Lake, commodity: Commodity) -> Result<String, JobError> {
    let today = Zone::utc().day_of(Timestamp::now());
    let options = JobOptions::new(today, today.plus_days(1));
    let run = Run::begin(lake, Job::Usage, &options).await?;
    let (registry, rules) = (run.registry.clone(), run.rules.clone());
    let input = DeriveInput::new(commodity, registry, rules, Arc::default(), run.instants());
    let plan = plan(run.session(), Arc::new(input), None).await.map_err(|e| run.failed(e))?;
    Ok(displayable(plan.as_ref()).indent(true).to_string())
}

/// Rows that the scans below gave, by their own count.
fn rows_of(children: Vec<&Arc<dyn ExecutionPlan>>) -> u64 {
    let mut rows = 0;
    for child in children {
        let own = child.metrics().and_then(|m| m.output_rows());
        rows += own.map_or_else(|| rows_of(child.children()), |n| u64::try_from(n).unwrap_or(u64::MAX));
    }
    rows
}

/// From a last gasp to the restoration after it, by meter.
pub(super) async fn outages(run: &Run<'_>, output: &mut Output) -> Result<Outages, JobError> {
    let mut outages = Outages::new();
    if run.reads("meter_events", output).is_none() {
        return Ok(outages);
    }
    let mut rows = run.stream(OUTAGES).await?;
    let mut since: Option<(MeterId, Timestamp)> = None;
    while let Some(batch) = run.next(&mut rows).await? {
        let step = |since: &mut Option<(MeterId, Timestamp)>, outages: &mut Outages| {
            let rows = Rows(&batch);
            let (meter_id, ts, event) = (rows.text("meter_id")?, rows.time("ts")?, rows.text("event")?);
            for row in 0..rows.len() {
                let (meter, at) = (meter_id.at(row), instant_at(ts, row)?);
                let open = since.take().filter(|(m, _)| m.as_str() == meter);
                *since = match (event.at(row), open) {
                    ("last_gasp", None) => MeterId::new(meter).ok().map(|m| (m, at)),
                    // A second gasp belongs to the same outage.
                    ("last_gasp", open) => open,
                    (_, Some((meter, from))) => {
                        outages.entry(meter).or_default().push((from, at));
                        None
                    }
                    (_, None) => None,
                };
            }
            Ok::<_, DataFusionError>(())
        };
        step(&mut since, &mut outages).map_err(|e| run.failed(e))?;
    }
    Ok(outages)
}
