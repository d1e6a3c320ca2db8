//! The collector against a scripted broker: each guard has a test that fails without it.

use meterlake_config::MqttProtocol;
use meterlake_ingest::IngestError;
use meterlake_model::DeadReason;
use rumqttc::v5::mqttbytes::v5::Packet as Wire;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};

use crate::fake_broker::{FakeBroker, NOT_AUTHORIZED};
use crate::harness::{PATIENCE, TOPIC, broker, collect, count, in_both_versions, reading, registers, speaking};

/// Not a packet of MQTT: reading it ends the connection at once, with whatever was read before it.
const GARBAGE: [u8; 2] = [0xf0, 0x7f];

in_both_versions! {
    rule_1_acknowledgements_wait_for_the_receiver_and_go_out_in_order,
    what_a_dead_connection_left_in_the_buffer_never_acknowledges_another_message,
    what_becomes_durable_after_its_connection_died_is_not_acknowledged_on_the_next,
    an_unacknowledged_message_comes_again_and_is_acknowledged_then,
    rule_11_a_refused_topic_ends_the_collector_and_is_named,
    less_than_at_least_once_is_not_taken,
    a_refused_password_ends_the_collector_at_its_start_and_is_retried_later,
    rule_10_an_oversized_message_becomes_a_dead_letter_and_the_connection_lives,
    rule_4_malformed_messages_never_stall_the_good,
    messages_that_wait_share_a_delivery,
    qos_0_is_taken_and_has_nothing_to_acknowledge,
    a_stop_waits_for_what_was_received_acknowledges_it_and_takes_leave,
    a_receiver_that_is_gone_ends_the_collector,
}

#[tokio::test]
async fn the_session_is_persistent_and_asks_for_what_the_guards_need() {
    let fake = FakeBroker::start().await;
    let collector = collect(broker(fake.port));
    let mut connection = fake.accept().await;
    let connect = connection.connect.clone();
    // Name and version of the protocol, flags (no clean start), keep-alive, properties.
    assert_eq!(&connect[..7], b"\x00\x04MQTT\x05");
    assert_eq!(connect[7] & 0b10, 0, "clean start");
    assert_eq!(&connect[8..10], &20_u16.to_be_bytes());
    let properties = &connect[11..11 + usize::from(connect[10])];
    let has = |wanted: &[u8]| properties.windows(wanted.len()).any(|found| found == wanted);
    assert!(has(&[0x11, 0, 0, 0x0e, 0x10]), "session expiry of 3600 s");
    assert!(has(&[0x21, 0, 100]), "receive maximum");
    assert!(has(&[0x22, 0, 0]), "no topic alias");
    assert!(has(&[0x27, 0x10, 0, 0, 4]), "no packet is too large to be sent to us");
    let client = &connect[11 + properties.len()..];
    assert_eq!(&client[2..], b"meterlake-test");
    connection.connack(false, 0).await;
    let subscribe = connection.subscribe().await;
    // QoS 1, no retained messages at all.
    assert_eq!(subscribe.filters, [(TOPIC.to_owned(), 0b10_0001)]);
    connection.suback(&subscribe, &[1]).await;
    collector.stopped().await.unwrap();
}

async fn rule_1_acknowledgements_wait_for_the_receiver_and_go_out_in_order(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    let mut deliveries = Vec::new();
    for id in [11, 12, 13] {
        connection.publish(id, "e1", &reading(u32::from(id))).await;
        deliveries.push(collector.next().await);
    }
    assert_eq!(count(&collector.stats.unacknowledged), 3);
    for delivery in deliveries.into_iter().rev() {
        delivery.ack.durable();
    }
    assert_eq!(connection.pubacks(3).await, [11, 12, 13]);
    collector.stopped().await.unwrap();
}

async fn what_a_dead_connection_left_in_the_buffer_never_acknowledges_another_message(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    let mut burst: Vec<u8> =
        (1..=5).flat_map(|id| connection.message(id, "e1", reading(u32::from(id)).as_bytes())).collect();
    burst.extend(GARBAGE);
    connection.send(&burst).await;
    drop(connection);

    let mut connection = fake.welcome(false).await;
    connection.publish(1, "e1", &reading(1000)).await;
    let mut fresh = collector.next().await;
    while registers(&fresh) != [1000] {
        fresh.ack.durable();
        fresh = collector.next().await;
    }
    connection.publish(2, "e1", &reading(1001)).await;
    let second = collector.next().await;
    fresh.ack.durable();
    second.ack.durable();
    assert_eq!(connection.pubacks(2).await, [1, 2]);
    assert_eq!(count(&collector.stats.sessions_lost), 1);
    collector.stopped().await.unwrap();
    assert!(connection.pubacks_to_the_end().await.is_empty());
}

/// Why the library's own event loop is not used. Once this fails, it has been mended.
#[tokio::test]
async fn one_event_loop_over_two_connections_acknowledges_messages_that_it_never_saw() {
    let fake = FakeBroker::start().await;
    let mut options = MqttOptions::new("naive", "127.0.0.1", fake.port);
    options.set_manual_acks(true).set_clean_start(false);
    let (client, mut events) = AsyncClient::new(options, 100);
    let naive = tokio::spawn(async move {
        loop {
            if let Ok(Event::Incoming(Wire::Publish(publish))) = events.poll().await {
                client.try_ack(&publish).unwrap();
            }
        }
    });
    let mut connection = fake.accept().await;
    let mut burst = vec![0x20, 3, 0, 0, 0];
    burst.extend((1..=5).flat_map(|id| connection.message(id, "e1", b"old")));
    burst.extend(GARBAGE);
    connection.send(&burst).await;
    drop(connection);
    let mut connection = fake.accept().await;
    connection.connack(false, 0).await;
    // Nothing was sent on this connection.
    assert_eq!(connection.pubacks(5).await, [1, 2, 3, 4, 5]);
    naive.abort();
}

async fn what_becomes_durable_after_its_connection_died_is_not_acknowledged_on_the_next(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    connection.publish(1, "e1", &reading(1)).await;
    let stale = collector.next().await;
    drop(connection);

    let mut connection = fake.welcome(true).await;
    connection.publish(1, "e1", &reading(2)).await;
    let fresh = collector.next().await;
    stale.ack.durable();
    connection.publish(2, "e1", &reading(3)).await;
    let last = collector.next().await;
    assert_eq!(registers(&last), [3]);
    // Out of order, so that a stale acknowledgement of packet 1 would be told apart from the true one.
    last.ack.durable();
    assert_eq!(count(&collector.stats.unacknowledged), 2);
    assert_eq!(count(&collector.stats.stale_acknowledgements), 1);
    drop(fresh);
    collector.handle.abort();
    assert!(connection.pubacks_to_the_end().await.is_empty());
}

async fn an_unacknowledged_message_comes_again_and_is_acknowledged_then(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    connection.publish(9, "e1", &reading(1)).await;
    drop(collector.next().await);
    drop(connection);
    let mut connection = fake.welcome(true).await;
    connection.publish(9, "e1", &reading(1)).await;
    let again = collector.next().await;
    assert_eq!(registers(&again), [1]);
    again.ack.durable();
    assert_eq!(connection.pubacks(1).await, [9]);
    assert_eq!(count(&collector.stats.sessions_lost), 0);
    assert_eq!(count(&collector.stats.reconnects), 1);
    collector.stopped().await.unwrap();
}

async fn rule_11_a_refused_topic_ends_the_collector_and_is_named(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut two = speaking(protocol, fake.port);
    two.topics.push("secret/#".to_owned());
    let collector = collect(two);
    let mut connection = fake.accept().await;
    connection.connack(false, 0).await;
    let subscribe = connection.subscribe().await;
    connection.suback(&subscribe, &[1, NOT_AUTHORIZED]).await;
    assert_eq!(
        collector.ended().await,
        Err(IngestError::SubscriptionRefused {
            broker: "test-broker".to_owned(),
            topic: "secret/#".to_owned(),
            reason: if protocol == MqttProtocol::V5 { "not authorized" } else { "failure" }.to_owned()
        })
    );
}

async fn less_than_at_least_once_is_not_taken(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.accept().await;
    connection.connack(false, 0).await;
    let subscribe = connection.subscribe().await;
    connection.suback(&subscribe, &[0]).await;
    let ended = collector.ended().await;
    assert!(matches!(&ended, Err(IngestError::LowerQos { topic, granted: 0, .. }) if topic == TOPIC), "{ended:?}");
}

async fn a_refused_password_ends_the_collector_at_its_start_and_is_retried_later(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let collector = collect(speaking(protocol, fake.port));
    fake.accept().await.connack(false, NOT_AUTHORIZED).await;
    let reason = "not authorized".to_owned();
    assert_eq!(
        collector.ended().await,
        Err(IngestError::ConnectionRefused { broker: "test-broker".to_owned(), reason })
    );

    let collector = collect(speaking(protocol, fake.port));
    drop(fake.welcome(false).await);
    fake.accept().await.connack(false, NOT_AUTHORIZED).await;
    let _connection = fake.welcome(true).await;
    collector.stopped().await.unwrap();
}

async fn rule_10_an_oversized_message_becomes_a_dead_letter_and_the_connection_lives(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    connection.send(&connection.message(1, "e1", &vec![b'x'; 1_000_000])).await;
    let large = collector.next().await;
    let dead = &large.batch.dead_letters[0];
    assert_eq!(dead.reason, DeadReason::TooLarge);
    assert_eq!(dead.detail, "the payload has 1000000 bytes, at most 262144 are read");
    assert_eq!(dead.message.payload.len(), 1_000_000, "kept whole");
    large.ack.durable();
    connection.publish(2, "e1", &reading(5)).await;
    let next = collector.next().await;
    assert_eq!(registers(&next), [5]);
    next.ack.durable();
    assert_eq!(connection.pubacks(2).await, [1, 2]);
    assert_eq!(count(&collector.stats.reconnects), 0);
    collector.stopped().await.unwrap();
}

async fn rule_4_malformed_messages_never_stall_the_good(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    let mut burst = Vec::new();
    for id in 1..=50_u16 {
        let payload = if id % 5 == 0 { "{\"ts\":".to_owned() } else { reading(u32::from(id)) };
        burst.extend(connection.message(id, "e1", payload.as_bytes()));
    }
    connection.send(&burst).await;
    let (mut good, mut dead) = (Vec::new(), 0);
    while good.len() + dead < 50 {
        let delivery = collector.next().await;
        good.extend(registers(&delivery));
        dead += delivery.batch.dead_letters.len();
        delivery.ack.durable();
    }
    assert_eq!(good, (1..=50).filter(|id| id % 5 != 0).collect::<Vec<_>>());
    assert_eq!(connection.pubacks(50).await, (1..=50).collect::<Vec<_>>());
    assert_eq!(count(&collector.stats.dead_letters), 10);
    collector.stopped().await.unwrap();
}

async fn messages_that_wait_share_a_delivery(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    // The receiver takes nothing meanwhile: its channel holds four deliveries, the rest waits.
    let burst: Vec<u8> =
        (1..=100).flat_map(|id| connection.message(id, "e1", reading(u32::from(id)).as_bytes())).collect();
    connection.send(&burst).await;
    let mut seen = Vec::new();
    let mut deliveries = 0;
    while seen.len() < 100 {
        let delivery = collector.next().await;
        seen.extend(registers(&delivery));
        delivery.ack.durable();
        deliveries += 1;
    }
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
    assert!(deliveries < 100, "{deliveries} deliveries");
    assert_eq!(connection.pubacks(100).await, (1..=100).collect::<Vec<_>>());
    collector.stopped().await.unwrap();
}

async fn qos_0_is_taken_and_has_nothing_to_acknowledge(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    connection.publish(0, "e1", &reading(1)).await;
    let delivery = collector.next().await;
    assert_eq!(registers(&delivery), [1]);
    delivery.ack.durable();
    collector.stopped().await.unwrap();
    assert!(connection.pubacks_to_the_end().await.is_empty());
}

async fn a_stop_waits_for_what_was_received_acknowledges_it_and_takes_leave(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    connection.publish(1, "e1", &reading(1)).await;
    let delivery = collector.next().await;
    collector.stop.cancel();
    tokio::task::yield_now().await;
    assert!(!collector.handle.is_finished());
    delivery.ack.durable();
    let packet = connection.packet().await.unwrap();
    assert_eq!((packet.head, &packet.body[..2]), (crate::fake_broker::PUBACK, &[0, 1][..]));
    assert_eq!(connection.packet().await.unwrap().head, crate::fake_broker::DISCONNECT);
    drop(connection);
    collector.ended().await.unwrap();
}

async fn a_receiver_that_is_gone_ends_the_collector(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    drop(collector.deliveries);
    connection.publish(1, "e1", &reading(1)).await;
    let ended = tokio::time::timeout(PATIENCE, collector.handle).await.unwrap().unwrap();
    assert_eq!(ended, Err(IngestError::ReceiverGone { source_name: "test-broker".to_owned() }));
    assert!(connection.pubacks_to_the_end().await.is_empty());
}
