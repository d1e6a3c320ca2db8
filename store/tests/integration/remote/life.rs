//! Retention, erasure and backup of a lake in a bucket, while requests fail: each is called again until it is done, and what
//! it leaves is what it leaves on a disk.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use meterlake_model::{CustomerId, Timestamp};
use meterlake_store::life::{BackupOptions, RetentionRule, SubjectKind, Words, restore};
use meterlake_store::{Holder, Lake, Ownership, Role, StoreError};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::lake;
use super::server::Server;
use super::shaky::Shaky;
use crate::faults::quick_lake;
use crate::life::{AT, CUSTOMER, GONE, NAME, STAYS, catch_up, collect, counts, files_with, fill, hold, options};

const READINGS: &str = "electricity_readings";
/// Calls until something is done at one fault in five requests. Each goes on where the one before ended.
const CALLS: usize = 100;

/// Both leases; without them nothing of this is done to a lake in a bucket.
async fn own(lake: &Lake) -> [Ownership; 2] {
    let own = async |role| lake.own(role, &Holder::of_process("test")).await.unwrap();
    [own(Role::Collector).await, own(Role::Maintenance).await]
}

/// Calls until it is done; gives how often it failed. A failure is one of the line: nothing is refused or lost.
async fn done<T>(what: &str, mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> (T, usize) {
    for failures in 0..CALLS {
        match call().await {
            Ok(done) => return (done, failures),
            Err(e @ (StoreError::Refused { .. } | StoreError::Lost { .. } | StoreError::Foreign { .. })) => {
                panic!("{what} after {failures} failures: {e}")
            }
            Err(_) => {}
        }
    }
    panic!("{what}: not done by {CALLS} calls")
}

/// All objects below a prefix, as files below a folder.
async fn download(lake: &Lake, to: &FilePath) {
    let store = lake.object_store();
    let objects: Vec<_> = store.list(Some(&"some/lake".into())).try_collect().await.unwrap();
    for object in objects {
        let place = to.join(object.location.as_ref());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, store.get(&object.location).await.unwrap().bytes().await.unwrap()).unwrap();
    }
}

/// Whether any object names it, by the search of the program and by the tests' own; both agree.
async fn is_named(lake: &Lake, needle: &str) -> bool {
    let copy = tempfile::tempdir().unwrap();
    download(lake, copy.path()).await;
    let own = files_with(&[copy.path().to_owned()], needle);
    let searched = lake.search(&Words::new([needle])).await.unwrap();
    assert!(searched.files > 20 && searched.unreadable.is_empty(), "{searched:?}");
    assert_eq!(searched.found.is_empty(), own.is_empty(), "{:?} beside {own:?}", searched.found);
    !own.is_empty()
}

/// Takes old readings out, then a customer with the meter, then every older version; while `fail` lets requests fail.
/// Gives the failures of each.
async fn live(lake: &Lake, quiet: &Lake, journal: &FilePath, fail: &dyn Fn(bool)) -> [usize; 3] {
    let now = Timestamp::now();
    for needle in [GONE, CUSTOMER, NAME] {
        assert!(is_named(quiet, needle).await, "{needle}");
    }

    // October is over its time; of one meter a hold keeps it.
    let keep = Duration::from_secs(u64::try_from(now.unix_seconds() - AT - 12 * 86_400).unwrap());
    let rules = [RetentionRule { table: READINGS.into(), commodity: None, keep }];
    let id = lake.place_hold(&hold(Some((SubjectKind::Meter, STAYS))), now).await.unwrap();
    let holds = lake.holds().await.unwrap();
    let plan = lake.retain(&rules, &holds, now, true).await.unwrap();
    assert_eq!((plan[0].rows, plan[0].held_rows, plan[0].held_by.as_slice()), (8, 8, std::slice::from_ref(&id)));
    fail(true);
    let (_, retained) = done("retention", async || lake.retain(&rules, &holds, now, false).await).await;
    fail(false);
    assert_eq!(quiet.snapshot(READINGS).await.unwrap().rows(), 24);
    assert_eq!(quiet.retain(&rules, &holds, now, true).await.unwrap()[0].rows, 0);

    fail(true);
    let (_, erased) = done("erasure", async || {
        // As a person calls it again: by the name alone.
        let subject = lake.subject(SubjectKind::Customer, CUSTOMER).await?;
        match lake.erase(&subject, &options()).await {
            // The call before failed behind its last step.
            Err(e) if e.to_string().contains("no table has anything") => Ok(()),
            called => called.map(drop),
        }
    })
    .await;
    fail(false);
    let tombs = quiet.erasures().await.unwrap();
    assert!(!tombs.is_empty() && tombs.iter().all(|tomb| tomb.is_of(SubjectKind::Customer, CUSTOMER)), "{tombs:?}");
    assert_eq!(quiet.snapshot(READINGS).await.unwrap().rows(), 16, "those of the other meter, interrupted or not");
    let left = quiet.read_registry(None).await.unwrap();
    assert!(!left.customers.contains_key(&CustomerId::new(CUSTOMER).unwrap()) && left.usage_points.len() == 2);
    assert!(left.usage_points.values().all(|point| point.customer_id != CustomerId::new(CUSTOMER).ok()));
    assert_eq!(quiet.snapshot("steps").await.unwrap().rows(), 1, "of the other's alert");
    assert!(is_named(quiet, CUSTOMER).await, "in older versions still");

    fail(true);
    let mut cut = 0;
    for table in quiet.tables().await.unwrap() {
        cut += done("cut", async || lake.cut_history(&table).await).await.1;
    }
    fail(false);
    for needle in [CUSTOMER, NAME] {
        assert!(!is_named(quiet, needle).await, "{needle}");
    }
    assert!(is_named(quiet, STAYS).await);
    // Everything goes on: whoever has the tables open, and whoever opens them.
    collect(lake, journal, 16..18).await;
    let rows = |counts: Vec<(String, u64)>| counts.into_iter().find(|c| c.0 == READINGS).unwrap().1;
    assert_eq!((rows(counts(lake).await), rows(counts(quiet).await)), (20, 20));
    [retained, erased, cut]
}

/// Copies the lake out of the bucket while requests fail, and brings it back on a disk.
async fn bring_back(lake: &Lake, quiet: &Lake, journal: &FilePath, fail: &dyn Fn(bool)) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let backup = BackupOptions {
        to: dir.path().join("backups"),
        journal: journal.to_owned(),
        config: Vec::new(),
        now: Timestamp::now(),
        link: false,
    };
    fail(true);
    let (first, mut failures) = done("backup", async || lake.backup(&backup).await).await;
    let (second, more) = done("backup", async || lake.backup(&backup).await).await;
    fail(false);
    failures += more;
    assert!(first.copied_files + first.kept_files > 5);
    assert_eq!((second.copied_files, second.kept_files), (0, first.copied_files + first.kept_files));
    let (there, tail) = (dir.path().join("lake"), dir.path().join("tail"));
    restore(&backup.to, Some(&first.manifest.name), &there, &tail).await.unwrap();
    let back = quick_lake(&there);
    catch_up(&back, &tail).await;
    assert_eq!(counts(&back).await, counts(quiet).await);
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_bucket_go_by_age_and_by_name_and_come_back_through_one_fault_in_five_calls() {
    let (memory, journal) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (store, quiet) = (Shaky::new(memory.clone(), 12, 0), lake(memory));
    let shaky = lake(store.clone());
    let _owned = own(&shaky).await;
    fill(&shaky, journal.path()).await;
    let fail = |fails: bool| store.fail(if fails { 200 } else { 0 });
    let failures = live(&shaky, &quiet, journal.path(), &fail).await;
    let copying = bring_back(&shaky, &quiet, journal.path(), &fail).await;
    println!("failed calls {failures:?} and {copying}, faults {:?}", store.faults());
    assert!(store.faults().iter().sum::<u64>() > 20, "{:?}", store.faults());
    assert!(failures[1] > 0, "an erasure was interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_server_go_by_age_and_by_name_and_come_back_at_one_fault_in_twenty_requests() {
    let Some(server) = Server::start() else { return };
    let (near, journal) = (server.lake(), tempfile::tempdir().unwrap());
    let _owned = own(&near).await;
    fill(&near, journal.path()).await;
    let fail = |fails: bool| {
        let kinds = if fails { r#"{"seed": 5, "permille": {"error": 25, "after": 25}}"# } else { "{}" };
        server.fail(kinds);
    };
    let failures = live(&near, &server.lake(), journal.path(), &fail).await;
    let copying = bring_back(&near, &server.lake(), journal.path(), &fail).await;
    let counts = server.counts();
    println!("failed calls {failures:?} and {copying}, {counts}");
    assert!(counts["after"].as_u64() > Some(5) && counts["error"].as_u64() > Some(5), "{counts}");
}
