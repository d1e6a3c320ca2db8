//! From the sender's unit to the column's, as an exact fraction.

use meterlake_model::{Channel, ChannelKind};

/// From the sender's number to the integer of the column.
///
/// The column's integer is the sender's number times `numerator` by `denominator`; the fraction is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Above the line; positive.
    pub numerator: i64,
    /// Below the line; positive.
    pub denominator: i64,
    /// What happens to digits beyond the column's.
    pub rounding: Rounding,
}

/// What happens to digits beyond those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// The value is refused.
    Refused,
    /// Half to even, to a multiple of this many units of the column's last digit.
    HalfEven {
        /// 1 for the column's own resolution.
        step: i64,
    },
}

/// What a unit measures; values of different quantities do not convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Energy,
    Reactive,
    Volume,
    Flow,
    Voltage,
    Current,
    Power,
    ReactivePower,
    ApparentPower,
    Frequency,
    Pressure,
    Temperature,
    Ratio,
}

struct Unit {
    name: &'static str,
    quantity: Quantity,
    /// In units of the column: `over` by `under`.
    over: i64,
    under: i64,
}

const fn unit(name: &'static str, quantity: Quantity, over: i64, under: i64) -> Unit {
    Unit { name, quantity, over, under }
}

/// The first unit of each quantity is that of the columns.
const UNITS: &[Unit] = {
    use Quantity::{
        ApparentPower, Current, Energy, Flow, Frequency, Power, Pressure, Ratio, Reactive, ReactivePower, Temperature,
        Voltage, Volume,
    };
    &[
        unit("kWh", Energy, 1, 1),
        unit("Wh", Energy, 1, 1_000),
        unit("MWh", Energy, 1_000, 1),
        unit("GWh", Energy, 1_000_000, 1),
        unit("J", Energy, 1, 3_600_000),
        unit("kJ", Energy, 1, 3_600),
        unit("MJ", Energy, 10, 36),
        unit("kvarh", Reactive, 1, 1),
        unit("varh", Reactive, 1, 1_000),
        unit("Mvarh", Reactive, 1_000, 1),
        unit("m3", Volume, 1, 1),
        unit("l", Volume, 1, 1_000),
        unit("L", Volume, 1, 1_000),
        unit("m³", Volume, 1, 1),
        unit("ml", Volume, 1, 1_000_000),
        // 231 cubic inches of 2.54 cm.
        unit("gal", Volume, 3_785_411_784, 1_000_000_000_000),
        // 0.3048 m cubed.
        unit("ft3", Volume, 28_316_846_592, 1_000_000_000_000),
        unit("m3/h", Flow, 1, 1),
        unit("m³/h", Flow, 1, 1),
        unit("l/h", Flow, 1, 1_000),
        unit("l/min", Flow, 60, 1_000),
        unit("l/s", Flow, 3_600, 1_000),
        unit("m3/s", Flow, 3_600, 1),
        unit("V", Voltage, 1, 1),
        unit("mV", Voltage, 1, 1_000),
        unit("kV", Voltage, 1_000, 1),
        unit("A", Current, 1, 1),
        unit("mA", Current, 1, 1_000),
        unit("kW", Power, 1, 1),
        unit("W", Power, 1, 1_000),
        unit("MW", Power, 1_000, 1),
        unit("kvar", ReactivePower, 1, 1),
        unit("var", ReactivePower, 1, 1_000),
        unit("kVA", ApparentPower, 1, 1),
        unit("VA", ApparentPower, 1, 1_000),
        unit("Hz", Frequency, 1, 1),
        unit("mHz", Frequency, 1, 1_000),
        unit("kPa", Pressure, 1, 1),
        unit("Pa", Pressure, 1, 1_000),
        unit("hPa", Pressure, 1, 10),
        unit("mbar", Pressure, 1, 10),
        unit("bar", Pressure, 100, 1),
        unit("MPa", Pressure, 1_000, 1),
        unit("°C", Temperature, 1, 1),
        unit("Cel", Temperature, 1, 1),
        unit("C", Temperature, 1, 1),
        unit("1", Ratio, 1, 1),
        unit("/", Ratio, 1, 1),
        unit("%", Ratio, 1, 100),
    ]
};

fn quantity_of(channel: Channel) -> Option<Quantity> {
    // The name of a column closes with its unit; `power_factor` has none.
    let suffixes = [
        ("_kwh", Quantity::Energy),
        ("_kvarh", Quantity::Reactive),
        ("_m3", Quantity::Volume),
        ("_m3h", Quantity::Flow),
        ("_v", Quantity::Voltage),
        ("_a", Quantity::Current),
        ("_kw", Quantity::Power),
        ("_kvar", Quantity::ReactivePower),
        ("_kva", Quantity::ApparentPower),
        ("_hz", Quantity::Frequency),
        ("_kpa", Quantity::Pressure),
        ("_c", Quantity::Temperature),
        ("_factor", Quantity::Ratio),
    ];
    suffixes.iter().find(|(suffix, _)| channel.name().ends_with(suffix)).map(|(_, quantity)| *quantity)
}

/// A decimal constant as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fraction {
    pub(super) over: i64,
    pub(super) under: i64,
}

impl Conversion {
    /// The conversion of numbers that already have the column's unit.
    pub fn identity(channel: Channel) -> Self {
        let rounding = match channel.kind() {
            ChannelKind::Physical => Rounding::HalfEven { step: 1 },
            ChannelKind::Register | ChannelKind::Interval => Rounding::Refused,
        };
        Self { numerator: 10_i64.pow(u32::from(channel.scale())), denominator: 1, rounding }
    }

    /// From a unit, a constant factor and a resolution, each of which may be absent.
    ///
    /// # Errors
    /// The key at fault and what is wrong with it.
    pub(super) fn new(
        channel: Channel,
        unit: Option<&str>,
        factor: Option<Fraction>,
        resolution: Option<Fraction>,
    ) -> Result<Self, (&'static str, String)> {
        let identity = Self::identity(channel);
        let unit = unit.map(|name| find_unit(channel, name)).transpose().map_err(|problem| ("unit", problem))?;
        let (mut over, mut under) = (i128::from(identity.numerator), 1_i128);
        for (above, below) in unit.map(|u| (u.over, u.under)).into_iter().chain(factor.map(|f| (f.over, f.under))) {
            over *= i128::from(above);
            under *= i128::from(below);
            let divisor = greatest_common_divisor(over, under);
            (over, under) = (over / divisor, under / divisor);
        }
        let too_fine = |_| ("factor", "together with the unit has too many digits".to_owned());
        let (numerator, denominator) =
            (i64::try_from(over).map_err(too_fine)?, i64::try_from(under).map_err(too_fine)?);
        let rounding = match resolution {
            None => identity.rounding,
            Some(step) => Rounding::HalfEven { step: steps(channel, step).map_err(|problem| ("resolution", problem))? },
        };
        // A tenth of a step may be all that is ever sent; a third or 3.785 of a step never comes out whole.
        if rounding == Rounding::Refused && !is_power_of_ten(denominator) {
            let key = if factor.is_some() { "factor" } else { "unit" };
            let problem = format!("does not give whole steps of `{channel}`: state the `resolution` to round to");
            return Err((key, problem));
        }
        Ok(Self { numerator, denominator, rounding })
    }
}

/// The names of the units that a column takes.
pub(super) fn units_of(channel: Channel) -> impl Iterator<Item = &'static str> {
    let quantity = quantity_of(channel);
    UNITS.iter().filter(move |unit| Some(unit.quantity) == quantity).map(|unit| unit.name)
}

fn find_unit(channel: Channel, name: &str) -> Result<&'static Unit, String> {
    let quantity = quantity_of(channel).ok_or_else(|| format!("is not defined for `{channel}`"))?;
    let of_channel = || UNITS.iter().filter(move |unit| unit.quantity == quantity);
    of_channel().find(|unit| unit.name == name).ok_or_else(|| {
        let known: Vec<_> = of_channel().map(|unit| unit.name).collect();
        format!("is \"{name}\"; `{channel}` takes {}", known.join(", "))
    })
}

/// The resolution in units of the column's last digit.
fn steps(channel: Channel, resolution: Fraction) -> Result<i64, String> {
    let units = i128::from(resolution.over) * 10_i128.pow(u32::from(channel.scale()));
    let under = i128::from(resolution.under);
    match i64::try_from(units / under) {
        Ok(step) if step > 0 && units % under == 0 => Ok(step),
        _ => Err(format!("is no whole number of steps of `{channel}`, which keeps {} decimals", channel.scale())),
    }
}

fn greatest_common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn is_power_of_ten(mut value: i64) -> bool {
    while value % 10 == 0 {
        value /= 10;
    }
    value == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::by_name(name).unwrap()
    }

    #[test]
    fn every_column_has_a_quantity_whose_first_unit_is_its_own() {
        for channel in Channel::all() {
            let quantity = quantity_of(channel).unwrap_or_else(|| panic!("{channel} has no unit"));
            let first = UNITS.iter().find(|unit| unit.quantity == quantity).unwrap();
            assert_eq!((first.over, first.under), (1, 1), "{channel}");
            let own = Conversion::new(channel, Some(first.name), None, None).unwrap();
            assert_eq!(own, Conversion::identity(channel), "{channel}");
        }
    }

    #[test]
    fn units_become_reduced_fractions() {
        for (name, unit, expected) in [
            ("energy_import_kwh", "Wh", (1, 1)),
            ("energy_import_kwh", "MWh", (1_000_000, 1)),
            ("voltage_l1_v", "mV", (1, 100)),
            ("volume_m3", "l", (1, 1)),
            ("flow_m3h", "l/min", (60, 1)),
            ("pressure_kpa", "bar", (1_000, 1)),
            ("power_factor", "%", (10, 1)),
        ] {
            let found = Conversion::new(channel(name), Some(unit), None, None).unwrap();
            assert_eq!((found.numerator, found.denominator), expected, "{name} in {unit}");
        }
    }

    #[test]
    fn registers_in_gallons_need_a_resolution() {
        let volume = channel("volume_m3");
        assert_eq!(Conversion::new(volume, Some("gal"), None, None).unwrap_err().0, "unit");
        let step = Some(Fraction { over: 1, under: 100 });
        let found = Conversion::new(volume, Some("gal"), None, step).unwrap();
        assert_eq!(found.rounding, Rounding::HalfEven { step: 10 });
        let finer = Some(Fraction { over: 1, under: 10_000 });
        assert_eq!(Conversion::new(volume, None, None, finer).unwrap_err().0, "resolution");
    }

    #[test]
    fn a_foreign_unit_is_answered_with_those_that_fit() {
        let (key, problem) = Conversion::new(channel("voltage_l1_v"), Some("kWh"), None, None).unwrap_err();
        assert_eq!((key, problem.as_str()), ("unit", "is \"kWh\"; `voltage_l1_v` takes V, mV, kV"));
    }
}
