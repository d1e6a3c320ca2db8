//! From journal records to committed rows: exactly once, whatever fails, comes again or comes late.

use std::collections::BTreeSet;
use std::sync::Arc;

use meterlake_model::{DeadLetter, DeadReason, EventKind, MeterEvent, MeterId, RawMessage, ReadingBatch, Timestamp};
use meterlake_store::{CommitReport, Committer, Lake, StoreError};
use proptest::prelude::*;

use crate::faults::{Fault, Faulty, Row, Said, batches, electricity, quick_lake, record};

const E: &str = "energy_import_kwh";
const V: &str = "voltage_l1_v";
const P: &str = "power_kw";
/// 2026-11-01T00:00:00Z.
const NOVEMBER: i64 = 1_793_491_200;

async fn commit(lake: &Lake, from: u64, records: &[&[Said<'_>]]) -> CommitReport {
    let mut committer = Committer::open(lake).await.unwrap();
    for (position, rows) in (from..).zip(records) {
        committer.push(position, record(rows));
    }
    committer.flush().await.unwrap()
}

fn keys(rows: &[Row]) -> Vec<(&str, i64, i64)> {
    rows.iter().map(|r| (r.0.as_str(), r.1, r.2)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_lie_sorted_in_their_utc_month_and_bear_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    let report = commit(
        &lake,
        1,
        &[&[("b", NOVEMBER, &[(E, 5)]), ("a", NOVEMBER, &[(E, 6), (V, 2301)])], &[("a", NOVEMBER - 1, &[(E, 4)])]],
    )
    .await;
    assert_eq!(report, CommitReport { position: 2, stored: 3, ..CommitReport::default() });
    let found = lake.snapshot("electricity_readings").await.unwrap();
    let months: Vec<_> = found.files.iter().map(|f| (f.partition_value("month").unwrap(), f.rows)).collect();
    assert_eq!(months, [("2026-10", 1), ("2026-11", 2)]);
    assert_eq!(found.journal_position(), 2);
    let rows = electricity(&lake).await;
    assert_eq!(keys(&rows), [("a", NOVEMBER - 1, 0), ("a", NOVEMBER, 0), ("b", NOVEMBER, 0)]);
    assert_eq!(rows[1].4, [(E, 6), (V, 2301)].into());
    // Tables without rows have the position too.
    for table in lake.tables().await.unwrap() {
        assert_eq!(lake.snapshot(&table).await.unwrap().journal_position(), 2, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_a_repeat_is_stored_once_a_contradiction_beside_it_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let lake = || quick_lake(dir.path());
    let first: &[Said<'_>] = &[("a", 10, &[(E, 5)]), ("a", 20, &[(E, 6)]), ("b", 15, &[(E, 1)])];
    commit(&lake(), 1, &[first]).await;
    // The same again, one contradiction, one that completes, and news, some of it late.
    let again: &[Said<'_>] =
        &[("a", 20, &[(E, 7)]), ("a", 10, &[(V, 2300)]), ("a", 12, &[(E, 5)]), ("b", 30, &[(E, 2)])];
    let report = commit(&lake(), 2, &[first, again]).await;
    assert_eq!(report, CommitReport { position: 3, stored: 4, duplicates: 3, conflicts: 1, ..report });
    let report = commit(&lake(), 4, &[again, first]).await;
    assert_eq!((report.stored, report.duplicates), (0, 7));
    let rows = electricity(&lake()).await;
    assert_eq!(
        keys(&rows),
        [("a", 10, 0), ("a", 10, 0), ("a", 12, 0), ("a", 20, 0), ("a", 20, 1), ("b", 15, 0), ("b", 30, 0)]
    );
    let flagged: Vec<_> = rows.iter().filter(|r| r.3 != 0).map(|r| (r.1, r.2, r.4[E])).collect();
    assert_eq!(flagged, [(20, 1, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_once_and_dead_letters_and_raw_messages_whole() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    let event = |kind, detail: &str| MeterEvent {
        meter_id: MeterId::new("a").unwrap(),
        ts: Timestamp::from_unix_seconds(NOVEMBER).unwrap(),
        kind,
        detail: detail.into(),
        received_at_s: NOVEMBER + 1,
        source: "test".into(),
    };
    let message =
        RawMessage { source: "test".into(), topic: "meters/a".into(), payload: vec![0, 255], received_at_s: NOVEMBER };
    let dead = DeadLetter {
        reason: DeadReason::Syntax,
        detail: "not a number".into(),
        message: message.clone(),
        decoder: "map@1".into(),
    };
    let batch = ReadingBatch {
        events: vec![event(EventKind::Leak, ""), event(EventKind::Burst, "7"), event(EventKind::Leak, "")],
        dead_letters: vec![dead.clone(), dead],
        raw: vec![message],
        ..ReadingBatch::default()
    };
    let batch = Arc::new(batch);
    for (position, events, duplicates) in [(1, 2, 1), (2, 0, 3)] {
        let mut committer = Committer::open(&lake).await.unwrap();
        committer.push(position, batch.clone());
        let report = committer.flush().await.unwrap();
        let expected =
            CommitReport { position, events, duplicates, dead_letters: 2, raw: 1, ..CommitReport::default() };
        assert_eq!(report, expected);
    }
    let found = lake.snapshot("dead_letters").await.unwrap();
    let rows: usize = batches(&lake, &found).iter().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!(rows, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_record_is_refused_and_an_old_one_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    commit(&lake, 1, &[&[("a", 1, &[(E, 1)])]]).await;
    let mut committer = Committer::open(&lake).await.unwrap();
    committer.push(1, record(&[("a", 1, &[(E, 1)])]));
    assert!(committer.flush().await.unwrap().is_empty());
    committer.push(3, record(&[("a", 3, &[(E, 3)])]));
    let refusal = committer.flush().await.unwrap_err();
    assert!(refusal.to_string().contains("journal record 2 was expected, record 3 came"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_committer_of_the_same_journal_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Committer::open(&quick_lake(dir.path())).await.unwrap();
    let mut two = Committer::open(&quick_lake(dir.path())).await.unwrap();
    one.push(1, record(&[("a", 1, &[(E, 1)])]));
    two.push(1, record(&[("a", 1, &[(E, 1)])]));
    one.flush().await.unwrap();
    assert!(matches!(two.flush().await, Err(StoreError::Conflict { .. })));
    assert_eq!(electricity(&quick_lake(dir.path())).await.len(), 1);
}

/// What is said in the tests with faults: new rows, repeats, a contradiction, in three records.
fn story() -> [Arc<ReadingBatch>; 3] {
    let mut third = ReadingBatch::clone(&record(&[("b", 40, &[(E, 9)]), ("a", 20, &[(E, 7)])]));
    third.dead_letters.push(DeadLetter {
        reason: DeadReason::NoMap,
        detail: String::new(),
        message: RawMessage { source: "t".into(), topic: "x".into(), payload: vec![1], received_at_s: 5 },
        decoder: "map@1".into(),
    });
    [
        record(&[("a", 10, &[(E, 5)]), ("a", 20, &[(E, 6)])]),
        record(&[("a", 20, &[(E, 6)]), ("b", 30, &[(E, 1)])]),
        third.into(),
    ]
}

/// What must be there in the end, once each.
const OUTCOME: [(&str, i64, i64); 5] = [("a", 10, 0), ("a", 20, 0), ("a", 20, 1), ("b", 30, 0), ("b", 40, 0)];

async fn tell(lake: &Lake) -> Result<(), StoreError> {
    let mut committer = Committer::open(lake).await?;
    let start = committer.position();
    for (position, batch) in (1..).zip(story()) {
        if position > start {
            committer.push(position, batch);
            // The first two records are one commit, the third is another.
            if position > 1 {
                committer.flush().await?;
            }
        }
    }
    committer.flush().await.map(drop)
}

async fn check_outcome(lake: &Lake, what: &str) {
    assert_eq!(keys(&electricity(lake).await), OUTCOME, "{what}");
    for table in lake.tables().await.unwrap() {
        assert_eq!(lake.snapshot(&table).await.unwrap().journal_position(), 3, "{what}: {table}");
    }
    assert_eq!(lake.snapshot("dead_letters").await.unwrap().rows(), 1, "{what}");
}

/// Design rule 2, by a restart: whichever call fails, before or after it took effect, what follows is whole.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_exactly_once_whichever_call_fails_and_the_process_starts_again() {
    for fault in [Fault::Before, Fault::After] {
        for call in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let store = Faulty::new(call, fault);
            let first = tell(&Lake::open_with(dir.path(), store.clone()).unwrap()).await;
            if first.is_ok() && !store.struck() {
                break;
            }
            let lake = quick_lake(dir.path());
            tell(&lake).await.unwrap_or_else(|e| panic!("call {call} {fault:?}: {e}"));
            check_outcome(&lake, &format!("call {call} {fault:?}")).await;
        }
    }
}

/// Design rule 2, without a restart: the same committer flushes again.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_exactly_once_whichever_call_fails_and_the_flush_is_repeated() {
    for fault in [Fault::Before, Fault::After] {
        for call in 0.. {
            let dir = tempfile::tempdir().unwrap();
            Committer::open(&quick_lake(dir.path())).await.unwrap();
            let store = Faulty::new(call, fault);
            let lake = Lake::open_with(dir.path(), store.clone()).unwrap();
            let Ok(mut committer) = Committer::open(&lake).await else { continue };
            for (position, batch) in (1..).zip(story()) {
                committer.push(position, batch);
                if position > 1 && committer.flush().await.is_err() {
                    committer.flush().await.unwrap_or_else(|e| panic!("call {call} {fault:?}: {e}"));
                }
            }
            check_outcome(&quick_lake(dir.path()), &format!("call {call} {fault:?}")).await;
            if !store.struck() {
                break;
            }
        }
    }
}

/// A meter, a time and values by column.
type Message = (u8, i64, Vec<(&'static str, i64)>);

/// Messages of few meters and times, so that many meet.
fn messages() -> impl Strategy<Value = Vec<Message>> {
    let values = (prop::option::of(0..3_i64), prop::option::of(0..2_i64), prop::option::of(0..2_i64))
        .prop_filter("says something", |(e, v, p)| e.is_some() || v.is_some() || p.is_some())
        .prop_map(|(e, v, p)| {
            [(E, e), (V, v), (P, p)].into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
        });
    prop::collection::vec((0..3_u8, 0..4_i64, values), 1..24)
}

fn said(message: &Message) -> Arc<ReadingBatch> {
    record(&[(["a", "b", "c"][usize::from(message.0)], message.1 * 900, message.2.as_slice())])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However messages are ordered, repeated, grouped into commits and cut by restarts, the same values are kept.
    #[test]
    fn order_repeats_commits_and_restarts_change_nothing(
        (first, again) in messages().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
        cuts in prop::collection::vec(0..4_u8, 48),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut committer = Committer::open(&quick_lake(dir.path())).await.unwrap();
            let told = first.iter().chain(&again);
            for ((position, message), cut) in (1..).zip(told).zip(&cuts) {
                committer.push(position, said(message));
                if *cut < 2 {
                    committer.flush().await.unwrap();
                }
                if *cut == 0 {
                    committer = Committer::open(&quick_lake(dir.path())).await.unwrap();
                }
            }
            committer.flush().await.unwrap();
            let rows = electricity(&quick_lake(dir.path())).await;
            let kept: BTreeSet<_> = rows
                .iter()
                .flat_map(|r| r.4.iter().map(|(name, v)| (r.0.clone(), r.1, *name, *v)))
                .collect();
            let expected: BTreeSet<_> = first
                .iter()
                .flat_map(|m| m.2.iter().map(|(n, v)| (["a", "b", "c"][usize::from(m.0)].to_owned(), m.1 * 900, *n, *v)))
                .collect();
            assert_eq!(kept, expected);
            // No row repeats another, and rows of one revision agree.
            for (at, row) in rows.iter().enumerate() {
                for other in &rows[at + 1..] {
                    let same_key = (&row.0, row.1, row.2) == (&other.0, other.1, other.2);
                    assert!(!same_key || row.4.iter().all(|(n, v)| other.4.get(n).is_none_or(|o| o == v)));
                    assert!((&row.0, row.1, &row.4) != (&other.0, other.1, &other.4));
                }
            }
        });
    }
}
