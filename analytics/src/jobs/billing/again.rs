//! Days and findings walked anew from readings, past every derived table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use meterlake_model::registry::Installation;
use meterlake_model::{Channel, Commodity, Timestamp, UsagePointId};
use meterlake_store::schema::readings_name;

use super::super::JobError;
use super::super::derive::{DeriveInput, Outages, PointPlan, SHORT, Suspensions};
use super::super::run::{Output, Run};
use super::super::usage::{outages, plan, suspensions, table_rows};
use super::{Derived, findings_of, spans, with_channel};
use crate::tables;
use crate::tables::read::{Rows, other};

/// The days and findings of every usage point that the run looks at in a time.
pub(super) async fn walk<'a>(
    run: &Run<'_>,
    silence: &Silence,
    range: (Timestamp, Timestamp),
    installed: &BTreeMap<&'a str, Vec<&'a Installation>>,
    output: &mut Output,
) -> Result<BTreeMap<&'a str, Derived>, JobError> {
    let mut walked = BTreeMap::new();
    for commodity in Commodity::ALL {
        run.reads(readings_name(commodity), output);
    }
    let mut take = |batch: &RecordBatch| {
        walked.extend(of_point(batch, run, installed)?);
        Ok(())
    };
    walk_points(run, silence, run.points.as_ref(), range, &mut take).await?;
    Ok(walked)
}

/// Why readings may be missing, as far as it says what stands in their stead.
pub(in crate::jobs) struct Silence {
    /// Times without supply.
    pub(in crate::jobs) outages: Arc<Outages>,
    /// Where estimates wait.
    suspended: Suspensions,
}

impl Silence {
    /// Of all usage points.
    pub(in crate::jobs) async fn read(run: &Run<'_>, output: &mut Output) -> Result<Self, JobError> {
        Ok(Self { outages: Arc::new(outages(run, output).await?), suspended: suspensions(run).await? })
    }
}

/// Takes one batch of the walk: all of one usage point.
pub(in crate::jobs) type Take<'t> = dyn FnMut(&RecordBatch) -> Result<(), DataFusionError> + Send + 't;

/// Walks the readings of some usage points (or of all) from their installations on, as far as they matter in a time.
pub(in crate::jobs) async fn walk_points(
    run: &Run<'_>,
    silence: &Silence,
    points: Option<&BTreeSet<UsagePointId>>,
    range: (Timestamp, Timestamp),
    take: &mut Take<'_>,
) -> Result<(), JobError> {
    for commodity in Commodity::ALL {
        let (registry, rules) = (run.registry.clone(), run.rules.clone());
        let input = DeriveInput::new(commodity, registry, rules, silence.outages.clone(), range);
        let mut input = input.with_suspended(&silence.suspended);
        if let Some(points) = points {
            let plan = |point: &UsagePointId| (point.clone(), PointPlan { from: range.0, anchors: Vec::new() });
            input = input.with_plans(points.iter().map(plan).collect(), Vec::new());
        }
        if input.is_empty() || !run.has(readings_name(commodity)) {
            continue;
        }
        let plan = plan(run.session(), Arc::new(input), None).await.map_err(|e| run.failed(e))?;
        let mut batches = execute_stream(plan, run.session().task_ctx()).map_err(|e| run.failed(e))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| run.failed(e))? {
            take(&batch).map_err(|e| run.failed(e))?;
        }
    }
    Ok(())
}

/// One batch is one usage point.
fn of_point<'a>(
    batch: &RecordBatch,
    run: &Run<'_>,
    installed: &BTreeMap<&'a str, Vec<&'a Installation>>,
) -> Result<Option<(&'a str, Derived)>, DataFusionError> {
    let Some(id) = point_of(batch)? else { return Ok(None) };
    let (Some((id, installations)), Some(known)) =
        (installed.get_key_value(id.as_str()), run.registry.usage_points.get(id.as_str()))
    else {
        return Ok(None);
    };
    let mut derived = Derived::default();
    if let Some(days) = table_rows(&tables::usage_days(), std::slice::from_ref(batch), &known.zone)? {
        derived.spans = spans(&[days], installations)?;
    }
    if let Some(found) = table_rows(&tables::findings(), std::slice::from_ref(batch), &known.zone)? {
        let channels = Rows(&found);
        let channel = channels.text("channel")?;
        let mut from = 0;
        while from < found.num_rows() {
            let name = channel.at(from);
            let count = (from..found.num_rows()).take_while(|row| channel.at(*row) == name).count();
            if let Some(of) = Channel::by_name(name) {
                let with: Vec<&Installation> = with_channel(installations, of).collect();
                let rows = findings_of(&[found.slice(from, count)], &with)?;
                derived.findings.insert(name.to_owned(), rows);
            }
            from += count;
        }
    }
    Ok(Some((*id, derived)))
}

/// The usage point of a batch of the walk.
pub(in crate::jobs) fn point_of(batch: &RecordBatch) -> Result<Option<String>, DataFusionError> {
    let first = |name: &str| {
        let column = batch.column_by_name(name).ok_or_else(|| other(format!("the walk gives no column {name}")))?;
        let text = arrow::compute::cast(&column.slice(0, 1), &arrow::datatypes::DataType::Utf8)?;
        let rows = RecordBatch::try_from_iter([(name, text)])?;
        Ok::<_, DataFusionError>(Rows(&rows).text(name)?.at(0).to_owned())
    };
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let id = first("usage_point_id")?;
    if first("level")? == SHORT {
        return Err(other(format!("the walk of {id} from its installation on is too short, which cannot be")));
    }
    Ok(Some(id))
}
