//! What no single row shows: references between files, two meters in one place, a network that runs in circles.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::registry::{Customer, NetworkNode, NodeKind, UsagePoint};
use meterlake_model::{Channel, Commodity, CustomerId, MeterId, NodeId, Timestamp, UsagePointId};

use super::read::Hung;
use super::rows::Rows;
use super::table::Table;
use super::{CUSTOMERS, INSTALLATION_CHANNELS, NETWORK};

/// The customer and node of each usage point, where those files say anything.
pub(super) fn references(
    table: &Table<'_>,
    points: &Rows<UsagePointId, UsagePoint>,
    customers: &Rows<CustomerId, Customer>,
    network: &Rows<NodeId, NetworkNode>,
) {
    for (id, line, point) in points.iter() {
        if let Some(customer) = point.customer_id.as_ref().filter(|customer| customers.lacks(customer)) {
            table.note(line, format_args!("customer `{customer}` is not in {}", CUSTOMERS.name));
        }
        if let Some(parent) = &point.parent_id {
            match points.get(parent) {
                None if points.lacks(parent) => table.note(line, format_args!("parent `{parent}` is no usage point")),
                _ if parent == id => table.note(line, format_args!("usage point `{id}` is its own parent")),
                Some(above) if above.commodity != point.commodity => table.note(
                    line,
                    format_args!(
                        "parent `{parent}` is for {}, usage point `{id}` for {}",
                        above.commodity, point.commodity
                    ),
                ),
                _ => {}
            }
        }
        let Some(node_id) = &point.node_id else { continue };
        if network.lacks(node_id) {
            table.note(line, format_args!("node `{node_id}` is not in {}", NETWORK.name));
        }
        let Some(node) = network.get(node_id) else { continue };
        let feeds = if node.kind == NodeKind::Dma { Commodity::Water } else { Commodity::Electricity };
        if feeds != point.commodity {
            let kind = node.kind.as_str();
            let wants = point.commodity;
            table.note(line, format_args!("node `{node_id}` is a {kind}, usage point `{id}` is for {wants}"));
        }
    }
}

/// Every parent is known, and nobody feeds itself.
pub(super) fn network(table: &Table<'_>, network: &Rows<NodeId, NetworkNode>) {
    let mut sound: BTreeSet<&NodeId> = BTreeSet::new();
    for (start, line, node) in network.iter() {
        if let Some(parent) = node.parent_id.as_ref().filter(|parent| network.lacks(parent)) {
            table.note(line, format_args!("parent `{parent}` is not in {}", NETWORK.name));
        }
        let mut way = vec![start];
        let mut at = node;
        while let Some((parent, above)) = at.parent_id.as_ref().and_then(|id| Some((id, network.get(id)?))) {
            if sound.contains(parent) {
                break;
            }
            if let Some(first) = way.iter().position(|seen| *seen == parent) {
                let circle: Vec<_> = way[first..].iter().map(|id| format!("`{id}`")).collect();
                // The way may have begun below the circle.
                let line = network.line_of(parent).unwrap_or(line);
                table.note(line, format_args!("feeds itself: {} → `{parent}`", circle.join(" → ")));
                break;
            }
            way.push(parent);
            at = above;
        }
        sound.extend(way);
    }
}

/// Every installation has a channel: without one it would yield no use, and nobody would know why.
pub(super) fn channels(table: &Table<'_>, installations: &[Hung], with_channels: Option<&BTreeSet<usize>>) {
    let Some(with_channels) = with_channels else { return };
    for (_, hung) in installations.iter().enumerate().filter(|(at, _)| !with_channels.contains(at)) {
        let meter = &hung.installation.meter_id;
        table.note(hung.line, format_args!("meter `{meter}` has no channel in {}", INSTALLATION_CHANNELS.name));
    }
}

/// No meter hangs in two places at once, and no channel of a usage point is counted by two meters at once, nor checked by
/// two.
pub(super) fn installations(table: &Table<'_>, installations: &[Hung]) {
    let mut by_meter: BTreeMap<&MeterId, Vec<usize>> = BTreeMap::new();
    let mut by_channel: BTreeMap<(&UsagePointId, bool, Channel), Vec<usize>> = BTreeMap::new();
    for (at, hung) in installations.iter().enumerate().filter(|(_, hung)| hung.dated) {
        by_meter.entry(&hung.installation.meter_id).or_default().push(at);
        for channel in &hung.installation.channels {
            let of = &hung.installation;
            by_channel.entry((&of.usage_point_id, of.is_check, channel.channel)).or_default().push(at);
        }
    }
    let mut told: BTreeSet<(usize, usize)> = BTreeSet::new();
    let pairs = by_meter.values().flat_map(|group| overlaps(group, installations));
    for (first, second) in pairs {
        told.insert((first, second));
        let hung = &installations[second];
        let meter = &hung.installation.meter_id;
        let line = installations[first].line;
        table.note(hung.line, format_args!("meter `{meter}` is installed at the same time in line {line}"));
    }
    for ((point, _, channel), group) in &by_channel {
        for (first, second) in overlaps(group, installations) {
            if !told.insert((first, second)) {
                continue;
            }
            let other = &installations[first];
            let (line, meter) = (other.line, &other.installation.meter_id);
            table.note(
                installations[second].line,
                format_args!(
                    "usage point `{point}` has `{channel}` at the same time from meter `{meter}` in line {line}"
                ),
            );
        }
    }
}

/// Pairs that overlap in time, the later line second; each but the first of a group is told with one other at most.
fn overlaps(group: &[usize], installations: &[Hung]) -> Vec<(usize, usize)> {
    let span = |at: usize| {
        let installation = &installations[at].installation;
        let from = installation.installed_at.map_or(i64::MIN, Timestamp::micros);
        (from, installation.removed_at.map_or(i64::MAX, Timestamp::micros))
    };
    let mut sorted = group.to_vec();
    sorted.sort_by_key(|at| (span(*at), *at));
    let mut found = Vec::new();
    let mut longest: Option<usize> = None;
    for at in sorted {
        if let Some(before) = longest
            && span(at).0 < span(before).1
        {
            found.push((at.min(before), at.max(before)));
        }
        if longest.is_none_or(|before| span(before).1 < span(at).1) {
            longest = Some(at);
        }
    }
    found
}
