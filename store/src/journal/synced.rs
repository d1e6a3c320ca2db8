//! The position up to which the journal is synced, in a small file that readers in other processes look at.
//!
//! It is written after the sync that it tells of and is not synced itself: after a power cut it may be older than the
//! truth, never newer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, SegmentFile, write_all_at};
use super::error::JournalError;

const MAGIC: [u8; 8] = *b"\x8aMLS\r\n\x1a\n";
const VERSION: u32 = 1;
const LEN: usize = 24;
/// A write is one copy within a page, so a torn one is gone at the next look.
const ATTEMPTS: usize = 100;

/// The file.
pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join("synced")
}

fn encode(position: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&position.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LEN]) -> Option<u64> {
    let checksum = u32::from_le_bytes(bytes[20..24].try_into().ok()?);
    if bytes[..8] != MAGIC || bytes[8..12] != VERSION.to_le_bytes() || crc32c::crc32c(&bytes[..20]) != checksum {
        return None;
    }
    Some(u64::from_le_bytes(bytes[12..20].try_into().ok()?))
}

/// The published position; `None` when there is no file or it does not verify.
pub(super) fn read(dir: &Path) -> Result<Option<u64>, JournalError> {
    let path = path_in(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(JournalError::io("open", &path, e)),
    };
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(JournalError::io("read", &path, e)),
        }
        if let Some(position) = decode(&bytes) {
            return Ok(Some(position));
        }
        std::thread::yield_now();
    }
    Ok(None)
}

/// The writer's side.
pub(super) struct Publisher {
    path: PathBuf,
    file: Box<dyn SegmentFile>,
}

impl Publisher {
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, JournalError> {
        let path = path_in(dir);
        let file = disk.open(&path).map_err(|e| JournalError::io("open", &path, e))?;
        Ok(Self { path, file })
    }

    pub(super) fn publish(&self, position: u64) -> Result<(), JournalError> {
        write_all_at(&*self.file, &encode(position), 0).map_err(|e| JournalError::io("write", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_the_published_position_is_noticed() {
        let good = encode(123_456);
        assert_eq!(decode(&good), Some(123_456));
        for bit in 0..LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }
}
