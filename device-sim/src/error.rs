//! What can go wrong in the simulator, by what a caller can do about it.

use std::path::PathBuf;

use meterlake_model::TimeError;

/// Why the simulator could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A plan or scenario contradicts itself: mend the plan.
    #[error("plan: {0}")]
    Plan(String),
    /// A recorded file is not there: fetch it or name its folder.
    #[error("recorded file {} is not there: set METERLAKE_DATA to the folder that holds {set}", path.display())]
    NoData {
        /// Where it was looked for.
        path: PathBuf,
        /// Which set was wanted.
        set: &'static str,
    },
    /// A recorded file or a ledger has a line that cannot be read.
    #[error("{}:{line}: {message}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it, with the value.
        message: String,
    },
    /// A file, socket or thread failed.
    #[error("{subject}: {source}")]
    Io {
        /// What was being done to what.
        subject: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The broker refused the connection or a message, for a reason that a retry does not mend.
    #[error("broker {address} refuses {what}: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// What it refused.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
    /// A time of a recorded file or plan cannot be used.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl SimError {
    /// An I/O failure with its subject.
    pub(crate) fn io(subject: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { subject: subject.into(), source }
    }
}
