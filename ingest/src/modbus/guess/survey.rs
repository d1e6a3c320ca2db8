//! What a device's registers look like to somebody who knows nothing of it: mains voltages, frequency, and the currents
//! and powers that go with the voltages.

use meterlake_config::device_profile::{ByteOrder, Factor, Function, Register, RegisterType};
use meterlake_model::Channel;

use super::physics::{is_possible_power, plausibility};
use super::tries::{Held, Try, at, field, orders};

/// How far from the voltages their currents and powers are looked for, in registers.
const REACH: u16 = 96;
/// Types and scales of currents and powers, in A and in kW.
const KINDS: [RegisterType; 5] =
    [RegisterType::F32, RegisterType::I32, RegisterType::U32, RegisterType::I16, RegisterType::U16];
const AMPERES: [i8; 3] = [-3, -2, -1];
const KILOWATTS: [i8; 4] = [-3, -4, -2, 0];

/// Frequency, voltages, and what goes with them.
pub(super) fn unasked(held: &Held) -> Vec<Try> {
    let mut found = Vec::new();
    let (Some(frequency), Some(voltage)) = (Channel::by_name("frequency_hz"), Channel::by_name("voltage_l1_v")) else {
        return found;
    };
    for (function, address) in held.addresses() {
        let mains = |one: &Try| plausibility(one.channel(), one.value).0 >= 10 && is_usual(one);
        for mut one in at(held, frequency, function, address).into_iter().filter(mains) {
            let is_float = one.register().is_some_and(|register| register.kind.is_float());
            let exact = one.value % 100 != 0;
            one.add(if is_float { 20 } else { 4 } + if exact { 6 } else { 0 }, "nobody asked for it".to_owned());
            found.push(one);
        }
        for mut one in at(held, voltage, function, address).into_iter().filter(mains) {
            let is_float = one.register().is_some_and(|register| register.kind.is_float());
            one.add(if is_float { 15 } else { 2 }, "nobody asked for it".to_owned());
            let loads = loads(held, &one);
            if let Some(loads) = loads {
                one.add(20, "currents and powers are found that go with it".to_owned());
                found.extend(loads);
            }
            found.push(one);
        }
    }
    found
}

/// Floats as they are, integers with decimals: the rest fits too much by chance.
fn is_usual(one: &Try) -> bool {
    let is_float = one.register().is_some_and(|register| register.kind.is_float());
    let exponent = one.field.factor.exponent();
    if is_float { exponent == 0 } else { (-3..=-1).contains(&exponent) }
}

/// Current and power of the first phase that go with its voltage, and, where the device has three, with theirs.
fn loads(held: &Held, voltage: &Try) -> Option<[Try; 2]> {
    let register = voltage.register()?;
    let phases: Vec<i64> = (0..3).map_while(|phase| voltage.next_value(held, phase)).collect();
    let is_three = phases.len() == 3 && phases.iter().all(|other| (other - voltage.value).abs() * 5 <= voltage.value);
    // One phase alone fits too much by chance.
    if !is_three {
        return None;
    }
    let from = register.address.saturating_sub(REACH);
    let near = || (from..=register.address.saturating_add(REACH)).filter(|at| *at != register.address);
    let dialect = (register.function, register.order, register.kind.is_float());
    let currents = series(held, "current_l1_a", dialect, near(), &AMPERES);
    let powers = series(held, "power_l1_kw", dialect, near(), &KILOWATTS);
    for (current, amperes) in &currents {
        for (power, kilowatts) in &powers {
            if overlap(current, power) || overlap(current, voltage) || overlap(power, voltage) {
                continue;
            }
            let checks =
                [0, 1, 2].map(|phase: usize| is_possible_power(phases[phase], amperes[phase], kilowatts[phase]));
            let positive = amperes.iter().all(|current| *current >= 0);
            if positive && checks.iter().all(|(possible, tells)| *possible && *tells) {
                let mut both = [current.clone(), power.clone()];
                for one in &mut both {
                    one.add(45, "power is no more than voltage times current in each of three phases".to_owned());
                }
                return Some(both);
            }
        }
    }
    None
}

fn overlap(one: &Try, other: &Try) -> bool {
    let ranges = one.register().zip(other.register()).map(|(a, b)| {
        let three = |register: &Register| {
            let registers = register.kind.registers() * 3;
            register.address..register.address.saturating_add(registers)
        };
        (three(a), three(b))
    });
    ranges.is_some_and(|(a, b)| a.start < b.end && b.start < a.end)
}

/// Three values side by side, none of them zero.
fn series(
    held: &Held,
    channel: &str,
    (function, order, is_float): (Function, ByteOrder, bool),
    near: impl Iterator<Item = u16> + Clone,
    scales: &[i8],
) -> Vec<(Try, [i64; 3])> {
    let Some(channel) = Channel::by_name(channel) else { return Vec::new() };
    let mut found = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| kind.is_float() == is_float && orders(*kind).contains(&order)) {
        let own: &[i8] = if is_float { &[0, -3] } else { scales };
        for (address, exponent) in near.clone().flat_map(|at| own.iter().map(move |scale| (at, *scale))) {
            let register = Register { function, address, kind, order, bits: None, absent: Vec::new() };
            let Some(factor) = Factor::new(1, exponent) else { continue };
            let field = field(channel, register, factor);
            let Some(value) = held.value(&field).filter(|value| *value != 0) else { continue };
            let one = Try { field, value, score: 8, reasons: Vec::new() };
            let (Some(second), Some(third)) = (one.next_value(held, 1), one.next_value(held, 2)) else { continue };
            let values = [value, second, third];
            if values.iter().all(|value| plausibility(channel, *value).0 > 0) {
                found.push((one, values));
            }
        }
    }
    found
}
