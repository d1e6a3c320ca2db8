//! What can go wrong in the store, by what a caller can do about it.

use std::path::PathBuf;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system or object store failed; the outcome of a write is known to be "not done" or was compared after.
    #[error("{what}: {source}")]
    Storage {
        /// What was being done, with the path.
        what: String,
        /// The cause.
        source: object_store::Error,
    },
    /// A local directory cannot be used.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The Delta log of a table cannot be read or written.
    #[error("table {table}: {source}")]
    Delta {
        /// The table.
        table: String,
        /// The cause.
        source: Box<deltalake_core::DeltaTableError>,
    },
    /// A Parquet file cannot be read or written.
    #[error("table {table}, file {file}: {source}")]
    Parquet {
        /// The table.
        table: String,
        /// The file, relative to the table.
        file: String,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
    /// Columns cannot be built or compared.
    #[error("table {table}: {source}")]
    Arrow {
        /// The table.
        table: String,
        /// The cause.
        source: arrow::error::ArrowError,
    },
    /// No table of this name.
    #[error("there is no table {0}")]
    NoTable(String),
    /// A table on disk is not what this program writes: newer, older or foreign.
    #[error("table {table} cannot be used: {reason}")]
    Foreign {
        /// The table.
        table: String,
        /// What is different.
        reason: String,
    },
    /// Another writer changed the table meanwhile; nothing of ours was written. Load it again and repeat.
    #[error("table {table}: another writer was there first: {reason}")]
    Conflict {
        /// The table.
        table: String,
        /// What the other did.
        reason: String,
    },
    /// A check that guards against loss or doubling failed; nothing was written.
    #[error("table {table}: refused: {reason}")]
    Refused {
        /// The table.
        table: String,
        /// Which check, with both figures.
        reason: String,
    },
    /// The place of the lake cannot be used for what it is to do.
    #[error("{place} cannot be used: {reason}")]
    Place {
        /// Folder, bucket or object.
        place: String,
        /// Why, with what to do.
        reason: String,
    },
    /// Another process owns what there may be one owner of.
    #[error("another process is the {role} of this lake ({by}): stop it, or wait until it is done")]
    Owned {
        /// What it owns.
        role: &'static str,
        /// Which process, as far as is known.
        by: String,
    },
    /// Another has become the owner: nothing more may be written, and nothing was. Stop.
    #[error("this process is no longer the {role} of the lake: {reason}")]
    Lost {
        /// What it owned.
        role: &'static str,
        /// What the other did.
        reason: String,
    },
    /// The ownership could not be renewed in time; nothing was written. It may come back: repeat later.
    #[error("the lease of the {role} is not valid now: {reason}")]
    Lapsed {
        /// What it owns.
        role: &'static str,
        /// Since when.
        reason: String,
    },
    /// Rows that do not fit the table's schema were handed over.
    #[error("table {table}: rows do not fit: {reason}")]
    Rows {
        /// The table.
        table: String,
        /// What does not fit.
        reason: String,
    },
}

impl StoreError {
    pub(crate) fn storage(what: impl Into<String>, source: object_store::Error) -> Self {
        Self::Storage { what: what.into(), source }
    }

    pub(crate) fn delta(table: &str, source: deltalake_core::DeltaTableError) -> Self {
        Self::Delta { table: table.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn parquet(table: &str, file: &str, source: parquet::errors::ParquetError) -> Self {
        Self::Parquet { table: table.to_owned(), file: file.to_owned(), source }
    }

    pub(crate) fn arrow(table: &str, source: arrow::error::ArrowError) -> Self {
        Self::Arrow { table: table.to_owned(), source }
    }

    pub(crate) fn foreign(table: &str, reason: impl Into<String>) -> Self {
        Self::Foreign { table: table.to_owned(), reason: reason.into() }
    }

    pub(crate) fn refused(table: &str, reason: impl Into<String>) -> Self {
        Self::Refused { table: table.to_owned(), reason: reason.into() }
    }

    pub(crate) fn place(place: impl ToString, reason: impl ToString) -> Self {
        Self::Place { place: place.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn rows(table: &str, reason: impl Into<String>) -> Self {
        Self::Rows { table: table.to_owned(), reason: reason.into() }
    }
}
