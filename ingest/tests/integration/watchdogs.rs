//! Watchdogs, in virtual time, against a source that does as the test says.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meterlake_config::{MqttBroker, Takeover};
use meterlake_ingest::mqtt::Limits;
use meterlake_ingest::mqtt::source::{
    Message, MqttSender, MqttSource, Packet, Quality, Session, SourceError, SourceEvent, Subject,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval};

use crate::harness::{broker, collect_from, count, reading};

/// What every connection to one broker does, and the log of connections.
#[derive(Clone)]
struct Script {
    behaviour: Behaviour,
    connected: mpsc::UnboundedSender<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// One message and regular signs of life.
    Lively,
    /// Connected and subscribed, then silence.
    Silent,
    /// Signs of life, but no answer to the subscription.
    Unanswering,
    /// More messages of QoS 0 than anyone takes, and the answer to the subscription behind them.
    Flooding,
    /// No connection is ever made.
    Absent,
    /// Another client takes the session, and the broker says so.
    TakenOver,
    /// The broker closes what it has just granted.
    Closing,
}

static SCRIPTS: LazyLock<Mutex<HashMap<String, Script>>> = LazyLock::new(Mutex::default);

struct Scripted {
    behaviour: Behaviour,
    first: Vec<SourceEvent>,
    pulse: Interval,
}

#[derive(Clone)]
struct Mute;

impl MqttSource for Scripted {
    type Sender = Mute;

    async fn connect(broker: &MqttBroker) -> Result<(Self, Mute, Session), SourceError> {
        let script = SCRIPTS.lock().unwrap().get(&broker.name).unwrap().clone();
        let _ = script.connected.send(Instant::now());
        if script.behaviour == Behaviour::Absent {
            return Err(SourceError::Lost("nobody is there".to_owned()));
        }
        let mut first = Vec::new();
        if script.behaviour == Behaviour::Lively {
            first.push(message(Some(Packet { id: 1, exactly_once: false })));
        }
        if !matches!(script.behaviour, Behaviour::Unanswering | Behaviour::Flooding) {
            first.push(SourceEvent::Subscribed(Subject::Readings, vec![Ok(1)]));
        }
        let pulse = interval(broker.keep_alive);
        let session = Session { present: true, keep_alive: broker.keep_alive, expiry: None };
        Ok((Self { behaviour: script.behaviour, first, pulse }, Mute, session))
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        if let Some(event) = self.first.pop() {
            return Ok(event);
        }
        if self.behaviour == Behaviour::Flooding {
            return Ok(message(None));
        }
        match self.behaviour {
            Behaviour::Silent => return std::future::pending().await,
            Behaviour::TakenOver => return Err(SourceError::TakenOver),
            Behaviour::Closing => return Err(SourceError::Closed),
            _ => {}
        }
        self.pulse.tick().await;
        Ok(SourceEvent::Alive)
    }
}

fn message(packet: Option<Packet>) -> SourceEvent {
    let payload = Bytes::from(reading(1));
    SourceEvent::Message(Message {
        topic: Bytes::from_static(b"meterlake/v1/e1/readings"),
        size: payload.len(),
        payload,
        packet,
        retained: false,
    })
}

impl MqttSender for Mute {
    async fn subscribe(&self, _: Subject, _: &[String]) -> Result<(), SourceError> {
        Ok(())
    }
    async fn unsubscribe(&self, _: &[String]) -> Result<(), SourceError> {
        Ok(())
    }
    async fn acknowledge(&self, _: Packet) -> Result<(), SourceError> {
        Ok(())
    }
    async fn publish(&self, _: &str, _: Vec<u8>, _: Quality) -> Result<(), SourceError> {
        Ok(())
    }
    async fn disconnect(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

fn script(name: &str, behaviour: Behaviour) -> (MqttBroker, mpsc::UnboundedReceiver<Instant>) {
    let (connected, connections) = mpsc::unbounded_channel();
    SCRIPTS.lock().unwrap().insert(name.to_owned(), Script { behaviour, connected });
    let broker = MqttBroker { name: name.to_owned(), ..broker(1) };
    (broker, connections)
}

/// Time from the first connection to the second.
async fn lifetime(connections: &mut mpsc::UnboundedReceiver<Instant>) -> Duration {
    let first = connections.recv().await.unwrap();
    connections.recv().await.unwrap() - first
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_acknowledged_for_a_minute_drops_the_connection() {
    let (broker, mut connections) = script("unacknowledged", Behaviour::Lively);
    let mut collector = collect_from::<Scripted>(broker, Limits::default());
    let held = collector.next().await;
    let lived = lifetime(&mut connections).await;
    assert!((60..64).contains(&lived.as_secs()), "{lived:?}");
    assert_eq!(count(&collector.stats.watchdog_drops), 1);
    // What is acknowledged in time holds no connection up.
    held.ack.durable();
    let stats = Arc::clone(&collector.stats);
    let server = tokio::spawn(async move {
        while let Some(delivery) = collector.deliveries.recv().await {
            delivery.ack.durable();
        }
    });
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(count(&stats.watchdog_drops), 1);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_silent_for_two_keep_alives_is_left() {
    let (broker, mut connections) = script("silent", Behaviour::Silent);
    let _collector = collect_from::<Scripted>(broker, Limits::default());
    let lived = lifetime(&mut connections).await;
    assert!((40..44).contains(&lived.as_secs()), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_the_subscription_is_left() {
    let (broker, mut connections) = script("unanswering", Behaviour::Unanswering);
    let _collector = collect_from::<Scripted>(broker, Limits::default());
    let lived = lifetime(&mut connections).await;
    assert!((30..34).contains(&lived.as_secs()), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_listened_to_is_not_blamed_for_it() {
    let (broker, mut connections) = script("flooding", Behaviour::Flooding);
    let mut collector = collect_from::<Scripted>(broker, Limits::default());
    connections.recv().await.unwrap();
    // The receiver is stuck: its channel, the queue and at last the connection hold still.
    for _ in 0..300 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&collector.stats.watchdog_drops), 0);
    assert!(count(&collector.stats.messages) < 10_000, "what waits is bounded");
    collector.next().await;
    assert!(connections.try_recv().is_err());
    collector.handle.abort();
}

#[tokio::test(start_paused = true)]
async fn an_absent_broker_is_asked_again_ever_more_rarely() {
    let (broker, mut connections) = script("absent", Behaviour::Absent);
    let collector = collect_from::<Scripted>(broker, Limits::default());
    let mut at = connections.recv().await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let next = connections.recv().await.unwrap();
        waits.push(next - at);
        at = next;
    }
    let millis = Duration::from_millis;
    assert!((millis(200)..=millis(402)).contains(&waits[0]), "{waits:?}");
    assert!(waits.iter().all(|wait| (millis(200)..=millis(30_002)).contains(wait)), "{waits:?}");
    // By chance within half a minute: that all of them are short has a chance of one in a million.
    assert!(waits[7..].iter().any(|wait| *wait > millis(3_000)), "{waits:?}");
    collector.stopped().await.unwrap();
}

/// The waits between connections.
async fn waits(connections: &mut mpsc::UnboundedReceiver<Instant>, count: usize) -> Vec<u64> {
    let mut at = connections.recv().await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..count {
        let next = connections.recv().await.unwrap();
        waits.push((next - at).as_secs());
        at = next;
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn a_session_that_another_took_is_asked_for_again_after_a_minute_and_then_ever_later() {
    let (broker, mut connections) = script("yields", Behaviour::TakenOver);
    let collector = collect_from::<Scripted>(broker, Limits::default());
    for (wait, longest) in waits(&mut connections, 8).await.into_iter().zip([60, 120, 240, 480, 960, 1920, 3600, 3600])
    {
        assert!((longest / 2..=longest).contains(&wait), "{wait} of {longest}");
    }
    assert!(count(&collector.stats.taken_over) >= 8);
    collector.stopped().await.unwrap();

    let (broker, mut connections) = script("fights", Behaviour::TakenOver);
    let collector = collect_from::<Scripted>(MqttBroker { takeover: Takeover::Fight, ..broker }, Limits::default());
    assert!(waits(&mut connections, 8).await.into_iter().all(|wait| wait <= 30));
    collector.stopped().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_closes_ten_times_in_a_row_is_taken_to_have_given_the_session_away() {
    let (broker, mut connections) = script("closes", Behaviour::Closing);
    let collector = collect_from::<Scripted>(broker, Limits::default());
    let waited = waits(&mut connections, 20).await;
    let (first, second) = waited.split_at(10);
    assert!(first[..9].iter().all(|wait| *wait <= 30) && (30..=60).contains(&first[9]), "{waited:?}");
    assert!(second[..9].iter().all(|wait| *wait <= 30) && (60..=120).contains(&second[9]), "{waited:?}");
    assert!(count(&collector.stats.taken_over) >= 2);
    collector.stopped().await.unwrap();
}
