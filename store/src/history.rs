//! When each commit of each table was made, kept for as long as the lake: what a question "as of then" stands on.
//!
//! The log tells it for its newest commits only, since its clean-up removes old ones. Before that happens their times
//! go into the table `commits`, one row a commit, so that any later reader can map a time to a commit exactly
//! (`docs/decisions/0010`).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use meterlake_model::Timestamp;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::actions::Action;
use crate::error::StoreError;
use crate::lake::{Lake, list_data};
use crate::log::{Log, REGISTRY_APP, load_at, read_commit};
use crate::read::pages_with;
use crate::schema::{maybe, required, spec, text, time};
use crate::table::{JOURNAL_APP, TableSnapshot, TableSpec};

/// Name of the table of commits.
pub const COMMITS: &str = "commits";

/// One commit of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitTime {
    pub(crate) version: i64,
    pub(crate) at: Timestamp,
    pub(crate) operation: String,
    /// The journal position up to which the table holds rows, where the commit moved it.
    pub(crate) commit_seq: Option<i64>,
    /// The same of the registry's revision.
    pub(crate) revision: Option<i64>,
}

/// The commits of a table, as the logs told them before their clean-up; key (table_name, version).
pub fn commits() -> TableSpec {
    let fields = vec![
        text("table_name"),
        required("version", DataType::Int64),
        time("committed_at"),
        text("operation"),
        maybe("commit_seq", DataType::Int64),
        maybe("revision", DataType::Int64),
    ];
    spec(COMMITS, fields, &[], &["table_name", "version"])
}

/// What stood in a table at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The table was not there yet.
    NotYet,
    /// This version of it.
    Version { version: i64, commit_seq: i64, revision: i64 },
}

/// What the commits around one moment tell, in whatever order they come.
#[derive(Debug)]
struct Around {
    moment: Timestamp,
    before: Option<i64>,
    after: Option<i64>,
    commit_seq: i64,
    revision: i64,
}

impl Around {
    fn new(moment: Timestamp) -> Self {
        Self { moment, before: None, after: None, commit_seq: 0, revision: 0 }
    }

    fn add(&mut self, commit: &CommitTime) {
        if commit.at > self.moment {
            self.after = Some(self.after.map_or(commit.version, |v| v.min(commit.version)));
            return;
        }
        self.before = self.before.max(Some(commit.version));
        self.commit_seq = self.commit_seq.max(commit.commit_seq.unwrap_or(0));
        self.revision = self.revision.max(commit.revision.unwrap_or(0));
    }

    /// `newest`: the table's present version.
    fn then(&self, table: &str, newest: i64) -> Result<Then, StoreError> {
        let moment = self.moment;
        match (self.before, self.after) {
            (None, Some(0)) => Ok(Then::NotYet),
            (Some(before), after) if after == Some(before + 1) || (after.is_none() && before == newest) => {
                Ok(Then::Version { version: before, commit_seq: self.commit_seq, revision: self.revision })
            }
            (Some(before), Some(after)) if after <= before => Err(StoreError::refused(
                table,
                format!(
                    "the clock was set back around {moment}: versions {after} to {before} may each have been the newest \
                     then; name a commit_seq instead"
                ),
            )),
            (_, Some(after)) => Err(StoreError::refused(
                table,
                format!(
                    "its log no longer tells of commits before version {after}; name a commit_seq instead of {moment}"
                ),
            )),
            (before, None) => {
                let told = before.map_or_else(|| "none".to_owned(), |version| format!("those up to {version}"));
                let reason = format!("of its commits up to version {newest} the log tells only {told}");
                Err(StoreError::refused(table, format!("{reason}; name a commit_seq instead of {moment}")))
            }
        }
    }
}

impl Lake {
    /// What stood in a table at one moment: the version that was its newest then.
    pub(crate) async fn then(&self, table: &str, moment: Timestamp) -> Result<Then, StoreError> {
        let mut around = Around::new(moment);
        let newest = self.each_commit(table, |commit| around.add(&commit)).await?;
        around.then(table, newest)
    }

    /// When a table first held the journal up to `commit_seq`; `None` when that is not told any more.
    pub(crate) async fn reached(&self, table: &str, commit_seq: i64) -> Result<Option<Timestamp>, StoreError> {
        let (mut first, mut at, mut below) = (i64::MAX, None, false);
        let look = |commit: CommitTime| {
            let behind = commit.commit_seq.is_none_or(|seq| seq < commit_seq);
            below |= commit.version == 0 || behind && commit.commit_seq.is_some();
            if !behind && commit.version < first {
                (first, at) = (commit.version, Some(commit.at));
            }
        };
        self.each_commit(table, look).await?;
        Ok(at.filter(|_| below))
    }

    /// The table as it was at one moment, for readers.
    ///
    /// # Errors
    /// `Refused` when its log or its files of then are not kept any more.
    pub(crate) async fn snapshot_of(&self, table: &str, moment: Timestamp) -> Result<TableSnapshot, StoreError> {
        let log = self.locked(table).await?;
        let (log_store, now) = (log.log_store().clone(), log.state().clone());
        drop(log);
        let version = match self.then(table, moment).await? {
            Then::NotYet => return Ok(TableSnapshot { version: -1, files: Vec::new(), ..now }),
            Then::Version { version, .. } if version == now.version => return Ok(now),
            Then::Version { version, .. } => version,
        };
        let gone = |why: String| {
            let reason = format!("version {version}, its newest at {moment}, cannot be read any more: {why}");
            StoreError::refused(table, reason)
        };
        let found = load_at(&log_store, table, version).await.map_err(|e| gone(e.to_string()))?;
        let log = self.locked(table).await?;
        let there: BTreeSet<String> = list_data(&log).await?.into_iter().map(|o| o.location.into()).collect();
        drop(log);
        match found.files.iter().find(|file| !there.contains(&file.path)) {
            Some(file) => Err(gone(format!("file {} was removed after it left the table", file.path))),
            None => Ok(found),
        }
    }

    /// Puts the times of a table's commits where the clean-up of its log does not reach. To be called before it.
    pub(crate) async fn remember_commits(&self, log: &Log) -> Result<(), StoreError> {
        let table = log.state().name.as_str();
        if table == COMMITS {
            return Ok(());
        }
        let mut last = -1;
        self.each_remembered(table, &mut |commit| last = last.max(commit.version)).await?;
        let mut found = Vec::new();
        each_logged(log, last, &mut |commit| found.push(commit)).await?;
        if found.is_empty() {
            return Ok(());
        }
        let rows = rows(table, &found).map_err(|source| StoreError::arrow(COMMITS, source))?;
        self.append(&commits(), vec![rows]).await.map(drop)
    }

    /// All commits of a table that are told of; those in both places come once. Gives the table's present version.
    async fn each_commit(&self, table: &str, mut take: impl FnMut(CommitTime)) -> Result<i64, StoreError> {
        let mut last = -1;
        let mut both = |commit: CommitTime| {
            last = last.max(commit.version);
            take(commit);
        };
        self.each_remembered(table, &mut both).await?;
        let mut log = self.locked(table).await?;
        log.refresh().await?;
        each_logged(&log, last, &mut take).await?;
        Ok(log.state().version)
    }

    async fn each_remembered(&self, table: &str, take: &mut impl FnMut(CommitTime)) -> Result<(), StoreError> {
        let mut log = match self.locked(COMMITS).await {
            Ok(log) => log,
            Err(StoreError::NoTable(_)) => return Ok(()),
            Err(e) => return Err(e),
        };
        log.refresh().await?;
        let columns = ["table_name", "version", "committed_at", "operation", "commit_seq", "revision"];
        for file in &log.state().files {
            let mut rows = pages_with(&log, file, "table_name", &BTreeSet::from([table]), &columns).await?;
            let wrap = |source| StoreError::parquet(COMMITS, &file.path, source);
            while let Some(batch) = rows.try_next().await.map_err(wrap)? {
                of_rows(table, &batch, take)?;
            }
        }
        Ok(())
    }
}

/// The commits behind `last` that the log itself still tells of, in order.
async fn each_logged(log: &Log, last: i64, take: &mut impl FnMut(CommitTime)) -> Result<(), StoreError> {
    let table = &log.state().name;
    let prefix = Path::from("_delta_log");
    let objects: Result<Vec<_>, _> = log.store().list(Some(&prefix)).try_collect().await;
    let objects = objects.map_err(|source| StoreError::storage(format!("list the log of {table}"), source))?;
    let version = |name: Option<&str>| name?.strip_suffix(".json")?.parse::<i64>().ok();
    let versions: BTreeSet<i64> = objects.iter().filter_map(|o| version(o.location.filename())).collect();
    for version in versions.into_iter().filter(|v| (last + 1..=log.state().version).contains(v)) {
        if let Some(actions) = read_commit(log.store(), table, version).await?
            && let Some(commit) = commit_time(version, &actions)
        {
            take(commit);
        }
    }
    Ok(())
}

/// `None` when the commit does not say when it was made: another program's may not.
fn commit_time(version: i64, actions: &[Action]) -> Option<CommitTime> {
    let (mut made, mut commit_seq, mut revision) = (None, None, None);
    for action in actions {
        match action {
            Action::CommitInfo(info) => {
                let at = info.get("timestamp")?.as_i64()?.checked_mul(1000)?;
                let operation = info.get("operation").and_then(|o| o.as_str()).unwrap_or_default();
                made = Some((Timestamp::from_micros(at).ok()?, operation.to_owned()));
            }
            Action::Transaction(t) if t.app_id == JOURNAL_APP => commit_seq = Some(t.version),
            Action::Transaction(t) if t.app_id == REGISTRY_APP => revision = Some(t.version),
            _ => {}
        }
    }
    let (at, operation) = made?;
    Some(CommitTime { version, at, operation, commit_seq, revision })
}

fn rows(table: &str, commits: &[CommitTime]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(commits.iter().map(|_| table))),
        Arc::new(Int64Array::from_iter_values(commits.iter().map(|c| c.version))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(commits.iter().map(|c| c.at.micros())).with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter_values(commits.iter().map(|c| c.operation.as_str()))),
        Arc::new(Int64Array::from_iter(commits.iter().map(|c| c.commit_seq))),
        Arc::new(Int64Array::from_iter(commits.iter().map(|c| c.revision))),
    ];
    RecordBatch::try_new(self::commits().schema, columns)
}

fn of_rows(table: &str, batch: &RecordBatch, take: &mut impl FnMut(CommitTime)) -> Result<(), StoreError> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.ok_or_else(|| StoreError::foreign(COMMITS, format!("a file lacks the column {name}")))
    };
    let tables = column("table_name")?.as_string::<i32>();
    let versions = column("version")?.as_primitive::<Int64Type>();
    let times = column("committed_at")?.as_primitive::<TimestampMicrosecondType>();
    let operations = column("operation")?.as_string::<i32>();
    let positions = column("commit_seq")?.as_primitive::<Int64Type>();
    let revisions = column("revision")?.as_primitive::<Int64Type>();
    for row in (0..batch.num_rows()).filter(|row| tables.value(*row) == table) {
        let at = Timestamp::from_micros(times.value(row)).map_err(|e| StoreError::foreign(COMMITS, e.to_string()))?;
        take(CommitTime {
            version: versions.value(row),
            at,
            operation: operations.value(row).to_owned(),
            commit_seq: positions.is_valid(row).then(|| positions.value(row)),
            revision: revisions.is_valid(row).then(|| revisions.value(row)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(commits: &[(i64, i64)], newest: i64, moment: i64) -> Result<Then, StoreError> {
        let at = |s| Timestamp::from_unix_seconds(s).unwrap();
        let mut around = Around::new(at(moment));
        for (version, seconds) in commits {
            let (version, at) = (*version, at(*seconds));
            let commit_seq = (version > 0).then_some(version * 10);
            around.add(&CommitTime { version, at, operation: "WRITE".into(), commit_seq, revision: None });
        }
        around.then("t", newest)
    }

    #[test]
    fn a_moment_has_the_newest_commit_that_was_made_by_then() {
        let commits = [(0, 100), (1, 200), (2, 300)];
        let version = |version| Then::Version { version, commit_seq: version * 10, revision: 0 };
        for (moment, expected) in
            [(99, Then::NotYet), (100, version(0)), (299, version(1)), (300, version(2)), (9999, version(2))]
        {
            assert_eq!(around(&commits, 2, moment).unwrap(), expected, "at {moment}");
        }
    }

    #[test]
    fn rule_11_a_moment_that_the_commits_do_not_tell_is_refused_with_the_reason() {
        let refused = |commits: &[(i64, i64)], newest, moment| around(commits, newest, moment).unwrap_err().to_string();
        // The log was cleaned by someone who kept no times.
        assert!(refused(&[(7, 100)], 7, 99).contains("before version 7"));
        assert!(refused(&[(0, 100), (1, 200), (7, 700)], 7, 300).contains("before version 7"));
        assert!(refused(&[(0, 100), (1, 200)], 7, 300).contains("those up to 1;"));
        // Set back by 150 s between the second and the third: between 150 and 200 two answers are right.
        let back = [(0, 100), (1, 200), (2, 150), (3, 300)];
        assert!(refused(&back, 3, 160).contains("set back"));
        assert!(around(&back, 3, 140).is_ok() && around(&back, 3, 200).is_ok());
    }
}
