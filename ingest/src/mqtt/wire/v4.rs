//! MQTT 3.1.1 by rumqttc's codec. What a message may weigh, how many come ahead and how long a session lasts is the
//! broker's affair alone, and retained messages come with every subscription.

use bytes::BytesMut;
use meterlake_config::MqttBroker;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet as Wire, PubAck, PubComp, PubRec, Publish, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};

use super::super::source::{Packet, Quality, Session, SourceError};
use super::packet::{Incoming, Outgoing, UNSUBSCRIPTION, id_of, no_mqtt, quality_of, words};

pub(super) fn greet(broker: &MqttBroker, bytes: &mut BytesMut) -> Result<(), String> {
    let mut connect = Connect::new(broker.client_id.as_str());
    connect.keep_alive = u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX);
    connect.clean_session = false;
    if let Some(username) = &broker.username {
        connect.set_login(username.as_str(), broker.password.as_ref().map_or("", |password| password.expose()));
    }
    put(&Wire::Connect(connect), bytes)
}

pub(super) fn read(packet: &mut BytesMut, broker: &MqttBroker) -> Result<Incoming, SourceError> {
    Ok(match Wire::read(packet, usize::MAX).map_err(|error| no_mqtt(&error))? {
        Wire::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
            let session = Session { present: answer.session_present, keep_alive: broker.keep_alive, expiry: None };
            Incoming::Welcome(session, u16::MAX)
        }
        Wire::ConnAck(answer) => return Err(why(answer.code)),
        Wire::SubAck(answer) => Incoming::Subscribed(answer.pkid, answer.return_codes.iter().map(granted).collect()),
        Wire::UnsubAck(answer) => Incoming::Unsubscribed(answer.pkid, None),
        Wire::PubAck(answer) => Incoming::Published(answer.pkid, Ok(())),
        Wire::PubRel(release) => Incoming::Release(release.pkid),
        _ => Incoming::Other,
    })
}

pub(super) fn write(outgoing: Outgoing, bytes: &mut BytesMut) -> Result<(), String> {
    let packet = match outgoing {
        Outgoing::Subscribe(subject, topics) => {
            let quality = match quality_of(subject) {
                Quality::AtMostOnce => QoS::AtMostOnce,
                Quality::AtLeastOnce => QoS::AtLeastOnce,
            };
            let filters = topics.into_iter().map(|topic| SubscribeFilter::new(topic, quality));
            let mut subscribe = Subscribe::new_many(filters);
            subscribe.pkid = id_of(subject);
            Wire::Subscribe(subscribe)
        }
        Outgoing::Unsubscribe(topics) => Wire::Unsubscribe(Unsubscribe { pkid: UNSUBSCRIPTION, topics }),
        Outgoing::Acknowledge(Packet { id, exactly_once: false }) => Wire::PubAck(PubAck::new(id)),
        Outgoing::Acknowledge(Packet { id, exactly_once: true }) => Wire::PubRec(PubRec::new(id)),
        Outgoing::Complete(id) => Wire::PubComp(PubComp::new(id)),
        Outgoing::Publish { topic, payload, id } => {
            let quality = if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            let mut publish = Publish::new(topic, quality, payload);
            publish.pkid = id.unwrap_or_default();
            Wire::Publish(publish)
        }
        Outgoing::Ping => Wire::PingReq,
        Outgoing::Leave => Wire::Disconnect,
    };
    put(&packet, bytes)
}

fn put(packet: &Wire, bytes: &mut BytesMut) -> Result<(), String> {
    packet.write(bytes, usize::MAX).map(|_| ()).map_err(|error| error.to_string())
}

fn granted(code: &SubscribeReasonCode) -> Result<u8, String> {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Ok(0),
        SubscribeReasonCode::Success(QoS::AtLeastOnce) => Ok(1),
        SubscribeReasonCode::Success(QoS::ExactlyOnce) => Ok(2),
        SubscribeReasonCode::Failure => Err("failure".to_owned()),
    }
}

fn why(code: ConnectReturnCode) -> SourceError {
    let text = words(&format!("{code:?}"));
    match code {
        ConnectReturnCode::Success | ConnectReturnCode::ServiceUnavailable => {
            SourceError::Lost(format!("the broker refused the connection: {text}"))
        }
        _ => SourceError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_waiting_does_not_mend_are_told_apart() {
        assert_eq!(why(ConnectReturnCode::NotAuthorized), SourceError::Refused("not authorized".to_owned()));
        assert!(matches!(why(ConnectReturnCode::ServiceUnavailable), SourceError::Lost(_)));
        assert_eq!(granted(&SubscribeReasonCode::Success(QoS::AtMostOnce)), Ok(0));
        assert!(granted(&SubscribeReasonCode::Failure).is_err());
    }
}
