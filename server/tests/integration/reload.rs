//! A changed configuration is taken while readings flow: all is checked first, only what changed is touched, and nothing
//! is lost.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::stream;
use meterlake_device_sim::modbus::{Behaviour, Gateway, Layout, Unit, UnitValues};
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::Timestamp;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::mosquitto::{Mosquitto, broker_table, free_address};
use crate::peers;
use crate::process::{Process, until};
use crate::site::{PATIENCE, Site};

const RATE: f64 = 500.0;

fn fleet() -> Arc<Simulation> {
    let to = Timestamp::from_unix_seconds(Timestamp::now().unix_seconds().div_euclid(86_400) * 86_400).unwrap();
    let mut plan = FleetPlan::new(11, to.plus_seconds(-2 * 86_400), to);
    (plan.electricity_mqtt, plan.water_mqtt, plan.electricity_modbus) = (30, 10, 4);
    Arc::new(Simulation::new(plan, Scenario::none()).unwrap())
}

/// A line of simulated devices that are polled each second.
async fn line(simulation: &Arc<Simulation>) -> (Gateway, String) {
    let plan = &simulation.gateways()[0];
    let gateway = Gateway::of_plan(Arc::clone(simulation), plan, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
    let gateway = gateway.unwrap();
    let mut table = format!("[[modbus]]\nname = \"hall\"\nhost = \"127.0.0.1\"\nport = {}\n", gateway.address().port());
    for unit in &plan.units {
        table += &format!(
            "[[modbus.device]]\nunit = {}\nmeter_id = \"{}\"\nprofile = \"eastron-sdm630\"\ninterval = \"1s\"\n",
            unit.unit, unit.meter_id
        );
    }
    (gateway, table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_touches_only_what_changed_and_loses_nothing() {
    if !peers::asked_for() {
        return;
    }
    let (mosquitto, simulation) = (Mosquitto::start(), fleet());
    let yard = broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json");
    let field = yard.replace("\"yard\"", "\"field\"").replace("meterlake/v1/+", "field/v1/+");
    let (_gateway, hall) = line(&simulation).await;
    let site = Site::new(&yard);
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();

    let options =
        PublisherOptions { rate: Some(RATE), ..PublisherOptions::new("127.0.0.1", mosquitto.address.port(), "meters") };
    let publisher = Publisher::new(options);
    let history = History::new(Arc::clone(&simulation), MessageForm::Singles);
    let publishing = tokio::spawn(async move { publisher.publish(stream::iter(history)).await.unwrap() });
    until("readings flow", PATIENCE, || {
        site.report(&collector).filter(|report| report.total("readings_durable") > 200)
    });

    // More sources, while the first one goes on on the same connection.
    site.configure(&format!("{yard}{field}{hall}"));
    assert_eq!(site.tell(&["reload"]).trim_end(), "started broker field, modbus line hall; left 1 untouched");
    until("the new line is polled", PATIENCE, || {
        let report = site.report(&collector)?;
        let line = report.lines.iter().find(|(name, _)| name == "hall")?;
        line.1.iter().any(|(figure, value)| figure == "readings" && *value > 0).then_some(())
    });
    assert_eq!(collector.log().matches("connected; the broker").count(), 2, "each broker was connected to once");

    // A file that is wrong is refused before the collector hears of it.
    site.configure(&format!("{yard}{field}{hall}").replace("interval = \"1s\"", "interval = \"soon\""));
    let wrong = site.ask(&["reload"]);
    assert!(!wrong.good);
    assert_eq!(wrong.err.matches("\"soon\"").count(), 4, "every problem at once: {}", wrong.err);
    // Asked by signal, it refuses, says so, and goes on.
    collector.hang_up();
    let refused =
        until("the refusal", PATIENCE, || site.report(&collector)?.reload.filter(|reload| reload.number == 2));
    assert!(!refused.applied && refused.detail.contains("\"soon\""), "{refused:?}");

    // What holds from start to end is refused by its name.
    site.configure(&format!("{yard}{field}{hall}"));
    let file = site.path("meterlake.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("sync_delay = \"1ms\"", "sync_delay = \"2ms\"")).unwrap();
    let refused = site.ask(&["reload"]);
    assert!(
        !refused.good && refused.err.contains("[collect] sync_delay can change only with a restart"),
        "{}",
        refused.err
    );

    // An exchanged session is resumed; what came meanwhile waits at the broker.
    let narrower = yard.replace("[[mqtt]]\n", "[[mqtt]]\nreceive_maximum = 200\n");
    site.configure(&format!("{narrower}{field}"));
    assert_eq!(site.tell(&["reload"]).trim_end(), "stopped modbus line hall; exchanged broker yard; left 1 untouched");
    assert!(!publishing.is_finished(), "the session was exchanged while readings came");

    let sent = publishing.await.unwrap();
    assert_eq!(sent.acknowledged, sent.messages);
    let expected = i64::try_from(simulation.truth().expected().distinct).unwrap();
    let count = "SELECT (SELECT count(*) FROM electricity_readings WHERE source LIKE '%yard%')
                      + (SELECT count(*) FROM water_readings)";
    until("every reading", PATIENCE, || (site.number(count) == expected).then_some(()));
    let conflicts = "SELECT count(*) FROM electricity_readings WHERE revision > 0 AND source LIKE '%yard%'";
    assert_eq!(site.number(conflicts), 0);
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), 0);
    assert!(!collector.log().contains("the broker lost our session"), "{}", collector.log());
    site.stop(collector);
}

/// A device server that calls the collector once; behind it are the gateway's units.
fn call(collector: SocketAddr, id: &'static str, gateway: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ours = TcpStream::connect(collector).await.unwrap();
        ours.write_all(id.as_bytes()).await.unwrap();
        let mut units = TcpStream::connect(gateway).await.unwrap();
        copy_bidirectional(&mut ours, &mut units).await.ok();
    })
}

/// A listener with these device servers: id, unit, interval.
fn listener(bind: SocketAddr, links: &[(&str, u8, &str)]) -> String {
    let mut table = format!(
        "[[modbus_listen]]\nname = \"dtus\"\nbind = \"{bind}\"\nprotocol = \"tcp\"\nregistration = [\"{{id:5}}\"]\n"
    );
    for (id, unit, interval) in links {
        table += &format!(
            "[[modbus_listen.link]]\nid = \"{id}\"\n[[modbus_listen.link.device]]\nunit = {unit}\n\
             meter_id = \"W-{id}\"\nprofile = \"pulse-water\"\ninterval = \"{interval}\"\n"
        );
    }
    table
}

/// Waits until each of these device servers was read more often than it was.
fn all_are_read(site: &Site, collector: &Process, ids: &[&str]) {
    let readings = || -> Option<BTreeMap<String, u64>> {
        let devices = site.report(collector)?.devices.into_iter();
        let of =
            |figures: Vec<(String, u64)>| figures.into_iter().find(|(name, _)| name == "readings").map_or(0, |f| f.1);
        Some(devices.map(|device| (device.line, of(device.figures))).collect())
    };
    let before = readings().unwrap_or_default();
    until(&format!("readings of {ids:?}"), PATIENCE, || {
        let now = readings()?;
        let is_read = |id: &&str| {
            let line = format!("dtus/{id}");
            now.get(&line).copied().unwrap_or(0) > before.get(&line).copied().unwrap_or(0)
        };
        (now.len() == ids.len() && ids.iter().all(is_read)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_listener_leaves_its_other_links_their_connections() {
    let unit = |litres: i64| Unit {
        layout: Layout::PulseWater,
        behaviour: Behaviour::Answers,
        source: Arc::new(move || UnitValues { register_milli: litres, ..UnitValues::default() }),
    };
    let units = (1..=4).map(|number| (number, unit(i64::from(number) * 1000)));
    let behind = Gateway::start((Ipv4Addr::LOCALHOST, 0).into(), units.collect()).await.unwrap();
    let gateway = behind.address();
    let bind = free_address();
    let site = Site::new(&listener(bind, &[("dtu-1", 1, "1s"), ("dtu-2", 2, "1s"), ("dtu-3", 3, "1s")]));
    let collector = site.collect();
    until("the port is open", PATIENCE, || collector.log().contains("device servers may call").then_some(()));
    let [one, two, three] = ["dtu-1", "dtu-2", "dtu-3"].map(|id| call(bind, id, gateway));
    all_are_read(&site, &collector, &["dtu-1", "dtu-2", "dtu-3"]);

    // One stays, one is another unit, one goes, one comes.
    site.configure(&listener(bind, &[("dtu-1", 1, "1s"), ("dtu-2", 4, "1s"), ("dtu-4", 3, "1s")]));
    let said = site.tell(&["reload"]);
    let changed = "adjusted modbus listener dtus (1 of 3 links added, 1 removed, 1 changed); left 0 untouched";
    assert_eq!(said.trim_end(), changed);
    tokio::time::timeout(PATIENCE, three).await.expect("the connection of who is gone ends").unwrap();
    let four = call(bind, "dtu-4", gateway);
    all_are_read(&site, &collector, &["dtu-1", "dtu-2", "dtu-4"]);
    assert!(!one.is_finished() && !two.is_finished());
    let figure = |name: &str| {
        let report = site.report(&collector).unwrap();
        report.listeners[0].1.iter().find(|(figure, _)| figure == name).unwrap().1
    };
    assert_eq!((figure("registered"), figure("replaced"), figure("connections")), (4, 0, 3), "each called once");

    // By signal, and the same again: nothing is touched.
    collector.hang_up();
    let again = until("the answer", PATIENCE, || site.report(&collector)?.reload.filter(|reload| reload.number == 2));
    assert_eq!(again.detail, "left 1 untouched");

    // Another address is another listener.
    let elsewhere = free_address();
    site.configure(&listener(elsewhere, &[("dtu-1", 1, "1s")]));
    assert_eq!(site.tell(&["reload"]).trim_end(), "exchanged modbus listener dtus; left 0 untouched");
    for link in [one, two, four] {
        tokio::time::timeout(PATIENCE, link).await.expect("all are ended").unwrap();
    }
    let _one = call(elsewhere, "dtu-1", gateway);
    all_are_read(&site, &collector, &["dtu-1"]);

    let litres = |meter: &str| -> Vec<String> {
        let sql = format!("SELECT DISTINCT volume_m3 FROM water_readings WHERE meter_id = 'W-{meter}' ORDER BY 1");
        site.query(&sql).into_iter().flatten().collect()
    };
    until("what the changed one said", PATIENCE, || (litres("dtu-2") == ["2.000", "4.000"]).then_some(()));
    assert_eq!(
        (litres("dtu-1"), litres("dtu-3"), litres("dtu-4")),
        (vec!["1.000".to_owned()], vec!["3.000".to_owned()], vec!["3.000".to_owned()])
    );
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), 0);
    site.stop(collector);
}

/// A broker table with these topics.
fn subscribed(mosquitto: &Mosquitto, topics: &[&str]) -> String {
    broker_table(mosquitto.address, &topics.join("\", \""), "meterlake-json")
}

/// Publishes every message of a small fleet below a topic that does not begin as ours do.
async fn publish_all(mosquitto: &Mosquitto, simulation: &Arc<Simulation>, client: &str) -> u64 {
    let options = PublisherOptions::new("127.0.0.1", mosquitto.address.port(), client);
    let history = History::new(Arc::clone(simulation), MessageForm::Singles);
    let sent = Publisher::new(options).publish(stream::iter(history)).await.unwrap();
    assert_eq!(sent.acknowledged, sent.messages);
    sent.messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_a_reload_or_a_restart_takes_out_is_taken_back_from_the_session() {
    if !peers::asked_for() {
        return;
    }
    const ALL: &str = "meterlake/v1/+/readings";
    let (mosquitto, simulation) = (Mosquitto::start(), fleet());
    let site = Site::new(&subscribed(&mosquitto, &[ALL, "$share/yard/other/+/readings", "kept/+/readings"]));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();
    let messages = publish_all(&mosquitto, &simulation, "first").await;
    let figure = |collector: &Process, name: &str| {
        let report = site.report(collector)?;
        report.brokers[0].1.iter().find(|(figure, _)| figure == name).map(|(_, value)| *value)
    };
    until("all messages", PATIENCE, || (figure(&collector, "messages")? == messages).then_some(()));

    // A reload: what is published from then on is nobody's.
    site.configure(&subscribed(&mosquitto, &["$share/yard/other/+/readings", "kept/+/readings"]));
    assert_eq!(site.tell(&["reload"]).trim_end(), "exchanged broker yard; left 0 untouched");
    until("the broker's word", PATIENCE, || collector.log().contains("unsubscribed").then_some(()));
    publish_all(&mosquitto, &simulation, "second").await;

    // A restart with fewer topics, too.
    site.stop(collector);
    site.configure(&subscribed(&mosquitto, &["kept/+/readings"]));
    let collector = site.collect();
    until("the broker's word", PATIENCE, || (collector.log().matches("unsubscribed").count() == 2).then_some(()));
    publish_all(&mosquitto, &simulation, "third").await;
    site.stop(collector);
    publish_all(&mosquitto, &simulation, "fourth").await;

    // All topics again: had the session gone on with any of them, its messages would come first.
    site.configure(&subscribed(&mosquitto, &[ALL, "kept/+/readings"]));
    let collector = site.collect();
    let again = publish_all(&mosquitto, &simulation, "fifth").await;
    until("all messages", PATIENCE, || (figure(&collector, "messages")? >= again).then_some(()));
    assert_eq!(figure(&collector, "messages"), Some(again), "none waited at the broker");
    assert_eq!(figure(&collector, "sessions_lost"), Some(0));
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), 0);
    site.stop(collector);
}

#[test]
fn without_a_collector_there_is_nothing_to_reload() {
    let site = Site::new("");
    let answer = site.ask(&["reload"]);
    assert!(!answer.good && answer.err.contains("no collector runs on the journal"), "{}", answer.err);
}
