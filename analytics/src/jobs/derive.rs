//! `UsageDerive`: from sorted readings to usage spans and findings, in one walk over the rows.
//!
//! A logical node of our own ([`UsageDerive`]) with its planner, because the walk looks at neighbours in time, which SQL
//! says badly and slowly. Its input is sorted by (meter_id, ts, revision), as every file of the readings tables is, so
//! nothing is sorted and nothing is hashed. One meter is held at a time, and of points whose meter was exchanged all
//! meters until the last of them has passed.
//!
//! A row of its output is a span (`level` is `slot` or `day`) or a finding (`level` is `finding`); texts are
//! dictionaries and amounts 64-bit decimals, half the size of what the tables hold. Rows of one usage point come
//! together, by channel, level and start.

mod exec;
mod node;
mod output;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meterlake_model::registry::{Installation, Registry};
use meterlake_model::{Channel, ChannelKind, Commodity, MeterId, Timestamp, UsagePointId};

use crate::rules::Rules;

pub use exec::UsageDeriveExec;
pub use node::{UsageDerive, UsageDerivePlanner};
pub(crate) use output::FINDING;

/// Times without supply by meter, shown by something other than silence.
pub(crate) type Outages = HashMap<MeterId, Vec<(Timestamp, Timestamp)>>;

/// All that the walk goes by beside the rows.
#[derive(Debug)]
pub(crate) struct DeriveInput {
    /// Which readings come.
    pub(crate) commodity: Commodity,
    /// Which meter served whom.
    pub(crate) registry: Arc<Registry>,
    /// Checks and fills.
    pub(crate) rules: Arc<Rules>,
    /// Evidence of outages.
    pub(crate) outages: Arc<Outages>,
    /// Spans that start before are not emitted.
    pub(crate) from: Timestamp,
    /// Spans that start then or later are not emitted.
    pub(crate) to: Timestamp,
    /// Installations by usage point, as indexes into the registry's, in order of time; points of the commodity only.
    by_point: BTreeMap<UsagePointId, Vec<usize>>,
}

impl DeriveInput {
    pub(crate) fn new(
        commodity: Commodity,
        registry: Arc<Registry>,
        rules: Arc<Rules>,
        outages: Arc<Outages>,
        (from, to): (Timestamp, Timestamp),
    ) -> Self {
        let mut by_point: BTreeMap<UsagePointId, Vec<usize>> = BTreeMap::new();
        for (index, installation) in registry.installations.iter().enumerate() {
            let point = registry.usage_points.get(&installation.usage_point_id);
            if point.is_some_and(|p| p.commodity == commodity) {
                by_point.entry(installation.usage_point_id.clone()).or_default().push(index);
            }
        }
        for indexes in by_point.values_mut() {
            indexes.sort_by_key(|i| registry.installations[*i].installed_at);
        }
        Self { commodity, registry, rules, outages, from, to, by_point }
    }

    /// The installations of one usage point in order of time.
    pub(crate) fn installations_of(&self, point: &UsagePointId) -> impl Iterator<Item = &Installation> {
        self.by_point.get(point).into_iter().flatten().map(|i| &self.registry.installations[*i])
    }

    /// Whether there is any usage point of this commodity.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_point.is_empty()
    }

    /// The channels that some installation of this commodity turns into use, in catalogue order.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        let wanted = |c: &Channel| c.commodity() == self.commodity && c.kind() != ChannelKind::Physical;
        let mut channels: Vec<Channel> = self
            .registry
            .installations
            .iter()
            .flat_map(|i| i.channels.iter().map(|c| c.channel))
            .filter(wanted)
            .collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    /// Two inputs with the same key give the same output.
    pub(crate) fn key(&self) -> (Commodity, i64, String, i64, i64) {
        (self.commodity, self.registry.revision, self.rules.hash(), self.from.micros(), self.to.micros())
    }
}

/// The register that stands behind an interval channel.
fn register_of(interval: Channel) -> Option<Channel> {
    Channel::by_name(&interval.name().replace("_delta_", "_")).filter(|c| c.kind() == ChannelKind::Register)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_channel_has_its_register() {
        for channel in Channel::all().filter(|c| c.kind() == ChannelKind::Interval) {
            let register = register_of(channel).unwrap();
            assert_eq!(register.commodity(), channel.commodity());
            assert!(register < channel, "registers are derived first");
        }
    }
}
