//! What is kept: the journal, sorted Parquet in Delta tables, compaction and retention, and the door to query them.
//!
//! The journal makes a batch durable, the committer turns batches into sorted, deduplicated rows of Delta tables, and
//! the query door reads both. This crate knows nothing of MQTT, Modbus or maps (`ingest`), and nothing of billing,
//! alerts or profiles (`analytics` defines those tables as [`TableSpec`]s and hands rows over).

pub mod durable;
mod error;
pub mod table;

pub use error::StoreError;
pub use table::{ColumnRange, DataFile, TableSnapshot, TableSpec};
