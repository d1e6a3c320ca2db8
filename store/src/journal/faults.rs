//! A disk that fails when it is told to, for tests. It does not really sync: no test pulls the plug.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::disk::{Disk, LocalDisk, SegmentFile};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A write takes only its first byte; no error.
    ShortWrite,
    /// A write takes its first half, then the device fails.
    WriteIo,
    /// The disk is full for so many calls.
    Full(u32),
    /// A sync fails.
    Sync,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    /// Calls of the kind until the fault.
    left: u32,
    full: u32,
    hits: u32,
}

/// A local disk whose `nth` call (from 0) of the fault's kind fails.
#[derive(Debug, Clone)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    pub(super) fn new(fault: Fault, nth: u32) -> Self {
        Self(Arc::new(Mutex::new(State { fault, left: nth, full: 0, hits: 0 })))
    }

    /// A disk that never fails.
    pub(super) fn sound() -> Self {
        Self::new(Fault::Sync, u32::MAX)
    }

    /// How often it failed.
    pub(super) fn hits(&self) -> u32 {
        self.0.lock().unwrap().hits
    }
}

impl State {
    /// Whether this call of one of `kinds` fails.
    fn due(&mut self, matching: bool) -> Option<Fault> {
        if self.full > 0 {
            self.full -= 1;
            self.hits += 1;
            return Some(Fault::Full(0));
        }
        if !matching || self.hits > 0 {
            return None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        self.hits += 1;
        if let Fault::Full(calls) = self.fault {
            self.full = calls.saturating_sub(1);
        }
        Some(self.fault)
    }

    fn on_write(&mut self) -> Option<Fault> {
        let matching = !matches!(self.fault, Fault::Sync);
        self.due(matching)
    }

    fn on_sync(&mut self) -> Option<Fault> {
        if self.full > 0 { None } else { self.due(matches!(self.fault, Fault::Sync)) }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn SegmentFile>> {
        match self.0.lock().unwrap().on_write() {
            Some(Fault::Full(_)) => {
                // As a file system does that makes the name and then finds no blocks.
                std::fs::write(path, b"")?;
                return Err(enospc());
            }
            Some(Fault::WriteIo) => return Err(eio()),
            _ => {}
        }
        Ok(Box::new(FaultyFile { inner: LocalDisk.create(path, len)?, state: self.0.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(FaultyFile { inner: LocalDisk.open(path)?, state: self.0.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.0.lock().unwrap().on_sync() {
            Some(_) => Err(eio()),
            None if dir.is_dir() => Ok(()),
            None => LocalDisk.sync_dir(dir),
        }
    }
}

struct FaultyFile {
    inner: Box<dyn SegmentFile>,
    state: Arc<Mutex<State>>,
}

impl SegmentFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self.state.lock().unwrap().on_write() {
            Some(Fault::ShortWrite) => self.inner.write_at(&bytes[..1], offset),
            Some(Fault::WriteIo) => {
                self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(eio())
            }
            Some(Fault::Full(_)) => Err(enospc()),
            Some(Fault::Sync) | None => self.inner.write_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.state.lock().unwrap().on_sync() {
            Some(_) => Err(eio()),
            None => Ok(()),
        }
    }

    fn cut(&self, keep: u64, len: u64) -> io::Result<()> {
        self.inner.cut(keep, len)
    }
}
