//! What the collectors know of the registry: a snapshot by meter.

use std::collections::HashMap;
use std::sync::Arc;

use crate::channel::Commodity;
use crate::id::MeterId;
use crate::time::{Timestamp, Zone};

/// One meter as the registry knows it now.
#[derive(Debug, Clone)]
pub struct MeterEntry {
    /// What it measures.
    pub commodity: Commodity,
    /// Civil time of the place where it hangs; decodes local times without offset.
    pub zone: Zone,
    /// Serial number, where the registry has one apart from the id.
    pub serial: Option<Arc<str>>,
    /// What carries its messages, where the registry names a gateway.
    pub gateway: Option<Arc<str>>,
    /// What its readings are multiplied by, by installation; empty: nobody knows.
    pub multipliers: Arc<[InstalledMultiplier]>,
}

impl MeterEntry {
    /// A meter without serial number, gateway and multiplier.
    pub fn new(commodity: Commodity, zone: Zone) -> Self {
        Self { commodity, zone, serial: None, gateway: None, multipliers: Arc::default() }
    }

    /// The multipliers of its installation at a time, in millionths; none: it hung nowhere.
    pub fn multipliers_at(&self, ts: Timestamp) -> impl Iterator<Item = i64> {
        let covers =
            move |m: &&InstalledMultiplier| m.from.is_none_or(|from| from <= ts) && m.to.is_none_or(|to| ts < to);
        self.multipliers.iter().filter(covers).map(|m| m.micros)
    }
}

/// A multiplier of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstalledMultiplier {
    /// From when on; `None`: always.
    pub from: Option<Timestamp>,
    /// Up to when; `None`: still.
    pub to: Option<Timestamp>,
    /// In millionths.
    pub micros: i64,
}

/// A snapshot of the registry by meter.
#[derive(Debug, Clone, Default)]
pub struct MeterDirectory {
    entries: HashMap<MeterId, MeterEntry>,
}

impl MeterDirectory {
    /// From meters with their entries; a meter named twice keeps its last entry.
    pub fn new(entries: impl IntoIterator<Item = (MeterId, MeterEntry)>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// The entry of one meter.
    pub fn get(&self, meter_id: &str) -> Option<&MeterEntry> {
        self.entries.get(meter_id)
    }

    /// The registry's own copy of the id, so that rows share one allocation.
    pub fn get_key(&self, meter_id: &str) -> Option<(&MeterId, &MeterEntry)> {
        self.entries.get_key_value(meter_id)
    }

    /// Number of meters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no meter is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
