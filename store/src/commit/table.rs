//! One table that the journal feeds: where it is, what it knows, and how records are brought into it.

use std::sync::Arc;

use crate::commit::known::Known;
use crate::commit::{Chosen, CommitReport, Record, others, readings};
use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::lease::Role;
use crate::log::{AppStep, Change, Log};
use crate::parquet_file::{Effort, EncodedFile, FileWriter};
use crate::schema::commodity_of;
use crate::table::{DataFile, JOURNAL_APP, TableSnapshot, TableSpec};
use crate::write::{PartitionKey, data_file, file_schema, hash, off_worker};

/// Rows that become columns at once: the same memory serves for the next, where all rows at once would be fresh pages that
/// cost more to clear than to fill.
const COLUMN_ROWS: usize = 12 * 1024;

/// Rows that are kept, of whichever kind.
enum Rows {
    Readings(Vec<readings::Kept>),
    Others(others::Kind, Vec<others::Item>),
}

impl Rows {
    fn len(&self) -> u64 {
        match self {
            Self::Readings(rows) => rows.len() as u64,
            Self::Others(_, rows) => rows.len() as u64,
        }
    }
}

/// One table and its position.
#[derive(Debug)]
pub(crate) struct CommittedTable {
    spec: TableSpec,
    position: u64,
    /// Up to where it outlives a power cut for certain.
    durable: u64,
    known: Known,
    /// A commit failed: whether it was written is told by the log alone.
    unsure: bool,
}

impl CommittedTable {
    pub(crate) async fn open(lake: &Lake, spec: TableSpec) -> Result<Self, StoreError> {
        lake.ensure(&spec).await?;
        // The position is read behind the last commit that an earlier collector can make.
        lake.locked(spec.name).await?.keep_out_others(Role::Collector).await?;
        let state = lake.snapshot(spec.name).await?;
        Ok(Self { spec, position: state.journal_position(), durable: 0, known: Known::of(&state), unsure: false })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Brings all records up to `last` into the table.
    pub(crate) async fn flush(
        &mut self,
        lake: &Lake,
        records: Arc<[Record]>,
        last: u64,
    ) -> Result<CommitReport, StoreError> {
        let mut log = lake.locked(self.spec.name).await?;
        log.refresh().await?;
        if self.position < last {
            log.check_owner(Role::Collector)?;
        }
        self.compare(log.state(), last)?;
        if self.position >= last {
            return Ok(CommitReport::default());
        }
        let from = records.partition_point(|(position, _)| *position <= self.position);
        let records: Arc<[Record]> = records[from..].into();
        let outcome = self.commit(&mut log, records, last).await;
        // Whatever failed, the next flush starts from what the table then says.
        self.unsure = outcome.is_err();
        outcome
    }

    /// Whether the table is where we left it. After an error it may also be where we meant to bring it.
    fn compare(&mut self, state: &TableSnapshot, last: u64) -> Result<(), StoreError> {
        let found = state.journal_position();
        if found != self.position && (!self.unsure || found < self.position || found > last) {
            let reason = format!("the journal position is {found} instead of {}", self.position);
            return Err(StoreError::Conflict { table: self.spec.name.to_owned(), reason });
        }
        if self.unsure {
            self.position = found;
            self.known = Known::of(state);
            self.unsure = false;
        }
        Ok(())
    }

    async fn commit(&mut self, log: &mut Log, records: Arc<[Record]>, last: u64) -> Result<CommitReport, StoreError> {
        let mut report = CommitReport::default();
        let (months, newest) = self.choose(log, &records, &mut report).await?;
        let seq = i64::try_from(last)
            .map_err(|_| StoreError::refused(self.spec.name, format!("journal position {last} is too large")))?;
        let mut change = Change { operation: "WRITE", data_change: true, ..Change::default() };
        for (month, rows) in months {
            let file = self.write(log, &records, month, rows, seq).await?;
            change.add.push(file);
        }
        let before = log.state().transactions.get(JOURNAL_APP).copied();
        change.transaction = Some(AppStep { app: JOURNAL_APP.to_owned(), before, after: seq });
        log.commit(&change).await?;
        self.position = last;
        if log.is_confirmed() {
            self.durable = last;
        }
        for (meter, ts) in newest {
            self.known.advance(&meter, ts);
        }
        Ok(report)
    }

    async fn choose(
        &self,
        log: &Log,
        records: &Arc<[Record]>,
        report: &mut CommitReport,
    ) -> Result<(Vec<(String, Rows)>, Vec<(meterlake_model::MeterId, i64)>), StoreError> {
        if let Some(commodity) = commodity_of(self.spec.name) {
            let chosen = readings::choose(log, &self.known, commodity, records).await?;
            report.duplicates = chosen.duplicates;
            report.conflicts = chosen.conflicts;
            let (months, newest) = named(chosen, Rows::Readings);
            report.stored = count(&months);
            return Ok((months, newest));
        }
        let kind = match self.spec.name {
            "meter_events" => others::Kind::Event,
            "dead_letters" => others::Kind::DeadLetter,
            _ => others::Kind::Raw,
        };
        let chosen = match kind {
            others::Kind::Event => others::choose_events(log, &self.known, records).await?,
            _ => others::choose_messages(kind, records),
        };
        report.duplicates = chosen.duplicates;
        let (months, newest) = named(chosen, |rows| Rows::Others(kind, rows));
        let stored = match kind {
            others::Kind::Event => &mut report.events,
            others::Kind::DeadLetter => &mut report.dead_letters,
            others::Kind::Raw => &mut report.raw,
        };
        *stored = count(&months);
        Ok((months, newest))
    }

    async fn write(
        &self,
        log: &Log,
        records: &Arc<[Record]>,
        month: String,
        rows: Rows,
        seq: i64,
    ) -> Result<DataFile, StoreError> {
        let (spec, records) = (self.spec.clone(), records.clone());
        let file: EncodedFile = off_worker(move || {
            let schema = file_schema(&spec.schema, spec.partition_by);
            let mut writer = FileWriter::new(spec.name, &schema, spec.sort_by, Effort::Open)?;
            match &rows {
                Rows::Readings(kept) => {
                    for kept in kept.chunks(COLUMN_ROWS) {
                        writer.write(&readings::columns(&schema, spec.name, &records, kept, seq)?)?;
                    }
                }
                Rows::Others(kind, kept) => {
                    for kept in kept.chunks(COLUMN_ROWS) {
                        writer.write(&others::columns(&schema, spec.name, *kind, &records, kept, seq)?)?;
                    }
                }
            }
            writer.finish()
        })
        .await?;
        let key = PartitionKey(vec![month]);
        let directory = key.directory(self.spec.partition_by);
        // The same records give the same name: what a crash left behind is written over, not doubled.
        let path = format!("{directory}fresh-{seq:020}-{}.parquet", hash(&file.bytes));
        put_file(log, &path, file.bytes.clone()).await?;
        Ok(data_file(path, key.columns(self.spec.partition_by), file))
    }
}

type Named = (Vec<(String, Rows)>, Vec<(meterlake_model::MeterId, i64)>);

fn named<T>(chosen: Chosen<T>, wrap: impl Fn(Vec<T>) -> Rows) -> Named {
    (chosen.months.into_iter().map(|(month, rows)| (month, wrap(rows))).collect(), chosen.newest)
}

fn count(months: &[(String, Rows)]) -> u64 {
    months.iter().map(|(_, rows)| rows.len()).sum()
}
