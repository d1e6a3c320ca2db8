//! A meter or a customer taken out of every table, with a tombstone that says so and names nobody.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use meterlake_model::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::holds::Hold;
use super::retention::subjects_of;
use super::sift::{Sieve, Sifted, Touch, all_rows, sift};
use super::subject::{Subject, SubjectKind};
use crate::compact::upkeep::force_checkpoint;
use crate::error::StoreError;
use crate::lake::Lake;
use crate::registry::registry_tables;
use crate::schema::{instant, maybe, required, spec, text, time};
use crate::table::{DataFile, TableSnapshot, TableSpec};

const NAME: &str = "erasures";

/// Who was erased, when, and what times their rows were of: by a salted hash, so that it names nobody.
pub fn erasures_table() -> TableSpec {
    let fields = vec![
        text("erasure_id"),
        text("subject_kind"),
        text("salt"),
        text("hash"),
        time("erased_at"),
        maybe("from", instant()),
        maybe("to", instant()),
        required("rows", DataType::Int64),
        text("reason"),
        text("who"),
    ];
    spec(NAME, fields, &[], &["erased_at", "erasure_id"])
}

/// One tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its name.
    pub id: String,
    /// What was erased.
    pub kind: SubjectKind,
    salt: String,
    hash: String,
    /// When.
    pub erased_at: Timestamp,
    /// The first time of the erased rows.
    pub from: Option<Timestamp>,
    /// Their last time.
    pub to: Option<Timestamp>,
    /// How many rows.
    pub rows: u64,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub who: String,
}

impl Erasure {
    /// Whether it is of this subject.
    pub fn is_of(&self, kind: SubjectKind, id: &str) -> bool {
        self.kind == kind && self.hash == salted(&self.salt, kind, id)
    }
}

fn salted(salt: &str, kind: SubjectKind, id: &str) -> String {
    Sha256::digest(format!("{salt}|{kind}|{id}")).iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Rows of one table that go with rows of another: `from_table`'s `id` is `to_table`'s `reference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasureLink {
    /// The table that names the subject.
    pub from_table: &'static str,
    /// Its key.
    pub id: &'static str,
    /// The table that names the first one's rows.
    pub to_table: &'static str,
    /// The column that does.
    pub reference: &'static str,
}

/// What an erasure goes by.
#[derive(Debug, Clone)]
pub struct EraseOptions {
    /// Why, for the tombstone.
    pub reason: String,
    /// Who said so.
    pub who: String,
    /// The present.
    pub now: Timestamp,
    /// Active holds forbid it.
    pub holds: Vec<Hold>,
    /// Tables that name other tables' rows.
    pub links: Vec<ErasureLink>,
    /// Say what would be done and change nothing.
    pub dry: bool,
}

/// What was taken out of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The table.
    pub table: String,
    /// Rows that are gone.
    pub rows: u64,
    /// Rows that stay and no longer name the subject.
    pub edited: u64,
    /// Files that left or were written anew.
    pub files: usize,
    /// Bytes that they had.
    pub bytes: u64,
}

/// What an erasure did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseReport {
    /// Its tombstone's name; empty for a dry run.
    pub id: String,
    /// Tables that had something of the subject.
    pub tables: Vec<Erased>,
    /// Meters whose rows went with it.
    pub meters: BTreeSet<String>,
    /// Places that were others' too: their data stay.
    pub shared_points: BTreeSet<String>,
    /// First and last time of the rows.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl EraseReport {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.rows + t.edited).sum()
    }
}

impl Lake {
    /// Takes a subject's rows out of every table and leaves a tombstone. Old files, the log and the journal hold them
    /// until they are cut or their time is over.
    ///
    /// # Errors
    /// `Refused` when a hold keeps something of it, or nothing of it is known; `Conflict` when another process rewrote a
    /// table meanwhile. Tables that were done stay done: calling again goes on.
    pub async fn erase(&self, subject: &Subject, options: &EraseOptions) -> Result<EraseReport, StoreError> {
        self.refuse_held(subject, &options.holds).await?;
        let registry: BTreeSet<&str> = registry_tables().iter().map(|spec| spec.name).collect();
        let mut names = self.tables().await?;
        names.retain(|name| name != NAME && name != super::holds_table().name);
        // What is named before what names it; the registry last, which tells what belongs to the subject.
        names.sort_by_key(|name| (registry.contains(name.as_str()), options.links.iter().any(|l| l.to_table == name)));
        let mut report = EraseReport {
            id: String::new(),
            tables: Vec::new(),
            meters: subject.meters.clone(),
            shared_points: subject.shared_points.clone(),
            span: None,
        };
        let mut linked: Vec<(ErasureLink, BTreeSet<String>)> =
            options.links.iter().map(|link| (*link, BTreeSet::new())).collect();
        let mut found = Vec::new();
        for table in names {
            let mut sieve = Own { table: &table, subject, linked: &mut linked, span: None };
            let done = sift(self, &table, &mut sieve, true).await?;
            let span = sieve.span;
            if done.is_empty() {
                continue;
            }
            report.span = widest(report.span, span);
            report.tables.push(erased(&table, done));
            found.push(table);
        }
        found.sort_by_key(|name| (registry.contains(name.as_str()), turn(name, &options.links)));
        let Some(last) = found.pop() else {
            let reason = format!("no table has anything of the {} {}", subject.kind, subject.id);
            return Err(StoreError::refused("(all)", reason));
        };
        if !options.dry {
            for table in found {
                self.take_out(&table, subject, &mut linked).await?;
            }
            // Before the last table: as long as none is written, a call that goes on finds something, and so writes one.
            report.id = self.bury(subject, options, &report).await?;
            self.take_out(&last, subject, &mut linked).await?;
        }
        Ok(report)
    }

    async fn take_out(
        &self,
        table: &str,
        subject: &Subject,
        linked: &mut Vec<(ErasureLink, BTreeSet<String>)>,
    ) -> Result<(), StoreError> {
        sift(self, table, &mut Own { table, subject, linked, span: None }, false).await?;
        // The statistics of the old files are in the log: from here on none is needed to read the table.
        force_checkpoint(&*self.locked(table).await?).await.map(drop)
    }

    async fn refuse_held(&self, subject: &Subject, holds: &[Hold]) -> Result<(), StoreError> {
        for (hold, held) in subjects_of(self, holds).await? {
            if held.is_none_or(|held| held.overlaps(subject)) {
                let reason = format!(
                    "hold {} keeps {} ({}, placed by {}): release it first, then erase",
                    hold.id,
                    hold.scope(),
                    hold.reason,
                    hold.who
                );
                return Err(StoreError::refused("(all)", reason));
            }
        }
        Ok(())
    }

    async fn bury(
        &self,
        subject: &Subject,
        options: &EraseOptions,
        report: &EraseReport,
    ) -> Result<String, StoreError> {
        let spec = erasures_table();
        let id = format!("e-{:.8}", Uuid::new_v4().simple().to_string());
        let salt = Uuid::new_v4().simple().to_string();
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
        let instant = |value: Option<Timestamp>| -> ArrayRef {
            let values = TimestampMicrosecondArray::from(vec![value.map(Timestamp::micros)]);
            Arc::new(values.with_timezone("UTC"))
        };
        let columns = vec![
            text(&id),
            text(subject.kind.as_str()),
            text(&salt),
            text(&salted(&salt, subject.kind, &subject.id)),
            instant(Some(options.now)),
            instant(report.span.map(|s| s.0)),
            instant(report.span.map(|s| s.1)),
            Arc::new(Int64Array::from(vec![i64::try_from(report.rows()).unwrap_or(i64::MAX)])),
            text(&options.reason),
            text(&options.who),
        ];
        let batch = RecordBatch::try_new(spec.schema.clone(), columns);
        let batch = batch.map_err(|source| StoreError::arrow(NAME, source))?;
        self.append(&spec, vec![batch]).await?;
        Ok(id)
    }

    /// All tombstones in the order of their erasures.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        let mut found = Vec::new();
        for batch in all_rows(self, NAME).await? {
            for row in 0..batch.num_rows() {
                let bad = || StoreError::foreign(NAME, format!("row {row} is no erasure"));
                found.push(read(&batch, row).ok_or_else(bad)?);
            }
        }
        found.sort_by_key(|e: &Erasure| e.erased_at);
        Ok(found)
    }
}

/// When a table is sifted, among those of its kind: as long as one is not, a call that goes on must find the rows that
/// are left in it.
fn turn(table: &str, links: &[ErasureLink]) -> u8 {
    match table {
        // It tells which meters were a customer's.
        "installations" => 2,
        // It tells which places.
        "usage_points" => 3,
        // Another table tells which of its rows.
        _ if links.iter().any(|link| link.to_table == table) => 0,
        _ => 1,
    }
}

fn erased(table: &str, done: Sifted) -> Erased {
    Erased {
        table: table.to_owned(),
        rows: done.rows,
        edited: done.edited,
        files: done.whole_files + done.rewritten_files,
        bytes: done.bytes,
    }
}

fn read(batch: &RecordBatch, row: usize) -> Option<Erasure> {
    let text = |name: &str| Some(batch.column_by_name(name)?.as_string_opt::<i32>()?.value(row).to_owned());
    let instant = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        if column.is_valid(row) { Timestamp::from_micros(column.value(row)).ok() } else { None }
    };
    Some(Erasure {
        id: text("erasure_id")?,
        kind: SubjectKind::parse(&text("subject_kind")?)?,
        salt: text("salt")?,
        hash: text("hash")?,
        erased_at: instant("erased_at")?,
        from: instant("from"),
        to: instant("to"),
        rows: u64::try_from(batch.column_by_name("rows")?.as_primitive_opt::<Int64Type>()?.value(row)).ok()?,
        reason: text("reason")?,
        who: text("who")?,
    })
}

fn widest(a: Option<(Timestamp, Timestamp)>, b: Option<(Timestamp, Timestamp)>) -> Option<(Timestamp, Timestamp)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// The subject's own rows, and those that name them.
struct Own<'a> {
    table: &'a str,
    subject: &'a Subject,
    linked: &'a mut Vec<(ErasureLink, BTreeSet<String>)>,
    span: Option<(Timestamp, Timestamp)>,
}

impl Own<'_> {
    fn is_customer_of_points(&self) -> bool {
        self.table == "usage_points" && self.subject.kind == SubjectKind::Customer
    }

    fn is_own_customer(&self, batch: &RecordBatch) -> Option<BooleanArray> {
        let customers = batch.column_by_name("customer_id")?.as_string_opt::<i32>()?;
        Some(customers.iter().map(|c| Some(c == Some(self.subject.id.as_str()))).collect())
    }
}

impl Sieve for Own<'_> {
    fn touch(&self, _state: &TableSnapshot, file: &DataFile) -> Touch {
        let named = self.linked.iter().any(|(link, ids)| link.to_table == self.table && !ids.is_empty());
        if named || self.subject.may_be_in(file) { Touch::Rows } else { Touch::No }
    }

    fn keep(&mut self, batch: &RecordBatch, file: &DataFile) -> Result<BooleanArray, StoreError> {
        let mut own = self.subject.rows(self.table, batch, file);
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).cloned();
        for (link, ids) in self.linked.iter_mut() {
            if link.to_table == self.table
                && let Some(references) = text(link.reference)
            {
                own = (own.iter().zip(references.iter()))
                    .map(|(own, reference)| Some(own == Some(true) || reference.is_some_and(|r| ids.contains(r))))
                    .collect();
            }
            if link.from_table == self.table
                && let Some(keys) = text(link.id)
            {
                let gone = own.iter().zip(keys.iter()).filter(|(own, _)| *own == Some(true));
                ids.extend(gone.filter_map(|(_, key)| key.map(str::to_owned)));
            }
        }
        if let Some(times) = batch.column_by_name("ts").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()) {
            let gone = own.iter().zip(times.iter()).filter(|(own, _)| *own == Some(true));
            for at in gone.filter_map(|(_, at)| Timestamp::from_micros(at?).ok()) {
                self.span = widest(self.span, Some((at, at)));
            }
        }
        Ok(own.iter().map(|own| Some(own != Some(true))).collect())
    }

    /// A place stays when its customer goes.
    fn edit(&self, batch: &RecordBatch) -> Result<Option<(RecordBatch, u64)>, StoreError> {
        if !self.is_customer_of_points() {
            return Ok(None);
        }
        let Some(own) = self.is_own_customer(batch).filter(|own| own.true_count() > 0) else { return Ok(None) };
        let wrap = |source| StoreError::arrow(self.table, source);
        let index = batch.schema_ref().index_of("customer_id").map_err(wrap)?;
        let mut columns = batch.columns().to_vec();
        columns[index] = nullif(&columns[index], &own).map_err(wrap)?;
        let edited = RecordBatch::try_new(batch.schema(), columns).map_err(wrap)?;
        Ok(Some((edited, own.true_count() as u64)))
    }
}
