//! What is kept: the journal, sorted Parquet in Delta tables, compaction and retention, and the door to query them.
//!
//! The journal makes a batch durable, the committer turns batches into sorted, deduplicated rows of Delta tables, and
//! the query door reads both. This crate knows nothing of MQTT, Modbus or maps (`ingest`), and nothing of billing,
//! alerts or profiles (`analytics` defines those tables as [`TableSpec`]s and hands rows over).

mod actions;
mod commit;
pub mod compact;
mod delta_schema;
pub mod doctor;
pub mod durable;
mod error;
mod history;
pub mod journal;
mod lake;
mod lease;
pub mod life;
mod log;
mod parquet_file;
mod place;
pub mod query;
mod read;
pub mod registry;
mod replace;
pub mod schema;
mod stats;
pub mod table;
mod write;

pub use commit::{CommitReport, Committer};
pub use compact::{CompactOptions, CompactReport};
pub use error::StoreError;
pub use history::{COMMITS, commits};
pub use lake::Lake;
pub use lease::{Holder, Ownership, Role};
pub use place::{Credentials, Location, S3Location};
pub use registry::Imported;
pub use replace::Replacement;
pub use table::{ColumnRange, DataFile, TableSnapshot, TableSpec};
pub use write::{PartitionKey, Replaced, sort_rows};
