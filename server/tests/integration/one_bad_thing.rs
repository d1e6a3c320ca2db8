//! One bad thing hurts nobody else: a dead device among 32 on a line, 1 % of messages that cannot be read, and messages
//! that wait for a mended map (design.md §5, rules 4 and 9).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use meterlake_device_sim::ledger::Ledger;
use meterlake_device_sim::modbus::{Gateway, Layout};
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::{
    Fault, FleetPlan, History, Malformed, Message, MessageForm, MessageKind, PointRef, Scenario, Simulation, Window,
};
use meterlake_model::Timestamp;

use crate::mosquitto::{Mosquitto, broker_table};
use crate::peers;
use crate::process::until;
use crate::site::{PATIENCE, Site};

const DEVICES: usize = 32;
/// In the middle of the line's turn, so that those behind it would feel its silence.
const DEAD: usize = 13;
const SLOT_S: i64 = 2;
/// Slots that every device must have answered at.
const SLOTS: i64 = 8;

fn last_hour() -> Timestamp {
    let now = Timestamp::now().unix_seconds();
    Timestamp::from_unix_seconds(now.div_euclid(3600) * 3600).unwrap()
}

/// MQTT meters of a day ago beside Modbus meters of now; one of each kind goes bad.
fn simulation() -> Arc<Simulation> {
    let to = last_hour();
    let mut plan = FleetPlan::new(7, to.plus_seconds(-86_400), to);
    (plan.electricity_mqtt, plan.water_mqtt, plan.electricity_modbus) = (30, 20, DEVICES);
    let faults = vec![
        Fault::Dead { point: PointRef::electricity_modbus(DEAD) },
        Fault::OldFirmware { point: PointRef::electricity(3), window: Window::hours(to.plus_seconds(-40_000), 3) },
    ];
    Arc::new(Simulation::new(plan, Scenario { faults, malformed_ppm: 10_000 }).unwrap())
}

async fn gateway(simulation: &Arc<Simulation>) -> (Gateway, String) {
    let plans = simulation.gateways();
    assert_eq!(plans.len(), 1, "all devices are on one line");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let gateway = Gateway::of_plan(Arc::clone(simulation), &plans[0], listen).await.unwrap();
    let port = gateway.address().port();
    let mut table = format!("[[modbus]]\nname = \"hall\"\nhost = \"127.0.0.1\"\nport = {port}\ntimeout = \"300ms\"\n");
    for unit in &plans[0].units {
        assert_eq!(unit.layout, Layout::Sdm630);
        table += &format!(
            "[[modbus.device]]\nunit = {}\nmeter_id = \"{}\"\nprofile = \"eastron-sdm630\"\ninterval = \"{SLOT_S}s\"\n",
            unit.unit, unit.meter_id
        );
    }
    (gateway, table)
}

fn expected_reason(kind: MessageKind) -> Option<&'static str> {
    Some(match kind {
        MessageKind::Fresh | MessageKind::Repeat | MessageKind::Conflict => return None,
        MessageKind::OldFirmware => "missing_field",
        MessageKind::Malformed(Malformed::Truncated) => "syntax",
        MessageKind::Malformed(Malformed::NotANumber) => "bad_value",
        MessageKind::Malformed(Malformed::NoTime | Malformed::BadTime) => "bad_time",
        MessageKind::Malformed(Malformed::LongAgo) => "implausible_time",
        MessageKind::Malformed(Malformed::TooFine) => "overflow",
    })
}

/// Reason and payload of each bad message, in order.
fn expected_letters(messages: &[Message]) -> Vec<Vec<String>> {
    let mut letters: Vec<_> = messages
        .iter()
        .filter_map(|message| {
            let payload = String::from_utf8(message.payload.to_vec()).unwrap();
            Some(vec![expected_reason(message.kind)?.to_owned(), message.topic.to_string(), payload])
        })
        .collect();
    letters.sort();
    letters
}

/// Distinct slots of each Modbus meter, its first and its last, in seconds.
fn slots(site: &Site) -> BTreeMap<String, (i64, i64, i64)> {
    let rows = site.query(
        "SELECT meter_id, count(*), min(CAST(ts AS BIGINT)) / 1000000, max(CAST(ts AS BIGINT)) / 1000000
         FROM electricity_readings WHERE source LIKE '%hall%' GROUP BY meter_id",
    );
    let number = |text: &String| text.parse().unwrap();
    rows.iter().map(|row| (row[0].clone(), (number(&row[1]), number(&row[2]), number(&row[3])))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_9_a_dead_device_and_broken_messages_cost_the_others_no_slot_and_no_reading() {
    if !peers::asked_for() {
        return;
    }
    let _machine = peers::whole_machine().await;
    let (mosquitto, simulation) = (Mosquitto::start(), simulation());
    let (_gateway, line) = gateway(&simulation).await;
    let broker = broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json");
    let site = Site::new(&format!("{broker}{line}"));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();

    let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Singles).collect();
    let letters = expected_letters(&messages);
    assert!(letters.len() * 100 >= messages.len(), "{} of {} are bad", letters.len(), messages.len());
    let options = PublisherOptions::new("127.0.0.1", mosquitto.address.port(), "meters");
    let ledger = Ledger::create(&site.path("ledger")).unwrap();
    let publisher = Publisher { ledger: Some(ledger), ..Publisher::new(options) };
    publisher.publish(stream::iter(messages.clone())).await.unwrap();

    // The line has had its slots, dead device or not.
    let first_slot = slots(&site).values().map(|slot| slot.1).max().unwrap_or_else(|| Timestamp::now().unix_seconds());
    let enough = first_slot + (SLOTS + 1) * SLOT_S;
    tokio::time::sleep(Duration::from_secs(u64::try_from(enough - Timestamp::now().unix_seconds()).unwrap_or(0))).await;
    let living = DEVICES - 1;
    let slots = until("every living device at the last slot", PATIENCE, || {
        let slots = slots(&site);
        (slots.len() >= living && slots.values().all(|slot| slot.2 >= enough)).then_some(slots)
    });
    assert_eq!(slots.len(), living, "the dead one says nothing");
    for (meter, (count, first, last)) in &slots {
        assert_eq!((first % SLOT_S, last % SLOT_S), (0, 0), "{meter} is polled on the grid");
        assert_eq!(*count, (last - first) / SLOT_S + 1, "{meter} has a reading for each slot");
        assert!(*count >= SLOTS, "{meter} has {count} readings");
    }

    // Each bad message is kept whole with its reason, and nothing else is.
    let kept = "SELECT reason, topic, CAST(payload AS VARCHAR) AS payload FROM dead_letters
                WHERE source LIKE '%yard%' ORDER BY reason, topic, payload";
    let mut found = site.query(kept);
    found.sort();
    assert_eq!(found, letters);

    // Every good reading is there as it was sent.
    let good: usize = messages.iter().map(Message::readings).sum();
    let stored = "SELECT (SELECT count(*) FROM water_readings)
                       + (SELECT count(*) FROM electricity_readings WHERE source LIKE '%yard%')";
    assert_eq!(site.number(stored), i64::try_from(good).unwrap());
    site.stop(collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_dead_letters_come_back_by_replay_after_the_map_is_mended() {
    if !peers::asked_for() {
        return;
    }
    let (mosquitto, simulation) = (Mosquitto::start(), simulation());
    let site = Site::new(&broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();
    let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Singles)
        .filter(|message| message.kind != MessageKind::Fresh)
        .collect();
    let options = PublisherOptions::new("127.0.0.1", mosquitto.address.port(), "meters");
    Publisher::new(options).publish(stream::iter(messages.clone())).await.unwrap();
    let count = "SELECT count(*) FROM dead_letters";
    until("all dead letters", PATIENCE, || {
        (site.number(count) == i64::try_from(messages.len()).unwrap()).then_some(())
    });
    site.stop(collector);

    // The new firmware's names are one more place where the value may stand.
    let mended = r#"
name = "meterlake-json-and-old-firmware"
version = 1
topic = "meterlake/v1/{meter}/readings"
format = "json"
samples = ["readings", "$"]
by_name = true

[time]
path = "ts"
format = "rfc3339"

[fields.energy_import_kwh]
paths = ["energy_import_kwh", "import"]
unit = "kWh"
optional = true
"#;
    std::fs::write(site.path("mended.toml"), mended).unwrap();
    site.configure(&broker_table(mosquitto.address, "meterlake/v1/+/readings", "mended.toml"));
    let old: Vec<_> = messages.iter().filter(|message| message.kind == MessageKind::OldFirmware).collect();
    assert_eq!(old.len(), 12, "three hours of quarters");

    // With the collector running and without: first a look, then the deed, then nothing is left to do.
    let dry = site.tell(&["dead-letters", "replay", "--dry-run"]);
    assert!(dry.starts_with(&format!("12 of {} dead letters could be read", messages.len())), "{dry}");
    assert_eq!(site.number("SELECT count(*) FROM electricity_readings"), 0);
    let collector = site.collect();
    let done = site.tell(&["dead-letters", "replay"]);
    assert!(done.starts_with(&format!("12 of {} dead letters read again", messages.len())), "{done}");
    site.stop(collector);
    let again = site.tell(&["dead-letters", "replay"]);
    assert!(again.starts_with(&format!("0 of {} dead letters", messages.len() - 12)), "{again}");

    let stored = site.query(
        "SELECT meter_id, CAST(ts AS BIGINT) AS at, energy_import_kwh FROM electricity_readings ORDER BY meter_id, ts",
    );
    let mut expected: Vec<_> = old
        .iter()
        .map(|message| {
            let (ts, values) = message.rows.iter().next().unwrap();
            let register = format!("{}.{:03}", values[0] / 1000, values[0] % 1000);
            vec![message.rows.meter_id.to_string(), ts.micros().to_string(), register]
        })
        .collect();
    expected.sort();
    assert_eq!(stored, expected);
    let waiting = site.tell(&["dead-letters", "list", "--format", "csv", "--limit", "100000"]);
    assert_eq!(crate::site::rows(&waiting).len(), messages.len() - 12, "what was read again is listed no more");
    assert_eq!(site.number(count), i64::try_from(messages.len()).unwrap(), "and kept all the same");
}
