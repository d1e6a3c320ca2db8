//! A collector as `server` wires it, the jobs beside it, and what must hold of both whatever the machine does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use meterlake_model::ledger::TableValue;
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, Timestamp};
use meterlake_store::journal::{GroupSync, JournalHandle, JournalOptions, JournalReader, JournalWriter};
use meterlake_store::{Committer, CompactOptions, Lake};

use super::disk::{SimDisk, SimStore};
use super::machine::{Death, Machine, Weather};
use super::meters::{Broker, Message, START_S, Said};
use super::random::Random;
use crate::faults::read_batches;

const TABLES: [&str; 5] = ["electricity_readings", "water_readings", "meter_events", "dead_letters", "raw_messages"];

/// How one run is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Play {
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) weather: Weather,
    /// Whether segments go as soon as the tables hold them, instead of a day later.
    pub(crate) releases_at_once: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) jumps_of_clock: bool,
    /// The clock is off by so many seconds in the middle third.
    pub(crate) clock_off_s: i64,
}

/// The collector while it lives.
struct Collector {
    journal: JournalHandle,
    committer: Committer,
    /// The jobs' own view of the lake, as another process has it.
    jobs: Lake,
}

/// Everything that outlives the collector.
pub(crate) struct World {
    pub(crate) machine: Machine,
    folder: tempfile::TempDir,
    broker: Broker,
    random: Random,
    play: Play,
    /// The newest position that readers were shown or that was acknowledged.
    promised: u64,
    pub(crate) restarts: usize,
}

type Outcome<T> = Result<T, String>;

fn fail<T>(what: impl Into<String>) -> Outcome<T> {
    Err(what.into())
}

impl World {
    pub(crate) fn new(play: Play) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["journal", "lake"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let machine = Machine::new(folder.path(), play.seed, START_S);
        let random = Random::new(play.seed);
        Self { machine, folder, broker: Broker::default(), random, play, promised: 0, restarts: 0 }
    }

    fn journal_dir(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn lake(&self) -> Lake {
        Lake::open_with(&self.folder.path().join("lake"), SimStore::new(&self.machine)).unwrap()
    }

    /// Plays all steps, mends everything, drains the broker, and checks what is in the tables.
    pub(crate) async fn run(&mut self) -> Outcome<()> {
        let mut collector = None;
        self.machine.set_weather(self.play.weather);
        for step in 0..self.play.steps {
            self.machine.note(format!("{step}"));
            if self.play.clock_off_s != 0 && (step == self.play.steps / 3 || step == 2 * self.play.steps / 3) {
                let by = if step == self.play.steps / 3 { self.play.clock_off_s } else { -self.play.clock_off_s };
                self.machine.set_clock_s(self.machine.clock_s() + by);
                self.machine.note(format!("the clock moves by {by} s"));
            }
            self.step(&mut collector).await?;
        }
        self.machine.set_weather(Weather::default());
        self.machine.note("== calm");
        for _ in 0..20 {
            let Some(alive) = self.living(&mut collector).await? else { continue };
            while !self.broker.is_drained() && !self.machine.is_dead() {
                self.receive(alive).await?;
                self.broker.reconnect();
            }
            if self.machine.is_dead() {
                continue;
            }
            if let Err(error) = alive.committer.flush().await {
                self.machine.note(format!("last flush: {error}"));
                continue;
            }
            if let Some(alive) = collector.take() {
                alive.journal.close().await;
            }
            return self.check().await;
        }
        fail("the collector does not come back in calm weather")
    }

    async fn step(&mut self, collector: &mut Option<Collector>) -> Outcome<()> {
        let Some(alive) = self.living(collector).await? else { return Ok(()) };
        match self.random.below(100) {
            0..=29 => self.broker.publish(&mut self.random),
            30..=63 => self.receive(alive).await?,
            64..=79 => self.flush(alive).await,
            80..=85 => self.compact(alive).await?,
            86..=87 => self.flush_while_compacting(alive).await,
            88..=89 => self.keep(alive).await,
            90..=91 => self.look(),
            92..=93 => self.clock(),
            94..=95 => self.broker.reconnect(),
            96 if self.play.weather.kill > 0 => self.machine.kill(Death::Process),
            97 if self.play.weather.cut > 0 => self.machine.kill(Death::Machine),
            _ => {}
        }
        if self.machine.is_dead() {
            self.bury(collector.take()).await;
        }
        Ok(())
    }

    /// The collector, started when there is none; `None` when it did not come up this time.
    async fn living<'c>(&mut self, collector: &'c mut Option<Collector>) -> Outcome<Option<&'c mut Collector>> {
        if self.machine.is_dead() {
            self.bury(collector.take()).await;
        }
        if collector.is_none() {
            match self.start().await {
                Ok(started) => *collector = Some(started),
                Err(Some(fault)) => return fail(fault),
                Err(None) => {}
            }
        }
        Ok(collector.as_mut())
    }

    /// What is left of a dead process: its descriptors are closed, the broker notices.
    async fn bury(&mut self, collector: Option<Collector>) {
        if let Some(dead) = collector {
            dead.journal.close().await;
        }
        self.broker.reconnect();
        self.machine.restart();
        self.restarts += 1;
    }

    /// As `server`'s pipeline begins: journal, tables, what one has and the others lack.
    async fn start(&mut self) -> Result<Collector, Option<String>> {
        let mut options =
            JournalOptions { segment_bytes: self.play.segment_bytes, ..JournalOptions::new(self.journal_dir()) };
        if self.play.releases_at_once {
            (options.keep, options.keep_bytes) = (Duration::ZERO, 0);
        }
        let went_wrong =
            |what: &str, error: &dyn std::fmt::Display| self.machine.note(format!("start, {what}: {error}"));
        let (writer, recovery) = match JournalWriter::open_on(Box::new(SimDisk(self.machine.clone())), options) {
            Ok(opened) => opened,
            Err(error) => {
                went_wrong("journal", &error);
                // Damage of synced bytes is told as such, and nothing here damages them.
                let corrupt = matches!(error, meterlake_store::journal::JournalError::Corrupt { .. });
                return Err(corrupt.then(|| error.to_string()));
            }
        };
        self.machine.note(format!("journal {}..={}", recovery.first, recovery.last));
        if recovery.last < self.promised {
            return Err(Some(format!(
                "position {} was promised, the journal ends at {}",
                self.promised, recovery.last
            )));
        }
        let mut committer = match Committer::open(&self.lake()).await {
            Ok(committer) => committer,
            Err(error) => {
                went_wrong("tables", &error);
                return Err(None);
            }
        };
        if committer.position() > recovery.last {
            return Err(Some(format!("tables are at {}, the journal at {}", committer.position(), recovery.last)));
        }
        let records = match JournalReader::open(&self.journal_dir()).read_from(committer.position() + 1) {
            Ok(records) => records,
            Err(error) => return Err(Some(format!("journal cannot be read: {error}"))),
        };
        for record in records {
            match record {
                Ok((position, batch)) => committer.push(position, Arc::new(batch)),
                Err(error) => return Err(Some(format!("journal cannot be read: {error}"))),
            }
        }
        if let Err(error) = committer.flush().await {
            went_wrong("catching up", &error);
            return Err(None);
        }
        // One append, one sync: what is one group must not depend on the threads' speed.
        let group = GroupSync { max_delay: Duration::ZERO, max_bytes: 1, space_retry: Duration::from_micros(10) };
        let journal = JournalHandle::spawn(writer, group).map_err(|e| Some(e.to_string()))?;
        journal.release(committer.releasable());
        Ok(Collector { journal, committer, jobs: self.lake() })
    }

    /// Messages are decoded, several to a record, made durable, acknowledged, and handed to the committer.
    async fn receive(&mut self, alive: &mut Collector) -> Outcome<()> {
        let messages = self.broker.receive(1 + self.random.below(12));
        let records: Vec<&[Message]> = messages.chunks(1 + self.random.below(4)).collect();
        let encoded: Vec<Arc<ReadingBatch>> = records
            .iter()
            .map(|messages| {
                let mut batch = ReadingBatch::default();
                messages.iter().for_each(|m| batch.append(m.decode()));
                Arc::new(batch)
            })
            .collect();
        let appends = encoded.iter().map(|batch| alive.journal.append(Arc::clone(batch)));
        let outcomes = futures::future::join_all(appends).await;
        let mut failed = None;
        for ((outcome, messages), batch) in outcomes.into_iter().zip(records).zip(encoded) {
            match outcome {
                Ok(_) if failed.is_some() => return fail("an append succeeded after one that failed"),
                Ok(position) => {
                    if position <= self.promised {
                        return fail(format!("position {position} was given out twice"));
                    }
                    self.promised = position;
                    messages.iter().for_each(|m| self.broker.acknowledge(m.number));
                    alive.committer.push(position, batch);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            self.machine.note(format!("append: {error}"));
            // The product ends itself then and is started again.
            self.machine.kill(Death::Process);
        }
        Ok(())
    }

    async fn flush(&self, alive: &mut Collector) {
        match alive.committer.flush().await {
            Ok(report) => {
                self.machine.note(format!("flush: {report:?}"));
                alive.journal.release(alive.committer.releasable());
            }
            Err(error) => self.machine.note(format!("flush: {error}")),
        }
    }

    fn compact_options(&mut self) -> CompactOptions {
        CompactOptions {
            now: Some(Timestamp::from_unix_seconds(self.machine.clock_s()).unwrap()),
            min_files: 2 + self.random.below(3),
            max_inputs: 2 + self.random.below(8),
            target_bytes: 1 << (8 + self.random.below(10)),
            ..CompactOptions::default()
        }
    }

    async fn compact(&mut self, alive: &mut Collector) -> Outcome<()> {
        let options = self.compact_options();
        let table = TABLES[self.random.below(TABLES.len())];
        let Ok(before) = alive.jobs.snapshot(table).await else { return Ok(()) };
        let rows = rows(&read_batches(&alive.jobs, &before)?);
        match alive.jobs.compact(table, &options).await {
            Ok(report) if report.repeats > 0 => return fail(format!("{table} held {} repeats", report.repeats)),
            Ok(report) => self.machine.note(format!("compact {table}: {report:?}")),
            Err(error) => self.machine.note(format!("compact {table}: {error}")),
        }
        if let Ok(after) = alive.jobs.snapshot(table).await
            && self::rows(&read_batches(&alive.jobs, &after)?) != rows
        {
            return fail(format!("compaction changed the rows of {table}"));
        }
        Ok(())
    }

    async fn flush_while_compacting(&mut self, alive: &mut Collector) {
        let options = self.compact_options();
        let table = TABLES[self.random.below(2)];
        let (flushed, compacted) = tokio::join!(alive.committer.flush(), alive.jobs.compact(table, &options));
        for (what, error) in [("flush", flushed.err()), ("compact", compacted.err())] {
            if let Some(error) = error {
                self.machine.note(format!("{what} beside the other: {error}"));
            }
        }
    }

    /// Checkpoint, clean-up of the log and vacuum.
    async fn keep(&mut self, alive: &mut Collector) {
        let table = TABLES[self.random.below(TABLES.len())];
        let now = Timestamp::from_unix_seconds(self.machine.clock_s()).unwrap();
        let outcome = match alive.jobs.checkpoint_as_of(table, now).await {
            Ok(made) => {
                let week = Duration::from_secs(7 * 86_400);
                alive.jobs.vacuum_as_of(table, now, week).await.map(|removed| (made, removed))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok((made, removed)) => self.machine.note(format!("keep {table}: checkpoint {made}, {removed} removed")),
            Err(error) => self.machine.note(format!("keep {table}: {error}")),
        }
    }

    /// A reader looks at the journal's tail: what it sees must never be taken back.
    fn look(&mut self) {
        if let Ok(synced) = JournalReader::open(&self.journal_dir()).synced() {
            self.promised = self.promised.max(synced);
        }
    }

    fn clock(&mut self) {
        let by = match self.random.below(8) {
            _ if !self.play.jumps_of_clock => 3600,
            0 => 1,
            1 => -1,
            2 => 3600,
            3 => -3600,
            4 => 40 * 86_400,
            5 => -40 * 86_400,
            6 => -self.machine.clock_s(),
            _ => START_S + 86_400 - self.machine.clock_s(),
        };
        self.machine.set_clock_s(self.machine.clock_s() + by);
        self.machine.note(format!("the clock moves by {by} s"));
    }

    /// Everything acknowledged is there once, with its value, and nothing else.
    async fn check(&mut self) -> Outcome<()> {
        // As a process that was never there sees it.
        let lake = self.lake();
        let mut found = BTreeMap::new();
        for table in TABLES {
            let state = lake.snapshot(table).await.map_err(|e| format!("{table} cannot be read: {e}"))?;
            found.insert(table, (read_batches(&lake, &state)?, state.journal_position()));
        }
        let positions: BTreeSet<u64> = found.values().map(|(_, position)| *position).collect();
        if positions.len() != 1 || positions.first().is_some_and(|p| *p < self.promised) {
            return fail(format!("tables are at {positions:?}, {} was promised", self.promised));
        }
        let mut values = Vec::new();
        for (table, commodity) in [(TABLES[0], Commodity::Electricity), (TABLES[1], Commodity::Water)] {
            found[table].0.iter().for_each(|batch| table_values(batch, commodity, &mut values));
        }
        let checked = self.broker.ledger.check(values);
        self.machine.note(format!("== {checked}"));
        if !checked.is_good() {
            return fail(checked.to_string());
        }
        self.check_others(&found[TABLES[2]].0, &found[TABLES[3]].0)
    }

    /// Events once each. Unreadable messages at least once: each delivery is a fact of its own.
    fn check_others(&self, events: &[RecordBatch], letters: &[RecordBatch]) -> Outcome<()> {
        let key = |m: &Message| match &m.said {
            Said::Event { meter, ts_s, detail } => Some((meter.clone(), *ts_s, detail.clone())),
            _ => None,
        };
        let mut stored = Vec::new();
        for batch in events {
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (meters, details) = (text("meter_id"), text("detail"));
            let times = batch.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            stored.extend((0..batch.num_rows()).map(|row| {
                (meters.value(row).to_owned(), times.value(row) / 1_000_000, details.value(row).to_owned())
            }));
        }
        let set: BTreeSet<_> = stored.iter().cloned().collect();
        let said: BTreeSet<_> = self.broker.others.iter().filter_map(key).collect();
        let acknowledged: BTreeSet<_> = self.broker.acknowledged.iter().filter_map(key).collect();
        if set.len() != stored.len() || !set.is_subset(&said) || !acknowledged.is_subset(&set) {
            return fail(format!(
                "{} events of {} are stored, {} acknowledged",
                stored.len(),
                said.len(),
                acknowledged.len()
            ));
        }
        let number = |m: &Message| matches!(m.said, Said::Unreadable(_)).then_some(m.number);
        let mut stored = BTreeSet::new();
        for batch in letters {
            let payloads = batch.column_by_name("payload").unwrap().as_binary::<i32>().clone();
            stored.extend(payloads.iter().flatten().map(|p| u64::from_le_bytes(p.try_into().unwrap())));
        }
        let said: BTreeSet<_> = self.broker.others.iter().filter_map(number).collect();
        let acknowledged: BTreeSet<_> = self.broker.acknowledged.iter().filter_map(number).collect();
        if !stored.is_subset(&said) || !acknowledged.is_subset(&stored) {
            return fail(format!("dead letters {stored:?} of {said:?} are stored, {acknowledged:?} acknowledged"));
        }
        Ok(())
    }
}

fn table_values(batch: &RecordBatch, commodity: Commodity, values: &mut Vec<TableValue>) {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let meters = column("meter_id").as_string::<i32>();
    let times = column("ts").as_primitive::<TimestampMicrosecondType>();
    for channel in Channel::of(commodity) {
        let numbers = column(channel.name()).as_primitive::<Decimal128Type>();
        for row in (0..batch.num_rows()).filter(|row| numbers.is_valid(*row)) {
            values.push(TableValue {
                meter_id: MeterId::new(meters.value(row)).unwrap(),
                ts: Timestamp::from_micros(times.value(row)).unwrap(),
                channel,
                value: i64::try_from(numbers.value(row)).unwrap(),
            });
        }
    }
}

/// All rows as texts, sorted: equal for equal rows wherever they lie.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        let seq = batch.column_by_name("commit_seq").unwrap().as_primitive::<Int64Type>();
        assert_eq!(seq.null_count(), 0);
        let options = arrow::util::display::FormatOptions::default().with_null("-");
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| arrow::util::display::ArrayFormatter::try_new(c, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort_unstable();
    rows
}
