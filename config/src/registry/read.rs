//! Files to registry.
//!
//! A row with a wrong cell is kept with a stand-in, because the registry is refused anyway and its id must count as
//! known: one mistake is to be told once.

use std::path::Path;

use meterlake_model::registry::{Customer, Installation, Meter, NetworkNode, NodeKind, Registry, UsagePoint};
use meterlake_model::{Commodity, CustomerId, GatewayId, MeterId, NodeId, UsagePointId, Zone};

use super::cells::{self, Zones};
use super::rows::Rows;
use super::table::{Problems, Table};
use super::{CUSTOMERS, INSTALLATION_CHANNELS, INSTALLATIONS, METERS, NETWORK, USAGE_POINTS};
use super::{channels, check};
use crate::problem::Problem;

/// An installation as it is read.
pub(super) struct Hung {
    pub(super) line: usize,
    pub(super) installation: Installation,
    /// Whether its dates could be read, so that it may be compared with others.
    pub(super) dated: bool,
}

/// All installations in the order of their file.
pub(super) struct Installations {
    pub(super) rows: Vec<Hung>,
    /// Whether the file could be read, so that what is not there is missing.
    pub(super) complete: bool,
}

/// Reads the six files of a registry; its revision is 0.
///
/// # Errors
/// Every problem of every file at once, by file and line (beyond a thousand they are counted).
pub fn read_dir(dir: &Path) -> Result<Registry, Vec<Problem>> {
    if !dir.is_dir() {
        return Err(vec![Problem::of_file(dir.display().to_string(), "is not a folder")]);
    }
    let problems = Problems::default();
    let table = |spec| Table::new(spec, dir, &problems);
    let (points_table, meters_table) = (table(&USAGE_POINTS), table(&METERS));
    let (installed_table, channels_table) = (table(&INSTALLATIONS), table(&INSTALLATION_CHANNELS));
    let (customers_table, network_table) = (table(&CUSTOMERS), table(&NETWORK));

    let points = read_usage_points(&points_table);
    let meters = read_meters(&meters_table);
    let customers = read_customers(&customers_table);
    let network = read_network(&network_table);
    let mut installations = read_installations(&installed_table, &points, &meters);
    let with_channels = channels::read(&channels_table, &mut installations, &points, &meters);

    check::channels(&installed_table, &installations.rows, with_channels.as_ref());
    check::references(&points_table, &points, &customers, &network);
    check::network(&network_table, &network);
    check::installations(&installed_table, &installations.rows);
    problems.settle(dir)?;

    let mut installations: Vec<_> = installations.rows.into_iter().map(|hung| hung.installation).collect();
    installations.sort_by(|a, b| (&a.meter_id, a.installed_at).cmp(&(&b.meter_id, b.installed_at)));
    Ok(Registry {
        revision: 0,
        usage_points: points.into_values(),
        meters: meters.into_values(),
        installations,
        customers: customers.into_values(),
        network: network.into_values(),
    })
}

fn read_usage_points(table: &Table<'_>) -> Rows<UsagePointId, UsagePoint> {
    let mut zones = Zones::default();
    Rows::read(table, |row| {
        let id = row.require("usage_point_id", UsagePointId::new);
        let commodity = row.require("commodity", cells::commodity);
        let zone = row.require("zone", |name| zones.get(name));
        let nominal_voltage_dv = row.read("nominal_voltage_v", cells::decivolts);
        if commodity == Some(Commodity::Water) && nominal_voltage_dv.is_some() {
            row.refuse("`nominal_voltage_v` is for electricity only");
        }
        let customer_id = row.read("customer_id", CustomerId::new);
        let node_id = row.read("node_id", NodeId::new);
        let class = row.read("class", cells::free_text).unwrap_or_default();
        let place = row.read("place", cells::free_text).unwrap_or_default();
        let billing_day = row.read("billing_day", |text| cells::integer(text, 1..=28)).unwrap_or(1);
        let active = row.read("active", cells::boolean).unwrap_or(true);
        let continuous_use = row.read("continuous_use", cells::boolean).unwrap_or(false);
        let clock = zone.clone().unwrap_or_else(Zone::utc);
        let customer_since = row.read("customer_since", |text| cells::instant(text, &clock));
        if customer_since.is_some() && customer_id.is_none() {
            row.refuse("`customer_since` needs a `customer_id`");
        }
        let parent_id = row.read("parent_id", UsagePointId::new);
        let id = id?;
        let point = UsagePoint {
            id: id.clone(),
            commodity: commodity.unwrap_or(Commodity::Electricity),
            zone: zone.unwrap_or_else(Zone::utc),
            customer_id,
            node_id,
            class,
            place,
            billing_day,
            active,
            continuous_use,
            nominal_voltage_dv,
            customer_since,
            parent_id,
        };
        Some((id, point))
    })
}

fn read_meters(table: &Table<'_>) -> Rows<MeterId, Meter> {
    Rows::read(table, |row| {
        let id = row.require("meter_id", MeterId::new);
        let commodity = row.require("commodity", cells::commodity).unwrap_or(Commodity::Electricity);
        let serial = row.read("serial", cells::free_text);
        let model = row.read("model", cells::free_text).unwrap_or_default();
        let gateway_id = row.read("gateway_id", GatewayId::new);
        let id = id?;
        Some((id.clone(), Meter { id, commodity, serial, model, gateway_id }))
    })
}

fn read_customers(table: &Table<'_>) -> Rows<CustomerId, Customer> {
    Rows::read(table, |row| {
        let id = row.require("customer_id", CustomerId::new);
        let name = row.read("name", cells::free_text).unwrap_or_default();
        let id = id?;
        Some((id.clone(), Customer { id, name }))
    })
}

fn read_network(table: &Table<'_>) -> Rows<NodeId, NetworkNode> {
    Rows::read(table, |row| {
        let id = row.require("node_id", NodeId::new);
        let kind = row.require("kind", |text| {
            let kinds = NodeKind::ALL.map(NodeKind::as_str).join(", ");
            NodeKind::parse(text).ok_or_else(|| format!("`{text}` is none of {kinds}"))
        });
        let parent_id = row.read("parent_id", NodeId::new);
        let name = row.read("name", cells::free_text).unwrap_or_default();
        let id = id?;
        let node = NetworkNode { id: id.clone(), kind: kind.unwrap_or(NodeKind::Feeder), parent_id, name };
        Some((id, node))
    })
}

fn read_installations(
    table: &Table<'_>,
    points: &Rows<UsagePointId, UsagePoint>,
    meters: &Rows<MeterId, Meter>,
) -> Installations {
    let mut rows = Vec::new();
    let complete = table.each_row(|row| {
        let meter_id = row.require("meter_id", MeterId::new);
        let usage_point_id = row.require("usage_point_id", UsagePointId::new);
        let (Some(meter_id), Some(usage_point_id)) = (meter_id, usage_point_id) else { return };
        let meter = meters.get(&meter_id);
        let point = points.get(&usage_point_id);
        if meters.lacks(&meter_id) {
            row.refuse(format_args!("meter `{meter_id}` is not in {}", METERS.name));
        }
        if points.lacks(&usage_point_id) {
            row.refuse(format_args!("usage point `{usage_point_id}` is not in {}", USAGE_POINTS.name));
        }
        if let (Some(meter), Some(point)) = (meter, point)
            && meter.commodity != point.commodity
        {
            let (is, wants) = (meter.commodity, point.commodity);
            row.refuse(format_args!("meter `{meter_id}` is for {is}, usage point `{usage_point_id}` for {wants}"));
        }
        let zone = point.map_or_else(Zone::utc, |point| point.zone.clone());
        let installed_at = row.read("installed_at", |text| cells::instant(text, &zone));
        let removed_at = row.read("removed_at", |text| cells::instant(text, &zone));
        let unread = |column, is_none: bool| is_none && !row.cell(column).is_empty();
        let mut dated = !unread("installed_at", installed_at.is_none()) && !unread("removed_at", removed_at.is_none());
        if let (Some(from), Some(to)) = (installed_at, removed_at)
            && to <= from
        {
            let (removed, installed) = (row.cell("removed_at"), row.cell("installed_at"));
            row.refuse(format_args!("removed at {removed}, not after it was installed at {installed}"));
            dated = false;
        }
        let is_check = row.read("role", cells::is_check).unwrap_or(false);
        let channels = Vec::new();
        let installation = Installation { meter_id, usage_point_id, installed_at, removed_at, is_check, channels };
        rows.push(Hung { line: row.line, installation, dated });
    });
    Installations { rows, complete }
}
