//! The registry: which meter served which usage point and customer, from when to when, and what stands above them.
//!
//! Spans are half-open: `[installed_at, removed_at)`. A meter exchange is one installation ending and another beginning.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::amount::Amount;
use crate::channel::{Channel, ChannelKind, Commodity};
use crate::directory::{InstalledMultiplier, MeterDirectory, MeterEntry};
use crate::id::{CustomerId, GatewayId, MeterId, NodeId, UsagePointId};
use crate::time::{Timestamp, Zone};

/// A place of supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePoint {
    /// Its name.
    pub id: UsagePointId,
    /// What is supplied.
    pub commodity: Commodity,
    /// Civil time of its days and billing cycles.
    pub zone: Zone,
    /// Who is billed, if anyone.
    pub customer_id: Option<CustomerId>,
    /// The part of the network that feeds it: transformer or district metered area.
    pub node_id: Option<NodeId>,
    /// Customer class such as `residential`, `commercial`, `industrial`; free text, compared as it is.
    pub class: String,
    /// Place for the field team: address or coordinates.
    pub place: String,
    /// Day of the month on which the billing cycle begins, 1 to 28.
    pub billing_day: u8,
    /// Whether the account is active.
    pub active: bool,
    /// Known to use water at all hours (hospital, cooling): excepted from the leak rule.
    pub continuous_use: bool,
    /// Nominal voltage between phase and neutral, in 0.1 V; electricity only.
    pub nominal_voltage_dv: Option<i64>,
    /// Since when this customer is supplied there: what was used before says nothing of its use. `None`: always.
    pub customer_since: Option<Timestamp>,
    /// The usage point whose meter has counted before what flows here: a transformer's or district's meter, or the main meter
    /// beside a check meter.
    pub parent_id: Option<UsagePointId>,
}

/// A meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// As it names itself in its messages.
    pub id: MeterId,
    /// What it measures.
    pub commodity: Commodity,
    /// Serial number, where it differs from the id.
    pub serial: Option<String>,
    /// Maker and type.
    pub model: String,
    /// What carries its messages; `None`: it speaks for itself, or nobody knows.
    pub gateway_id: Option<GatewayId>,
}

/// A party that is billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Its name in the books.
    pub id: CustomerId,
    /// Its name for people.
    pub name: String,
}

/// What a part of the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Substation.
    Substation,
    /// Feeder.
    Feeder,
    /// Distribution transformer.
    Transformer,
    /// District metered area of a water network.
    Dma,
}

impl NodeKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Substation, Self::Feeder, Self::Transformer, Self::Dma];

    /// The name in files and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Substation => "substation",
            Self::Feeder => "feeder",
            Self::Transformer => "transformer",
            Self::Dma => "dma",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// A part of the network above usage points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNode {
    /// Its name.
    pub id: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// What feeds it.
    pub parent_id: Option<NodeId>,
    /// Its name for people.
    pub name: String,
}

/// One channel of an installation: how its readings become use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationChannel {
    /// Register or interval channel.
    pub channel: Channel,
    /// Reading to use, in millionths: 1,000,000 for one; a current transformer of 40 gives 40,000,000.
    pub multiplier_micros: i64,
    /// Digits before the decimal point; the register wraps at 10^digits units. `None`: it does not wrap.
    pub digits: Option<u8>,
    /// The smallest step of the register as read, before the multiplier.
    pub resolution: Amount,
    /// Seconds between readings when nothing is missing.
    pub interval_s: i64,
    /// Nobody stated the interval: it is what is usual for the commodity.
    pub interval_assumed: bool,
    /// The most that can flow in one hour, after the multiplier (fuse or contract in kW, Q4 in m³/h). `None`: no check.
    pub capacity_per_hour: Option<Amount>,
    /// Register when it was installed, as read.
    pub start_register: Option<Amount>,
    /// Register when it was removed, as read.
    pub end_register: Option<Amount>,
}

/// A meter at a usage point over a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The meter.
    pub meter_id: MeterId,
    /// The place.
    pub usage_point_id: UsagePointId,
    /// When it was installed. `None`: before its first reading.
    pub installed_at: Option<Timestamp>,
    /// When it was removed. `None`: still there.
    pub removed_at: Option<Timestamp>,
    /// Whether it only stands beside another meter of the point: its use is not counted, and stands in where the other's
    /// is missing.
    pub is_check: bool,
    /// Its channels, in catalogue order.
    pub channels: Vec<InstallationChannel>,
}

impl Installation {
    /// Whether the meter hung there at an instant.
    pub fn covers(&self, ts: Timestamp) -> bool {
        self.installed_at.is_none_or(|from| from <= ts) && self.removed_at.is_none_or(|to| ts < to)
    }
}

/// All of the registry at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Number of the import that it stands for; 0 when nothing was imported.
    pub revision: i64,
    /// By id.
    pub usage_points: BTreeMap<UsagePointId, UsagePoint>,
    /// By id.
    pub meters: BTreeMap<MeterId, Meter>,
    /// By meter, then by time.
    pub installations: Vec<Installation>,
    /// By id.
    pub customers: BTreeMap<CustomerId, Customer>,
    /// By id.
    pub network: BTreeMap<NodeId, NetworkNode>,
}

impl Registry {
    /// What the collectors need of it.
    pub fn directory(&self) -> MeterDirectory {
        let zones: HashMap<_, _> = self
            .installations
            .iter()
            .filter_map(|i| Some((&i.meter_id, self.usage_points.get(&i.usage_point_id)?.zone.clone())))
            .collect();
        let mut multipliers: HashMap<&MeterId, Vec<InstalledMultiplier>> = HashMap::new();
        for installation in &self.installations {
            let of = multipliers.entry(&installation.meter_id).or_default();
            let (from, to) = (installation.installed_at, installation.removed_at);
            for channel in installation.channels.iter().filter(|c| c.channel.kind() != ChannelKind::Physical) {
                let one = InstalledMultiplier { from, to, micros: channel.multiplier_micros };
                if !of.contains(&one) {
                    of.push(one);
                }
            }
        }
        // Most meters have had one multiplier for ever, and the same as most others: they share the list.
        let mut lists: HashMap<Vec<InstalledMultiplier>, Arc<[InstalledMultiplier]>> = HashMap::new();
        let mut shared = |id: &MeterId| {
            let mut list = multipliers.remove(id).unwrap_or_default();
            if let Some(micros) = list.first().map(|m| m.micros)
                && list.iter().all(|m| m.micros == micros)
            {
                list = vec![InstalledMultiplier { from: None, to: None, micros }];
            }
            Arc::clone(lists.entry(list).or_insert_with_key(|list| list.as_slice().into()))
        };
        // A gateway has hundreds of meters: they share its name.
        let mut gateways: HashMap<&GatewayId, Arc<str>> = HashMap::new();
        MeterDirectory::new(self.meters.values().map(|meter| {
            let name = |id| Arc::clone(gateways.entry(id).or_insert_with(|| id.as_str().into()));
            let entry = MeterEntry {
                commodity: meter.commodity,
                zone: zones.get(&meter.id).cloned().unwrap_or_else(Zone::utc),
                serial: meter.serial.as_deref().map(Into::into),
                gateway: meter.gateway_id.as_ref().map(name),
                multipliers: shared(&meter.id),
            };
            (meter.id.clone(), entry)
        }))
    }

    /// The installations of one usage point in order of time.
    pub fn installations_of<'a>(&'a self, point: &'a UsagePointId) -> Vec<&'a Installation> {
        let mut found: Vec<_> = self.installations.iter().filter(|i| i.usage_point_id == *point).collect();
        found.sort_by_key(|i| i.installed_at);
        found
    }
}
