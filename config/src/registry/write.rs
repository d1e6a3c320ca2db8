//! Registry to files, in the form that [`super::read_dir`] reads back to the same.

use std::path::{Path, PathBuf};

use meterlake_model::registry::Registry;
use meterlake_model::{Amount, Timestamp};

use super::table::FileSpec;
use super::{CUSTOMERS, INSTALLATION_CHANNELS, INSTALLATIONS, METERS, NETWORK, USAGE_POINTS};
use crate::quantity::decimal_text;

/// A registry file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    /// Which file.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// Writes all six files, replacing those of the same names; the folder is made if need be. Times are in UTC.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_dir(registry: &Registry, dir: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError { path: dir.to_owned(), source })?;

    let points = registry.usage_points.values().map(|point| {
        vec![
            point.id.to_string(),
            point.commodity.to_string(),
            point.zone.name().to_owned(),
            optional(point.customer_id.as_ref()),
            optional(point.node_id.as_ref()),
            point.class.clone(),
            point.place.clone(),
            point.billing_day.to_string(),
            yes_or_no(point.active),
            yes_or_no(point.continuous_use),
            point.nominal_voltage_dv.map(|value| decimal_text(value, 1)).unwrap_or_default(),
            time(point.customer_since),
            optional(point.parent_id.as_ref()),
        ]
    });
    write(dir, &USAGE_POINTS, points)?;

    let meters = registry.meters.values().map(|meter| {
        let serial = meter.serial.clone().unwrap_or_default();
        let gateway = optional(meter.gateway_id.as_ref());
        vec![meter.id.to_string(), meter.commodity.to_string(), serial, meter.model.clone(), gateway]
    });
    write(dir, &METERS, meters)?;

    let installations = registry.installations.iter().map(|installation| {
        vec![
            installation.meter_id.to_string(),
            installation.usage_point_id.to_string(),
            time(installation.installed_at),
            time(installation.removed_at),
            if installation.is_check { "check" } else { "main" }.to_owned(),
        ]
    });
    write(dir, &INSTALLATIONS, installations)?;

    let channels = registry.installations.iter().flat_map(|installation| {
        installation.channels.iter().map(|channel| {
            vec![
                installation.meter_id.to_string(),
                channel.channel.to_string(),
                time(installation.installed_at),
                decimal_text(channel.multiplier_micros, 6),
                optional(channel.digits.as_ref()),
                number(channel.resolution),
                optional((!channel.interval_assumed).then_some(&channel.interval_s)),
                channel.capacity_per_hour.map(number).unwrap_or_default(),
                channel.start_register.map(number).unwrap_or_default(),
                channel.end_register.map(number).unwrap_or_default(),
            ]
        })
    });
    write(dir, &INSTALLATION_CHANNELS, channels)?;

    let customers = registry.customers.values().map(|customer| vec![customer.id.to_string(), customer.name.clone()]);
    write(dir, &CUSTOMERS, customers)?;

    let nodes = registry.network.values().map(|node| {
        vec![node.id.to_string(), node.kind.as_str().to_owned(), optional(node.parent_id.as_ref()), node.name.clone()]
    });
    write(dir, &NETWORK, nodes)
}

/// Rows hold the columns in the order of the file's specification.
fn write(dir: &Path, spec: &FileSpec, rows: impl Iterator<Item = Vec<String>>) -> Result<(), WriteError> {
    let path = dir.join(spec.name);
    let written = || -> std::io::Result<()> {
        let mut writer = csv::Writer::from_path(&path)?;
        writer.write_record(spec.columns())?;
        for row in rows {
            writer.write_record(row)?;
        }
        writer.flush()
    };
    written().map_err(|source| WriteError { path: path.clone(), source })
}

fn optional(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn number(amount: Amount) -> String {
    decimal_text(amount.micros(), Amount::SCALE)
}

fn time(ts: Option<Timestamp>) -> String {
    optional(ts.as_ref())
}
