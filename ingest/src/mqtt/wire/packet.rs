//! What is said on a connection, whichever version of MQTT says it.

use bytes::BytesMut;
use meterlake_config::{MqttBroker, MqttProtocol};

use super::super::source::{Message, Packet, Quality, Session, SourceError, Subject};
use super::{v4, v5};

/// What the broker says.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The answer to our greeting, and how many messages of our own the broker takes at once.
    Welcome(Session, u16),
    Message(Message),
    Subscribed(u16, Vec<Result<u8, String>>),
    /// For each topic; `None` where the answer is for all.
    Unsubscribed(u16, Option<Vec<Result<(), String>>>),
    /// The answer to a message of our own.
    Published(u16, Result<(), String>),
    /// To be answered by [`Outgoing::Complete`].
    Release(u16),
    Other,
}

/// What we say once we are connected.
pub(super) enum Outgoing {
    Subscribe(Subject, Vec<String>),
    Unsubscribe(Vec<String>),
    Acknowledge(Packet),
    /// The last word on a message of QoS 2.
    Complete(u16),
    /// A message of our own; without an id it goes at QoS 0.
    Publish {
        topic: String,
        payload: Vec<u8>,
        id: Option<u16>,
    },
    Ping,
    Leave,
}

/// The packet id of a request.
pub(super) const fn id_of(subject: Subject) -> u16 {
    match subject {
        Subject::Readings => 1,
        Subject::BrokerStats => 2,
    }
}

/// The packet id of the request to take topics back.
pub(super) const UNSUBSCRIPTION: u16 = 3;

/// The other way round.
pub(super) const fn subject_of(id: u16) -> Option<Subject> {
    match id {
        1 => Some(Subject::Readings),
        2 => Some(Subject::BrokerStats),
        _ => None,
    }
}

pub(super) const fn quality_of(subject: Subject) -> Quality {
    match subject {
        Subject::Readings => Quality::AtLeastOnce,
        // A broker would queue them while we are away.
        Subject::BrokerStats => Quality::AtMostOnce,
    }
}

/// A version of MQTT: the same conversation in other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec(pub(super) MqttProtocol);

impl Codec {
    /// The greeting.
    pub(super) fn greet(self, broker: &MqttBroker, bytes: &mut BytesMut) -> Result<(), String> {
        match self.0 {
            MqttProtocol::V5 => v5::greet(broker, bytes),
            MqttProtocol::V311 => v4::greet(broker, bytes),
        }
    }

    /// Takes one packet, which is complete, other than a message.
    pub(super) fn read(self, packet: &mut BytesMut, broker: &MqttBroker) -> Result<Incoming, SourceError> {
        match self.0 {
            MqttProtocol::V5 => v5::read(packet, broker),
            MqttProtocol::V311 => v4::read(packet, broker),
        }
    }

    pub(super) fn write(self, outgoing: Outgoing, bytes: &mut BytesMut) -> Result<(), String> {
        match self.0 {
            MqttProtocol::V5 => v5::write(outgoing, bytes),
            MqttProtocol::V311 => v4::write(outgoing, bytes),
        }
    }

    /// Whether messages bear properties.
    pub(super) fn has_properties(self) -> bool {
        self.0 == MqttProtocol::V5
    }
}

/// `NotAuthorized` as "not authorized".
pub(super) fn words(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// What cannot be read as MQTT.
pub(super) fn no_mqtt(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Lost(format!("the broker sent what is not MQTT: {error}"))
}
