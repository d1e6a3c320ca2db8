//! Appending, syncing, recovery after a crash, and release of what the tables hold.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meterlake_model::ReadingBatch;

use super::codec::EncodedBatch;
use super::disk::{Disk, LocalDisk, SegmentFile, write_all_at};
use super::error::JournalError;
use super::segment::{self, RECORD_HEADER, SEGMENT_HEADER, Scanner, Step};
use super::synced::{self, Publisher};

/// Where the journal lies and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// The folder; made when absent.
    pub dir: PathBuf,
    /// Bytes reserved for a segment.
    pub segment_bytes: u64,
    /// How long a segment stays after its rows are durable in every table.
    pub keep: Duration,
    /// The most bytes of such segments; the oldest go first, however young.
    pub keep_bytes: u64,
}

impl JournalOptions {
    /// Segments of 64 MiB, kept for 24 hours or 8 GiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes: 64 << 20, keep: Duration::from_secs(24 * 60 * 60), keep_bytes: 8 << 30 }
    }
}

/// What opening the journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The oldest position that is kept; one more than `last` when there is none.
    pub first: u64,
    /// The newest position; 0 when nothing was ever written.
    pub last: u64,
    /// Number of segments.
    pub segments: usize,
    /// What a crash had left unfinished behind the last record, and was cut.
    pub cut: Option<Cut>,
}

/// An unfinished write that was cut. It was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where the log now ends in it, in bytes.
    pub offset: u64,
    /// What was found there.
    pub reason: String,
}

struct Active {
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    /// Bytes reserved.
    len: u64,
    /// Where the next bytes go.
    written: u64,
    /// Records that are not written yet.
    pending: Vec<u8>,
    chain: u32,
}

/// The one writer of a journal.
pub struct JournalWriter {
    options: JournalOptions,
    disk: Box<dyn Disk>,
    publisher: Publisher,
    /// First positions, ascending; the last one's is `active`.
    segments: VecDeque<u64>,
    active: Option<Active>,
    next: u64,
    synced: u64,
    poisoned: Option<String>,
    /// Held until drop.
    _lock: File,
}

impl JournalWriter {
    /// Opens a journal, or makes one: locks it, verifies the newest segment and cuts what a crash left unfinished.
    ///
    /// # Errors
    /// `Locked` when another process writes it, `Corrupt` when bytes that were synced do not verify.
    pub fn open(options: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        Self::open_on(Box::new(LocalDisk), options)
    }

    /// As [`Self::open`], over another file system: for tests that lose power or fail.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(disk: Box<dyn Disk>, options: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        let dir = options.dir.as_path();
        let lock = lock(dir)?;
        let published = synced::read(dir)?.unwrap_or(0);
        let mut firsts = segment::list(dir)?;
        let mut cut = remove_unborn(&*disk, dir, &mut firsts, published)?;
        // A damaged older segment is told of now, and not when its rows are wanted.
        for first in firsts.iter().rev().skip(1) {
            Scanner::open(dir, *first)?;
        }
        let publisher = Publisher::open(&*disk, dir)?;
        let mut writer = Self {
            disk,
            publisher,
            segments: firsts.into(),
            active: None,
            next: 1,
            synced: 0,
            poisoned: None,
            options,
            _lock: lock,
        };
        match writer.segments.back().copied() {
            Some(newest) => cut = writer.reopen(newest, published)?.or(cut),
            None if published > 0 => {
                let reason = format!("there is no segment, though position {published} was synced");
                return Err(JournalError::corrupt(&writer.options.dir, 0, reason));
            }
            None => {}
        }
        writer.synced = writer.next - 1;
        writer.publisher.publish(writer.synced)?;
        let recovery = Recovery {
            first: writer.segments.front().copied().unwrap_or(writer.next),
            last: writer.synced,
            segments: writer.segments.len(),
            cut,
        };
        if let Some(cut) = &recovery.cut {
            tracing::warn!(file = %cut.file.display(), offset = cut.offset, reason = %cut.reason, "cut an unfinished write");
        }
        Ok((writer, recovery))
    }

    /// Scans the newest segment and goes on behind its last record.
    fn reopen(&mut self, newest: u64, published: u64) -> Result<Option<Cut>, JournalError> {
        let mut scanner = Scanner::open(&self.options.dir, newest)?;
        let mut cut = None;
        let mut known_synced = 0;
        loop {
            let reason = match scanner.step()? {
                Step::Record { position, .. } => {
                    if position <= published {
                        known_synced = scanner.offset();
                    }
                    continue;
                }
                Step::End => None,
                Step::Bad(reason) => Some(reason),
            };
            let (path, offset, next) = (scanner.path(), scanner.offset(), scanner.next_position());
            if published >= next {
                let found = reason.unwrap_or_else(|| "the log ends".into());
                let reason = format!("{found} at position {next}, though {published} was synced");
                return Err(JournalError::corrupt(path, offset, reason));
            }
            if let Some(reason) = reason {
                cut = Some(Cut { file: path.to_owned(), offset, reason });
            }
            break;
        }
        let path = scanner.path().to_owned();
        let written = scanner.offset();
        let len = self.options.segment_bytes.max(written);
        let file = self.disk.open(&path).map_err(|e| JournalError::io("open", &path, e))?;
        file.cut(written, len).map_err(|e| JournalError::io("cut", &path, e))?;
        // What was read may be in memory only, if the process and not the machine went down; and if it went down for a
        // failed sync, then the system may take it for written. What is written again is synced for certain.
        write_again(&path, &*file, known_synced, written)?;
        file.sync_data().map_err(|e| JournalError::io("sync", &path, e))?;
        let dir = &self.options.dir;
        self.disk.sync_dir(dir).map_err(|e| JournalError::io("sync folder", dir, e))?;
        self.next = scanner.next_position();
        self.active = Some(Active { path, file, len, written, pending: Vec::new(), chain: scanner.chain() });
        Ok(cut)
    }

    /// Keeps every writer out until the file is dropped.
    ///
    /// # Errors
    /// `Locked` when there is a writer.
    pub fn lock(dir: &Path) -> Result<File, JournalError> {
        lock(dir)
    }

    /// Begins a journal at a position, in a folder without segments: for a journal that was lost when every table is
    /// known to hold everything before. The caller holds [`Self::lock`].
    ///
    /// # Errors
    /// `Corrupt` when there is a segment already.
    pub fn restart(dir: &Path, first: u64) -> Result<(), JournalError> {
        if let Some(there) = segment::list(dir)?.first() {
            return Err(JournalError::corrupt(
                &segment::path_of(dir, *there),
                0,
                "it is in the way of a new beginning",
            ));
        }
        let header = segment::segment_header(first, seconds_since_1970());
        make_segment(&LocalDisk, &segment::path_of(dir, first), SEGMENT_HEADER as u64, &header)?;
        Publisher::open(&LocalDisk, dir)?.publish(first - 1)
    }

    /// Appends a batch; returns its position. It is durable only after [`Self::sync`].
    ///
    /// # Errors
    /// `NoSpace` when no segment can be made (nothing has changed then), `Poisoned` after an earlier failure.
    pub fn append(&mut self, batch: &ReadingBatch) -> Result<u64, JournalError> {
        self.append_encoded(&EncodedBatch::new(batch)?)
    }

    /// As [`Self::append`], for a batch that was encoded elsewhere.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_encoded(&mut self, record: &EncodedBatch) -> Result<u64, JournalError> {
        self.refuse_if_poisoned()?;
        let need = (RECORD_HEADER + record.len()) as u64;
        let room = self.active.as_ref().map_or(0, |a| a.len - a.written - a.pending.len() as u64);
        if room < need {
            self.roll(need)?;
        }
        let Some(active) = &mut self.active else { return Err(JournalError::Stopped) };
        let position = self.next;
        active.chain = segment::put_record(&mut active.pending, position, record, active.chain);
        self.next += 1;
        Ok(position)
    }

    /// Forces everything appended to the device and publishes the position; returns it.
    ///
    /// # Errors
    /// `NoSpace` keeps what is pending for the next call. After any other error the writer refuses for good.
    pub fn sync(&mut self) -> Result<u64, JournalError> {
        self.refuse_if_poisoned()?;
        let Some(active) = self.active.as_mut().filter(|a| !a.pending.is_empty()) else {
            return Ok(self.synced);
        };
        if let Err(e) = write_all_at(&*active.file, &active.pending, active.written) {
            let error = JournalError::io("write", &active.path, e);
            return Err(self.poison_unless_retryable(error));
        }
        if let Err(source) = active.file.sync_data() {
            // Whatever the reason, nobody knows now which pages are on the device.
            let error = JournalError::Io { what: "sync", path: active.path.clone(), source };
            return Err(self.poison(error));
        }
        active.written += active.pending.len() as u64;
        active.pending.clear();
        self.synced = self.next - 1;
        if let Err(error) = self.publisher.publish(self.synced) {
            // The rows are safe; only readers of the tail see them later.
            tracing::warn!(error = %error.line(), "cannot publish the synced position");
        }
        Ok(self.synced)
    }

    /// Unlinks whole segments whose records are all up to `committed`, once they are older than `keep` or together
    /// larger than `keep_bytes`. Returns how many.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn release(&mut self, committed: u64, now: SystemTime) -> Result<usize, JournalError> {
        let dir = self.options.dir.clone();
        let mut kept_bytes = 0;
        let mut releasable = Vec::new();
        for (first, next_first) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            if *next_first > committed.saturating_add(1) {
                break;
            }
            let path = segment::path_of(&dir, *first);
            let metadata = std::fs::metadata(&path).map_err(|e| JournalError::io("read", &path, e))?;
            let modified = metadata.modified().map_err(|e| JournalError::io("read", &path, e))?;
            // A clock that was set back keeps the segment.
            let age = now.duration_since(modified).unwrap_or_default();
            kept_bytes += metadata.len();
            releasable.push((path, metadata.len(), age));
        }
        let mut removed = 0;
        for (path, len, age) in releasable {
            if age <= self.options.keep && kept_bytes <= self.options.keep_bytes {
                break;
            }
            self.disk.remove(&path).map_err(|e| JournalError::io("remove", &path, e))?;
            self.segments.pop_front();
            kept_bytes -= len;
            removed += 1;
        }
        if removed > 0 {
            self.disk.sync_dir(&dir).map_err(|e| JournalError::io("sync folder", &dir, e))?;
        }
        Ok(removed)
    }

    /// The newest position that is durable; 0 when there is none.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// The oldest position that is kept; the next to come when there is none.
    pub fn oldest(&self) -> u64 {
        self.segments.front().copied().unwrap_or(self.next)
    }

    /// Bytes appended and not synced.
    pub fn pending_bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |a| a.pending.len())
    }

    fn roll(&mut self, need: u64) -> Result<(), JournalError> {
        self.sync()?;
        let path = segment::path_of(&self.options.dir, self.next);
        let len = self.options.segment_bytes.max(SEGMENT_HEADER as u64 + need);
        let header = segment::segment_header(self.next, seconds_since_1970());
        match make_segment(&*self.disk, &path, len, &header) {
            Ok(file) => {
                self.segments.push_back(self.next);
                self.active = Some(Active {
                    path,
                    file,
                    len,
                    written: SEGMENT_HEADER as u64,
                    pending: Vec::new(),
                    chain: segment::chain_of_header(&header),
                });
                Ok(())
            }
            Err(error) => {
                // Durably away, or else a power cut might bring it back beside what is written meanwhile.
                let removed = match self.disk.remove(&path) {
                    Ok(()) => self.disk.sync_dir(&self.options.dir),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    failed => failed,
                };
                if removed.is_err() {
                    return Err(self.poison(error));
                }
                Err(self.poison_unless_retryable(error))
            }
        }
    }

    fn refuse_if_poisoned(&self) -> Result<(), JournalError> {
        match &self.poisoned {
            Some(reason) => Err(JournalError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison_unless_retryable(&mut self, error: JournalError) -> JournalError {
        if error.is_retryable() { error } else { self.poison(error) }
    }

    fn poison(&mut self, error: JournalError) -> JournalError {
        let reason = error.line();
        tracing::error!(%reason, "the journal stops");
        self.poisoned = Some(reason.clone());
        // Never the error itself: it may look as if it could be tried again.
        JournalError::Poisoned { reason }
    }
}

/// Writes a part of a file over itself.
fn write_again(path: &Path, file: &dyn SegmentFile, from: u64, to: u64) -> Result<(), JournalError> {
    let source = File::open(path).map_err(|e| JournalError::io("open", path, e))?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(part) = buffer.get_mut(..len) else { break };
        source.read_exact_at(part, at).map_err(|e| JournalError::io("read", path, e))?;
        write_all_at(file, part, at).map_err(|e| JournalError::io("write", path, e))?;
        at += len as u64;
    }
    Ok(())
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed())
}

/// A new segment with its header, durable with its name.
fn make_segment(disk: &dyn Disk, path: &Path, len: u64, header: &[u8]) -> Result<Box<dyn SegmentFile>, JournalError> {
    let file = disk.create(path, len).map_err(|e| JournalError::io("create", path, e))?;
    write_all_at(&*file, header, 0).map_err(|e| JournalError::io("write", path, e))?;
    let sync = |source| JournalError::Io { what: "sync", path: path.to_owned(), source };
    file.sync_data().map_err(sync)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(sync)?;
    }
    Ok(file)
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    std::fs::create_dir_all(dir).map_err(|e| JournalError::io("make folder", dir, e))?;
    let path = dir.join("lock");
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| JournalError::io("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(JournalError::io("lock", &path, e)),
    }
}

/// Removes the newest segment if a crash interrupted its making: its header does not verify and nothing follows.
fn remove_unborn(
    disk: &dyn Disk,
    dir: &Path,
    firsts: &mut Vec<u64>,
    published: u64,
) -> Result<Option<Cut>, JournalError> {
    let Some(first) = firsts.last().copied().filter(|first| published < *first) else { return Ok(None) };
    let reason = match Scanner::open(dir, first) {
        Err(JournalError::Corrupt { reason, .. }) => reason,
        Err(other) => return Err(other),
        Ok(_) => return Ok(None),
    };
    let path = segment::path_of(dir, first);
    if !is_zero_behind_header(&path).map_err(|e| JournalError::io("read", &path, e))? {
        return Err(JournalError::corrupt(&path, 0, reason));
    }
    disk.remove(&path).map_err(|e| JournalError::io("remove", &path, e))?;
    disk.sync_dir(dir).map_err(|e| JournalError::io("sync folder", dir, e))?;
    firsts.pop();
    Ok(Some(Cut { file: path, offset: 0, reason }))
}

fn is_zero_behind_header(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::Start(SEGMENT_HEADER as u64))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(true);
        }
        if buffer.iter().take(read).any(|b| *b != 0) {
            return Ok(false);
        }
    }
}
