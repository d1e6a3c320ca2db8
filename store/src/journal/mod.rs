//! The journal: an append-only log of what the collectors decoded, synced before anything is acknowledged.
//!
//! One record is one [`ReadingBatch`](meterlake_model::ReadingBatch); its *position* is a dense number from 1. Records
//! lie in preallocated segment files named after their first position. [`JournalWriter`] appends and syncs under an
//! exclusive lock, [`JournalHandle`] does so in groups on a thread of its own, [`JournalReader`] reads what was synced,
//! also from other processes and without the lock.
//!
//! ```
//! # use meterlake_model::ReadingBatch;
//! # use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let (mut writer, recovery) = JournalWriter::open(JournalOptions::new(dir.path()))?;
//! assert_eq!(recovery.last, 0);
//! assert_eq!(writer.append(&ReadingBatch::default())?, 1);
//! assert_eq!(writer.sync()?, 1);
//! let reader = JournalReader::open(dir.path());
//! assert_eq!(reader.read_from(1)?.count(), 1);
//! # Ok(()) }
//! ```
//!
//! It leaves out what a row means: duplicates, conflicts and tables are the committer's.
//!
//! | file | module |
//! |---|---|
//! | record body ↔ batch | `codec`, with `wire` for integers and texts |
//! | segment and record headers, checksums, scan | `segment` |
//! | the position that readers may go to | `synced` |
//! | calls to the operating system, behind a seam for faults | `disk` |
//! | append, sync, recovery, release | `writer` |
//! | group sync | `handle` |
//! | replay and tail | `reader` |

mod codec;
mod disk;
mod error;
mod handle;
mod reader;
mod segment;
mod synced;
mod wire;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

pub use codec::EncodedBatch;
pub use disk::{Disk, LocalDisk, SegmentFile};
pub use error::JournalError;
pub use handle::{GroupSync, JournalHandle, JournalStats};
pub use reader::{JournalReader, Tail, Verified};
pub use writer::{Cut, JournalOptions, JournalWriter, Recovery};
