//! Holds one lease: renews it in the background and tells whether it is still ours.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};
use tokio::sync::watch;
use tokio::time::Instant;

use super::record::Record;
use super::{ATTEMPTS, Role};
use crate::error::StoreError;

/// A lease that was taken.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) role: Role,
    pub(super) epoch: i64,
    store: Arc<dyn ObjectStore>,
    key: Path,
    ttl: Duration,
    held: Mutex<Held>,
    lost: watch::Sender<Option<String>>,
}

#[derive(Debug, Clone)]
struct Held {
    record: Record,
    seen: UpdateVersion,
    /// By our own clock, counted from before the last renewal was sent.
    valid_until: Instant,
}

/// What became of an attempt to write the lease object.
pub(super) enum Written {
    Ours(UpdateVersion),
    /// An earlier writing of ours is there, whose answer was lost.
    Earlier(UpdateVersion),
    /// Another object is there, or none.
    Other(Option<Record>),
}

impl Keeper {
    /// `asked_at` is when the taking was sent.
    pub(super) fn new(
        role: Role,
        store: Arc<dyn ObjectStore>,
        key: Path,
        record: Record,
        seen: UpdateVersion,
        asked_at: Instant,
    ) -> Self {
        let (ttl, epoch) = (record.ttl(), record.epoch);
        let held = Mutex::new(Held { record, seen, valid_until: asked_at + trusted(ttl) });
        Self { role, epoch, store, key, ttl, held, lost: watch::Sender::new(None) }
    }

    /// Whether a commit may be tried now.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.lost.borrow().as_ref() {
            return Err(self.lost_error(reason));
        }
        let late = Instant::now().checked_duration_since(self.held().valid_until);
        match late {
            None => Ok(()),
            Some(late) => Err(StoreError::Lapsed {
                role: self.role.as_str(),
                reason: format!("it could not be renewed and ended {} ms ago", late.as_millis()),
            }),
        }
    }

    fn lost_error(&self, reason: &str) -> StoreError {
        StoreError::Lost { role: self.role.as_str(), reason: reason.to_owned() }
    }

    /// Notes that another has it.
    pub(super) fn lose(&self, reason: String) -> StoreError {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert(reason.clone());
            first
        });
        self.lost_error(&reason)
    }

    /// Returns once another has it.
    pub(super) async fn lost(&self) -> StoreError {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => self.lost_error(&reason),
            // The sender lives as long as we do.
            None => std::future::pending().await,
        }
    }

    /// Renews until the lease is lost.
    pub(super) async fn renew_for_ever(self: Arc<Self>) {
        let pause = self.ttl / 4;
        loop {
            tokio::time::sleep(pause).await;
            match tokio::time::timeout(pause.max(Duration::from_millis(50)), self.renew()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = %self.key, %error, "cannot renew the lease yet"),
                Err(_) => tracing::warn!(lease = %self.key, "the lease is not renewed yet: the store is slow"),
            }
        }
    }

    /// One renewal; tells whether the lease is still ours.
    pub(super) async fn renew(&self) -> Result<bool, StoreError> {
        self.rewrite(false).await
    }

    /// Gives the lease back, so that the next owner need not wait.
    pub(super) async fn release(&self) -> Result<(), StoreError> {
        self.lose("it was given back".to_owned());
        self.rewrite(true).await.map(drop)
    }

    async fn rewrite(&self, released: bool) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let (asked_at, Held { record, seen, .. }) = (Instant::now(), self.held());
            let record = Record { released, ..record }.written_now();
            match write(&self.store, &self.key, &record, Some(seen)).await? {
                Written::Ours(seen) => {
                    self.hold(Held { record, seen, valid_until: asked_at + trusted(self.ttl) });
                    return Ok(true);
                }
                // It says nothing about how long ago that was, so what it is worth stays as it was.
                Written::Earlier(seen) => self.hold(Held { record, seen, valid_until: self.held().valid_until }),
                Written::Other(other) => {
                    let error = self.lose(taken_by(other.as_ref()));
                    tracing::error!(lease = %self.key, "{error}");
                    return Ok(false);
                }
            }
        }
        // The next round goes on.
        Ok(true)
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn held(&self) -> Held {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The part of a lease that its holder relies on: clocks of two machines need not run at quite the same rate.
fn trusted(ttl: Duration) -> Duration {
    ttl - ttl / 5
}

fn taken_by(other: Option<&Record>) -> String {
    match other {
        Some(other) => format!("{} took over as its owner number {}", other.shown, other.epoch),
        None => "its object was removed from the store".to_owned(),
    }
}

/// Writes the lease object on the condition that it is what was seen, or is not there. Of a write whose answer was lost
/// the object tells whether it was done.
pub(super) async fn write(
    store: &Arc<dyn ObjectStore>,
    key: &Path,
    record: &Record,
    seen: Option<UpdateVersion>,
) -> Result<Written, StoreError> {
    let failed = |source| StoreError::storage(format!("write {key}"), source);
    let bytes = serde_json::to_vec(record).map_err(|e| StoreError::place(key, e))?;
    let mode = seen.map_or(PutMode::Create, PutMode::Update);
    match store.put_opts(key, bytes.into(), PutOptions { mode, ..PutOptions::default() }).await {
        Ok(put) => return Ok(Written::Ours(UpdateVersion { e_tag: put.e_tag, version: put.version })),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {}
        Err(source) => return Err(failed(source)),
    }
    match read(store, key).await? {
        // Nobody came between.
        Some((found, seen)) if found.token == record.token => Ok(Written::Earlier(seen)),
        other => Ok(Written::Other(other.map(|(found, _)| found))),
    }
}

/// The lease object and its version; `None` when there is none.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    key: &Path,
) -> Result<Option<(Record, UpdateVersion)>, StoreError> {
    let failed = |source| StoreError::storage(format!("read {key}"), source);
    let found = match store.get(key).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let seen = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    let bytes = found.bytes().await.map_err(failed)?;
    let record = serde_json::from_slice(&bytes)
        .map_err(|e| StoreError::place(key, format!("the lease cannot be read: {e}; remove it while nothing runs")))?;
    Ok(Some((record, seen)))
}
