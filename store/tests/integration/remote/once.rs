//! Exactly once at 20 % faults: errors, lost answers, repeated requests, requests that are done late.

use std::sync::Arc;
use std::time::Duration;

use meterlake_store::{Holder, Role};
use object_store::memory::InMemory;

use super::ledger::{Dice, Ledger, Process, TABLE};
use super::reads::compaction;
use super::shaky::Shaky;
use super::{checkpoint_all, lake, share};

/// Nothing waits for ever, whatever fails.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Reliability R8. Collectors die and start again, tables are compacted meanwhile, and requests of the dead still arrive.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_commits_are_exactly_once_at_one_fault_in_five_calls() {
    let commits = share(300, 10_000);
    let (memory, seed) = (Arc::new(InMemory::new()), 8);
    let (store, quiet) = (Shaky::new(memory.clone(), seed, 200), lake(memory));
    let (mut ledger, mut dice) = (Ledger::new(seed), Dice(seed));
    let (collector, keeper) = (Holder::of_process("collector"), Holder::of_process("jobs"));
    let (mut process, mut starts, mut failures, mut compacted) = (None, 0, 0, 0);
    let mut version = 0;
    while u64::try_from(version).unwrap() < commits {
        ledger.hear();
        let mut running = match process.take() {
            Some(running) => running,
            None => match within("start", Process::start(&lake(store.clone()), &collector)).await {
                Ok(started) => {
                    starts += 1;
                    started
                }
                Err(_) => continue,
            },
        };
        failures += u64::from(within("commit", running.commit(&ledger)).await.is_err());
        // Now and then it dies, with whatever is under way.
        process = (dice.below(8) > 0).then_some(running);
        if dice.below(8) == 0 {
            let upkeep = lake(store.clone());
            if let Ok(_owned) = within("own", upkeep.own(Role::Maintenance, &keeper)).await {
                compacted += u64::from(within("compact", upkeep.compact(TABLE, &compaction())).await.is_ok());
                let _ = within("checkpoint", checkpoint_all(&upkeep)).await;
            }
        }
        version = quiet.snapshot(TABLE).await.map_or(0, |found| found.version);
    }
    store.heal();
    let mut last = Process::start(&lake(store.clone()), &collector).await.unwrap();
    assert_eq!(last.commit(&ledger).await.unwrap(), ledger.records());
    ledger.check(&quiet).await;
    ledger.check(&lake(store.clone())).await;
    let faults = store.faults();
    println!(
        "{version} commits, {} readings, {starts} starts, {failures} commits failed, {compacted} compactions, faults {faults:?}",
        ledger.readings()
    );
    assert!(faults.iter().all(|kind| *kind > 10) && failures > 10 && starts > 10 && compacted > 3);
}
