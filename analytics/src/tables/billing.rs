//! The tables of bills: determinants and reads of each cycle, what people did, what went out, and the ledger.

use arrow::datatypes::{DataType, Field};
use meterlake_store::TableSpec;
use meterlake_store::schema::{MONTH, instant, maybe, required, spec, text, time};

use super::{AMOUNT, BUCKET};

/// One row a run: all cycles of one commodity that begin in one civil month. Totals by channel are in the reads.
pub fn billing_runs() -> TableSpec {
    let fields = vec![
        text("run"),
        text("channel"),
        required("reads", DataType::Int64),
        required("ready", DataType::Int64),
        required("held", DataType::Int64),
        required("use_amount", AMOUNT),
        required("estimated", AMOUNT),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("billing_runs", fields, &[MONTH, BUCKET], &["run", "channel"])
}

/// Determinants of one usage point, channel and cycle.
pub fn billing_reads() -> TableSpec {
    let fields = vec![
        text("run"),
        text("usage_point_id"),
        text("channel"),
        maybe("customer_id", DataType::Utf8),
        required("first_day", DataType::Date32),
        required("last_day", DataType::Date32),
        time("start"),
        time("end"),
        maybe("start_read_at", instant()),
        maybe("start_register", AMOUNT),
        maybe("start_quality", DataType::Utf8),
        maybe("end_read_at", instant()),
        maybe("end_register", AMOUNT),
        maybe("end_quality", DataType::Utf8),
        maybe("use_amount", AMOUNT),
        required("estimated", AMOUNT),
        required("estimated_share_ppm", DataType::Int64),
        required("covered_s", DataType::Int64),
        required("days", DataType::Int32),
        required("days_covered", DataType::Int32),
        text("state"),
        text("reasons"),
        text("parts"),
        maybe("facts", DataType::Utf8),
        maybe("basis", DataType::Utf8),
        maybe("end_evidence", DataType::Utf8),
        maybe("context", DataType::Utf8),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("billing_reads", fields, &[MONTH, BUCKET], &["usage_point_id", "channel", "start"])
}

/// What a bill needs of one usage point and cycle besides its reads: one row a part of a configured determinant. The key
/// of an item is (usage_point_id, determinant, part, first_day). `value` is null where it is not known; `held` says whether a
/// note speaks against a bill. `at_start` and `at_end` are of a window or slot within the cycle.
pub fn billing_determinants() -> TableSpec {
    let fields = vec![
        text("usage_point_id"),
        text("determinant"),
        text("part"),
        text("kind"),
        required("first_day", DataType::Date32),
        required("last_day", DataType::Date32),
        time("start"),
        time("end"),
        maybe("value", AMOUNT),
        text("unit"),
        text("quality"),
        required("estimated_share_ppm", DataType::Int64),
        maybe("at_start", instant()),
        maybe("at_end", instant()),
        required("held", DataType::Boolean),
        text("notes"),
        text(MONTH),
        required(BUCKET, DataType::Int32),
    ];
    spec("billing_determinants", fields, &[MONTH, BUCKET], &["usage_point_id", "determinant", "part", "start"])
}

/// What people did to bills and edits, and what was posted: rows are only ever added. `seq` is their order.
pub fn billing_events() -> TableSpec {
    let fields = vec![
        required("seq", DataType::Int64),
        time("at"),
        text("person"),
        text("kind"),
        maybe("run", DataType::Utf8),
        maybe("usage_point_id", DataType::Utf8),
        maybe("channel", DataType::Utf8),
        maybe("first_day", DataType::Date32),
        maybe("last_day", DataType::Date32),
        maybe("value", AMOUNT),
        maybe("number", DataType::Int64),
        maybe("covers", DataType::Utf8),
        maybe("note", DataType::Utf8),
        text(MONTH),
    ];
    spec("billing_events", fields, &[MONTH], &["seq"])
}

/// The lists that went out: `kind` is `bill` for what is billed for the first time, or `correction`. Rows are only ever
/// added, and count once event `posting` is there.
pub fn billing_items() -> TableSpec {
    let mut fields = vec![required("number", DataType::Int64), required("posting", DataType::Int64), text("kind")];
    fields.extend(item_key());
    fields.extend([
        text("unit"),
        maybe("old", AMOUNT),
        required("value", AMOUNT),
        required("delta", AMOUNT),
        text("quality"),
        required("estimated", AMOUNT),
        text("cause"),
        required("first_seq", DataType::Int32),
        required("last_seq", DataType::Int32),
        text("run_id"),
        text(MONTH),
    ]);
    spec("billing_items", fields, &[MONTH], &["number", "usage_point_id", "determinant", "part", "first_seq"])
}

/// The ledger: what was issued of each item (`seq` 0), and each later change with its cause. The sum of `delta` is the
/// present value. Rows are only ever added, and count once event `posting` is there.
pub fn billing_corrections() -> TableSpec {
    let mut fields = item_key().to_vec();
    fields.extend([
        required("seq", DataType::Int32),
        text("cause"),
        maybe("old", AMOUNT),
        required("new", AMOUNT),
        required("delta", AMOUNT),
        text("unit"),
        required("is_register", DataType::Boolean),
        text("quality"),
        text("basis"),
        text("context"),
        text("run_id"),
        required("posting", DataType::Int64),
        text(MONTH),
    ]);
    spec("billing_corrections", fields, &[MONTH], &["usage_point_id", "determinant", "part", "first_day", "seq"])
}

/// What an item is.
fn item_key() -> [Field; 6] {
    [
        text("run"),
        text("usage_point_id"),
        text("determinant"),
        text("part"),
        required("first_day", DataType::Date32),
        required("last_day", DataType::Date32),
    ]
}
