//! The lake as it was: by commit for as long as rows are kept, by time through the clean-up of logs, and refused where
//! it cannot be had.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use meterlake_model::Timestamp;
use meterlake_model::registry::{Customer, Registry};
use meterlake_store::journal::{JournalOptions, JournalWriter};
use meterlake_store::query::{AsOf, ReadOptions, SqlLimits, sql};
use meterlake_store::{COMMITS, Committer, CompactOptions, Lake, PartitionKey, TableSpec};

use crate::faults::{quick_lake, record};
use crate::query::list;

const E: &str = "energy_import_kwh";
const TABLE: &str = "electricity_readings";
/// 2026-11-01T00:00:00Z.
const NOVEMBER: i64 = 1_793_491_200;
/// When the first version of each table is said to have been made; each further one is a minute later.
const MADE: i64 = NOVEMBER + 86_400;

/// Commit n holds the readings of two meters, m0 and m1, at n quarters of an hour.
async fn fill(lake: &Lake, commits: u64) {
    let mut committer = Committer::open(lake).await.unwrap();
    let start = committer.position();
    for position in start + 1..=start + commits {
        let at = NOVEMBER + i64::try_from(position).unwrap() * 900;
        let values = [(E, i64::try_from(position).unwrap())];
        committer.push(position, record(&[("m0", at, &values), ("m1", at, &values)]));
        committer.flush().await.unwrap();
    }
}

fn log_files(root: &Path, table: &str) -> Vec<(i64, std::path::PathBuf)> {
    let entries = std::fs::read_dir(root.join(table).join("_delta_log")).unwrap();
    let version = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).filter_map(|p| Some((version(&p)?, p))).collect();
    found.sort();
    found
}

fn made(version: i64) -> Timestamp {
    Timestamp::from_unix_seconds(MADE + version * 60).unwrap()
}

/// Has the log say that its commits were made at known times.
fn set_times(root: &Path, table: &str) {
    for (version, path) in log_files(root, table) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(info) = action.get_mut("commitInfo") {
                info["timestamp"] = (made(version).micros() / 1000).into();
            }
            format!("{action}\n")
        });
        std::fs::write(&path, lines.collect::<String>()).unwrap();
    }
}

async fn set_all_times(root: &Path) -> Lake {
    for table in quick_lake(root).tables().await.unwrap() {
        set_times(root, &table);
    }
    quick_lake(root)
}

/// What a vacuum does after some days: the files that no longer belong to the table go.
async fn remove_old_files(lake: &Lake, table: &str) {
    let live = lake.snapshot(table).await.unwrap().files;
    let live: Vec<_> = live.iter().map(|f| lake.table_path(table).join(&f.path)).collect();
    let mut folders = vec![lake.table_path(table)];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") && !live.contains(&path) {
                let in_log = path.parent().unwrap().ends_with("_delta_log");
                if !in_log {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

fn then(as_of: AsOf) -> ReadOptions {
    ReadOptions { as_of: Some(as_of), ..ReadOptions::default() }
}

async fn answer(lake: &Lake, as_of: AsOf, query: &str) -> String {
    let context = lake.session(then(as_of)).await.unwrap_or_else(|e| panic!("{as_of}: {e}"));
    list(&context, query).await.join(" ")
}

async fn refusal(lake: &Lake, as_of: AsOf, query: &str) -> String {
    let context = match lake.session(then(as_of)).await {
        Ok(context) => context,
        Err(e) => return e.to_string(),
    };
    match sql(&context, query, SqlLimits::default()).await {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{query} as of {as_of} was answered"),
    }
}

const SUM: &str = "SELECT count(*) || ' ' || coalesce(sum(energy_import_kwh), 0) FROM electricity";

fn sum(commits: i64) -> String {
    let milli = commits * (commits + 1);
    format!("{} {}.{:03}", commits * 2, milli / 1000, milli % 1000)
}

/// Every commit and every minute show what they showed, whatever upkeep does in between.
async fn check_all(lake: &Lake, commits: i64, when: &str) {
    for n in 1..=commits {
        assert_eq!(answer(lake, AsOf::Commit(n), SUM).await, sum(n), "commit {n} {when}");
        for (second, expected) in [(-1, n - 1), (0, n), (59, n)] {
            if expected > 0 {
                let at = made(n).plus_seconds(second);
                assert_eq!(answer(lake, AsOf::Time(at), SUM).await, sum(expected), "{at} {when}");
            }
        }
    }
    let long_before = AsOf::Time(made(-1));
    assert_eq!(answer(lake, long_before, "SELECT count(*) FROM electricity").await, "0", "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_moment_shows_the_same_rows_before_and_after_compaction_vacuum_and_clean_up_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    fill(&quick_lake(dir.path()), 4).await;
    let lake = set_all_times(dir.path()).await;
    check_all(&lake, 4, "at first").await;

    let over = Timestamp::parse_rfc3339("2026-12-20T00:00:00Z").unwrap();
    let options = CompactOptions { now: Some(over), min_files: 2, ..CompactOptions::default() };
    assert_eq!(lake.compact(TABLE, &options).await.unwrap().added_files, 1);
    fill(&lake, 18).await;
    let lake = set_all_times(dir.path()).await;
    // The compaction is a version, too: what was committed behind it came a minute later.
    check_all(&lake, 4, "after compaction").await;

    remove_old_files(&lake, TABLE).await;
    check_all(&lake, 4, "after vacuum").await;

    for table in lake.tables().await.unwrap() {
        assert!(lake.checkpoint(&table).await.unwrap(), "{table}");
        // What the clean-up does to commits of more than 30 days ago.
        for (_, path) in log_files(dir.path(), &table).iter().rev().skip(1) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let lake = quick_lake(dir.path());
    assert!(lake.snapshot(COMMITS).await.unwrap().rows() > 100);
    check_all(&lake, 4, "after the clean-up of the log").await;
    assert_eq!(answer(&lake, AsOf::Commit(22), SUM).await, sum(22));
    assert_eq!(answer(&lake, AsOf::Time(made(99)), SUM).await, sum(22));

    // Without the table of commits a time is not known, and a commit still is.
    std::fs::remove_dir_all(dir.path().join(COMMITS)).unwrap();
    let lake = quick_lake(dir.path());
    assert_eq!(answer(&lake, AsOf::Commit(3), SUM).await, sum(3));
    let refused = refusal(&lake, AsOf::Time(made(3)), SUM).await;
    assert!(refused.contains("name a commit_seq instead"), "{refused}");
}

fn derived() -> TableSpec {
    let fields = vec![Field::new("id", DataType::Utf8, false), Field::new("month", DataType::Utf8, false)];
    TableSpec { name: "derived", schema: Arc::new(Schema::new(fields)), partition_by: &["month"], sort_by: &["id"] }
}

async fn derive(lake: &Lake, ids: &[&str]) {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.iter().map(Some).collect::<StringArray>()),
        Arc::new(ids.iter().map(|_| Some("2026-11")).collect::<StringArray>()),
    ];
    let rows = RecordBatch::try_new(derived().schema, columns).unwrap();
    lake.replace(&derived(), vec![(PartitionKey::new(["2026-11"]), vec![rows])]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_table_is_shown_as_it_was_until_its_files_are_gone_and_then_it_alone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    fill(&lake, 3).await;
    for ids in [["a", "b"].as_slice(), &["a", "c", "d"]] {
        derive(&lake, ids).await;
    }
    let lake = set_all_times(dir.path()).await;
    let ids = "SELECT id FROM derived ORDER BY id";
    for (version, expected) in [(-1, ""), (0, ""), (1, "a b"), (2, "a c d"), (3, "a c d")] {
        assert_eq!(answer(&lake, AsOf::Time(made(version)), ids).await, expected, "at minute {version}");
    }
    // Commit 1 was made with version 1.
    assert_eq!(answer(&lake, AsOf::Commit(1), ids).await, "a b");

    remove_old_files(&lake, "derived").await;
    let refused = refusal(&lake, AsOf::Time(made(1)), ids).await;
    assert!(refused.contains("table derived: version 1") && refused.contains("was removed"), "{refused}");
    assert_eq!(answer(&lake, AsOf::Time(made(1)), SUM).await, sum(1), "others are still answered");
    assert_eq!(answer(&lake, AsOf::Time(made(2)), ids).await, "a c d");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_shown_in_its_revision_of_then() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    let customer = |name: &str| {
        let id = meterlake_model::CustomerId::new("c1").unwrap();
        let mut registry = Registry::default();
        registry.customers.insert(id.clone(), Customer { id, name: name.into() });
        registry
    };
    for name in ["Ana", "Berta"] {
        lake.write_registry(&customer(name)).await.unwrap();
    }
    let lake = set_all_times(dir.path()).await;
    let names = "SELECT name FROM customers ORDER BY revision";
    for (version, expected) in [(0, ""), (1, "Ana"), (2, "Ana Berta")] {
        assert_eq!(answer(&lake, AsOf::Time(made(version)), names).await, expected, "at minute {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_commit_that_is_still_to_come_is_refused_and_hot_rows_are_of_no_past() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(&dir.path().join("lake"));
    fill(&lake, 2).await;
    for commit in [3, -1] {
        let refused = refusal(&lake, AsOf::Commit(commit), SUM).await;
        assert!(refused.contains(&format!("no commit {commit}")) && refused.contains("newest is 2"), "{refused}");
    }
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(dir.path().join("journal"))).unwrap();
    for position in 1..=3 {
        writer.append(&record(&[("m0", NOVEMBER + position * 900, &[(E, position)])])).unwrap();
    }
    writer.sync().unwrap();
    let journal = Some(dir.path().join("journal"));
    let options = ReadOptions { journal, ..then(AsOf::Time(Timestamp::now())) };
    let session = lake.open_session(options).await.unwrap();
    assert_eq!((session.journal_position, session.moment.unwrap().commit_seq), (None, 2));
    assert_eq!(list(&session.context, SUM).await.join(" "), sum(2));
}
