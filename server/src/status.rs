//! What the collector says about itself: counters in memory, and a small file that other processes read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use meterlake_ingest::modbus::{FailureKind, LineStats, ListenStats};
use meterlake_ingest::mqtt::{Latency, MqttStats};
use meterlake_model::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::reload::ReloadOutcome;

/// A report older than this is that of a collector that is gone or stuck.
pub const STALE_AFTER_S: i64 = 15;

/// Counters of one collector since its start.
#[derive(Debug, Default)]
pub struct CollectStatus {
    /// Reading rows decoded and handed over.
    pub received: AtomicU64,
    /// Reading rows written to the tables.
    pub stored: AtomicU64,
    /// Reading rows that repeated what was there.
    pub duplicates: AtomicU64,
    /// Reading rows that contradicted what was there; kept and flagged.
    pub conflicts: AtomicU64,
    /// Messages that could not be read.
    pub dead_letters: AtomicU64,
    /// Events.
    pub events: AtomicU64,
    /// Newest journal position that is on disk.
    pub durable_position: AtomicU64,
    /// Newest journal position whose rows every table holds.
    pub committed_position: AtomicU64,
    /// Reading rows that are on disk in the journal.
    pub durable: AtomicU64,
    /// Commits made.
    pub commits: AtomicU64,
    /// What else there is to say; locked for moments only.
    more: Mutex<More>,
}

#[derive(Debug, Default)]
struct More {
    /// `None` until they are started.
    sources: Option<Sources>,
    reload: Option<ReloadOutcome>,
}

impl CollectStatus {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// Whether every broker has granted its subscriptions.
    pub fn is_subscribed(&self) -> bool {
        let connected = |(_, stats): &(String, Arc<MqttStats>)| stats.connected.load(Ordering::Relaxed);
        self.more().sources.as_ref().is_some_and(|sources| sources.brokers.iter().all(connected))
    }

    /// The sources that run from now on.
    pub fn set_sources(&self, sources: Sources) {
        self.more().sources = Some(sources);
    }

    /// What became of a reload.
    pub fn set_reload(&self, outcome: ReloadOutcome) {
        self.more().reload = Some(outcome);
    }

    fn more(&self) -> std::sync::MutexGuard<'_, More> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present value of a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// The sources of one collector, by name.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// Brokers.
    pub brokers: Vec<(String, Arc<MqttStats>)>,
    /// Modbus lines.
    pub lines: Vec<(String, Arc<LineStats>)>,
    /// Ports that Modbus device servers connect to.
    pub listeners: Vec<(String, Arc<ListenStats>)>,
}

impl Sources {
    /// Every Modbus line, those of listeners included.
    fn all_lines(&self) -> impl Iterator<Item = (String, Arc<LineStats>)> {
        let of_listeners = self.listeners.iter().flat_map(|(_, listener)| listener.lines().to_vec());
        self.lines.iter().cloned().chain(of_listeners)
    }
}

/// Figures of one Modbus device.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct DeviceFigures {
    /// Its line.
    pub line: String,
    /// Its address on the line.
    pub unit: u8,
    /// The meter.
    pub meter: String,
    /// By the metric's name.
    pub figures: Figures,
}

/// Devices whose figures are reported at most, since the report is written each second.
const MOST_DEVICES: usize = 5_000;

/// One counter or gauge of a source, by its metric's name.
pub type Figures = Vec<(String, u64)>;

/// The collector's state as its file holds it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct StatusReport {
    /// When it was written, in seconds since 1970.
    pub written_at_s: i64,
    /// When the collector started, in seconds since 1970.
    pub started_at_s: i64,
    /// The collector's process.
    pub pid: u32,
    /// The counters of [`CollectStatus`], by name.
    pub totals: Figures,
    /// By broker: figures of the session.
    pub brokers: Vec<(String, Figures)>,
    /// By Modbus line: figures of the polls.
    pub lines: Vec<(String, Figures)>,
    /// By Modbus listener: figures of the connections, and sums over its lines.
    #[serde(default)]
    pub listeners: Vec<(String, Figures)>,
    /// By Modbus device; the first 5,000 where there are more.
    #[serde(default)]
    pub devices: Vec<DeviceFigures>,
    /// The last reload of the configuration, if there was one.
    #[serde(default)]
    pub reload: Option<ReloadOutcome>,
}

impl StatusReport {
    fn of(status: &CollectStatus, started_at_s: i64) -> Self {
        let (sources, reload) = {
            let more = status.more();
            (more.sources.clone().unwrap_or_default(), more.reload.clone())
        };
        let total = |name: &str, counter: &AtomicU64| (name.to_owned(), CollectStatus::get(counter));
        let now_s = Timestamp::now().unix_seconds();
        Self {
            written_at_s: now_s,
            started_at_s,
            pid: std::process::id(),
            totals: vec![
                total("readings_received", &status.received),
                total("readings_durable", &status.durable),
                total("readings_stored", &status.stored),
                total("readings_duplicate", &status.duplicates),
                total("readings_conflict", &status.conflicts),
                total("dead_letters", &status.dead_letters),
                total("events", &status.events),
                total("commits", &status.commits),
                total("journal_durable_position", &status.durable_position),
                total("journal_committed_position", &status.committed_position),
            ],
            brokers: sources.brokers.iter().map(|(name, stats)| (name.clone(), broker_figures(stats))).collect(),
            lines: sources.lines.iter().map(|(name, stats)| (name.clone(), line_figures(stats, now_s))).collect(),
            listeners: sources
                .listeners
                .iter()
                .map(|(name, stats)| (name.clone(), listener_figures(stats, now_s)))
                .collect(),
            devices: device_figures(&sources, now_s),
            reload,
        }
    }

    /// A total by name; 0 when there is none.
    pub fn total(&self, name: &str) -> u64 {
        self.totals.iter().find(|(n, _)| n == name).map_or(0, |(_, value)| *value)
    }

    /// Whether the collector wrote it lately, as seen at `now_s`.
    pub fn is_fresh(&self, now_s: i64) -> bool {
        (now_s - self.written_at_s).abs() <= STALE_AFTER_S
    }
}

/// Where a collector's report lies.
pub fn report_path(journal: &Path) -> PathBuf {
    journal.join("status.json")
}

/// The newest report of the collector that owns a journal; `None` when there is none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_report(journal: &Path) -> anyhow::Result<Option<StatusReport>> {
    let path = report_path(journal);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} is not a status report", path.display()))
}

/// Writes the report each second until stopped. A failure is logged and tried again: no reading depends on it.
pub async fn publish(journal: PathBuf, status: Arc<CollectStatus>, stop: CancellationToken) {
    let started_at_s = Timestamp::now().unix_seconds();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut failing = false;
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let outcome = write_report(&journal, &StatusReport::of(&status, started_at_s));
        match outcome {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = format!("{error:#}"), "cannot write the collector's status");
            }
            Err(_) => {}
        }
        if last {
            return;
        }
    }
}

fn write_report(journal: &Path, report: &StatusReport) -> anyhow::Result<()> {
    let path = report_path(journal);
    let fresh = path.with_extension("json.tmp");
    std::fs::write(&fresh, serde_json::to_vec(report)?).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, &path).with_context(|| format!("cannot replace {}", path.display()))
}

fn broker_figures(stats: &MqttStats) -> Figures {
    let counters = [
        ("messages", &stats.messages),
        ("bytes", &stats.bytes),
        ("retained", &stats.retained),
        ("last_message_at_s", &stats.last_message_at_s),
        ("readings", &stats.readings),
        ("events", &stats.events),
        ("ignored", &stats.ignored),
        ("dead_letters", &stats.dead_letters),
        ("acknowledged", &stats.acknowledged),
        ("stale_acknowledgements", &stats.stale_acknowledgements),
        ("reconnects", &stats.reconnects),
        ("connections_lost", &stats.connections_lost),
        ("connections_refused", &stats.connections_refused),
        ("sessions_lost", &stats.sessions_lost),
        ("filters_unwanted", &stats.filters_unwanted),
        ("taken_over", &stats.taken_over),
        ("watchdog_drops", &stats.watchdog_drops),
        ("unacknowledged", &stats.unacknowledged),
        ("oldest_unacknowledged_ms", &stats.oldest_unacknowledged_ms),
        ("held_up_ms", &stats.held_up_ms),
        ("broker_dropped", &stats.broker_dropped),
        ("receipts", &stats.receipts),
        ("receipts_dropped", &stats.receipts_dropped),
        ("rebirths", &stats.rebirths),
        ("births", &stats.births),
        ("deaths", &stats.deaths),
        ("sequence_gaps", &stats.sequence_gaps),
        ("publishes_refused", &stats.publishes_refused),
    ];
    let mut figures = named(&counters);
    for (name, state) in [("connected", &stats.connected), ("standing_by", &stats.standing_by)] {
        figures.push((name.to_owned(), u64::from(state.load(Ordering::Relaxed))));
    }
    for (reason, count) in stats.dead_letters_by_reason.counts() {
        figures.push((format!("dead_letters_{reason}"), count));
    }
    let durable = stats.durable_after.cumulated();
    for (up_to, count) in Latency::UP_TO_MS.iter().zip(durable) {
        figures.push((format!("durable_within_{up_to}_ms"), count));
    }
    figures.push(("durable".to_owned(), durable[Latency::UP_TO_MS.len()]));
    figures.push(("durable_sum_ms".to_owned(), stats.durable_after.sum_ms()));
    figures.push(("durable_longest_ms".to_owned(), stats.durable_after.longest_ms()));
    figures
}

fn line_figures(stats: &LineStats, now_s: i64) -> Figures {
    let counters = [
        ("requests", &stats.requests),
        ("readings", &stats.readings),
        ("dead_letters", &stats.dead_letters),
        ("late", &stats.late),
        ("slots_missed", &stats.slots_missed),
        ("waits", &stats.waits),
        ("dropped", &stats.dropped),
        ("connections", &stats.connections),
    ];
    let mut figures = named(&counters);
    figures.push(("devices".to_owned(), stats.devices().len() as u64));
    figures.push(("devices_backed_off".to_owned(), stats.backed_off() as u64));
    for kind in FailureKind::ALL {
        figures.push((format!("failures_{}", kind.as_str()), stats.failures(kind)));
    }
    let latency = &stats.latency;
    figures.push(("connected".to_owned(), u64::from(stats.connected.load(Ordering::Relaxed))));
    figures.push(("answers".to_owned(), latency.answers()));
    figures.push(("latency_sum_us".to_owned(), latency.total_us()));
    figures.push(("latency_max_us".to_owned(), latency.longest_us()));
    figures.push(("oldest_reading_age_s".to_owned(), stats.oldest_reading_age_s(now_s).unwrap_or(0)));
    figures
}

/// What happened at the port, and the sums over the lines behind it; for the longest and the oldest, the greatest.
fn listener_figures(stats: &ListenStats, now_s: i64) -> Figures {
    let counters = [
        ("accepted", &stats.accepted),
        ("accept_errors", &stats.accept_errors),
        ("registered", &stats.registered),
        ("replaced", &stats.replaced),
        ("refused_unknown", &stats.unknown),
        ("refused_unrecognised", &stats.unrecognised),
        ("refused_too_many", &stats.too_many),
    ];
    let mut figures = named(&counters);
    let lines = stats.lines();
    figures.push(("links".to_owned(), lines.len() as u64));
    figures.push(("links_up".to_owned(), stats.links_up() as u64));
    let mut sums = Figures::new();
    for (_, line) in &*lines {
        let of_line = line_figures(line, now_s);
        if sums.is_empty() {
            sums = of_line;
            continue;
        }
        for ((name, sum), (_, more)) in sums.iter_mut().zip(of_line) {
            let greatest = matches!(name.as_str(), "latency_max_us" | "oldest_reading_age_s");
            *sum = if greatest { more.max(*sum) } else { *sum + more };
        }
    }
    figures.extend(sums.into_iter().filter(|(name, _)| name != "connected"));
    figures
}

fn device_figures(sources: &Sources, now_s: i64) -> Vec<DeviceFigures> {
    let devices = sources.all_lines().flat_map(|(line, stats)| {
        let devices = stats.devices().to_vec();
        devices.into_iter().map(move |device| (line.clone(), device))
    });
    let figures = devices.take(MOST_DEVICES).map(|(line, device)| {
        let mut figures = named(&[
            ("requests", &device.requests),
            ("readings", &device.readings),
            ("slots_missed", &device.slots_missed),
        ]);
        figures.push(("failures".to_owned(), FailureKind::ALL.iter().map(|kind| device.failures(*kind)).sum()));
        figures.push(("answers".to_owned(), device.latency.answers()));
        figures.push(("latency_sum_us".to_owned(), device.latency.total_us()));
        figures.push(("latency_max_us".to_owned(), device.latency.longest_us()));
        figures.push(("backed_off".to_owned(), u64::from(device.backed_off.load(Ordering::Relaxed))));
        figures.push(("reading_age_s".to_owned(), device.age_s(now_s).unwrap_or(0)));
        DeviceFigures { line, unit: device.unit, meter: device.meter_id.to_string(), figures }
    });
    figures.collect()
}

fn named(counters: &[(&str, &AtomicU64)]) -> Figures {
    counters.iter().map(|(name, counter)| ((*name).to_owned(), CollectStatus::get(counter))).collect()
}
