//! The Delta log of one table: its state in memory, brought up to date commit by commit, and the one way to commit.
//!
//! A table is opened by its last checkpoint; where that is not to be had, deltalake replays the log. From there on commits are
//! read as they appear, one small file each, and written by conditional put. A commit names itself, so that after any error the log
//! tells whether it was written: nothing is ever written again blindly.
//!
//! | file | module |
//! |---|---|
//! | a commit, from what it is to do to its lines | `commit` |
//! | the last checkpoint, where a table is taken up | `checkpoint` |
//! | what else is read of the log | `replay` |

mod checkpoint;
mod commit;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use uuid::Uuid;

use self::checkpoint::begin;
pub(crate) use self::checkpoint::last_checkpoint;
pub(crate) use self::commit::{AppStep, Change};
use self::commit::{first_commit, is_commit};
use self::replay::{commit_path, data_file, load, sort_by};
pub(crate) use self::replay::{load_at, read_commit};
use crate::actions::{Action, Metadata, decode_path, encode};
use crate::delta_schema;
use crate::error::StoreError;
use crate::lease::Guard;
use crate::place::Place;
use crate::table::{DataFile, SORT_BY_PROPERTY, TableSnapshot, TableSpec};

/// The application transaction that carries the registry's revision.
pub(crate) const REGISTRY_APP: &str = "meterlake/registry";
/// Names of files that this program wrote begin with one of these; their statistics are exact.
pub(crate) const OWN_PREFIXES: [&str; 4] = ["fresh-", "merged-", "closed-", "whole-"];

/// One table's log.
#[derive(Debug)]
pub(crate) struct Log {
    store: Arc<dyn ObjectStore>,
    log_store: LogStoreRef,
    guard: Arc<Guard>,
    state: TableSnapshot,
    /// As the log has it, so that nothing of it is lost when the schema grows.
    metadata: Metadata,
    /// The newest version that the store told us is written: it and all before it are durable.
    confirmed: i64,
}

impl Log {
    /// Opens a table of the place.
    pub(crate) async fn open(place: &Place, guard: &Arc<Guard>, table: &str) -> Result<Self, StoreError> {
        let log_store = log_store(place, table)?;
        if let Ok(Some(log)) = Self::open_at_checkpoint(&log_store, guard, table).await {
            return Ok(log);
        }
        // Whatever stood in the way, the whole replay gets past it or tells of it.
        let begun = load(&log_store, table).await?;
        Ok(Self::new(log_store, guard.clone(), begun))
    }

    /// `None` when the log has a form that is not ours, or when a checkpoint came while it was read.
    async fn open_at_checkpoint(
        log_store: &LogStoreRef,
        guard: &Arc<Guard>,
        table: &str,
    ) -> Result<Option<Self>, StoreError> {
        let store = log_store.object_store(None);
        let hint = last_checkpoint(&store, table).await?;
        let Some(begun) = begin(&store, table, hint.as_ref()).await? else { return Ok(None) };
        let mut log = Self::new(log_store.clone(), guard.clone(), begun);
        log.refresh().await?;
        // Only commits that a newer checkpoint covers are ever removed: without one, the first that is missing is the end.
        let still = last_checkpoint(&store, table).await? == hint;
        Ok(still.then_some(log))
    }

    fn new(log_store: LogStoreRef, guard: Arc<Guard>, (state, metadata): (TableSnapshot, Metadata)) -> Self {
        Self { store: log_store.object_store(None), log_store, guard, state, metadata, confirmed: -1 }
    }

    /// Creates the table, unless another process does so at the same time, and opens it.
    pub(crate) async fn create(place: &Place, guard: &Arc<Guard>, spec: &TableSpec) -> Result<Self, StoreError> {
        let table = spec.name;
        let store = log_store(place, table)?.object_store(None);
        let bytes = encode(&first_commit(spec)?).map_err(|e| StoreError::rows(table, e.to_string()))?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&commit_path(0), bytes.into(), create).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Self::open(place, guard, table).await,
            Err(source) => Err(StoreError::storage(format!("create table {table}"), source)),
        }
    }

    /// The state as of the last [`Self::refresh`] or commit.
    pub(crate) fn state(&self) -> &TableSnapshot {
        &self.state
    }

    /// Whether the state is durable for certain. What was read, or found after an error, may be in memory only.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed == self.state.version
    }

    /// The objects of the table, relative to its root.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn log_store(&self) -> &LogStoreRef {
        &self.log_store
    }

    /// Takes in what others committed.
    pub(crate) async fn refresh(&mut self) -> Result<(), StoreError> {
        self.catch_up(None).await.map(drop)
    }

    /// Reads all newer commits; tells whether the one of this id is among them.
    async fn catch_up(&mut self, id: Option<Uuid>) -> Result<bool, StoreError> {
        let mut seen = false;
        loop {
            let next = self.state.version + 1;
            let Some(actions) = self.read_commit(next).await? else { break };
            seen |= id.is_some_and(|id| is_commit(&actions, id));
            self.apply(&actions)?;
        }
        // A clean-up removes old commits. If ours is gone then newer ones may be, and their absence says nothing.
        let current = commit_path(self.state.version);
        match self.store.head(&current).await {
            Ok(_) => Ok(seen),
            Err(object_store::Error::NotFound { .. }) => {
                (self.state, self.metadata) = load(&self.log_store, &self.state.name).await?;
                Ok(seen)
            }
            Err(source) => Err(StoreError::storage(format!("look at {}/{current}", self.state.name), source)),
        }
    }

    async fn read_commit(&self, version: i64) -> Result<Option<Vec<Action>>, StoreError> {
        let table = &self.state.name;
        read_commit(&self.store, table, version).await
    }

    fn apply(&mut self, actions: &[Action]) -> Result<(), StoreError> {
        let table = self.state.name.clone();
        let mut files: BTreeMap<String, DataFile> =
            std::mem::take(&mut self.state.files).into_iter().map(|f| (f.path.clone(), f)).collect();
        let mut outcome = Ok(());
        for action in actions {
            match action {
                Action::Add(add) => match data_file(&table, &self.state, add) {
                    Ok(file) => drop(files.insert(file.path.clone(), file)),
                    Err(e) => outcome = Err(e),
                },
                Action::Remove(remove) => {
                    let path = decode_path(&remove.path).unwrap_or_else(|| remove.path.clone());
                    files.remove(&path);
                }
                Action::Transaction(t) => drop(self.state.transactions.insert(t.app_id.clone(), t.version)),
                Action::Metadata(metadata) => {
                    if let Err(reason) = self.take_in(metadata) {
                        let reason = format!("it was changed while it was open: {reason}; start this program again");
                        outcome = Err(StoreError::foreign(&table, reason));
                    }
                }
                Action::Protocol(_) => {
                    let reason = "its protocol was changed while it was open; start this program again";
                    outcome = Err(StoreError::foreign(&table, reason));
                }
                Action::CommitInfo(_) => {}
            }
        }
        self.state.files = files.into_values().collect();
        if outcome.is_ok() {
            self.state.version += 1;
        }
        outcome
    }

    /// Takes in that another program, or ours, added columns. Any other change asks for a fresh look at everything.
    fn take_in(&mut self, metadata: &Metadata) -> Result<(), String> {
        let schema = delta_schema::from_delta(&metadata.schema_string)?;
        delta_schema::check_growth(&self.state.schema, &schema)?;
        if metadata.partition_columns != self.state.partition_by {
            return Err(format!("it is partitioned by {:?}", metadata.partition_columns));
        }
        if sort_by(metadata.configuration.get(SORT_BY_PROPERTY)) != self.state.sort_by {
            return Err("it is sorted otherwise".to_owned());
        }
        self.state.schema = SchemaRef::new(schema);
        self.metadata = metadata.clone();
        Ok(())
    }
}

fn log_store(place: &Place, table: &str) -> Result<LogStoreRef, StoreError> {
    let (root, url) = (place.store().clone(), place.table_url(table)?);
    let table = Arc::new(PrefixStore::new(root.clone(), place.key(table)?));
    Ok(default_logstore(table, root, &url, &StorageConfig::default()))
}
