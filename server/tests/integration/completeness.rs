//! Completeness from outside: a fleet with known faults, through broker, collector and job, to what an operator reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream;
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::{
    Fault, FleetPlan, History, Message, MessageForm, MessageKind, PointRef, Scenario, Simulation, Window,
};
use meterlake_model::{Commodity, GatewayId, MeterId, Timestamp};

use crate::mosquitto::{Mosquitto, broker_table};
use crate::peers;
use crate::site::{PATIENCE, Site, rows};

const GATEWAY_METERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_with_its_lowest_common_cause() {
    if !peers::asked_for() {
        return;
    }
    let to = Timestamp::from_unix_seconds(Timestamp::now().unix_seconds().div_euclid(86_400) * 86_400).unwrap();
    let from = to.plus_seconds(-3 * 86_400);
    let noon = from.plus_seconds(86_400 + 12 * 3600);
    let mut plan = FleetPlan::new(11, from, to);
    (plan.electricity_mqtt, plan.water_mqtt) = (20, 10);
    let faults = vec![
        Fault::Gap { point: PointRef::electricity(1), window: Window::hours(noon.plus_seconds(-7 * 3600), 5) },
        Fault::OldFirmware { point: PointRef::electricity(3), window: Window::hours(noon.plus_seconds(3 * 3600), 3) },
    ];
    let simulation = Arc::new(Simulation::new(plan, Scenario { faults, malformed_ppm: 0 }).unwrap());

    // The last six electricity meters speak through a gateway that is silent for two hours from noon on.
    let mut registry = simulation.registry().unwrap();
    let electricity = registry.meters.values_mut().filter(|m| m.commodity == Commodity::Electricity);
    let behind: Vec<MeterId> = electricity
        .rev()
        .take(GATEWAY_METERS)
        .map(|meter| {
            meter.gateway_id = GatewayId::new("G-7").ok();
            meter.id.clone()
        })
        .collect();
    let silent = |message: &Message| {
        let at = message.rows.times.first();
        behind.contains(&message.rows.meter_id) && at.is_some_and(|at| noon <= *at && *at < noon.plus_seconds(7200))
    };
    let messages: Vec<_> =
        History::new(Arc::clone(&simulation), MessageForm::Singles).filter(|message| !silent(message)).collect();

    let mosquitto = Mosquitto::start();
    let site = Site::new(&broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&registry);
    let collector = site.collect();
    let options = PublisherOptions::new("127.0.0.1", mosquitto.address.port(), "meters");
    Publisher::new(options).publish(stream::iter(messages.clone())).await.unwrap();
    let good: usize = messages.iter().map(Message::readings).sum();
    let stored = "SELECT (SELECT count(*) FROM water_readings) + (SELECT count(*) FROM electricity_readings)";
    crate::process::until("all readings", PATIENCE, || {
        (site.number(stored) == i64::try_from(good).unwrap()).then_some(())
    });
    site.stop(collector);
    let day = |at: Timestamp| meterlake_model::Zone::utc().day_of(at).to_string();
    let (first, end) = (day(from.plus_seconds(86_400)), day(to.plus_seconds(-86_400)));
    site.tell(&["job", "run", "completeness", "--from", &first, "--to", &end]);

    // The day in the middle has every fault whole, by any zone.
    let ask = |words: &[&str]| {
        let words: Vec<&str> =
            ["completeness", "--from", &first, "--to", &end, "-f", "csv"].iter().chain(words).copied().collect();
        let answer = site.ask(&words);
        assert!(answer.good, "{}", answer.err);
        (rows(&answer.out), answer.err)
    };
    let (reasons, line) = ask(&["--group-by", "reason"]);
    let gap_point = simulation.points().iter().find(|point| point.place == PointRef::electricity(1)).unwrap();
    let gap = gap_point.mounts[0].meter_id.to_string();
    let told: BTreeMap<(&str, &str), (&str, &str)> =
        reasons.iter().map(|row| ((&*row[0], &*row[1]), (&*row[2], &*row[3]))).collect();
    let expected = [
        (("decode", "missing_field"), ("1", "12")),
        (("gateway", "G-7"), ("6", "48")),
        (("meter", gap.as_str()), ("1", "20")),
    ];
    assert_eq!(told, BTreeMap::from(expected), "{line}");
    assert!(line.contains("gateway G-7 explains 48 missing"), "{line}");
    let old = messages.iter().find(|message| message.kind == MessageKind::OldFirmware).unwrap();
    let (of_meter, _) = ask(&["--meter", old.rows.meter_id.as_str()]);
    assert_eq!(of_meter.len(), 1);
    let (gateways, _) = ask(&["--group-by", "gateway", "--missing-only"]);
    assert_eq!(gateways.len(), 2, "those behind G-7 and those behind none: {gateways:?}");
}
