//! A persistent MQTT session: messages in, deliveries out, acknowledgements back once they are durable.
//!
//! What each part is for:
//! - [`source`]: what speaks MQTT, behind a small seam; one value is one connection.
//! - `wire`: MQTT 5 and 3.1.1 over TCP and TLS, with rumqttc's codec, behind that seam.
//! - `session`: one connection from its first to its last packet; nothing else polls it.
//! - `filters`: what the session holds at the broker, and what of it is to be taken back.
//! - `ledger`: which messages wait for their acknowledgement, in order of receipt, by connection.
//! - `batch`: takes what waits, decodes it and hands it over.
//! - `rate`: what one device may send.
//! - `receipts`, `outbox`: what gateways are told of what is durable, and whatever else we say.
//! - `broker_word`: what the broker says of messages that it dropped.
//! - `supervise`: connects again, watches, yields to another collector, and stops in order.
//!
//! Guarantees. A message of QoS 1 is acknowledged after [`Ack::durable`](crate::Ack::durable) and never before, in the
//! order in which it came, on the connection on which it came. Whatever a dead connection left behind is dropped: the
//! broker sends it again. Neither its buffered publishes nor its queued acknowledgements can reach the next connection,
//! where the same packet id may belong to another message.
//!
//! A session may pass to another collector with the same client id, whether the first is gone or not: the broker hands the
//! newcomer every message that was not acknowledged, and tells the first (MQTT 5), which then leaves it the session.
//!
//! All that waits is bounded: messages by the receive maximum, their bytes by [`Limits::queue_bytes`], deliveries by the
//! channel of the receiver. Where the receiver is slow, the socket is read more slowly.

mod backoff;
mod batch;
mod broker_word;
mod filters;
mod ledger;
mod outbox;
mod rate;
mod receipts;
mod session;
pub mod source;
mod stats;
mod supervise;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use meterlake_config::MqttBroker;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use filters::FilterStore;
pub use stats::{ByReason, Latency, MqttStats};
pub use wire::WireSource;

use crate::decode::SharedBirths;
use crate::{Delivery, Directory, IngestError};

/// Bounds of one collector. The defaults suit a broker in the same region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When the oldest message waits longer for its acknowledgement, the connection is dropped, so that the broker sends
    /// again what was lost inside it.
    pub oldest_unacknowledged: Duration,
    /// From the first byte to the answer to the subscription.
    pub connect: Duration,
    /// How long a stop waits for messages that were already received.
    pub drain: Duration,
    /// Payload bytes that wait to be decoded.
    pub queue_bytes: u32,
    /// Messages of one delivery.
    pub delivery_messages: usize,
    /// Payload bytes of one delivery; a larger message goes alone.
    pub delivery_bytes: usize,
    /// Between two receipts to one gateway.
    pub receipt_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            oldest_unacknowledged: Duration::from_secs(60),
            connect: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            queue_bytes: 16 << 20,
            delivery_messages: 1024,
            delivery_bytes: 1 << 20,
            receipt_every: Duration::from_secs(1),
        }
    }
}

/// What is known of a broker beyond the life of one collector. By default nothing is, and nothing is kept.
#[derive(Clone, Default)]
pub struct Memory {
    /// What its Sparkplug edge nodes said at their births.
    pub births: SharedBirths,
    /// Which topic filters the session may hold: those that nobody wants any more are taken back.
    pub filters: Option<Arc<dyn FilterStore>>,
}

/// Whether a broker's certificates and key can be used, beyond that they could be read.
///
/// # Errors
/// What is wrong with them.
pub fn check(broker: &MqttBroker) -> Result<(), String> {
    wire::check(broker)
}

/// Collects from one broker until `stop` is cancelled. Lost connections are made again; `stats` tells how it goes.
///
/// After the stop it takes no new message, waits a while for those it has received, and disconnects; the session stays.
///
/// # Errors
/// When the broker refuses a subscription or grants less than QoS 1, when it refuses the very first connection for a
/// reason that waiting does not mend, or when the receiver of `out` is gone.
pub async fn collect(
    broker: MqttBroker,
    directory: Directory,
    memory: Memory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    collect_from::<WireSource>(broker, Limits::default(), directory, memory, out, stats, stop).await
}

/// As [`collect`], with a source and limits of choice.
///
/// # Errors
/// As [`collect`].
pub async fn collect_from<S: source::MqttSource>(
    broker: MqttBroker,
    limits: Limits,
    directory: Directory,
    memory: Memory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    supervise::run::<S>(broker, limits, directory, memory, out, stats, stop).await
}
