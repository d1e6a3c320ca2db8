//! The collector against a real broker, where `METERLAKE_PEERS=1` says that one is installed.

use std::collections::BTreeMap;
use std::time::Duration;

use meterlake_config::{MqttBroker, MqttProtocol, Takeover};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet as Wire;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker_process::Mosquitto;
use crate::harness::{Collector, PATIENCE, collect, count, in_both_versions, speaking};

in_both_versions! {
    flavor = "multi_thread":
    cut_connections_lose_nothing,
    killed_collectors_lose_nothing,
    a_session_that_a_second_collector_takes_over_loses_nothing,
    a_shard_is_taken_over_while_the_others_go_on,
}

const MESSAGES: u32 = 5_000;
const MALFORMED_EVERY: u32 = 100;

/// The network between collector and broker, which can be cut.
struct Network {
    port: u16,
    cut: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Network {
    async fn to(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, cuts) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", broker)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, cut, task }
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

fn payload(number: u32) -> String {
    if number.is_multiple_of(MALFORMED_EVERY) {
        return format!("{{\"readings\":[{{\"ts\":\"2024-05-01T00:00:00Z\",\"energy_import_kwh\":{number}");
    }
    format!("{{\"ts\":\"2024-05-01T00:00:00Z\",\"energy_import_kwh\":{number}}}")
}

/// Publishes all messages at QoS 1 and returns once the broker has acknowledged each.
async fn publish_all(port: u16) {
    publish_to(port, &["meterlake/v1/e1/readings"]).await;
}

/// As [`publish_all`], to each of the topics.
async fn publish_to(port: u16, topics: &'static [&'static str]) {
    let mut options = MqttOptions::new("meters", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 100);
    let publisher = tokio::spawn(async move {
        for number in 1..=MESSAGES {
            for topic in topics {
                client.publish(*topic, QoS::AtLeastOnce, false, payload(number)).await.unwrap();
            }
        }
        client
    });
    let mut acknowledged = 0;
    while acknowledged < MESSAGES * u32::try_from(topics.len()).unwrap() {
        if let Event::Incoming(Wire::PubAck(_)) = events.poll().await.expect("the broker lives") {
            acknowledged += 1;
        }
    }
    drop(publisher.await.unwrap());
}

/// How often each message arrived: readings by register, malformed ones by the number in their bytes.
#[derive(Default)]
struct Arrived(BTreeMap<u32, u32>);

impl Arrived {
    fn take(&mut self, delivery: &meterlake_ingest::Delivery) {
        let channel = meterlake_model::Channel::by_name("energy_import_kwh").unwrap();
        let rows = &delivery.batch.electricity;
        for row in 0..rows.len() {
            let register = u32::try_from(rows.value(row, channel).unwrap() / 1000).unwrap();
            *self.0.entry(register).or_default() += 1;
        }
        for dead in &delivery.batch.dead_letters {
            let text = String::from_utf8(dead.message.payload.clone()).unwrap();
            let number = text.rsplit(':').next().unwrap().parse().unwrap();
            assert_eq!(dead.message.payload, payload(number).into_bytes(), "kept whole");
            *self.0.entry(number).or_default() += 1;
        }
    }

    fn complete(&self) -> bool {
        self.0.len() == MESSAGES as usize
    }

    fn check(&self) {
        assert!(self.0.keys().copied().eq(1..=MESSAGES), "lost or invented");
    }
}

async fn cut_connections_lose_nothing(protocol: MqttProtocol) {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let network = Network::to(mosquitto.port).await;
    // Cuts look like takeovers where the broker cannot say what they are.
    let mut collector = collect(MqttBroker { takeover: Takeover::Fight, ..speaking(protocol, network.port) });
    collector.connected().await;
    let publisher = tokio::spawn(publish_all(mosquitto.port));
    let mut arrived = Arrived::default();
    let mut cuts = 0;
    while !arrived.complete() {
        let delivery = collector.next().await;
        arrived.take(&delivery);
        // Before the acknowledgement, so that something is always in flight.
        if arrived.0.len() > (cuts + 1) * 240 && cuts < 20 {
            network.cut();
            cuts += 1;
        }
        delivery.ack.durable();
    }
    publisher.await.unwrap();
    arrived.check();
    assert_eq!(cuts, 20);
    assert!(count(&collector.stats.reconnects) > 0);
    assert_eq!(count(&collector.stats.sessions_lost), 0);
    collector.stopped().await.unwrap();
    network.task.abort();
}

async fn killed_collectors_lose_nothing(protocol: MqttProtocol) {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut collector = collect(speaking(protocol, mosquitto.port));
    collector.connected().await;
    let publisher = tokio::spawn(publish_all(mosquitto.port));
    let mut arrived = Arrived::default();
    let mut kills = 0;
    while !arrived.complete() {
        let delivery = collector.next().await;
        if delivery.batch.reading_count() > 0 && arrived.0.len() > (kills + 1) * 800 && kills < 5 {
            // Killed with this delivery in hand: it was never durable, so it is not counted.
            collector.handle.abort();
            kills += 1;
            drop(delivery);
            collector = collect(speaking(protocol, mosquitto.port));
            continue;
        }
        arrived.take(&delivery);
        delivery.ack.durable();
    }
    publisher.await.unwrap();
    arrived.check();
    assert_eq!(kills, 5);
    // Everything was acknowledged: the next one finds nothing.
    collector.stopped().await.unwrap();
    let mut again = collect(speaking(protocol, mosquitto.port));
    again.connected().await;
    let stats = std::sync::Arc::clone(&again.stats);
    again.stopped().await.unwrap();
    assert_eq!(count(&stats.messages), 0);
}

/// Whichever of two collectors has something.
async fn next_of(a: &mut Collector, b: &mut Collector) -> meterlake_ingest::Delivery {
    let either = async {
        tokio::select! {
            Some(delivery) = a.deliveries.recv() => delivery,
            Some(delivery) = b.deliveries.recv() => delivery,
        }
    };
    tokio::time::timeout(PATIENCE, either).await.expect("a delivery in time")
}

/// Which of the two ends with the session is the broker's to say. MQTT 3.1.1 has no word for it, and mosquitto 2.0.11 closes
/// without one in MQTT 5, too: the two take turns. Brokers that say it are in `sessions`.
async fn a_session_that_a_second_collector_takes_over_loses_nothing(protocol: MqttProtocol) {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut first = collect(speaking(protocol, mosquitto.port));
    first.connected().await;
    let publisher = tokio::spawn(publish_all(mosquitto.port));
    let mut arrived = Arrived::default();
    while arrived.0.len() < 1000 {
        let delivery = first.next().await;
        arrived.take(&delivery);
        delivery.ack.durable();
    }
    // While the first is alive, and has messages in hand.
    let held = first.next().await;
    arrived.take(&held);
    let mut second = collect(speaking(protocol, mosquitto.port));
    let delivery = second.next().await;
    arrived.take(&delivery);
    delivery.ack.durable();
    held.ack.durable();
    while !arrived.complete() {
        let delivery = next_of(&mut first, &mut second).await;
        arrived.take(&delivery);
        delivery.ack.durable();
    }
    publisher.await.unwrap();
    arrived.check();
    for collector in [first, second] {
        assert_eq!(count(&collector.stats.sessions_lost), 0);
        collector.stopped().await.unwrap();
    }
}

async fn a_shard_is_taken_over_while_the_others_go_on(protocol: MqttProtocol) {
    const TOPICS: [&str; 2] = ["meterlake/v1/e1/readings", "meterlake/v1/e2/readings"];
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let shard = |at: usize| {
        let client_id = format!("shard-{at}");
        collect(MqttBroker { client_id, topics: vec![TOPICS[at].to_owned()], ..speaking(protocol, mosquitto.port) })
    };
    let (mut one, mut two) = (shard(0), shard(1));
    one.connected().await;
    two.connected().await;
    let publisher = tokio::spawn(publish_to(mosquitto.port, &TOPICS));
    let other = tokio::spawn(async move {
        let mut arrived = Arrived::default();
        while !arrived.complete() {
            let delivery = two.next().await;
            arrived.take(&delivery);
            delivery.ack.durable();
        }
        arrived.check();
        assert_eq!((count(&two.stats.reconnects), count(&two.stats.taken_over)), (0, 0));
        two.stopped().await.unwrap();
    });
    let mut arrived = Arrived::default();
    while arrived.0.len() < 1000 {
        let delivery = one.next().await;
        arrived.take(&delivery);
        delivery.ack.durable();
    }
    one.handle.abort();
    let mut successor = shard(0);
    while !arrived.complete() {
        let delivery = successor.next().await;
        arrived.take(&delivery);
        delivery.ack.durable();
    }
    publisher.await.unwrap();
    arrived.check();
    successor.stopped().await.unwrap();
    other.await.unwrap();
}

#[tokio::test]
async fn what_the_broker_drops_is_told() {
    let Some(mosquitto) = Mosquitto::open("sys_interval 1\nmax_queued_messages 10\n").await else { return };
    let mut collector = collect(MqttBroker { broker_stats: true, ..speaking(MqttProtocol::V5, mosquitto.port) });
    collector.connected().await;
    // A session whose owner is away, and for which the broker keeps no more than ten messages.
    let mut options = rumqttc::MqttOptions::new("away", "127.0.0.1", mosquitto.port);
    options.set_clean_session(false);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
    client.subscribe("nowhere", rumqttc::QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) {}
    client.disconnect().await.unwrap();
    while events.poll().await.is_ok() {}
    publish_to(mosquitto.port, &["nowhere"]).await;
    let told = async {
        while count(&collector.stats.broker_dropped) < u64::from(MESSAGES) - 100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the broker tells");
    assert_eq!(count(&collector.stats.messages), 0, "its word is no message");
    collector.stopped().await.unwrap();
}
