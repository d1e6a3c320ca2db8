//! Edge nodes of pysparkplug through mosquitto. Runs where `METERLAKE_PEERS=1`; there its absence is a failure.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use meterlake_config::MqttBroker;
use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::{BirthCounts, Births, Decoder, SharedBirths};
use meterlake_ingest::mqtt::Memory;
use meterlake_model::{Channel, DeadReason, RawMessage, ReadingBatch};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::broker_process::Mosquitto;
use crate::harness::{Collector, PATIENCE, broker, collect_with, directory};

/// A process that is killed when dropped.
struct Edge {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Edge {
    fn start(port: u16, name: &str, bd_seq: u64) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/sparkplug_edge.py");
        let mut process = Command::new("python3")
            .arg(script)
            .args([port.to_string(), name.to_owned(), bd_seq.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 with pysparkplug");
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output).lines() }
    }

    async fn says(&mut self, expected: &str) {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("an answer in time").unwrap();
        assert_eq!(line.expect("python3 -m pip install pysparkplug"), expected);
    }

    async fn send(&mut self, command: &str) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    async fn does(&mut self, command: &str) {
        self.send(command).await;
        self.says("ok").await;
    }
}

/// A collector that hears the whole group.
struct Host {
    collector: Collector,
    births: SharedBirths,
}

fn listening(port: u16) -> MqttBroker {
    MqttBroker {
        topics: vec!["spBv1.0/plant/#".to_owned()],
        maps: vec![PayloadMap::shipped("sparkplug-b").unwrap()],
        ..broker(port)
    }
}

impl Host {
    async fn start(port: u16, births: SharedBirths) -> Self {
        let mut collector = collect_with(listening(port), Memory { births: Arc::clone(&births), ..Memory::default() });
        collector.connected().await;
        Self { collector, births }
    }

    fn counts(&self) -> BirthCounts {
        self.births.lock().unwrap().counts()
    }

    /// The next registers in whole kWh with their times, or a dead letter.
    async fn next(&mut self) -> Result<Vec<(String, i64)>, (DeadReason, RawMessage)> {
        loop {
            let delivery = self.collector.next().await;
            let mut batch = delivery.batch;
            delivery.ack.durable();
            if let Some(dead) = batch.dead_letters.pop() {
                return Err((dead.reason, dead.message));
            }
            if batch.reading_count() > 0 {
                return Ok(registers(&batch));
            }
        }
    }

    /// Reads on until the births count so.
    async fn until(&mut self, done: impl Fn(BirthCounts) -> bool) {
        while !done(self.counts()) {
            let delivery = self.collector.next().await;
            assert!(delivery.batch.dead_letters.is_empty(), "{:?}", delivery.batch.dead_letters);
            delivery.ack.durable();
        }
    }
}

fn registers(batch: &ReadingBatch) -> Vec<(String, i64)> {
    let channel = Channel::by_name("energy_import_kwh").unwrap();
    let rows = &batch.electricity;
    let headers = rows.headers().iter().zip(0..);
    headers.filter_map(|(header, row)| Some((header.ts.to_string(), rows.value(row, channel)? / 1000))).collect()
}

fn kwh(found: Result<Vec<(String, i64)>, (DeadReason, RawMessage)>) -> Vec<i64> {
    found.expect("a reading").into_iter().map(|(_, kwh)| kwh).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn births_name_what_data_leave_out_and_a_gap_loses_nothing() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut host = Host::start(mosquitto.port, SharedBirths::default()).await;
    let mut edge = Edge::start(mosquitto.port, "edge", 3);
    edge.does("birth").await;
    assert_eq!(kwh(host.next().await), [0], "births are readings");
    edge.does("data 11").await;
    assert_eq!(kwh(host.next().await), [11]);
    edge.does("named 12").await;
    assert_eq!(kwh(host.next().await), [12]);
    edge.does("history 5 6").await;
    let history = host.next().await.unwrap();
    assert_eq!(history, [("2026-11-21T09:00:00Z".to_owned(), 5), ("2026-11-21T09:30:00Z".to_owned(), 6)]);
    assert_eq!(host.counts(), BirthCounts { births: 2, ..BirthCounts::default() });

    // A message is lost: the next is taken, and the node is born again at our word.
    edge.does("lose").await;
    edge.send("data 13").await;
    let mut said =
        vec![edge.output.next_line().await.unwrap().unwrap(), edge.output.next_line().await.unwrap().unwrap()];
    said.sort();
    assert_eq!(said, ["ok", "rebirth"]);
    assert_eq!(kwh(host.next().await), [13]);
    assert_eq!(kwh(host.next().await), [13], "its birth again");
    let counts = host.counts();
    assert_eq!((counts.gaps, counts.rebirths, counts.births, counts.without_birth), (1, 1, 4, 0));
    edge.does("data 14").await;
    assert_eq!(kwh(host.next().await), [14]);

    // The device's death, then the node's by its will.
    edge.does("die").await;
    host.until(|counts| counts.deaths == 1).await;
    edge.process.kill().await.unwrap();
    host.until(|counts| counts.deaths == 2).await;
    assert_eq!(host.counts().stale_deaths, 0);
    host.collector.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_missed_a_birth_asks_for_it_and_reads_what_came_before() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut before = Host::start(mosquitto.port, SharedBirths::default()).await;
    let mut edge = Edge::start(mosquitto.port, "edge", 0);
    edge.does("birth").await;
    assert_eq!(kwh(before.next().await), [0]);
    before.collector.stopped().await.unwrap();
    // One that knows nothing of it.
    let mut host = Host::start(mosquitto.port, SharedBirths::default()).await;
    edge.send("data 21").await;
    let (reason, message) = host.next().await.expect_err("nobody knows the alias");
    assert_eq!(reason, DeadReason::NoBirth);
    let mut said =
        vec![edge.output.next_line().await.unwrap().unwrap(), edge.output.next_line().await.unwrap().unwrap()];
    said.sort();
    assert_eq!(said, ["ok", "rebirth"]);
    assert_eq!(kwh(host.next().await), [21], "the birth has the present value");
    let mut again = ReadingBatch::default();
    let maps = listening(mosquitto.port).maps;
    Decoder::of_dead_letters(Arc::clone(&host.births)).decode(&maps, &message, false, &directory(), &mut again);
    assert_eq!(registers(&again).iter().map(|(_, kwh)| *kwh).collect::<Vec<_>>(), [21]);

    // A restart knows the names, and goes on where nothing was lost.
    host.collector.stopped().await.unwrap();
    let kept = host.births.lock().unwrap().to_bytes();
    let births = SharedBirths::new(Births::from_bytes(&kept).unwrap().into());
    let mut host = Host::start(mosquitto.port, births).await;
    edge.does("data 22").await;
    assert_eq!(kwh(host.next().await), [22]);
    assert_eq!(host.counts().rebirths, 0);
    host.collector.stopped().await.unwrap();
}
