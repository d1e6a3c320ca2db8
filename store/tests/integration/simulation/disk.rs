//! The seams of the journal and of the lake, on a machine that fails: real files, every call met by the machine.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use meterlake_store::durable::{DiskSync, DurableFileSystem};
use meterlake_store::journal::{Disk, SegmentFile};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::machine::{Fate, Machine, Op};

/// The journal's disk.
pub(crate) struct SimDisk(pub(crate) Machine);

impl SimDisk {
    fn file(&self, file: File, path: &FilePath) -> Box<dyn SegmentFile> {
        Box::new(SimFile { file, path: path.to_owned(), machine: self.0.clone() })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &FilePath, len: u64) -> io::Result<Box<dyn SegmentFile>> {
        let fate = match self.0.meet(Op::File, path) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                // As a file system does that makes the name and then finds no blocks.
                File::create_new(path)?;
                return Err(e);
            }
            other => other?,
        };
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(len)?;
        self.0.settle(fate)?;
        Ok(self.file(file, path))
    }

    fn open(&self, path: &FilePath) -> io::Result<Box<dyn SegmentFile>> {
        let fate = self.0.meet(Op::File, path)?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        self.0.settle(fate)?;
        Ok(self.file(file, path))
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        let fate = self.0.meet(Op::Remove, path)?;
        std::fs::remove_file(path)?;
        self.0.settle(fate)
    }

    fn sync_dir(&self, dir: &FilePath) -> io::Result<()> {
        let fate = self.0.meet(Op::Sync, dir)?;
        self.0.folder_synced(&dir.canonicalize()?);
        self.0.settle(fate)
    }
}

struct SimFile {
    file: File,
    path: PathBuf,
    machine: Machine,
}

impl SegmentFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let fate = match self.machine.meet(Op::Write, &self.path) {
            Err(e) if e.raw_os_error() == Some(5) => {
                self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                self.machine.written(&self.file, offset, bytes.len() / 2);
                return Err(e);
            }
            other => other?,
        };
        let len = if fate == Fate::Short { bytes.len().div_ceil(2) } else { bytes.len() };
        self.file.write_all_at(&bytes[..len], offset)?;
        self.machine.written(&self.file, offset, len);
        self.machine.settle(fate)?;
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.machine.meet(Op::Sync, &self.path) {
            Ok(fate) => {
                self.machine.file_synced(&self.file);
                self.machine.settle(fate)
            }
            Err(e) => {
                if !self.machine.is_dead() {
                    self.machine.file_sync_failed(&self.file);
                }
                Err(e)
            }
        }
    }

    fn cut(&self, keep: u64, len: u64) -> io::Result<()> {
        let fate = self.machine.meet(Op::File, &self.path)?;
        self.file.set_len(keep)?;
        self.file.set_len(len)?;
        self.machine.settle(fate)
    }
}

#[derive(Debug)]
struct SimSync(Machine);

impl DiskSync for SimSync {
    fn file(&self, file: &File) -> io::Result<()> {
        let path = path_of(file);
        let was_dead = self.0.is_dead();
        let outcome = self.0.meet(Op::PutSync, &path).and_then(|fate| {
            self.0.file_synced(file);
            self.0.settle(fate)
        });
        if outcome.is_err() && self.0.is_dead() && !was_dead {
            self.0.keep_aside(&path);
        } else if outcome.is_err() && !was_dead {
            self.0.file_sync_failed(file);
        }
        outcome
    }

    fn directory(&self, path: &FilePath) -> io::Result<()> {
        let fate = self.0.meet(Op::PutSync, path)?;
        self.0.folder_synced(&path.canonicalize()?);
        self.0.settle(fate)
    }
}

fn path_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// The lake's store: the product's own durable file system, each call met by the machine first.
#[derive(Debug)]
pub(crate) struct SimStore {
    inner: DurableFileSystem,
    machine: Machine,
}

impl SimStore {
    pub(crate) fn new(machine: &Machine) -> Arc<Self> {
        let inner = DurableFileSystem::with_sync(Arc::new(SimSync(machine.clone())));
        Arc::new(Self { inner, machine: machine.clone() })
    }

    fn meet(&self, op: Op, path: &FilePath) -> Result<Fate> {
        self.machine.meet(op, path).map_err(failed)
    }

    fn read(&self, path: &Path) -> Result<()> {
        self.meet(Op::Read, &file_path(path)).map(drop)
    }
}

fn file_path(path: &Path) -> PathBuf {
    PathBuf::from(format!("/{path}"))
}

fn failed(source: io::Error) -> Error {
    Error::Generic { store: "simulated", source: Box::new(source) }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = file_path(location);
        let fate = self.meet(Op::Put, &path)?;
        let result = self.inner.put_opts(location, payload, opts).await;
        if result.is_ok() {
            self.machine.stamp(&path);
        }
        self.machine.settle(fate).map_err(failed)?;
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.meet(Op::Put, &file_path(location))?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let machine = self.machine.clone();
        let met = locations.map(move |location| {
            let location = location?;
            machine.meet(Op::Delete, &file_path(&location)).map_err(failed)?;
            Ok(location)
        });
        self.inner.delete_stream(met.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read(prefix.unwrap_or(&Path::default())) {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read(prefix.unwrap_or(&Path::default()))?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meet(Op::Put, &file_path(to))?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.meet(Op::Put, &file_path(to))?;
        self.inner.rename_opts(from, to, options).await
    }
}
