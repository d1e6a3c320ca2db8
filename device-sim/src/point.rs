//! A usage point with its meters, its load and what befalls it.

use std::sync::Arc;

use meterlake_model::{Channel, Commodity, CustomerId, MeterId, NodeId, Timestamp, UsagePointId};
use rand::Rng;

use crate::error::SimError;
use crate::load::Traits;
use crate::plan::{Class, FleetPlan, Link, METERS_PER_TRANSFORMER, PointRef};
use crate::random::{self, Purpose};
use crate::scenario::{Fault, Scenario};

/// Water meters of one district metered area.
const METERS_PER_DMA: usize = 100;

/// A meter at its place. Amounts are in 0.001 of the unit: Wh or litres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The meter.
    pub meter_id: MeterId,
    /// First instant.
    pub installed_at: Timestamp,
    /// First instant after it; `None`: it still hangs there.
    pub removed_at: Option<Timestamp>,
    /// Register when it was installed.
    pub start_register_milli: i64,
    /// Digits before the decimal point.
    pub digits: u8,
    /// Use of the place before it was installed.
    start_total_milli: i64,
}

impl Mount {
    /// The register when the place has used `total_milli` since its beginning.
    pub(crate) fn register_milli(&self, total_milli: i64) -> i64 {
        let wrap = 10_i64.pow(u32::from(self.digits) + 3);
        (self.start_register_milli + total_milli - self.start_total_milli).rem_euclid(wrap)
    }

    /// Whether it hangs there at an instant.
    pub fn covers(&self, ts: Timestamp) -> bool {
        self.installed_at <= ts && self.removed_at.is_none_or(|end| ts < end)
    }
}

/// A usage point and all that is true of it.
#[derive(Debug, Clone)]
pub struct Point {
    /// Position in [`Simulation::points`](crate::Simulation::points).
    pub index: usize,
    /// Its place in the plan.
    pub place: PointRef,
    /// Whose load it is.
    pub class: Class,
    /// Its name.
    pub usage_point_id: UsagePointId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// Transformer or district metered area.
    pub node_id: NodeId,
    /// Its meters, one after the other.
    pub mounts: Vec<Mount>,
    /// What its readings say, the register first.
    pub channels: Arc<[Channel]>,
    /// What befalls it.
    pub faults: Vec<Fault>,
    pub(crate) traits: Traits,
    /// Number of its transformer, from 0; without meaning for water.
    pub(crate) transformer: usize,
}

impl Point {
    /// The usage point of a place in the plan, with its first meter.
    pub(crate) fn new(plan: &FleetPlan, scenario: &Scenario, index: usize, place: PointRef) -> Result<Self, SimError> {
        let PointRef { commodity, link, number } = place;
        let mut rng = random::of_place(plan.seed, Purpose::Messages, index);
        let class = match (commodity, number) {
            (Commodity::Water, 0) if link == Link::Mqtt => Class::Hospital,
            (_, n) if n % 10 == 9 || link == Link::Modbus => Class::Commercial,
            _ => Class::Residential,
        };
        // Electricity meters are numbered through for their transformers, first those that speak MQTT.
        let through = match link {
            Link::Mqtt => number,
            Link::Modbus => plan.count(commodity, Link::Mqtt) + number,
        };
        let (letter, node, digits) = match commodity {
            Commodity::Electricity => ('E', transformer_name(through / METERS_PER_TRANSFORMER), 6),
            Commodity::Water => ('W', format!("DMA-{:03}", through / METERS_PER_DMA + 1), 5),
        };
        let kind = match link {
            Link::Mqtt => "",
            Link::Modbus => "M",
        };
        // Registers of polled meters stay below 8,192: a float of 32 bits holds those to 0.001.
        let start = match link {
            Link::Mqtt => rng.random_range(1_000_000..60_000_000),
            Link::Modbus => rng.random_range(100_000..3_000_000),
        };
        let transformer = through / METERS_PER_TRANSFORMER;
        let strikes = |fault: &&Fault| match fault {
            Fault::TransformerSag { transformer: hit, .. } => {
                commodity == Commodity::Electricity && *hit == transformer
            }
            _ => fault.point() == Some(place),
        };
        let faults: Vec<_> = scenario.faults.iter().filter(strikes).cloned().collect();
        let left = faults.iter().find_map(|fault| match fault {
            Fault::Rollover { left_milli, .. } => Some(*left_milli),
            _ => None,
        });
        let mount = Mount {
            meter_id: id(MeterId::new(&format!("{letter}{kind}-{:06}", number + 1)))?,
            installed_at: if link == Link::Mqtt { plan.from } else { plan.to },
            removed_at: None,
            start_register_milli: left.map_or(start, |left| 10_i64.pow(u32::from(digits) + 3) - left),
            digits,
            start_total_milli: 0,
        };
        Ok(Self {
            index,
            place,
            class,
            usage_point_id: id(UsagePointId::new(&format!("UP-{letter}{kind}-{:06}", number + 1)))?,
            customer_id: id(CustomerId::new(&format!("C{kind}-{:06}", number + 1)))?,
            node_id: id(NodeId::new(&node))?,
            mounts: vec![mount],
            channels: channels(commodity, class),
            faults,
            traits: Traits::new(plan.seed, index, class, commodity, plan.interval_s(commodity)),
            transformer,
        })
    }

    /// Hangs a new meter at `at`, where the place had used `total_milli`.
    pub(crate) fn exchange(&mut self, at: Timestamp, register_milli: i64, total_milli: i64) -> Result<(), SimError> {
        let number = self.mounts.len() + 1;
        let first = self.mounts[0].meter_id.clone();
        let Some(last) = self.mounts.last_mut().filter(|last| last.installed_at < at) else {
            return Err(SimError::Plan(format!("the meter of {} is exchanged twice at {at}", self.place)));
        };
        last.removed_at = Some(at);
        let digits = last.digits;
        self.mounts.push(Mount {
            meter_id: id(MeterId::new(&format!("{first}-{number}")))?,
            installed_at: at,
            removed_at: None,
            start_register_milli: register_milli,
            digits,
            start_total_milli: total_milli,
        });
        Ok(())
    }

    /// When its first meter was installed.
    pub fn begins(&self) -> Timestamp {
        self.mounts[0].installed_at
    }

    /// The meter that hangs there at an instant.
    pub fn mount_at(&self, ts: Timestamp) -> Option<&Mount> {
        self.mounts.iter().find(|m| m.covers(ts))
    }

    /// The register channel.
    pub fn register_channel(&self) -> Channel {
        self.channels[0]
    }

    /// How far the voltage is down at an instant, in 0.1 V.
    pub(crate) fn sag_dv(&self, ts: Timestamp) -> i64 {
        let sags = self.faults.iter().filter_map(|fault| match fault {
            Fault::MeterSag { drop_dv, window, .. } | Fault::TransformerSag { drop_dv, window, .. } => {
                window.contains(ts).then_some(*drop_dv)
            }
            _ => None,
        });
        sags.sum()
    }
}

/// Phases that a class's meter shows.
pub(crate) fn phases(class: Class) -> usize {
    match class {
        Class::Residential => 1,
        Class::Commercial | Class::Hospital => 3,
    }
}

fn id<T>(made: Result<T, meterlake_model::IdError>) -> Result<T, SimError> {
    made.map_err(|e| SimError::Plan(e.to_string()))
}

/// Name of a transformer by its number from 0.
pub(crate) fn transformer_name(number: usize) -> String {
    format!("TR-{:04}", number + 1)
}

fn channels(commodity: Commodity, class: Class) -> Arc<[Channel]> {
    let names: &[&str] = match (commodity, phases(class)) {
        (Commodity::Water, _) => &["volume_m3"],
        (Commodity::Electricity, 1) => &["energy_import_kwh", "voltage_l1_v", "power_kw"],
        (Commodity::Electricity, _) => {
            &["energy_import_kwh", "voltage_l1_v", "voltage_l2_v", "voltage_l3_v", "power_kw"]
        }
    };
    names.iter().filter_map(|name| Channel::by_name(name)).collect()
}
