//! A year of commits and upkeep: the table opens fast, its files stay few, its log bounded, its answers as they were.
//!
//! In short: two hours of one-minute commits, then 11 days of hourly ones over the end of a month. `METERLAKE_LONG=1`
//! plays three days of one-minute commits and the rest of a year. The clock is the test's own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp, month_key};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Committer, CompactOptions, Lake};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::faults::batches;

/// 2031-01-25T00:00:00Z: the log's own times, which are the machine's, are long past.
const START_S: i64 = 1_927_065_600;
const METERS: i64 = 12;
const TABLE: &str = "electricity_readings";
/// Those that the committer writes, and the one that upkeep itself writes.
const TABLES: [&str; 6] = [TABLE, "water_readings", "meter_events", "dead_letters", "raw_messages", "commits"];

/// A file system that does not wait for the disk and whose files bear the test's time.
#[derive(Debug)]
struct Stamped {
    inner: LocalFileSystem,
    now_s: Arc<AtomicU64>,
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stamped")
    }
}

#[async_trait]
impl ObjectStore for Stamped {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, opts).await?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now_s.load(Ordering::SeqCst));
        let file = std::fs::File::options().write(true).open(PathBuf::from(format!("/{location}"))).unwrap();
        file.set_modified(time).unwrap();
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Quarter-hour registers of all meters, those of one in ten a day late.
struct Fleet {
    /// Up to where it has sent, in minutes since the start.
    sent: i64,
    /// Rows and sum of the register by month.
    expected: BTreeMap<String, (i64, i64)>,
}

impl Fleet {
    /// What the meters send up to a minute: each sends at its own minute of the quarter hour.
    fn up_to(&mut self, minute: i64) -> ReadingBatch {
        let energy = Channel::by_name("energy_import_kwh").unwrap();
        let mut batch = ReadingBatch::default();
        for now in self.sent..minute {
            for meter in (0..METERS).filter(|meter| now % 15 == meter % 15) {
                let slot = (now / 15) * 15 * 60;
                let late = if meter == METERS - 1 { 86_400 } else { 0 };
                let ts = Timestamp::from_unix_seconds(START_S + slot - late).unwrap();
                let value = 1_000_000 + slot / 60 + meter;
                let header = RowHeader {
                    meter_id: MeterId::new(&format!("meter-{meter:03}")).unwrap(),
                    ts,
                    received_at_s: START_S + now * 60,
                    source: "test".into(),
                    profile: "test@1".into(),
                    flags: ReadingFlags::NONE,
                };
                batch.rows_mut(Commodity::Electricity).push(header, &[(energy, value)]);
                let month = self.expected.entry(month_key(ts)).or_default();
                *month = (month.0 + 1, month.1 + value);
            }
        }
        self.sent = minute;
        batch
    }
}

/// Rows and sum of the register by month, by SQL.
async fn answer(lake: &Lake) -> BTreeMap<String, (i64, i64)> {
    use arrow::array::AsArray;
    let session = lake.session(ReadOptions::default()).await.unwrap();
    let sql = "SELECT CAST(month AS VARCHAR), count(*), CAST(sum(energy_import_kwh) * 1000 AS BIGINT) \
               FROM electricity_readings GROUP BY month";
    let found = session.sql(sql).await.unwrap().collect().await.unwrap();
    let mut months = BTreeMap::new();
    for batch in found {
        let text = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let number = |c: usize| batch.column(c).as_primitive::<arrow::datatypes::Int64Type>().value(row);
            months.insert(text.as_string::<i32>().value(row).to_owned(), (number(1), number(2)));
        }
    }
    months
}

/// The median of several openings from nothing, as a query of a new process does it.
async fn opening(root: &FilePath) -> Duration {
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        Lake::open(root).unwrap().snapshot(TABLE).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[4]
}

fn log_files(root: &FilePath, table: &str) -> usize {
    std::fs::read_dir(root.join(table).join("_delta_log")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_of_commits_leaves_few_files_a_short_log_and_every_answer_as_it_was() {
    let long = std::env::var_os("METERLAKE_LONG").is_some();
    let (minutes, days) = if long { (3 * 1440, 365) } else { (120, 11) };
    let dir = tempfile::tempdir().unwrap();
    let now_s = Arc::new(AtomicU64::new(START_S.cast_unsigned()));
    let store = || Arc::new(Stamped { inner: LocalFileSystem::new(), now_s: now_s.clone() });
    // The collector and the jobs are two processes.
    let (lake, jobs) = (Lake::open_with(dir.path(), store()).unwrap(), Lake::open_with(dir.path(), store()).unwrap());
    let mut committer = Committer::open(&lake).await.unwrap();
    let mut fleet = Fleet { sent: 0, expected: BTreeMap::new() };
    let (mut position, mut most_open, mut most_log, mut rounds, mut removed) = (0, 0, 0, 0, 0);
    let hourly = (minutes / 60 + 1..=days * 24).map(|hour| hour * 60);
    for minute in (1..=minutes).chain(hourly) {
        let now = Timestamp::from_unix_seconds(START_S + minute * 60).unwrap();
        now_s.store(now.unix_seconds().cast_unsigned(), Ordering::SeqCst);
        position += 1;
        committer.push(position, Arc::new(fleet.up_to(minute)));
        committer.flush().await.unwrap();
        if minute % 60 != 0 {
            continue;
        }
        let found = lake.snapshot(TABLE).await.unwrap();
        let closed = |path: &str| path.contains("/closed-");
        most_open = most_open.max(found.files.iter().filter(|f| !closed(&f.path)).count());
        // As the jobs process does it each hour.
        // The tables without readings get their commits too, and are looked after once a day.
        for table in TABLES.into_iter().filter(|table| *table == TABLE || minute % 1440 == 0) {
            let options = CompactOptions { now: Some(now), ..CompactOptions::default() };
            let report = jobs.compact(table, &options).await.unwrap();
            assert_eq!(report.repeats, 0);
            if table == TABLE && report.removed_files > 0 {
                rounds += 1;
                assert_eq!(answer(&jobs).await, fleet.expected, "after the compaction at {now}");
            }
            jobs.checkpoint_as_of(table, now).await.unwrap();
            if minute % 1440 == 0 {
                removed += jobs.vacuum_as_of(table, now, Duration::from_secs(7 * 86_400)).await.unwrap();
            }
            most_log = most_log.max(log_files(dir.path(), table));
        }
        if minute == minutes {
            println!("after {minutes} minutes: opens in {:?}", opening(dir.path()).await);
        }
    }
    let found = lake.snapshot(TABLE).await.unwrap();
    let mut by_month: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &found.files {
        *by_month.entry(file.partition_value("month").unwrap()).or_default() += 1;
    }
    println!(
        "{position} commits, {rounds} rounds of compaction, {removed} files vacuumed, version {}, at most {most_open} files of \
         open months, at most {most_log} files in a log, live files {by_month:?}; opens in {:?}",
        found.version,
        opening(dir.path()).await
    );
    assert!(most_open < 200, "{most_open} files of open months");
    // A month of commits and of rewrites, and the checkpoints among them.
    assert!(most_log < 40 * 24 * 3 + 2 * minutes_of(minutes), "{most_log} files in a log");
    assert!(rounds > days / 2 && removed > 0);
    assert_eq!(answer(&lake).await, fleet.expected);
    // No reading twice: meter and time are the key here.
    let rows = batches(&lake, &found);
    let mut keys: Vec<(String, i64)> = Vec::new();
    for batch in &rows {
        use arrow::array::AsArray;
        let meters = batch.column_by_name("meter_id").unwrap().as_string::<i32>();
        let times = batch.column_by_name("ts").unwrap();
        let times = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        keys.extend((0..batch.num_rows()).map(|row| (meters.value(row).to_owned(), times.value(row))));
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

fn minutes_of(minutes: i64) -> usize {
    usize::try_from(minutes).unwrap()
}
