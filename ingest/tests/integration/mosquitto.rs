//! The collector against a real broker, where `METERLAKE_PEERS=1` says that one is installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet as Wire;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, broker, collect, count};

const MESSAGES: u32 = 5_000;
const MALFORMED_EVERY: u32 = 100;

/// mosquitto on a free port; killed when dropped.
struct Mosquitto {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    async fn start() -> Option<Self> {
        if std::env::var_os("METERLAKE_PEERS").is_none_or(|value| value != "1") {
            eprintln!("skipped: set METERLAKE_PEERS=1 to run against mosquitto");
            return None;
        }
        let program = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(|program| {
            Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        });
        let program = program.expect("METERLAKE_PEERS=1 needs mosquitto");
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("mosquitto.conf");
        write_configuration(&configuration, port);
        let process = Command::new(program)
            .args(["-c".as_ref(), configuration.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        let up = async { while TcpStream::connect(("127.0.0.1", port)).await.is_err() {} };
        tokio::time::timeout(PATIENCE, up).await.expect("mosquitto listens");
        Some(Self { process, port, _folder: folder })
    }
}

fn write_configuration(path: &Path, port: u16) {
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
         max_inflight_messages 1000\nmax_queued_messages 100000\n"
    );
    std::fs::write(path, text).unwrap();
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

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
    let mut options = MqttOptions::new("meters", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 100);
    let publisher = tokio::spawn(async move {
        for number in 1..=MESSAGES {
            client.publish("meterlake/v1/e1/readings", QoS::AtLeastOnce, false, payload(number)).await.unwrap();
        }
        client
    });
    let mut acknowledged = 0;
    while acknowledged < MESSAGES {
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

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_nothing() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let network = Network::to(mosquitto.port).await;
    let mut collector = collect(broker(network.port));
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

#[tokio::test(flavor = "multi_thread")]
async fn killed_collectors_lose_nothing() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut collector = collect(broker(mosquitto.port));
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
            collector = collect(broker(mosquitto.port));
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
    let mut again = collect(broker(mosquitto.port));
    again.connected().await;
    let stats = std::sync::Arc::clone(&again.stats);
    again.stopped().await.unwrap();
    assert_eq!(count(&stats.messages), 0);
}
