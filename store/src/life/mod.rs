//! The life of data: how long it stays, what keeps it longer, how it is taken out for good, and how it is brought back.
//!
//! | what | module |
//! |---|---|
//! | files of a table without some of their rows, as one commit of our own | `sift` |
//! | whether some bytes name somebody | `words` |
//! | the rows of a meter, a usage point or a customer, in every table | `subject` |
//! | periods that must stay, with who said so and why | `holds` |
//! | rows older than a table keeps them | `retention` |
//! | a meter or a customer taken out, and the proof | `erase`, `search` |
//! | what a rewrite leaves behind: old files, logs, journal | `remains` |
//! | a copy at a consistent state, and the way back | `backup`, `restore` |
//!
//! Whoever calls owns everything that rewrites tables (the jobs' lock). What billing or alerts mean is not known here.

mod backup;
mod erase;
mod holds;
mod manifest;
mod remains;
mod restore;
mod retention;
mod search;
mod sift;
mod subject;
mod words;

pub use backup::{BackupOptions, BackupReport};
pub use erase::{EraseOptions, EraseReport, Erased, Erasure, ErasureLink, erasures_table};
pub use holds::{Hold, holds_table};
pub use manifest::{FileManifest, Manifest, TableManifest};
pub use remains::{Remains, aside_of};
pub use restore::{RestoreReport, restore};
pub use retention::{RetentionRule, TableRetention};
pub use search::{Found, Searched, search};
pub use subject::{Subject, SubjectKind};
pub use words::Words;
