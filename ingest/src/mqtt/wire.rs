//! One connection that speaks MQTT, over TCP or TLS, with rumqttc's codec and a loop of our own.
//!
//! The event loop of rumqttc keeps, over a reconnect, the publishes that it had read and the acknowledgements that it had
//! queued, and sends the latter on the new connection, where their packet ids may belong to other messages. It also
//! writes and flushes each acknowledgement by itself, and none while its owner waits for room. Here a connection is a
//! value that is dropped with all that it holds, a task of its own writes, and what waits to be written goes out at once.

mod packet;
mod reader;
mod stream;
mod v4;
mod v5;
mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use meterlake_config::MqttBroker;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::task::AbortOnDropHandle;

use packet::{Codec, Incoming, Outgoing, UNSUBSCRIPTION, subject_of};
use reader::Reader;
use stream::WriteHalf;
use window::Window;

use super::source::{MqttSender, MqttSource, Packet, Quality, Session, SourceError, SourceEvent, Subject};

/// What waits to be written.
const OUTGOING: usize = 1024;
/// TCP, TLS and the broker's welcome together.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the broker may leave what we write.
const WRITE: Duration = Duration::from_secs(30);
/// For what the broker said before it stopped listening.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Between two signs of life while a large packet comes in.
const TELL_EVERY: Duration = Duration::from_secs(1);
const GONE: &str = "the connection is gone";

/// One connection.
pub struct WireSource {
    reader: Reader,
    outgoing: mpsc::Sender<Outgoing>,
    window: Arc<Window>,
    writer: AbortOnDropHandle<String>,
    /// When a packet that is not complete yet was last told of.
    told: Instant,
}

/// The sending side of one connection.
#[derive(Clone)]
pub struct WireSender {
    outgoing: mpsc::Sender<Outgoing>,
    window: Arc<Window>,
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
                    return Err(self.last_word().await.unwrap_or(SourceError::Lost(reason)));
                }
            }
            // A large message on a slow line takes long, and the line lives meanwhile.
            if self.reader.is_amid_a_packet() && self.told.elapsed() > TELL_EVERY {
                self.told = Instant::now();
                return Ok(SourceEvent::Alive);
            }
        }
    }
}

impl WireSource {
    /// What the broker said before it stopped listening, if it tells why. Messages before it come again.
    async fn last_word(&mut self) -> Option<SourceError> {
        let words = async {
            loop {
                match self.reader.packet().await {
                    Ok(_) => {}
                    Err(error @ (SourceError::TakenOver | SourceError::Refused(_))) => return Some(error),
                    Err(SourceError::Closed | SourceError::Lost(_)) => return None,
                }
            }
        };
        timeout(LAST_WORD, words).await.ok().flatten()
    }

    async fn event(&mut self, packet: Incoming) -> Result<SourceEvent, SourceError> {
        Ok(match packet {
            Incoming::Message(message) => SourceEvent::Message(message),
            Incoming::Subscribed(id, answers) => match subject_of(id) {
                Some(subject) => SourceEvent::Subscribed(subject, answers),
                None => SourceEvent::Alive,
            },
            Incoming::Unsubscribed(UNSUBSCRIPTION, answers) => SourceEvent::Unsubscribed(answers),
            Incoming::Published(id, answer) => {
                self.window.answered(id);
                SourceEvent::Published(answer)
            }
            Incoming::Release(id) => {
                self.outgoing.send(Outgoing::Complete(id)).await.map_err(gone)?;
                SourceEvent::Alive
            }
            Incoming::Welcome(..) | Incoming::Unsubscribed(..) | Incoming::Other => SourceEvent::Alive,
        })
    }
}

impl MqttSender for WireSender {
    async fn subscribe(&self, subject: Subject, topics: &[String]) -> Result<(), SourceError> {
        self.outgoing.send(Outgoing::Subscribe(subject, topics.to_vec())).await.map_err(gone)
    }

    async fn unsubscribe(&self, topics: &[String]) -> Result<(), SourceError> {
        self.outgoing.send(Outgoing::Unsubscribe(topics.to_vec())).await.map_err(gone)
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

/// Whether a broker's certificates and keys can be used at all.
pub(super) fn check(broker: &MqttBroker) -> Result<(), String> {
    broker.tls.as_ref().map_or(Ok(()), |tls| stream::client_config(tls).map(|_| ()))
}

async fn connect(broker: &MqttBroker) -> Result<(WireSource, WireSender, Session), SourceError> {
    let codec = Codec(broker.protocol);
    let (reading, mut writing) = stream::open(broker).await?;
    let mut hello = BytesMut::new();
    codec.greet(broker, &mut hello).map_err(SourceError::Refused)?;
    let said = async {
        writing.write_all(&hello).await?;
        writing.flush().await
    };
    said.await.map_err(|error| stream::broken(&error))?;
    let mut reader = Reader::new(reading, codec, broker.clone());
    let (session, allowed) = match reader.packet().await? {
        Incoming::Welcome(session, allowed) => (session, allowed),
        other => return Err(SourceError::Lost(format!("the broker began with {other:?}"))),
    };
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let writer = AbortOnDropHandle::new(tokio::spawn(write(writing, codec, queue, session.keep_alive)));
    let window = Arc::new(Window::new(allowed));
    let sender = WireSender { outgoing: outgoing.clone(), window: Arc::clone(&window) };
    Ok((WireSource { reader, outgoing, window, writer, told: Instant::now() }, sender, session))
}

/// Writes what waits, all at once, and a ping in each keep-alive. Says why it ended.
async fn write(
    mut socket: WriteHalf,
    codec: Codec,
    mut queue: mpsc::Receiver<Outgoing>,
    keep_alive: Duration,
) -> String {
    let mut ping = interval_at(Instant::now() + keep_alive, keep_alive.max(Duration::from_secs(1)));
    let mut waiting = Vec::new();
    let mut bytes = BytesMut::new();
    loop {
        tokio::select! {
            count = queue.recv_many(&mut waiting, OUTGOING) => if count == 0 {
                return "nobody needs the connection".to_owned();
            },
            // A keep-alive of zero means none.
            _ = ping.tick(), if !keep_alive.is_zero() => waiting.push(Outgoing::Ping),
        }
        let leaving = matches!(waiting.last(), Some(Outgoing::Leave));
        for outgoing in waiting.drain(..) {
            if let Err(error) = codec.write(outgoing, &mut bytes) {
                return error;
            }
        }
        let written = async {
            socket.write_all(&bytes).await?;
            socket.flush().await
        };
        match timeout(WRITE, written).await {
            Err(_) => return format!("the broker took nothing for {} s", WRITE.as_secs()),
            Ok(Err(error)) => return format!("writing failed: {error}"),
            // The broker closes once it has read all of it. Whoever closes first may throw away what it has not read yet.
            Ok(Ok(())) if leaving => std::future::pending().await,
            Ok(Ok(())) => bytes.clear(),
        }
    }
}

fn gone<T>(_: mpsc::error::SendError<T>) -> SourceError {
    SourceError::Lost(GONE.to_owned())
}
