//! The fleet as the utility's registry knows it.

use meterlake_model::registry::{
    Customer, Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{Amount, Commodity, NodeId};

use crate::error::SimError;
use crate::plan::{Class, Link};
use crate::point::{Mount, Point, phases};
use crate::simulation::Simulation;

/// Transformers of one feeder.
const TRANSFORMERS_PER_FEEDER: usize = 8;
/// Nominal voltage in 0.1 V.
const NOMINAL_DV: i64 = 2300;

impl Simulation {
    /// Customers, network, usage points, meters and installations with their registers at both ends.
    ///
    /// # Errors
    /// When a register does not fit its column; no plan gives one.
    pub fn registry(&self) -> Result<Registry, SimError> {
        let mut registry = Registry::default();
        for point in self.points() {
            self.add_network(&mut registry, point)?;
            registry.customers.entry(point.customer_id.clone()).or_insert_with(|| Customer {
                id: point.customer_id.clone(),
                name: format!("Customer {}", point.customer_id),
            });
            registry.usage_points.insert(
                point.usage_point_id.clone(),
                UsagePoint {
                    id: point.usage_point_id.clone(),
                    commodity: point.place.commodity,
                    zone: self.plan().zone.clone(),
                    customer_id: Some(point.customer_id.clone()),
                    node_id: Some(point.node_id.clone()),
                    class: point.class.as_str().to_owned(),
                    place: format!("{}, service {}", point.node_id, point.place.number + 1),
                    billing_day: self.plan().billing_day,
                    active: true,
                    continuous_use: point.class == Class::Hospital,
                    nominal_voltage_dv: (point.place.commodity == Commodity::Electricity).then_some(NOMINAL_DV),
                    customer_since: None,
                    parent_id: None,
                },
            );
            for mount in &point.mounts {
                registry.meters.insert(
                    mount.meter_id.clone(),
                    Meter {
                        id: mount.meter_id.clone(),
                        commodity: point.place.commodity,
                        serial: None,
                        model: model(point).to_owned(),
                        gateway_id: None,
                    },
                );
                registry.installations.push(self.installation(point, mount)?);
            }
        }
        registry.installations.sort_by(|a, b| (&a.meter_id, a.installed_at).cmp(&(&b.meter_id, b.installed_at)));
        Ok(registry)
    }

    fn installation(&self, point: &Point, mount: &Mount) -> Result<Installation, SimError> {
        let end = mount.removed_at.map(|at| {
            let before = at.plus_micros(-1);
            // What the fitter reads off: the register up to the removal, which `register_milli` gives for the meter that
            // still hangs there; the total at `at` itself belongs to the same register.
            let total = self.total_micros(point, at) / 1000 - self.total_micros(point, before) / 1000;
            self.register_milli(point, before).map_or(0, |(_, register)| register + total)
        });
        let wrap = 10_i64.pow(u32::from(mount.digits) + 3);
        Ok(Installation {
            meter_id: mount.meter_id.clone(),
            usage_point_id: point.usage_point_id.clone(),
            installed_at: Some(mount.installed_at),
            removed_at: mount.removed_at,
            is_check: false,
            channels: vec![InstallationChannel {
                channel: point.register_channel(),
                multiplier_micros: 1_000_000,
                digits: Some(mount.digits),
                resolution: milli(1)?,
                interval_s: self.interval_s(point),
                interval_assumed: false,
                capacity_per_hour: Some(milli(capacity_milli(point))?),
                start_register: Some(milli(mount.start_register_milli)?),
                end_register: end.map(|register| milli(register.rem_euclid(wrap))).transpose()?,
            }],
        })
    }

    fn add_network(&self, registry: &mut Registry, point: &Point) -> Result<(), SimError> {
        let kind = match point.place.commodity {
            Commodity::Electricity => NodeKind::Transformer,
            Commodity::Water => NodeKind::Dma,
        };
        if registry.network.contains_key(&point.node_id) {
            return Ok(());
        }
        let mut parent = None;
        if kind == NodeKind::Transformer {
            let number: usize = point.node_id.as_str().trim_start_matches("TR-").parse().unwrap_or(1);
            let substation = node("SUB-01")?;
            let feeder = node(&format!("FD-{:03}", (number - 1) / TRANSFORMERS_PER_FEEDER + 1))?;
            add(registry, &substation, NodeKind::Substation, None);
            add(registry, &feeder, NodeKind::Feeder, Some(substation));
            parent = Some(feeder);
        }
        add(registry, &point.node_id, kind, parent);
        Ok(())
    }
}

fn add(registry: &mut Registry, id: &NodeId, kind: NodeKind, parent_id: Option<NodeId>) {
    registry.network.entry(id.clone()).or_insert_with(|| NetworkNode {
        id: id.clone(),
        kind,
        parent_id,
        name: format!("{kind} {id}", kind = kind.as_str()),
    });
}

fn node(name: &str) -> Result<NodeId, SimError> {
    NodeId::new(name).map_err(|e| SimError::Plan(e.to_string()))
}

fn milli(value: i64) -> Result<Amount, SimError> {
    Amount::from_scaled(value, 3).map_err(|e| SimError::Plan(format!("register {value} of 0.001: {e}")))
}

/// The most in one hour: 63 A at 230 V on each phase in Wh, Q4 in litres.
fn capacity_milli(point: &Point) -> i64 {
    match (point.place.commodity, point.class) {
        (Commodity::Electricity, class) => 63 * 230 * i64::try_from(phases(class)).unwrap_or(1),
        (Commodity::Water, Class::Residential) => 3_125,
        (Commodity::Water, Class::Commercial | Class::Hospital) => 12_500,
    }
}

fn model(point: &Point) -> &'static str {
    match (point.place.commodity, point.place.link) {
        (Commodity::Electricity, Link::Mqtt) => "simulated electricity meter, MQTT",
        (Commodity::Water, Link::Mqtt) => "simulated water meter, MQTT",
        (Commodity::Electricity, Link::Modbus) => "simulated SDM630, Modbus TCP",
        (Commodity::Water, Link::Modbus) => "simulated pulse water meter, Modbus TCP",
    }
}
