//! What can go wrong with the journal, by what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes this journal.
    #[error("journal {} is locked by another process", dir.display())]
    Locked {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// Bytes that were synced once do not verify.
    #[error("journal is damaged in {} at byte {offset}: {reason}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// Written by a later version of this program.
    #[error("{} has format version {version}, this program reads up to {known}", file.display())]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The disk or the quota is full. Nothing was lost; the same call may be made again once there is room.
    #[error("no space left for journal file {}", file.display())]
    NoSpace {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A write or sync failed before, so it is not known what is on the disk. Only opening it again tells.
    #[error("journal stopped after a failure and must be opened again: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// A record that no reader would take.
    #[error("a record of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The position was released: it is durable in the tables and no longer in the journal.
    #[error("journal position {position} is no longer kept, the oldest is {oldest}")]
    Released {
        /// What was asked for.
        position: u64,
        /// What there is.
        oldest: u64,
    },
    /// The record verifies but says what this program does not know, such as a channel of a later version.
    #[error("journal record {position} cannot be read: {reason}")]
    Undecodable {
        /// Its position.
        position: u64,
        /// What is unknown or impossible.
        reason: String,
    },
    /// The journal's thread has ended.
    #[error("the journal's thread has ended")]
    Stopped,
}

impl JournalError {
    /// Whether the same call may succeed later without opening the journal again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { file: path.to_owned(), source }
        } else {
            Self::Io { what, path: path.to_owned(), source }
        }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }

    /// The error and its causes in one line, for a log or for those who wait.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}
