//! Reading the lake with DataFusion: committed and hot rows as one table, sorted, pruned, pinned; one door for SQL.
//!
//! [`Lake::session`](crate::Lake::session) gives a `SessionContext` with every table, over the files that were live at
//! that moment, and the views `electricity` and `water` (one row a meter and time), `electricity_latest`,
//! `water_latest` and `latest`, and `electricity_full` and `water_full` (with customer, place and civil time). [`sql`] is the only way in for SQL that a person or a tool typed.
//!
//! ```
//! # use futures::TryStreamExt;
//! # use meterlake_store::{Committer, Lake};
//! # use meterlake_store::query::{ReadOptions, SqlLimits, sql};
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let lake = Lake::open(dir.path())?;
//! Committer::open(&lake).await?;
//! let context = lake.session(ReadOptions::default()).await?;
//! let query = sql(&context, "SELECT count(*) FROM electricity", SqlLimits::default()).await?;
//! let batches: Vec<_> = query.stream()?.try_collect().await?;
//! assert_eq!(batches[0].num_rows(), 1);
//! # Ok(()) }
//! ```
//!
//! It leaves out writing, and what derived tables mean.
//!
//! | file | module |
//! |---|---|
//! | statistics, pruning and grouping of a pinned list of files | `files` |
//! | the table over files and hot rows | `provider` |
//! | rows of the journal's tail | `hot` |
//! | the lake as it was at a moment | `as_of` |
//! | one row out of repeats, complements and revisions | `merge`, as a plan in `resolve` |
//! | the last reading of each meter | `latest` |
//! | civil time as functions | `civil` |
//! | tariff buckets and billing cycles as functions | `tariff` |
//! | views | `views` |
//! | session | `session` |
//! | SQL from users | `door` |
//! | plans of questions asked before | `prepared` |
//! | questions that differ in values alone | `shape` |

mod as_of;
mod civil;
mod door;
mod error;
mod files;
mod hot;
mod latest;
mod merge;
mod prepared;
mod provider;
mod resolve;
mod session;
mod shape;
mod tariff;
mod views;

pub use as_of::{AsOf, Moment};
pub use door::{SqlLimits, SqlResult, sql, sql_bound};
pub use error::QueryError;
pub use resolve::{Keep, ResolveNode};
pub use session::{LakeSession, ReadOptions, session_without_lake};
