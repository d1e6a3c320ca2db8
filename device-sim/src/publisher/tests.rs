use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::broker::{BrokerOptions, EmbeddedBroker};
use crate::fault_proxy::FaultProxy;
use crate::history::History;
use crate::ledger::LedgerContents;
use crate::message::MessageForm;
use crate::plan::FleetPlan;
use crate::scenario::Scenario;
use crate::simulation::Simulation;
use meterlake_model::Timestamp;

mod mosquitto;

/// So long a test may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn messages(meters: usize, hours: i64) -> Vec<Message> {
    history(meters, hours, MessageForm::Singles)
}

fn history(meters: usize, hours: i64, form: MessageForm) -> Vec<Message> {
    let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(5, from, from.plus_seconds(hours * 3600));
    plan.electricity_mqtt = meters;
    let simulation = Arc::new(Simulation::new(plan, Scenario::none()).unwrap());
    History::new(simulation, form).collect()
}

/// What a subscriber has heard, by topic and payload.
type Heard = BTreeMap<(String, Vec<u8>), usize>;

/// A subscriber that tells each message that it hears, in a task of its own.
async fn subscriber(broker: SocketAddr) -> (mpsc::UnboundedReceiver<(String, Vec<u8>)>, JoinHandle<()>) {
    let (heard, hear) = mpsc::unbounded_channel();
    let mut options = MqttOptions::new("subscriber", broker.ip().to_string(), broker.port());
    options.set_clean_start(true).set_max_packet_size(Some(1 << 20));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.try_subscribe("meterlake/v1/+/readings", QoS::AtLeastOnce).unwrap();
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let _client = client;
        let mut ready = Some(ready);
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.take().map(|r| r.send(()))),
                Ok(Event::Incoming(Packet::Publish(p))) => {
                    let topic = String::from_utf8(p.topic.to_vec()).unwrap();
                    if heard.send((topic, p.payload.to_vec())).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => panic!("the subscriber stays connected: {error}"),
            }
        }
    });
    tokio::time::timeout(PATIENCE, subscribed).await.unwrap().unwrap();
    (hear, task)
}

/// Takes from the subscriber until every one of `expected` has come.
async fn all_of(expected: &[Message], hear: &mut mpsc::UnboundedReceiver<(String, Vec<u8>)>) -> Heard {
    let mut heard = Heard::new();
    let hearing = async {
        while heard.len() < expected.len() {
            *heard.entry(hear.recv().await.unwrap()).or_default() += 1;
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.unwrap();
    for message in expected {
        assert!(heard.contains_key(&(message.topic.to_string(), message.payload.to_vec())));
    }
    heard
}

fn publisher(address: SocketAddr) -> Publisher {
    Publisher::new(PublisherOptions::new(&address.ip().to_string(), address.port(), "publisher"))
}

#[tokio::test]
async fn every_message_reaches_the_embedded_broker_and_the_ledger() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap();
    let (mut hear, _task) = subscriber(broker.address()).await;
    let messages = messages(10, 24);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.tsv");
    let mut publisher = publisher(broker.address());
    publisher.ledger = Some(Ledger::create(&path).unwrap());
    let stats = Arc::clone(&publisher.stats);
    let done = publisher.publish(stream::iter(messages.clone())).await.unwrap();
    assert_eq!((done.messages, done.acknowledged, done.again, done.reconnects), (960, 960, 0, 0));
    assert_eq!(stats.progress(), done);
    let heard = all_of(&messages, &mut hear).await;
    assert!(heard.values().all(|times| *times == 1));
    let ledger = LedgerContents::read(&path).unwrap();
    assert_eq!((ledger.messages(), ledger.acknowledged()), (960, 960));
}

#[tokio::test]
async fn the_embedded_broker_takes_a_day_of_readings_in_each_message() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap();
    let (mut hear, _task) = subscriber(broker.address()).await;
    let frames = history(60, 72, MessageForm::Frames);
    assert!(frames.iter().all(|m| m.payload.len() > 8_000));
    let done = publisher(broker.address()).publish(stream::iter(frames.clone())).await.unwrap();
    assert_eq!((done.acknowledged, done.readings), (180, 60 * 3 * 96));
    all_of(&frames, &mut hear).await;
}

#[tokio::test]
async fn cut_connections_lose_nothing() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap();
    cut_while_publishing(broker.address()).await;
}

/// Publishes through a proxy that cuts the network again and again.
async fn cut_while_publishing(broker: SocketAddr) {
    let (mut hear, _task) = subscriber(broker).await;
    let proxy = FaultProxy::start(broker).await.unwrap();
    let messages = messages(10, 24);
    let mut publisher = publisher(proxy.address());
    // Slow enough that each cut finds something under way.
    publisher.options.rate = Some(1000.0);
    let mut progress = publisher.stats.subscribe();
    let publishing = tokio::spawn(publisher.publish(stream::iter(messages.clone())));
    let cutting = async {
        for nth in 1..=5 {
            // Somewhere in the middle of what is under way.
            progress.wait_for(|p| p.acknowledged >= nth * 150).await.unwrap();
            proxy.cut();
            proxy.restore();
            progress.wait_for(|p| p.reconnects >= nth).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, cutting).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap();
    assert_eq!((done.messages, done.acknowledged), (960, 960));
    assert_eq!(done.reconnects, 5);
    all_of(&messages, &mut hear).await;
}

#[tokio::test]
async fn the_pace_holds_back_what_is_not_yet_dealt_with() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap();
    let (durable, watch) = watch::channel(0);
    let publisher = publisher(broker.address()).paced(Ahead { durable: watch, messages: 10 });
    let mut progress = publisher.stats.subscribe();
    let publishing = tokio::spawn(publisher.publish(stream::iter(messages(2, 24))));
    for step in [0, 50, 120] {
        durable.send_replace(step);
        let held = progress.wait_for(|p| p.acknowledged >= step + 10);
        assert_eq!(tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap().messages, step + 10);
    }
    drop(durable);
    assert_eq!(tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap().acknowledged, 192);
}

#[tokio::test(start_paused = true)]
async fn a_rate_spaces_messages_and_catches_up_by_a_second_only() {
    let mut rate = Rate::new(Some(10.0));
    let start = Instant::now();
    for _ in 0..11 {
        rate.ready().await;
    }
    assert_eq!(start.elapsed().as_millis().div_euclid(10), 100);
    tokio::time::advance(Duration::from_secs(60)).await;
    let held_back = Instant::now();
    for _ in 0..10 {
        rate.ready().await;
    }
    assert_eq!(held_back.elapsed(), Duration::ZERO);
    for _ in 0..10 {
        rate.ready().await;
    }
    assert!(held_back.elapsed() >= Duration::from_millis(800), "{:?}", held_back.elapsed());
}

#[tokio::test]
async fn a_stop_ends_publishing_even_without_a_broker() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let publisher = publisher(unused);
    let stop = publisher.stop.clone();
    let publishing = tokio::spawn(publisher.publish(stream::iter(messages(1, 24))));
    stop.cancel();
    let done = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap();
    assert_eq!(done.acknowledged, 0);
}

#[tokio::test]
async fn impossible_options_are_refused() {
    let options = PublisherOptions::new("localhost", 1883, "p");
    for bad in [
        PublisherOptions { window: 0, ..options.clone() },
        PublisherOptions { rate: Some(0.0), ..options.clone() },
        PublisherOptions { keep_alive: Duration::from_secs(1), ..options },
    ] {
        assert!(Publisher::new(bad).publish(stream::empty()).await.is_err());
    }
}
