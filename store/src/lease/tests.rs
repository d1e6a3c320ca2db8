//! Who owns, and who is refused, as time passes. Time is virtual: it passes while everyone waits.

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::*;

const TTL: Duration = Duration::from_secs(20);

fn lake(store: &Arc<InMemory>) -> Lake {
    let store: Arc<dyn ObjectStore> = store.clone();
    Lake::connect_with("bucket", "lake", store, TTL).unwrap()
}

fn check(lake: &Lake) -> Result<Option<i64>, StoreError> {
    lake.guard().epoch("t", Role::Collector, None)
}

#[tokio::test(start_paused = true)]
async fn a_second_owner_is_refused_while_the_first_lives_and_follows_it_when_it_is_silent() {
    let store = Arc::new(InMemory::new());
    let (one, two) = (lake(&store), lake(&store));
    let first = one.own(Role::Collector, &Holder::of_process("first")).await.unwrap();
    let refusal = two.own(Role::Collector, &Holder::of_process("second")).await.unwrap_err();
    assert!(
        matches!(&refusal, StoreError::Owned { role: "collector", by } if by.starts_with("first, process")),
        "{refusal}"
    );
    assert!(check(&one).unwrap() == first.epoch() && check(&two).is_err());
    // Another role is another's.
    two.own(Role::Maintenance, &Holder::of_process("second")).await.unwrap();

    // It dies without a word.
    let (epoch, began) = (first.epoch().unwrap(), Instant::now());
    drop(first);
    assert!(check(&one).is_err());
    let second = two.own(Role::Collector, &Holder::of_process("second")).await.unwrap();
    assert!(began.elapsed() >= TTL, "{:?}", began.elapsed());
    assert!(second.epoch().unwrap() > epoch);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_or_is_its_own_is_taken_at_once() {
    let store = Arc::new(InMemory::new());
    let began = Instant::now();
    let first = lake(&store).own(Role::Collector, &Holder::of_process("first")).await.unwrap();
    first.release().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let journal = || Holder::of_journal(dir.path(), "second").unwrap();
    drop(lake(&store).own(Role::Collector, &journal()).await.unwrap());
    drop(lake(&store).own(Role::Collector, &journal()).await.unwrap());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_taken_over_learns_it_and_commits_no_more() {
    let store = Arc::new(InMemory::new());
    let (one, two) = (lake(&store), lake(&store));
    // As if a machine was copied while it ran.
    let holder = Holder::of_process("twin");
    let first = one.own(Role::Collector, &holder).await.unwrap();
    let second = two.own(Role::Collector, &holder).await.unwrap();
    assert!(check(&one).is_ok(), "it does not know yet");
    let lost = tokio::time::timeout(TTL, first.lost()).await.unwrap();
    assert!(matches!(lost, StoreError::Lost { role: "collector", .. }), "{lost}");
    assert!(matches!(check(&one), Err(StoreError::Lost { .. })));
    assert!(check(&two).is_ok());
    // A table tells the same, to an owner that is a step behind.
    let newer = second.epoch().unwrap() + 1;
    let refusal = two.guard().epoch("t", Role::Collector, Some(newer)).unwrap_err();
    assert!(matches!(refusal, StoreError::Lost { .. }), "{refusal}");
    assert!(matches!(check(&two), Err(StoreError::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_as_long_as_it_is_renewed_and_what_cannot_be_renewed_lapses() {
    let store = Arc::new(InMemory::new());
    let lake = lake(&store);
    let owned = lake.own(Role::Collector, &Holder::of_process("first")).await.unwrap();
    tokio::time::sleep(10 * TTL).await;
    check(&lake).unwrap();
    let Kind::Lease { keeper, renewal, .. } = &owned.0 else { panic!("no lease") };
    renewal.abort();
    tokio::time::sleep(TTL - TTL / 8).await;
    assert!(matches!(check(&lake), Err(StoreError::Lapsed { .. })), "before another may take it");
    assert!(keeper.renew().await.unwrap(), "nobody took it");
    check(&lake).unwrap();
    // Somebody removes it: that is no lease any more.
    store.delete(&lake.place().key(LEASES).unwrap().join("collector.json")).await.unwrap();
    assert!(!keeper.renew().await.unwrap());
    assert!(matches!(check(&lake), Err(StoreError::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_known_again() {
    let store = Arc::new(InMemory::new());
    let lake = lake(&store);
    let owned = lake.own(Role::Collector, &Holder::of_process("first")).await.unwrap();
    let Kind::Lease { keeper, .. } = &owned.0 else { panic!("no lease") };
    let key = lake.place().key(LEASES).unwrap().join("collector.json");
    let shared: Arc<dyn ObjectStore> = store.clone();
    // What a renewal writes, without its answer.
    let (record, seen) = keeper::read(&shared, &key).await.unwrap().unwrap();
    keeper::write(&shared, &key, &record.written_now(), Some(seen)).await.unwrap();
    assert!(keeper.renew().await.unwrap());
    check(&lake).unwrap();
}

#[tokio::test]
async fn on_a_local_disk_a_lock_tells_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Lake::open(dir.path()).unwrap(), Lake::open(dir.path()).unwrap());
    let holder = Holder::of_process("jobs");
    let first = one.own(Role::Maintenance, &holder).await.unwrap();
    assert_eq!(first.epoch(), None);
    let refusal = two.own(Role::Maintenance, &holder).await.unwrap_err();
    assert!(refusal.to_string().contains("jobs.lock is locked"), "{refusal}");
    first.release().await.unwrap();
    two.own(Role::Maintenance, &holder).await.unwrap();
    // The journal's lock is that of its collector.
    one.own(Role::Collector, &holder).await.unwrap();
    two.own(Role::Collector, &holder).await.unwrap();
}
