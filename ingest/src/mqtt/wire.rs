//! One TCP connection that speaks MQTT 5, with rumqttc's codec and a loop of our own.
//!
//! The event loop of rumqttc keeps, over a reconnect, the publishes that it had read and the acknowledgements that it had
//! queued, and sends the latter on the new connection, where their packet ids may belong to other messages. It also
//! writes and flushes each acknowledgement by itself, and none while its owner waits for room. Here a connection is a
//! value that is dropped with all that it holds, a task of its own writes, and what waits to be written goes out at once.

mod window;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use meterlake_config::MqttBroker;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login,
    Packet as Wire, PingReq, PubAck, PubAckReason, PubComp, PubRec, Publish, RetainForwardRule, Subscribe,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as WireError, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::task::AbortOnDropHandle;

use window::Window;

use super::source::{Message, MqttSender, MqttSource, Packet, Quality, Session, SourceError, SourceEvent};

/// What waits to be written.
const OUTGOING: usize = 1024;
/// The largest packet of MQTT. A smaller limit would make a broker drop larger messages as if they had been sent, so it
/// is not announced; what is too large for us becomes a dead letter.
const MAX_PACKET: u32 = 268_435_460;
/// TCP and CONNACK together.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the broker may leave what we write.
const WRITE: Duration = Duration::from_secs(30);
/// What is read at once.
const READ: usize = 64 * 1024;
const GONE: &str = "the connection is gone";
/// Of the only request that asks for an answer.
const SUBSCRIBE_ID: u16 = 1;

/// One connection.
pub struct WireSource {
    reader: Reader,
    outgoing: mpsc::Sender<Outgoing>,
    window: Arc<Window>,
    writer: AbortOnDropHandle<String>,
}

/// The sending side of one connection.
#[derive(Clone)]
pub struct WireSender {
    outgoing: mpsc::Sender<Outgoing>,
    window: Arc<Window>,
}

/// What we say once we are connected.
enum Outgoing {
    Subscribe(Vec<String>),
    Acknowledge(Packet),
    /// The last word on a message of QoS 2.
    Complete(u16),
    /// A message of our own; without an id it goes at QoS 0.
    Publish {
        topic: String,
        payload: Vec<u8>,
        id: Option<u16>,
    },
    Leave,
}

struct Reader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Reader {
    /// A packet that is already here.
    fn buffered(&mut self) -> Result<Option<Wire>, SourceError> {
        match Wire::read(&mut self.buffer, Some(MAX_PACKET)) {
            Ok(packet) => Ok(Some(packet)),
            Err(WireError::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(SourceError::Lost(format!("the broker sent what is not MQTT: {error}"))),
        }
    }

    /// Waits for more bytes. May be dropped while it waits.
    async fn more(&mut self) -> Result<(), SourceError> {
        self.buffer.reserve(READ);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(SourceError::Lost("the broker closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn packet(&mut self) -> Result<Wire, SourceError> {
        loop {
            match self.buffered()? {
                Some(packet) => return Ok(packet),
                None => self.more().await?,
            }
        }
    }
}

impl MqttSource for WireSource {
    type Sender = WireSender;

    async fn connect(broker: &MqttBroker) -> Result<(Self, Self::Sender, Session), SourceError> {
        let late = |_| SourceError::Lost(format!("no connection after {} s", CONNECT.as_secs()));
        timeout(CONNECT, connect(broker)).await.map_err(late)?
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(packet) = self.reader.buffered()? {
                return self.event(packet).await;
            }
            tokio::select! {
                more = self.reader.more() => more?,
                ended = &mut self.writer => {
                    let reason = ended.unwrap_or_else(|error| format!("writing ended: {error}"));
                    return Err(SourceError::Lost(reason));
                }
            }
        }
    }
}

impl WireSource {
    async fn event(&self, packet: Wire) -> Result<SourceEvent, SourceError> {
        match packet {
            // Without an alias, which we did not allow, nobody knows what an empty topic stands for.
            Wire::Publish(publish) if publish.topic.is_empty() => {
                Err(SourceError::Lost("the broker sent a message without a topic".to_owned()))
            }
            Wire::Publish(publish) => Ok(SourceEvent::Message(message(publish))),
            Wire::SubAck(answer) => Ok(SourceEvent::Subscribed(answer.return_codes.iter().map(granted).collect())),
            Wire::PubRel(release) => {
                self.outgoing.send(Outgoing::Complete(release.pkid)).await.map_err(gone)?;
                Ok(SourceEvent::Alive)
            }
            Wire::PubAck(answer) => {
                self.window.answered(answer.pkid);
                Ok(SourceEvent::Published(match answer.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                    refused => Err(words(&format!("{refused:?}"))),
                }))
            }
            Wire::Disconnect(reason) => {
                let text = words(&format!("{:?}", reason.reason_code));
                Err(SourceError::Lost(format!("the broker took leave: {text}")))
            }
            _ => Ok(SourceEvent::Alive),
        }
    }
}

impl MqttSender for WireSender {
    async fn subscribe(&self, topics: &[String]) -> Result<(), SourceError> {
        self.outgoing.send(Outgoing::Subscribe(topics.to_vec())).await.map_err(gone)
    }

    async fn acknowledge(&self, packet: Packet) -> Result<(), SourceError> {
        self.outgoing.send(Outgoing::Acknowledge(packet)).await.map_err(gone)
    }

    async fn publish(&self, topic: &str, payload: Vec<u8>, quality: Quality) -> Result<(), SourceError> {
        let id = match quality {
            Quality::AtMostOnce => None,
            Quality::AtLeastOnce => tokio::select! {
                id = self.window.take() => Some(id),
                () = self.outgoing.closed() => return Err(SourceError::Lost(GONE.to_owned())),
            },
        };
        let publish = Outgoing::Publish { topic: topic.to_owned(), payload, id };
        self.outgoing.send(publish).await.map_err(gone)
    }

    async fn disconnect(&self) -> Result<(), SourceError> {
        self.outgoing.send(Outgoing::Leave).await.map_err(gone)
    }
}

async fn connect(broker: &MqttBroker) -> Result<(WireSource, WireSender, Session), SourceError> {
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(|error| broken(&error))?;
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    let (socket, mut writing) = stream.into_split();
    let mut hello = BytesMut::new();
    greeting(broker).write(&mut hello, None).map_err(|error| SourceError::Refused(error.to_string()))?;
    writing.write_all(&hello).await.map_err(|error| broken(&error))?;
    let mut reader = Reader { socket, buffer: BytesMut::with_capacity(READ) };
    let answer = match reader.packet().await? {
        Wire::ConnAck(answer) => answer,
        other => return Err(SourceError::Lost(format!("the broker began with {other:?}"))),
    };
    if answer.code != ConnectReturnCode::Success {
        return Err(why(answer.code));
    }
    let session = session(&answer, broker.keep_alive);
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let writer = AbortOnDropHandle::new(tokio::spawn(write(writing, queue, session.keep_alive)));
    let allowed = answer.properties.as_ref().and_then(|properties| properties.receive_max).unwrap_or(u16::MAX);
    let window = Arc::new(Window::new(allowed));
    let sender = WireSender { outgoing: outgoing.clone(), window: Arc::clone(&window) };
    Ok((WireSource { reader, outgoing, window, writer }, sender, session))
}

fn greeting(broker: &MqttBroker) -> Wire {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(u32::try_from(broker.session_expiry.as_secs()).unwrap_or(u32::MAX));
    properties.receive_maximum = Some(broker.receive_maximum.max(1));
    properties.max_packet_size = Some(MAX_PACKET);
    properties.topic_alias_max = Some(0);
    let connect = Connect {
        keep_alive: u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX),
        client_id: broker.client_id.clone(),
        clean_start: false,
        properties: Some(properties),
    };
    let login = broker.username.as_ref().map(|username| {
        let password = broker.password.as_ref().map_or("", |password| password.expose());
        Login::new(username.as_str(), password)
    });
    Wire::Connect(connect, None, login)
}

/// Writes what waits, all at once, and a ping in each keep-alive. Says why it ended.
async fn write(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Outgoing>, keep_alive: Duration) -> String {
    let mut ping = interval_at(Instant::now() + keep_alive, keep_alive.max(Duration::from_secs(1)));
    let mut waiting = Vec::new();
    let mut bytes = BytesMut::new();
    loop {
        tokio::select! {
            count = queue.recv_many(&mut waiting, OUTGOING) => if count == 0 {
                return "nobody needs the connection".to_owned();
            },
            // A keep-alive of zero means none.
            _ = ping.tick(), if !keep_alive.is_zero() => {}
        }
        if waiting.is_empty()
            && let Err(error) = Wire::PingReq(PingReq).write(&mut bytes, None)
        {
            return error.to_string();
        }
        let leaving = matches!(waiting.last(), Some(Outgoing::Leave));
        for outgoing in waiting.drain(..) {
            if let Err(error) = packet(outgoing).write(&mut bytes, None) {
                return error.to_string();
            }
        }
        match timeout(WRITE, socket.write_all(&bytes)).await {
            Err(_) => return format!("the broker took nothing for {} s", WRITE.as_secs()),
            Ok(Err(error)) => return format!("writing failed: {error}"),
            // The broker closes once it has read all of it. Whoever closes first may throw away what it has not read yet.
            Ok(Ok(())) if leaving => std::future::pending().await,
            Ok(Ok(())) => bytes.clear(),
        }
    }
}

fn packet(outgoing: Outgoing) -> Wire {
    match outgoing {
        Outgoing::Subscribe(topics) => {
            let filters = topics.into_iter().map(|topic| {
                let mut filter = Filter::new(topic, QoS::AtLeastOnce);
                // Retained messages are stale, and a live one keeps no mark of having been retained.
                filter.retain_forward_rule = RetainForwardRule::Never;
                filter.preserve_retain = false;
                filter
            });
            let mut subscribe = Subscribe::new_many(filters, None);
            subscribe.pkid = SUBSCRIBE_ID;
            Wire::Subscribe(subscribe)
        }
        Outgoing::Acknowledge(Packet { id, exactly_once: false }) => Wire::PubAck(PubAck::new(id, None)),
        Outgoing::Acknowledge(Packet { id, exactly_once: true }) => Wire::PubRec(PubRec::new(id, None)),
        Outgoing::Complete(id) => Wire::PubComp(PubComp::new(id, None)),
        Outgoing::Publish { topic, payload, id } => {
            let quality = if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            let mut publish = Publish::new(topic, quality, payload, None);
            publish.pkid = id.unwrap_or_default();
            Wire::Publish(publish)
        }
        Outgoing::Leave => Wire::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)),
    }
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

fn why(code: ConnectReturnCode) -> SourceError {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadClientId, BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized,
        RefusedProtocolVersion, UnsupportedProtocolVersion,
    };
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

fn broken(error: &io::Error) -> SourceError {
    SourceError::Lost(error.to_string())
}

fn gone<T>(_: mpsc::error::SendError<T>) -> SourceError {
    SourceError::Lost(GONE.to_owned())
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
        assert_eq!(why(ConnectReturnCode::NotAuthorized), SourceError::Refused("not authorized".to_owned()));
        assert!(matches!(why(ConnectReturnCode::ServerBusy), SourceError::Lost(_)));
        assert_eq!(granted(&SubscribeReasonCode::Success(QoS::AtMostOnce)), Ok(0));
        assert_eq!(granted(&SubscribeReasonCode::QuotaExceeded), Err("quota exceeded".to_owned()));
    }

    #[test]
    fn a_message_of_qos_0_has_nothing_to_acknowledge() {
        let publish = Publish::new("t", QoS::AtMostOnce, Bytes::from_static(b"x"), None);
        assert_eq!(message(publish).packet, None);
    }
}
