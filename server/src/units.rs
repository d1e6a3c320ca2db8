//! Columns as people say them: `energy_import_kwh` is an `energy_import` in kWh.

use meterlake_ingest::decode::golden::decimal;
use meterlake_model::Channel;

/// The last part of column names, and the unit that it stands for.
const UNITS: [(&str, &str); 13] = [
    ("_kwh", "kWh"),
    ("_kvarh", "kvarh"),
    ("_v", "V"),
    ("_a", "A"),
    ("_kw", "kW"),
    ("_kvar", "kvar"),
    ("_kva", "kVA"),
    ("_hz", "Hz"),
    ("_m3", "m³"),
    ("_m3h", "m³/h"),
    ("_kpa", "kPa"),
    ("_c", "°C"),
    ("_percent", "%"),
];

/// A channel's name without its unit, and the unit; empty where it has none.
pub fn split(channel: Channel) -> (&'static str, &'static str) {
    let name = channel.name();
    let found = UNITS.iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, *unit)));
    found.unwrap_or((name, ""))
}

/// A value with all its decimals and its unit: `230.1 V`.
pub fn value(channel: Channel, value: i64) -> String {
    let (_, unit) = split(channel);
    let number = decimal(value, channel.scale());
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// Text from outside for a terminal: control characters, which could change what a person sees, are written out.
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_but_a_ratio_has_a_unit() {
        for channel in Channel::all() {
            let (name, unit) = split(channel);
            assert_eq!(unit.is_empty(), channel.name() == "power_factor", "{channel}");
            assert!(!name.is_empty() && channel.name().starts_with(name), "{channel}");
        }
        let volts = Channel::by_name("voltage_l1_v").unwrap();
        assert_eq!((split(volts), value(volts, 2301).as_str()), (("voltage_l1", "V"), "230.1 V"));
        assert_eq!(value(Channel::by_name("power_factor").unwrap(), -985), "-0.985");
    }

    #[test]
    fn what_a_sender_writes_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("Zähler 7"), "Zähler 7");
    }
}
