//! Whom a finding is about, for the scope of checks.

use std::collections::HashMap;

use meterlake_model::check::Subject;
use meterlake_model::registry::Registry;
use meterlake_model::{CivilDay, Timestamp, Zone};

/// What the registry has of a place of supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `electricity` or `water`.
    pub commodity: String,
    /// Civil time.
    pub zone: Zone,
    /// Who is billed.
    pub customer_id: Option<String>,
    /// What feeds it.
    pub node_id: Option<String>,
    /// Customer class.
    pub class: String,
    /// Whether the account is active.
    pub active: bool,
    /// Whether it is known to use water at all hours.
    pub continuous_use: bool,
}

/// All places by id.
#[derive(Debug, Clone, Default)]
pub struct Subjects(HashMap<String, Place>);

impl Subjects {
    /// Those of a registry.
    pub fn of(registry: &Registry) -> Self {
        let place = |point: &meterlake_model::registry::UsagePoint| Place {
            commodity: point.commodity.as_str().to_owned(),
            zone: point.zone.clone(),
            customer_id: point.customer_id.as_ref().map(|id| id.as_str().to_owned()),
            node_id: point.node_id.as_ref().map(|id| id.as_str().to_owned()),
            class: point.class.clone(),
            active: point.active,
            continuous_use: point.continuous_use,
        };
        Self(registry.usage_points.iter().map(|(id, point)| (id.as_str().to_owned(), place(point))).collect())
    }

    /// Those of a list.
    pub fn from_places(places: impl IntoIterator<Item = (String, Place)>) -> Self {
        Self(places.into_iter().collect())
    }

    /// What is known of a place, a channel and a meter. Of a place that the registry does not have, only what is said here.
    pub fn subject<'a>(&'a self, point: &'a str, channel: &'a str, meter: &'a str) -> Subject<'a> {
        let given = |text: &'a str| (!text.is_empty()).then_some(text);
        let place = self.0.get(point);
        Subject {
            commodity: place.map(|place| place.commodity.as_str()),
            channel: given(channel),
            usage_point: given(point),
            customer: place.and_then(|place| place.customer_id.as_deref()),
            node: place.and_then(|place| place.node_id.as_deref()),
            class: place.map(|place| place.class.as_str()),
            zone: place.map(|place| place.zone.name()),
            meter: given(meter),
            active: place.map(|place| place.active),
            continuous_use: place.map(|place| place.continuous_use),
        }
    }

    /// The zone of a place; UTC where it is not known.
    pub(super) fn zone(&self, point: &str) -> Zone {
        self.0.get(point).map_or_else(Zone::utc, |place| place.zone.clone())
    }

    /// The civil day of an instant at a place.
    pub(super) fn day(&self, point: &str, at: Timestamp) -> CivilDay {
        self.zone(point).day_of(at)
    }
}
