//! The tables that jobs write: their columns, their partitions, their canonical order.
//!
//! Partitions are the UTC month of a row's start and a bucket of the usage point, so that a late reading rewrites
//! little. What belongs to a civil month (billing, profiles) is in the partition of that month. Amounts are
//! DECIMAL(18,6) in the unit that closes the channel's name. How rows become columns is in [`write`], and back in
//! [`read`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use meterlake_model::Quality;
use meterlake_store::TableSpec;
use meterlake_store::schema::{MONTH, instant, maybe, required, spec, text, time};

mod billing;
mod bucket;
pub(crate) mod read;
pub(crate) mod write;

pub use billing::{
    billing_corrections, billing_determinants, billing_events, billing_items, billing_reads, billing_runs,
};
pub use bucket::{bucket_of, buckets_for};

/// Partition column: which share of the usage points.
pub const BUCKET: &str = "bucket";

/// The bucket of tables that have few rows a usage point.
pub const ONLY_BUCKET: i32 = 0;

/// Partition column of `alert_events`: who took the step, `machine` or `person`.
pub const ORIGIN: &str = "origin";

/// Type of amounts.
pub(crate) const AMOUNT: DataType = DataType::Decimal128(18, 6);

/// Use of one usage point and channel over a stretch of time. `level` tells parts (`slot`) from wholes (`day`): never
/// add both. Registers are as read; the value is after the multiplier.
pub fn usage_spans() -> TableSpec {
    let fields = vec![
        text("usage_point_id"),
        text("channel"),
        text("level"),
        time("start"),
        time("end"),
        maybe("value", AMOUNT),
        text("quality"),
        maybe("method", DataType::Utf8),
        required("estimated", AMOUNT),
        maybe("start_register", AMOUNT),
        maybe("start_register_quality", DataType::Utf8),
        maybe("end_register", AMOUNT),
        maybe("end_register_quality", DataType::Utf8),
        text("meter_id"),
        maybe("evidence", DataType::Utf8),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("usage_spans", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "level", "start"])
}

/// Use of one usage point and channel by civil day of its zone, exact, with the registers at both ends: the wholes of
/// [`usage_spans`], which billing adds up. `slots_…` counts the day's slots by state and `use_…` is what was used in them;
/// the uses add up to `value`. A day on which a meter was exchanged has a row for each. What of `estimated` lies before the
/// day's first reading is `estimated_start`, what lies behind its last `estimated_end`; both are null on a day without one.
pub fn usage_days() -> TableSpec {
    let mut fields = vec![
        text("usage_point_id"),
        text("channel"),
        required("day", DataType::Date32),
        time("start"),
        time("end"),
        maybe("value", AMOUNT),
        text("quality"),
        maybe("method", DataType::Utf8),
        required("estimated", AMOUNT),
        maybe("start_register", AMOUNT),
        maybe("start_register_quality", DataType::Utf8),
        maybe("end_register", AMOUNT),
        maybe("end_register_quality", DataType::Utf8),
        text("meter_id"),
    ];
    fields.extend(Quality::ALL.iter().map(|q| required(&format!("slots_{q}"), DataType::Int32)));
    fields.extend(Quality::ALL[1..].iter().map(|q| required(&format!("use_{q}"), AMOUNT)));
    fields.extend(["estimated_start", "estimated_end"].map(|name| maybe(name, AMOUNT)));
    fields.extend([text(MONTH), required(BUCKET, DataType::Int32)]);
    spec("usage_days", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "start"])
}

/// Where a walk over readings can be taken up at the first instant of a month: the last reading before it that surely
/// stands, with what has to be known of the line that it is on. Registers are as read, with their wraps counted on.
pub fn usage_anchors() -> TableSpec {
    let fields = vec![
        text("usage_point_id"),
        text("channel"),
        text("state"),
        text("meter_id"),
        maybe("installation", DataType::Int32),
        maybe("ts", instant()),
        maybe("register", AMOUNT),
        maybe("line_register", AMOUNT),
        maybe("line_start", instant()),
        maybe("first_line", DataType::Boolean),
        maybe("settled_at", instant()),
        maybe("closed_at", instant()),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("usage_anchors", fields, &[MONTH, BUCKET], &["usage_point_id", "channel"])
}

/// What the derived months stand for: those listed are as a run pinned to `commit_seq` over this basis would derive them
/// from nothing. The row without a month says up to which commit a run may have written; rows with an `area` say from when
/// on nothing is estimated in a part of the network, since too much of it is silent.
pub fn usage_progress() -> TableSpec {
    let fields = vec![
        text("derived_month"),
        text("basis"),
        required("commit_seq", DataType::Int64),
        required("reached", DataType::Int64),
        maybe("area", DataType::Utf8),
        maybe("suspended_since", instant()),
    ];
    spec("usage_progress", fields, &[], &["derived_month"])
}

/// What a check found while usage was derived.
pub fn findings() -> TableSpec {
    let fields = vec![
        text("usage_point_id"),
        text("channel"),
        time("start"),
        time("end"),
        text("rule"),
        text("severity"),
        maybe("measured", AMOUNT),
        maybe("limit", AMOUNT),
        text("meter_id"),
        text("evidence"),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("findings", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "start", "rule"])
}

/// What checks found, by the month that was checked: a stretch that goes on is told in each. `on_fail` is what follows:
/// `hold` and `verify` hold bills, `work_item` is for the field, `keep` is told. No value is changed by any of them.
pub fn check_findings() -> TableSpec {
    let fields = vec![
        text("usage_point_id"),
        text("channel"),
        time("start"),
        time("end"),
        text("rule"),
        text("severity"),
        text("on_fail"),
        maybe("measured", AMOUNT),
        maybe("reference", AMOUNT),
        maybe("limit", AMOUNT),
        text("meter_id"),
        text("evidence"),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("check_findings", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "start", "rule"])
}

/// One alert as far as the machine knows it; people's steps are in [`alert_events`].
pub fn alerts() -> TableSpec {
    let fields = vec![
        text("id"),
        text("rule"),
        text("severity"),
        text("state"),
        text("commodity"),
        maybe("usage_point_id", DataType::Utf8),
        maybe("meter_id", DataType::Utf8),
        maybe("node_id", DataType::Utf8),
        text("place"),
        maybe("group_id", DataType::Utf8),
        time("start"),
        time("opened_at"),
        time("last_seen"),
        maybe("end", instant()),
        required("measured", AMOUNT),
        required("limit", AMOUNT),
        text("unit"),
        maybe("loss_m3", AMOUNT),
        required("occurrences", DataType::Int32),
        text("summary"),
        text("evidence"),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("alerts", fields, &[MONTH, BUCKET], &["start", "id"])
}

/// Each step of an alert's life. Machine steps are in the partition of the alert's start and go with it; people's steps
/// are in the partition of their own time and stay.
pub fn alert_events() -> TableSpec {
    let fields = vec![
        text("alert_id"),
        time("ts"),
        text("step"),
        maybe("severity", DataType::Utf8),
        maybe("person", DataType::Utf8),
        maybe("note", DataType::Utf8),
        text(ORIGIN),
        text(MONTH),
    ];
    spec("alert_events", fields, &[ORIGIN, MONTH], &["alert_id", "ts", "step"])
}

/// Load shape and key figures of one usage point, channel and civil month. Shapes are 24 hours of the wall clock in the
/// channel's unit an hour, `daily` is one value for each day of the month (null when it is not complete).
pub fn profiles() -> TableSpec {
    let figure = |name| maybe(name, DataType::Float64);
    let list = |name, item: DataType| required(name, DataType::List(Arc::new(Field::new("element", item, true))));
    let fields = vec![
        text("usage_point_id"),
        text("channel"),
        text("period"),
        text("class"),
        required("days", DataType::Int32),
        required("complete_days", DataType::Int32),
        figure("daily_use"),
        figure("night_share"),
        figure("evening_share"),
        figure("midday_share"),
        figure("p5"),
        figure("p50"),
        figure("p95"),
        figure("peak"),
        figure("base_load"),
        figure("load_factor"),
        figure("weekday_to_weekend"),
        figure("peak_to_valley"),
        maybe("rank_in_class", DataType::Int32),
        maybe("class_size", DataType::Int32),
        list("shape_workday", DataType::Float64),
        list("shape_saturday", DataType::Float64),
        list("shape_sunday", DataType::Float64),
        list("daily", AMOUNT),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("profiles", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "period"])
}

/// Expected against received readings of one meter and civil day, with the lowest common cause of most of what is
/// missing. `clock_offset_s` is the meter's clock less ours. What is not due yet is not expected yet: `closed` says
/// whether the whole day is.
pub fn completeness() -> TableSpec {
    let fields = vec![
        required("day", DataType::Date32),
        text("meter_id"),
        text("usage_point_id"),
        maybe("node_id", DataType::Utf8),
        text("commodity"),
        maybe("gateway_id", DataType::Utf8),
        maybe("source", DataType::Utf8),
        required("interval_s", DataType::Int64),
        text("interval_from"),
        required("expected", DataType::Int32),
        required("received", DataType::Int32),
        required("missing", DataType::Int32),
        required("late", DataType::Int32),
        required("readings", DataType::Int32),
        maybe("first_reading", instant()),
        maybe("last_reading", instant()),
        required("longest_gap_s", DataType::Int64),
        maybe("clock_offset_s", DataType::Int32),
        maybe("clock_method", DataType::Utf8),
        required("clock_readings", DataType::Int32),
        required("closed", DataType::Boolean),
        maybe("reason", DataType::Utf8),
        maybe("reason_subject", DataType::Utf8),
        required("explained", DataType::Int32),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("completeness", fields, &[MONTH, BUCKET], &["day", "meter_id"])
}

/// One job run: what it went by, what it made, how long it took. The only derived table that knows a clock.
pub fn job_runs() -> TableSpec {
    let fields = vec![
        text("run_id"),
        text("job"),
        required("from_day", DataType::Date32),
        required("to_day", DataType::Date32),
        required("commit_seq", DataType::Int64),
        required("registry_revision", DataType::Int64),
        text("rules_hash"),
        text("program"),
        text("inputs"),
        text("outputs"),
        required("rows_read", DataType::Int64),
        required("rows", DataType::Int64),
        required("partitions", DataType::Int32),
        required("partitions_changed", DataType::Int32),
        time("started_at"),
        required("duration_ms", DataType::Int64),
        text("summary"),
        maybe("today", DataType::Date32),
        maybe("events", DataType::Int64),
        maybe("output_hash", DataType::Utf8),
        text(MONTH),
    ];
    spec("job_runs", fields, &[MONTH], &["started_at", "run_id"])
}

/// All tables of this crate.
pub fn all() -> [TableSpec; 17] {
    [
        usage_spans(),
        usage_days(),
        usage_anchors(),
        usage_progress(),
        findings(),
        check_findings(),
        billing_runs(),
        billing_reads(),
        billing_determinants(),
        billing_events(),
        billing_items(),
        billing_corrections(),
        alerts(),
        alert_events(),
        profiles(),
        completeness(),
        job_runs(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_names_only_columns_that_it_has_and_ends_with_its_partitions() {
        for spec in all() {
            for column in spec.sort_by.iter().chain(spec.partition_by) {
                assert!(spec.schema.column_with_name(column).is_some(), "{} has no {column}", spec.name);
            }
            let last: Vec<_> = spec.schema.fields().iter().rev().take(spec.partition_by.len()).collect();
            for (field, name) in last.iter().rev().zip(spec.partition_by) {
                assert_eq!(field.name(), name, "{}", spec.name);
            }
        }
    }
}
