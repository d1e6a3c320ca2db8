//! A local object store whose writes are on disk when they return.
//!
//! `object_store`'s own `LocalFileSystem` never syncs: after a power cut it leaves empty files and unreadable tables.
//! Here a file is written beside its place, synced, moved into place and its directory synced, in this order, so that
//! a name never shows before its bytes are durable. Reading and listing are left to `LocalFileSystem`, which hides the
//! staging files (`name#1`) that a crash may leave.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

const STORE: &str = "durable local file system";
/// Directories above a file that may be new: the partition or log, the table, the lake and the one that holds it. A
/// table of two partition columns has one more.
const LEVELS: usize = 5;

/// How a file and a directory are brought to disk. A seam, so that tests can count and fail.
pub trait DiskSync: fmt::Debug + Send + Sync + 'static {
    /// Returns when the bytes and the length of the file are durable.
    ///
    /// # Errors
    /// When the system reports that they may not be.
    fn file(&self, file: &File) -> io::Result<()>;

    /// Returns when the names in the directory are durable.
    ///
    /// # Errors
    /// When the system reports that they may not be.
    fn directory(&self, path: &FilePath) -> io::Result<()>;
}

/// The operating system's own calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSync;

impl DiskSync for SystemSync {
    fn file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn directory(&self, path: &FilePath) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The local file system, from its root, with durable writes.
#[derive(Debug, Clone)]
pub struct DurableFileSystem {
    inner: Arc<LocalFileSystem>,
    sync: Arc<dyn DiskSync>,
    /// Directories whose names this process has seen to disk.
    settled: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Default for DurableFileSystem {
    fn default() -> Self {
        Self::with_sync(Arc::new(SystemSync))
    }
}

impl DurableFileSystem {
    /// With other calls than the system's own.
    pub fn with_sync(sync: Arc<dyn DiskSync>) -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), sync, settled: Arc::default() }
    }

    /// Creates a directory and those above it where they are missing, each durable in its parent. One that is there may
    /// have been made by a process that died before its name was durable: each process sees to it once, as many levels
    /// up as a lake has.
    fn settle(&self, directory: &FilePath, levels: usize) -> Result<()> {
        let is_settled = || self.settled.lock().is_ok_and(|settled| settled.contains(directory));
        let Some(parent) = directory.parent().filter(|_| levels > 0 && !is_settled()) else { return Ok(()) };
        self.settle(parent, levels - 1)?;
        match std::fs::create_dir(directory) {
            Err(e) if !directory.is_dir() => return Err(failed(directory, "created", e)),
            _ => {}
        }
        match self.sync.directory(parent) {
            // What we may not even read is none of ours: it was there before us.
            Err(e) if e.kind() != ErrorKind::PermissionDenied => return Err(failed(parent, "synced", e)),
            _ => {}
        }
        if let Ok(mut settled) = self.settled.lock() {
            settled.insert(directory.to_owned());
        }
        Ok(())
    }

    fn put_now(&self, path: &FilePath, payload: &PutPayload, replace: bool) -> Result<()> {
        let sync = self.sync.as_ref();
        if let Some(parent) = path.parent() {
            self.settle(parent, LEVELS)?;
        }
        let (mut file, staging) = stage(path)?;
        let written = (|| {
            for part in payload {
                file.write_all(part).map_err(|e| failed(&staging, "written", e))?;
            }
            sync.file(&file).map_err(|e| failed(&staging, "synced", e))?;
            drop(file);
            if replace {
                std::fs::rename(&staging, path).map_err(|e| failed(path, "replaced", e))
            } else {
                std::fs::hard_link(&staging, path).map_err(|e| match e.kind() {
                    ErrorKind::AlreadyExists => {
                        Error::AlreadyExists { path: path.display().to_string(), source: Box::new(e) }
                    }
                    _ => failed(path, "created", e),
                })
            }
        })();
        if written.is_err() || !replace {
            // What stays of it is hidden from every listing, so a failure here harms nobody.
            let _ = std::fs::remove_file(&staging);
        }
        written?;
        sync_parent(sync, path)
    }

    async fn sync_in_place(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let sync = self.sync.clone();
        blocking(move || {
            let file = File::open(&path).map_err(|e| failed(&path, "opened for sync", e))?;
            sync.file(&file).map_err(|e| failed(&path, "synced", e))?;
            sync_parent(sync.as_ref(), &path)
        })
        .await
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let replace = match opts.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "put with a condition other than absence".into(),
                    implementer: STORE.into(),
                });
            }
        };
        let path = self.inner.path_to_filesystem(location)?;
        let this = self.clone();
        blocking(move || this.put_now(&path, &payload, replace)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, location: location.clone(), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync_in_place(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync_in_place(to).await
    }
}

/// An upload in parts; it is durable when `complete` returns.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    store: DurableFileSystem,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        self.store.sync_in_place(&self.location).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// A new file beside `path`, hidden from listings.
fn stage(path: &FilePath) -> Result<(File, PathBuf)> {
    let mut number = 1_u32;
    loop {
        let mut staging = path.as_os_str().to_owned();
        staging.push(format!("#{number}"));
        let staging = PathBuf::from(staging);
        match OpenOptions::new().write(true).create_new(true).open(&staging) {
            Ok(file) => return Ok((file, staging)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(failed(&staging, "created", e)),
        }
    }
}

fn sync_parent(sync: &dyn DiskSync, path: &FilePath) -> Result<()> {
    match path.parent() {
        Some(parent) => sync.directory(parent).map_err(|e| failed(parent, "synced", e)),
        None => Ok(()),
    }
}

/// Says what could not be done to which path.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be {what}: {source}")]
struct DiskError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

fn failed(path: &FilePath, what: &'static str, source: io::Error) -> Error {
    Error::Generic { store: STORE, source: Box::new(DiskError { path: path.to_owned(), what, source }) }
}

/// Off the asynchronous workers where there are any.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?,
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt as _;

    /// Notes every sync, and fails those from `fail_at` on.
    #[derive(Debug, Default)]
    struct Noted {
        calls: Mutex<Vec<String>>,
        fail_at: Mutex<Option<usize>>,
    }

    impl Noted {
        fn note(&self, what: String) -> io::Result<()> {
            let mut calls = self.calls.lock().unwrap();
            calls.push(what);
            match *self.fail_at.lock().unwrap() {
                Some(n) if calls.len() >= n => Err(io::Error::other("the disk is gone")),
                _ => Ok(()),
            }
        }

        /// What was noted since the last time.
        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }
    }

    impl DiskSync for Noted {
        fn file(&self, file: &File) -> io::Result<()> {
            self.note(format!("file of {} bytes", file.metadata()?.len()))
        }

        fn directory(&self, path: &FilePath) -> io::Result<()> {
            self.note(format!("directory {}", path.file_name().unwrap_or_default().display()))
        }
    }

    fn at(dir: &FilePath, name: &str) -> Path {
        Path::from_absolute_path(dir.join(name)).unwrap()
    }

    fn create() -> PutOptions {
        PutOptions { mode: PutMode::Create, ..PutOptions::default() }
    }

    #[tokio::test]
    async fn bytes_are_synced_before_their_name_and_every_new_directory_too() {
        let dir = tempfile::tempdir().unwrap();
        let noted = Arc::new(Noted::default());
        let store = DurableFileSystem::with_sync(noted.clone());
        store.put_opts(&at(dir.path(), "a/b/one"), "hello".into(), create()).await.unwrap();
        let root = format!("directory {}", dir.path().file_name().unwrap().display());
        let calls = noted.taken();
        // Whoever made the folder itself may have died before its name was durable, too.
        assert!(calls.len() > 4, "{calls:?}");
        assert_eq!(calls[calls.len() - 4..], [root.as_str(), "directory a", "file of 5 bytes", "directory b"]);
        store.put_opts(&at(dir.path(), "a/b/two"), "hello".into(), create()).await.unwrap();
        assert_eq!(noted.taken(), ["file of 5 bytes", "directory b"], "once is enough");
        // The next process knows nothing of it.
        let next = Arc::new(Noted::default());
        let store = DurableFileSystem::with_sync(next.clone());
        store.put_opts(&at(dir.path(), "a/b/three"), "hello".into(), create()).await.unwrap();
        assert_eq!(next.taken(), calls);
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 3, "no staging file stays");
    }

    #[tokio::test]
    async fn create_refuses_what_is_there_and_overwrite_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::default();
        let place = at(dir.path(), "one");
        store.put_opts(&place, "first".into(), create()).await.unwrap();
        let again = store.put_opts(&place, "second".into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(std::fs::read(dir.path().join("one")).unwrap(), b"first");
        store.put(&place, "third".into()).await.unwrap();
        assert_eq!(std::fs::read(dir.path().join("one")).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no staging file stays");
    }

    #[tokio::test]
    async fn a_failed_sync_is_an_error_and_before_the_name_shows_nothing_is_there() {
        for (fail_at, shown) in [(1, false), (2, true)] {
            let dir = tempfile::tempdir().unwrap();
            let noted = Arc::new(Noted::default());
            let store = DurableFileSystem::with_sync(noted.clone());
            store.put(&at(dir.path(), "zero"), "hello".into()).await.unwrap();
            noted.taken();
            *noted.fail_at.lock().unwrap() = Some(fail_at);
            let result = store.put_opts(&at(dir.path(), "one"), "hello".into(), create()).await;
            assert!(result.unwrap_err().to_string().contains("the disk is gone"));
            assert_eq!(dir.path().join("one").exists(), shown);
        }
    }

    #[tokio::test]
    async fn what_is_moved_copied_or_uploaded_in_parts_is_synced_too() {
        let dir = tempfile::tempdir().unwrap();
        let noted = Arc::new(Noted::default());
        let store = DurableFileSystem::with_sync(noted.clone());
        let (one, two, three) = (at(dir.path(), "one"), at(dir.path(), "two"), at(dir.path(), "three"));
        store.put(&one, "hello".into()).await.unwrap();
        noted.taken();
        store.copy(&one, &two).await.unwrap();
        assert_eq!(noted.taken().len(), 2);
        store.rename(&two, &three).await.unwrap();
        assert_eq!(noted.taken().len(), 2);
        let mut upload = store.put_multipart(&two).await.unwrap();
        upload.put_part("part".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(noted.taken().len(), 2);
    }
}
