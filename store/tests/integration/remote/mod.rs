//! A lake on an object store: exactly once through every fault, and one owner at a time.
//!
//! | test | in CI | long form, `METERLAKE_LONG=1` |
//! |---|---|---|
//! | commits at 20 % faults | 300 | 10,000 |
//! | two writers, overlapping maintenance | 25 each | 500 each |
//! | commits to a server process (`METERLAKE_PEERS=1`) | 40 | 1,000 |

mod ledger;
mod life;
mod once;
mod owners;
mod reads;
mod server;
mod shaky;

use std::sync::Arc;
use std::time::Duration;

use meterlake_store::{Lake, StoreError};
use object_store::ObjectStore;

/// Leases that end while a test waits are not what these tests are about.
const LEASE: Duration = Duration::from_secs(60);

fn lake(store: Arc<dyn ObjectStore>) -> Lake {
    Lake::connect_with("bucket", "some/lake", store, LEASE).unwrap()
}

/// As the jobs process does it for each table. The first failure ends it.
async fn checkpoint_all(lake: &Lake) -> Result<(), StoreError> {
    for table in lake.tables().await? {
        lake.checkpoint(&table).await?;
    }
    Ok(())
}

/// The share of CI, or the long form.
fn share(short: u64, long: u64) -> u64 {
    if std::env::var_os("METERLAKE_LONG").is_some_and(|value| value == "1") { long } else { short }
}
