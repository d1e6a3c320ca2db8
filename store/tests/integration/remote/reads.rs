//! Queries over a lake on an object store.

use std::sync::Arc;

use meterlake_model::Timestamp;
use meterlake_store::query::ReadOptions;
use meterlake_store::{CompactOptions, Holder};
use object_store::memory::InMemory;

use super::lake;
use super::ledger::{Ledger, Process};

pub(crate) fn compaction() -> CompactOptions {
    let now = Timestamp::parse_rfc3339("2026-11-20T00:00:00Z").unwrap();
    CompactOptions { now: Some(now), min_files: 3, ..CompactOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_read_a_lake_on_an_object_store() {
    let (lake, mut ledger) = (lake(Arc::new(InMemory::new())), Ledger::new(1));
    let holder = Holder::of_process("collector");
    let mut process = Process::start(&lake, &holder).await.unwrap();
    for _ in 0..10 {
        ledger.hear();
        process.commit(&ledger).await.unwrap();
    }
    assert_eq!(lake.tables().await.unwrap().len(), 5);
    let session = lake.session(ReadOptions::default()).await.unwrap();
    let found = session.sql("SELECT count(*) AS n FROM electricity WHERE meter_id >= ''").await.unwrap();
    let found = found.collect().await.unwrap();
    let counts = found[0].column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
    assert_eq!(usize::try_from(counts.value(0)).unwrap(), ledger.readings());
}
