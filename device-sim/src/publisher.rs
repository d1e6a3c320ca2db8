//! Publishes messages at QoS 1 and forgets none before the broker has acknowledged it: through reconnects, lost
//! sessions and cut networks.
//!
//! The client library drops what was in flight when the broker no longer knows the session, and still yields events of a
//! dead connection after a reconnect. So every message stays in an outbox of ours until its PUBACK; after any failure
//! all that the library holds is thrown away and the outbox is sent again, oldest first, in a clean session. A message
//! may come twice by that, as QoS 1 allows; none is lost.

mod connection;
mod outbox;
mod pace;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use pace::{Ahead, Pace, Unpaced};

use crate::error::SimError;
use crate::ledger::Ledger;
use crate::message::Message;
use connection::Connection;
use outbox::{Entry, Outbox};

/// Most that a limited rate makes up for after it was held back.
const CATCH_UP: Duration = Duration::from_secs(1);
/// The ledger is made durable this often.
const LEDGER_SYNC: Duration = Duration::from_secs(1);
/// How long the farewell to the broker may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where to and how fast.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// Host of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Client id; two publishers of one id drive each other out.
    pub client_id: String,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Messages that may wait for their PUBACK, 1 to 65,535. The broker may allow fewer.
    pub window: u16,
    /// Messages a second; `None`: as fast as the broker takes them.
    pub rate: Option<f64>,
    /// Time without any packet after which the broker is asked whether it lives; a dead connection is noticed after
    /// twice this. At least 5 s.
    pub keep_alive: Duration,
}

impl PublisherOptions {
    /// For a broker at this address: a window of 100, no limit of rate, keep alive 5 s.
    pub fn new(host: &str, port: u16, client_id: &str) -> Self {
        Self {
            host: host.to_owned(),
            port,
            client_id: client_id.to_owned(),
            credentials: None,
            window: 100,
            rate: None,
            keep_alive: Duration::from_secs(5),
        }
    }

    fn check(&self) -> Result<(), SimError> {
        let Self { window, rate, keep_alive, .. } = self;
        if *window == 0 {
            return Err(SimError::Plan("a window of 0 messages sends nothing".to_owned()));
        }
        if rate.is_some_and(|r| !(r.is_finite() && r > 0.0)) {
            return Err(SimError::Plan(format!("{} messages a second is no rate", rate.unwrap_or_default())));
        }
        if keep_alive.as_secs() < 5 {
            return Err(SimError::Plan(format!("a keep alive of {keep_alive:?} is below 5 s")));
        }
        Ok(())
    }
}

/// Counts of a running publisher, to be read and awaited by others.
#[derive(Debug, Default)]
pub struct PublishStats(watch::Sender<Progress>);

/// Counts of a publisher at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages taken from the source.
    pub messages: u64,
    /// Readings in them that a collector should read.
    pub readings: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that the broker acknowledged.
    pub acknowledged: u64,
    /// Messages that were sent once more after a broken connection.
    pub again: u64,
    /// Of the acknowledged, messages that the broker dropped because nobody subscribes to them, where it says so.
    pub unheard: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

impl PublishStats {
    /// The counts now.
    pub fn progress(&self) -> Progress {
        *self.0.borrow()
    }

    /// To await a count.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        self.0.send_modify(change);
    }
}

/// A publisher's parts beside its source.
#[derive(Debug)]
pub struct Publisher<P = Unpaced> {
    /// Where to and how fast.
    pub options: PublisherOptions,
    /// Holds the next message back.
    pub pace: P,
    /// Written while publishing, if any.
    pub ledger: Option<Ledger>,
    /// Counts for others to read.
    pub stats: Arc<PublishStats>,
    /// Ends publishing; what is unacknowledged then stays so.
    pub stop: CancellationToken,
}

impl Publisher {
    /// Without pace, ledger or outer stop.
    pub fn new(options: PublisherOptions) -> Self {
        Self { options, pace: Unpaced, ledger: None, stats: Arc::default(), stop: CancellationToken::new() }
    }
}

impl<P> Publisher<P> {
    /// The same, held back by `pace`.
    pub fn paced<Q: Pace>(self, pace: Q) -> Publisher<Q> {
        let Self { options, pace: _, ledger, stats, stop } = self;
        Publisher { options, pace, ledger, stats, stop }
    }
}

impl<P: Pace> Publisher<P> {
    /// Publishes all messages and returns when the broker has acknowledged each, or when told to stop.
    ///
    /// # Errors
    /// When the broker refuses the client or a message for good, or the ledger cannot be written. A broker that is not
    /// there, or goes away, is waited for.
    pub async fn publish(self, messages: impl Stream<Item = Message>) -> Result<Progress, SimError> {
        self.try_publish(messages.map(Ok)).await
    }

    /// As [`Self::publish`], from a source that may fail, such as a recorded file: what came before the failure is
    /// acknowledged first.
    ///
    /// # Errors
    /// As [`Self::publish`], and the source's own.
    pub async fn try_publish(
        mut self,
        messages: impl Stream<Item = Result<Message, SimError>>,
    ) -> Result<Progress, SimError> {
        self.options.check()?;
        let changed = Arc::new(Notify::new());
        let outbox = Arc::new(Outbox::new(usize::from(self.options.window), Arc::clone(&changed)));
        let connection = Connection::open(&self.options, Arc::clone(&outbox), Arc::clone(&self.stats));
        let run = self.run(messages, &outbox, &connection, &changed).await;
        self.record(&outbox)?;
        if let Some(ledger) = &self.ledger {
            ledger.sync()?;
        }
        run?;
        connection.close(FAREWELL).await;
        Ok(self.stats.progress())
    }

    async fn run(
        &mut self,
        messages: impl Stream<Item = Result<Message, SimError>>,
        outbox: &Outbox,
        connection: &Connection,
        changed: &Notify,
    ) -> Result<(), SimError> {
        let mut messages = pin!(messages);
        let mut rate = Rate::new(self.options.rate);
        let mut synced = Instant::now();
        let stop = self.stop.clone();
        let mut ended = None;
        loop {
            self.record(outbox)?;
            if let (Some(ledger), true) = (&self.ledger, synced.elapsed() >= LEDGER_SYNC) {
                ledger.sync()?;
                synced = Instant::now();
            }
            if let Some(fatal) = outbox.fatal() {
                return Err(fatal);
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            outbox.hand_over(|entry| connection.send(entry));
            if outbox.is_empty()
                && let Some(end) = ended.take()
            {
                return end;
            }
            if ended.is_some() || !outbox.has_room() {
                tokio::select! {
                    () = changed.notified() => {}
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(LEDGER_SYNC) => {}
                }
                continue;
            }
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => continue,
                next = messages.next() => next,
                // A reconnect while the source is silent: what was in flight goes out again at once.
                () = changed.notified() => continue,
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(failure)) => {
                    ended = Some(Err(failure));
                    continue;
                }
                None => {
                    ended = Some(Ok(()));
                    continue;
                }
            };
            tokio::select! {
                () = stop.cancelled() => continue,
                () = async {
                    self.pace.ready(self.stats.progress()).await;
                    rate.ready().await;
                } => {}
            }
            let ledger_number = self.ledger.as_mut().map(|ledger| ledger.sent(&message)).transpose()?;
            self.stats.note(|p| {
                p.messages += 1;
                p.readings += message.readings() as u64;
                p.bytes += message.payload.len() as u64;
            });
            outbox.push(Entry { topic: message.topic, payload: message.payload, ledger_number });
        }
    }

    /// Writes what was acknowledged since the last call.
    fn record(&mut self, outbox: &Outbox) -> Result<(), SimError> {
        let numbers = outbox.take_acknowledged();
        match &mut self.ledger {
            Some(ledger) if !numbers.is_empty() => ledger.acknowledged(&numbers),
            _ => Ok(()),
        }
    }
}

/// Spaces messages evenly; what was held back is made up for by at most a second's worth.
struct Rate {
    every: Option<Duration>,
    due: Instant,
}

impl Rate {
    fn new(rate: Option<f64>) -> Self {
        Self { every: rate.map(|r| Duration::from_secs_f64(1.0 / r)), due: Instant::now() }
    }

    async fn ready(&mut self) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if self.due > now {
            tokio::time::sleep_until(self.due).await;
        } else if now - self.due > CATCH_UP {
            self.due = now - CATCH_UP;
        }
        self.due += every;
    }
}

#[cfg(test)]
mod tests;
