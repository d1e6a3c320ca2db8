//! A persistent MQTT 5 session: messages in, deliveries out, acknowledgements back once they are durable.
//!
//! What each part is for:
//! - [`source`]: what speaks MQTT, behind a small seam; one value is one connection.
//! - `wire`: TCP and rumqttc's codec behind that seam.
//! - `session`: one connection from its first to its last packet; nothing else polls it.
//! - `ledger`: which messages wait for their acknowledgement, in order of receipt, by connection.
//! - `batch`: takes what waits, decodes it and hands it over.
//! - `supervise`: connects again, watches, and stops in order.
//!
//! Guarantees. A message of QoS 1 is acknowledged after [`Ack::durable`](crate::Ack::durable) and never before, in the
//! order in which it came, on the connection on which it came. Whatever a dead connection left behind is dropped: the
//! broker sends it again. Neither its buffered publishes nor its queued acknowledgements can reach the next connection,
//! where the same packet id may belong to another message.
//!
//! All that waits is bounded: messages by the receive maximum, their bytes by [`Limits::queue_bytes`], deliveries by the
//! channel of the receiver. Where the receiver is slow, the socket is read more slowly.

mod backoff;
mod batch;
mod ledger;
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

pub use stats::MqttStats;
pub use wire::WireSource;

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
        }
    }
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
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    collect_from::<WireSource>(broker, Limits::default(), directory, out, stats, stop).await
}

/// As [`collect`], with a source and limits of choice.
///
/// # Errors
/// As [`collect`].
pub async fn collect_from<S: source::MqttSource>(
    broker: MqttBroker,
    limits: Limits,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    supervise::run::<S>(broker, limits, directory, out, stats, stop).await
}
