//! What can be of a meter, and what cannot.

use meterlake_model::{Channel, ChannelKind};

use super::tries::{Held, Try};

/// Mains voltage in V and frequency in Hz, with their columns' decimals.
const VOLTAGES: [std::ops::RangeInclusive<i64>; 2] = [1_800..=2_600, 1_000..=1_320];
const FREQUENCIES: [std::ops::RangeInclusive<i64>; 2] = [4_900..=5_100, 5_900..=6_100];
/// A tariff meter's counter runs some 200 years to this.
const LARGEST_COUNTER: i64 = 100_000_000_000;

/// How plausible a value is by itself: from -10, impossible, to 10, hardly by chance.
pub(super) fn plausibility(channel: Channel, value: i64) -> (i32, &'static str) {
    let name = channel.name();
    let within = |ranges: &[std::ops::RangeInclusive<i64>]| ranges.iter().any(|range| range.contains(&value));
    match channel.kind() {
        ChannelKind::Register | ChannelKind::Interval if value < 0 => (-10, "a counter below zero"),
        ChannelKind::Register | ChannelKind::Interval if value > LARGEST_COUNTER => (-6, "a counter beyond any life"),
        ChannelKind::Register | ChannelKind::Interval if value == 0 => (0, ""),
        ChannelKind::Register | ChannelKind::Interval => (2, "a counter"),
        ChannelKind::Physical if name.starts_with("voltage") => match value {
            0 => (0, ""),
            _ if within(&VOLTAGES) => (10, "mains voltage"),
            500..=4_600 => (1, "an unusual voltage"),
            _ => (-8, "no voltage of the mains"),
        },
        ChannelKind::Physical if name == "frequency_hz" => match value {
            0 => (0, ""),
            _ if within(&FREQUENCIES) => (10, "mains frequency"),
            _ => (-8, "no frequency of the mains"),
        },
        ChannelKind::Physical if name == "power_factor" => match value {
            0 => (0, ""),
            -1_000..=1_000 => (4, "a power factor"),
            _ => (-8, "a power factor above one"),
        },
        ChannelKind::Physical if name.starts_with("current") => match value {
            0 => (0, ""),
            1..=200_000 => (3, "a current"),
            ..0 => (-3, "a current below zero"),
            _ => (-4, "a current beyond most meters"),
        },
        ChannelKind::Physical if name.contains("power") => match value.abs() {
            0 => (0, ""),
            1..=150_000 => (2, "a power"),
            150_001..=2_000_000 => (0, "a large power"),
            _ => (-6, "a power beyond any meter"),
        },
        ChannelKind::Physical if name == "battery_v" => match value {
            1_500..=4_500 => (5, "a battery's voltage"),
            _ => (-3, "no battery's voltage"),
        },
        ChannelKind::Physical if name == "temperature_c" => match value {
            -300..=900 => (3, "a temperature"),
            _ => (-6, "no temperature of water"),
        },
        ChannelKind::Physical => (0, ""),
    }
}

/// Real power of one phase against its voltage and current, in the columns' decimals: whether it is no more than their
/// product, and whether the phase is loaded enough to tell.
pub(super) fn is_possible_power(voltage: i64, current: i64, power: i64) -> (bool, bool) {
    // 0.1 V times 0.001 A is 0.0001 W; the power is in W.
    let apparent = i128::from(voltage) * i128::from(current.abs());
    let power = i128::from(power).abs() * 10_000;
    // A fiftieth for what changed between two readings, and 2 W for what the meter itself rounds.
    let possible = power <= apparent + apparent / 50 + 20_000;
    // 20 W, and a power factor above 0.3.
    let tells = apparent > 200_000 && power * 10 >= apparent * 3;
    (possible, tells)
}

/// Adds what the value itself and the phases beside it say.
pub(super) fn weigh_phases(one: &mut Try, held: &Held) {
    let (score, reason) = plausibility(one.channel(), one.value);
    if !reason.is_empty() {
        one.add(score, format!("is {reason}"));
    }
    let odd = i32::try_from(one.odd_floats_beside(held)).unwrap_or(i32::MAX);
    if odd > 0 {
        one.add(-12 * odd.min(4), format!("{odd} floats beside it would be no values of a meter"));
    }
    if one.channel().name() != "voltage_l1_v" {
        return;
    }
    let near = |other: i64| (other - one.value).abs() * 10 <= one.value.abs();
    let phases = [1, 2].map(|phase| one.next_value(held, phase));
    match phases {
        [Some(second), Some(third)] if near(second) && near(third) => {
            one.add(15, "two more phases of about this voltage stand behind it".to_owned());
        }
        [Some(0), Some(0)] => one.add(2, "two more phases without voltage stand behind it".to_owned()),
        _ => {}
    }
}

/// Adds what a second read says.
pub(super) fn weigh_time(one: &mut Try, again: &Held) {
    let Some(later) = again.value(&one.field) else { return };
    let grown = later - one.value;
    match one.channel().kind() {
        ChannelKind::Register if grown < 0 => one.add(-40, "ran backward between the two reads".to_owned()),
        // Some minutes at 1 MW, or at 100 m³ in an hour.
        ChannelKind::Register if grown > 100_000 => one.add(-20, "leapt between the two reads".to_owned()),
        ChannelKind::Register if grown > 0 => one.add(10, "ran forward between the two reads".to_owned()),
        ChannelKind::Physical if one.channel().name().starts_with("voltage") && grown.abs() * 5 > one.value.abs() => {
            one.add(-15, "leapt between the two reads".to_owned());
        }
        _ => {}
    }
}
