//! Compaction keeps every row, never twice; checkpoints and vacuum keep what readers need.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use meterlake_model::Timestamp;
use meterlake_store::{Committer, CompactOptions, Lake, StoreError};

use crate::faults::{Fault, Faulty, electricity, quick_lake, record};

const E: &str = "energy_import_kwh";
const NOVEMBER: i64 = 1_793_491_200;

fn options(now: &str) -> CompactOptions {
    CompactOptions { now: Some(Timestamp::parse_rfc3339(now).unwrap()), min_files: 2, ..CompactOptions::default() }
}

const OPEN: &str = "2026-11-20T00:00:00Z";
const OVER: &str = "2026-12-20T00:00:00Z";

/// Commits of 40 meters each, one file a commit.
async fn fill(lake: &Lake, commits: u64) {
    let mut committer = Committer::open(lake).await.unwrap();
    let start = committer.position();
    for position in start + 1..=start + commits {
        let at = NOVEMBER + i64::try_from(position).unwrap() * 900;
        let meters: Vec<String> = (0..40).map(|m| format!("m{m:02}")).collect();
        let values = [(E, at)];
        let rows: Vec<_> = meters.iter().map(|m| (m.as_str(), at, values.as_slice())).collect();
        committer.push(position, record(&rows));
        committer.flush().await.unwrap();
    }
}

const TABLE: &str = "electricity_readings";

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_merged_while_open_and_closed_when_over_and_no_row_changes() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    fill(&lake, 6).await;
    let before = electricity(&lake).await;
    for (now, name) in [(OPEN, "merged-"), (OVER, "closed-")] {
        let report = lake.compact(TABLE, &options(now)).await.unwrap();
        assert_eq!((report.added_files, report.rows, report.repeats), (1, 240, 0));
        let found = lake.snapshot(TABLE).await.unwrap();
        assert!(found.files[0].path.contains(name), "{}", found.files[0].path);
        assert_eq!(found.journal_position(), 6);
        assert_eq!(electricity(&lake).await, before);
        assert_eq!(lake.compact(TABLE, &options(now)).await.unwrap().removed_files, 0);
    }
    // What is committed is still known.
    let mut committer = Committer::open(&quick_lake(dir.path())).await.unwrap();
    committer.push(7, record(&[("m05", NOVEMBER + 900, &[(E, NOVEMBER + 900)])]));
    assert_eq!(committer.flush().await.unwrap().duplicates, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_never_splits_a_meter() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    fill(&lake, 5).await;
    let before = electricity(&lake).await;
    let small = CompactOptions { target_bytes: 1, ..options(OVER) };
    lake.compact(TABLE, &small).await.unwrap();
    let found = lake.snapshot(TABLE).await.unwrap();
    let mut ranges: Vec<_> =
        found.files.iter().map(|f| (f.min("meter_id").unwrap(), f.max("meter_id").unwrap())).collect();
    ranges.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
    assert_eq!(electricity(&lake).await, before);
}

/// Design rule 5: of two rewrites of one state the second leaves nothing, and no row is doubled or lost.
#[tokio::test(flavor = "multi_thread")]
async fn rule_5_overlapping_compactions_keep_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (quick_lake(dir.path()), quick_lake(dir.path()));
    let mut conflicts = 0;
    for round in 1..=20 {
        fill(&one, 3).await;
        let before = electricity(&one).await;
        assert_eq!(before.len(), round * 120);
        // Both begin from the same state.
        two.snapshot(TABLE).await.unwrap();
        let (now, same) = (options(OPEN), options(OPEN));
        let outcomes = tokio::join!(one.compact(TABLE, &now), two.compact(TABLE, &same));
        for outcome in [outcomes.0, outcomes.1] {
            match outcome {
                Ok(_) => {}
                Err(StoreError::Conflict { .. }) => conflicts += 1,
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(electricity(&one).await, before);
        if conflicts > 0 {
            break;
        }
    }
    assert!(conflicts > 0, "the two never met");
    // Appends meanwhile are kept too.
    let (closing, rows) = (options(OVER), electricity(&two).await.len());
    let (compacted, ()) = tokio::join!(one.compact(TABLE, &closing), fill(&two, 3));
    compacted.unwrap();
    assert_eq!(electricity(&two).await.len(), rows + 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_a_compaction_that_fails_anywhere_leaves_the_rows_as_they_were() {
    for fault in [Fault::Before, Fault::After] {
        for call in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let lake = quick_lake(dir.path());
            fill(&lake, 3).await;
            let before = electricity(&lake).await;
            let store = Faulty::new(call, fault);
            // A failure or a success: the rows are the same.
            let _ = Lake::open_with(dir.path(), store.clone()).unwrap().compact(TABLE, &options(OPEN)).await;
            assert_eq!(electricity(&lake).await, before, "call {call} {fault:?}");
            if !store.struck() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_keeps_statistics_transactions_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    fill(&lake, 2).await;
    assert!(!lake.checkpoint(TABLE).await.unwrap(), "few commits need none");
    fill(&lake, 22).await;
    lake.compact(TABLE, &options(OPEN)).await.unwrap();
    assert!(lake.checkpoint(TABLE).await.unwrap());
    assert!(!lake.checkpoint(TABLE).await.unwrap(), "not again so soon");
    fill(&lake, 2).await;
    let ours = lake.snapshot(TABLE).await.unwrap();
    assert!(dir.path().join(TABLE).join("_delta_log/_last_checkpoint").exists());
    let fresh = Lake::open(dir.path()).unwrap().snapshot(TABLE).await.unwrap();
    assert_eq!((fresh.version, &fresh.files, &fresh.transactions), (ours.version, &ours.files, &ours.transactions));
    assert_eq!(fresh.sort_by, ours.sort_by);
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_removes_only_what_left_the_table_long_ago_and_nothing_when_the_clock_jumped() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    fill(&lake, 4).await;
    lake.compact(TABLE, &options(OPEN)).await.unwrap();
    let table = dir.path().join(TABLE);
    let orphan = table.join("month=2026-11/fresh-left-by-a-crash.parquet");
    std::fs::write(&orphan, b"x").unwrap();
    let before = electricity(&lake).await;
    assert_eq!(lake.vacuum(TABLE).await.unwrap(), 0, "all is young");

    let week = Duration::from_secs(7 * 86_400);
    let later = Timestamp::now().plus_seconds(40 * 86_400);
    let refusal = lake.vacuum_as_of(TABLE, later, week).await.unwrap_err();
    assert!(refusal.to_string().contains("5 old files are kept: the clock jumped"), "{refusal}");

    // The files and the log get old while commits go on; the merged files left the table just now.
    let days_ago = |days: u64| SystemTime::now() - Duration::from_secs(days * 86_400);
    let age =
        |path: &Path, days| File::options().append(true).open(path).unwrap().set_modified(days_ago(days)).unwrap();
    let month = std::fs::read_dir(table.join("month=2026-11")).unwrap().map(|entry| entry.unwrap().path());
    for (path, days) in month.map(|path| (path, 30)) {
        age(&path, days);
    }
    for (version, days) in [(0, 12), (1, 9), (2, 6), (3, 3)] {
        age(&table.join(format!("_delta_log/{version:020}.json")), days);
    }
    assert_eq!(lake.vacuum(TABLE).await.unwrap(), 1);
    assert!(!orphan.exists());
    assert_eq!(electricity(&lake).await, before);
    assert_eq!(std::fs::read_dir(table.join("month=2026-11")).unwrap().count(), 5);
}
