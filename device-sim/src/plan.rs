//! How many meters of which kind, over which time: all that a fleet is made from, beside its scenario.

use std::fmt;

use meterlake_model::{Commodity, Timestamp, Zone};

use crate::error::SimError;

/// Meters under one transformer.
pub const METERS_PER_TRANSFORMER: usize = 25;
/// Units behind one Modbus gateway.
pub const UNITS_PER_GATEWAY: usize = 32;

/// How a meter speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// It sends messages by itself.
    Mqtt,
    /// It is asked.
    Modbus,
}

/// Whose load it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A home.
    Residential,
    /// A shop or an office: open on weekdays.
    Commercial,
    /// Uses water at all hours of the day, as a hospital does.
    Hospital,
}

impl Class {
    /// The word in the registry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Residential => "residential",
            Self::Commercial => "commercial",
            Self::Hospital => "hospital",
        }
    }
}

/// One usage point of a plan: which commodity, how it speaks, which number among those, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointRef {
    /// What is measured.
    pub commodity: Commodity,
    /// How its meter speaks.
    pub link: Link,
    /// From 0 among those of the same commodity and link.
    pub number: usize,
}

impl PointRef {
    /// Electricity over MQTT.
    pub const fn electricity(number: usize) -> Self {
        Self { commodity: Commodity::Electricity, link: Link::Mqtt, number }
    }

    /// Water over MQTT.
    pub const fn water(number: usize) -> Self {
        Self { commodity: Commodity::Water, link: Link::Mqtt, number }
    }

    /// Electricity over Modbus.
    pub const fn electricity_modbus(number: usize) -> Self {
        Self { commodity: Commodity::Electricity, link: Link::Modbus, number }
    }

    /// Water over Modbus.
    pub const fn water_modbus(number: usize) -> Self {
        Self { commodity: Commodity::Water, link: Link::Modbus, number }
    }
}

impl fmt::Display for PointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = match self.link {
            Link::Mqtt => "mqtt",
            Link::Modbus => "modbus",
        };
        write!(f, "{} {link} {}", self.commodity, self.number)
    }
}

/// What a fleet is made from. The same plan and scenario give the same meters, readings and messages to the last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPlan {
    /// Seed of everything that varies.
    pub seed: u64,
    /// Electricity meters that send MQTT messages.
    pub electricity_mqtt: usize,
    /// Water meters that send MQTT messages.
    pub water_mqtt: usize,
    /// Electricity meters that are asked over Modbus.
    pub electricity_modbus: usize,
    /// Water meters that are asked over Modbus.
    pub water_modbus: usize,
    /// Civil time of all places.
    pub zone: Zone,
    /// First reading of history; a whole number of both intervals since 1970.
    pub from: Timestamp,
    /// End of history, without it, and first live reading; Modbus meters are installed then.
    pub to: Timestamp,
    /// Seconds between electricity readings; divides a day.
    pub electricity_interval_s: i64,
    /// Seconds between water readings; divides a day.
    pub water_interval_s: i64,
    /// Day of the month on which billing cycles begin, 1 to 28.
    pub billing_day: u8,
}

impl FleetPlan {
    /// No meters yet, quarters of an hour for electricity and hours for water, in UTC, billed by calendar months.
    pub fn new(seed: u64, from: Timestamp, to: Timestamp) -> Self {
        Self {
            seed,
            electricity_mqtt: 0,
            water_mqtt: 0,
            electricity_modbus: 0,
            water_modbus: 0,
            zone: Zone::utc(),
            from,
            to,
            electricity_interval_s: 900,
            water_interval_s: 3600,
            billing_day: 1,
        }
    }

    /// Seconds between the readings of a commodity.
    pub fn interval_s(&self, commodity: Commodity) -> i64 {
        match commodity {
            Commodity::Electricity => self.electricity_interval_s,
            Commodity::Water => self.water_interval_s,
        }
    }

    /// How many usage points of this commodity and link there are.
    pub fn count(&self, commodity: Commodity, link: Link) -> usize {
        match (commodity, link) {
            (Commodity::Electricity, Link::Mqtt) => self.electricity_mqtt,
            (Commodity::Water, Link::Mqtt) => self.water_mqtt,
            (Commodity::Electricity, Link::Modbus) => self.electricity_modbus,
            (Commodity::Water, Link::Modbus) => self.water_modbus,
        }
    }

    /// Every usage point, in the order of their indexes.
    pub fn points(&self) -> impl Iterator<Item = PointRef> {
        let groups = [
            (Commodity::Electricity, Link::Mqtt),
            (Commodity::Water, Link::Mqtt),
            (Commodity::Electricity, Link::Modbus),
            (Commodity::Water, Link::Modbus),
        ];
        groups.into_iter().flat_map(|(commodity, link)| {
            (0..self.count(commodity, link)).map(move |number| PointRef { commodity, link, number })
        })
    }

    /// Whether the plan can be carried out.
    ///
    /// # Errors
    /// When an interval does not divide a day, or history does not begin and end on both grids.
    pub fn check(&self) -> Result<(), SimError> {
        let mut intervals = [self.electricity_interval_s, self.water_interval_s];
        intervals.sort_unstable();
        for interval in intervals {
            if !(1..=86_400).contains(&interval) || 86_400 % interval != 0 {
                return Err(SimError::Plan(format!("an interval of {interval} s does not divide a day")));
            }
            for (name, ts) in [("from", self.from), ("to", self.to)] {
                if ts.micros().rem_euclid(interval * 1_000_000) != 0 {
                    return Err(SimError::Plan(format!("{name} {ts} is not on the grid of {interval} s")));
                }
            }
        }
        if self.to < self.from {
            return Err(SimError::Plan(format!("history ends at {} before it begins at {}", self.to, self.from)));
        }
        Ok(())
    }
}
