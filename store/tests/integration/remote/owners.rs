//! Two who both take themselves for the owner: the rows are what they were, and the one that was passed stops.

use std::sync::Arc;

use meterlake_store::{Holder, Lake, Role, StoreError};
use object_store::memory::InMemory;

use super::ledger::{Ledger, Process, TABLE};
use super::reads::compaction;
use super::{checkpoint_all, lake, share};

/// Checkpoints come after so many rounds: whoever starts reads a short log, as in a lake that its jobs look after.
const UPKEEP_ROUNDS: u64 = 10;

/// Reliability R9. A collector whose machine was copied goes on beside its copy: neither waits for the other's lease, both
/// commit at once, and one of them wins.
#[tokio::test(flavor = "multi_thread")]
async fn rule_5_two_collectors_cannot_both_commit_and_the_stale_one_stops() {
    let memory = Arc::new(InMemory::new());
    let (mut ledger, holder) = (Ledger::new(9), Holder::of_process("twin"));
    let mut old = Process::start(&lake(memory.clone()), &holder).await.unwrap();
    let (mut early, mut stopped) = (0, 0);
    for round in 1..=share(25, 500) {
        ledger.hear();
        // The new one starts while the old one commits.
        let copied = lake(memory.clone());
        let (committed, new) = tokio::join!(old.commit(&ledger), Process::start(&copied, &holder));
        let mut new = new.unwrap();
        match committed {
            Ok(_) => early += 1,
            Err(StoreError::Lost { .. }) => {}
            Err(e) => panic!("{e}"),
        }
        ledger.hear();
        // From here on the old one is fenced, whether it has heard of its lease or not.
        let (stale, fresh) = tokio::join!(old.commit(&ledger), new.commit(&ledger));
        assert!(matches!(stale, Err(StoreError::Lost { role: "collector", .. })), "{stale:?}");
        assert_eq!(fresh.unwrap(), ledger.records());
        stopped += 1;
        assert!(matches!(old.commit(&ledger).await, Err(StoreError::Lost { .. })), "and it stays so");
        ledger.check(&copied).await;
        if round % UPKEEP_ROUNDS == 0 {
            let jobs = lake(memory.clone());
            let owner = jobs.own(Role::Maintenance, &Holder::of_process("jobs")).await.unwrap();
            jobs.compact(TABLE, &compaction()).await.unwrap();
            checkpoint_all(&jobs).await.unwrap();
            owner.release().await.unwrap();
        }
        old = new;
    }
    println!("{stopped} stale collectors stopped, {early} of them committed once more before they were passed");
}

/// Without lease and fence the journal's position stands alone between two committers.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_of_two_committers_at_one_position_only_one_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (crate::faults::quick_lake(dir.path()), crate::faults::quick_lake(dir.path()));
    let (mut ledger, holder) = (Ledger::new(10), Holder::of_process("collector"));
    for _ in 0..5 {
        let (mut a, mut b) =
            (Process::start(&one, &holder).await.unwrap(), Process::start(&two, &holder).await.unwrap());
        ledger.hear();
        let outcomes = tokio::join!(a.commit(&ledger), b.commit(&ledger));
        let conflicts = [outcomes.0, outcomes.1].into_iter().filter_map(Result::err).inspect(|e| {
            assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
        });
        assert!(conflicts.count() >= 1);
        // Who lost reads the tables again, and goes on.
        Process::start(&one, &holder).await.unwrap().commit(&ledger).await.unwrap();
    }
    assert_eq!(one.snapshot(TABLE).await.unwrap().rows(), ledger.readings() as u64);
}

/// Reliability R9, the other half.
#[tokio::test(flavor = "multi_thread")]
async fn rule_5_overlapping_maintenance_leaves_the_rows_and_the_stale_owner_stops() {
    let memory = Arc::new(InMemory::new());
    let (mut ledger, holder) = (Ledger::new(11), Holder::of_process("jobs"));
    let feed = lake(memory.clone());
    let mut collector = Process::start(&feed, &Holder::of_process("collector")).await.unwrap();
    for round in 1..=share(25, 500) {
        for _ in 0..3 {
            ledger.hear();
            collector.commit(&ledger).await.unwrap();
        }
        let (one, two) = (lake(memory.clone()), lake(memory.clone()));
        let _old = one.own(Role::Maintenance, &holder).await.unwrap();
        let _new = two.own(Role::Maintenance, &holder).await.unwrap();
        let options = (compaction(), compaction());
        let outcomes = tokio::join!(one.compact(TABLE, &options.0), two.compact(TABLE, &options.1));
        for outcome in [outcomes.0, outcomes.1] {
            match outcome {
                Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Lost { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
        // The owner of now merges something, and with that the other is passed.
        collect_enough_to_merge(&mut collector, &mut ledger).await;
        assert!(two.compact(TABLE, &compaction()).await.unwrap().removed_files > 0);
        collect_enough_to_merge(&mut collector, &mut ledger).await;
        let stale = one.compact(TABLE, &compaction()).await;
        assert!(matches!(stale, Err(StoreError::Lost { role: "maintenance", .. })), "round {round}: {stale:?}");
        if round % UPKEEP_ROUNDS == 0 {
            checkpoint_all(&two).await.unwrap();
        }
        ledger.check(&feed).await;
    }
}

/// Files of like size in one month: so many that they are enough where they are of two months and two sizes.
async fn collect_enough_to_merge(collector: &mut Process, ledger: &mut Ledger) {
    for _ in 0..3 * compaction().min_files {
        ledger.hear();
        collector.commit(ledger).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_without_a_lease() {
    let memory = Arc::new(InMemory::new());
    let refusal = meterlake_store::Committer::open(&lake(memory.clone())).await.unwrap_err();
    assert!(refusal.to_string().contains("whoever writes as its collector holds a lease"), "{refusal}");
    let (mut ledger, holder) = (Ledger::new(12), Holder::of_process("collector"));
    let feed: Lake = lake(memory);
    let mut process = Process::start(&feed, &holder).await.unwrap();
    for _ in 0..2 {
        ledger.hear();
        process.commit(&ledger).await.unwrap();
    }
    let refusal = feed.compact(TABLE, &compaction()).await.unwrap_err();
    assert!(refusal.to_string().contains("whoever writes as its maintenance holds a lease"), "{refusal}");
    let Process { mut committer, ownership, .. } = process;
    ownership.release().await.unwrap();
    ledger.hear();
    ledger.push(&mut committer, 2);
    assert!(matches!(committer.flush().await, Err(StoreError::Refused { .. })));
}
