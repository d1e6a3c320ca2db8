//! Configured determinants as items, out of the table `billing_determinants`.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_model::{Amount, Quality};

use crate::ledger::{Item, ItemKey};
use crate::runs::{Cycle, Unmet};
use crate::tables::read::{Rows, amount_at, day_at};

/// The table that holds them.
pub(crate) const TABLE: &str = "billing_determinants";

/// What a bill has of them.
#[derive(Default)]
pub(crate) struct Figures {
    /// Those that are known.
    pub(crate) items: Vec<Item>,
    /// Those that speak against the bill.
    pub(crate) held: Vec<Unmet>,
}

/// Figures of a run by usage point and cycle.
pub(crate) type ByBill = BTreeMap<(String, Cycle), Figures>;

/// Reads the items of a run.
pub(crate) async fn of_run(session: &SessionContext, run: &str) -> Result<ByBill, DataFusionError> {
    let mut found = ByBill::new();
    let sql = format!(
        "SELECT * FROM {TABLE} WHERE month = '{}' ORDER BY usage_point_id, determinant, part",
        run.replace('\'', "")
    );
    for batch in session.sql(&sql).await?.collect().await? {
        take(&batch, &mut found)?;
    }
    Ok(found)
}

/// Adds rows of the table.
pub(crate) fn take(batch: &RecordBatch, found: &mut ByBill) -> Result<(), DataFusionError> {
    for (item, known, held) in items(batch)? {
        let cycle = Cycle { first_day: item.key.first_day, end_day: item.key.end_day };
        let figures = found.entry((item.key.usage_point_id.clone(), cycle)).or_default();
        figures.held.extend(held);
        figures.items.extend(known.then_some(item));
    }
    Ok(())
}

/// Items, whether each is known, and what holds the bill.
fn items(batch: &RecordBatch) -> Result<Vec<(Item, bool, Option<Unmet>)>, DataFusionError> {
    let rows = Rows(batch);
    let (point, determinant, part) = (rows.text("usage_point_id")?, rows.text("determinant")?, rows.text("part")?);
    let (first, last, value) = (rows.day("first_day")?, rows.day("last_day")?, rows.amount("value")?);
    let (unit, quality) = (rows.text("unit")?, rows.text("quality")?);
    let (share, held, notes) = (rows.long("estimated_share_ppm")?, rows.flag("held")?, rows.text("notes")?);
    let mut found = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let value = amount_at(value, row)?;
        let hold = held.value(row).then(|| Unmet {
            code: "determinant".to_owned(),
            subject: format!("{}/{}", determinant.at(row), part.at(row)),
            detail: format!("{} {}: {}", determinant.at(row), part.at(row), notes.at(row)),
        });
        let known = value.is_some();
        let value = value.unwrap_or_default();
        let item = Item {
            key: ItemKey {
                usage_point_id: point.at(row).to_owned(),
                determinant: determinant.at(row).to_owned(),
                part: part.at(row).to_owned(),
                first_day: day_at(first, row)?,
                end_day: day_at(last, row)?.plus_days(1),
            },
            value,
            unit: unit.at(row).to_owned(),
            is_register: false,
            quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Valid),
            estimated: value.proportion(share.value(row), 1_000_000).unwrap_or(Amount::ZERO),
            basis: String::new(),
        };
        found.push((item, known, hold));
    }
    Ok(found)
}
