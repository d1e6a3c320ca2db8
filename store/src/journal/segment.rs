//! Segments and records as bytes: headers, checksums and the scan that finds where a log ends.
//!
//! ```text
//! segment  magic 8 · version u32 · first position u64 · created, seconds since 1970 i64 · checksum u32
//! record   body length u32 · length before compression u32 (0: plain) · position u64 · body checksum u32 · chain u32
//!          body
//! ```
//! Integers are little-endian, checksums CRC-32C. `chain` covers the record's header (and by it the body's checksum)
//! and starts from the record before, the first from the segment's checksum: what an earlier write left behind on the
//! disk can never pass for the continuation. Zeros where a header is expected are the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::codec::{EncodedBatch, MAX_RAW};
use super::error::JournalError;

/// Opens every segment.
const MAGIC: [u8; 8] = *b"\x8aMLJ\r\n\x1a\n";
/// The format that is written.
const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 32;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 24;
/// The largest body as stored; compression that does not pay is not used.
const MAX_BODY: usize = MAX_RAW;
const READ_AHEAD: usize = 1 << 20;

/// The file of a segment.
pub(super) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("segment-{first:020}.mlj"))
}

/// First positions of the segments in a folder, ascending.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let read = |e| JournalError::io("read folder", dir, e);
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let Some(digits) = name.to_str().and_then(|n| n.strip_prefix("segment-")?.strip_suffix(".mlj")) else {
            continue;
        };
        if let (20, Ok(first)) = (digits.len(), digits.parse::<u64>()) {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// A segment's header.
pub(super) fn segment_header(first: u64, created_s: i64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    header[20..28].copy_from_slice(&created_s.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..28]);
    header[28..32].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Where the chain of a segment starts.
pub(super) fn chain_of_header(header: &[u8; SEGMENT_HEADER]) -> u32 {
    u32_at(header, 28)
}

/// Appends a record's header and body; returns the chain after it.
pub(super) fn put_record(out: &mut Vec<u8>, position: u64, record: &EncodedBatch, chain: u32) -> u32 {
    let start = out.len();
    // `EncodedBatch::new` bounds the body far below.
    let len = u32::try_from(record.body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&record.raw_len.to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&record.body).to_le_bytes());
    let chain = crc32c::crc32c_append(chain, &out[start..]);
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(&record.body);
    chain
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// What the scan found next.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A record that verifies.
    Record {
        /// Its position.
        position: u64,
        /// Its body as stored.
        body: &'a [u8],
        /// Its length before compression; 0 when plain.
        raw_len: u32,
    },
    /// Zeros, or the end of the file.
    End,
    /// Bytes that are neither.
    Bad(String),
}

/// Walks the records of one segment from its start, verifying each.
pub(super) struct Scanner {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Offset in the file of `buffer[0]`.
    buffer_at: u64,
    /// Offset of the next record.
    offset: u64,
    next: u64,
    chain: u32,
}

impl Scanner {
    /// Opens a segment and verifies its header.
    pub(super) fn open(dir: &Path, first: u64) -> Result<Self, JournalError> {
        let path = path_of(dir, first);
        let file = File::open(&path).map_err(|e| JournalError::io("open", &path, e))?;
        let mut header = [0; SEGMENT_HEADER];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(JournalError::corrupt(&path, 0, "its header is cut short"));
            }
            Err(e) => return Err(JournalError::io("read", &path, e)),
        }
        if header[..8] != MAGIC {
            return Err(JournalError::corrupt(&path, 0, "it does not begin as a journal segment does"));
        }
        if crc32c::crc32c(&header[..28]) != chain_of_header(&header) {
            return Err(JournalError::corrupt(&path, 0, "its header does not match its checksum"));
        }
        let version = u32_at(&header, 8);
        if version != VERSION {
            return Err(JournalError::NewerVersion { file: path, version, known: VERSION });
        }
        let stated = u64_at(&header, 12);
        if stated != first {
            return Err(JournalError::corrupt(&path, 12, format!("its header states position {stated} as its first")));
        }
        Ok(Self {
            path,
            file,
            buffer: Vec::new(),
            buffer_at: 0,
            offset: SEGMENT_HEADER as u64,
            next: first,
            chain: chain_of_header(&header),
        })
    }

    /// The segment's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the next record.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Position of the next record.
    pub(super) fn next_position(&self) -> u64 {
        self.next
    }

    /// The chain before the next record.
    pub(super) fn chain(&self) -> u32 {
        self.chain
    }

    /// The next record. After `End` or `Bad` it may be called again: a writer may have appended since.
    pub(super) fn step(&mut self) -> Result<Step<'_>, JournalError> {
        let header = match self.window(RECORD_HEADER)? {
            Some(at) => {
                let mut header = [0; RECORD_HEADER];
                header.copy_from_slice(&self.buffer[at..at + RECORD_HEADER]);
                header
            }
            None => return self.short_tail(),
        };
        if header == [0; RECORD_HEADER] {
            self.forget();
            return Ok(Step::End);
        }
        let chain = crc32c::crc32c_append(self.chain, &header[..20]);
        if chain != u32_at(&header, 20) {
            self.forget();
            return Ok(Step::Bad("a record's header does not match its checksum".into()));
        }
        let (len, raw_len, position) = (u32_at(&header, 0), u32_at(&header, 4), u64_at(&header, 8));
        if position != self.next {
            self.forget();
            return Ok(Step::Bad(format!("a record states position {position} where {} is due", self.next)));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_BODY {
            self.forget();
            return Ok(Step::Bad(format!("a record states {len} bytes")));
        }
        let Some(at) = self.window(RECORD_HEADER + len)? else {
            self.forget();
            return Ok(Step::Bad("a record is cut short".into()));
        };
        let body = at + RECORD_HEADER..at + RECORD_HEADER + len;
        if crc32c::crc32c(&self.buffer[body.clone()]) != u32_at(&header, 16) {
            self.forget();
            return Ok(Step::Bad("a record does not match its checksum".into()));
        }
        self.offset += (RECORD_HEADER + len) as u64;
        self.next += 1;
        self.chain = chain;
        Ok(Step::Record { position, body: self.buffer.get(body).unwrap_or_default(), raw_len })
    }

    /// Fewer bytes than a header are left in the file.
    fn short_tail(&mut self) -> Result<Step<'_>, JournalError> {
        let rest = self.buffer.get(self.in_buffer()..).unwrap_or_default();
        let zeros = rest.iter().all(|b| *b == 0);
        self.forget();
        Ok(if zeros { Step::End } else { Step::Bad("a record's header is cut short".into()) })
    }

    fn in_buffer(&self) -> usize {
        usize::try_from(self.offset - self.buffer_at).unwrap_or(usize::MAX)
    }

    /// Drops what was read ahead, since it may have been written since.
    pub(super) fn forget(&mut self) {
        self.buffer.clear();
        self.buffer_at = self.offset;
    }

    /// Makes `len` bytes from the next record available; where they start in the buffer, or `None` if the file ends.
    fn window(&mut self, len: usize) -> Result<Option<usize>, JournalError> {
        if self.in_buffer().saturating_add(len) > self.buffer.len() {
            let from = self.in_buffer().min(self.buffer.len());
            self.buffer.drain(..from);
            self.buffer_at = self.offset;
            let mut have = self.buffer.len();
            self.buffer.resize(len.max(READ_AHEAD), 0);
            while have < len {
                match self.file.read_at(&mut self.buffer[have..], self.offset + have as u64) {
                    Ok(0) => break,
                    Ok(n) => have += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(JournalError::io("read", &self.path, e)),
                }
            }
            self.buffer.truncate(have);
        }
        let at = self.in_buffer();
        Ok((at + len <= self.buffer.len()).then_some(at))
    }
}
