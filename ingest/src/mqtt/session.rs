//! One connection from its first to its last packet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meterlake_config::MqttBroker;
use meterlake_model::{RawMessage, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Limits;
use super::ledger::Ledger;
use super::source::{Message, MqttSender, MqttSource, Session, SourceError, SourceEvent};
use super::stats::MqttStats;
use crate::IngestError;

/// What all parts of one collector share.
pub(super) struct Shared<S: MqttSource> {
    pub(super) broker: MqttBroker,
    pub(super) limits: Limits,
    pub(super) source: Arc<str>,
    pub(super) ledger: Arc<Ledger<S::Sender>>,
    pub(super) stats: Arc<MqttStats>,
    /// No new message is taken.
    pub(super) draining: CancellationToken,
    pub(super) queue: mpsc::Sender<Queued>,
    pub(super) queue_bytes: Arc<Semaphore>,
    health: Mutex<Health>,
    had_session: AtomicBool,
    /// The connection is not read, since too much waits already.
    held_up: AtomicBool,
}

/// A message that waits to be decoded.
pub(super) struct Queued {
    pub(super) epoch: u64,
    /// Its number in the ledger; `None` at QoS 0.
    pub(super) number: Option<u64>,
    pub(super) message: RawMessage,
    /// Its true size, where that is more than was kept.
    pub(super) cut_from: Option<usize>,
    pub(super) retained: bool,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// Signs of life of the connection.
struct Health {
    begun: Instant,
    last_event: Instant,
    /// Of the connection, once there is one.
    keep_alive: Option<Duration>,
    subscribed: bool,
}

/// How a connection ended.
pub(super) enum End {
    /// Another may do better.
    Lost(String),
    /// The broker turned it down for a reason that waiting does not mend.
    Refused(String),
    /// No other can do better.
    Fatal(IngestError),
}

impl<S: MqttSource> Shared<S> {
    pub(super) fn new(broker: MqttBroker, limits: Limits, stats: Arc<MqttStats>, queue: mpsc::Sender<Queued>) -> Self {
        let now = Instant::now();
        Self {
            source: broker.name.as_str().into(),
            ledger: Arc::new(Ledger::new(Arc::clone(&stats))),
            queue_bytes: Arc::new(Semaphore::new(limits.queue_bytes as usize)),
            health: Mutex::new(Health { begun: now, last_event: now, keep_alive: None, subscribed: false }),
            had_session: AtomicBool::new(false),
            held_up: AtomicBool::new(false),
            draining: CancellationToken::new(),
            broker,
            limits,
            stats,
            queue,
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch a connection that is about to be made.
    pub(super) fn begin(&self) {
        let now = Instant::now();
        *self.health() = Health { begun: now, last_event: now, keep_alive: None, subscribed: false };
        self.held_up.store(false, Ordering::Relaxed);
    }

    /// Ends what the connection had: nothing of it is acknowledged any more.
    pub(super) fn end(&self) {
        self.ledger.close();
        self.stats.connected.store(false, Ordering::Relaxed);
    }

    /// Why the connection must be dropped, if it must.
    pub(super) fn overdue(&self) -> Option<String> {
        let oldest = self.ledger.oldest().unwrap_or_default();
        MqttStats::set(&self.stats.oldest_unacknowledged_ms, usize::try_from(oldest.as_millis()).unwrap_or(usize::MAX));
        if oldest > self.limits.oldest_unacknowledged {
            return Some(format!("the oldest message has waited {} s for its acknowledgement", oldest.as_secs()));
        }
        if self.held_up.load(Ordering::Relaxed) {
            // What the broker has to say waits unread.
            return None;
        }
        let health = self.health();
        if !health.subscribed && health.begun.elapsed() > self.limits.connect {
            return Some(format!("no subscription after {} s", health.begun.elapsed().as_secs()));
        }
        // A keep-alive of zero switches it off.
        let keep_alive = health.keep_alive.filter(|keep_alive| !keep_alive.is_zero())?;
        let silence = health.last_event.elapsed();
        (silence > 2 * keep_alive).then(|| format!("the broker was silent for {} s", silence.as_secs()))
    }
}

/// Connects, subscribes and receives until the connection ends. Only here is the source polled.
pub(super) async fn run<S: MqttSource>(shared: Arc<Shared<S>>) -> End {
    match receive(&shared).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn receive<S: MqttSource>(shared: &Shared<S>) -> Result<std::convert::Infallible, End> {
    let (mut source, sender, session) = S::connect(&shared.broker).await.map_err(|error| match error {
        SourceError::Lost(reason) => End::Lost(reason),
        SourceError::Refused(reason) => End::Refused(reason),
    })?;
    let epoch = shared.ledger.open(sender.clone());
    shared.greet(session);
    sender.subscribe(&shared.broker.topics).await.map_err(lost)?;
    loop {
        let event = source.next().await.map_err(lost)?;
        shared.health().last_event = Instant::now();
        match event {
            SourceEvent::Message(message) => shared.take(epoch, message).await,
            SourceEvent::Subscribed(answers) => shared.subscribed(&answers).map_err(End::Fatal)?,
            SourceEvent::Published(Ok(())) | SourceEvent::Alive => {}
            SourceEvent::Published(Err(reason)) => {
                warn!(broker = shared.broker.name, reason, "the broker refused a message of ours");
            }
        }
    }
}

fn lost(error: SourceError) -> End {
    End::Lost(error.to_string())
}

impl<S: MqttSource> Shared<S> {
    fn greet(&self, session: Session) {
        let broker = &self.broker.name;
        {
            let mut health = self.health();
            health.keep_alive = Some(session.keep_alive);
            health.last_event = Instant::now();
        }
        let again = self.had_session.swap(true, Ordering::Relaxed);
        if again {
            MqttStats::add(&self.stats.reconnects, 1);
        }
        match (session.present, again) {
            (true, _) => info!(broker, "connected; the broker kept the session"),
            (false, false) => info!(broker, "connected; the broker began a session"),
            (false, true) => {
                MqttStats::add(&self.stats.sessions_lost, 1);
                warn!(broker, "the broker lost our session and whatever it held for us: look for gaps");
            }
        }
        if let Some(expiry) = session.expiry.filter(|expiry| *expiry < self.broker.session_expiry) {
            warn!(broker, granted_s = expiry.as_secs(), "the broker holds the session for less than was asked");
        }
    }

    fn subscribed(&self, answers: &[Result<u8, String>]) -> Result<(), IngestError> {
        let broker = || self.broker.name.clone();
        let topics = &self.broker.topics;
        for (at, topic) in topics.iter().enumerate() {
            let topic = topic.clone();
            match answers.get(at) {
                Some(Ok(1..)) => {}
                Some(Ok(granted)) => return Err(IngestError::LowerQos { broker: broker(), topic, granted: *granted }),
                Some(Err(reason)) => {
                    let reason = reason.clone();
                    return Err(IngestError::SubscriptionRefused { broker: broker(), topic, reason });
                }
                None => {
                    let reason = "no answer".to_owned();
                    return Err(IngestError::SubscriptionRefused { broker: broker(), topic, reason });
                }
            }
        }
        self.health().subscribed = true;
        self.stats.connected.store(true, Ordering::Relaxed);
        debug!(broker = self.broker.name, topics = topics.len(), "subscribed");
        Ok(())
    }

    /// Enters a message and queues it for decoding. Waits where too much waits already, and so does the socket.
    async fn take(&self, epoch: u64, message: Message) {
        if self.draining.is_cancelled() {
            return;
        }
        let received_at_s = Timestamp::now().unix_seconds();
        let size = message.payload.len();
        MqttStats::add(&self.stats.messages, 1);
        MqttStats::add(&self.stats.bytes, size);
        let kept = size.min(self.broker.max_packet_bytes as usize);
        let number = message.packet.map(|packet| self.ledger.received(packet));
        let payload = message.payload[..kept].to_vec();
        let topic = String::from_utf8_lossy(&message.topic).as_ref().into();
        drop(message.payload);
        self.held_up.store(true, Ordering::Relaxed);
        let room = u32::try_from(kept).unwrap_or(u32::MAX).min(self.limits.queue_bytes);
        let room = Arc::clone(&self.queue_bytes).acquire_many_owned(room).await.ok();
        let queued = Queued {
            epoch,
            number,
            message: RawMessage { source: Arc::clone(&self.source), topic, payload, received_at_s },
            cut_from: (kept < size).then_some(size),
            retained: message.retained,
            _room: room,
        };
        // Nobody decodes any more only while the collector stops; then the message comes again.
        let _ = self.queue.send(queued).await;
        self.health().last_event = Instant::now();
        self.held_up.store(false, Ordering::Relaxed);
    }
}
