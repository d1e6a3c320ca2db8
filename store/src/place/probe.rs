//! Whether the object store honours conditional puts, without which two commits of one version both "succeed".

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutResult, Result, UpdateVersion};
use uuid::Uuid;

use crate::error::StoreError;
use crate::place::Place;

/// Below the root, beside the tables.
const PROBES: &str = "_meterlake_probe";
const REPAIR: &str = "commits would overwrite each other and lose readings. Use a store with conditional writes (AWS S3, \
                      MinIO, Ceph from Squid on, Cloudflare R2 and others have them; a gateway or cache in between may \
                      take the condition away), or a local disk";

/// Puts a probe twice on the condition that it is not there, and once on the condition that it is another's; the second
/// and third must fail. A store that ignores a condition or does not know it is refused.
pub(crate) async fn prove_conditional_puts(place: &Place) -> std::result::Result<(), StoreError> {
    if place.local_root().is_some() {
        // The file system's own hard links see to it.
        return Ok(());
    }
    let store = place.store();
    let key = place.key(PROBES)?.join(Uuid::new_v4().simple().to_string());
    let outcome = probe(store.as_ref(), &key).await;
    // It is of no use any more; what a failure leaves is a few bytes.
    let _ = store.delete(&key).await;
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(flaw)) => Err(StoreError::place(place.root().display(), format!("{flaw}: {REPAIR}"))),
        Err(source) => Err(StoreError::storage(format!("try conditional puts at {}", place.shown(&key)), source)),
    }
}

/// What is wrong with conditional puts, if anything.
async fn probe(store: &dyn ObjectStore, key: &Path) -> Result<Option<&'static str>> {
    let first = match put(store, key, "first", PutMode::Create).await {
        Ok(put) => put,
        // An attempt inside the client that was answered too late: the probe is there by now.
        Err(Error::AlreadyExists { .. }) => PutResult { e_tag: store.head(key).await?.e_tag, version: None },
        Err(Error::NotImplemented { .. }) => return Ok(Some("it does not know puts on the condition of absence")),
        Err(e) => return Err(e),
    };
    match put(store, key, "second", PutMode::Create).await {
        Err(Error::AlreadyExists { .. }) => {}
        Ok(_) => return Ok(Some("it ignores the condition that an object must not be there (If-None-Match)")),
        Err(e) => return Err(e),
    }
    if first.e_tag.is_none() {
        return Ok(Some("it gives objects no entity tag"));
    }
    let seen = UpdateVersion { e_tag: first.e_tag, version: None };
    match put(store, key, "third", PutMode::Update(seen.clone())).await {
        Ok(_) | Err(Error::Precondition { .. }) => {}
        Err(Error::NotImplemented { .. }) => return Ok(Some("it does not know puts on the condition of equality")),
        Err(e) => return Err(e),
    }
    match put(store, key, "fourth", PutMode::Update(seen)).await {
        Err(Error::Precondition { .. }) => {}
        Ok(_) => return Ok(Some("it ignores the condition that an object must be as it was seen (If-Match)")),
        Err(e) => return Err(e),
    }
    let found: Bytes = store.get(key).await?.bytes().await?;
    Ok((found != "third").then_some("it reads other bytes than were written last"))
}

async fn put(store: &dyn ObjectStore, key: &Path, text: &'static str, mode: PutMode) -> Result<PutResult> {
    store.put_opts(key, text.into(), PutOptions { mode, ..PutOptions::default() }).await
}
