//! Holds: periods that must stay, whatever retention says, with who said so and why. They block erasures too.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use meterlake_model::{Commodity, Timestamp};
use uuid::Uuid;

use super::sift::all_rows;
use super::subject::SubjectKind;
use crate::error::StoreError;
use crate::lake::Lake;
use crate::schema::{instant, maybe, spec, text, time};
use crate::table::TableSpec;

const NAME: &str = "holds";

/// The table of holds, released ones too.
pub fn holds_table() -> TableSpec {
    let fields = vec![
        text("hold_id"),
        maybe("table", DataType::Utf8),
        maybe("commodity", DataType::Utf8),
        maybe("subject_kind", DataType::Utf8),
        maybe("subject_id", DataType::Utf8),
        maybe("from", instant()),
        maybe("to", instant()),
        text("reason"),
        text("who"),
        time("placed_at"),
        maybe("released_at", instant()),
        maybe("released_by", DataType::Utf8),
    ];
    spec(NAME, fields, &[], &["placed_at", "hold_id"])
}

/// What must stay. What is `None` does not narrow it: a hold of nothing but a reason keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name; given when it is placed.
    pub id: String,
    /// One table.
    pub table: Option<String>,
    /// One commodity.
    pub commodity: Option<Commodity>,
    /// One meter, usage point or customer.
    pub subject: Option<(SubjectKind, String)>,
    /// From this instant on.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub who: String,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When and by whom it was released.
    pub released: Option<(Timestamp, String)>,
}

impl Hold {
    /// Whether it still keeps something.
    pub fn is_active(&self) -> bool {
        self.released.is_none()
    }

    /// What it keeps, in words.
    pub fn scope(&self) -> String {
        let mut parts = vec![self.table.clone().unwrap_or_else(|| "every table".to_owned())];
        parts.extend(self.commodity.map(|c| c.as_str().to_owned()));
        parts.extend(self.subject.as_ref().map(|(kind, id)| format!("{kind} {id}")));
        parts.extend(self.from.map(|t| format!("from {t}")));
        parts.extend(self.to.map(|t| format!("to {t}")));
        parts.join(", ")
    }
}

impl Lake {
    /// Places a hold and gives its id, such as `h-3f9a0c12`. Whatever `id`, `placed_at` and `released` say is passed over.
    ///
    /// # Errors
    /// `Refused` without a reason, a person, or a period that ends after it begins.
    pub async fn place_hold(&self, hold: &Hold, now: Timestamp) -> Result<String, StoreError> {
        let bad = |reason: &str| Err(StoreError::refused(NAME, reason));
        if hold.reason.trim().is_empty() || hold.who.trim().is_empty() {
            return bad("a hold says why, and who placed it");
        }
        if hold.from.zip(hold.to).is_some_and(|(from, to)| from >= to) {
            return bad("a hold's period must end after it begins");
        }
        let id = format!("h-{:.8}", Uuid::new_v4().simple().to_string());
        self.add_row(&Hold { id: id.clone(), placed_at: now, released: None, ..hold.clone() }).await?;
        Ok(id)
    }

    /// Releases a hold; it stays listed.
    ///
    /// # Errors
    /// `Refused` when there is none of this id, or it was released before.
    pub async fn release_hold(&self, id: &str, who: &str, now: Timestamp) -> Result<Hold, StoreError> {
        let mut holds = self.holds().await?;
        let found = holds.iter_mut().find(|h| h.id == id);
        let Some(hold) = found else { return Err(StoreError::refused(NAME, format!("there is no hold {id}"))) };
        if let Some((at, by)) = &hold.released {
            return Err(StoreError::refused(NAME, format!("{id} was released by {by} at {at}")));
        }
        if who.trim().is_empty() {
            return Err(StoreError::refused(NAME, "who releases it must be said"));
        }
        hold.released = Some((now, who.to_owned()));
        let released = hold.clone();
        self.add_row(&released).await?;
        Ok(released)
    }

    /// All holds in the order in which they were placed.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        let mut holds: BTreeMap<(Timestamp, String), Hold> = BTreeMap::new();
        for batch in all_rows(self, NAME).await? {
            for row in 0..batch.num_rows() {
                let hold =
                    read(&batch, row).ok_or_else(|| StoreError::foreign(NAME, format!("row {row} is no hold")))?;
                // A release is one more row; what is there is never written again, so that none is lost to another's.
                let known = holds.entry((hold.placed_at, hold.id.clone())).or_insert_with(|| hold.clone());
                if known.is_active() {
                    *known = hold;
                }
            }
        }
        Ok(holds.into_values().collect())
    }

    async fn add_row(&self, hold: &Hold) -> Result<(), StoreError> {
        let (spec, holds) = (holds_table(), [hold]);
        let texts = |of: &dyn Fn(&Hold) -> Option<String>| -> ArrayRef {
            Arc::new(holds.iter().map(|h| of(h)).collect::<StringArray>())
        };
        let instants = |of: &dyn Fn(&Hold) -> Option<Timestamp>| -> ArrayRef {
            let values: TimestampMicrosecondArray = holds.iter().map(|h| of(h).map(Timestamp::micros)).collect();
            Arc::new(values.with_timezone("UTC"))
        };
        let columns = vec![
            texts(&|h| Some(h.id.clone())),
            texts(&|h| h.table.clone()),
            texts(&|h| h.commodity.map(|c| c.as_str().to_owned())),
            texts(&|h| h.subject.as_ref().map(|s| s.0.as_str().to_owned())),
            texts(&|h| h.subject.as_ref().map(|s| s.1.clone())),
            instants(&|h| h.from),
            instants(&|h| h.to),
            texts(&|h| Some(h.reason.clone())),
            texts(&|h| Some(h.who.clone())),
            instants(&|h| Some(h.placed_at)),
            instants(&|h| h.released.as_ref().map(|r| r.0)),
            texts(&|h| h.released.as_ref().map(|r| r.1.clone())),
        ];
        let batch = RecordBatch::try_new(spec.schema.clone(), columns);
        let batch = batch.map_err(|source| StoreError::arrow(NAME, source))?;
        self.append(&spec, vec![batch]).await.map(drop)
    }
}

fn read(batch: &RecordBatch, row: usize) -> Option<Hold> {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let instant = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        if column.is_valid(row) { Timestamp::from_micros(column.value(row)).ok() } else { None }
    };
    let subject = match (text("subject_kind"), text("subject_id")) {
        (Some(kind), Some(id)) => Some((SubjectKind::parse(&kind)?, id)),
        _ => None,
    };
    let commodity = match text("commodity") {
        Some(name) => Some(Commodity::parse(&name)?),
        None => None,
    };
    Some(Hold {
        id: text("hold_id")?,
        table: text("table"),
        commodity,
        subject,
        from: instant("from"),
        to: instant("to"),
        reason: text("reason")?,
        who: text("who")?,
        placed_at: instant("placed_at")?,
        released: instant("released_at").zip(text("released_by")),
    })
}
