//! The six tables of the registry.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use crate::schema::{instant, maybe, required};
use crate::table::TableSpec;

const AMOUNT: DataType = DataType::Decimal128(18, 6);

/// All six, `usage_points` last: it makes a revision exist.
pub fn registry_tables() -> [TableSpec; 6] {
    [installation_channels(), installations(), customers(), network(), meters(), usage_points()]
}

/// Places of supply; key (revision, usage_point_id).
pub fn usage_points() -> TableSpec {
    let fields = vec![
        required("usage_point_id", DataType::Utf8),
        required("commodity", DataType::Utf8),
        required("zone", DataType::Utf8),
        maybe("customer_id", DataType::Utf8),
        maybe("node_id", DataType::Utf8),
        required("class", DataType::Utf8),
        required("place", DataType::Utf8),
        required("billing_day", DataType::Int32),
        required("active", DataType::Boolean),
        required("continuous_use", DataType::Boolean),
        maybe("nominal_voltage_v", DataType::Decimal128(9, 1)),
        maybe("customer_since", instant()),
        maybe("parent_id", DataType::Utf8),
    ];
    spec("usage_points", fields, &["revision", "usage_point_id"])
}

/// Meters; key (revision, meter_id).
pub fn meters() -> TableSpec {
    let fields = vec![
        required("meter_id", DataType::Utf8),
        required("commodity", DataType::Utf8),
        maybe("serial", DataType::Utf8),
        required("model", DataType::Utf8),
        maybe("gateway_id", DataType::Utf8),
    ];
    spec("meters", fields, &["revision", "meter_id"])
}

/// Which meter was where from when to when, half-open; key (revision, installation).
pub fn installations() -> TableSpec {
    let fields = vec![
        required("installation", DataType::Int32),
        required("meter_id", DataType::Utf8),
        required("usage_point_id", DataType::Utf8),
        maybe("installed_at", instant()),
        maybe("removed_at", instant()),
        maybe("role", DataType::Utf8),
    ];
    spec("installations", fields, &["revision", "installation"])
}

/// How an installation's readings become use; key (revision, installation, channel).
pub fn installation_channels() -> TableSpec {
    let fields = vec![
        required("installation", DataType::Int32),
        required("channel", DataType::Utf8),
        required("meter_id", DataType::Utf8),
        required("multiplier", AMOUNT),
        maybe("digits", DataType::Int32),
        required("resolution", AMOUNT),
        required("interval_s", DataType::Int64),
        required("interval_assumed", DataType::Boolean),
        maybe("capacity_per_hour", AMOUNT),
        maybe("start_register", AMOUNT),
        maybe("end_register", AMOUNT),
    ];
    spec("installation_channels", fields, &["revision", "installation"])
}

/// Who is billed; key (revision, customer_id).
pub fn customers() -> TableSpec {
    let fields = vec![required("customer_id", DataType::Utf8), required("name", DataType::Utf8)];
    spec("customers", fields, &["revision", "customer_id"])
}

/// What stands above usage points; key (revision, node_id).
pub fn network() -> TableSpec {
    let fields = vec![
        required("node_id", DataType::Utf8),
        required("kind", DataType::Utf8),
        maybe("parent_id", DataType::Utf8),
        required("name", DataType::Utf8),
    ];
    spec("network", fields, &["revision", "node_id"])
}

fn spec(name: &'static str, fields: Vec<Field>, sort_by: &'static [&'static str]) -> TableSpec {
    let fields: Vec<Field> = [required("revision", DataType::Int64)].into_iter().chain(fields).collect();
    TableSpec { name, schema: Arc::new(Schema::new(fields)), partition_by: &[], sort_by }
}
