//! Reading what was synced: replay after a start, the hot tail of queries, the feed of alerts. Takes no lock.

use std::path::{Path, PathBuf};

use meterlake_model::ReadingBatch;

use super::codec;
use super::error::JournalError;
use super::segment::{self, Scanner, Step};
use super::synced;

/// Reads a journal, also while another process writes it.
#[derive(Debug, Clone)]
pub struct JournalReader {
    dir: PathBuf,
}

/// What a verification went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The oldest position that is kept; one more than `last` when there is none.
    pub first: u64,
    /// The newest position.
    pub last: u64,
    /// Segments read.
    pub segments: usize,
    /// Bytes of records.
    pub bytes: u64,
}

impl JournalReader {
    /// A reader of the journal in a folder. The folder may be absent yet: nothing was journaled then.
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The newest position that was synced; 0 when there is none.
    ///
    /// # Errors
    /// When the file that tells cannot be read.
    pub fn synced(&self) -> Result<u64, JournalError> {
        Ok(synced::read(&self.dir)?.unwrap_or(0))
    }

    /// The oldest position that is kept; `None` when there is no segment.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn oldest(&self) -> Result<Option<u64>, JournalError> {
        Ok(self.segments()?.first().copied())
    }

    /// The newest record that verifies, synced or not; 0 when there is none. After a power cut it may be beyond
    /// [`Self::synced`].
    ///
    /// # Errors
    /// `Corrupt` when a segment's header does not verify, the newest one's excepted if nothing follows it.
    pub fn written(&self) -> Result<u64, JournalError> {
        let segments = self.segments()?;
        for first in segments.iter().rev() {
            let mut scanner = match Scanner::open(&self.dir, *first) {
                Ok(scanner) => scanner,
                // A crash may have interrupted the making of the newest segment.
                Err(JournalError::Corrupt { .. }) if Some(first) == segments.last() && segments.len() > 1 => continue,
                Err(e) => return Err(e),
            };
            while matches!(scanner.step()?, Step::Record { .. }) {}
            return Ok(scanner.next_position() - 1);
        }
        Ok(0)
    }

    /// All files of the journal but its lock, so that a mend can set them aside.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>, JournalError> {
        let mut files: Vec<_> = self.segments()?.into_iter().map(|first| segment::path_of(&self.dir, first)).collect();
        files.extend(Some(synced::path_in(&self.dir)).filter(|path| path.exists()));
        Ok(files)
    }

    fn segments(&self) -> Result<Vec<u64>, JournalError> {
        if self.dir.exists() { segment::list(&self.dir) } else { Ok(Vec::new()) }
    }

    /// The records from a position (at least 1) up to what is synced at each look.
    pub fn tail(&self, from: u64) -> Tail {
        Tail { reader: self.clone(), next: from.max(1), limit: 0, scanner: None }
    }

    /// The records from a position (at least 1) up to what is synced now, then the end.
    ///
    /// # Errors
    /// When the synced position cannot be read.
    pub fn read_from(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, ReadingBatch), JournalError>> + use<>, JournalError> {
        let end = self.synced()?;
        let mut tail = self.tail(from);
        let mut failed = false;
        Ok(std::iter::from_fn(move || {
            if failed || tail.position() > end {
                return None;
            }
            let item = tail.next_record().transpose();
            failed = matches!(item, None | Some(Err(_)));
            item
        }))
    }

    /// Reads and decodes everything that is kept.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, or `Undecodable` with the position.
    pub fn verify(&self) -> Result<Verified, JournalError> {
        let segments = self.segments()?;
        let last = self.synced()?;
        let first = segments.first().copied().unwrap_or(last + 1);
        let mut verified = Verified { first, last, segments: segments.len(), bytes: 0 };
        let mut tail = self.tail(first);
        while tail.position() <= last {
            let Some((_, bytes)) = tail.next_decoded(|_, bytes| bytes)? else { break };
            verified.bytes += bytes;
        }
        Ok(verified)
    }
}

/// The records of a journal in order, going on as more are synced.
pub struct Tail {
    reader: JournalReader,
    next: u64,
    limit: u64,
    scanner: Option<Scanner>,
}

impl Tail {
    /// The position that is read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next record, or `None` when there is no synced one now; a later call may find one.
    ///
    /// # Errors
    /// `Corrupt`, `Undecodable`, or `Released` when the position is no longer kept.
    pub fn next_record(&mut self) -> Result<Option<(u64, ReadingBatch)>, JournalError> {
        self.next_decoded(|batch, _| batch)
    }

    fn next_decoded<T>(&mut self, then: impl FnOnce(ReadingBatch, u64) -> T) -> Result<Option<(u64, T)>, JournalError> {
        if self.next > self.limit {
            self.limit = self.reader.synced()?;
            if self.next > self.limit {
                return Ok(None);
            }
            if let Some(scanner) = &mut self.scanner {
                scanner.forget();
            }
        }
        loop {
            let scanner = match &mut self.scanner {
                Some(scanner) => scanner,
                None => self.scanner.insert(open_segment_of(&self.reader, self.next)?),
            };
            let (offset, due) = (scanner.offset(), scanner.next_position());
            let path = scanner.path().to_owned();
            match scanner.step()? {
                Step::Record { position, .. } if position < self.next => {}
                Step::Record { position, body, raw_len } => {
                    let batch = codec::decode(body, raw_len)
                        .map_err(|reason| JournalError::Undecodable { position, reason })?;
                    let value = then(batch, body.len() as u64);
                    self.next = position + 1;
                    return Ok(Some((position, value)));
                }
                Step::Bad(reason) => return Err(JournalError::corrupt(&path, offset, reason)),
                Step::End => {
                    // Only a later segment can hold what is due.
                    if !self.reader.segments()?.contains(&due) || path == segment::path_of(&self.reader.dir, due) {
                        let reason = format!("it ends before position {due}, though {} was synced", self.limit);
                        return Err(JournalError::corrupt(&path, offset, reason));
                    }
                    self.scanner = Some(Scanner::open(&self.reader.dir, due)?);
                }
            }
        }
    }
}

fn open_segment_of(reader: &JournalReader, position: u64) -> Result<Scanner, JournalError> {
    let segments = reader.segments()?;
    let Some(first) = segments.iter().rev().find(|first| **first <= position) else {
        let oldest = segments.first().copied().unwrap_or(0);
        return Err(JournalError::Released { position, oldest });
    };
    Scanner::open(&reader.dir, *first)
}
