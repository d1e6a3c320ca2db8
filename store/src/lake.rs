//! All tables under one root: created, opened, listed, appended to, and derived ones replaced by partition.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::FieldRef;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::delta_schema;
use crate::durable::DurableFileSystem;
use crate::error::StoreError;
use crate::lease::Guard;
use crate::log::Log;
use crate::place::{Location, Place};
use crate::table::{TableSnapshot, TableSpec};

/// How long an owner on an object store may be silent, where nothing else is said.
const LEASE: Duration = Duration::from_secs(30);

/// The tables under one root. Cheap to clone; clones share what they have read of the logs.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Arc<Place>,
    /// Shared with the logs.
    guard: Arc<Guard>,
    lease: Duration,
    logs: Mutex<HashMap<String, Arc<Mutex<Log>>>>,
}

impl Lake {
    /// Opens the lake below a directory, which is created when it is not there.
    ///
    /// # Errors
    /// When the directory cannot be created or resolved.
    pub fn open(root: &FilePath) -> Result<Self, StoreError> {
        Self::open_with(root, Arc::new(DurableFileSystem::default()))
    }

    /// As [`Self::open`], over another store of the whole file system: for tests that count or fail.
    ///
    /// # Errors
    /// When the directory cannot be created or resolved.
    pub fn open_with(root: &FilePath, store: Arc<dyn ObjectStore>) -> Result<Self, StoreError> {
        Ok(Self::at(Place::directory(root, store)?, LEASE))
    }

    /// Opens the lake at a place. A folder is created when it is not there; a bucket must be there and is asked nothing
    /// yet: that it honours conditional puts is proved before the first commit.
    ///
    /// # Errors
    /// When the folder cannot be created, or the settings make no client.
    pub fn connect(location: &Location) -> Result<Self, StoreError> {
        let lease = match location {
            Location::Local(_) => LEASE,
            Location::S3(s3) => s3.lease,
        };
        Ok(Self::at(Place::connect(location)?, lease))
    }

    /// As [`Self::connect`], over another store of the whole bucket: for tests that count or fail.
    ///
    /// # Errors
    /// When bucket and prefix make no URL.
    pub fn connect_with(
        bucket: &str,
        prefix: &str,
        store: Arc<dyn ObjectStore>,
        lease: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self::at(Place::bucket(bucket, prefix, store)?, lease))
    }

    fn at(place: Place, lease: Duration) -> Self {
        let place = Arc::new(place);
        let guard = Arc::new(Guard::new(place.clone()));
        Self { inner: Arc::new(Inner { place, guard, lease, logs: Mutex::new(HashMap::new()) }) }
    }

    /// The directory of a lake on a local disk. Of one on an object store its URL, which names no file.
    pub fn root(&self) -> &FilePath {
        self.inner.place.root()
    }

    /// The directory of a lake on a local disk; `None` on an object store.
    pub fn local_root(&self) -> Option<&FilePath> {
        self.inner.place.local_root()
    }

    /// The store of the whole file system, with durable writes, or of the whole bucket.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.inner.place.store().clone()
    }

    /// Where a table is, below [`Self::root`]: a directory of a lake on a local disk.
    pub fn table_path(&self, table: &str) -> PathBuf {
        self.root().join(table)
    }

    /// Where a table is within [`Self::object_store`].
    ///
    /// # Errors
    /// When the name makes no key.
    pub fn table_key(&self, table: &str) -> Result<Path, StoreError> {
        self.inner.place.key(table)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.inner.guard
    }

    pub(crate) fn lease(&self) -> Duration {
        self.inner.lease
    }

    /// Creates the table when it is not there. One that an older program wrote gains the columns that it lacks; its
    /// files stay as they are, and read as null there.
    ///
    /// # Errors
    /// `Foreign` when it is there with columns that this program does not know, other types, another order or protocol.
    pub async fn ensure(&self, spec: &TableSpec) -> Result<(), StoreError> {
        let log = match self.log(spec.name).await {
            Ok(log) => log,
            Err(StoreError::NoTable(_)) => {
                self.guard().prove().await?;
                let log = Log::create(self.place(), self.guard(), spec).await?;
                self.remember(spec.name, log).await
            }
            Err(e) => return Err(e),
        };
        let mut log = log.lock().await;
        // A newer program may have added columns since it was opened.
        log.refresh().await?;
        if !check_spec(spec, log.state())?.is_empty() {
            log.grow(spec).await?;
        }
        Ok(())
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// `NoTable` when there is none; others when its log cannot be read.
    pub async fn snapshot(&self, table: &str) -> Result<TableSnapshot, StoreError> {
        let mut log = self.locked(table).await?;
        log.refresh().await?;
        Ok(log.state().clone())
    }

    /// The names of all tables, in order.
    ///
    /// # Errors
    /// When the root cannot be listed.
    pub async fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.place().tables().await
    }

    /// The table's log, for this process alone until it is dropped. It may be out of date: refresh it.
    pub(crate) async fn locked(&self, table: &str) -> Result<OwnedMutexGuard<Log>, StoreError> {
        Ok(self.log(table).await?.lock_owned().await)
    }

    async fn log(&self, table: &str) -> Result<Arc<Mutex<Log>>, StoreError> {
        if let Some(log) = self.inner.logs.lock().await.get(table) {
            return Ok(log.clone());
        }
        if !self.place().has_table(table).await? {
            return Err(StoreError::NoTable(table.to_owned()));
        }
        let log = Log::open(self.place(), self.guard(), table).await?;
        Ok(self.remember(table, log).await)
    }

    /// Keeps a log, or the one that another task opened meanwhile.
    async fn remember(&self, table: &str, log: Log) -> Arc<Mutex<Log>> {
        let mut logs = self.inner.logs.lock().await;
        logs.entry(table.to_owned()).or_insert_with(|| Arc::new(Mutex::new(log))).clone()
    }
}

/// Puts a data file in its place below the table.
pub(crate) async fn put_file(log: &Log, path: &str, bytes: bytes::Bytes) -> Result<(), StoreError> {
    let place = Path::from(path);
    let what = || format!("write {}/{path}", log.state().name);
    log.store().put(&place, bytes.into()).await.map(drop).map_err(|source| StoreError::storage(what(), source))
}

/// The columns that the table must gain to be what the specification says.
pub(crate) fn check_spec(spec: &TableSpec, found: &TableSnapshot) -> Result<Vec<FieldRef>, StoreError> {
    let foreign = |reason: String| StoreError::foreign(spec.name, reason);
    let missing = delta_schema::missing(&spec.schema, &found.schema).map_err(foreign)?;
    if spec.partition_by != found.partition_by {
        let (is, should) = (&found.partition_by, spec.partition_by);
        return Err(foreign(format!("it is partitioned by {is:?} instead of {should:?}")));
    }
    if spec.sort_by != found.sort_by {
        let (is, should) = (&found.sort_by, spec.sort_by);
        return Err(foreign(format!("it is sorted by {is:?} instead of {should:?}")));
    }
    Ok(missing)
}

/// All objects below the table, the log apart.
pub(crate) async fn list_data(log: &Log) -> Result<Vec<object_store::ObjectMeta>, StoreError> {
    let mut found = Vec::new();
    let mut objects = log.store().list(None);
    while let Some(object) = objects.next().await {
        let object = object.map_err(|source| StoreError::storage(format!("list {}", log.state().name), source))?;
        if !object.location.as_ref().starts_with("_delta_log") {
            found.push(object);
        }
    }
    Ok(found)
}
