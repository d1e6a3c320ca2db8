//! The calls to the operating system that the journal depends on. A seam: tests put a disk there that fails.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;

/// A file that the journal writes.
///
/// Errors are those of the operating system; the journal tells a full disk by their kind.
pub trait SegmentFile: Send {
    /// Writes at an offset; may write less than given.
    ///
    /// # Errors
    /// When the system refuses.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Forces data, and what is needed to find it, to the device.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts at `keep`, then reserves zeros up to `len`.
    ///
    /// # Errors
    /// When the system refuses.
    fn cut(&self, keep: u64, len: u64) -> io::Result<()>;
}

/// A file system.
///
/// Errors are those of the operating system; the journal tells a full disk by their kind.
pub trait Disk: Send {
    /// Creates a file that must not exist yet, with `len` bytes of zeros reserved.
    ///
    /// # Errors
    /// When the system refuses.
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens a file for writing, creating it when absent.
    ///
    /// # Errors
    /// When the system refuses.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes a file.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Forces the entries of a folder to the device.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// Writes all of `bytes`, in as many calls as it takes.
pub(super) fn write_all_at(file: &dyn SegmentFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        reserve(&file, len)?;
        Ok(Box::new(LocalFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(LocalFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct LocalFile(File);

impl SegmentFile for LocalFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn cut(&self, keep: u64, len: u64) -> io::Result<()> {
        self.0.set_len(keep)?;
        reserve(&self.0, len)
    }
}

fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // Some file systems cannot reserve; a full disk then shows at the write instead.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        Err(e) => Err(e.into()),
    }
}
