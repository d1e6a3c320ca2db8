//! One connection from its first to its last packet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meterlake_config::MqttBroker;
use meterlake_model::{RawMessage, Timestamp};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Limits;
use super::broker_word::{self, BrokerWord};
use super::filters::{FilterStore, Filters};
use super::ledger::Ledger;
use super::receipts::Receipts;
use super::source::{Message, MqttSender, MqttSource, Session, SourceError, SourceEvent, Subject};
use super::stats::MqttStats;
use crate::IngestError;
use crate::decode::Rebirth;

/// Of a payload that is too large to be read, so much is kept.
const KEPT_BYTES: usize = 4 << 20;
/// How long we were away before this process began is not known.
const AWAY_AT_FIRST: Duration = Duration::from_secs(3600);

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
    /// Where gateways are told what is durable.
    pub(super) receipts: Option<Arc<Receipts>>,
    pub(super) requests: mpsc::Sender<Rebirth>,
    pub(super) word: BrokerWord,
    /// What the session holds at the broker.
    filters: Filters,
    /// What piled up at the broker before the connection, as time.
    backlog: Mutex<Backlog>,
    health: Mutex<Health>,
    had_session: AtomicBool,
    /// The connection is not read, since too much waits already.
    held_up: AtomicBool,
}

/// The time before a connection in which messages piled up for us.
#[derive(Clone, Copy)]
struct Backlog {
    epoch: u64,
    away: Duration,
    /// When the connection before it ended.
    ended: Option<Instant>,
}

/// A message that waits to be decoded.
pub(super) struct Queued {
    pub(super) epoch: u64,
    /// Its number in the ledger; `None` at QoS 0.
    pub(super) number: Option<u64>,
    pub(super) message: RawMessage,
    /// The true size of its payload, of which less may have been kept.
    pub(super) size: usize,
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
    /// The broker closed it without a word.
    Closed,
    /// Another client took the session.
    TakenOver,
    /// The broker turned it down for a reason that waiting does not mend.
    Refused(String),
    /// No other can do better.
    Fatal(IngestError),
}

impl<S: MqttSource> Shared<S> {
    pub(super) fn new(
        broker: MqttBroker,
        limits: Limits,
        filters: Option<Arc<dyn FilterStore>>,
        stats: Arc<MqttStats>,
        queue: mpsc::Sender<Queued>,
        requests: mpsc::Sender<Rebirth>,
    ) -> Self {
        let now = Instant::now();
        let receipts = broker.receipts.clone().map(|topic| Arc::new(Receipts::new(topic, Arc::clone(&stats))));
        Self {
            receipts,
            requests,
            word: BrokerWord::new(broker.name.clone(), broker.broker_stats, Arc::clone(&stats)),
            filters: Filters::new(&broker, filters, Arc::clone(&stats)),
            backlog: Mutex::new(Backlog { epoch: 0, away: Duration::ZERO, ended: None }),
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

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long messages piled up before a connection.
    pub(super) fn away_before(&self, epoch: u64) -> Duration {
        let backlog = *self.backlog();
        if backlog.epoch == epoch { backlog.away } else { Duration::ZERO }
    }

    /// Whether the subscription was granted.
    pub(super) fn is_subscribed(&self) -> bool {
        self.health().subscribed
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
        self.word.ended();
        self.filters.ended();
        self.backlog().ended = Some(Instant::now());
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
    let (mut source, sender, session) = S::connect(&shared.broker).await.map_err(End::from)?;
    let epoch = shared.ledger.open(sender.clone());
    shared.greet(epoch, session);
    shared.filters.about_to_subscribe(session.present).await;
    sender.subscribe(Subject::Readings, &shared.broker.topics).await.map_err(End::from)?;
    loop {
        let event = source.next().await.map_err(End::from)?;
        shared.health().last_event = Instant::now();
        match event {
            SourceEvent::Message(message) if shared.word.is(&message) => shared.take_word(epoch, &message),
            SourceEvent::Message(message) => shared.take(epoch, message).await,
            SourceEvent::Subscribed(Subject::Readings, answers) => {
                shared.subscribed(&answers).map_err(End::Fatal)?;
                // Only now, so that nothing falls between an old filter and a new one.
                let to_forget = shared.filters.to_forget();
                if !to_forget.is_empty() {
                    sender.unsubscribe(&to_forget).await.map_err(End::from)?;
                }
                if shared.word.asks() {
                    let topic = [broker_word::DROPPED.to_owned()];
                    sender.subscribe(Subject::BrokerStats, &topic).await.map_err(End::from)?;
                }
            }
            SourceEvent::Unsubscribed(answers) => shared.filters.forgotten(answers).await,
            SourceEvent::Subscribed(Subject::BrokerStats, answers) => shared.word.answered(&answers),
            SourceEvent::Published(Ok(())) | SourceEvent::Alive => {}
            SourceEvent::Published(Err(reason)) => {
                MqttStats::add(&shared.stats.publishes_refused, 1);
                debug!(broker = shared.broker.name, reason, "the broker refused a message of ours");
            }
        }
    }
}

impl From<SourceError> for End {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Lost(reason) => Self::Lost(reason),
            SourceError::Closed => Self::Closed,
            SourceError::TakenOver => Self::TakenOver,
            SourceError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl<S: MqttSource> Shared<S> {
    fn greet(&self, epoch: u64, session: Session) {
        let broker = &self.broker.name;
        {
            let mut health = self.health();
            health.keep_alive = Some(session.keep_alive);
            health.last_event = Instant::now();
        }
        {
            let mut backlog = self.backlog();
            let away = backlog.ended.map_or(AWAY_AT_FIRST, |ended| ended.elapsed());
            *backlog = Backlog { epoch, away: if session.present { away } else { Duration::ZERO }, ..*backlog };
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

    /// Takes the broker's own word, which may come at QoS 1 where the topics cover it.
    fn take_word(&self, epoch: u64, message: &Message) {
        self.word.take(message);
        if let Some(packet) = message.packet {
            let number = self.ledger.received(packet);
            self.ledger.hand_over(epoch, number..number + 1).durable();
        }
    }

    /// Enters a message and queues it for decoding. Waits where too much waits already, and so does the socket.
    async fn take(&self, epoch: u64, message: Message) {
        if self.draining.is_cancelled() {
            return;
        }
        let received_at_s = Timestamp::now().unix_seconds();
        let size = message.size;
        MqttStats::add(&self.stats.messages, 1);
        MqttStats::add(&self.stats.bytes, size);
        if message.retained {
            MqttStats::add(&self.stats.retained, 1);
        } else {
            self.stats.last_message_at_s.store(received_at_s.try_into().unwrap_or_default(), Ordering::Relaxed);
        }
        let kept = message.payload.len().min(KEPT_BYTES);
        let number = message.packet.map(|packet| self.ledger.received(packet));
        let payload = message.payload[..kept].to_vec();
        let topic = String::from_utf8_lossy(&message.topic).as_ref().into();
        drop(message.payload);
        let mut queued = Queued {
            epoch,
            number,
            message: RawMessage { source: Arc::clone(&self.source), topic, payload, received_at_s },
            size,
            retained: message.retained,
            _room: None,
        };
        let room = u32::try_from(kept).unwrap_or(u32::MAX).min(self.limits.queue_bytes);
        if let Ok(room) = Arc::clone(&self.queue_bytes).try_acquire_many_owned(room) {
            queued._room = Some(room);
            match self.queue.try_send(queued) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(back)) => queued = back,
            }
        }
        let since = Instant::now();
        self.held_up.store(true, Ordering::Relaxed);
        if queued._room.is_none() {
            queued._room = Arc::clone(&self.queue_bytes).acquire_many_owned(room).await.ok();
        }
        // Nobody decodes any more only while the collector stops; then the message comes again.
        let _ = self.queue.send(queued).await;
        MqttStats::add(&self.stats.held_up_ms, usize::try_from(since.elapsed().as_millis()).unwrap_or(usize::MAX));
        self.health().last_event = Instant::now();
        self.held_up.store(false, Ordering::Relaxed);
    }
}
