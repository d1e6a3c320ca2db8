//! Why an export fails.

use std::io;
use std::path::PathBuf;

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file system refused or failed.
    #[error("{path} could not be {what}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// What is there under this name says something else.
    #[error(
        "{path} is there already with other content (sha-256 {there}, this export has {here}): exports are never \
         overwritten; move it away, or export to another folder"
    )]
    Differs {
        /// Which file.
        path: PathBuf,
        /// Its sum.
        there: String,
        /// The sum of what would have been written.
        here: String,
    },
    /// The format cannot say a number exactly.
    #[error("{what}: {value} has no place in {format}: {why}")]
    Unsayable {
        /// An item's id, or a usage point, channel and time.
        what: String,
        /// The number.
        value: String,
        /// The format.
        format: &'static str,
        /// Its limit.
        why: &'static str,
    },
    /// The bytes could not be written.
    #[error("the export could not be written: {0}")]
    Write(#[from] io::Error),
    /// A Parquet file could not be written.
    #[error("the export could not be written as Parquet: {0}")]
    Parquet(String),
}
