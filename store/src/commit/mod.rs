//! From journal records to committed rows, exactly once.
//!
//! The committer takes records in the order of their positions and holds them. A flush sorts their rows by table and
//! month, drops what is there already, writes one Parquet file for each table and month and commits it with the journal
//! position as the table's application transaction; a table without rows gets the transaction alone. The position is
//! read back before every commit and after every error, so a commit whose outcome is unknown is neither lost nor
//! repeated. It knows no clock and no journal: who calls decides when to flush and what to release.
//!
//! ```
//! # use std::sync::Arc;
//! # use meterlake_store::{Committer, Lake};
//! # use meterlake_model::ReadingBatch;
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let lake = Lake::open(dir.path())?;
//! let mut committer = Committer::open(&lake).await?;
//! committer.push(1, Arc::new(ReadingBatch::default()));
//! assert_eq!(committer.flush().await?.position, 1);
//! assert_eq!(committer.position(), 1);
//! # Ok(()) }
//! ```

mod known;
mod months;
mod others;
mod readings;
pub(crate) mod revisions;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::future::join_all;
use meterlake_model::{MeterId, ReadingBatch};

use crate::commit::table::CommittedTable;
use crate::error::StoreError;
use crate::lake::Lake;
use crate::schema;

/// A journal record with its position.
pub(crate) type Record = (u64, Arc<ReadingBatch>);

/// The rows of one table that a flush keeps.
#[derive(Debug)]
pub(crate) struct Chosen<T> {
    /// In the order of their file, by month.
    months: BTreeMap<String, Vec<T>>,
    duplicates: u64,
    conflicts: u64,
    /// Times by meter that are committed once these rows are.
    newest: Vec<(MeterId, i64)>,
}

impl<T> Default for Chosen<T> {
    fn default() -> Self {
        Self { months: BTreeMap::new(), duplicates: 0, conflicts: 0, newest: Vec::new() }
    }
}

/// What a flush brought into the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitReport {
    /// Every table holds the journal up to here.
    pub position: u64,
    /// Reading rows stored.
    pub stored: u64,
    /// Readings and events dropped because they were there already.
    pub duplicates: u64,
    /// Of `stored`: rows that contradict another of the same meter and time.
    pub conflicts: u64,
    /// Dead letters stored.
    pub dead_letters: u64,
    /// Events stored.
    pub events: u64,
    /// Raw messages stored.
    pub raw: u64,
}

impl CommitReport {
    /// Whether no table got a row and none was dropped.
    pub fn is_empty(&self) -> bool {
        *self == Self { position: self.position, ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.dead_letters += other.dead_letters;
        self.events += other.events;
        self.raw += other.raw;
    }
}

/// Brings journal records into the tables. One for each lake: the journal's lock sees to that.
#[derive(Debug)]
pub struct Committer {
    lake: Lake,
    tables: Vec<CommittedTable>,
    pending: VecDeque<Record>,
    pending_bytes: usize,
    pending_rows: usize,
    /// Position of the record pushed last, or what the furthest of the lagging tables needs next, less one.
    last: u64,
    /// Of flushes that failed half-way.
    carried: CommitReport,
    /// The records that came are not all that the journal holds.
    broken: Option<String>,
}

impl Committer {
    /// Opens the tables of what comes in, creating those that are not there.
    ///
    /// # Errors
    /// When a table cannot be opened or is not what this program writes.
    pub async fn open(lake: &Lake) -> Result<Self, StoreError> {
        let mut tables = Vec::new();
        for spec in schema::collected() {
            tables.push(CommittedTable::open(lake, spec).await?);
        }
        let last = tables.iter().map(CommittedTable::position).min().unwrap_or(0);
        Ok(Self {
            lake: lake.clone(),
            tables,
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_rows: 0,
            last,
            carried: CommitReport::default(),
            broken: None,
        })
    }

    /// Up to where each table holds the journal.
    pub fn positions(&self) -> Vec<(&'static str, u64)> {
        self.tables.iter().map(|t| (t.name(), t.position())).collect()
    }

    /// Up to where every table holds the journal: where recovery begins.
    pub fn position(&self) -> u64 {
        self.tables.iter().map(CommittedTable::position).min().unwrap_or(0)
    }

    /// What the journal may release: up to here every table holds it whatever happens to the machine. It is behind
    /// [`Self::position`] until a commit of ours followed what was only found in the log: the process that wrote that
    /// may have died before its name was on disk.
    pub fn releasable(&self) -> u64 {
        self.tables.iter().map(CommittedTable::durable).min().unwrap_or(0)
    }

    /// Takes the next record. One that every table holds already is passed over. When a record is missing before this
    /// one, or it is not newer than the last, then every flush from here on refuses to go on.
    pub fn push(&mut self, position: u64, batch: Arc<ReadingBatch>) {
        if position <= self.position() && self.pending.is_empty() {
            return;
        }
        if position != self.last + 1 {
            let reason = format!("journal record {} was expected, record {position} came", self.last + 1);
            self.broken.get_or_insert(reason);
            return;
        }
        self.last = position;
        self.pending_bytes += size(&batch);
        self.pending_rows += batch.reading_count();
        self.pending.push_back((position, batch));
    }

    /// Reading rows that wait.
    pub fn pending_rows(&self) -> usize {
        self.pending_rows
    }

    /// About how much memory the waiting records take.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Commits everything that waits. After an error the records are held on; the next flush goes on from what the
    /// tables then say, so it can simply be called again.
    ///
    /// # Errors
    /// When a table could not be written or read back, another writer was there, or a record is missing.
    pub async fn flush(&mut self) -> Result<CommitReport, StoreError> {
        if let Some(reason) = &self.broken {
            let lagging = self.tables.iter().min_by_key(|t| t.position()).map_or("", CommittedTable::name);
            return Err(StoreError::refused(lagging, reason.clone()));
        }
        let records: Arc<[Record]> = self.pending.iter().cloned().collect();
        let (lake, last) = (&self.lake, self.last);
        let flushes = self.tables.iter_mut().map(|table| table.flush(lake, records.clone(), last));
        let outcomes = join_all(flushes).await;
        let mut failure = None;
        for outcome in outcomes {
            match outcome {
                Ok(report) => self.carried.add(report),
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        self.release();
        match failure {
            Some(e) => Err(e),
            None => Ok(CommitReport { position: self.position(), ..std::mem::take(&mut self.carried) }),
        }
    }

    /// Lets go of the records that every table holds.
    fn release(&mut self) {
        let position = self.position();
        while self.pending.front().is_some_and(|(of, _)| *of <= position) {
            if let Some((_, batch)) = self.pending.pop_front() {
                self.pending_bytes = self.pending_bytes.saturating_sub(size(&batch));
                self.pending_rows = self.pending_rows.saturating_sub(batch.reading_count());
            }
        }
    }
}

/// About how much memory a record takes.
fn size(batch: &ReadingBatch) -> usize {
    let cells: usize =
        [&batch.electricity, &batch.water].map(|rows| rows.len() * (80 + 16 * rows.columns().count())).iter().sum();
    let dead: usize = batch.dead_letters.iter().map(|d| d.message.payload.len() + d.detail.len() + 160).sum();
    let raw: usize = batch.raw.iter().map(|m| m.payload.len() + 120).sum();
    256 + cells + dead + raw + batch.events.len() * 120
}
