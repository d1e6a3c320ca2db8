//! Days and findings walked anew from readings, past every derived table.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use meterlake_model::registry::Installation;
use meterlake_model::{Channel, Commodity, Timestamp};
use meterlake_store::schema::readings_name;

use super::super::JobError;
use super::super::derive::{DeriveInput, SHORT};
use super::super::run::{Output, Run};
use super::super::usage::{outages, plan, suspensions, table_rows};
use super::{Derived, findings_of, spans, with_channel};
use crate::tables;
use crate::tables::read::{Rows, other};

/// The days and findings of every usage point in a time.
pub(super) async fn walk<'a>(
    run: &Run<'_>,
    range: (Timestamp, Timestamp),
    installed: &BTreeMap<&'a str, Vec<&'a Installation>>,
    output: &mut Output,
) -> Result<BTreeMap<&'a str, Derived>, JobError> {
    let outages = Arc::new(outages(run, output).await?);
    let suspended = suspensions(run).await?;
    let mut walked = BTreeMap::new();
    for commodity in Commodity::ALL {
        let (registry, rules) = (run.registry.clone(), run.rules.clone());
        let input = DeriveInput::new(commodity, registry, rules, outages.clone(), range).with_suspended(&suspended);
        if input.is_empty() || run.reads(readings_name(commodity), output).is_none() {
            continue;
        }
        let plan = plan(run.session(), Arc::new(input), None).await.map_err(|e| run.failed(e))?;
        let mut batches = execute_stream(plan, run.session().task_ctx()).map_err(|e| run.failed(e))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| run.failed(e))? {
            let point = of_point(&batch, run, installed).map_err(|e| run.failed(e))?;
            walked.extend(point);
        }
    }
    Ok(walked)
}

/// One batch is one usage point.
fn of_point<'a>(
    batch: &arrow::array::RecordBatch,
    run: &Run<'_>,
    installed: &BTreeMap<&'a str, Vec<&'a Installation>>,
) -> Result<Option<(&'a str, Derived)>, datafusion::error::DataFusionError> {
    let point = arrow::compute::cast(
        batch.column_by_name("usage_point_id").ok_or_else(|| other("the walk gives no usage point".to_owned()))?,
        &arrow::datatypes::DataType::Utf8,
    )?;
    let level = batch.column_by_name("level").ok_or_else(|| other("the walk gives no level".to_owned()))?;
    let level = arrow::compute::cast(level, &arrow::datatypes::DataType::Utf8)?;
    let names = arrow::array::RecordBatch::try_from_iter([("usage_point_id", point), ("level", level)])?;
    let rows = Rows(&names);
    if rows.len() == 0 {
        return Ok(None);
    }
    let id = rows.text("usage_point_id")?.at(0).to_owned();
    if rows.text("level")?.at(0) == SHORT {
        return Err(other(format!("the walk of {id} from its installation on is too short, which cannot be")));
    }
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
