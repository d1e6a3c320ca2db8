//! What fills of one usage point may go by beside its own readings.

use meterlake_model::registry::{Registry, UsagePoint};
use meterlake_model::{Channel, NodeId};

use super::DeriveInput;
use crate::usage::{Aids, InstallationReadings};

/// The region of weather that is everywhere.
const EVERYWHERE: &str = "*";
/// A network that is deeper runs in circles, which its import refuses.
const DEEPEST: usize = 64;

/// The part of the network that feeds a usage point, then what feeds that, and so on.
pub(crate) fn above<'r>(registry: &'r Registry, point: &'r UsagePoint) -> impl Iterator<Item = &'r NodeId> {
    let parent = |id: &&'r NodeId| registry.network.get(*id).and_then(|node| node.parent_id.as_ref());
    std::iter::successors(point.node_id.as_ref(), parent).take(DEEPEST)
}

impl DeriveInput {
    /// For a channel of a usage point, with the check meters that stand beside its own.
    pub(super) fn aids<'a>(
        &'a self,
        point: &'a UsagePoint,
        channel: Channel,
        twins: Vec<InstallationReadings<'a>>,
    ) -> Aids<'a> {
        let fills = &self.rules.fills;
        let regions = || above(&self.registry, point).map(NodeId::as_str).chain([EVERYWHERE]);
        let taken =
            matches!(channel.name(), "energy_import_kwh" | "energy_import_delta_kwh" | "volume_m3" | "volume_delta_m3");
        let profile = fills.profiles.iter().find(|profile| profile.is_of(point.commodity, &point.class));
        Aids {
            twins,
            temperatures: regions().find_map(|region| fills.weather.get(region)),
            profile: profile.filter(|_| taken),
            suspended: above(&self.registry, point).filter_map(|node| self.suspended.get(node)).min().copied(),
        }
    }
}
