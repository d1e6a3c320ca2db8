//! The connection to the broker: one task polls the client library and tells the outbox what became of each message.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::task::JoinHandle;

use super::outbox::{Entry, Outbox};
use super::{PublishStats, PublisherOptions};
use crate::error::SimError;

/// Pause before the first new attempt, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Seconds within which a connection must stand.
const CONNECT_S: u64 = 5;

/// A connection that comes back by itself. Ends when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    client: AsyncClient,
    task: Option<JoinHandle<()>>,
}

impl Connection {
    pub(super) fn open(options: &PublisherOptions, outbox: Arc<Outbox>, stats: Arc<PublishStats>) -> Self {
        let mut mqtt = MqttOptions::new(options.client_id.as_str(), options.host.as_str(), options.port);
        mqtt.set_keep_alive(options.keep_alive)
            // The outbox sends again what is unacknowledged: the broker need not remember us.
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_S)
            .set_outgoing_inflight_upper_limit(options.window);
        let mut network = mqtt.network_options();
        network.set_tcp_nodelay(true);
        mqtt.set_network_options(network);
        if let Some((user, password)) = &options.credentials {
            mqtt.set_credentials(user.as_str(), password.as_str());
        }
        // Room for the whole window and the farewell: handing over never waits.
        let (client, events) = AsyncClient::new(mqtt, usize::from(options.window) + 1);
        let task = tokio::spawn(poll(events, options.clone(), outbox, stats));
        Self { client, task: Some(task) }
    }

    /// Hands a message to the library; `false` when it has no room for it.
    pub(super) fn send(&self, entry: &Entry) -> bool {
        self.client.try_publish(&*entry.topic, QoS::AtLeastOnce, false, entry.payload.clone()).is_ok()
    }

    /// Takes leave of the broker.
    pub(super) async fn close(mut self, within: Duration) {
        if self.client.try_disconnect().is_ok()
            && let Some(task) = &mut self.task
        {
            // A broker that does not answer is left without farewell.
            let _ = tokio::time::timeout(within, task).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Polls until the farewell is sent or the broker refuses for good.
async fn poll(mut events: EventLoop, options: PublisherOptions, outbox: Arc<Outbox>, stats: Arc<PublishStats>) {
    let address = format!("{}:{}", options.host, options.port);
    // Something happens at least every keep alive, be it a ping. Longer silence means a write that the peer never takes;
    // giving up on it is safe, since the connection is thrown away whole.
    let silence = options.keep_alive * 2 + Duration::from_secs(CONNECT_S);
    let mut pause = BACK_OFF.0;
    let mut before = false;
    loop {
        let event = tokio::time::timeout(silence, events.poll()).await;
        match event.unwrap_or_else(|elapsed| Err(ConnectionError::Timeout(elapsed))) {
            Ok(Event::Outgoing(Outgoing::Publish(id))) => outbox.numbered(id),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                pause = BACK_OFF.0;
                outbox.connected();
                stats.note(|p| p.reconnects += u64::from(before));
                before = true;
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                    let heard = ack.reason == PubAckReason::Success;
                    if outbox.acknowledged(ack.pkid, heard) {
                        stats.note(|p| {
                            p.acknowledged += 1;
                            p.unheard += u64::from(!heard);
                        });
                    }
                }
                reason => {
                    return outbox.fail(refused(&address, "a message", format!("{reason:?}")));
                }
            },
            Ok(_) => {}
            Err(error) => {
                let again = outbox.broken(|| forget(&mut events));
                stats.note(|p| p.again += again);
                if let Some(refusal) = for_good(&address, &error) {
                    return outbox.fail(refusal);
                }
                tracing::debug!(broker = address, %error, again, "connection broke");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Throws away all that the library remembers of the dead connection: late events, messages in flight and waiting, and
/// a collision, which it would otherwise wait for ever to be resolved.
fn forget(events: &mut EventLoop) {
    events.clean();
    events.pending.clear();
    events.state.events.clear();
    events.state.collision = None;
}

/// What no further attempt mends.
fn for_good(address: &str, error: &ConnectionError) -> Option<SimError> {
    use ConnectReturnCode as Code;
    match error {
        ConnectionError::ConnectionRefused(
            code @ (Code::BadClientId
            | Code::ClientIdentifierNotValid
            | Code::BadUserNamePassword
            | Code::NotAuthorized
            | Code::Banned
            | Code::BadAuthenticationMethod
            | Code::RefusedProtocolVersion
            | Code::UnsupportedProtocolVersion
            | Code::QoSNotSupported),
        ) => Some(refused(address, "the client", format!("{code:?}"))),
        ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { pkt_size, max }) => {
            Some(refused(address, "a message", format!("it has {pkt_size} bytes, at most {max} are allowed")))
        }
        _ => None,
    }
}

fn refused(address: &str, what: &'static str, reason: String) -> SimError {
    SimError::Refused { address: address.to_owned(), what, reason }
}
