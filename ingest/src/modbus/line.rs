//! One line: one queue, one connection, one task.
//!
//! Devices are read one after another, since a gateway answers one request at a time. What a device fails to do costs
//! the others no more than its first missing answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meterlake_config::ModbusLine;
use meterlake_model::{MeterDirectory, ReadingBatch, Timestamp};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ask::{Asked, Pace, ask};
use super::backoff::Backoff;
use super::clock::Clock;
use super::connection::Connection;
use super::decode::Answered;
use super::device::{Change, Device};
use super::dial::Setting;
use super::prepare::{prepare, stranger};
use super::stats::{LineStats, count};
use super::turn::{Turn, Waiting, choose};
use crate::{Ack, Delivery, Directory, IngestError};

/// Rests between attempts to connect.
const FIRST_RECONNECT: Duration = Duration::from_millis(200);
const LONGEST_RECONNECT: Duration = Duration::from_secs(30);
/// The clock is looked at this often at least, in case it was set.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How long a full receiver may hold the line before the reading is given up.
const HAND_OVER: Duration = Duration::from_secs(30);

/// Polls the devices of a line until told to stop. Silent devices, exceptions and lost connections are counted in
/// `stats` and retried; they do not end it.
///
/// The line may change meanwhile, but for its name: the connection stays as long as it is reached in the same way, devices
/// that do not change keep their times, and what is being asked is not interrupted.
///
/// # Errors
/// When nobody takes the readings any more.
pub async fn poll_line(
    mut line: watch::Receiver<ModbusLine>,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<LineStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let (settings, setting) = watch::channel(Setting::of(&line.borrow_and_update()));
    let poller = Poller::new(setting, Clock::system(), directory, out, stats);
    let following = async {
        while line.changed().await.is_ok() {
            settings.send_replace(Setting::of(&line.borrow_and_update()));
        }
        // Nobody has another configuration for it.
        pending().await
    };
    let polling = async {
        tokio::select! {
            ended = poller.run() => ended,
            never = following => never,
        }
    };
    stop.run_until_cancelled(polling).await.unwrap_or(Ok(()))
}

pub(super) struct Poller {
    setting: watch::Receiver<Setting>,
    name: String,
    source: Arc<str>,
    timeout: Duration,
    pause: Duration,
    devices: Vec<Device>,
    connection: Connection,
    /// Connections made when silent devices were last tried for the sake of a new one.
    hoped_at: u64,
    /// Attempts to connect, and when the next one is due.
    reconnect: Backoff,
    reconnect_at: Option<Instant>,
    clock: Clock,
    directory: Directory,
    /// The registry as last looked at.
    registry: Arc<MeterDirectory>,
    out: mpsc::Sender<Delivery>,
    stats: Arc<LineStats>,
}

impl Poller {
    pub(super) fn new(
        mut setting: watch::Receiver<Setting>,
        clock: Clock,
        mut directory: Directory,
        out: mpsc::Sender<Delivery>,
        stats: Arc<LineStats>,
    ) -> Self {
        let Setting { line, way } = setting.borrow_and_update().clone();
        let connection = Connection::new(&line, way);
        let ModbusLine { name, timeout, pause, devices, .. } = line;
        let registry = Arc::clone(&directory.borrow_and_update());
        let now = clock.now();
        let poller = Self {
            setting,
            source: source_of(&name),
            name,
            timeout,
            pause,
            devices: devices.into_iter().map(|device| Device::new(device, &registry, now)).collect(),
            connection,
            hoped_at: 0,
            reconnect: Backoff::new(FIRST_RECONNECT, LONGEST_RECONNECT),
            reconnect_at: None,
            clock,
            directory,
            registry,
            out,
            stats,
        };
        poller.show_devices();
        poller
    }

    fn show_devices(&self) {
        self.stats.set_devices(self.devices.iter().map(|device| Arc::clone(&device.counters)).collect());
    }

    pub(super) async fn run(mut self) -> Result<(), IngestError> {
        loop {
            let now = self.clock.now();
            if self.setting.has_changed().unwrap_or(false) {
                self.adjust(now);
            }
            self.follow(now);
            if let Some(wait) = self.reconnect_at.map(|at| at.saturating_duration_since(Instant::now()))
                && !wait.is_zero()
            {
                self.rest(wait).await;
                // A device server that calls ends the wait.
                if self.connection.is_open() {
                    self.reconnect_at = None;
                }
                continue;
            }
            match choose(&self.waiting(now), self.timeout, self.connection.rest_after_failure()) {
                Turn::Read(at) => self.poll(at, self.timeout).await?,
                Turn::Try(at, within) => self.poll(at, within).await?,
                Turn::Rest(rest) => self.rest(rest).await,
            }
        }
    }

    async fn rest(&mut self, rest: Duration) {
        tokio::select! {
            () = self.connection.rest(rest.min(LONGEST_REST)) => {}
            // By another setting something may be due sooner.
            Ok(()) = self.setting.changed() => self.setting.mark_changed(),
        }
        self.note_connection();
    }

    /// Takes another setting. What that does not touch goes on: the connection, and the times of each device.
    fn adjust(&mut self, now: Timestamp) {
        let setting = self.setting.borrow_and_update().clone();
        if self.connection.follow(&setting) {
            self.reconnect.succeed();
            self.reconnect_at = None;
            // Whoever answers there may be another one, or not be silent.
            let instant = Instant::now();
            for device in &mut self.devices {
                device.preparation.forget();
                device.hope(instant);
            }
        }
        let ModbusLine { timeout, pause, devices, .. } = setting.line;
        (self.timeout, self.pause) = (timeout, pause);
        let mut before = std::mem::take(&mut self.devices);
        let devices = devices.into_iter().map(|config| {
            let known = before.iter().position(|device| device.meter_id == config.meter_id);
            match known.map(|at| before.swap_remove(at)) {
                Some(device) => device.adjusted(config, &self.registry, now),
                None => Device::new(config, &self.registry, now),
            }
        });
        self.devices = devices.collect();
        self.show_devices();
    }

    /// Follows the connection: devices may have been silent because a device server was gone unseen.
    fn note_connection(&mut self) {
        let made = self.connection.made();
        self.stats.connections.store(made, Ordering::Relaxed);
        self.stats.connected.store(self.connection.is_open(), Ordering::Relaxed);
        if self.connection.is_listened_to() && made != self.hoped_at {
            self.hoped_at = made;
            let now = Instant::now();
            self.devices.iter_mut().for_each(|device| device.hope(now));
        }
    }

    /// Follows registry and clock: slots that passed unread are missed.
    fn follow(&mut self, now: Timestamp) {
        if self.directory.has_changed().unwrap_or(false) {
            self.registry = Arc::clone(&self.directory.borrow_and_update());
            for device in &mut self.devices {
                device.follow_registry(&self.registry, now);
            }
        }
        for device in &mut self.devices {
            let first = device.due();
            let missed = device.follow(now);
            if missed > 0 {
                note_missed(&self.stats, device, missed);
                // A silence counts its own and tells them when it ends.
                if device.silence().is_none() {
                    tracing::warn!(line = self.name, unit = device.unit, meter = %device.meter_id, %first, missed,
                        "slots passed without a reading");
                }
            }
        }
    }

    fn waiting(&self, now: Timestamp) -> Vec<Waiting> {
        let instant = Instant::now();
        let ahead = |from: i64| Duration::from_micros(u64::try_from(from).unwrap_or(0));
        let waiting = self.devices.iter().map(|device| Waiting {
            due_in: ahead(device.due().micros_since(now)),
            overdue: ahead(now.micros_since(device.due())),
            silent: device.silence().map(|silence| {
                let overdue = instant.saturating_duration_since(silence.retry_at);
                (silence.retry_at.saturating_duration_since(instant), overdue)
            }),
        });
        waiting.collect()
    }

    /// Reads one device and hands over what it said.
    async fn poll(&mut self, at: usize, within: Duration) -> Result<(), IngestError> {
        let Some(device) = self.devices.get_mut(at) else { return Ok(()) };
        let counters = &*Arc::clone(&device.counters);
        let pace = Pace { within, pause: self.pause.max(device.profile.pause) };
        let asked = match prepare(&mut self.connection, device, pace, (&*self.stats, counters)).await {
            Ok(None) => ask(&mut self.connection, device, pace, &self.stats, counters).await,
            Ok(unfit) => Ok(Asked { blocks: Vec::new(), odd: Vec::new(), silent: unfit }),
            Err(failure) => Err(failure),
        };
        let (name, unit) = (self.name.as_str(), device.unit);
        let asked = match asked {
            Ok(asked) => asked,
            Err(failure) => {
                self.reconnect_at = Some(Instant::now() + self.reconnect.fail());
                // Whoever answers on a line that was away may be another one.
                self.devices.iter_mut().for_each(|device| device.preparation.forget());
                if self.reconnect.failures() == 1 {
                    tracing::warn!(line = name, error = %failure, "line cannot be connected");
                }
                self.note_connection();
                return Ok(());
            }
        };
        if self.reconnect.failures() > 0 {
            tracing::info!(line = name, attempts = self.reconnect.failures(), "line is connected again");
            self.reconnect.succeed();
        }
        self.reconnect_at = None;

        let answered_at = self.clock.now();
        let batch = interpret(device, &asked, answered_at, (&self.source, &self.registry, name));
        counters.backed_off.store(asked.silent.is_some(), Ordering::Relaxed);
        match asked.silent {
            Some(failure) => {
                if device.fail(Instant::now()) {
                    tracing::warn!(line = name, unit, meter = %device.meter_id, error = %failure, "device does not answer");
                }
            }
            None => {
                device.next_slot();
                let read = batch.reading_count() > 0;
                if read {
                    counters.last_success_s.store(answered_at.unix_seconds(), Ordering::Relaxed);
                    if !device.stamp(answered_at).1 {
                        count(&self.stats.late);
                    }
                } else {
                    note_missed(&self.stats, device, 1);
                }
                if let Some(silence) = device.answer() {
                    let slots_missed = silence.slots_missed + u64::from(!read);
                    tracing::info!(line = name, unit, meter = %device.meter_id, since = %silence.since, slots_missed,
                        "device answers again");
                }
            }
        }
        self.note_connection();
        self.hand_over(at, batch).await
    }

    /// Hands over, waiting for room if it must, but not for ever.
    async fn hand_over(&mut self, at: usize, batch: ReadingBatch) -> Result<(), IngestError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (readings, dead_letters) = (batch.reading_count(), batch.dead_letters.len());
        let room = match self.out.try_reserve() {
            Ok(room) => room,
            Err(TrySendError::Closed(())) => return Err(IngestError::ReceiverGone { source_name: self.name.clone() }),
            Err(TrySendError::Full(())) => {
                count(&self.stats.waits);
                match timeout(HAND_OVER, self.out.reserve()).await {
                    Ok(Ok(room)) => room,
                    Ok(Err(_)) => return Err(IngestError::ReceiverGone { source_name: self.name.clone() }),
                    Err(_) => {
                        count(&self.stats.dropped);
                        let meter = self.devices.get(at).map(|device| device.meter_id.as_str());
                        tracing::error!(line = self.name, meter, waited = ?HAND_OVER, readings, dead_letters,
                            "receiver is full, what a device said is given up");
                        return Ok(());
                    }
                }
            }
        };
        add(&self.stats.readings, readings);
        if let Some(device) = self.devices.get(at) {
            add(&device.counters.readings, readings);
        }
        add(&self.stats.dead_letters, dead_letters);
        room.send(Delivery { batch, ack: Ack::none() });
        Ok(())
    }
}

/// What the answers of one device say. An odd answer becomes a dead letter when it is the first of its kind; those that
/// follow are counted.
fn interpret(
    device: &mut Device,
    asked: &Asked,
    answered_at: Timestamp,
    (source, directory, line): (&Arc<str>, &MeterDirectory, &str),
) -> ReadingBatch {
    let mut begun = Vec::new();
    for (place, failure) in &asked.odd {
        if device.note_answer(*place, Some(failure)) == Change::Begins {
            tracing::warn!(line, unit = device.unit, meter = %device.meter_id, registers = %device.plan[*place],
                error = %failure, "device answers with other than it was asked for");
            begun.push((device.plan[*place], failure));
        }
    }
    for block in &asked.blocks {
        let place = device.plan.iter().position(|request| *request == block.request);
        if let Some(Change::Ends(kind)) = place.map(|place| device.note_answer(place, None)) {
            tracing::info!(line, unit = device.unit, meter = %device.meter_id, registers = %block.request,
                was = kind.as_str(), "device answers as asked again");
        }
    }
    let stranger = stranger(device, directory, line);
    let mut status = std::mem::take(&mut device.status);
    let answered = Answered {
        unit: device.unit,
        meter_id: &device.meter_id,
        profile: &device.profile,
        label: &device.label,
        source,
        directory,
        plate: &device.preparation.plate,
        stranger: stranger.as_deref(),
        ts: device.stamp(answered_at).0,
        received_at_s: answered_at.unix_seconds(),
    };
    let mut batch = ReadingBatch::default();
    answered.add_blocks(&asked.blocks, &mut status, &mut batch);
    for (request, failure) in begun {
        answered.add_answer(request, failure.to_string(), failure.answer.clone(), &mut batch);
    }
    device.status = status;
    batch
}

fn note_missed(stats: &LineStats, device: &Device, slots: u64) {
    stats.slots_missed.fetch_add(slots, Ordering::Relaxed);
    device.counters.slots_missed.fetch_add(slots, Ordering::Relaxed);
}

fn add(counter: &std::sync::atomic::AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The `source` of a line's rows.
pub(super) fn source_of(line: &str) -> Arc<str> {
    format!("modbus/{line}").into()
}

#[cfg(test)]
mod tests;
