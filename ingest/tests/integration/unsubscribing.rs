//! Topics that were taken out of a lasting session: a scripted broker, and mosquitto where `METERLAKE_PEERS=1` is set.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, mpsc};

use meterlake_config::{MqttBroker, MqttProtocol};
use meterlake_ingest::mqtt::{FilterStore, Memory};

use crate::broker_process::Mosquitto;
use crate::fake_broker::{Connection, FakeBroker, NOT_AUTHORIZED};
use crate::harness::{Collector, PATIENCE, TOPIC, collect_with, count, in_both_versions, reading, registers, speaking};

in_both_versions! {
    filters_that_nobody_wants_are_unsubscribed_once_the_wanted_ones_are_granted,
    what_a_session_may_hold_is_written_before_it_is_asked_for,
    where_nothing_is_known_nothing_is_unsubscribed,
    a_session_that_was_lost_holds_what_it_is_asked_for,
    a_broker_that_closes_instead_of_answering_is_not_asked_for_ever,
    filters_that_cannot_be_kept_hold_no_reading_up,
}

mod against_mosquitto {
    use super::*;

    in_both_versions! {
        flavor = "multi_thread":
        a_topic_that_was_taken_out_brings_nothing_after_a_restart,
        without_a_memory_it_would_go_on,
    }
}

/// A store in memory.
#[derive(Default)]
struct Kept {
    filters: Mutex<Option<BTreeSet<String>>>,
    /// Nothing can be saved.
    is_full: bool,
    /// Where it is told what was saved; whoever is told lets it go on by dropping the other end.
    hold: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl FilterStore for Kept {
    fn load(&self) -> Option<BTreeSet<String>> {
        self.filters.lock().unwrap().clone()
    }

    fn save(&self, filters: &BTreeSet<String>) -> io::Result<()> {
        if self.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.filters.lock().unwrap() = Some(filters.clone());
        if let Some((saved, go_on)) = self.hold.lock().unwrap().take() {
            saved.send(()).unwrap();
            go_on.recv().ok();
        }
        Ok(())
    }
}

impl Kept {
    fn with(filters: &[&str]) -> Arc<Self> {
        Arc::new(Self { filters: Mutex::new(Some(set(filters))), ..Self::default() })
    }

    fn has(&self, filters: &[&str]) -> bool {
        self.load() == Some(set(filters))
    }

    async fn comes_to_have(&self, filters: &[&str]) {
        let wait = async {
            while !self.has(filters) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{filters:?} is wanted, {:?} is kept", self.load());
    }
}

fn set(filters: &[&str]) -> BTreeSet<String> {
    filters.iter().map(|filter| (*filter).to_owned()).collect()
}

fn remembering(broker: MqttBroker, kept: &Arc<Kept>) -> Collector {
    collect_with(broker, Memory { filters: Some(Arc::clone(kept) as Arc<dyn FilterStore>), ..Memory::default() })
}

/// A client is let in and granted what it asks for, which is this.
async fn granted(fake: &FakeBroker, session_present: bool, topics: &[&str]) -> Connection {
    let mut connection = fake.accept().await;
    connection.connack(session_present, 0).await;
    let subscribe = connection.subscribe().await;
    assert_eq!(subscribe.filters.iter().map(|filter| filter.0.as_str()).collect::<Vec<_>>(), topics);
    connection.suback(&subscribe, &vec![1; topics.len()]).await;
    connection
}

/// A reading comes through, and nothing else was said before it is acknowledged.
async fn is_read(connection: &mut Connection, collector: &mut Collector, id: u16) {
    connection.publish(id, "e1", &reading(u32::from(id))).await;
    let delivery = collector.next().await;
    assert_eq!(registers(&delivery), [i64::from(id)]);
    delivery.ack.durable();
    assert_eq!(connection.pubacks(1).await, [id]);
}

const SHARED: &str = "$share/g/old/#";

async fn filters_that_nobody_wants_are_unsubscribed_once_the_wanted_ones_are_granted(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Kept::with(&["old/+/x", SHARED, TOPIC]);
    let mut collector = remembering(speaking(protocol, fake.port), &kept);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    let (id, filters) = connection.unsubscribe().await;
    assert_eq!(filters, [SHARED, "old/+/x"]);
    assert!(kept.has(&["old/+/x", SHARED, TOPIC]), "not before the broker's word");
    // What was queued before comes all the same, and is kept.
    connection.publish_on("old/1/x", 7, false, b"late").await;
    let late = collector.next().await;
    assert_eq!(late.batch.dead_letters[0].message.payload, b"late");
    late.ack.durable();
    assert_eq!(connection.pubacks(1).await, [7]);
    connection.unsuback(id, &[0, 0x11]).await;
    kept.comes_to_have(&[TOPIC]).await;
    assert_eq!(count(&collector.stats.filters_unwanted), 0);
    drop(connection);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 8).await;
    collector.stopped().await.unwrap();
}

/// A collector that is killed between the two leaves a filter that may or may not be held: its successor takes it back.
async fn what_a_session_may_hold_is_written_before_it_is_asked_for(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Kept::with(&[TOPIC]);
    let (saved, was_saved) = mpsc::channel();
    let (going_on, go_on) = mpsc::channel();
    *kept.hold.lock().unwrap() = Some((saved, go_on));
    let topics = || vec![TOPIC.to_owned(), "new/#".to_owned()];
    let collector = remembering(MqttBroker { topics: topics(), ..speaking(protocol, fake.port) }, &kept);
    let mut connection = fake.accept().await;
    connection.connack(true, 0).await;
    tokio::task::spawn_blocking(move || was_saved.recv().unwrap()).await.unwrap();
    assert!(kept.has(&["new/#", TOPIC]));
    collector.handle.abort();
    let first = connection.packet().await;
    assert_eq!(first, None, "killed before it asked for anything");
    drop(going_on);

    let mut successor = remembering(speaking(protocol, fake.port), &kept);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    let (id, filters) = connection.unsubscribe().await;
    assert_eq!(filters, ["new/#"]);
    // It never was subscribed.
    connection.unsuback(id, &[0x11]).await;
    kept.comes_to_have(&[TOPIC]).await;
    is_read(&mut connection, &mut successor, 1).await;
    successor.stopped().await.unwrap();
}

#[tokio::test]
async fn a_filter_that_the_broker_does_not_forget_is_told_and_asked_for_again() {
    let fake = FakeBroker::start().await;
    let kept = Kept::with(&["a/#", "b/#", "c/#", TOPIC]);
    let mut collector = remembering(speaking(MqttProtocol::V5, fake.port), &kept);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    let (id, filters) = connection.unsubscribe().await;
    assert_eq!(filters, ["a/#", "b/#", "c/#"]);
    // A reason that nobody knows is a refusal, too, and so is none at all.
    connection.unsuback(id, &[NOT_AUTHORIZED]).await;
    is_read(&mut connection, &mut collector, 1).await;
    assert_eq!(count(&collector.stats.filters_unwanted), 3);
    assert!(kept.has(&["a/#", "b/#", "c/#", TOPIC]));
    drop(connection);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    let (id, _) = connection.unsubscribe().await;
    connection.unsuback(id, &[0, 0xC5, 0]).await;
    kept.comes_to_have(&["b/#", TOPIC]).await;
    is_read(&mut connection, &mut collector, 2).await;
    drop(connection);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    let (id, filters) = connection.unsubscribe().await;
    assert_eq!(filters, ["b/#"]);
    connection.unsuback(id, &[0]).await;
    kept.comes_to_have(&[TOPIC]).await;
    collector.stopped().await.unwrap();
}

async fn where_nothing_is_known_nothing_is_unsubscribed(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Arc::<Kept>::default();
    let mut collector = remembering(speaking(protocol, fake.port), &kept);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 1).await;
    assert!(kept.has(&[TOPIC]));
    collector.stopped().await.unwrap();
}

async fn a_session_that_was_lost_holds_what_it_is_asked_for(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Kept::with(&["old/#"]);
    let mut collector = remembering(speaking(protocol, fake.port), &kept);
    let mut connection = granted(&fake, false, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 1).await;
    assert!(kept.has(&[TOPIC]));
    drop(connection);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 2).await;
    collector.stopped().await.unwrap();
}

async fn a_broker_that_closes_instead_of_answering_is_not_asked_for_ever(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Kept::with(&["old/#"]);
    let mut collector = remembering(speaking(protocol, fake.port), &kept);
    for _ in 0..3 {
        let mut connection = granted(&fake, true, &[TOPIC]).await;
        connection.unsubscribe().await;
    }
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 1).await;
    assert!(kept.has(&["old/#", TOPIC]), "the next start tries again");
    collector.stopped().await.unwrap();
}

async fn filters_that_cannot_be_kept_hold_no_reading_up(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let kept = Arc::new(Kept { is_full: true, ..Kept::default() });
    let mut collector = remembering(speaking(protocol, fake.port), &kept);
    let mut connection = granted(&fake, true, &[TOPIC]).await;
    is_read(&mut connection, &mut collector, 1).await;
    collector.stopped().await.unwrap();
}

const ONE: &str = "meterlake/v1/e1/readings";
const TWO: &str = "meterlake/v1/e2/readings";
const THREE: &str = "meterlake/v1/e3/readings";

/// Publishes a reading to each of the topics, in order.
async fn publish(port: u16, topics: &[&str], kwh: u32) {
    let (client, mut events) = rumqttc::AsyncClient::new(rumqttc::MqttOptions::new("meters", "127.0.0.1", port), 10);
    for topic in topics {
        client.publish(*topic, rumqttc::QoS::AtLeastOnce, false, reading(kwh)).await.unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < topics.len() {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.expect("the broker in time");
        if let rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_)) = event.expect("the broker lives") {
            acknowledged += 1;
        }
    }
}

/// The topics of what the broker has for a session, up to one that it surely holds.
async fn held_for_the_session(port: u16, last: &str) -> Vec<String> {
    let mut options = rumqttc::MqttOptions::new("meterlake-test", "127.0.0.1", port);
    options.set_clean_session(false);
    let (_client, mut events) = rumqttc::AsyncClient::new(options, 10);
    let mut topics = Vec::new();
    while topics.last().is_none_or(|topic| topic != last) {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.expect("the broker in time");
        if let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) = event.expect("the broker lives") {
            topics.push(publish.topic);
        }
    }
    topics
}

/// Meters of what comes, up to this one.
async fn meters_up_to(collector: &mut Collector, last: &str) -> Vec<String> {
    let mut meters = Vec::new();
    while meters.last().is_none_or(|meter| meter != last) {
        let delivery = collector.next().await;
        assert!(delivery.batch.dead_letters.is_empty(), "{:?}", delivery.batch.dead_letters);
        meters.extend(delivery.batch.electricity.headers().iter().map(|header| header.meter_id.to_string()));
        delivery.ack.durable();
    }
    meters
}

/// Three topics, of which one remains after a restart: what comes of the others then, and what the broker keeps while nobody
/// is there.
async fn taken_out(protocol: MqttProtocol, memory: impl Fn() -> Memory) -> Option<(Vec<String>, Vec<String>)> {
    let mosquitto = Mosquitto::start().await?;
    let of = |topics: &[&str]| MqttBroker {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        ..speaking(protocol, mosquitto.port)
    };
    let shared = format!("$share/shard/{THREE}");
    let mut first = collect_with(of(&[ONE, TWO, &shared]), memory());
    first.connected().await;
    publish(mosquitto.port, &[TWO, THREE, ONE], 1).await;
    let mut meters = meters_up_to(&mut first, "e1").await;
    meters.sort_unstable();
    assert_eq!(meters, ["e1", "e2", "e3"]);
    first.stopped().await.unwrap();

    let mut second = collect_with(of(&[ONE]), memory());
    second.connected().await;
    let stats = Arc::clone(&second.stats);
    let done = async {
        while count(&stats.filters_unwanted) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("an answer in time");
    publish(mosquitto.port, &[TWO, THREE, ONE], 2).await;
    let meters = meters_up_to(&mut second, "e1").await;
    assert_eq!(count(&second.stats.sessions_lost), 0);
    second.stopped().await.unwrap();
    publish(mosquitto.port, &[TWO, THREE, ONE], 3).await;
    Some((meters, held_for_the_session(mosquitto.port, ONE).await))
}

async fn a_topic_that_was_taken_out_brings_nothing_after_a_restart(protocol: MqttProtocol) {
    let kept = Arc::<Kept>::default();
    let memory = || Memory { filters: Some(Arc::clone(&kept) as Arc<dyn FilterStore>), ..Memory::default() };
    let Some((meters, held)) = taken_out(protocol, memory).await else { return };
    assert_eq!((meters, held), (vec!["e1".to_owned()], vec![ONE.to_owned()]));
    assert!(kept.has(&[ONE]));
}

/// What the test above would see without the guard.
async fn without_a_memory_it_would_go_on(protocol: MqttProtocol) {
    let Some((meters, held)) = taken_out(protocol, Memory::default).await else { return };
    assert_eq!((meters.len(), held.len()), (3, 3), "{meters:?} {held:?}");
}
