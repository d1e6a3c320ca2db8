//! The catalogue of channels: what a meter can say, in which unit, to how many decimals.

use std::fmt;

/// What the meter measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commodity {
    /// Electric energy.
    Electricity,
    /// Drinking water.
    Water,
}

impl Commodity {
    /// Both, in the order of the tables.
    pub const ALL: [Self; 2] = [Self::Electricity, Self::Water];

    /// `electricity` or `water`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Electricity => "electricity",
            Self::Water => "water",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }
}

impl fmt::Display for Commodity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the values of a channel relate to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// A register that counts up; use is the difference of two readings.
    Register,
    /// Use of the interval that ends at the reading's time.
    Interval,
    /// A value of the moment, or a mean over the last minutes; rounded half to even to the column's scale.
    Physical,
}

/// One column of a readings table. The name closes with the unit.
///
/// A channel is an index into a fixed catalogue: small to hold and to compare. The catalogue grows at its end of each
/// commodity only; the journal stores names, not indexes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u8);

struct Spec {
    name: &'static str,
    commodity: Commodity,
    kind: ChannelKind,
    precision: u8,
    scale: u8,
}

const fn spec(name: &'static str, commodity: Commodity, kind: ChannelKind, precision: u8, scale: u8) -> Spec {
    Spec { name, commodity, kind, precision, scale }
}

const CATALOGUE: &[Spec] = {
    use ChannelKind::{Interval, Physical, Register};
    use Commodity::{Electricity, Water};
    &[
        spec("energy_import_kwh", Electricity, Register, 15, 3),
        spec("energy_export_kwh", Electricity, Register, 15, 3),
        spec("reactive_import_kvarh", Electricity, Register, 15, 3),
        spec("reactive_export_kvarh", Electricity, Register, 15, 3),
        spec("energy_import_t1_kwh", Electricity, Register, 15, 3),
        spec("energy_import_t2_kwh", Electricity, Register, 15, 3),
        spec("energy_import_t3_kwh", Electricity, Register, 15, 3),
        spec("energy_import_t4_kwh", Electricity, Register, 15, 3),
        spec("energy_import_delta_kwh", Electricity, Interval, 18, 6),
        spec("energy_export_delta_kwh", Electricity, Interval, 18, 6),
        spec("voltage_l1_v", Electricity, Physical, 9, 1),
        spec("voltage_l2_v", Electricity, Physical, 9, 1),
        spec("voltage_l3_v", Electricity, Physical, 9, 1),
        spec("current_l1_a", Electricity, Physical, 9, 3),
        spec("current_l2_a", Electricity, Physical, 9, 3),
        spec("current_l3_a", Electricity, Physical, 9, 3),
        spec("power_kw", Electricity, Physical, 9, 3),
        spec("power_l1_kw", Electricity, Physical, 9, 3),
        spec("power_l2_kw", Electricity, Physical, 9, 3),
        spec("power_l3_kw", Electricity, Physical, 9, 3),
        spec("reactive_power_kvar", Electricity, Physical, 9, 3),
        spec("apparent_power_kva", Electricity, Physical, 9, 3),
        spec("power_factor", Electricity, Physical, 4, 3),
        spec("frequency_hz", Electricity, Physical, 5, 2),
        spec("volume_m3", Water, Register, 15, 3),
        spec("reverse_volume_m3", Water, Register, 15, 3),
        spec("volume_delta_m3", Water, Interval, 18, 6),
        spec("flow_m3h", Water, Physical, 9, 3),
        spec("pressure_kpa", Water, Physical, 9, 1),
        spec("temperature_c", Water, Physical, 5, 1),
        spec("battery_v", Water, Physical, 5, 3),
    ]
};

impl Channel {
    /// Every channel in the order of the catalogue.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CATALOGUE.len()).filter_map(|i| u8::try_from(i).ok().map(Self))
    }

    /// The channels of one commodity, in column order.
    pub fn of(commodity: Commodity) -> impl Iterator<Item = Self> {
        Self::all().filter(move |c| c.commodity() == commodity)
    }

    /// The channel with this column name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|c| c.name() == name)
    }

    fn spec(self) -> &'static Spec {
        &CATALOGUE[usize::from(self.0)]
    }

    /// The column name; it closes with the unit.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Which table the channel is a column of.
    pub fn commodity(self) -> Commodity {
        self.spec().commodity
    }

    /// Register, interval or physical.
    pub fn kind(self) -> ChannelKind {
        self.spec().kind
    }

    /// Decimals that the column keeps.
    pub fn scale(self) -> u8 {
        self.spec().scale
    }

    /// Decimal digits that the column holds, decimals included.
    pub fn precision(self) -> u8 {
        self.spec().precision
    }

    /// Whether `value`, in units of 10^-scale, fits the column.
    pub fn fits(self, value: i64) -> bool {
        i128::from(value).abs() < 10_i128.pow(u32::from(self.precision()))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_channel_is_found_by_its_own_name() {
        let names: BTreeSet<_> = Channel::all().map(Channel::name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for channel in Channel::all() {
            assert_eq!(Channel::by_name(channel.name()), Some(channel));
            assert!(channel.precision() <= 18, "{channel} must fit 64 bits");
        }
    }

    #[test]
    fn a_value_fits_up_to_its_digits() {
        let voltage = Channel::by_name("voltage_l1_v").unwrap();
        assert!(voltage.fits(999_999_999));
        assert!(!voltage.fits(1_000_000_000));
        assert!(!voltage.fits(i64::MIN));
    }
}
