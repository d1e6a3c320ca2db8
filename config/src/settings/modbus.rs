//! `[[modbus]]`: gateways, and the devices behind each.

use std::collections::HashMap;
use std::time::Duration;

use meterlake_model::MeterId;

use super::collect::plain_name;
use super::{Named, Surroundings, named};
use crate::device_profile::DeviceProfile;
use crate::document::Section;
use crate::quantity::{DAY, MILLISECOND, MINUTE, SECOND};

/// A Modbus TCP gateway: one connection, one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusLine {
    /// Names it in the `source` of its rows, in logs and metrics.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// Rest between two requests.
    pub pause: Duration,
    /// What is polled, at least one.
    pub devices: Vec<ModbusDevice>,
}

/// A meter behind a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusDevice {
    /// Its address on the line.
    pub unit: u8,
    /// Whose readings they are.
    pub meter_id: MeterId,
    /// How its registers are read.
    pub profile: DeviceProfile,
    /// From one poll to the next. Polls fall on whole multiples of it: from civil midnight of the meter's zone where it
    /// divides a day, else from 1970 by UTC.
    pub interval: Duration,
    /// So long after each multiple; less than the interval.
    pub offset: Duration,
}

const PROFILES: Named<DeviceProfile> = Named {
    word: "device profile",
    names: || DeviceProfile::shipped_names().collect(),
    shipped: DeviceProfile::shipped,
    parse: DeviceProfile::parse,
};

/// What earlier lines and devices said.
#[derive(Default)]
struct Known {
    /// Meters, and the line of the file where each stands.
    meters: HashMap<MeterId, usize>,
    /// Profiles by the name that was given: a thousand devices are read by a handful of them.
    profiles: HashMap<String, DeviceProfile>,
}

/// Reads every line and device that is complete; what is wrong or missing is noted.
pub(super) fn read_all(sections: Vec<Section<'_>>, around: &Surroundings<'_>) -> Vec<ModbusLine> {
    let mut lines: Vec<ModbusLine> = Vec::new();
    let mut known = Known::default();
    for mut section in sections {
        let devices = read_devices(&mut section, around, &mut known);
        let Some(line) = read_line(&mut section, devices) else { continue };
        if lines.iter().any(|other| other.name == line.name) {
            section.refuse("name", format_args!("`{}` is given to two lines", line.name));
        }
        if let Some(other) = lines.iter().find(|other| (&other.host, other.port) == (&line.host, line.port)) {
            let (host, port, name) = (&line.host, line.port, &other.name);
            section.refuse("host", format_args!("{host}:{port} is that of line `{name}`; a gateway has one line"));
        }
        lines.push(line);
    }
    lines
}

fn read_line(s: &mut Section<'_>, devices: Vec<ModbusDevice>) -> Option<ModbusLine> {
    let name = s.parsed("name", plain_name);
    let name = s.required("name", name);
    let host = s.text("host");
    let host = s.required("host", host);
    let port = s.integer("port", 1..=u16::MAX).unwrap_or(502);
    let timeout = s.duration("timeout", 10 * MILLISECOND..=MINUTE).unwrap_or(SECOND);
    let connect_timeout = s.duration("connect_timeout", 10 * MILLISECOND..=MINUTE).unwrap_or(3 * SECOND);
    let pause = s.duration("pause", Duration::ZERO..=10 * SECOND).unwrap_or_default();
    Some(ModbusLine { name: name?, host: host?, port, timeout, connect_timeout, pause, devices })
}

fn read_devices(line: &mut Section<'_>, around: &Surroundings<'_>, known: &mut Known) -> Vec<ModbusDevice> {
    let sections = line.sections("device");
    if sections.is_empty() && !line.has("device") {
        line.refuse("device", "is missing; name at least one meter under [[modbus.device]]");
    }
    let mut devices: Vec<ModbusDevice> = Vec::new();
    for mut section in sections {
        let Some(device) = read_device(&mut section, around, &mut known.profiles) else { continue };
        if devices.iter().any(|other| other.unit == device.unit) {
            section.refuse("unit", format_args!("{} is given to two devices of the line", device.unit));
        }
        if let Some(first) = known.meters.get(&device.meter_id) {
            let meter = &device.meter_id;
            section.refuse("meter_id", format_args!("`{meter}` is that of the device in line {first} too"));
        } else {
            known.meters.insert(device.meter_id.clone(), section.line());
        }
        devices.push(device);
    }
    devices
}

fn read_device(
    s: &mut Section<'_>,
    around: &Surroundings<'_>,
    profiles: &mut HashMap<String, DeviceProfile>,
) -> Option<ModbusDevice> {
    let unit = s.integer("unit", 0..=255_u8);
    let unit = s.required("unit", unit);
    let meter_id = s.parsed("meter_id", |text| MeterId::new(text).map_err(|error| format!("is wrong: {error}")));
    let meter_id = s.required("meter_id", meter_id);
    let name = s.text("profile");
    let line = s.line_of("profile");
    let profile = s.required("profile", name).and_then(|name| match profiles.get(&name) {
        Some(profile) => Some(profile.clone()),
        None => {
            let profile = named(s, ("modbus.device.profile", line), &name, around, &PROFILES)?;
            profiles.insert(name, profile.clone());
            Some(profile)
        }
    });
    let interval = s.duration("interval", SECOND..=31 * DAY).unwrap_or(15 * MINUTE);
    let offset = s.duration("offset", Duration::ZERO..=31 * DAY).unwrap_or_default();
    if offset >= interval {
        s.refuse("offset", "is not below the interval");
    }
    Some(ModbusDevice { unit: unit?, meter_id: meter_id?, profile: profile?, interval, offset })
}
