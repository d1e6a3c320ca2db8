//! `kill -9` of a real process that journals, commits, merges and releases: at random moments and at named points.
//!
//! `METERLAKE_KILLS=n` kills at so many random moments, `METERLAKE_LONG=1` at 1,000 and 25 times at every point.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meterlake_model::ledger::{Ledger, TableValue};
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, Timestamp};
use meterlake_store::durable::{DiskSync, DurableFileSystem, SystemSync};
use meterlake_store::journal::{
    Disk, GroupSync, JournalHandle, JournalOptions, JournalReader, JournalWriter, LocalDisk, SegmentFile,
};
use meterlake_store::{Committer, CompactOptions, Lake};

use crate::faults::{electricity, record};
use crate::simulation::Random;

const FOLDER: &str = "METERLAKE_KILLED_FOLDER";
const FROM: &str = "METERLAKE_KILLED_FROM";
const POINT: &str = "METERLAKE_KILLED_AT";
const TABLE: &str = "electricity_readings";
const E: &str = "energy_import_kwh";
const START_S: i64 = 1_793_491_200;
/// A child that nobody kills ends by itself.
const MESSAGES: u64 = 600;
const FIRST_ACK: Duration = Duration::from_secs(10);

/// Where the child can be told to kill itself.
const POINTS: [&str; 22] = [
    "journal file before",
    "journal file after",
    "journal cut before",
    "journal cut after",
    "journal write before",
    "journal write half",
    "journal write after",
    "journal sync before",
    "journal sync after",
    "journal folder before",
    "journal folder after",
    "journal remove before",
    "journal remove after",
    "data file before",
    "data file after",
    "data folder before",
    "data folder after",
    "log file before",
    "log file after",
    "log folder before",
    "log folder after",
    "between journal and tables",
];

/// Kills this process at the n-th passage of a point.
#[derive(Debug, Clone)]
struct Killer(Arc<Mutex<Option<(String, u64)>>>);

impl Killer {
    fn pass(&self, point: &str) {
        let mut told = self.0.lock().unwrap();
        let Some((at, left)) = told.as_mut() else { return };
        if at == point {
            *left -= 1;
            if *left == 0 {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    }

    fn around<T>(&self, what: &str, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.pass(&format!("{what} before"));
        let result = action();
        self.pass(&format!("{what} after"));
        result
    }
}

struct KilledDisk(Killer);

impl Disk for KilledDisk {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn SegmentFile>> {
        let inner = self.0.around("journal file", || LocalDisk.create(path, len))?;
        Ok(Box::new(KilledFile { inner, killer: self.0.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(KilledFile { inner: LocalDisk.open(path)?, killer: self.0.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.around("journal remove", || LocalDisk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.around("journal folder", || LocalDisk.sync_dir(dir))
    }
}

struct KilledFile {
    inner: Box<dyn SegmentFile>,
    killer: Killer,
}

impl SegmentFile for KilledFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.killer.around("journal write", || {
            let half = self.inner.write_at(&bytes[..bytes.len().div_ceil(2)], offset)?;
            self.killer.pass("journal write half");
            Ok(half + self.inner.write_at(&bytes[half..], offset + half as u64)?)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.killer.around("journal sync", || self.inner.sync_data())
    }

    fn cut(&self, keep: u64, len: u64) -> io::Result<()> {
        self.killer.around("journal cut", || self.inner.cut(keep, len))
    }
}

#[derive(Debug)]
struct KilledSync(Killer);

impl DiskSync for KilledSync {
    fn file(&self, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let what = if path.to_string_lossy().contains("_delta_log") { "log file" } else { "data file" };
        self.0.around(what, || SystemSync.file(file))
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        let what = if path.ends_with("_delta_log") { "log folder" } else { "data folder" };
        self.0.around(what, || SystemSync.directory(path))
    }
}

/// What message `number` says: eight meters at one time, the same whenever it is sent.
fn message(number: u64) -> Vec<(String, i64, i64)> {
    let number = i64::try_from(number).unwrap();
    let at = START_S + number / 5 * 900;
    (0..8).map(|i| (format!("m{:02}", number % 5 * 8 + i), at, at % 9_973 + i)).collect()
}

fn batch(number: u64) -> Arc<ReadingBatch> {
    let rows = message(number);
    let values: Vec<[(&str, i64); 1]> = rows.iter().map(|row| [(E, row.2)]).collect();
    let said: Vec<_> = rows.iter().zip(&values).map(|(row, v)| (row.0.as_str(), row.1, v.as_slice())).collect();
    record(&said)
}

fn tell(word: char, number: u64) {
    let mut out = io::stdout().lock();
    writeln!(out, "{word} {number}").unwrap();
    out.flush().unwrap();
}

/// Not a test by itself: the process that the tests below kill.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    // Behind what the harness has begun to say of this test.
    writeln!(io::stdout()).unwrap();
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    let point = std::env::var(POINT).ok().map(|text| {
        let (name, nth) = text.rsplit_once(' ').unwrap();
        (name.to_owned(), nth.parse().unwrap())
    });
    let killer = Killer(Arc::new(Mutex::new(point)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(collect(Path::new(&folder), from, &killer));
}

async fn collect(folder: &Path, from: u64, killer: &Killer) {
    let options = JournalOptions {
        segment_bytes: 8 << 10,
        keep: Duration::ZERO,
        keep_bytes: 0,
        ..JournalOptions::new(folder.join("journal"))
    };
    let (writer, _) = JournalWriter::open_on(Box::new(KilledDisk(killer.clone())), options).unwrap();
    let store = || Arc::new(DurableFileSystem::with_sync(Arc::new(KilledSync(killer.clone()))));
    let lake = Lake::open_with(&folder.join("lake"), store()).unwrap();
    let mut committer = caught_up(&lake, &folder.join("journal")).await;
    let journal = JournalHandle::spawn(writer, GroupSync::default()).unwrap();
    journal.release(committer.releasable());
    let jobs = Lake::open_with(&folder.join("lake"), store()).unwrap();
    for first in (from..from + MESSAGES).step_by(3) {
        let numbers: Vec<u64> = (first..first + 3).collect();
        numbers.iter().for_each(|number| tell('S', *number));
        let appends = numbers.iter().map(|number| journal.append(batch(*number)));
        for (number, position) in numbers.iter().zip(futures::future::join_all(appends).await) {
            let position = position.unwrap();
            tell('A', *number);
            killer.pass("between journal and tables");
            committer.push(position, batch(*number));
        }
        if first % 4 == 0 {
            committer.flush().await.unwrap();
            journal.release(committer.releasable());
        }
        if first % 10 == 0 {
            let now = Some(Timestamp::from_unix_seconds(START_S + 86_400).unwrap());
            let options = CompactOptions { now, min_files: 2, ..CompactOptions::default() };
            jobs.compact(TABLE, &options).await.unwrap();
            jobs.checkpoint(TABLE).await.unwrap();
        }
    }
    journal.close().await;
}

/// As the pipeline begins: what the journal has and the tables lack is committed.
async fn caught_up(lake: &Lake, journal: &Path) -> Committer {
    let mut committer = Committer::open(lake).await.unwrap();
    for record in JournalReader::open(journal).read_from(committer.position() + 1).unwrap() {
        let (position, batch) = record.unwrap();
        committer.push(position, Arc::new(batch));
    }
    committer.flush().await.unwrap();
    committer
}

/// The other side: sends what was not acknowledged again, and knows all that was.
pub(crate) struct Site {
    folder: PathBuf,
    ledger: Ledger,
    /// Messages by number, whether they were acknowledged.
    sent: HashMap<u64, bool>,
    slowest: Duration,
}

impl Site {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ledger: Ledger::default(), sent: HashMap::new(), slowest: Duration::ZERO }
    }

    fn start(&self, point: Option<String>) -> Child {
        let next = (0..).find(|n| self.sent.get(n) != Some(&true)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kills::the_process_that_is_killed", "--nocapture", "--test-threads=1"]);
        command.env(FOLDER, &self.folder).env(FROM, next.to_string());
        if let Some(point) = point {
            command.env(POINT, point);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Lets a child live until it is told to die, so long after its first acknowledgement, or dies by itself.
    fn life(&mut self, point: Option<String>, after_first_ack: Option<Duration>) -> bool {
        self.life_with(point, after_first_ack, |_| ())
    }

    /// As [`Self::life`]; just before it is killed `last` happens, while it still works.
    pub(crate) fn life_with(
        &mut self,
        point: Option<String>,
        after_first_ack: Option<Duration>,
        mut last: impl FnMut(&Self),
    ) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let began = Instant::now();
        let mut child = self.start(point);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (to_parent, heard) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| to_parent.send(line)));
        let mut deadline: Option<Instant> = None;
        loop {
            let patience = deadline.map_or(Duration::from_secs(60), |d| d.saturating_duration_since(Instant::now()));
            match heard.recv_timeout(patience) {
                Ok(line) => {
                    let is_first = self.hear(&line) && deadline.is_none();
                    if is_first {
                        self.slowest = self.slowest.max(began.elapsed());
                        deadline = after_first_ack.map(|after| Instant::now() + after);
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    last(self);
                    child.kill().unwrap();
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = reader.join();
        let output = child.wait_with_output().unwrap();
        let was_killed = output.status.signal() == Some(9);
        assert!(was_killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        was_killed
    }

    /// Takes a line of the child; tells whether it acknowledges something.
    fn hear(&mut self, line: &str) -> bool {
        let Some((word @ ("S" | "A"), number)) = line.split_once(' ') else { return false };
        // The last line of a killed process may be cut.
        let Ok(number) = number.parse::<u64>() else { return false };
        let is_acknowledged = word == "A";
        note(&mut self.ledger, number, is_acknowledged);
        *self.sent.entry(number).or_insert(false) |= is_acknowledged;
        is_acknowledged
    }

    /// What was acknowledged so far, by message.
    pub(crate) fn sent(&self) -> HashMap<u64, bool> {
        self.sent.clone()
    }

    async fn check(&self, what: &str) {
        check(&self.folder, &self.ledger, what).await;
        // A machine that does other work says nothing about time; the long form has it for itself.
        assert!(!is_long() || self.slowest < FIRST_ACK, "{what}: the first acknowledgement took {:?}", self.slowest);
        println!("slowest start to first acknowledgement {:?}", self.slowest);
    }
}

/// Notes what a message says as sent, and perhaps as acknowledged.
pub(crate) fn note(ledger: &mut Ledger, number: u64, is_acknowledged: bool) {
    for (meter, ts_s, value) in message(number) {
        let ts = Timestamp::from_unix_seconds(ts_s).unwrap();
        let (meter, channel) = (MeterId::new(&meter).unwrap(), Channel::by_name(E).unwrap());
        ledger.note(&meter, ts, channel, value, is_acknowledged);
    }
}

/// Opens what a process left in a folder as its next start would, and holds it against the ledger.
pub(crate) async fn check(folder: &Path, ledger: &Ledger, what: &str) {
    let journal = folder.join("journal");
    let (_writer, _) = JournalWriter::open(JournalOptions::new(&journal)).unwrap();
    let lake = Lake::open(&folder.join("lake")).unwrap();
    caught_up(&lake, &journal).await;
    let channel = Channel::of(Commodity::Electricity).find(|c| c.name() == E).unwrap();
    let values = electricity(&lake).await.into_iter().map(|row| TableValue {
        meter_id: MeterId::new(&row.0).unwrap(),
        ts: Timestamp::from_unix_seconds(row.1).unwrap(),
        channel,
        value: row.4[E],
    });
    let checked = ledger.check(values);
    assert!(checked.is_good(), "{what}: {checked}");
    println!("{what}: {checked}");
}

fn is_long() -> bool {
    std::env::var_os("METERLAKE_LONG").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_a_process_killed_at_random_moments_loses_doubles_and_invents_nothing() {
    let asked = std::env::var("METERLAKE_KILLS").ok().map(|text| text.parse::<usize>().unwrap());
    let kills = asked.unwrap_or(if is_long() { 1_000 } else { 8 });
    let folder = tempfile::tempdir().unwrap();
    let (mut site, mut random) = (Site::new(folder.path()), Random::new(20_261_122));
    let mut struck = 0;
    while struck < kills {
        let after = Duration::from_micros(random.next() % 120_000);
        struck += usize::from(site.life(None, Some(after)));
    }
    site.check(&format!("{kills} kills at random moments")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_a_process_killed_at_named_points_loses_doubles_and_invents_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, mut random) = (Site::new(folder.path()), Random::new(20_261_123));
    let times = if is_long() { 25 } else { 1 };
    let mut struck = 0;
    for round in 0..times {
        // A third of the points in a usual run, and at whichever passage.
        for point in POINTS.iter().step_by(if is_long() { 1 } else { 3 }) {
            // The cut comes once a start, at the others any of the first passages.
            let most = if point.contains("cut") { 1 } else { 4 };
            let at = format!("{point} {}", 1 + random.below(most));
            let killed = site.life(Some(at.clone()), None);
            assert!(killed || point.contains("cut") || point.contains("remove"), "round {round}: {at} was not reached");
            struck += usize::from(killed);
        }
    }
    assert!(struck > 4);
    site.check(&format!("{struck} kills at named points")).await;
}
