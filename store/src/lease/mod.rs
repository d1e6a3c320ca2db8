//! One owner at a time for each stream: the collector that feeds the tables, and the process that rewrites them.
//!
//! On a local disk the operating system's locks see to it. On an object store an owner writes a lease object by
//! conditional put and renews it; whoever finds it unchanged for as long as it says, by a clock of its own, takes over
//! with a higher epoch. No two machines' clocks are compared.
//!
//! A lease only keeps two owners from working against each other for long. What is committed never depends on it: the
//! epoch is an application transaction of every commit that its owner makes, a commit of an owner whose epoch was
//! passed is refused by the log itself, and so is one whose journal position is not the table's.

mod keeper;
mod record;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::StoreError;
use crate::lake::Lake;
use crate::lease::keeper::{Keeper, Written};
use crate::lease::record::{Record, next_epoch};
use crate::place::{Place, prove_conditional_puts};

/// Below the root, beside the tables.
const LEASES: &str = "_meterlake_leases";
/// Looks at another's lease while it is waited for.
const LOOKS: u32 = 20;
/// Others may be quicker so many times in a row.
const ATTEMPTS: usize = 5;
/// The file beside the journal that names its collector.
const HOLDER_FILE: &str = "lease-holder";

/// What there is one owner of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Feeds the tables of what comes in from its journal.
    Collector,
    /// Rewrites tables: compaction, everything derived, retention.
    Maintenance,
    /// Gives numbers to what people do to bills, one after the other.
    Billing,
}

impl Role {
    /// Every role that owns what is in tables.
    pub const ALL: [Self; 2] = [Self::Collector, Self::Maintenance];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Maintenance => "maintenance",
            Self::Billing => "billing",
        }
    }

    /// The application transaction that carries the epoch of its owner.
    pub(crate) fn app(self) -> String {
        format!("meterlake/owner/{}", self.as_str())
    }
}

/// Who owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The same after a restart only where something else makes sure that there is one such process at most.
    id: String,
    /// For people.
    shown: String,
}

impl Holder {
    /// A process that is gone for good when it ends: its successor waits for its lease to end.
    pub fn of_process(what: &str) -> Self {
        Self { id: Uuid::new_v4().to_string(), shown: shown(what) }
    }

    /// The process that holds the lock of this journal. It takes its own lease up again without waiting.
    ///
    /// # Errors
    /// When its name cannot be read from the folder or written there.
    pub fn of_journal(dir: &FilePath, what: &str) -> Result<Self, StoreError> {
        let path = dir.join(HOLDER_FILE);
        let wrap = |source| StoreError::Directory { path: path.clone(), source };
        let found = match std::fs::read_to_string(&path) {
            Ok(text) => Uuid::try_parse(text.trim()).ok(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(wrap(e)),
        };
        let id = match found {
            Some(id) => id,
            None => {
                // What a power cut leaves of it is no name, and another is made: that costs the wait for a lease.
                let id = Uuid::new_v4();
                let mut file = File::create(&path).map_err(wrap)?;
                file.write_all(id.to_string().as_bytes()).and_then(|()| file.sync_all()).map_err(wrap)?;
                id
            }
        };
        Ok(Self { id: id.to_string(), shown: shown(what) })
    }
}

fn shown(what: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("this machine").to_owned();
    format!("{what}, process {} on {host}", std::process::id())
}

/// The ownership of a stream, until it is dropped or given back.
#[derive(Debug)]
pub struct Ownership(Kind);

#[derive(Debug)]
enum Kind {
    /// Another lock, such as the journal's, sees to it.
    Elsewhere,
    Lock {
        _file: File,
    },
    Lease {
        guard: Arc<Guard>,
        keeper: Arc<Keeper>,
        renewal: AbortHandle,
    },
}

impl Ownership {
    /// Which ownership it is: a later one has a higher number. `None` where there is no lease.
    pub fn epoch(&self) -> Option<i64> {
        match &self.0 {
            Kind::Lease { keeper, .. } => Some(keeper.epoch),
            _ => None,
        }
    }

    /// Returns once another is the owner, with what happened; never on a local disk.
    pub async fn lost(&self) -> StoreError {
        match &self.0 {
            Kind::Lease { keeper, .. } => keeper.lost().await,
            _ => std::future::pending().await,
        }
    }

    /// Gives it back, so that the next owner need not wait for the lease to end. Nothing more can be committed under it.
    ///
    /// # Errors
    /// When the store could not be told; the lease then ends by itself.
    pub async fn release(self) -> Result<(), StoreError> {
        match &self.0 {
            Kind::Lease { keeper, renewal, .. } => {
                renewal.abort();
                keeper.release().await
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        if let Kind::Lease { guard, keeper, renewal } = &self.0 {
            renewal.abort();
            guard.forget(keeper);
        }
    }
}

/// What stands between a commit and the store: the proof of conditional puts, and the leases of this process.
#[derive(Debug)]
pub(crate) struct Guard {
    place: Arc<Place>,
    proven: OnceCell<()>,
    keepers: Mutex<HashMap<Role, Arc<Keeper>>>,
}

impl Guard {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self { place, proven: OnceCell::new(), keepers: Mutex::default() }
    }

    /// Proves conditional puts, once for each lake that is opened.
    pub(crate) async fn prove(&self) -> Result<(), StoreError> {
        self.proven.get_or_try_init(|| prove_conditional_puts(&self.place)).await.map(drop)
    }

    /// The epoch under which an owner commits to a table that has seen `found`. `None`: there is no lease here.
    pub(crate) fn epoch(&self, table: &str, role: Role, found: Option<i64>) -> Result<Option<i64>, StoreError> {
        if self.place.local_root().is_some() {
            return Ok(None);
        }
        let keeper = self.keepers().get(&role).cloned();
        let Some(keeper) = keeper else {
            let reason = format!("whoever writes as its {} holds a lease, and this process holds none", role.as_str());
            return Err(StoreError::refused(table, reason));
        };
        keeper.check()?;
        match found.filter(|found| *found > keeper.epoch) {
            Some(found) => {
                let epoch = keeper.epoch;
                Err(keeper.lose(format!("table {table} was taken over by owner number {found}; ours is {epoch}")))
            }
            None => Ok(Some(keeper.epoch)),
        }
    }

    fn keepers(&self) -> std::sync::MutexGuard<'_, HashMap<Role, Arc<Keeper>>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, keeper: &Arc<Keeper>) {
        let mut keepers = self.keepers();
        if keepers.get(&keeper.role).is_some_and(|held| Arc::ptr_eq(held, keeper)) {
            keepers.remove(&keeper.role);
        }
    }
}

impl Lake {
    /// Makes this process the owner of a stream. On an object store it may wait for the lease of an owner that is gone.
    ///
    /// # Errors
    /// `Owned` when another is the owner and alive; others when the store cannot be used for this.
    pub async fn own(&self, role: Role, holder: &Holder) -> Result<Ownership, StoreError> {
        let place = self.place();
        if let Some(root) = place.local_root() {
            return match role {
                Role::Collector => Ok(Ownership(Kind::Elsewhere)),
                Role::Maintenance => lock(root, role, "jobs.lock"),
                Role::Billing => lock(root, role, "billing.lock"),
            };
        }
        self.guard().prove().await?;
        let key = place.key(LEASES)?.join(format!("{}.json", role.as_str()));
        let keeper = Arc::new(take(place, &key, role, holder, self.lease()).await?);
        self.guard().keepers().insert(role, keeper.clone());
        let renewal = tokio::spawn(keeper.clone().renew_for_ever()).abort_handle();
        tracing::info!(role = role.as_str(), epoch = keeper.epoch, "lease taken");
        Ok(Ownership(Kind::Lease { guard: self.guard().clone(), keeper, renewal }))
    }
}

/// The lock of a folder.
fn lock(root: &FilePath, role: Role, name: &str) -> Result<Ownership, StoreError> {
    let path = root.join(name);
    let wrap = |source| StoreError::Directory { path: path.clone(), source };
    let file = File::create(&path).map_err(wrap)?;
    match file.try_lock() {
        Ok(()) => Ok(Ownership(Kind::Lock { _file: file })),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StoreError::Owned { role: role.as_str(), by: format!("{} is locked", path.display()) })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(wrap(source)),
    }
}

/// Takes the lease, waiting for another's to end unless it is renewed meanwhile.
async fn take(place: &Place, key: &Path, role: Role, holder: &Holder, ttl: Duration) -> Result<Keeper, StoreError> {
    let store = place.store();
    let token = Uuid::new_v4().to_string();
    for _ in 0..ATTEMPTS {
        let found = match keeper::read(store, key).await? {
            Some((record, seen)) if !(record.released || record.holder == holder.id) => {
                tracing::info!(by = record.shown, wait_s = record.ttl().as_secs(), "waiting for a lease to end");
                wait(place, key, role, &record).await?;
                Some((record, seen))
            }
            found => found,
        };
        let record = Record {
            holder: holder.id.clone(),
            shown: holder.shown.clone(),
            token: token.clone(),
            epoch: next_epoch(found.as_ref().map(|(record, _)| record.epoch)),
            beat: 0,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            released: false,
            written_at: String::new(),
        };
        let (asked_at, record) = (Instant::now(), record.written_now());
        let seen = found.map(|(_, seen)| seen);
        if let Written::Ours(seen) | Written::Earlier(seen) = keeper::write(store, key, &record, seen).await? {
            return Ok(Keeper::new(role, store.clone(), key.clone(), record, seen, asked_at));
        }
    }
    Err(StoreError::Owned { role: role.as_str(), by: format!("others were quicker {ATTEMPTS} times in a row") })
}

/// Returns when the lease was not renewed for as long as it lasts, by our own clock.
async fn wait(place: &Place, key: &Path, role: Role, first: &Record) -> Result<(), StoreError> {
    let ends = Instant::now() + first.ttl();
    while Instant::now() < ends {
        tokio::time::sleep(first.ttl() / LOOKS).await;
        match keeper::read(place.store(), key).await? {
            Some((now, _)) if !now.released && (&now.token, now.beat) != (&first.token, first.beat) => {
                let by = format!("{} holds its lease {}", now.shown, place.shown(key));
                return Err(StoreError::Owned { role: role.as_str(), by });
            }
            Some((now, _)) if !now.released => {}
            _ => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
