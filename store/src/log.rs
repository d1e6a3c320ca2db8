//! The Delta log of one table: its state in memory, brought up to date commit by commit, and the one way to commit.
//!
//! deltalake replays the log with its checkpoints when a table is opened. From there on commits are read as they
//! appear, one small file each, and written by conditional put. A commit names itself, so that after any error the log
//! tells whether it was written: nothing is ever written again blindly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::StreamExt;
use meterlake_model::Timestamp;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde_json::json;
use uuid::Uuid;

use crate::actions::{Action, Add, Metadata, Protocol, Remove, Transaction, decode, decode_path, encode};
use crate::error::StoreError;
use crate::lake::check_spec;
use crate::lease::{Guard, Role};
use crate::place::Place;
use crate::table::{DataFile, JOURNAL_APP, SORT_BY_PROPERTY, TableSnapshot, TableSpec, maintenance_app};
use crate::{delta_schema, stats};

/// The application transaction that carries the registry's revision.
pub(crate) const REGISTRY_APP: &str = "meterlake/registry";
/// Names of files that this program wrote begin with one of these; their statistics are exact.
pub(crate) const OWN_PREFIXES: [&str; 4] = ["fresh-", "merged-", "closed-", "whole-"];
/// The key in a commit's information by which it is known again.
const COMMIT_KEY: &str = "meterlakeCommit";
/// Another writer may win this many times in a row before we give up.
const ATTEMPTS: usize = 20;

/// What one commit does.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// For people: `WRITE`, `OPTIMIZE` and the like.
    pub(crate) operation: &'static str,
    pub(crate) add: Vec<DataFile>,
    pub(crate) remove: Vec<String>,
    /// Whether the rows change, or only where they lie.
    pub(crate) data_change: bool,
    pub(crate) transaction: Option<AppStep>,
    /// The table's description anew, with more columns.
    pub(crate) metadata: Option<Box<Metadata>>,
    /// As whom it is made, where its transaction does not tell: to keep out whoever was that before.
    pub(crate) fence: Option<Role>,
}

impl Change {
    /// As whom it is made.
    fn role(&self, table: &str) -> Option<Role> {
        self.fence.or_else(|| match &self.transaction {
            Some(step) if step.app == JOURNAL_APP => Some(Role::Collector),
            Some(step) if step.app == maintenance_app(table) => Some(Role::Maintenance),
            _ => None,
        })
    }
}

/// An application transaction that must still be where its writer saw it.
#[derive(Debug, Clone)]
pub(crate) struct AppStep {
    pub(crate) app: String,
    pub(crate) before: Option<i64>,
    pub(crate) after: i64,
}

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
        let (state, metadata) = load(&log_store, table).await?;
        Ok(Self {
            store: log_store.object_store(None),
            log_store,
            guard: guard.clone(),
            state,
            metadata,
            confirmed: -1,
        })
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

    /// Adds the columns that the table lacks, by a commit that touches no file.
    ///
    /// # Errors
    /// `Foreign` when it cannot grow into the specification.
    pub(crate) async fn grow(&mut self, spec: &TableSpec) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let missing = check_spec(spec, &self.state)?;
            if missing.is_empty() {
                return Ok(());
            }
            let schema = delta_schema::grown(&self.state.schema, &self.state.partition_by, missing);
            let schema_string = delta_schema::to_delta(spec.name, &schema)?;
            let metadata = Some(Box::new(Metadata { schema_string, ..self.metadata.clone() }));
            match self.commit(&Change { operation: "ADD COLUMNS", metadata, ..Change::default() }).await {
                // Another program added columns at the same time: both stay.
                Err(StoreError::Conflict { .. }) => {}
                done => return done.map(drop),
            }
        }
        Err(self.conflict(format!("{ATTEMPTS} times in a row")))
    }

    /// Commits a change against the newest state.
    ///
    /// # Errors
    /// `Conflict` when the transaction moved or a file to be removed is gone: nothing was written. After any other
    /// error nothing was written either, as far as the log tells; load and compare before the next attempt.
    pub(crate) async fn commit(&mut self, change: &Change) -> Result<i64, StoreError> {
        self.guard.prove().await?;
        let id = Uuid::new_v4();
        for _ in 0..ATTEMPTS {
            if self.catch_up(Some(id)).await? {
                return Ok(self.state.version);
            }
            let fence = self.fence(change)?;
            self.check(change)?;
            let actions = self.actions(change, fence, id);
            let bytes = encode(&actions).map_err(|e| StoreError::rows(&self.state.name, e.to_string()))?;
            let path = commit_path(self.state.version + 1);
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path, bytes.into(), create).await {
                Ok(_) => {
                    self.apply(&actions)?;
                    self.confirmed = self.state.version;
                    return Ok(self.state.version);
                }
                // Another's, or our own from an attempt inside the store: the next round tells.
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(source) => {
                    if self.catch_up(Some(id)).await? {
                        return Ok(self.state.version);
                    }
                    return Err(StoreError::storage(format!("commit {}/{path}", self.state.name), source));
                }
            }
        }
        Err(self.conflict(format!("{ATTEMPTS} times in a row")))
    }

    fn conflict(&self, reason: String) -> StoreError {
        StoreError::Conflict { table: self.state.name.clone(), reason }
    }

    /// Keeps out whoever was the owner before; gives the application transaction that does so from here on.
    fn fence(&self, change: &Change) -> Result<Option<(String, i64)>, StoreError> {
        let Some(role) = change.role(&self.state.name) else { return Ok(None) };
        let app = role.app();
        let found = self.state.transactions.get(&app).copied();
        let epoch = self.guard.epoch(&self.state.name, role, found)?;
        Ok(epoch.filter(|epoch| found != Some(*epoch)).map(|epoch| (app, epoch)))
    }

    /// Whether this process may write as the role now, going by what was read of the log last.
    pub(crate) fn check_owner(&self, role: Role) -> Result<(), StoreError> {
        self.fence(&Change { fence: Some(role), ..Change::default() }).map(drop)
    }

    /// Keeps every earlier owner of the role out of this table, from this commit on.
    ///
    /// # Errors
    /// `Refused` when this process is not the owner; `Lost` when another became it.
    pub(crate) async fn keep_out_others(&mut self, role: Role) -> Result<(), StoreError> {
        let change = Change { operation: "FENCE", fence: Some(role), ..Change::default() };
        self.refresh().await?;
        if self.fence(&change)?.is_some() {
            self.commit(&change).await?;
        }
        Ok(())
    }

    fn check(&self, change: &Change) -> Result<(), StoreError> {
        if let Some(step) = &change.transaction {
            let now = self.state.transactions.get(&step.app).copied();
            if now != step.before {
                let (app, before) = (&step.app, step.before);
                return Err(self.conflict(format!("{app} is at {now:?} instead of {before:?}")));
            }
        }
        if let Some(metadata) = &change.metadata {
            let schema = delta_schema::from_delta(&metadata.schema_string);
            let grows = schema.and_then(|schema| delta_schema::check_growth(&self.state.schema, &schema));
            grows.map_err(|reason| self.conflict(reason))?;
        }
        let live = |path: &String| self.state.files.binary_search_by(|f| f.path.cmp(path)).is_ok();
        if let Some(gone) = change.remove.iter().find(|path| !live(path)) {
            return Err(self.conflict(format!("file {gone} is no longer in the table")));
        }
        if let Some(twice) = change.add.iter().find(|file| live(&file.path)) {
            return Err(StoreError::refused(&self.state.name, format!("file {} is in it already", twice.path)));
        }
        Ok(())
    }

    fn actions(&self, change: &Change, fence: Option<(String, i64)>, id: Uuid) -> Vec<Action> {
        let now_ms = Timestamp::now().micros().div_euclid(1000);
        let mut actions = vec![commit_info(change.operation, id, now_ms)];
        let steps = change.transaction.iter().map(|step| (step.app.clone(), step.after));
        actions.extend(
            steps.chain(fence).map(|(app_id, version)| {
                Action::Transaction(Transaction { app_id, version, last_updated: Some(now_ms) })
            }),
        );
        actions.extend(change.metadata.iter().cloned().map(Action::Metadata));
        let removed = self.state.files.iter().filter(|file| change.remove.contains(&file.path));
        actions.extend(removed.map(|file| {
            Action::Remove(Box::new(Remove {
                path: file.path.clone(),
                deletion_timestamp: Some(now_ms),
                data_change: change.data_change,
                extended_file_metadata: Some(true),
                partition_values: Some(file.partition.iter().cloned().collect()),
                size: Some(file.size),
            }))
        }));
        actions.extend(change.add.iter().map(|file| {
            Action::Add(Box::new(Add {
                path: file.path.clone(),
                partition_values: file.partition.iter().cloned().collect(),
                size: file.size,
                modification_time: now_ms,
                data_change: change.data_change,
                stats: Some(stats::to_json(file.rows, &file.columns)),
                deletion_vector: None,
            }))
        }));
        actions
    }
}

fn log_store(place: &Place, table: &str) -> Result<LogStoreRef, StoreError> {
    let (root, url) = (place.store().clone(), place.table_url(table)?);
    let table = Arc::new(PrefixStore::new(root.clone(), place.key(table)?));
    Ok(default_logstore(table, root, &url, &StorageConfig::default()))
}

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

fn is_commit(actions: &[Action], id: Uuid) -> bool {
    let id = id.to_string();
    actions.iter().any(|action| match action {
        Action::CommitInfo(info) => info.get(COMMIT_KEY).and_then(|v| v.as_str()) == Some(&id),
        _ => false,
    })
}

fn commit_info(operation: &str, id: Uuid, now_ms: i64) -> Action {
    Action::CommitInfo(json!({
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {},
        "engineInfo": concat!("meterlake/", env!("CARGO_PKG_VERSION")),
        (COMMIT_KEY): id.to_string(),
    }))
}

fn first_commit(spec: &TableSpec) -> Result<Vec<Action>, StoreError> {
    let now_ms = Timestamp::now().micros().div_euclid(1000);
    let id = Uuid::new_v4();
    let metadata = Metadata {
        id: id.to_string(),
        name: Some(spec.name.to_owned()),
        description: None,
        format: json!({"provider": "parquet", "options": {}}),
        schema_string: delta_schema::to_delta(spec.name, &spec.schema)?,
        partition_columns: spec.partition_by.iter().map(|c| (*c).to_owned()).collect(),
        configuration: BTreeMap::from([(SORT_BY_PROPERTY.to_owned(), spec.sort_by.join(","))]),
        created_time: Some(now_ms),
    };
    Ok(vec![
        commit_info("CREATE TABLE", id, now_ms),
        Action::Protocol(Protocol { min_reader_version: 1, min_writer_version: 2 }),
        Action::Metadata(Box::new(metadata)),
    ])
}

/// Replays the whole log.
async fn load(log_store: &LogStoreRef, table: &str) -> Result<(TableSnapshot, Metadata), StoreError> {
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
    if reader > 1 || writer > 2 {
        let reason =
            format!("it asks for reader {reader} and writer {writer} of the protocol, this program has 1 and 2");
        return Err(StoreError::foreign(table, reason));
    }
    let version = i64::try_from(snapshot.version()).unwrap_or(i64::MAX);
    // Replay passes over an empty last commit in silence; reading it here does not.
    read_commit(&log_store.object_store(None), table, version).await?;

    let metadata = serde_json::to_value(snapshot.metadata()).and_then(serde_json::from_value::<Metadata>);
    let metadata = metadata.map_err(|e| StoreError::foreign(table, format!("its metadata cannot be read: {e}")))?;
    let mut state = TableSnapshot {
        name: table.to_owned(),
        schema: SchemaRef::new(snapshot.arrow_schema().as_ref().clone()),
        partition_by: metadata.partition_columns.clone(),
        sort_by: sort_by(metadata.configuration.get(SORT_BY_PROPERTY)),
        version,
        files: Vec::new(),
        transactions: HashMap::new(),
    };
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

fn sort_by(property: Option<&String>) -> Vec<String> {
    property.map(|names| names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect()).unwrap_or_default()
}

fn data_file(table: &str, state: &TableSnapshot, add: &Add) -> Result<DataFile, StoreError> {
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
