//! The job `usage`: readings to `usage_spans` and `findings`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, DictionaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{Int8Type, Schema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::{DataFrame, SessionContext, col};
use futures::TryStreamExt;
use meterlake_model::registry::Registry;
use meterlake_model::{Commodity, MeterId, Timestamp, Zone};
use meterlake_store::schema::readings_name;
use meterlake_store::{Lake, TableSpec};

use super::derive::{DeriveInput, FINDING, Outages, UsageDerive};
use super::run::{Month, Output, Run};
use super::{Job, JobError, JobOptions};
use crate::tables;
use crate::tables::read::{Rows, instant_at, other};

const OUTAGES: &str = include_str!("../../sql/outages.sql");

/// About so many spans are held at once, some hundred bytes each; a month is the least that can be derived.
const SPANS_AT_ONCE: i64 = 4_000_000;

/// Derives the partitions that the asked days touch, as many months in one walk as memory is meant to hold: use asked
/// for in parts is the same as asked for at once.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    let outages = Arc::new(outages(run, &mut output).await?);
    let months = run.months();
    let at_once = months_at_once(&run.registry, SPANS_AT_ONCE);
    for months in months.chunks(at_once) {
        derive_months(run, months, &outages, &mut output).await?;
    }
    output.spans = output.tables.get("usage_spans").copied().unwrap_or(0);
    output.findings = output.tables.get("findings").copied().unwrap_or(0);
    output.summary = format!(
        "{} spans and {} findings from {} rows, {} of {} partitions changed",
        output.spans, output.findings, output.rows_read, output.partitions_changed, output.partitions
    );
    Ok(output)
}

/// How many months of slots of all installations are about `spans`; at least one.
fn months_at_once(registry: &Registry, spans: i64) -> usize {
    const MONTH_S: i64 = 31 * 86_400;
    let channels = registry.installations.iter().flat_map(|i| &i.channels);
    let a_month: i64 = channels.map(|c| MONTH_S / c.interval_s.max(60)).fold(0, i64::saturating_add);
    usize::try_from(spans / a_month.max(1)).unwrap_or(usize::MAX).max(1)
}

async fn derive_months(
    run: &Run<'_>,
    months: &[Month],
    outages: &Arc<Outages>,
    output: &mut Output,
) -> Result<(), JobError> {
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(()) };
    let range = (first.start, last.end);
    let session = run.session();
    let mut sorted = Sorted::new(months);
    for commodity in Commodity::ALL {
        let table = readings_name(commodity);
        let (registry, rules) = (run.registry.clone(), run.rules.clone());
        let input = Arc::new(DeriveInput::new(commodity, registry, rules, outages.clone(), range));
        if input.is_empty() || run.reads(table, output).is_none() {
            continue;
        }
        let plan = plan(session, input).await.map_err(|e| run.failed(e))?;
        let mut batches = execute_stream(plan.clone(), session.task_ctx()).map_err(|e| run.failed(e))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| run.failed(e))? {
            sorted.take(&batch).map_err(|e| run.failed(e))?;
        }
        output.rows_read += rows_of(plan.children());
    }
    let Sorted { spans, findings, .. } = sorted;
    for (spec, by_month) in [(tables::usage_spans(), spans), (tables::findings(), findings)] {
        for (month, batches) in months.iter().zip(by_month) {
            let rows = batches.values().flatten();
            let rows = rows.map(|batch| as_table(&spec, batch)).collect::<Result<Vec<_>, _>>();
            let rows = rows.map_err(|e| run.failed(e))?;
            run.replace(output, &spec, vec![(month.partition(), rows)]).await?;
        }
    }
    Ok(())
}

/// The plan over the readings of one commodity, in the order in which their files are sorted.
pub(crate) async fn plan(
    session: &SessionContext,
    input: Arc<DeriveInput>,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let names = ["meter_id", "ts", "revision", "received_at", "flags"];
    let columns = names.into_iter().chain(input.channels().into_iter().map(|c| c.name())).map(col);
    let rows = session.table(readings_name(input.commodity)).await?.select(columns)?;
    let (state, rows) = rows.into_parts();
    let node = UsageDerive::new(rows, input)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    DataFrame::new(state, plan).create_physical_plan().await
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
    let plan = plan(run.session(), Arc::new(input)).await.map_err(|e| run.failed(e))?;
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
async fn outages(run: &Run<'_>, output: &mut Output) -> Result<Outages, JobError> {
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

type ByPoint = BTreeMap<String, Vec<RecordBatch>>;

/// Output rows by table, month and usage point: the canonical order without a sort.
struct Sorted<'a> {
    months: &'a [Month],
    spans: Vec<ByPoint>,
    findings: Vec<ByPoint>,
}

impl<'a> Sorted<'a> {
    fn new(months: &'a [Month]) -> Self {
        Self { months, spans: vec![ByPoint::new(); months.len()], findings: vec![ByPoint::new(); months.len()] }
    }

    /// Cuts a batch of one usage point where table or month change.
    fn take(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        let rows = Rows(batch);
        let start = rows.time("start")?;
        let levels = short_texts(batch, "level")?;
        let points = short_texts(batch, "usage_point_id")?;
        let Some(point) = points.downcast_dict::<StringArray>().and_then(|d| d.into_iter().next().flatten()) else {
            return Ok(());
        };
        let finding = levels.lookup_key(FINDING);
        let is_finding =
            |row: usize| finding.is_some() && levels.key(row) == finding.map(|k| usize::from(k.cast_unsigned()));
        let mut from = 0;
        while from < rows.len() {
            let at = instant_at(start, from)?;
            let Some(index) = self.months.iter().position(|m| m.start <= at && at < m.end) else {
                return Err(other(format!("a span of {point} starts at {at}, outside the months asked for")));
            };
            let (low, high) = (self.months[index].start.micros(), self.months[index].end.micros());
            let same = |row: &usize| (low..high).contains(&start.value(*row)) && is_finding(*row) == is_finding(from);
            let to = from + (from..rows.len()).take_while(same).count();
            let table = if is_finding(from) { &mut self.findings } else { &mut self.spans };
            table[index].entry(point.to_owned()).or_default().push(batch.slice(from, to - from));
            from = to;
        }
        Ok(())
    }
}

/// A column of few texts.
fn short_texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a DictionaryArray<Int8Type>, DataFusionError> {
    let column = batch.column_by_name(name).and_then(|c| c.as_dictionary_opt::<Int8Type>());
    column.ok_or_else(|| other(format!("the walk gives no column {name}")))
}

/// The columns of a table out of the operator's, in the table's types; partition columns are left out.
fn as_table(spec: &TableSpec, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for field in spec.schema.fields().iter().filter(|f| !spec.partition_by.contains(&f.name().as_str())) {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| other(format!("the walk gives no column {}", field.name())))?;
        columns.push(cast(column, field.data_type())?);
        fields.push(field.clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::registry::{Installation, InstallationChannel};
    use meterlake_model::{Amount, Channel, UsagePointId};

    #[test]
    fn a_walk_holds_as_many_months_as_memory_is_meant_to() {
        let channel = |interval_s| InstallationChannel {
            channel: Channel::by_name("energy_import_kwh").unwrap(),
            multiplier_micros: 1_000_000,
            digits: None,
            resolution: Amount::parse("0.001").unwrap(),
            interval_s,
            interval_assumed: false,
            capacity_per_hour: None,
            start_register: None,
            end_register: None,
        };
        let registry = |installations: usize, interval_s| Registry {
            installations: (0..installations)
                .map(|_| Installation {
                    meter_id: MeterId::new("m").unwrap(),
                    usage_point_id: UsagePointId::new("p").unwrap(),
                    installed_at: None,
                    removed_at: None,
                    channels: vec![channel(interval_s)],
                })
                .collect(),
            ..Registry::default()
        };
        // A quarter of an hour makes 2,976 slots a month.
        assert_eq!(months_at_once(&registry(1, 900), 29_760), 10);
        assert_eq!(months_at_once(&registry(10, 900), 29_760), 1);
        assert_eq!(months_at_once(&registry(1000, 900), 29_760), 1, "a month is the least");
        assert_eq!(months_at_once(&registry(1, 3600), 29_760), 40);
        assert!(months_at_once(&registry(0, 900), 29_760) > 1000);
    }
}
