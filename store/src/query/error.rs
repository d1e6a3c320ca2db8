//! What can go wrong when reading, by what a caller can do about it.

use std::time::Duration;

use datafusion::error::DataFusionError;

use crate::error::StoreError;
use crate::journal::JournalError;

/// Why a query was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The tables' logs cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal's tail cannot be read.
    #[error("cannot read the hot rows: {0}")]
    Journal(#[from] JournalError),
    /// More rows wait in the journal than a query may hold in memory.
    #[error("more than {limit} hot rows wait in the journal behind table {table}; ask for committed rows only")]
    TailTooLong {
        /// The table that is behind.
        table: String,
        /// The most rows that are held.
        limit: usize,
    },
    /// The statement is not one that may be asked, or too large. The text tells the user why.
    #[error("{0}")]
    Refused(String),
    /// Planning took too long.
    #[error("the query was not planned within {} ms; ask for less at once", .0.as_millis())]
    Deadline(Duration),
    /// The query is wrong or failed.
    #[error(transparent)]
    Query(Box<DataFusionError>),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}
