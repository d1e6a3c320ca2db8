//! A usage point, with what a run has to know of it to find out which of its months are derived.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::registry::Registry;
use meterlake_model::{Channel, ChannelKind, Commodity, Timestamp, UsagePointId};

use super::super::derive::register_of;
use crate::tables::bucket_of;

/// A usage point on its way.
pub(super) struct Point {
    pub(super) id: UsagePointId,
    pub(super) commodity: Commodity,
    pub(super) channels: Vec<Channel>,
    /// The first time at which a meter is known to have been installed.
    pub(super) installed_at: Option<Timestamp>,
    pub(super) bucket: u16,
    /// The earliest time that new rows touch, by channel.
    pub(super) marks: Vec<(Channel, Timestamp)>,
    /// The first of the asked months that is derived.
    pub(super) first: Option<usize>,
}

impl Point {
    /// All usage points that have a channel with use.
    pub(super) fn all(registry: &Registry, buckets: u16) -> Vec<Self> {
        let mut points: BTreeMap<&UsagePointId, (BTreeSet<Channel>, Option<Timestamp>)> = BTreeMap::new();
        for installation in registry.installations.iter().filter(|i| !i.is_check) {
            let of = installation.channels.iter().map(|c| c.channel).filter(|c| c.kind() != ChannelKind::Physical);
            let (channels, first) = points.entry(&installation.usage_point_id).or_default();
            channels.extend(of);
            *first = [*first, installation.installed_at].into_iter().flatten().min();
        }
        let known = points.into_iter().filter_map(|(id, of)| Some((registry.usage_points.get(id)?, of)));
        known
            .filter(|(_, (channels, _))| !channels.is_empty())
            .map(|(point, (channels, installed_at))| Self {
                id: point.id.clone(),
                commodity: point.commodity,
                channels: channels.into_iter().collect(),
                installed_at,
                bucket: bucket_of(point.id.as_str(), buckets),
                marks: Vec::new(),
                first: None,
            })
            .collect()
    }

    /// The earliest time at which new rows touch a channel: the register behind an interval channel is its total.
    pub(super) fn mark_of(&self, channel: Channel) -> Option<Timestamp> {
        let behind = register_of(channel).filter(|_| channel.kind() == ChannelKind::Interval);
        let touching = |(of, _): &&(Channel, Timestamp)| *of == channel || Some(*of) == behind;
        self.marks.iter().filter(touching).map(|(_, ts)| *ts).min()
    }
}
