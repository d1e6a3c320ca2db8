//! Who brings readings: brokers and Modbus lines, each a task of its own that starts, stops, is adjusted or exchanged as
//! the configuration says. What does not change is never touched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meterlake_config::{Config, ModbusLine, ModbusListener, MqttBroker};
use meterlake_ingest::modbus::{LineStats, ListenStats};
use meterlake_ingest::mqtt::{Memory, MqttStats};
use meterlake_ingest::{Delivery, Directory, modbus, mqtt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::births::KeptBirths;
use crate::kept_filters::KeptFilters;
use crate::shutdown;
use crate::status::{CollectStatus, Sources};

/// How long a source may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a source is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SourceName {
    Broker(String),
    Line(String),
    Listener(String),
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(name) => write!(f, "broker {name}"),
            Self::Line(name) => write!(f, "modbus line {name}"),
            Self::Listener(name) => write!(f, "modbus listener {name}"),
        }
    }
}

/// How a source is to be read.
#[derive(Debug, Clone, PartialEq)]
enum SourceConfig {
    Broker(MqttBroker),
    Line(ModbusLine),
    Listener(ModbusListener),
}

impl SourceConfig {
    fn all(config: &Config) -> BTreeMap<SourceName, Self> {
        let brokers = config.mqtt.iter().map(|b| (SourceName::Broker(b.name.clone()), Self::Broker(b.clone())));
        let lines = config.modbus.iter().map(|l| (SourceName::Line(l.name.clone()), Self::Line(l.clone())));
        let listeners =
            config.modbus_listen.iter().map(|l| (SourceName::Listener(l.name.clone()), Self::Listener(l.clone())));
        brokers.chain(lines).chain(listeners).collect()
    }
}

/// How a running source is read; those of Modbus take another configuration while they run.
enum Followed {
    Broker(Box<MqttBroker>),
    Line(watch::Sender<ModbusLine>),
    Listener(watch::Sender<ModbusListener>),
}

/// What becomes of a running source by another configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Adjusted,
    /// Stopped, and started as it is to be now.
    Exchanged,
}

impl Followed {
    fn fate(&self, wanted: &SourceConfig) -> Fate {
        let adjusted = |is_same: bool| if is_same { Fate::Kept } else { Fate::Adjusted };
        match (self, wanted) {
            (Self::Broker(broker), SourceConfig::Broker(wanted)) if **broker == *wanted => Fate::Kept,
            (Self::Line(line), SourceConfig::Line(wanted)) => adjusted(*line.borrow() == *wanted),
            (Self::Listener(listener), SourceConfig::Listener(wanted)) if listener.borrow().bind == wanted.bind => {
                adjusted(*listener.borrow() == *wanted)
            }
            _ => Fate::Exchanged,
        }
    }

    /// Hands over what it can be adjusted to. Returns what there is to say of it.
    fn adjust(&self, wanted: &SourceConfig) -> Option<String> {
        match (self, wanted) {
            (Self::Line(line), SourceConfig::Line(wanted)) => {
                line.send_replace(wanted.clone());
                None
            }
            (Self::Listener(listener), SourceConfig::Listener(wanted)) => {
                let before = listener.send_replace(wanted.clone());
                Some(changed_links(&before, wanted))
            }
            _ => None,
        }
    }
}

/// As in "1 of 7 links added, 0 removed, 2 changed".
fn changed_links(before: &ModbusListener, now: &ModbusListener) -> String {
    let known: BTreeMap<&str, &ModbusLine> = before.links.iter().map(|link| (link.id.as_str(), &link.line)).collect();
    let (mut added, mut changed) = (0, 0);
    for link in &now.links {
        match known.get(link.id.as_str()) {
            None => added += 1,
            Some(line) if **line != link.line => changed += 1,
            Some(_) => {}
        }
    }
    let removed = before.links.len() + added - now.links.len();
    format!("{added} of {} links added, {removed} removed, {changed} changed", now.links.len())
}

/// A source's counters.
#[derive(Clone)]
enum SourceStats {
    Broker(Arc<MqttStats>),
    Line(Arc<LineStats>),
    Listener(Arc<ListenStats>),
}

struct Running {
    followed: Followed,
    stats: SourceStats,
    stop: CancellationToken,
    /// `None` once its end has been told.
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

/// What a reload did, by the sources' names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) started: Vec<String>,
    pub(crate) stopped: Vec<String>,
    pub(crate) exchanged: Vec<String>,
    /// With what was changed about them.
    pub(crate) adjusted: Vec<String>,
    pub(crate) kept: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (word, names) in [
            ("started", &self.started),
            ("stopped", &self.stopped),
            ("exchanged", &self.exchanged),
            ("adjusted", &self.adjusted),
        ] {
            if !names.is_empty() {
                parts.push(format!("{word} {}", names.join(", ")));
            }
        }
        parts.push(format!("left {} untouched", self.kept));
        f.write_str(&parts.join("; "))
    }
}

/// Every source that runs.
pub(crate) struct Collectors {
    running: BTreeMap<SourceName, Running>,
    /// The folder that keeps what Sparkplug's edge nodes said at their births, and what sessions hold.
    journal: PathBuf,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stop: CancellationToken,
    status: Arc<CollectStatus>,
}

impl Collectors {
    /// None yet. Cancelling `stop` stops all of them.
    pub(crate) fn new(
        journal: PathBuf,
        directory: Directory,
        out: mpsc::Sender<Delivery>,
        stop: CancellationToken,
        status: Arc<CollectStatus>,
    ) -> Self {
        Self { running: BTreeMap::new(), journal, directory, out, stop, status }
    }

    /// Starts, stops, adjusts and exchanges what differs from what runs. Sources that go are stopped before others start or
    /// change, since two sessions of one name would throw each other out, and a serial line has room for one; messages
    /// meanwhile wait at the broker.
    pub(crate) async fn follow(&mut self, config: &Config) -> Changes {
        for caution in config.cautions() {
            tracing::warn!("{caution}");
        }
        let wanted = SourceConfig::all(config);
        let mut changes = Changes::default();
        let (mut leaving, mut adjusting) = (Vec::new(), Vec::new());
        let mut keeps_counters = BTreeMap::new();
        let names: Vec<SourceName> = self.running.keys().cloned().collect();
        for name in names {
            let wanted_now = wanted.get(&name);
            let fate = |running: &Running| match wanted_now {
                Some(config) if running.task.is_some() => running.followed.fate(config),
                _ => Fate::Exchanged,
            };
            match self.running.get(&name).map(fate) {
                Some(Fate::Kept) => {
                    changes.kept += 1;
                    continue;
                }
                Some(Fate::Adjusted) => {
                    adjusting.push(name);
                    continue;
                }
                Some(Fate::Exchanged) | None => {}
            }
            let Some(running) = self.running.remove(&name) else { continue };
            let is_exchanged = wanted_now.is_some();
            let told = if is_exchanged { &mut changes.exchanged } else { &mut changes.stopped };
            told.push(name.to_string());
            running.stop.cancel();
            if is_exchanged {
                keeps_counters.insert(name.clone(), running.stats.clone());
            }
            leaving.push((name, running));
        }
        wait_for(leaving).await;
        for name in adjusting {
            let (Some(running), Some(config)) = (self.running.get(&name), wanted.get(&name)) else { continue };
            let what = running.followed.adjust(config);
            changes.adjusted.push(what.map_or_else(|| name.to_string(), |what| format!("{name} ({what})")));
        }
        for (name, config) in wanted {
            if self.running.contains_key(&name) {
                continue;
            }
            let counters = keeps_counters.remove(&name);
            if counters.is_none() {
                changes.started.push(name.to_string());
            }
            let running = self.start(config, counters);
            self.running.insert(name, running);
        }
        self.status.set_sources(self.sources());
        changes
    }

    fn start(&self, config: SourceConfig, counters: Option<SourceStats>) -> Running {
        let stop = self.stop.child_token();
        let (directory, out) = (self.directory.clone(), self.out.clone());
        let (followed, stats, task) = match config {
            SourceConfig::Broker(broker) => {
                let stats = match counters {
                    Some(SourceStats::Broker(stats)) => stats,
                    _ => Arc::default(),
                };
                let kept = KeptBirths::load(&self.journal, &broker);
                let filters = Arc::new(KeptFilters::of(&self.journal, &broker));
                let memory = Memory { births: kept.shared(), filters: Some(filters) };
                let work = mqtt::collect(broker.clone(), directory, memory, out, Arc::clone(&stats), stop.clone());
                let work = kept.keep_during(work);
                let name = broker.name.clone();
                let task = tokio::spawn(async move { work.await.with_context(|| format!("broker {name}")) });
                (Followed::Broker(Box::new(broker)), SourceStats::Broker(stats), task)
            }
            SourceConfig::Line(line) => {
                let stats = Arc::<LineStats>::default();
                let name = line.name.clone();
                let (sender, line) = watch::channel(line);
                let work = modbus::poll_line(line, directory, out, Arc::clone(&stats), stop.clone());
                let task = tokio::spawn(async move { work.await.with_context(|| format!("modbus line {name}")) });
                (Followed::Line(sender), SourceStats::Line(stats), task)
            }
            SourceConfig::Listener(listener) => {
                let stats = Arc::<ListenStats>::default();
                let name = listener.name.clone();
                let (sender, listener) = watch::channel(listener);
                let work = modbus::listen(listener, directory, out, Arc::clone(&stats), stop.clone());
                let task = tokio::spawn(async move { work.await.with_context(|| format!("modbus listener {name}")) });
                (Followed::Listener(sender), SourceStats::Listener(stats), task)
            }
        };
        Running { followed, stats, stop, task: Some(task) }
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for (name, running) in &self.running {
            match (name, &running.stats) {
                (SourceName::Broker(name), SourceStats::Broker(stats)) => {
                    sources.brokers.push((name.clone(), Arc::clone(stats)));
                }
                (SourceName::Line(name), SourceStats::Line(stats)) => {
                    sources.lines.push((name.clone(), Arc::clone(stats)));
                }
                (SourceName::Listener(name), SourceStats::Listener(stats)) => {
                    sources.listeners.push((name.clone(), Arc::clone(stats)));
                }
                _ => {}
            }
        }
        sources
    }

    /// What ended by itself since the last look; each end is told once. A source ends by itself only when it cannot go
    /// on.
    pub(crate) async fn ended(&mut self) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        for (name, running) in &mut self.running {
            if !running.task.as_ref().is_some_and(JoinHandle::is_finished) {
                continue;
            }
            let Some(task) = running.task.take() else { continue };
            match task.await {
                Ok(Ok(())) if self.stop.is_cancelled() => {}
                Ok(Ok(())) => errors.push(anyhow::anyhow!("{name} ended without a reason")),
                Ok(Err(error)) => errors.push(error),
                Err(join) => errors.push(anyhow::anyhow!("{name} ended abruptly: {join}")),
            }
        }
        errors
    }

    /// Waits until all have stopped, which `stop` has told them to.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub(crate) async fn drain(mut self) -> anyhow::Result<()> {
        let first = self.ended().await.into_iter().next();
        let late = wait_for(std::mem::take(&mut self.running).into_iter().collect()).await;
        first.or(late).map_or(Ok(()), Err)
    }
}

/// Waits for sources that were told to stop; gives the first thing that went wrong.
async fn wait_for(leaving: Vec<(SourceName, Running)>) -> Option<anyhow::Error> {
    let mut first = None;
    for (name, running) in leaving {
        let Some(task) = running.task else { continue };
        if let Err(error) = shutdown::finish(&name.to_string(), task, STOP_LIMIT).await {
            tracing::warn!(error = format!("{error:#}"), "did not stop well");
            first.get_or_insert(error);
        }
    }
    first
}
