//! MQTT 5 by rumqttc's codec.

use std::time::Duration;

use bytes::BytesMut;
use meterlake_config::MqttBroker;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login,
    Packet as Wire, PingReq, PubAck, PubAckReason, PubComp, PubRec, Publish, RetainForwardRule, Subscribe,
    SubscribeReasonCode, Unsubscribe,
};

use super::super::source::{Packet, Quality, Session, SourceError, Subject};
use super::packet::{Incoming, Outgoing, UNSUBSCRIPTION, id_of, no_mqtt, quality_of, words};
use super::reader::number;

/// The largest packet of MQTT. A smaller limit would make a broker drop larger messages as if they had been sent, so it
/// is not announced; what is too large for us becomes a dead letter.
const MAX_PACKET: u32 = 268_435_460;
/// First byte of a farewell.
const DISCONNECT: u8 = 0xe0;
/// First byte of the answer to topics that were taken back.
const UNSUBACK: u8 = 0xb0;

pub(super) fn greet(broker: &MqttBroker, bytes: &mut BytesMut) -> Result<(), String> {
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
    put(&Wire::Connect(connect, None, login), bytes)
}

pub(super) fn read(packet: &mut BytesMut, broker: &MqttBroker) -> Result<Incoming, SourceError> {
    if let Some(error) = farewell(packet) {
        return Err(error);
    }
    if let Some(body) = body_of(packet, UNSUBACK) {
        return unsubscribed(body);
    }
    Ok(match Wire::read(packet, None).map_err(|error| no_mqtt(&error))? {
        Wire::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
            let allowed = answer.properties.as_ref().and_then(|properties| properties.receive_max);
            Incoming::Welcome(session(&answer, broker.keep_alive), allowed.unwrap_or(u16::MAX))
        }
        Wire::ConnAck(answer) => return Err(why(answer.code)),
        Wire::SubAck(answer) => Incoming::Subscribed(answer.pkid, answer.return_codes.iter().map(granted).collect()),
        Wire::PubAck(answer) => Incoming::Published(
            answer.pkid,
            match answer.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                refused => Err(words(&format!("{refused:?}"))),
            },
        ),
        Wire::PubRel(release) => Incoming::Release(release.pkid),
        _ => Incoming::Other,
    })
}

/// The broker's farewell. The codec wants properties behind the reason, which mosquitto leaves out as it may (3.14.2.2.1).
fn farewell(packet: &[u8]) -> Option<SourceError> {
    let body = body_of(packet, DISCONNECT)?;
    let reason = body.first().copied().unwrap_or_default();
    Some(match DisconnectReasonCode::try_from(reason) {
        Ok(DisconnectReasonCode::SessionTakenOver) => SourceError::TakenOver,
        Ok(reason) => SourceError::Lost(format!("the broker took leave: {}", words(&format!("{reason:?}")))),
        Err(_) => SourceError::Lost(format!("the broker took leave for the unknown reason {reason:#04x}")),
    })
}

/// What follows the head of a packet that begins with this byte.
fn body_of(packet: &[u8], first: u8) -> Option<&[u8]> {
    let rest = packet.strip_prefix(&[first])?;
    Some(rest.iter().position(|digit| digit & 0x80 == 0).map_or(&[][..], |last| &rest[last + 1..]))
}

/// The answer to topics that were taken back. The codec refuses reasons that it does not know: the connection would end, and
/// the same be asked on the next.
fn unsubscribed(body: &[u8]) -> Result<Incoming, SourceError> {
    let torn = || no_mqtt(&"an answer that ends before its reasons");
    let [high, low, rest @ ..] = body else { return Err(torn()) };
    let (properties, digits) = number(rest)?.ok_or_else(torn)?;
    let reasons = rest.get(digits + properties..).ok_or_else(torn)?;
    Ok(Incoming::Unsubscribed(
        u16::from_be_bytes([*high, *low]),
        Some(reasons.iter().map(|reason| gone(*reason)).collect()),
    ))
}

/// Whether a topic is gone, or why not (3.11.3).
fn gone(reason: u8) -> Result<(), String> {
    Err(match reason {
        // Success, or there was no such subscription.
        0x00 | 0x11 => return Ok(()),
        0x80 => "unspecified error".to_owned(),
        0x83 => "implementation specific error".to_owned(),
        0x87 => "not authorized".to_owned(),
        0x8f => "topic filter invalid".to_owned(),
        0x91 => "packet identifier in use".to_owned(),
        unknown => format!("the unknown reason {unknown:#04x}"),
    })
}

pub(super) fn write(outgoing: Outgoing, bytes: &mut BytesMut) -> Result<(), String> {
    let packet = match outgoing {
        Outgoing::Subscribe(subject, topics) => {
            let filters = topics.into_iter().map(|topic| filter(subject, topic));
            let mut subscribe = Subscribe::new_many(filters, None);
            subscribe.pkid = id_of(subject);
            Wire::Subscribe(subscribe)
        }
        Outgoing::Unsubscribe(filters) => {
            Wire::Unsubscribe(Unsubscribe { pkid: UNSUBSCRIPTION, filters, properties: None })
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
        Outgoing::Ping => Wire::PingReq(PingReq),
        Outgoing::Leave => Wire::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)),
    };
    put(&packet, bytes)
}

fn put(packet: &Wire, bytes: &mut BytesMut) -> Result<(), String> {
    packet.write(bytes, None).map(|_| ()).map_err(|error| error.to_string())
}

fn filter(subject: Subject, topic: String) -> Filter {
    let quality = match quality_of(subject) {
        Quality::AtMostOnce => QoS::AtMostOnce,
        Quality::AtLeastOnce => QoS::AtLeastOnce,
    };
    let mut filter = Filter::new(topic, quality);
    filter.retain_forward_rule = match subject {
        // They are stale, and a live one keeps no mark of having been retained.
        Subject::Readings => RetainForwardRule::Never,
        // Where the count stands, which is sent again only when it changes.
        Subject::BrokerStats => RetainForwardRule::OnEverySubscribe,
    };
    filter.preserve_retain = false;
    filter
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_read_with_and_without_properties_and_reason() {
        let left = |text: &str| Some(SourceError::Lost(format!("the broker took leave{text}")));
        for (packet, expected) in [
            (&[0xe0, 1, 0x8e][..], Some(SourceError::TakenOver)),
            (&[0xe0, 2, 0x8e, 0], Some(SourceError::TakenOver)),
            (&[0xe0, 0x80, 0, 0x8b], left(": server shutting down")),
            (&[0xe0, 0], left(": normal disconnection")),
            (&[0xe0, 1, 0x07], left(" for the unknown reason 0x07")),
            (&[0xd0, 0], None),
        ] {
            assert_eq!(farewell(packet), expected, "{packet:?}");
        }
    }

    #[test]
    fn what_became_of_topics_that_were_taken_back_is_read_whatever_the_reasons() {
        for (packet, expected) in [
            (&[0xb0, 4, 0, 3, 0, 0][..], Some(vec![Ok(())])),
            (
                &[0xb0, 6, 0, 3, 0, 0x11, 0x87, 0xc5],
                Some(vec![Ok(()), Err("not authorized"), Err("the unknown reason 0xc5")]),
            ),
            // A reason in words among the properties.
            (&[0xb0, 9, 0, 3, 5, 0x1f, 0, 2, b'n', b'o', 0], Some(vec![Ok(())])),
            (&[0xb0, 3, 0, 3, 0], Some(vec![])),
            (&[0xb0, 3, 0, 3, 7], None),
            (&[0xb0, 1, 0], None),
        ] {
            let read = unsubscribed(body_of(packet, UNSUBACK).unwrap());
            let expected =
                expected.map(|all| all.into_iter().map(|gone| gone.map_err(str::to_owned)).collect::<Vec<_>>());
            match (read, expected) {
                (Ok(Incoming::Unsubscribed(3, Some(read))), Some(expected)) => assert_eq!(read, expected, "{packet:?}"),
                (Err(_), None) => {}
                (read, _) => panic!("{packet:?} is {read:?}"),
            }
        }
    }

    #[test]
    fn refusals_that_waiting_does_not_mend_are_told_apart() {
        assert_eq!(why(ConnectReturnCode::NotAuthorized), SourceError::Refused("not authorized".to_owned()));
        assert!(matches!(why(ConnectReturnCode::ServerBusy), SourceError::Lost(_)));
        assert_eq!(granted(&SubscribeReasonCode::Success(QoS::AtMostOnce)), Ok(0));
        assert_eq!(granted(&SubscribeReasonCode::QuotaExceeded), Err("quota exceeded".to_owned()));
    }
}
