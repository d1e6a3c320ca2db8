//! The quick way to a table's present: its last checkpoint, from which commits are read one by one.
//!
//! deltalake's replay lists the log and looks at every file that ever left the table within a week, of which a table that is
//! committed to each minute has ten thousand. Of a checkpoint only what the table is now is read here. A log of another form
//! is left to deltalake.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, is_not_null, or};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::replay::{READER, WRITER, blank, data_file, read_commit};
use crate::actions::{Action, Metadata, decode};
use crate::delta_schema;
use crate::error::StoreError;
use crate::table::TableSnapshot;

/// What a table is now, of the columns of a checkpoint: what left it is not read.
const PRESENT: [&str; 9] = [
    "txn",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.dataChange",
    "add.stats",
    "metaData",
    "protocol",
];

/// What a log says of its last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hint {
    /// -1 when the hint is damaged, which only costs time.
    pub(crate) version: i64,
    /// Of a checkpoint in several files.
    #[serde(default)]
    parts: Option<i64>,
    /// Of a checkpoint of another form.
    #[serde(default)]
    v2_checkpoint: Option<Value>,
}

impl Hint {
    const DAMAGED: Self = Self { version: -1, parts: Some(0), v2_checkpoint: None };
}

/// The last checkpoint; `None` before the first one.
pub(crate) async fn last_checkpoint(store: &dyn ObjectStore, table: &str) -> Result<Option<Hint>, StoreError> {
    let path = Path::from("_delta_log/_last_checkpoint");
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => Err(source),
    };
    let bytes = bytes.map_err(|source| StoreError::storage(format!("read {table}/{path}"), source))?;
    Ok(Some(serde_json::from_slice(&bytes).unwrap_or(Hint::DAMAGED)))
}

/// The table as of a checkpoint, or as of its first commit where there is none yet. `None` when the log has another form.
pub(super) async fn begin(
    store: &Arc<dyn ObjectStore>,
    table: &str,
    hint: Option<&Hint>,
) -> Result<Option<(TableSnapshot, Metadata)>, StoreError> {
    let (version, actions) = match hint {
        None => (0, read_commit(store, table, 0).await?.unwrap_or_default()),
        Some(Hint { version, parts: None, v2_checkpoint: None }) => {
            let path = Path::from(format!("_delta_log/{version:020}.checkpoint.parquet"));
            let storage = |source| StoreError::storage(format!("read {table}/{path}"), source);
            let bytes = store.get(&path).await.map_err(storage)?.bytes().await.map_err(storage)?;
            let actions = actions_of(bytes).map_err(|e| StoreError::foreign(table, format!("{path} {e}")))?;
            (*version, actions)
        }
        Some(_) => return Ok(None),
    };
    let supported = actions.iter().any(|action| {
        matches!(action, Action::Protocol(p) if p.min_reader_version <= READER && p.min_writer_version <= WRITER)
    });
    let metadata = actions.iter().find_map(|action| match action {
        Action::Metadata(metadata) => Some(metadata.as_ref().clone()),
        _ => None,
    });
    let Some(metadata) = metadata.filter(|_| supported) else { return Ok(None) };
    let Ok(schema) = delta_schema::from_delta(&metadata.schema_string) else { return Ok(None) };
    let mut state = blank(table, schema, &metadata, version);
    for action in actions {
        match action {
            Action::Add(add) => {
                let file = data_file(table, &state, &add)?;
                state.files.push(file);
            }
            Action::Transaction(step) => drop(state.transactions.insert(step.app_id, step.version)),
            _ => {}
        }
    }
    state.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some((state, metadata)))
}

/// The rows of a checkpoint that tell what the table is: the lines of a commit, in columns.
fn actions_of(bytes: Bytes) -> Result<Vec<Action>, String> {
    let text = |e: &dyn std::error::Error| format!("cannot be read: {e}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| text(&e))?;
    let mask = ProjectionMask::columns(reader.parquet_schema(), PRESENT);
    let mut lines = arrow::json::LineDelimitedWriter::new(Vec::new());
    for batch in reader.with_projection(mask).build().map_err(|e| text(&e))? {
        let batch = batch.map_err(|e| text(&e))?;
        lines.write(&present(&batch).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
    }
    lines.finish().map_err(|e| text(&e))?;
    decode(&lines.into_inner())
}

/// The rows that have something of the table as it is.
fn present(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let none = BooleanArray::from(vec![false; batch.num_rows()]);
    let any = batch.columns().iter().try_fold(none, |any, column| or(&any, &is_not_null(column)?))?;
    filter_record_batch(batch, &any)
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;

    use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp};

    use super::*;
    use crate::commit::Committer;
    use crate::compact::CompactOptions;
    use crate::lake::Lake;
    use crate::log::Log;
    use crate::log::replay::load;

    const TABLE: &str = "electricity_readings";

    struct Site {
        dir: tempfile::TempDir,
        lake: Lake,
        committer: Committer,
        sent: i64,
    }

    impl Site {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let lake = Lake::open(dir.path()).unwrap();
            let committer = Committer::open(&lake).await.unwrap();
            Self { dir, lake, committer, sent: 0 }
        }

        fn log(&self) -> std::path::PathBuf {
            self.dir.path().join(TABLE).join("_delta_log")
        }

        /// One reading each, ten to a day.
        async fn commits(&mut self, count: i64) {
            for _ in 0..count {
                let ts = Timestamp::from_unix_seconds(1_793_491_200 + self.sent * 8640).unwrap();
                let header = RowHeader {
                    meter_id: MeterId::new("m-1").unwrap(),
                    ts,
                    received_at_s: ts.unix_seconds(),
                    source: "test".into(),
                    profile: "test@1".into(),
                    flags: ReadingFlags::NONE,
                };
                let mut batch = ReadingBatch::default();
                let energy = Channel::by_name("energy_import_kwh").unwrap();
                batch.rows_mut(Commodity::Electricity).push(header, &[(energy, self.sent)]);
                self.sent += 1;
                self.committer.push(self.sent.cast_unsigned(), Arc::new(batch));
                self.committer.flush().await.unwrap();
            }
        }

        /// The table as it opens quickly, if it does.
        async fn quick(&self) -> Option<Log> {
            let log = self.lake.locked(TABLE).await.unwrap();
            Log::open_at_checkpoint(&log.log_store, &log.guard, TABLE).await.unwrap()
        }

        /// Whether the table opens quickly; if so, as deltalake has it from the whole log.
        async fn is_quick(&self) -> bool {
            let Some(quick) = self.quick().await else { return false };
            let (whole, metadata) = load(&quick.log_store, TABLE).await.unwrap();
            assert_eq!((quick.state.version, &quick.state.files), (whole.version, &whole.files));
            assert_eq!(quick.state.schema, whole.schema);
            assert_eq!((&quick.state.partition_by, &quick.state.sort_by), (&whole.partition_by, &whole.sort_by));
            for (app, version) in &whole.transactions {
                assert_eq!(quick.state.transactions.get(app), Some(version), "{app}");
            }
            let text = |metadata: &Metadata| serde_json::to_string(metadata).unwrap();
            assert_eq!(text(&quick.metadata), text(&metadata));
            true
        }
    }

    fn commits_in(log: &FilePath) -> usize {
        let names = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
    }

    #[tokio::test]
    async fn a_table_opened_at_its_checkpoint_is_the_one_that_the_whole_log_gives() {
        let mut site = Site::new().await;
        assert!(site.is_quick().await, "nothing but the first commit");
        site.commits(25).await;
        assert!(site.is_quick().await, "commits without a checkpoint");
        let now = Timestamp::from_unix_seconds(1_793_491_200 + 90 * 86_400).unwrap();
        let options = CompactOptions { now: Some(now), min_files: 3, ..CompactOptions::default() };
        assert!(site.lake.compact(TABLE, &options).await.unwrap().removed_files > 3);
        assert!(site.lake.checkpoint(TABLE).await.unwrap());
        assert!(site.is_quick().await, "a checkpoint and nothing behind it");
        site.commits(5).await;
        assert!(site.is_quick().await, "a checkpoint and commits behind it");
        site.commits(25).await;
        let before = commits_in(&site.log());
        let later = Timestamp::now().plus_seconds(60 * 86_400);
        assert!(site.lake.checkpoint_as_of(TABLE, later).await.unwrap());
        assert!(commits_in(&site.log()) < before / 2, "old commits are gone");
        assert!(site.is_quick().await, "a checkpoint of which the commits are gone");
    }

    #[tokio::test]
    async fn what_a_quick_look_cannot_tell_is_left_to_the_whole_replay() {
        let mut site = Site::new().await;
        site.commits(25).await;
        site.lake.checkpoint(TABLE).await.unwrap();
        site.commits(2).await;
        let hint = site.log().join("_last_checkpoint");
        let said = std::fs::read_to_string(&hint).unwrap();
        let version = site.quick().await.unwrap().state.version;
        for text in [
            "",
            "{",
            r#"{"version":25,"parts":2,"size":3}"#,
            r#"{"version":25,"size":3,"v2Checkpoint":{"path":"x"}}"#,
            // The checkpoint that it names is not there.
            r#"{"version":7,"size":3}"#,
        ] {
            std::fs::write(&hint, text).unwrap();
            let log = site.lake.locked(TABLE).await.unwrap();
            let quick = Log::open_at_checkpoint(&log.log_store, &log.guard, TABLE).await;
            assert!(!matches!(quick, Ok(Some(_))), "{text}");
            drop(log);
            let opened = Lake::open(site.dir.path()).unwrap().snapshot(TABLE).await.unwrap();
            assert_eq!(opened.version, version, "{text}");
        }
        // An older hint only means more commits to read.
        std::fs::write(&hint, said).unwrap();
        assert!(site.is_quick().await);
    }
}
