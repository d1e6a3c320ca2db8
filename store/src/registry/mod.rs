//! The registry as tables: every import that differs is a whole new revision, and readers take one revision whole.
//!
//! All six tables get the revision as their application transaction, `usage_points` last: a revision exists once it is
//! there. An import that died half-way leaves rows of a revision that never existed; its number is not used again.

mod rows;
mod specs;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use meterlake_model::registry::Registry;
use parquet::file::metadata::PageIndexPolicy;

use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::log::{AppStep, Change, REGISTRY_APP};
use crate::parquet_file::{Effort, FileWriter};
use crate::read;
use crate::table::{DataFile, TableSpec};
use crate::write::{data_file, file_schema, hash};

pub use specs::{customers, installation_channels, installations, meters, network, registry_tables, usage_points};

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The revision that holds now.
    pub revision: i64,
    /// Whether it is new.
    pub changed: bool,
}

impl Lake {
    /// Writes the whole registry as a new revision, unless it equals the present one.
    ///
    /// # Errors
    /// `Conflict` when another import ran at the same time; the registry is then that one's or as it was.
    pub async fn write_registry(&self, registry: &Registry) -> Result<Imported, StoreError> {
        for spec in registry_tables() {
            self.ensure(&spec).await?;
        }
        let present = self.read_registry(None).await?;
        let same = Registry { revision: present.revision, ..registry.clone() } == present;
        if same && present.revision > 0 {
            return Ok(Imported { revision: present.revision, changed: false });
        }
        let mut last = present.revision;
        for spec in registry_tables() {
            let found = self.snapshot(spec.name).await?;
            last = last.max(found.transactions.get(REGISTRY_APP).copied().unwrap_or(0));
        }
        let revision = last + 1;
        // The last in the list is the one that makes the revision exist.
        for spec in registry_tables() {
            let batch = rows::encode(&spec, registry, revision)?;
            self.write_revision(&spec, &batch, revision).await?;
        }
        Ok(Imported { revision, changed: true })
    }

    async fn write_revision(&self, spec: &TableSpec, batch: &RecordBatch, revision: i64) -> Result<(), StoreError> {
        let mut log = self.locked(spec.name).await?;
        log.refresh().await?;
        let before = log.state().transactions.get(REGISTRY_APP).copied();
        let transaction = Some(AppStep { app: REGISTRY_APP.to_owned(), before, after: revision });
        let mut change = Change { operation: "WRITE", data_change: true, transaction, ..Change::default() };
        if batch.num_rows() > 0 {
            let schema = file_schema(&spec.schema, spec.partition_by);
            let mut writer = FileWriter::new(spec.name, &schema, spec.sort_by, Effort::Closed)?;
            writer.write(batch)?;
            let file = writer.finish()?;
            let path = format!("fresh-{revision:020}-{}.parquet", hash(&file.bytes));
            put_file(&log, &path, file.bytes.clone()).await?;
            change.add.push(data_file(path, Vec::new(), file));
        }
        log.commit(&change).await.map(drop)
    }

    /// Reads one revision of the registry, or the newest. An empty one of revision 0 when nothing was imported.
    ///
    /// # Errors
    /// `Refused` when there is no such revision.
    pub async fn read_registry(&self, revision: Option<i64>) -> Result<Registry, StoreError> {
        let marker = usage_points();
        let newest = match self.snapshot(marker.name).await {
            Ok(found) => found.transactions.get(REGISTRY_APP).copied().unwrap_or(0),
            Err(StoreError::NoTable(_)) => 0,
            Err(e) => return Err(e),
        };
        let revision = revision.unwrap_or(newest);
        if revision < 0 || revision > newest {
            let reason = format!("there is no revision {revision} of the registry, the newest is {newest}");
            return Err(StoreError::refused(marker.name, reason));
        }
        let mut registry = Registry { revision, ..Registry::default() };
        if revision > 0 {
            for spec in registry_tables() {
                self.ensure(&spec).await?;
                let batches = self.read_revision(&spec, revision).await?;
                rows::decode(&spec, &batches, &mut registry)?;
            }
            rows::leave_out_erased(&mut registry);
        }
        Ok(registry)
    }

    async fn read_revision(&self, spec: &TableSpec, revision: i64) -> Result<Vec<RecordBatch>, StoreError> {
        let state = self.snapshot(spec.name).await?;
        let store = self.locked(spec.name).await?.store().clone();
        let mut found = Vec::new();
        for file in state.files.iter().filter(|f| may_hold(f, revision)) {
            let builder = read::open(&store, &state, file, PageIndexPolicy::Skip).await?;
            let wrap = |source| StoreError::parquet(spec.name, &file.path, source);
            let batches: Vec<RecordBatch> = builder.build().map_err(wrap)?.try_collect().await.map_err(wrap)?;
            for batch in batches {
                found.push(of_revision(spec.name, &batch, revision)?);
            }
        }
        Ok(found)
    }
}

fn may_hold(file: &DataFile, revision: i64) -> bool {
    let bound = |value: Option<&ScalarValue>| match value {
        Some(ScalarValue::Int64(bound)) => *bound,
        _ => None,
    };
    bound(file.min("revision")).is_none_or(|low| low <= revision)
        && bound(file.max("revision")).is_none_or(|high| revision <= high)
}

fn of_revision(table: &str, batch: &RecordBatch, revision: i64) -> Result<RecordBatch, StoreError> {
    let column = batch.column_by_name("revision");
    let column = column.ok_or_else(|| StoreError::foreign(table, "a file lacks the column revision"))?;
    let wanted = column.as_primitive::<Int64Type>().iter().map(|r| Some(r == Some(revision))).collect();
    arrow::compute::filter_record_batch(batch, &wanted).map_err(|source| StoreError::arrow(table, source))
}
