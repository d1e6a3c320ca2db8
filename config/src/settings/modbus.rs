//! `[[modbus]]`: lines, and the devices on each. `[[modbus_listen]]`: ports that lines connect to.

mod devices_csv;
mod listen;
mod packet;
mod stagger;
mod transport;

use std::collections::HashMap;
use std::time::Duration;

use meterlake_model::MeterId;

pub use listen::{ModbusLink, ModbusListener};
pub use packet::{IdForm, PacketPart, PacketPattern};
pub use transport::{ModbusFraming, ModbusTransport, Parity, SerialPort};

use super::collect::plain_name;
use super::{Named, Surroundings, named};
use crate::device_profile::DeviceProfile;
use crate::document::Section;
use crate::quantity::{DAY, MILLISECOND, MINUTE, SECOND};
use stagger::Stagger;

/// A Modbus line: one connection, one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusLine {
    /// Names it in the `source` of its rows, in logs and metrics.
    pub name: String,
    /// How it is reached.
    pub transport: ModbusTransport,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// Rest between two requests.
    pub pause: Duration,
    /// What is polled, at least one.
    pub devices: Vec<ModbusDevice>,
}

/// A meter on a line.
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
    /// So long after each multiple, with what the line's stagger adds; less than the interval.
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
    /// Meters, and where each stands: `line 7` of this file, or another file and its line.
    meters: HashMap<MeterId, String>,
    /// Profiles by the name that was given: a thousand devices are read by a handful of them.
    profiles: HashMap<String, DeviceProfile>,
}

impl Known {
    /// Notes a meter. An error says where it stands already, as in "`meter_id` …".
    fn add_meter(&mut self, meter_id: &MeterId, place: String) -> Result<(), String> {
        if let Some(first) = self.meters.get(meter_id) {
            return Err(format!("`{meter_id}` is that of the device in {first} too"));
        }
        self.meters.insert(meter_id.clone(), place);
        Ok(())
    }
}

/// Reads every line, listener and device that is complete; what is wrong or missing is noted.
pub(super) fn read_all(
    lines: Vec<Section<'_>>,
    listeners: Vec<Section<'_>>,
    around: &Surroundings<'_>,
) -> (Vec<ModbusLine>, Vec<ModbusListener>) {
    let mut known = Known::default();
    let lines = read_lines(lines, around, &mut known);
    let listeners = listen::read_all(listeners, &lines, around, &mut known);
    (lines, listeners)
}

fn read_lines(sections: Vec<Section<'_>>, around: &Surroundings<'_>, known: &mut Known) -> Vec<ModbusLine> {
    let mut lines: Vec<ModbusLine> = Vec::new();
    for mut section in sections {
        let stagger = stagger::read(&mut section).unwrap_or(Stagger::None);
        let devices = read_devices(&mut section, "[[modbus.device]]", stagger, around, known);
        let Some(line) = read_line(&mut section, devices) else { continue };
        if lines.iter().any(|other| other.name == line.name) {
            section.refuse("name", format_args!("`{}` is given to two lines", line.name));
        }
        if let Some((other, (key, place))) =
            lines.iter().find_map(|other| Some((other, line.transport.shared_with(&other.transport)?)))
        {
            section
                .refuse(key, format_args!("{place} is that of line `{}`; a gateway or port has one line", other.name));
        }
        lines.push(line);
    }
    lines
}

fn read_line(s: &mut Section<'_>, devices: Vec<ModbusDevice>) -> Option<ModbusLine> {
    let name = s.parsed("name", plain_name);
    let name = s.required("name", name);
    let transport = transport::read(s, &devices);
    let timeout = s.duration("timeout", 10 * MILLISECOND..=MINUTE).unwrap_or(SECOND);
    let connect_timeout = s.duration("connect_timeout", 10 * MILLISECOND..=MINUTE).unwrap_or(3 * SECOND);
    let pause = s.duration("pause", Duration::ZERO..=10 * SECOND).unwrap_or_default();
    Some(ModbusLine { name: name?, transport: transport?, timeout, connect_timeout, pause, devices })
}

fn read_devices(
    line: &mut Section<'_>,
    header: &str,
    stagger: Stagger,
    around: &Surroundings<'_>,
    known: &mut Known,
) -> Vec<ModbusDevice> {
    let sections = line.sections("device");
    if sections.is_empty() && !line.has("device") {
        line.refuse("device", format_args!("is missing; name at least one meter under {header}"));
    }
    let mut devices: Vec<ModbusDevice> = Vec::new();
    for mut section in sections {
        let Some(device) = read_device(&mut section, header, stagger, around, &mut known.profiles) else { continue };
        if devices.iter().any(|other| other.unit == device.unit) {
            section.refuse("unit", format_args!("{} is given to two devices of the line", device.unit));
        }
        if let Err(complaint) = known.add_meter(&device.meter_id, format!("line {}", section.line())) {
            section.refuse("meter_id", complaint);
        }
        devices.push(device);
    }
    devices
}

fn read_device(
    s: &mut Section<'_>,
    header: &str,
    stagger: Stagger,
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
            let key = format!("{}.profile", header.trim_matches(['[', ']']));
            let profile = named(s, (&key, line), &name, around, &PROFILES)?;
            profiles.insert(name, profile.clone());
            Some(profile)
        }
    });
    let interval = s.duration("interval", INTERVALS).unwrap_or(INTERVAL);
    let offset = s.duration("offset", Duration::ZERO..=31 * DAY).unwrap_or_default();
    if offset >= interval {
        s.refuse("offset", "is not below the interval");
    }
    let meter_id = meter_id?;
    let offset = stagger.shift(&meter_id, interval, offset);
    Some(ModbusDevice { unit: unit?, meter_id, profile: profile?, interval, offset })
}

/// From one poll to the next, where nothing is said, and its limits.
const INTERVAL: Duration = Duration::from_secs(900);
const INTERVALS: std::ops::RangeInclusive<Duration> = SECOND..=Duration::from_secs(31 * 86_400);

#[cfg(test)]
mod tests;
