//! What comes in, as it comes in: `tap`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use futures::stream;
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::{
    BrokerOptions, EmbeddedBroker, FleetPlan, History, Message, MessageForm, MessageKind, Scenario, Simulation,
};
use meterlake_model::Timestamp;
use serde_json::Value;

use crate::mosquitto::broker_table;
use crate::process::until;
use crate::site::{PATIENCE, Site, json_lines, program};

fn simulation() -> Arc<Simulation> {
    let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(3, from, from.plus_seconds(86_400));
    (plan.electricity_mqtt, plan.water_mqtt) = (2, 2);
    let scenario = Scenario { malformed_ppm: 50_000, ..Scenario::none() };
    Arc::new(Simulation::new(plan, scenario).unwrap())
}

async fn publish(broker: SocketAddr, client: &str, messages: &[Message]) {
    let options = PublisherOptions::new("127.0.0.1", broker.port(), client);
    Publisher::new(options).publish(stream::iter(messages.to_vec())).await.unwrap();
}

/// Meter, time, and the first value with all its digits, of the readings among some lines.
fn readings(lines: &[Value]) -> BTreeSet<(String, i64)> {
    let reading = |line: &&Value| line["kind"] == "reading";
    let of = |line: &Value| {
        let ts = Timestamp::parse_rfc3339(line["ts"].as_str().unwrap()).unwrap();
        (line["meter_id"].as_str().unwrap().to_owned(), ts.micros())
    };
    lines.iter().filter(reading).map(of).collect()
}

fn sent(messages: &[Message]) -> BTreeSet<(String, i64)> {
    let good = messages.iter().filter(|message| message.kind == MessageKind::Fresh);
    good.map(|message| (message.rows.meter_id.to_string(), message.rows.iter().next().unwrap().0.micros())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tap_shows_what_comes_in_through_a_restart_of_the_collector() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap().address();
    let simulation = simulation();
    let site = Site::new(&broker_table(broker, "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&simulation.registry().unwrap());
    let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Singles).collect();
    let (before, after) = messages.split_at(messages.len() / 2);
    let bad = messages.iter().filter(|message| message.kind != MessageKind::Fresh).count();
    assert!(bad > 5 && before.len() > 100, "{bad} of {}", messages.len());

    // Looked at before there is a journal, through two collectors.
    let count = messages.len().to_string();
    let mut tap = site.command(&["tap", "--from", "oldest", "--count", &count]);
    let tap = tap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let collector = site.collect();
    publish(broker, "first", before).await;
    until("the first half acknowledged", PATIENCE, || {
        let report = site.report(&collector)?;
        let figure = |name: &str| report.brokers[0].1.iter().find(|(figure, _)| figure == name).map_or(0, |f| f.1);
        (figure("acknowledged") >= before.len() as u64 && figure("unacknowledged") == 0).then_some(())
    });
    site.stop(collector);
    let collector = site.collect();
    publish(broker, "second", after).await;
    let output = tokio::task::spawn_blocking(|| tap.wait_with_output().unwrap()).await.unwrap();
    // Selections; nothing here waits for more.
    let of = |words: &[&str]| json_lines(&site.tell(&[&["tap", "--from", "oldest", "--no-follow"], words].concat()));
    // The broker may have sent some of the first half again: the journal holds it twice, and so it is shown.
    until("every reading and every dead letter", PATIENCE, || {
        let shown = of(&[]);
        let dead = shown.iter().filter(|line| line["kind"] == "dead_letter").count();
        (readings(&shown) == sent(&messages) && dead >= bad).then_some(())
    });
    site.stop(collector);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(lines.len(), messages.len());

    // What was collected, selected in each way.
    let whole = of(&[]);
    assert_eq!(whole[..lines.len()], lines, "followed or read back, it is the same");
    let lines = whole;
    let positions: Vec<_> = lines.iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert!(positions.is_sorted() && positions[0] == 1, "{positions:?}");
    let bad = lines.iter().filter(|line| line["kind"] == "dead_letter").count();
    assert_eq!(of(&["--count", "3"]), lines[..3]);
    let (position, all) = (positions[positions.len() / 2].to_string(), lines.len());
    let rest = json_lines(&site.tell(&["tap", "--from", &position, "--no-follow"]));
    assert!(!rest.is_empty() && rest.len() < all && lines.ends_with(&rest));
    let meter = messages[0].rows.meter_id.as_str();
    let (one, others) = (of(&["--meter", meter]), of(&["--meter", &meter[..1]]));
    assert!(one.iter().all(|line| line["meter_id"] == meter || line.to_string().contains(meter)), "{one:?}");
    assert_eq!(others.iter().filter(|line| line["kind"] == "reading").count(), 0, "a whole name is asked for");
    let stem = format!("{}*", &meter[..1]);
    let by_stem = readings(&of(&["--meter", &stem]));
    assert!(by_stem.len() > readings(&one).len() && by_stem.iter().all(|(id, _)| id.starts_with(&meter[..1])));
    let water = of(&["--commodity", "water"]);
    assert!(!water.is_empty() && water.iter().all(|line| line["kind"] == "reading" && line["commodity"] == "water"));
    let dead = of(&["--dead-letters"]);
    assert!(dead.len() == bad && dead.iter().all(|line| line["kind"] == "dead_letter"));
    assert_eq!(of(&["--source", "yard"]).len(), all);
    assert!(of(&["--source", "elsewhere"]).is_empty());
    assert!(of(&["--events"]).is_empty());

    // By topic: this map does not keep what it read, so the dead letters of that topic.
    let topic = dead[0]["topic"].as_str().unwrap();
    let by_topic = of(&["--topic", topic]);
    assert!(!by_topic.is_empty() && by_topic.iter().all(|line| line["topic"] == topic), "{by_topic:?}");
    assert_eq!(of(&["--topic", "meterlake/+/+/readings"]).len(), bad);
    assert!(of(&["--topic", "elsewhere/#"]).is_empty());

    let text = site.tell(&["tap", "--from", "oldest", "--no-follow", "--format", "text", "--readings", "--count", "1"]);
    assert!(
        text.contains(" yard ") && text.contains(" kWh") | text.contains(" m³") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), i64::try_from(bad).unwrap(), "nothing was disturbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tap_by_topic_reads_kept_messages_once_more() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap().address();
    let simulation = simulation();
    let site = Site::new("");
    let map = program().args(["maps", "show", "meterlake-json"]).output().unwrap().stdout;
    let map = String::from_utf8(map).unwrap().replacen("version = ", "keep_raw = true\nversion = ", 1);
    std::fs::write(site.path("kept.toml"), map).unwrap();
    site.configure(&broker_table(broker, "meterlake/v1/+/readings", "kept.toml"));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();
    let messages: Vec<_> = History::new(simulation, MessageForm::Singles).take(40).collect();
    publish(broker, "meters", &messages).await;
    let topic = messages.iter().find(|message| message.kind == MessageKind::Fresh).unwrap().topic.to_string();
    let of_topic: Vec<_> = messages.iter().filter(|message| *message.topic == *topic).cloned().collect();
    until("all are in the journal", PATIENCE, || {
        let lines = json_lines(&site.tell(&["tap", "--from", "oldest", "--no-follow"]));
        (lines.len() == messages.len()).then_some(())
    });
    let lines = json_lines(&site.tell(&["tap", "--from", "oldest", "--no-follow", "--topic", &topic]));
    site.stop(collector);
    assert!(lines.iter().all(|line| line["topic"] == topic.as_str()), "{lines:?}");
    assert_eq!(readings(&lines), sent(&of_topic));
    let payloads: Vec<_> = lines.iter().filter_map(|line| line["payload"].as_str()).collect();
    let expected: Vec<_> = of_topic.iter().map(|message| std::str::from_utf8(&message.payload).unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(payloads), BTreeSet::from_iter(expected), "as they came, good and bad");
}
