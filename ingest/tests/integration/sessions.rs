//! What else passes between the collector and a scripted broker: who owns the session, what the broker says of itself,
//! what is old, and what is too much.

use std::sync::atomic::Ordering;

use meterlake_config::{DeviceRate, MqttBroker, MqttProtocol, Takeover};
use meterlake_model::{DeadReason, ReadingFlags};

use crate::fake_broker::{Connection, FakeBroker, NOT_AUTHORIZED, Subscribe};
use crate::harness::{PATIENCE, TOPIC, collect, count, in_both_versions, reading, registers, speaking};

const DROPPED: &str = "$SYS/broker/publish/messages/dropped";

in_both_versions! {
    a_lost_session_is_counted_and_subscribed_again,
    the_broker_is_asked_what_it_dropped_and_its_word_is_no_reading,
    a_broker_that_refuses_to_say_what_it_dropped_is_not_asked_again,
    a_broker_that_closes_instead_of_refusing_is_not_asked_again,
    a_retained_message_is_flagged_and_no_sign_of_life,
    what_a_device_sends_beyond_its_rate_becomes_dead_letters_and_is_acknowledged,
    of_a_message_beyond_all_limits_the_beginning_is_kept,
}

#[tokio::test]
async fn the_session_of_3_1_1_is_persistent_too() {
    let fake = FakeBroker::speaking(MqttProtocol::V311).await;
    let broker = MqttBroker { username: Some("u".to_owned()), ..speaking(MqttProtocol::V311, fake.port) };
    let collector = collect(broker);
    let mut connection = fake.accept().await;
    // A user name, and no clean session; a keep-alive of 20 s.
    assert_eq!(connection.connect, b"\x00\x04MQTT\x04\x80\x00\x14\x00\x0emeterlake-test\x00\x01u");
    connection.connack(false, 0).await;
    let subscribe = connection.subscribe().await;
    assert_eq!(subscribe.filters, [(TOPIC.to_owned(), 1)]);
    connection.suback(&subscribe, &[1]).await;
    collector.stopped().await.unwrap();
}

async fn a_lost_session_is_counted_and_subscribed_again(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    drop(fake.welcome(false).await);
    drop(fake.welcome(true).await);
    let mut connection = fake.welcome(false).await;
    connection.publish(1, "e1", &reading(1)).await;
    assert_eq!(registers(&collector.next().await), [1]);
    assert_eq!((count(&collector.stats.sessions_lost), count(&collector.stats.reconnects)), (1, 2));
    collector.handle.abort();
}

/// Why a lost session must be looked for: the library takes it in silence. Once this fails, it has been mended.
#[tokio::test]
async fn the_library_takes_a_lost_session_for_a_living_one() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let fake = FakeBroker::speaking(MqttProtocol::V311).await;
    let mut options = MqttOptions::new("naive", "127.0.0.1", fake.port);
    options.set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("a", QoS::AtLeastOnce).await.unwrap();
    let naive = tokio::spawn(async move {
        let mut welcomes = 0;
        while welcomes < 2 {
            if let Ok(Event::Incoming(Packet::ConnAck(_))) = events.poll().await {
                welcomes += 1;
            }
        }
        client.publish("marker", QoS::AtMostOnce, false, "x").await.unwrap();
        while events.poll().await.is_ok() {}
    });
    drop(fake.welcome(false).await);
    let mut connection = fake.accept().await;
    connection.connack(false, 0).await;
    let first = connection.packet().await.unwrap();
    assert_eq!(first.head, 0x30, "its own message and no SUBSCRIBE: nothing will ever come again");
    naive.abort();
}

#[tokio::test]
async fn a_session_that_another_client_took_is_left_to_it() {
    for (takeover, standing_by) in [(Takeover::Yield, true), (Takeover::Fight, false)] {
        let fake = FakeBroker::start().await;
        let mut collector = collect(MqttBroker { takeover, ..speaking(MqttProtocol::V5, fake.port) });
        let mut connection = fake.welcome(false).await;
        connection.publish(1, "e1", &reading(1)).await;
        let held = collector.next().await;
        connection.send(&[0xe0, 1, 0x8e]).await;
        drop(connection);
        let judged = async {
            while count(&collector.stats.taken_over) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, judged).await.unwrap();
        if !standing_by {
            let _connection = fake.welcome(true).await;
            assert!(!collector.stats.standing_by.load(Ordering::Relaxed));
            collector.handle.abort();
            continue;
        }
        assert_eq!(count(&collector.stats.unacknowledged), 0);
        held.ack.durable();
        assert_eq!(count(&collector.stats.stale_acknowledgements), 1, "its successor got the message too");
        assert!(collector.stats.standing_by.load(Ordering::Relaxed));
        assert!(!collector.stats.connected.load(Ordering::Relaxed));
        collector.stopped().await.unwrap();
    }
}

async fn asked(connection: &mut Connection) -> Subscribe {
    connection.connack(true, 0).await;
    let readings = connection.subscribe().await;
    connection.suback(&readings, &[1]).await;
    let asked = connection.subscribe().await;
    // QoS 0, and the retained count at once.
    assert_eq!(asked.filters, [(DROPPED.to_owned(), 0)]);
    assert_ne!(asked.id, readings.id);
    asked
}

async fn the_broker_is_asked_what_it_dropped_and_its_word_is_no_reading(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(MqttBroker { broker_stats: true, ..speaking(protocol, fake.port) });
    let mut connection = fake.accept().await;
    let question = asked(&mut connection).await;
    connection.suback(&question, &[0]).await;
    connection.publish_on(DROPPED, 0, true, b"41").await;
    connection.publish_on(DROPPED, 7, false, b"43").await;
    connection.publish(8, "e1", &reading(1)).await;
    let delivery = collector.next().await;
    assert_eq!((registers(&delivery), delivery.batch.dead_letters.len()), (vec![1], 0));
    assert_eq!(count(&collector.stats.broker_dropped), 43);
    assert_eq!((count(&collector.stats.messages), count(&collector.stats.retained)), (1, 0));
    delivery.ack.durable();
    assert_eq!(connection.pubacks(2).await, [7, 8], "at QoS 1 it is acknowledged in its turn");
    collector.stopped().await.unwrap();
}

async fn a_broker_that_refuses_to_say_what_it_dropped_is_not_asked_again(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(MqttBroker { broker_stats: true, ..speaking(protocol, fake.port) });
    let mut connection = fake.accept().await;
    let question = asked(&mut connection).await;
    connection.suback(&question, &[NOT_AUTHORIZED]).await;
    connection.publish(8, "e1", &reading(1)).await;
    collector.next().await.ack.durable();
    assert_eq!(connection.pubacks(1).await, [8]);
    drop(connection);
    let mut connection = fake.welcome(true).await;
    connection.publish(9, "e1", &reading(1)).await;
    collector.next().await.ack.durable();
    assert_eq!(connection.pubacks(1).await, [9], "and no second question");
    collector.stopped().await.unwrap();
}

async fn a_broker_that_closes_instead_of_refusing_is_not_asked_again(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(MqttBroker { broker_stats: true, ..speaking(protocol, fake.port) });
    let mut connection = fake.accept().await;
    asked(&mut connection).await;
    drop(connection);
    let mut connection = fake.welcome(true).await;
    connection.publish(9, "e1", &reading(1)).await;
    collector.next().await.ack.durable();
    assert_eq!(connection.pubacks(1).await, [9], "and no second question");
    collector.stopped().await.unwrap();
}

async fn a_retained_message_is_flagged_and_no_sign_of_life(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    let topic = "meterlake/v1/e1/readings";
    connection.publish_on(topic, 1, true, reading(1).as_bytes()).await;
    let old = collector.next().await;
    assert!(old.batch.electricity.headers()[0].flags.contains(ReadingFlags::RETAINED), "{:?}", old.batch);
    assert_eq!((count(&collector.stats.retained), count(&collector.stats.last_message_at_s)), (1, 0));
    connection.publish_on(topic, 2, false, reading(2).as_bytes()).await;
    let new = collector.next().await;
    assert!(!new.batch.electricity.headers()[0].flags.contains(ReadingFlags::RETAINED));
    assert_eq!(count(&collector.stats.retained), 1);
    assert!(count(&collector.stats.last_message_at_s) > 0);
    collector.handle.abort();
}

async fn what_a_device_sends_beyond_its_rate_becomes_dead_letters_and_is_acknowledged(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let device_rate = DeviceRate { messages_per_s: 1, burst: 3 };
    let mut collector = collect(MqttBroker { device_rate, ..speaking(protocol, fake.port) });
    let mut connection = fake.welcome(false).await;
    let mut burst: Vec<u8> = Vec::new();
    for id in 1..=100_u16 {
        burst.extend(connection.message(id, "e1", reading(u32::from(id)).as_bytes()));
    }
    burst.extend(connection.message(101, "w1", b"{\"ts\":\"2024-05-01T00:00:00Z\",\"volume_m3\":1}"));
    connection.send(&burst).await;
    let (mut taken, mut water, mut dead) = (Vec::new(), 0, Vec::new());
    while taken.len() + water + dead.len() < 101 {
        let delivery = collector.next().await;
        taken.extend(registers(&delivery));
        water += delivery.batch.water.len();
        dead.extend(delivery.batch.dead_letters);
        delivery.ack.durable();
    }
    assert_eq!((&taken[..3], water), (&[1, 2, 3][..], 1), "another device is not held up");
    // A test that takes long gives the device another message or two.
    assert!(taken.len() < 50 && dead.iter().all(|letter| letter.reason == DeadReason::Rate));
    assert_eq!(dead[0].detail, "`e1` sends more than 3 messages at once and 1 a second");
    assert_eq!(dead[0].message.payload, reading(4).into_bytes(), "kept whole");
    assert_eq!(connection.pubacks(101).await, (1..=101).collect::<Vec<_>>());
    collector.stopped().await.unwrap();
}

async fn of_a_message_beyond_all_limits_the_beginning_is_kept(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = collect(speaking(protocol, fake.port));
    let mut connection = fake.welcome(false).await;
    let huge = connection.message(1, "e1", &vec![b'x'; 9_000_000]);
    let small = connection.message(2, "e1", reading(5).as_bytes());
    let (_, delivery) = tokio::join!(connection.send(&huge), collector.next());
    let dead = &delivery.batch.dead_letters[0];
    assert_eq!((dead.reason, dead.message.payload.len()), (DeadReason::TooLarge, 4 << 20));
    assert!(dead.detail.contains("has 9000000 bytes") && dead.detail.contains("first 4194304"), "{}", dead.detail);
    delivery.ack.durable();
    connection.send(&small).await;
    let next = collector.next().await;
    assert_eq!(registers(&next), [5]);
    next.ack.durable();
    assert_eq!(connection.pubacks(2).await, [1, 2]);
    collector.stopped().await.unwrap();
}

/// Why messages are never refused for their size. Once this fails, the library has been mended.
#[tokio::test]
async fn the_library_falls_into_a_loop_over_a_large_message() {
    use rumqttc::v5::{AsyncClient, MqttOptions};
    let fake = FakeBroker::start().await;
    let mut options = MqttOptions::new("naive", "127.0.0.1", fake.port);
    options.set_clean_start(false);
    let (_client, mut events) = AsyncClient::new(options, 10);
    let naive = tokio::spawn(async move {
        loop {
            let _ = events.poll().await;
        }
    });
    for _ in 0..3 {
        let mut connection = fake.accept().await;
        connection.connack(true, 0).await;
        let message = connection.message(1, "e1", &[b'x'; 20_000]);
        connection.send(&message).await;
        assert!(connection.pubacks_to_the_end().await.is_empty(), "never acknowledged, so it comes again");
    }
    naive.abort();
}
