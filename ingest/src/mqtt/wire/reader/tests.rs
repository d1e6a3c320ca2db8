use super::*;
use meterlake_config::{Config, MqttProtocol};
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use rumqttc::v5::mqttbytes::{QoS, v5};
use tokio::io::AsyncWriteExt;

fn broker(protocol: MqttProtocol) -> MqttBroker {
    let text = "[[mqtt]]\nname = 'b'\nhost = 'localhost'\ntopics = ['#']\nmaps = ['meterlake-json']\n";
    let broker = Config::parse(text, std::path::Path::new("")).unwrap().mqtt.remove(0);
    MqttBroker { protocol, ..broker }
}

/// Everything that the bytes hold, fed in pieces of a given size, up to what is not MQTT or to the end.
fn read(protocol: MqttProtocol, bytes: &[u8], piece: usize) -> Vec<Result<Incoming, SourceError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(piece);
        let mut reader = Reader::new(Box::new(near), Codec(protocol), broker(protocol));
        let feed = async {
            // The reader may turn away before the end.
            let _ = far.write_all(bytes).await;
            drop(far);
        };
        let drain = async {
            let mut read = Vec::new();
            loop {
                let packet = reader.packet().await;
                let ended = packet.is_err();
                read.push(packet);
                if ended {
                    drop(reader);
                    return read;
                }
            }
        };
        tokio::join!(feed, drain).1
    })
}

/// The only message in these bytes, before the end.
fn only(protocol: MqttProtocol, bytes: &[u8], piece: usize) -> Message {
    let mut read = read(protocol, bytes, piece).into_iter();
    match (read.next(), read.next(), read.next()) {
        (Some(Ok(Incoming::Message(message))), Some(Err(SourceError::Closed)), None) => message,
        other => panic!("{other:?}"),
    }
}

fn properties(text: &str) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(7),
        topic_alias: None,
        response_topic: Some(text.to_owned()),
        correlation_data: Some(Bytes::from_static(b"c")),
        user_properties: vec![(text.to_owned(), text.to_owned())],
        subscription_identifiers: vec![3],
        content_type: Some(text.to_owned()),
    }
}

proptest! {
    #[test]
    fn messages_are_read_as_the_codec_writes_them_however_they_arrive(
        topic in "[a-z/]{1,200}", payload in proptest::collection::vec(any::<u8>(), 0..600), id in 1_u16..,
        quality in 0_u8..3, retain in any::<bool>(), text in proptest::option::of("[a-z]{0,90}"), piece in 1_usize..300,
    ) {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(quality)];
        let mut publish = Publish::new(topic.as_str(), qos, payload.clone(), text.as_deref().map(properties));
        publish.pkid = if quality == 0 { 0 } else { id };
        publish.retain = retain;
        let mut bytes = BytesMut::new();
        v5::Packet::Publish(publish).write(&mut bytes, None).unwrap();
        let expected = Message {
            topic: topic.clone().into(),
            size: payload.len(),
            payload: payload.clone().into(),
            packet: (quality > 0).then_some(Packet { id, exactly_once: quality == 2 }),
            retained: retain,
        };
        prop_assert_eq!(&only(MqttProtocol::V5, &bytes, piece), &expected);

        let qos = rumqttc::mqttbytes::qos(quality).unwrap();
        let mut publish = rumqttc::mqttbytes::v4::Publish::new(topic, qos, payload);
        publish.pkid = if quality == 0 { 0 } else { id };
        publish.retain = retain;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        prop_assert_eq!(&only(MqttProtocol::V311, &bytes, piece), &expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), v5 in any::<bool>()) {
        let protocol = if v5 { MqttProtocol::V5 } else { MqttProtocol::V311 };
        prop_assert!(matches!(read(protocol, &bytes, 64).last(), Some(Err(_))));
    }
}

/// A PUBLISH of QoS 1 whose properties, and whose payload, are given.
fn publish(properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let digits = |mut value: usize| {
        let mut digits = Vec::new();
        loop {
            let digit = u8::try_from(value & 0x7f).unwrap();
            value >>= 7;
            digits.push(if value > 0 { digit | 0x80 } else { digit });
            if value == 0 {
                return digits;
            }
        }
    };
    let body = [b"\0\x01t\0\x09", &digits(properties.len())[..], properties, payload].concat();
    [&[0x32][..], &digits(body.len()), &body].concat()
}

#[test]
fn properties_that_the_codec_refuses_do_not_end_the_connection() {
    for properties in [&[0xff_u8][..], &[0x08, 0xff, 0xff, b'x'], &[0x26, 0, 1, 0xff, 0, 1, 0xfe]] {
        let bytes = publish(properties, b"payload");
        assert!(v5::Packet::read(&mut BytesMut::from(&bytes[..]), None).is_err(), "{properties:?}");
        let message = only(MqttProtocol::V5, &bytes, 64);
        assert_eq!((&message.payload[..], message.size), (&b"payload"[..], 7));
        assert_eq!(message.packet, Some(Packet { id: 9, exactly_once: false }));
    }
}

#[test]
fn of_a_huge_message_the_beginning_is_kept_and_the_next_is_read() {
    let size = KEPT_PACKET + 3_000_000;
    let mut bytes = publish(&[], &vec![b'x'; size]);
    bytes.extend(publish(&[], b"next"));
    let read: Vec<_> = read(MqttProtocol::V5, &bytes, 1 << 20);
    let [Ok(Incoming::Message(huge)), Ok(Incoming::Message(next)), Err(SourceError::Closed)] = &read[..] else {
        panic!("two messages");
    };
    assert_eq!(huge.size, size);
    assert!((KEPT_PAYLOAD..=KEPT_PACKET).contains(&huge.payload.len()));
    assert_eq!((&next.payload[..], next.size), (&b"next"[..], 4));

    let bytes = publish(&vec![b'x'; size], b"payload");
    let message = only(MqttProtocol::V5, &bytes, 1 << 20);
    assert_eq!((message.payload.len(), message.size), (0, 7), "its properties alone are too long");
}

#[test]
fn a_message_that_ends_too_soon_or_has_no_topic_is_not_mqtt() {
    for bytes in [
        &[0x32_u8, 0][..],
        &[0x32, 3, 0, 5, b't'],
        &[0x32, 4, 0, 1, b't', 0],
        &[0x32, 5, 0, 1, b't', 0, 1],
        &[0x32, 6, 0, 1, b't', 0, 1, 9],
        &[0x36, 6, 0, 1, b't', 0, 1, 0],
        &[0x30, 3, 0, 0, 0],
        &[0x30, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x90, 0xff, 0xff, 0x7f],
    ] {
        let read = read(MqttProtocol::V5, bytes, 64);
        assert!(matches!(&read[..], [Err(SourceError::Lost(_))]), "{bytes:?}: {read:?}");
    }
}
