//! Who brings readings: brokers and Modbus lines, each a task of its own that starts, stops and is exchanged as the
//! configuration says. What does not change is never touched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meterlake_config::{Config, ModbusLine, ModbusListener, MqttBroker};
use meterlake_ingest::modbus::{LineStats, ListenStats};
use meterlake_ingest::mqtt::MqttStats;
use meterlake_ingest::{Delivery, Directory, modbus, mqtt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::births::KeptBirths;
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

/// A source's counters.
#[derive(Clone)]
enum SourceStats {
    Broker(Arc<MqttStats>),
    Line(Arc<LineStats>),
    Listener(Arc<ListenStats>),
}

struct Running {
    config: SourceConfig,
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
    pub(crate) kept: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (word, names) in [("started", &self.started), ("stopped", &self.stopped), ("exchanged", &self.exchanged)] {
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
    /// The folder that keeps what Sparkplug's edge nodes said at their births.
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

    /// Starts, stops and exchanges what differs from what runs. Sources that go are stopped before others start, since
    /// two sessions of one name would throw each other out; messages meanwhile wait at the broker.
    pub(crate) async fn follow(&mut self, config: &Config) -> Changes {
        for caution in config.cautions() {
            tracing::warn!("{caution}");
        }
        let wanted = SourceConfig::all(config);
        let mut changes = Changes::default();
        let mut leaving = Vec::new();
        let mut keeps_counters = BTreeMap::new();
        let names: Vec<SourceName> = self.running.keys().cloned().collect();
        for name in names {
            if self.running.get(&name).is_some_and(|running| {
                running.task.is_some() && wanted.get(&name).is_some_and(|config| *config == running.config)
            }) {
                changes.kept += 1;
                continue;
            }
            let Some(running) = self.running.remove(&name) else { continue };
            let is_exchanged = wanted.contains_key(&name);
            let told = if is_exchanged { &mut changes.exchanged } else { &mut changes.stopped };
            told.push(name.to_string());
            running.stop.cancel();
            if is_exchanged {
                keeps_counters.insert(name.clone(), running.stats.clone());
            }
            leaving.push((name, running));
        }
        wait_for(leaving).await;
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
        let (stats, task) = match &config {
            SourceConfig::Broker(broker) => {
                let stats = match counters {
                    Some(SourceStats::Broker(stats)) => stats,
                    _ => Arc::default(),
                };
                let kept = KeptBirths::load(&self.journal, broker);
                let births = kept.shared();
                let work = mqtt::collect(broker.clone(), directory, births, out, Arc::clone(&stats), stop.clone());
                let work = kept.keep_during(work);
                let name = broker.name.clone();
                let task = tokio::spawn(async move { work.await.with_context(|| format!("broker {name}")) });
                (SourceStats::Broker(stats), task)
            }
            SourceConfig::Line(line) => {
                // Its counters are those of its devices: other devices, other counters.
                let stats = Arc::new(LineStats::new(line));
                let work = modbus::poll_line(line.clone(), directory, out, Arc::clone(&stats), stop.clone());
                let name = line.name.clone();
                let task = tokio::spawn(async move { work.await.with_context(|| format!("modbus line {name}")) });
                (SourceStats::Line(stats), task)
            }
            SourceConfig::Listener(listener) => {
                let stats = Arc::new(ListenStats::new(listener));
                let work = modbus::listen(listener.clone(), directory, out, Arc::clone(&stats), stop.clone());
                let name = listener.name.clone();
                let task = tokio::spawn(async move { work.await.with_context(|| format!("modbus listener {name}")) });
                (SourceStats::Listener(stats), task)
            }
        };
        Running { config, stats, stop, task: Some(task) }
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
