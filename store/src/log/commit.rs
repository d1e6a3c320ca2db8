//! A commit: what it is to do, whether it still may, and its lines.

use std::collections::BTreeMap;

use meterlake_model::Timestamp;
use object_store::{PutMode, PutOptions};
use serde_json::json;
use uuid::Uuid;

use super::Log;
use super::replay::commit_path;
use crate::actions::{Action, Add, Metadata, Protocol, Remove, Transaction, encode};
use crate::error::StoreError;
use crate::lake::check_spec;
use crate::lease::Role;
use crate::table::{DataFile, JOURNAL_APP, SORT_BY_PROPERTY, TableSpec, maintenance_app};
use crate::{delta_schema, stats};

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

impl Log {
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

pub(super) fn is_commit(actions: &[Action], id: Uuid) -> bool {
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

pub(super) fn first_commit(spec: &TableSpec) -> Result<Vec<Action>, StoreError> {
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
