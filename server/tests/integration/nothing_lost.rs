//! Nothing is lost: at 2,000 messages a second the collector is killed, or its network cut, 20 times; every value that
//! the broker acknowledged to the meters is in the lake once, as it was sent (design.md §5, rules 1 to 3).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use meterlake_device_sim::ledger::Ledger;
use meterlake_device_sim::publisher::{Progress, Publisher, PublisherOptions};
use meterlake_device_sim::{FaultProxy, FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::Timestamp;
use meterlake_server::status::read_report;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use crate::mosquitto::{Mosquitto, broker_table};
use crate::peers;
use crate::process::until;
use crate::site::{PATIENCE, Site};

const RATE: f64 = 2_000.0;
const BLOWS: usize = 20;
/// What is sent takes some 45 seconds.
const ELECTRICITY: usize = 84;
const WATER: usize = 36;
const DAYS: i64 = 10;
const SEED: u64 = 20_261_121;

fn fleet() -> Arc<Simulation> {
    let from = Timestamp::parse_rfc3339("2026-10-28T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(SEED, from, from.plus_seconds(DAYS * 86_400));
    (plan.electricity_mqtt, plan.water_mqtt) = (ELECTRICITY, WATER);
    Arc::new(Simulation::new(plan, Scenario::none()).unwrap())
}

/// Random moments within what is sent, in order, away from its very ends.
fn moments(length: Duration, seed: u64) -> Vec<Duration> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut moments: Vec<_> = (0..BLOWS).map(|_| length.mul_f64(random.random_range(0.02..0.98))).collect();
    moments.sort();
    moments
}

/// Publishes one reading a message in the background, the ledger beside it.
fn publish(site: &Site, broker: SocketAddr, simulation: Arc<Simulation>) -> JoinHandle<Progress> {
    let ledger = Ledger::create(&site.path("ledger")).unwrap();
    let mut options = PublisherOptions::new("127.0.0.1", broker.port(), "meters");
    options.rate = Some(RATE);
    let publisher = Publisher { ledger: Some(ledger), ..Publisher::new(options) };
    let history = History::new(simulation, MessageForm::Singles);
    tokio::spawn(async move { publisher.publish(stream::iter(history)).await.unwrap() })
}

/// Waits until all is in the lake and nothing waits for its commit, or nothing more comes; then compares value by value.
/// What a broker sent again is dropped at the commit: until then the tail shows it beside what it repeats.
fn check(site: &Site, distinct: u64) {
    let count = "SELECT (SELECT count(*) FROM electricity_readings) + (SELECT count(*) FROM water_readings)";
    let is_settled = || {
        let report = read_report(&site.path("journal")).unwrap().unwrap();
        let unacknowledged = report.brokers[0].1.iter().any(|(name, value)| name == "unacknowledged" && *value > 0);
        let durable = report.total("journal_durable_position");
        !unacknowledged && durable > 0 && report.total("journal_committed_position") == durable
    };
    let deadline = Instant::now() + PATIENCE;
    while !(site.number(count) >= i64::try_from(distinct).unwrap() && is_settled()) && Instant::now() < deadline {}
    let answer = site.ask(&["simulate", "check-ledger", site.path("ledger").to_str().unwrap()]);
    println!("{}", answer.out.trim_end());
    assert!(answer.good, "{}{}", answer.out, answer.err);
    assert_eq!(site.number(count), i64::try_from(distinct).unwrap());
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_a_collector_killed_20_times_loses_doubles_and_invents_nothing() {
    if !peers::asked_for() {
        return;
    }
    let _machine = peers::whole_machine().await;
    let (mosquitto, simulation) = (Mosquitto::start(), fleet());
    let site = Site::new(&broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&simulation.registry().unwrap());
    // The subscription must be there before the first message: a broker keeps nothing for a session that it never saw.
    let mut collector = site.collect();

    let distinct = simulation.truth().expected().distinct;
    let length = Duration::from_secs_f64(distinct as f64 / RATE);
    let started = Instant::now();
    let publishing = publish(&site, mosquitto.address, Arc::clone(&simulation));
    for moment in moments(length, SEED) {
        tokio::time::sleep(moment.saturating_sub(started.elapsed())).await;
        // Wherever it is: receiving, syncing, committing, or still catching up after the last blow.
        collector.kill();
        collector = site.start(&["collect"]);
    }
    let sent = publishing.await.unwrap();
    println!("{} messages in {:.1} s, {BLOWS} kills", sent.messages, started.elapsed().as_secs_f64());
    assert_eq!((sent.messages, sent.acknowledged, sent.unheard), (distinct, distinct, 0));

    until("collector back", PATIENCE, || site.report(&collector));
    check(&site, distinct);
    // The blows struck: rows that were durable and not yet committed, and messages that were not yet acknowledged. One
    // that comes soon after another may strike before the journal is open.
    let log = collector.log();
    let times = |what: &str| log.matches(what).count();
    assert!(times("the broker kept the session") > BLOWS / 2, "{log}");
    assert!(times("caught up from the journal") > BLOWS / 2, "{log}");
    site.stop(collector);
    let committed = site.ask(&["simulate", "check-ledger", "--committed", site.path("ledger").to_str().unwrap()]);
    assert!(committed.good, "{}{}", committed.out, committed.err);
    assert!(site.ask(&["doctor"]).good, "lake and journal are sound after {BLOWS} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_a_network_cut_20_times_loses_doubles_and_invents_nothing() {
    if !peers::asked_for() {
        return;
    }
    let _machine = peers::whole_machine().await;
    let (mosquitto, simulation) = (Mosquitto::start(), fleet());
    let network = FaultProxy::start(mosquitto.address).await.unwrap();
    let site = Site::new(&broker_table(network.address(), "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();

    let distinct = simulation.truth().expected().distinct;
    let length = Duration::from_secs_f64(distinct as f64 / RATE);
    let started = Instant::now();
    let publishing = publish(&site, mosquitto.address, Arc::clone(&simulation));
    let mut random = SmallRng::seed_from_u64(SEED + 1);
    for moment in moments(length, SEED + 2) {
        tokio::time::sleep(moment.saturating_sub(started.elapsed())).await;
        network.cut();
        tokio::time::sleep(Duration::from_millis(random.random_range(20..800))).await;
        network.restore();
    }
    let sent = publishing.await.unwrap();
    println!("{} messages in {:.1} s, {BLOWS} cuts", sent.messages, started.elapsed().as_secs_f64());
    assert_eq!((sent.messages, sent.acknowledged, sent.unheard), (distinct, distinct, 0));

    check(&site, distinct);
    let report = site.report(&collector).unwrap();
    let figure = |name: &str| report.brokers[0].1.iter().find(|(figure, _)| figure == name).unwrap().1;
    assert!(figure("reconnects") > 0, "{report:?}");
    assert_eq!(figure("sessions_lost"), 0, "{report:?}");
    site.stop(collector);
}
