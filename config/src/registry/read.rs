//! Files to registry.
//!
//! A row with a wrong cell is kept with a stand-in, because the registry is refused anyway and its id must count as
//! known: one mistake is to be told once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use meterlake_model::registry::{
    Customer, Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{
    Amount, Channel, ChannelKind, Commodity, CustomerId, MeterId, NodeId, UsagePointId, Zone, rescale_exact,
};

use super::cells::{self, Zones};
use super::check;
use super::table::{Problems, Row, Table};
use super::{CUSTOMERS, INSTALLATION_CHANNELS, INSTALLATIONS, METERS, NETWORK, USAGE_POINTS};
use crate::problem::Problem;

/// What a row became, and its line.
#[derive(Debug, Clone)]
pub(super) struct Lined<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

pub(super) type ById<I, T> = BTreeMap<I, Lined<T>>;

/// An installation as it is read.
pub(super) struct Hung {
    pub(super) line: usize,
    pub(super) installation: Installation,
    /// Whether its dates could be read, so that it may be compared with others.
    pub(super) dated: bool,
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
    let with_channels = read_channels(&channels_table, &mut installations, &points, &meters);
    check::channels(&installed_table, &installations, with_channels.as_ref());

    check::references(&points_table, &points, &customers, &network);
    check::network(&network_table, &network);
    check::installations(&installed_table, &installations);
    problems.settle(dir)?;

    let mut installations: Vec<_> = installations.into_iter().map(|hung| hung.installation).collect();
    installations.sort_by(|a, b| (&a.meter_id, a.installed_at).cmp(&(&b.meter_id, b.installed_at)));
    Ok(Registry {
        revision: 0,
        usage_points: bare(points),
        meters: bare(meters),
        installations,
        customers: bare(customers),
        network: bare(network),
    })
}

fn bare<I: Ord, T>(lined: ById<I, T>) -> BTreeMap<I, T> {
    lined.into_iter().map(|(id, lined)| (id, lined.value)).collect()
}

/// Keeps the row unless its id was there before.
fn insert<I: Ord + std::fmt::Display, T>(rows: &mut ById<I, T>, id: I, value: T, row: &Row<'_>) {
    match rows.entry(id) {
        std::collections::btree_map::Entry::Occupied(first) => {
            row.refuse(format_args!("`{}` stands already in line {}", first.key(), first.get().line));
        }
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(Lined { line: row.line, value });
        }
    }
}

fn read_usage_points(table: &Table<'_>) -> ById<UsagePointId, UsagePoint> {
    let mut points = ById::new();
    let mut zones = Zones::default();
    table.each_row(|row| {
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
        let Some(id) = id else { return };
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
        };
        insert(&mut points, id, point, row);
    });
    points
}

fn read_meters(table: &Table<'_>) -> ById<MeterId, Meter> {
    let mut meters = ById::new();
    table.each_row(|row| {
        let id = row.require("meter_id", MeterId::new);
        let commodity = row.require("commodity", cells::commodity).unwrap_or(Commodity::Electricity);
        let serial = row.read("serial", cells::free_text);
        let model = row.read("model", cells::free_text).unwrap_or_default();
        let Some(id) = id else { return };
        insert(&mut meters, id.clone(), Meter { id, commodity, serial, model }, row);
    });
    meters
}

fn read_customers(table: &Table<'_>) -> ById<CustomerId, Customer> {
    let mut customers = ById::new();
    table.each_row(|row| {
        let id = row.require("customer_id", CustomerId::new);
        let name = row.read("name", cells::free_text).unwrap_or_default();
        let Some(id) = id else { return };
        insert(&mut customers, id.clone(), Customer { id, name }, row);
    });
    customers
}

fn read_network(table: &Table<'_>) -> ById<NodeId, NetworkNode> {
    let mut nodes = ById::new();
    table.each_row(|row| {
        let id = row.require("node_id", NodeId::new);
        let kind = row.require("kind", |text| {
            let kinds = NodeKind::ALL.map(NodeKind::as_str).join(", ");
            NodeKind::parse(text).ok_or_else(|| format!("`{text}` is none of {kinds}"))
        });
        let parent_id = row.read("parent_id", NodeId::new);
        let name = row.read("name", cells::free_text).unwrap_or_default();
        let Some(id) = id else { return };
        let node = NetworkNode { id: id.clone(), kind: kind.unwrap_or(NodeKind::Feeder), parent_id, name };
        insert(&mut nodes, id, node, row);
    });
    nodes
}

fn read_installations(
    table: &Table<'_>,
    points: &ById<UsagePointId, UsagePoint>,
    meters: &ById<MeterId, Meter>,
) -> Vec<Hung> {
    let mut installations = Vec::new();
    table.each_row(|row| {
        let meter_id = row.require("meter_id", MeterId::new);
        let usage_point_id = row.require("usage_point_id", UsagePointId::new);
        let (Some(meter_id), Some(usage_point_id)) = (meter_id, usage_point_id) else { return };
        let meter = meters.get(&meter_id).map(|meter| &meter.value);
        let point = points.get(&usage_point_id).map(|point| &point.value);
        if meter.is_none() {
            row.refuse(format_args!("meter `{meter_id}` is not in {}", METERS.name));
        }
        if point.is_none() {
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
            row.refuse(format_args!("removed at {to}, not after it was installed at {from}"));
            dated = false;
        }
        let installation = Installation { meter_id, usage_point_id, installed_at, removed_at, channels: Vec::new() };
        installations.push(Hung { line: row.line, installation, dated });
    });
    installations
}

/// Gives installations their channels. Answers to which of them rows were meant to belong, right or wrong; `None` when
/// there is no such file.
fn read_channels(
    table: &Table<'_>,
    installations: &mut [Hung],
    points: &ById<UsagePointId, UsagePoint>,
    meters: &ById<MeterId, Meter>,
) -> Option<BTreeSet<usize>> {
    let mut by_meter: HashMap<MeterId, Vec<usize>> = HashMap::new();
    for (at, hung) in installations.iter().enumerate() {
        by_meter.entry(hung.installation.meter_id.clone()).or_default().push(at);
    }
    let mut meant: BTreeSet<usize> = BTreeSet::new();
    let found = table.each_row(|row| {
        let Some(meter_id) = row.require("meter_id", MeterId::new) else { return };
        let Some(of_meter) = by_meter.get(&meter_id) else {
            let known = meters.contains_key(&meter_id);
            let file = if known { INSTALLATIONS.name } else { METERS.name };
            row.refuse(format_args!("meter `{meter_id}` is not in {file}"));
            return;
        };
        let at = match installation_meant(row, of_meter, installations, points) {
            Ok(at) => at,
            Err(complaint) => {
                meant.extend(of_meter);
                row.refuse(complaint);
                return;
            }
        };
        meant.insert(at);
        let commodity = meters.get(&meter_id).map(|meter| meter.value.commodity);
        let Some(channel) = read_channel(row, commodity) else { return };
        let channels = &mut installations[at].installation.channels;
        match channels.binary_search_by_key(&channel.channel, |known| known.channel) {
            Ok(_) => row.refuse(format_args!("channel `{}` of meter `{meter_id}` stands twice", channel.channel)),
            Err(place) => channels.insert(place, channel),
        }
    });
    found.then_some(meant)
}

/// Which of a meter's installations a channel row belongs to.
fn installation_meant(
    row: &Row<'_>,
    of_meter: &[usize],
    installations: &[Hung],
    points: &ById<UsagePointId, UsagePoint>,
) -> Result<usize, String> {
    let text = row.cell("installed_at");
    if text.is_empty() {
        if let [only] = of_meter {
            return Ok(*only);
        }
        let undated = of_meter.iter().find(|at| installations[**at].installation.installed_at.is_none());
        let count = of_meter.len();
        return undated
            .copied()
            .ok_or_else(|| format!("`installed_at` is empty; the meter was installed {count} times, it says which"));
    }
    let mut complaint = None;
    for at in of_meter {
        let installation = &installations[*at].installation;
        let zone = points.get(&installation.usage_point_id).map_or_else(Zone::utc, |point| point.value.zone.clone());
        match cells::instant(text, &zone) {
            Ok(ts) if installation.installed_at == Some(ts) => return Ok(*at),
            Ok(_) => {}
            Err(error) => complaint = Some(format!("`installed_at`: {error}")),
        }
    }
    Err(complaint
        .unwrap_or_else(|| format!("`installed_at`: {} has no such meter installed at {text}", INSTALLATIONS.name)))
}

fn read_channel(row: &Row<'_>, commodity: Option<Commodity>) -> Option<InstallationChannel> {
    let channel = row.require("channel", |name| {
        let channel = Channel::by_name(name).ok_or_else(|| unknown_channel(name, commodity))?;
        match commodity {
            _ if channel.kind() == ChannelKind::Physical => {
                Err(format!("`{name}` is a physical value; registers and interval use are listed here"))
            }
            Some(commodity) if channel.commodity() != commodity => {
                Err(format!("`{name}` is of {}, the meter of {commodity}", channel.commodity()))
            }
            _ => Ok(channel),
        }
    });
    let digits = row.read("digits", |text| cells::integer(text, 1..=12));
    let multiplier_micros = row.read("multiplier", cells::multiplier).unwrap_or(1_000_000);
    let resolution = row.read("resolution", cells::positive_amount).or(Amount::from_micros(1_000))?;
    let usual = if commodity == Some(Commodity::Water) { 3600 } else { 900 };
    let interval_s = row.read("interval_s", |text| cells::integer(text, 1..=2_678_400)).unwrap_or(usual);
    let capacity_per_hour = row.read("capacity_per_hour", cells::positive_amount);
    let register = |column| {
        row.read(column, |text| {
            let amount = cells::amount(text)?;
            let scale = channel.map_or(3, Channel::scale);
            let value = rescale_exact(amount.micros(), Amount::SCALE, scale)
                .map_err(|_| format!("`{text}` has more than the {scale} decimals that the channel keeps"))?;
            let limit = digits.map_or(i64::MAX, |digits: u8| 10_i64.pow(u32::from(digits) + u32::from(scale)));
            if value >= limit { Err(format!("`{text}` has more digits than the register")) } else { Ok(amount) }
        })
    };
    let start_register = register("start_register");
    let end_register = register("end_register");
    let channel = channel?;
    if channel.kind() == ChannelKind::Interval {
        for column in ["digits", "start_register", "end_register"] {
            if !row.cell(column).is_empty() {
                row.refuse(format_args!("`{column}` is for registers; `{channel}` is interval use"));
            }
        }
    }
    Some(InstallationChannel {
        channel,
        multiplier_micros,
        digits,
        resolution,
        interval_s,
        capacity_per_hour,
        start_register,
        end_register,
    })
}

fn unknown_channel(name: &str, commodity: Option<Commodity>) -> String {
    let usable = Channel::all()
        .filter(|channel| channel.kind() != ChannelKind::Physical)
        .filter(|channel| commodity.is_none_or(|commodity| channel.commodity() == commodity));
    let known: Vec<_> = usable.map(Channel::name).collect();
    match crate::document::near_miss(name, &known) {
        Some(near) => format!("`{name}` is no channel; did you mean `{near}`?"),
        None => format!("`{name}` is no channel; known are {}", known.join(", ")),
    }
}
