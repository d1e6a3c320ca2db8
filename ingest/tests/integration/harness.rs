//! A collector under test: what it delivers, and what it tells of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meterlake_config::payload_map::PayloadMap;
use meterlake_config::{DeviceRate, MqttBroker, MqttProtocol, Takeover};
use meterlake_ingest::mqtt::source::MqttSource;
use meterlake_ingest::mqtt::{self, Limits, Memory, MqttStats, WireSource};
use meterlake_ingest::{Delivery, IngestError};
use meterlake_model::{Commodity, MeterDirectory, MeterEntry, MeterId, Zone};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than any step of a test takes on a busy machine; reached only when the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TOPIC: &str = "meterlake/v1/+/readings";

pub(crate) struct Collector {
    pub(crate) deliveries: mpsc::Receiver<Delivery>,
    pub(crate) stats: Arc<MqttStats>,
    pub(crate) stop: CancellationToken,
    pub(crate) handle: JoinHandle<Result<(), IngestError>>,
}

pub(crate) fn broker(port: u16) -> MqttBroker {
    MqttBroker {
        name: "test-broker".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        protocol: MqttProtocol::V5,
        tls: None,
        client_id: "meterlake-test".to_owned(),
        username: None,
        password: None,
        topics: vec![TOPIC.to_owned()],
        maps: vec![PayloadMap::shipped("meterlake-json").unwrap()],
        receive_maximum: 100,
        keep_alive: Duration::from_secs(20),
        session_expiry: Duration::from_secs(3600),
        max_packet_bytes: 256 * 1024,
        takeover: Takeover::Yield,
        broker_stats: false,
        receipts: None,
        device_rate: DeviceRate { messages_per_s: 1_000_000, burst: 1_000_000 },
        allow_plaintext: false,
    }
}

pub(crate) fn speaking(protocol: MqttProtocol, port: u16) -> MqttBroker {
    MqttBroker { protocol, ..broker(port) }
}

pub(crate) fn directory() -> MeterDirectory {
    let entry = |commodity| MeterEntry::new(commodity, Zone::parse("Europe/Madrid").unwrap());
    MeterDirectory::new([
        (MeterId::new("e1").unwrap(), entry(Commodity::Electricity)),
        (MeterId::new("e2").unwrap(), entry(Commodity::Electricity)),
        (MeterId::new("e3").unwrap(), MeterEntry { gateway: Some("gw-3".into()), ..entry(Commodity::Electricity) }),
        (MeterId::new("w1").unwrap(), entry(Commodity::Water)),
    ])
}

pub(crate) fn collect(broker: MqttBroker) -> Collector {
    collect_from::<WireSource>(broker, Limits::default())
}

/// With what is known of the broker.
pub(crate) fn collect_with(broker: MqttBroker, memory: Memory) -> Collector {
    start::<WireSource>(broker, Limits::default(), memory)
}

pub(crate) fn collect_from<S: MqttSource>(broker: MqttBroker, limits: Limits) -> Collector {
    start::<S>(broker, limits, Memory::default())
}

fn start<S: MqttSource>(broker: MqttBroker, limits: Limits, memory: Memory) -> Collector {
    let (out, deliveries) = mpsc::channel(4);
    let (_, directory) = watch::channel(Arc::new(directory()));
    let stats = Arc::new(MqttStats::default());
    let stop = CancellationToken::new();
    let run = mqtt::collect_from::<S>(broker, limits, directory, memory, out, Arc::clone(&stats), stop.clone());
    Collector { deliveries, stats, stop, handle: tokio::spawn(run) }
}

impl Collector {
    pub(crate) async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(PATIENCE, self.deliveries.recv()).await;
        next.expect("a delivery in time").expect("the collector is alive")
    }

    /// Waits until the subscription is granted.
    pub(crate) async fn connected(&mut self) {
        let granted = async {
            while !self.stats.connected.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            granted = tokio::time::timeout(PATIENCE, granted) => granted.unwrap_or_else(|_| panic!("{:?}", self.stats)),
            ended = &mut self.handle => panic!("ended with {ended:?}"),
        }
    }

    pub(crate) async fn ended(self) -> Result<(), IngestError> {
        drop(self.deliveries);
        tokio::time::timeout(PATIENCE, self.handle).await.expect("it ends in time").expect("it does not panic")
    }

    pub(crate) async fn stopped(self) -> Result<(), IngestError> {
        self.stop.cancel();
        self.ended().await
    }
}

/// A reading of the electricity meter `e1`.
pub(crate) fn reading(kwh: u32) -> String {
    format!("{{\"ts\":\"2024-05-01T00:00:00Z\",\"energy_import_kwh\":{kwh}}}")
}

/// The registers of a delivery, in whole kWh.
pub(crate) fn registers(delivery: &Delivery) -> Vec<i64> {
    let channel = meterlake_model::Channel::by_name("energy_import_kwh").unwrap();
    let rows = &delivery.batch.electricity;
    (0..rows.len()).map(|row| rows.value(row, channel).unwrap() / 1000).collect()
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Tests of what holds in both versions of MQTT: each is an asynchronous function of the version.
macro_rules! in_both_versions {
    ($($name:ident),* $(,)?) => {
        $crate::harness::in_both_versions!(flavor = "current_thread": $($name),*);
    };
    (flavor = $flavor:literal: $($name:ident),* $(,)?) => {
        mod mqtt_5 {
            $(#[tokio::test(flavor = $flavor)] async fn $name() { super::$name(meterlake_config::MqttProtocol::V5).await })*
        }
        mod mqtt_3_1_1 {
            $(#[tokio::test(flavor = $flavor)] async fn $name() { super::$name(meterlake_config::MqttProtocol::V311).await })*
        }
    };
}
pub(crate) use in_both_versions;
