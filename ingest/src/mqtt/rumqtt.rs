//! rumqttc behind the seam: one event loop a connection.
//!
//! The event loop of rumqttc keeps, over a reconnect, the publishes that it had read and the acknowledgements that it
//! had queued, and sends the latter on the new connection. So it is given no second connection: [`MqttSource::connect`]
//! makes an event loop and whatever ends the connection drops it, with all that it holds.

use std::time::Duration;

use meterlake_config::MqttBroker;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, Filter, Packet as Wire, Publish, RetainForwardRule,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions};

use super::source::{Message, MqttSender, MqttSource, Packet, Session, SourceError, SourceEvent};

/// Requests that wait inside the library. Acknowledgements wait in the ledger instead.
const REQUESTS: usize = 64;
/// The largest packet of MQTT. A smaller limit would make a broker drop larger messages as if they had been sent, so it
/// is not announced; what is too large for us becomes a dead letter.
const MAX_PACKET: u32 = 268_435_460;
/// The library refuses less.
const LEAST_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// TCP and CONNACK together, in seconds.
const CONNECT_SECONDS: u64 = 10;

/// One connection through rumqttc.
pub struct RumqttSource {
    events: EventLoop,
}

/// The sending side of one event loop.
#[derive(Clone)]
pub struct RumqttSender {
    client: AsyncClient,
}

impl MqttSource for RumqttSource {
    type Sender = RumqttSender;

    async fn connect(broker: &MqttBroker) -> Result<(Self, Self::Sender, Session), SourceError> {
        let options = options(broker);
        let asked = options.keep_alive();
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        match events.poll().await {
            Ok(Event::Incoming(Wire::ConnAck(answer))) => {
                let session = session(&answer, asked);
                Ok((Self { events }, RumqttSender { client }, session))
            }
            Ok(other) => Err(SourceError::Lost(format!("the broker began with {other:?}"))),
            Err(error) => Err(why(&error)),
        }
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            return match self.events.poll().await.map_err(|error| why(&error))? {
                Event::Incoming(Wire::Publish(publish)) => Ok(SourceEvent::Message(message(publish))),
                Event::Incoming(Wire::SubAck(answer)) => {
                    Ok(SourceEvent::Subscribed(answer.return_codes.iter().map(granted).collect()))
                }
                Event::Incoming(_) => Ok(SourceEvent::Alive),
                // What we send ourselves is no sign of the broker's life.
                Event::Outgoing(_) => continue,
            };
        }
    }
}

impl MqttSender for RumqttSender {
    async fn subscribe(&self, topics: &[String]) -> Result<(), SourceError> {
        let filters: Vec<_> = topics
            .iter()
            .map(|topic| {
                let mut filter = Filter::new(topic.as_str(), QoS::AtLeastOnce);
                // Retained messages are stale, and a live one keeps no mark of having been retained.
                filter.retain_forward_rule = RetainForwardRule::Never;
                filter.preserve_retain = false;
                filter
            })
            .collect();
        self.client.subscribe_many(filters).await.map_err(gone)
    }

    async fn acknowledge(&self, packet: Packet) -> Result<(), SourceError> {
        let qos = if packet.exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let publish = Publish { pkid: packet.id, qos, ..Publish::default() };
        self.client.ack(&publish).await.map_err(gone)
    }

    async fn disconnect(&self) -> Result<(), SourceError> {
        self.client.disconnect().await.map_err(gone)
    }
}

fn options(broker: &MqttBroker) -> MqttOptions {
    // The library joins host and port with a colon.
    let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
    let mut options = MqttOptions::new(broker.client_id.as_str(), host, broker.port);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(u32::try_from(broker.session_expiry.as_secs()).unwrap_or(u32::MAX));
    properties.receive_maximum = Some(broker.receive_maximum.max(1));
    properties.max_packet_size = Some(MAX_PACKET);
    // The library tells of a publish before it resolves its alias.
    properties.topic_alias_max = Some(0);
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options
        .set_keep_alive(broker.keep_alive.clamp(LEAST_KEEP_ALIVE, Duration::from_secs(u64::from(u16::MAX))))
        .set_clean_start(false)
        .set_manual_acks(true)
        .set_connect_properties(properties)
        .set_connection_timeout(CONNECT_SECONDS)
        .set_network_options(network)
        // We publish nothing; the library would set aside room for 65,535 messages.
        .set_outgoing_inflight_upper_limit(1);
    if let Some(username) = &broker.username {
        let password = broker.password.as_ref().map_or("", |password| password.expose());
        options.set_credentials(username.as_str(), password);
    }
    options
}

fn session(answer: &ConnAck, asked: Duration) -> Session {
    let properties = answer.properties.as_ref();
    let seconds = |seconds: u64| Duration::from_secs(seconds);
    Session {
        present: answer.session_present,
        keep_alive: properties.and_then(|p| p.server_keep_alive).map_or(asked, |s| seconds(u64::from(s))),
        expiry: properties.and_then(|p| p.session_expiry_interval).map(|s| seconds(u64::from(s))),
    }
}

fn message(publish: Publish) -> Message {
    let packet = match publish.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Packet { id: publish.pkid, exactly_once: false }),
        QoS::ExactlyOnce => Some(Packet { id: publish.pkid, exactly_once: true }),
    };
    Message { topic: publish.topic, payload: publish.payload, packet, retained: publish.retain }
}

fn granted(code: &SubscribeReasonCode) -> Result<u8, String> {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Ok(0),
        SubscribeReasonCode::Success(QoS::AtLeastOnce) => Ok(1),
        SubscribeReasonCode::Success(QoS::ExactlyOnce) => Ok(2),
        refused => Err(words(&format!("{refused:?}"))),
    }
}

fn why(error: &ConnectionError) -> SourceError {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadClientId, BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized,
        RefusedProtocolVersion, UnsupportedProtocolVersion,
    };
    match error {
        ConnectionError::ConnectionRefused(code) => {
            let text = words(&format!("{code:?}"));
            match code {
                BadAuthenticationMethod
                | BadClientId
                | BadUserNamePassword
                | Banned
                | ClientIdentifierNotValid
                | NotAuthorized
                | RefusedProtocolVersion
                | UnsupportedProtocolVersion => SourceError::Refused(text),
                _ => SourceError::Lost(format!("the broker refused the connection: {text}")),
            }
        }
        other => SourceError::Lost(other.to_string()),
    }
}

fn gone(_: ClientError) -> SourceError {
    SourceError::Lost("the connection is gone".to_owned())
}

/// `NotAuthorized` as "not authorized".
fn words(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn refusals_that_waiting_does_not_mend_are_told_apart() {
        let refused = |code| why(&ConnectionError::ConnectionRefused(code));
        assert_eq!(refused(ConnectReturnCode::NotAuthorized), SourceError::Refused("not authorized".to_owned()));
        assert!(matches!(refused(ConnectReturnCode::ServerBusy), SourceError::Lost(_)));
        assert_eq!(granted(&SubscribeReasonCode::Success(QoS::AtMostOnce)), Ok(0));
        assert_eq!(granted(&SubscribeReasonCode::QuotaExceeded), Err("quota exceeded".to_owned()));
    }

    #[test]
    fn a_message_of_qos_0_has_nothing_to_acknowledge() {
        let publish = Publish::new("t", QoS::AtMostOnce, Bytes::from_static(b"x"), None);
        assert_eq!(message(publish).packet, None);
    }
}
