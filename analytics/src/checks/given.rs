//! The tables that a query finds beside those of the lake: the registry as the run has it, and what is not there yet, empty.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_model::registry::{Installation, InstallationChannel, Registry};
use meterlake_model::{Amount, ChannelKind};
use meterlake_store::schema::{collected, instant, maybe, required, text};

use crate::tables::write::Columns;
use crate::tables::{self, AMOUNT};

/// Columns of `points`: places of supply.
pub(super) fn points() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("usage_point_id"),
        text("commodity"),
        text("zone"),
        maybe("customer_id", DataType::Utf8),
        maybe("node_id", DataType::Utf8),
        text("class"),
        required("active", DataType::Boolean),
        required("continuous_use", DataType::Boolean),
        maybe("nominal_voltage_v", AMOUNT),
        maybe("customer_since", instant()),
        maybe("parent_id", DataType::Utf8),
    ]))
}

/// Columns of `channels`: what hung where, by channel. `counts` tells registers and use from physical values.
pub(super) fn channels() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("usage_point_id"),
        text("meter_id"),
        text("channel"),
        required("counts", DataType::Boolean),
        maybe("installed_at", instant()),
        maybe("removed_at", instant()),
        required("multiplier", AMOUNT),
        required("resolution", AMOUNT),
        required("interval_s", DataType::Int64),
        maybe("capacity_per_hour", AMOUNT),
    ]))
}

/// The tables that checks may ask, by name.
pub(super) fn known() -> Vec<(&'static str, SchemaRef)> {
    let derived = tables::all().into_iter().chain(collected()).map(|spec| (spec.name, spec.schema));
    let readings = collected().into_iter().filter_map(|spec| {
        let commodity = meterlake_store::schema::commodity_of(spec.name)?;
        Some((commodity.as_str(), spec.schema))
    });
    derived.chain(readings).chain([("points", points()), ("channels", channels())]).collect()
}

/// Adds `points` and `channels`, and every table that is not there yet.
pub(crate) fn register(context: &SessionContext, registry: &Registry) -> Result<(), DataFusionError> {
    put(context, "points", rows_of_points(registry)?)?;
    put(context, "channels", rows_of_channels(registry)?)?;
    fill(context)
}

/// Adds every table that is not there yet.
pub(super) fn fill(context: &SessionContext) -> Result<(), DataFusionError> {
    for (name, schema) in known() {
        if !context.table_exist(name)? {
            put(context, name, RecordBatch::new_empty(schema))?;
        }
    }
    Ok(())
}

pub(super) fn put(context: &SessionContext, name: &str, rows: RecordBatch) -> Result<(), DataFusionError> {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    context.register_table(name, Arc::new(table))?;
    Ok(())
}

fn rows_of_points(registry: &Registry) -> Result<RecordBatch, ArrowError> {
    let all = || registry.usage_points.values();
    let mut c = Columns::default();
    c.text("usage_point_id", all().map(|p| p.id.as_str()));
    c.text("commodity", all().map(|p| p.commodity.as_str()));
    c.text("zone", all().map(|p| p.zone.name()));
    c.maybe_text("customer_id", all().map(|p| p.customer_id.as_ref().map(|id| id.as_str())));
    c.maybe_text("node_id", all().map(|p| p.node_id.as_ref().map(|id| id.as_str())));
    c.text("class", all().map(|p| p.class.as_str()));
    c.flag("active", all().map(|p| p.active));
    c.flag("continuous_use", all().map(|p| p.continuous_use));
    c.amount("nominal_voltage_v", all().map(|p| p.nominal_voltage_dv.and_then(|dv| Amount::from_scaled(dv, 1).ok())));
    c.time("customer_since", all().map(|p| p.customer_since));
    c.maybe_text("parent_id", all().map(|p| p.parent_id.as_ref().map(|id| id.as_str())));
    c.of(&points())
}

fn rows_of_channels(registry: &Registry) -> Result<RecordBatch, ArrowError> {
    let all = || registry.installations.iter().flat_map(|i| i.channels.iter().map(move |c| (i, c)));
    let amount = |of: fn(&InstallationChannel) -> Option<Amount>| all().map(move |(_, c)| of(c));
    let name = |of: fn(&Installation) -> &str| all().map(move |(i, _)| of(i));
    let mut c = Columns::default();
    c.text("usage_point_id", name(|i| i.usage_point_id.as_str()));
    c.text("meter_id", name(|i| i.meter_id.as_str()));
    c.text("channel", all().map(|(_, c)| c.channel.name()));
    c.flag("counts", all().map(|(_, c)| c.channel.kind() != ChannelKind::Physical));
    c.time("installed_at", all().map(|(i, _)| i.installed_at));
    c.time("removed_at", all().map(|(i, _)| i.removed_at));
    c.amount("multiplier", amount(|c| Amount::from_micros(c.multiplier_micros)));
    c.amount("resolution", amount(|c| Some(c.resolution)));
    c.long("interval_s", all().map(|(_, c)| c.interval_s));
    c.amount("capacity_per_hour", amount(|c| c.capacity_per_hour));
    c.of(&channels())
}

/// The column of this name and type, for rows of cases.
pub(super) fn column<'a>(schema: &'a SchemaRef, name: &str) -> Option<&'a Field> {
    schema.column_with_name(name).map(|(_, field)| field)
}
