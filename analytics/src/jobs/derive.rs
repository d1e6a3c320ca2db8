//! `UsageDerive`: from sorted readings to usage spans and findings, in one walk over the rows.
//!
//! A logical node of our own ([`UsageDerive`]) with its planner, because the walk looks at neighbours in time, which SQL
//! says badly and slowly. Its input is sorted by (meter_id, ts, revision), as every file of the readings tables is, so
//! nothing is sorted and nothing is hashed. One meter is held at a time, and of points whose meter was exchanged all
//! meters until the last of them has passed.
//!
//! A row of its output is a span (`level` is `slot` or `day`), a finding (`level` is `finding`) or what is known at the
//! border of a month (`level` is `border`); texts are dictionaries and amounts 64-bit decimals, half the size of what the
//! tables hold. Rows of one usage point come together, by channel, level and start. A point whose walk must be taken up
//! further back has one row, and its `level` is `short`.

mod aids;
mod exec;
mod node;
mod output;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use meterlake_model::registry::{Installation, Registry};
use meterlake_model::{Channel, ChannelKind, Commodity, MeterId, NodeId, Timestamp, UsagePointId};

use crate::rules::Rules;
use crate::usage::Anchor;

pub(super) use aids::above;
pub use exec::UsageDeriveExec;
pub use node::{UsageDerive, UsageDerivePlanner};
pub(crate) use output::{BORDER, FINDING, SHORT};

/// Times without supply by meter, shown by something other than silence.
pub(crate) type Outages = HashMap<MeterId, Vec<(Timestamp, Timestamp)>>;

/// From when on nothing is estimated, by part of the network.
pub(crate) type Suspensions = BTreeMap<NodeId, Timestamp>;

/// What of one usage point is derived, and from where on.
#[derive(Debug, Clone)]
pub(crate) struct PointPlan {
    /// Spans that start before are not emitted.
    pub(crate) from: Timestamp,
    /// Where the walk of each channel is taken up; those left out begin with the first row.
    pub(crate) anchors: Vec<(Channel, Anchor)>,
}

/// The usage points that are derived; all others are passed over.
pub(crate) type Plans = HashMap<UsagePointId, PointPlan>;

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
    /// From when on nothing is estimated, by part of the network.
    pub(crate) suspended: Suspensions,
    /// First instants of the months in between.
    pub(crate) borders: Vec<Timestamp>,
    /// Which points, and from where on; `None`: all, from their installations on.
    plans: Option<Plans>,
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
        let (borders, plans) = (Vec::new(), None);
        let suspended = Suspensions::new();
        Self { commodity, registry, rules, outages, from, to, suspended, borders, plans, by_point }
    }

    /// The same, with estimates that wait.
    pub(crate) fn with_suspended(mut self, suspended: &Suspensions) -> Self {
        self.suspended.clone_from(suspended);
        self
    }

    /// The same for some points only, with what is known at the given borders.
    pub(crate) fn with_plans(mut self, plans: Plans, borders: Vec<Timestamp>) -> Self {
        self.by_point.retain(|point, _| plans.contains_key(point));
        (self.plans, self.borders) = (Some(plans), borders);
        self
    }

    /// The plan of a point: all of it when nobody said otherwise.
    fn plan_of(&self, point: &UsagePointId) -> PointPlan {
        let plan = self.plans.as_ref().and_then(|plans| plans.get(point)).cloned();
        plan.unwrap_or(PointPlan { from: self.from, anchors: Vec::new() })
    }

    /// Whether only some points are derived.
    pub(crate) fn is_partial(&self) -> bool {
        let all = self.registry.usage_points.values().filter(|p| p.commodity == self.commodity).count();
        self.by_point.len() < all
    }

    /// The meters of the points that are derived, in order.
    pub(crate) fn meters(&self) -> BTreeSet<&MeterId> {
        self.by_point.keys().flat_map(|point| self.installations_of(point).map(|i| &i.meter_id)).collect()
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

    /// Two inputs with the same key give the same output, unless one of them is for some points only.
    pub(crate) fn key(&self) -> (Commodity, i64, String, i64, i64, Option<usize>) {
        let points = self.plans.as_ref().map(HashMap::len);
        let rules = format!("{} {:?}", self.rules.hash(), self.suspended);
        (self.commodity, self.registry.revision, rules, self.from.micros(), self.to.micros(), points)
    }
}

/// The register that stands behind an interval channel.
pub(crate) fn register_of(interval: Channel) -> Option<Channel> {
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
