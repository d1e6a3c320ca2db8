//! What we say to a broker besides acknowledgements.

use meterlake_ingest::mqtt::WireSource;
use meterlake_ingest::mqtt::source::{MqttSender, MqttSource, Quality, SourceEvent};
use tokio::time::timeout;

use crate::fake_broker::{Connection, FakeBroker, Packet};
use crate::harness::{PATIENCE, broker};

async fn connected(fake: &FakeBroker) -> (WireSource, <WireSource as MqttSource>::Sender, Connection) {
    let settings = broker(fake.port);
    let (source, connection) = tokio::join!(WireSource::connect(&settings), async {
        let mut connection = fake.accept().await;
        connection.connack(false, 0).await;
        connection
    });
    let (source, sender, _) = source.unwrap();
    (source, sender, connection)
}

#[tokio::test]
async fn a_message_of_ours_is_answered_or_refused_by_name() {
    let fake = FakeBroker::start().await;
    let (mut source, sender, mut connection) = connected(&fake).await;
    sender.publish("a/b", b"x".to_vec(), Quality::AtMostOnce).await.unwrap();
    assert_eq!(connection.packet().await, Some(Packet { head: 0x30, body: b"\0\x03a/b\0x".to_vec() }));
    for (id, answer, expected) in
        [(16, &[][..], Ok(())), (17, &[0x10, 0][..], Ok(())), (18, &[0x87, 0][..], Err("not authorized".to_owned()))]
    {
        sender.publish("a/b", b"y".to_vec(), Quality::AtLeastOnce).await.unwrap();
        assert_eq!(
            connection.packet().await,
            Some(Packet { head: 0x32, body: [b"\0\x03a/b\0", &[id][..], b"\0y"].concat() })
        );
        let mut puback = vec![0x40, u8::try_from(2 + answer.len()).unwrap(), 0, id];
        puback.extend(answer);
        connection.send(&puback).await;
        assert_eq!(source.next().await, Ok(SourceEvent::Published(expected)));
    }
}

#[tokio::test]
async fn a_publisher_that_waits_for_answers_ends_with_its_connection() {
    let fake = FakeBroker::start().await;
    let (mut source, sender, connection) = connected(&fake).await;
    let waiting = tokio::spawn(async move {
        let mut sent = 0;
        while sender.publish("a", Vec::new(), Quality::AtLeastOnce).await.is_ok() {
            sent += 1;
        }
        sent
    });
    // Nobody answers, so no more than the window goes out.
    drop(connection);
    assert!(source.next().await.is_err());
    drop(source);
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap() <= 100);
}
