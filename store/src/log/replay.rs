//! What is read of the log: a commit, and the state that all of it adds up to.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::LogStoreRef;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::json;

use super::{OWN_PREFIXES, REGISTRY_APP};
use crate::actions::{Action, Add, Metadata, decode, decode_path};
use crate::error::StoreError;
use crate::lease::Role;
use crate::stats;
use crate::table::{DataFile, JOURNAL_APP, SORT_BY_PROPERTY, TableSnapshot, maintenance_app};

/// Versions of the protocol that this program has.
pub(super) const READER: i32 = 1;
pub(super) const WRITER: i32 = 2;

/// Where a commit is, relative to its table.
pub(crate) fn commit_path(version: i64) -> Path {
    Path::from(format!("_delta_log/{version:020}.json"))
}

/// The lines of one commit; `None` when there is no such commit, or no more.
pub(crate) async fn read_commit(
    store: &Arc<dyn ObjectStore>,
    table: &str,
    version: i64,
) -> Result<Option<Vec<Action>>, StoreError> {
    let path = commit_path(version);
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => Err(source),
    };
    let bytes = bytes.map_err(|source| StoreError::storage(format!("read {table}/{path}"), source))?;
    let actions = decode(&bytes).map_err(|reason| StoreError::foreign(table, format!("commit {path} {reason}")))?;
    Ok(Some(actions))
}

/// Replays the whole log.
pub(super) async fn load(log_store: &LogStoreRef, table: &str) -> Result<(TableSnapshot, Metadata), StoreError> {
    load_version(log_store, table, None).await
}

/// Replays the log up to a version.
pub(crate) async fn load_at(log_store: &LogStoreRef, table: &str, version: i64) -> Result<TableSnapshot, StoreError> {
    let none = |_| StoreError::refused(table, format!("there is no version {version}"));
    let (found, _) = load_version(log_store, table, Some(u64::try_from(version).map_err(none)?)).await?;
    Ok(found)
}

async fn load_version(
    log_store: &LogStoreRef,
    table: &str,
    version: Option<u64>,
) -> Result<(TableSnapshot, Metadata), StoreError> {
    let delta = |source| StoreError::delta(table, source);
    let snapshot = match EagerSnapshot::try_new(log_store.as_ref(), version).await {
        Ok(snapshot) => snapshot,
        Err(deltalake_core::DeltaTableError::NotATable(_)) => return Err(StoreError::NoTable(table.to_owned())),
        Err(source) => return Err(delta(source)),
    };
    let protocol = snapshot.protocol();
    let (reader, writer) = (protocol.min_reader_version(), protocol.min_writer_version());
    if reader > READER || writer > WRITER {
        let reason = format!(
            "it asks for reader {reader} and writer {writer} of the protocol, this program has {READER} and {WRITER}"
        );
        return Err(StoreError::foreign(table, reason));
    }
    let version = i64::try_from(snapshot.version()).unwrap_or(i64::MAX);
    // Replay passes over an empty last commit in silence; reading it here does not.
    read_commit(&log_store.object_store(None), table, version).await?;

    let metadata = serde_json::to_value(snapshot.metadata()).and_then(serde_json::from_value::<Metadata>);
    let metadata = metadata.map_err(|e| StoreError::foreign(table, format!("its metadata cannot be read: {e}")))?;
    let mut state = blank(table, snapshot.arrow_schema().as_ref().clone(), &metadata, version);
    let owners = Role::ALL.map(Role::app);
    for app in [JOURNAL_APP.to_owned(), REGISTRY_APP.to_owned(), maintenance_app(table)].into_iter().chain(owners) {
        if let Some(at) = snapshot.transaction_version(log_store.as_ref(), &app).await.map_err(delta)? {
            state.transactions.insert(app, at);
        }
    }
    let mut views = snapshot.file_views(log_store.as_ref(), None);
    while let Some(view) = views.next().await {
        let view = view.map_err(delta)?;
        let add = Add {
            path: view.path().into_owned(),
            partition_values: view.partition_values_map().into_iter().collect(),
            size: u64::try_from(view.size()).unwrap_or(0),
            modification_time: view.modification_time(),
            data_change: true,
            stats: view.stats(),
            deletion_vector: view.deletion_vector_descriptor().map(|_| json!({})),
        };
        state.files.push(data_file(table, &state, &add)?);
    }
    drop(views);
    state.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((state, metadata))
}

/// A table of which no file is known yet.
pub(super) fn blank(table: &str, schema: Schema, metadata: &Metadata, version: i64) -> TableSnapshot {
    TableSnapshot {
        name: table.to_owned(),
        schema: SchemaRef::new(schema),
        partition_by: metadata.partition_columns.clone(),
        sort_by: sort_by(metadata.configuration.get(SORT_BY_PROPERTY)),
        version,
        files: Vec::new(),
        transactions: HashMap::new(),
    }
}

pub(super) fn sort_by(property: Option<&String>) -> Vec<String> {
    property.map(|names| names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect()).unwrap_or_default()
}

pub(super) fn data_file(table: &str, state: &TableSnapshot, add: &Add) -> Result<DataFile, StoreError> {
    if add.deletion_vector.is_some() {
        return Err(StoreError::foreign(table, format!("file {} has a deletion vector", add.path)));
    }
    let path = decode_path(&add.path)
        .ok_or_else(|| StoreError::foreign(table, format!("path {} cannot be decoded", add.path)))?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let own = OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let (rows, columns) = add
        .stats
        .as_deref()
        .and_then(|text| stats::from_json(text, &state.schema, own))
        .ok_or_else(|| StoreError::foreign(table, format!("the log does not tell the rows of file {path}")))?;
    let partition = state
        .partition_by
        .iter()
        .map(|column| (column.clone(), add.partition_values.get(column).cloned().flatten()))
        .collect();
    Ok(DataFile { path, size: add.size, rows, partition, columns })
}
