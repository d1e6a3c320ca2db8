//! What the collector needs of whatever speaks MQTT: connect, next, acknowledge.
//!
//! One [`MqttSource`] is one connection. It is never polled again after an error and never outlives its connection, so
//! an implementation has nothing to tidy up between two of them.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use meterlake_config::MqttBroker;

/// One connection.
pub trait MqttSource: Sized + Send + 'static {
    /// Sends on the same connection; useless once it is gone.
    type Sender: MqttSender;

    /// Connects and resumes the session, or begins one.
    fn connect(broker: &MqttBroker) -> impl Future<Output = Result<(Self, Self::Sender, Session), SourceError>> + Send;

    /// The next event. It is awaited by one task alone, without a timeout, until it fails or the source is dropped.
    fn next(&mut self) -> impl Future<Output = Result<SourceEvent, SourceError>> + Send;
}

/// The sending side of one connection.
pub trait MqttSender: Clone + Send + Sync + 'static {
    /// Asks for topics; the answer comes as [`SourceEvent::Subscribed`].
    fn subscribe(&self, subject: Subject, topics: &[String]) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Takes topics back; the answer comes as [`SourceEvent::Unsubscribed`].
    fn unsubscribe(&self, topics: &[String]) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Acknowledges one message.
    fn acknowledge(&self, packet: Packet) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Sends a message of our own, not retained. It waits while the connection takes no more; what becomes of a message at
    /// [`Quality::AtLeastOnce`] comes as [`SourceEvent::Published`]. It is lost with its connection.
    fn publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        quality: Quality,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Takes leave; the session stays.
    fn disconnect(&self) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Readings: at QoS 1, without what the broker has retained.
    Readings,
    /// What the broker says of itself: at QoS 0, beginning with what it has retained.
    BrokerStats,
}

/// How surely a message of our own reaches the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// QoS 0: nobody answers.
    AtMostOnce,
    /// QoS 1: the broker answers.
    AtLeastOnce,
}

/// How the session stands after connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Whether the broker remembered it.
    pub present: bool,
    /// Silence after which each side asks whether the other lives.
    pub keep_alive: Duration,
    /// How long the broker holds it while we are away, where it says so.
    pub expiry: Option<Duration>,
}

/// Names a message that waits for its acknowledgement, on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The packet identifier.
    pub id: u16,
    /// Whether it came at QoS 2, against what was asked for.
    pub exactly_once: bool,
}

/// What a connection brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// A message.
    Message(Message),
    /// The answer to a subscription: for each topic the granted QoS, or why it is refused.
    Subscribed(Subject, Vec<Result<u8, String>>),
    /// The answer to topics that were taken back: for each whether it is gone, or why not; `None` where one answer says that
    /// all are.
    Unsubscribed(Option<Vec<Result<(), String>>>),
    /// The broker's answer to a message of our own at QoS 1: taken, or why not.
    Published(Result<(), String>),
    /// A sign of life without content.
    Alive,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: Bytes,
    /// Its bytes; of a very large one, its first.
    pub payload: Bytes,
    /// How many bytes it truly has.
    pub size: usize,
    /// To acknowledge it with; `None` at QoS 0.
    pub packet: Option<Packet>,
    /// Whether the broker had retained it.
    pub retained: bool,
}

/// Why a connection ended or did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It was lost; another may do better.
    #[error("{0}")]
    Lost(String),
    /// The broker closed it without a word.
    #[error("the broker closed the connection")]
    Closed,
    /// Another client connected with our client id.
    #[error("another client took the session")]
    TakenOver,
    /// The broker turned it down, or is not to be trusted, for a reason that waiting does not mend: name, password,
    /// rights, certificates.
    #[error("{0}")]
    Refused(String),
}
