//! Units that registers have, as exact factors to the unit of a column.

use meterlake_model::Channel;

use super::Factor;

/// A unit's name and its size as `mantissa × 10^exponent`.
type Size = (&'static str, i64, i8);

/// By the unit that closes the column's name: what a file may write.
const UNITS: &[(&str, &[Size])] = &[
    ("kwh", &[("kWh", 1, 0), ("Wh", 1, -3), ("MWh", 1, 3)]),
    ("kvarh", &[("kvarh", 1, 0), ("varh", 1, -3), ("Mvarh", 1, 3)]),
    ("v", &[("V", 1, 0), ("mV", 1, -3), ("kV", 1, 3)]),
    ("a", &[("A", 1, 0), ("mA", 1, -3), ("kA", 1, 3)]),
    ("kw", &[("kW", 1, 0), ("W", 1, -3), ("MW", 1, 3)]),
    ("kvar", &[("kvar", 1, 0), ("var", 1, -3), ("Mvar", 1, 3)]),
    ("kva", &[("kVA", 1, 0), ("VA", 1, -3), ("MVA", 1, 3)]),
    ("factor", &[("1", 1, 0), ("%", 1, -2)]),
    ("hz", &[("Hz", 1, 0), ("mHz", 1, -3)]),
    ("m3", &[("m3", 1, 0), ("l", 1, -3), ("ml", 1, -6)]),
    ("m3h", &[("m3/h", 1, 0), ("l/h", 1, -3), ("l/min", 6, -2), ("l/s", 36, -1)]),
    ("kpa", &[("kPa", 1, 0), ("Pa", 1, -3), ("MPa", 1, 3), ("bar", 1, 2), ("mbar", 1, -1)]),
    ("c", &[("C", 1, 0)]),
];

fn units_of(channel: Channel) -> &'static [Size] {
    let suffix = channel.name().rsplit('_').next().unwrap_or_default();
    UNITS.iter().find(|(unit, _)| *unit == suffix).map_or(&[], |(_, units)| units)
}

/// From `unit` to the unit of the channel's column.
pub(super) fn to_channel(unit: &str, channel: Channel) -> Option<Factor> {
    let (_, mantissa, exponent) = units_of(channel).iter().find(|(name, ..)| *name == unit)?;
    Factor::new(*mantissa, *exponent)
}

/// The unit of the channel's own column, as profiles name it.
pub fn own_unit(channel: Channel) -> &'static str {
    units_of(channel).first().map_or("", |(name, ..)| name)
}

/// The units that a channel takes, for people.
pub(super) fn allowed(channel: Channel) -> String {
    units_of(channel).iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_takes_its_own_unit() {
        for channel in Channel::all() {
            let (own, ..) = units_of(channel).first().copied().unwrap_or_else(|| panic!("{channel} has no unit"));
            assert_eq!(to_channel(own, channel), Some(Factor::ONE), "{channel}");
        }
    }

    #[test]
    fn units_are_exact() {
        for (channel, unit, factor) in [
            ("flow_m3h", "l/min", "0.06"),
            ("flow_m3h", "l/s", "3.6"),
            ("pressure_kpa", "bar", "100"),
            ("power_kw", "W", "0.001"),
            ("volume_m3", "l", "0.001"),
        ] {
            let channel = Channel::by_name(channel).unwrap();
            assert_eq!(to_channel(unit, channel), Factor::parse(factor), "{channel} from {unit}");
        }
        assert_eq!(to_channel("kWh", Channel::by_name("power_kw").unwrap()), None);
    }
}
