use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use meterlake_model::registry::Registry;
use meterlake_model::{Amount, Channel, Commodity, MeterId, UsagePointId, Zone};
use proptest::prelude::*;

use super::*;
use crate::plan::{FleetPlan, PointRef};
use crate::scenario::{Fault, Scenario};
use crate::truth::{AlertKind, Expected};

fn plan(seed: u64, days: i64) -> FleetPlan {
    let from = Timestamp::parse_rfc3339("2026-10-01T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(seed, from, from.plus_seconds(days * DAY_S));
    plan.zone = Zone::parse("Europe/Madrid").unwrap();
    (plan.electricity_mqtt, plan.water_mqtt) = (6, 4);
    plan
}

fn simulation(plan: FleetPlan, faults: Vec<Fault>) -> Arc<Simulation> {
    Arc::new(Simulation::new(plan, Scenario { faults, malformed_ppm: 0 }).unwrap())
}

/// Readings by meter, time and channel with every value that was sent, and how often.
type Sent = BTreeMap<(MeterId, Timestamp), Vec<Vec<i64>>>;

fn sent(simulation: &Arc<Simulation>, form: MessageForm) -> Sent {
    let mut sent = Sent::new();
    for message in History::new(Arc::clone(simulation), form).filter(|m| m.readings() > 0) {
        for (ts, values) in message.rows.iter() {
            sent.entry((message.rows.meter_id.clone(), ts)).or_default().push(values.to_vec());
        }
    }
    sent
}

/// The counts of [`Expected`] that can be seen in the messages.
fn counted(simulation: &Arc<Simulation>, form: MessageForm) -> Expected {
    let mut counted = Expected::default();
    for message in History::new(Arc::clone(simulation), form) {
        let rows = message.rows.len() as u64;
        match message.kind {
            MessageKind::Fresh => counted.distinct += rows,
            MessageKind::Repeat => counted.repeated += rows,
            MessageKind::Conflict => counted.conflicting += rows,
            MessageKind::OldFirmware => counted.old_firmware += rows,
            MessageKind::Malformed(_) => {}
        }
    }
    counted
}

#[test]
fn the_same_plan_gives_the_same_messages_and_another_seed_others() {
    let all = |seed| -> Vec<(Arc<str>, Bytes)> {
        let plan = FleetPlan { electricity_mqtt: 60, water_mqtt: 60, ..plan(seed, 12) };
        let scenario = Scenario::defaults(&plan);
        assert!(scenario.faults.len() > 10);
        let simulation = Arc::new(Simulation::new(plan, scenario).unwrap());
        History::new(simulation, MessageForm::Frames).map(|m| (m.topic, m.payload)).collect()
    };
    let first = all(1);
    assert_eq!(first, all(1));
    assert_ne!(first, all(2));
}

#[test]
fn default_faults_leave_the_turn_of_each_month_alone() {
    for seed in 0..40 {
        let mut plan = plan(seed, 35);
        (plan.electricity_mqtt, plan.water_mqtt) = (300, 120);
        (plan.from, plan.to) = (plan.from.plus_seconds(-17 * DAY_S), plan.to.plus_seconds(-17 * DAY_S));
        let turn = Timestamp::parse_rfc3339("2026-09-30T22:00:00Z").unwrap();
        let scenario = Scenario::defaults(&plan);
        scenario.check(&plan).unwrap();
        let mut places: Vec<_> = scenario.faults.iter().filter_map(Fault::point).collect();
        let mut gaps = 0;
        for fault in &scenario.faults {
            match fault {
                Fault::Gap { window, .. } | Fault::OldFirmware { window, .. } => {
                    gaps += 1;
                    assert!(!window.contains(turn) && window.from >= plan.from && window.to <= plan.to, "{fault:?}");
                }
                Fault::Conflict { at, .. } => assert_ne!(*at, turn),
                _ => {}
            }
        }
        assert!(gaps > 4);
        let faults = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), faults, "each on a place of its own");
    }
}

#[test]
fn registers_rise_by_the_true_use_and_begin_where_the_registry_says() {
    let simulation = simulation(plan(1, 3), Vec::new());
    let registry = simulation.registry().unwrap();
    let sent = sent(&simulation, MessageForm::Frames);
    assert_eq!(sent.len(), 6 * 3 * 96 + 4 * 3 * 24);
    for point in simulation.points() {
        let (meter, channel) = (&point.mounts[0].meter_id, point.register_channel());
        let registers: Vec<_> =
            sent.iter().filter(|((m, _), _)| m == meter).map(|((_, ts), v)| (*ts, v[0][0])).collect();
        let start = registry.installations.iter().find(|i| i.meter_id == *meter).unwrap().channels[0].start_register;
        assert_eq!(Amount::from_scaled(registers[0].1, 3).ok(), start);
        for pair in registers.windows(2) {
            let used = simulation.truth().usage(&point.usage_point_id, channel, pair[0].0, pair[1].0).unwrap();
            assert_eq!(Amount::from_scaled(pair[1].1 - pair[0].1, 3), Ok(used));
        }
    }
}

#[test]
fn gaps_repeats_conflicts_and_late_readings_come_as_placed() {
    let plan = plan(1, 6);
    let window = Window::hours(plan.from.plus_seconds(30 * 3600), 20);
    let faults = vec![
        Fault::Gap { point: PointRef::electricity(0), window },
        Fault::Duplicate { point: PointRef::electricity(1), window },
        Fault::Late { point: PointRef::electricity(2), window, days: 2 },
        Fault::OutOfOrder { point: PointRef::water(1), window },
        Fault::Conflict { point: PointRef::electricity(3), at: window.from, add_milli: 7 },
        Fault::OldFirmware { point: PointRef::electricity(4), window: Window::hours(window.from, 1) },
    ];
    let simulation = simulation(plan.clone(), faults);
    for form in [MessageForm::Frames, MessageForm::Singles] {
        let expected = simulation.truth().expected();
        assert_eq!(expected, Expected { missing: 80, ..counted(&simulation, form) });
        assert_eq!((expected.repeated, expected.conflicting, expected.old_firmware), (80, 1, 4));
        let sent = sent(&simulation, form);
        assert_eq!(sent.len() as u64, expected.distinct);
        let conflicting = &sent[&(MeterId::new("E-000004").unwrap(), window.from)];
        assert_eq!(conflicting[1][0], conflicting[0][0] + 7);
    }

    let frames: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Frames).collect();
    let day_of = |m: &Message| m.rows.times[0].unix_seconds().div_euclid(DAY_S);
    let position = |find: &dyn Fn(&Message) -> bool| frames.iter().position(find).unwrap();
    let late = position(&|m| m.rows.meter_id.as_str() == "E-000003" && m.rows.times[0] == window.from);
    assert_eq!(day_of(&frames[late - 1]) - day_of(&frames[late]), 2, "two days late, behind the others of that day");
    let unordered = position(&|m| {
        m.rows.meter_id.as_str() == "W-000002" && m.rows.times.len() > 1 && m.rows.times[0] > m.rows.times[1]
    });
    assert!(frames[unordered].rows.times.is_sorted_by(|a, b| a > b));
}

#[test]
fn late_readings_come_at_the_end_when_history_is_too_short() {
    let plan = plan(1, 2);
    let fault = Fault::Late { point: PointRef::water(1), window: Window::hours(plan.from, 48), days: 30 };
    let simulation = simulation(plan, vec![fault]);
    let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Frames).collect();
    assert_eq!(messages.last().unwrap().rows.meter_id.as_str(), "W-000002");
    assert_eq!(counted(&simulation, MessageForm::Frames), simulation.truth().expected());
}

#[test]
fn an_exchange_is_two_installations_with_registers_and_no_use_is_lost() {
    let plan = plan(1, 4);
    let at = plan.from.plus_seconds(40 * 3600);
    let point = PointRef::electricity(2);
    let simulation = simulation(plan.clone(), vec![Fault::Exchange { point, at, new_register_milli: 3_000 }]);
    let registry = simulation.registry().unwrap();
    let id = simulation.point(point).unwrap().usage_point_id.clone();
    let [old, new] = registry.installations_of(&id)[..] else { panic!("two installations") };
    assert_eq!((old.removed_at, new.installed_at), (Some(at), Some(at)));
    assert_eq!(new.meter_id.as_str(), "E-000003-2");
    assert_eq!(new.channels[0].start_register, Amount::parse("3").ok());
    let channel = Channel::by_name("energy_import_kwh").unwrap();
    let sent = sent(&simulation, MessageForm::Frames);
    let last = sent.iter().rfind(|((m, _), _)| *m == new.meter_id).unwrap();
    let used = |from: Option<Amount>, to: Option<Amount>| to.unwrap().checked_sub(from.unwrap()).unwrap();
    let by_registers = used(old.channels[0].start_register, old.channels[0].end_register)
        .checked_add(used(new.channels[0].start_register, Amount::from_scaled(last.1[0][0], 3).ok()));
    assert_eq!(simulation.truth().usage(&id, channel, plan.from, last.0.1), by_registers);
    assert!(sent.keys().all(|(m, ts)| (*m != old.meter_id || *ts < at) && (*m != new.meter_id || *ts >= at)));
}

#[test]
fn a_register_wraps_at_its_digits() {
    let point = PointRef::water(1);
    let simulation = simulation(plan(1, 6), vec![Fault::Rollover { point, left_milli: 300 }]);
    let registers: Vec<_> = sent(&simulation, MessageForm::Frames)
        .iter()
        .filter(|((m, _), _)| m.as_str() == "W-000002")
        .map(|(_, v)| v[0][0])
        .collect();
    let falls = registers.windows(2).filter(|w| w[1] < w[0]).count();
    assert_eq!((registers[0], falls), (99_999_700, 1));
    let channel = Channel::by_name("volume_m3").unwrap();
    let plan = simulation.plan();
    let truth = simulation.truth();
    let last = plan.to.plus_seconds(-3600);
    let used = truth.usage(&simulation.point(point).unwrap().usage_point_id, channel, plan.from, last).unwrap();
    let wrapped = registers[registers.len() - 1] + 100_000_000 - registers[0];
    assert_eq!(Amount::from_scaled(wrapped, 3), Ok(used));
}

#[test]
fn a_leak_adds_its_rate_and_a_sag_lowers_the_voltage_of_those_it_strikes() {
    let plan = FleetPlan { electricity_mqtt: 60, ..plan(1, 4) };
    let window = Window::hours(plan.from.plus_seconds(30 * 3600), 24);
    let leak = Fault::Leak { point: PointRef::water(2), litres_per_hour: 7, window };
    let sag = Fault::TransformerSag { transformer: 1, drop_dv: 420, window };
    let quiet = simulation(plan.clone(), Vec::new());
    let struck = simulation(plan, vec![leak, sag]);
    let (quiet_sent, struck_sent) = (sent(&quiet, MessageForm::Frames), sent(&struck, MessageForm::Frames));
    let point = struck.point(PointRef::water(2)).unwrap();
    let channel = point.register_channel();
    let used = |s: &Simulation| s.truth().usage(&point.usage_point_id, channel, window.from, window.to).unwrap();
    assert_eq!(used(&struck).checked_sub(used(&quiet)), Amount::from_scaled(7 * 24, 3).ok());
    let mut lowered = BTreeSet::new();
    for ((meter, ts), values) in &struck_sent {
        let before = &quiet_sent[&(meter.clone(), *ts)];
        if meter.as_str().starts_with('E') && values[0][1] != before[0][1] {
            assert_eq!((values[0][1], window.contains(*ts)), (before[0][1] - 420, true));
            assert!(values[0][1] < 2070, "below the limit of 230 V less 10 %");
            lowered.insert(meter.clone());
        }
    }
    assert_eq!(lowered.len(), 25);
    let alerts = struck.truth().alerts();
    assert_eq!(alerts.len(), 26);
    assert_eq!(alerts.iter().filter(|a| a.kind == AlertKind::Leak).count(), 1);
    assert!(alerts.iter().all(|a| a.window == window));
}

#[test]
fn broken_messages_come_besides_the_good_ones_in_about_their_share() {
    let plan = FleetPlan { electricity_mqtt: 40, ..plan(9, 2) };
    let scenario = Scenario { faults: Vec::new(), malformed_ppm: 50_000 };
    let simulation = Arc::new(Simulation::new(plan, scenario).unwrap());
    let mut kinds = HashMap::new();
    let mut good = 0_u64;
    for message in History::new(Arc::clone(&simulation), MessageForm::Singles) {
        match message.kind {
            MessageKind::Malformed(kind) => *kinds.entry(kind).or_insert(0_u64) += 1,
            _ => {
                serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap();
                good += 1;
            }
        }
    }
    assert_eq!(good, simulation.truth().expected().distinct);
    assert_eq!(kinds.len(), Malformed::ALL.len());
    let share = kinds.values().sum::<u64>() * 1000 / good;
    assert!((35..65).contains(&share), "{share} of a thousand");
}

#[test]
fn the_registry_names_every_part_that_it_refers_to() {
    let plan = FleetPlan { electricity_mqtt: 60, electricity_modbus: 5, water_modbus: 3, ..plan(1, 3) };
    let scenario = Scenario::defaults(&plan);
    let simulation = Simulation::new(plan, scenario).unwrap();
    let registry: Registry = simulation.registry().unwrap();
    assert_eq!(registry.usage_points.len(), 72);
    for point in registry.usage_points.values() {
        assert!(registry.customers.contains_key(point.customer_id.as_ref().unwrap()));
        assert!(registry.network.contains_key(point.node_id.as_ref().unwrap()));
        assert_eq!(point.continuous_use, point.class == "hospital");
    }
    for node in registry.network.values() {
        assert!(node.parent_id.as_ref().is_none_or(|parent| registry.network.contains_key(parent)));
    }
    for installation in &registry.installations {
        assert!(registry.meters.contains_key(&installation.meter_id));
        assert!(registry.usage_points.contains_key(&installation.usage_point_id));
    }
    assert!(registry.installations.iter().any(|i| i.meter_id.as_str() == "EM-000001"));
}

#[test]
fn a_fault_that_fits_no_place_is_refused() {
    let plan = plan(1, 3);
    let window = Window::hours(plan.from, 5);
    for fault in [
        Fault::Leak { point: PointRef::electricity(0), litres_per_hour: 5, window },
        Fault::MeterSag { point: PointRef::water(0), drop_dv: 5, window },
        Fault::Gap { point: PointRef::electricity(6), window },
        Fault::Gap { point: PointRef::electricity_modbus(0), window },
        Fault::Dead { point: PointRef::electricity(0) },
        Fault::TransformerSag { transformer: 1, drop_dv: 5, window },
        Fault::Conflict { point: PointRef::electricity(0), at: plan.from.plus_seconds(1), add_milli: 1 },
        Fault::Exchange { point: PointRef::electricity(0), at: plan.from, new_register_milli: 1 },
    ] {
        let scenario = Scenario { faults: vec![fault.clone()], malformed_ppm: 0 };
        assert!(Simulation::new(plan.clone(), scenario).is_err(), "{fault:?}");
    }
    assert!(Simulation::new(FleetPlan { to: plan.to.plus_seconds(60), ..plan }, Scenario::none()).is_err());
}

#[test]
fn a_month_of_a_large_fleet_is_written_in_seconds() {
    let plan = FleetPlan { electricity_mqtt: 500, water_mqtt: 0, ..plan(1, 35) };
    let simulation = Arc::new(Simulation::new(plan, Scenario::none()).unwrap());
    let start = Instant::now();
    let (mut rows, mut bytes) = (0, 0);
    for message in History::new(simulation, MessageForm::Frames) {
        rows += message.rows.len();
        bytes += message.payload.len();
    }
    let took = start.elapsed();
    println!("{rows} readings, {bytes} bytes in {took:?}");
    assert_eq!(rows, 500 * 35 * 96);
    assert!(took.as_secs() < 30, "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn use_is_additive_and_equals_the_sum_of_its_slots(seed in 0_u64..50, a in 0_i64..4 * DAY_S, b in 0_i64..4 * DAY_S, c in 0_i64..4 * DAY_S, number in 0_usize..10) {
        let plan = plan(seed, 4);
        let window = Window::hours(plan.from.plus_seconds(50_000), 31);
        let leak = Fault::Leak { point: PointRef::water(3), litres_per_hour: 11, window };
        let simulation = simulation(plan.clone(), vec![leak]);
        let point = &simulation.points()[number];
        let mut cuts = [a, b, c].map(|s| plan.from.plus_seconds(s));
        cuts.sort();
        let used = |from, to| simulation.truth().usage(&point.usage_point_id, point.register_channel(), from, to).unwrap().micros();
        prop_assert_eq!(used(cuts[0], cuts[1]) + used(cuts[1], cuts[2]), used(cuts[0], cuts[2]));

        // Slot by slot, each spread evenly, cut to a millionth of the unit in the whole only at its two ends.
        let interval = simulation.interval_s(point);
        let mut brute = 0_f64;
        for day in 0..4 {
            let first = plan.from.unix_seconds() / DAY_S + day;
            for (slot, amount) in (0..).zip(simulation.use_of_day(point, first)) {
                let start = first * DAY_S + slot * interval;
                let inside = (cuts[2].unix_seconds().min(start + interval) - cuts[0].unix_seconds().max(start)).max(0);
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                { brute += amount as f64 * 1000.0 * inside as f64 / interval as f64; }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let difference = (brute - used(cuts[0], cuts[2]) as f64).abs();
        prop_assert!(difference < 2.0, "{} {}", brute, used(cuts[0], cuts[2]));
    }
}

#[test]
fn what_is_not_there_has_no_truth() {
    let simulation = simulation(plan(1, 1), Vec::new());
    let (truth, plan) = (simulation.truth(), simulation.plan());
    let volume = Channel::by_name("volume_m3").unwrap();
    let nobody = UsagePointId::new("nobody").unwrap();
    assert_eq!(truth.usage(&nobody, volume, plan.from, plan.to), None);
    let electricity = &simulation.points()[0];
    assert_eq!(electricity.place.commodity, Commodity::Electricity);
    assert_eq!(truth.usage(&electricity.usage_point_id, volume, plan.from, plan.to), None);
    let before = plan.from.plus_seconds(-1);
    assert_eq!(truth.register(&electricity.usage_point_id, electricity.register_channel(), before), None);
}
