//! Rows of the ledger and of lists that went out.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use meterlake_model::{Amount, Quality};
use meterlake_store::schema::MONTH;

use crate::ledger::{Cause, Context, ItemKey, Row};
use crate::tables;
use crate::tables::read::{Rows, amount_at, day_at};
use crate::tables::write::Columns;

/// Whether a list says a number for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// It does.
    Bill,
    /// It changes what was said.
    Correction,
}

impl ItemKind {
    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bill => "bill",
            Self::Correction => "correction",
        }
    }
}

/// One line of a list that went out: what a billing system is told. Lists are numbered and never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedItem {
    /// Number of the list.
    pub number: i64,
    /// The event that it belongs to.
    pub posting: i64,
    /// A bill or a correction.
    pub kind: ItemKind,
    /// The run, such as `2026-03`.
    pub run: String,
    /// Which number.
    pub key: ItemKey,
    /// Its unit.
    pub unit: String,
    /// What was said before; `None` for a bill.
    pub old: Option<Amount>,
    /// What it is now.
    pub value: Amount,
    /// The difference.
    pub delta: Amount,
    /// How sure the value is.
    pub quality: Quality,
    /// What of it is estimated; for corrections nothing is said.
    pub estimated: Amount,
    /// Why it changed: the causes of its rows, each once, with `+` between.
    pub cause: String,
    /// The first row of the ledger that it tells of.
    pub first_seq: i32,
    /// The last one.
    pub last_seq: i32,
    /// The run that gave the value.
    pub run_id: String,
}

/// A row of the ledger with what the tables hold beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerRow {
    pub(crate) run: String,
    pub(crate) key: ItemKey,
    pub(crate) unit: String,
    pub(crate) is_register: bool,
    pub(crate) posting: i64,
    pub(crate) row: Row,
}

fn keys<'a>(c: &mut Columns, keys: impl Iterator<Item = (&'a str, &'a ItemKey)> + Clone) {
    c.text("run", keys.clone().map(|(run, _)| run));
    c.text("usage_point_id", keys.clone().map(|(_, k)| k.usage_point_id.as_str()));
    c.text("determinant", keys.clone().map(|(_, k)| k.determinant.as_str()));
    c.text("part", keys.clone().map(|(_, k)| k.part.as_str()));
    c.day("first_day", keys.clone().map(|(_, k)| k.first_day));
    c.day("last_day", keys.clone().map(|(_, k)| k.end_day.plus_days(-1)));
    c.text(MONTH, keys.map(|(run, _)| run));
}

/// Rows of `billing_corrections`, with their partitions: the month of the run.
pub(super) fn ledger(rows: &[LedgerRow]) -> Result<RecordBatch, ArrowError> {
    let mut c = Columns::default();
    keys(&mut c, rows.iter().map(|r| (r.run.as_str(), &r.key)));
    c.int("seq", rows.iter().map(|r| Some(r.row.seq)));
    c.text("cause", rows.iter().map(|r| r.row.cause.as_str()));
    c.amount("old", rows.iter().map(|r| r.row.old));
    c.amount("new", rows.iter().map(|r| Some(r.row.new)));
    c.amount("delta", rows.iter().map(|r| Some(r.row.delta)));
    c.text("unit", rows.iter().map(|r| &r.unit));
    c.flag("is_register", rows.iter().map(|r| r.is_register));
    c.text("quality", rows.iter().map(|r| r.row.quality.as_str()));
    c.text("basis", rows.iter().map(|r| &r.row.basis));
    c.text("context", rows.iter().map(|r| r.row.context.to_line()));
    c.text("run_id", rows.iter().map(|r| &r.row.run_id));
    c.long("posting", rows.iter().map(|r| r.posting));
    c.batch(&tables::billing_corrections())
}

/// Rows of `billing_items`, with their partitions.
pub(super) fn listed(rows: &[ListedItem]) -> Result<RecordBatch, ArrowError> {
    let mut c = Columns::default();
    keys(&mut c, rows.iter().map(|r| (r.run.as_str(), &r.key)));
    c.long("number", rows.iter().map(|r| r.number));
    c.long("posting", rows.iter().map(|r| r.posting));
    c.text("kind", rows.iter().map(|r| r.kind.as_str()));
    c.text("unit", rows.iter().map(|r| &r.unit));
    c.amount("old", rows.iter().map(|r| r.old));
    c.amount("value", rows.iter().map(|r| Some(r.value)));
    c.amount("delta", rows.iter().map(|r| Some(r.delta)));
    c.text("quality", rows.iter().map(|r| r.quality.as_str()));
    c.amount("estimated", rows.iter().map(|r| Some(r.estimated)));
    c.text("cause", rows.iter().map(|r| &r.cause));
    c.int("first_seq", rows.iter().map(|r| Some(r.first_seq)));
    c.int("last_seq", rows.iter().map(|r| Some(r.last_seq)));
    c.text("run_id", rows.iter().map(|r| &r.run_id));
    c.batch(&tables::billing_items())
}

type Read<T> = Result<Vec<T>, DataFusionError>;

fn read_keys(rows: &Rows<'_>) -> Read<(String, ItemKey)> {
    let (run, point) = (rows.text("run")?, rows.text("usage_point_id")?);
    let (determinant, part) = (rows.text("determinant")?, rows.text("part")?);
    let (first, last) = (rows.day("first_day")?, rows.day("last_day")?);
    let key = |row: usize| -> Result<ItemKey, DataFusionError> {
        Ok(ItemKey {
            usage_point_id: point.at(row).to_owned(),
            determinant: determinant.at(row).to_owned(),
            part: part.at(row).to_owned(),
            first_day: day_at(first, row)?,
            end_day: day_at(last, row)?.plus_days(1),
        })
    };
    (0..rows.len()).map(|row| Ok((run.at(row).to_owned(), key(row)?))).collect()
}

/// Reads [`ledger`] back.
pub(super) fn read_ledger(batch: &RecordBatch) -> Read<LedgerRow> {
    let rows = Rows(batch);
    let (seq, cause, posting) = (rows.int("seq")?, rows.text("cause")?, rows.long("posting")?);
    let (old, new, delta) = (rows.amount("old")?, rows.amount("new")?, rows.amount("delta")?);
    let (unit, is_register, quality) = (rows.text("unit")?, rows.flag("is_register")?, rows.text("quality")?);
    let (basis, context, run_id) = (rows.text("basis")?, rows.text("context")?, rows.text("run_id")?);
    let mut found = Vec::with_capacity(rows.len());
    for (row, (run, key)) in read_keys(&rows)?.into_iter().enumerate() {
        found.push(LedgerRow {
            run,
            key,
            unit: unit.at(row).to_owned(),
            is_register: is_register.value(row),
            posting: posting.value(row),
            row: Row {
                seq: seq.value(row),
                cause: Cause::parse(cause.at(row)).unwrap_or(Cause::LateRead),
                old: amount_at(old, row)?,
                new: amount_at(new, row)?.unwrap_or_default(),
                delta: amount_at(delta, row)?.unwrap_or_default(),
                quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
                basis: basis.at(row).to_owned(),
                context: Context::parse(context.at(row)),
                run_id: run_id.at(row).to_owned(),
            },
        });
    }
    Ok(found)
}

/// Reads [`listed`] back.
pub(super) fn read_listed(batch: &RecordBatch) -> Read<ListedItem> {
    let rows = Rows(batch);
    let (number, posting, kind) = (rows.long("number")?, rows.long("posting")?, rows.text("kind")?);
    let (unit, cause, run_id) = (rows.text("unit")?, rows.text("cause")?, rows.text("run_id")?);
    let (old, value, delta) = (rows.amount("old")?, rows.amount("value")?, rows.amount("delta")?);
    let (quality, estimated) = (rows.text("quality")?, rows.amount("estimated")?);
    let (first, last) = (rows.int("first_seq")?, rows.int("last_seq")?);
    let mut found = Vec::with_capacity(rows.len());
    for (row, (run, key)) in read_keys(&rows)?.into_iter().enumerate() {
        found.push(ListedItem {
            number: number.value(row),
            posting: posting.value(row),
            kind: if kind.at(row) == "bill" { ItemKind::Bill } else { ItemKind::Correction },
            run,
            key,
            unit: unit.at(row).to_owned(),
            old: amount_at(old, row)?,
            value: amount_at(value, row)?.unwrap_or_default(),
            delta: amount_at(delta, row)?.unwrap_or_default(),
            quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
            estimated: amount_at(estimated, row)?.unwrap_or_default(),
            cause: cause.at(row).to_owned(),
            first_seq: first.value(row),
            last_seq: last.value(row),
            run_id: run_id.at(row).to_owned(),
        });
    }
    Ok(found)
}
