//! What is known of one usage point in a cycle.

use std::collections::{BTreeMap, HashMap};

use meterlake_model::registry::{Installation, Registry, UsagePoint};
use meterlake_model::{Amount, Channel, CivilDay, Timestamp, UsagePointId};

use super::source::Day;
use crate::billing::BillingRead;
use crate::determinants::{Cycle, Slots};
use crate::jobs::billing::ReadRow;
use crate::jobs::derive::Outages;
use crate::usage::Span;

/// Installations by usage point, and when their supply was lost.
pub(super) struct Installed<'a> {
    by_point: HashMap<&'a str, Vec<&'a Installation>>,
    outages: &'a Outages,
}

impl<'a> Installed<'a> {
    pub(super) fn of(registry: &'a Registry, outages: &'a Outages) -> Self {
        let mut by_point: HashMap<&str, Vec<&Installation>> = HashMap::new();
        for installation in &registry.installations {
            by_point.entry(installation.usage_point_id.as_str()).or_default().push(installation);
        }
        Self { by_point, outages }
    }

    fn at(&self, point: &UsagePointId) -> &[&'a Installation] {
        self.by_point.get(point.as_str()).map(Vec::as_slice).unwrap_or_default()
    }

    /// The smallest step of a channel's use, after the multiplier.
    pub(super) fn step(&self, point: &UsagePointId, channel: Channel) -> Amount {
        let channels =
            self.at(point).iter().filter(|i| !i.is_check).flat_map(|i| &i.channels).filter(|c| c.channel == channel);
        let steps = channels.filter_map(|c| c.resolution.checked_scale(c.multiplier_micros));
        steps.filter(|step| step.micros() > 0).min().or(Amount::from_micros(1000)).unwrap_or_default()
    }

    /// Times without supply, in order.
    pub(super) fn outages(&self, point: &UsagePointId) -> Vec<(Timestamp, Timestamp)> {
        let of = |installation: &&Installation| self.outages.get(&installation.meter_id).cloned().unwrap_or_default();
        let mut outages: Vec<_> = self.at(point).iter().flat_map(of).collect();
        outages.sort();
        outages.dedup();
        outages
    }

    /// When supply came back, in order.
    pub(super) fn restored(&self, point: &UsagePointId) -> Vec<Timestamp> {
        let mut restored: Vec<_> = self.outages(point).into_iter().map(|(_, to)| to).collect();
        restored.sort();
        restored
    }

    /// The day on which the customer of a cycle that ends then moved in: that of the first meter or of another customer, whichever
    /// came later. `None` where neither is known. Who came after the cycle says nothing of it.
    pub(super) fn moved_in(&self, point: &UsagePoint, cycle_end: CivilDay) -> Option<CivilDay> {
        let counted = self.at(&point.id).iter().filter(|installation| !installation.is_check);
        let first = counted.map(|installation| installation.installed_at).min().flatten();
        let customer = point.customer_since.filter(|since| *since < point.zone.start_of_day(cycle_end));
        first.max(customer).map(|instant| point.zone.day_of(instant))
    }
}

/// One usage point and cycle.
pub(super) struct Point<'p> {
    pub(super) usage_point: &'p UsagePoint,
    pub(super) cycle: Cycle<'p>,
    /// One for each channel; none where nothing is metered.
    pub(super) reads: &'p [ReadRow<'p>],
    pub(super) slots: BTreeMap<Channel, Vec<Span>>,
    pub(super) days: BTreeMap<Channel, Vec<Day>>,
    pub(super) installed: &'p Installed<'p>,
}

impl Point<'_> {
    pub(super) fn row(&self, channel: Channel) -> Option<&ReadRow<'_>> {
        self.reads.iter().find(|row| row.channel == channel)
    }

    pub(super) fn read(&self, channel: Channel) -> Option<&BillingRead> {
        self.row(channel).map(|row| &row.read)
    }

    pub(super) fn step(&self, channel: Channel) -> Amount {
        self.installed.step(&self.usage_point.id, channel)
    }

    pub(super) fn slots(&self, channel: Channel) -> Slots<'_> {
        let spans = self.slots.get(&channel).map(Vec::as_slice).unwrap_or_default();
        Slots { channel, spans, step: self.step(channel) }
    }
}
