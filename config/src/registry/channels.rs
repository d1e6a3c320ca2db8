//! `installation_channels.csv`: how the readings of an installation become use.

use std::collections::{BTreeSet, HashMap};

use meterlake_model::registry::{InstallationChannel, Meter, UsagePoint};
use meterlake_model::{Amount, Channel, ChannelKind, Commodity, MeterId, UsagePointId, Zone, rescale_exact};

use super::cells;
use super::read::Installations;
use super::rows::Rows;
use super::table::{Row, Table};
use super::{INSTALLATIONS, METERS};
use crate::spelling::near_miss;

/// Gives installations their channels. Answers to which of them rows were meant to belong, right or wrong; `None` when
/// there is no such file.
pub(super) fn read(
    table: &Table<'_>,
    installations: &mut Installations,
    points: &Rows<UsagePointId, UsagePoint>,
    meters: &Rows<MeterId, Meter>,
) -> Option<BTreeSet<usize>> {
    let mut by_meter: HashMap<MeterId, Vec<usize>> = HashMap::new();
    for (at, hung) in installations.rows.iter().enumerate() {
        by_meter.entry(hung.installation.meter_id.clone()).or_default().push(at);
    }
    let mut meant: BTreeSet<usize> = BTreeSet::new();
    let found = table.each_row(|row| {
        let Some(meter_id) = row.require("meter_id", MeterId::new) else { return };
        let Some(of_meter) = by_meter.get(&meter_id) else {
            if meters.lacks(&meter_id) {
                row.refuse(format_args!("meter `{meter_id}` is not in {}", METERS.name));
            } else if installations.complete {
                row.refuse(format_args!("meter `{meter_id}` is not in {}", INSTALLATIONS.name));
            }
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
        let commodity = meters.get(&meter_id).map(|meter| meter.commodity);
        let Some(channel) = read_channel(row, commodity) else { return };
        let channels = &mut installations.rows[at].installation.channels;
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
    installations: &Installations,
    points: &Rows<UsagePointId, UsagePoint>,
) -> Result<usize, String> {
    let text = row.cell("installed_at");
    if text.is_empty() {
        if let [only] = of_meter {
            return Ok(*only);
        }
        let undated = of_meter.iter().find(|at| installations.rows[**at].installation.installed_at.is_none());
        let count = of_meter.len();
        return undated
            .copied()
            .ok_or_else(|| format!("`installed_at` is empty; the meter was installed {count} times, it says which"));
    }
    let mut complaint = None;
    for at in of_meter {
        let installation = &installations.rows[*at].installation;
        let zone = points.get(&installation.usage_point_id).map_or_else(Zone::utc, |point| point.zone.clone());
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
    let interval_s = row.read("interval_s", |text| cells::integer(text, 1..=2_678_400));
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
        interval_s: interval_s.unwrap_or(usual),
        interval_assumed: interval_s.is_none(),
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
    match near_miss(name, &known) {
        Some(near) => format!("`{name}` is no channel; did you mean `{near}`?"),
        None => format!("`{name}` is no channel; known are {}", known.join(", ")),
    }
}
