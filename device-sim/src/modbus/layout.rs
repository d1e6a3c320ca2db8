//! Where the values of a device lie in its registers.

use meterlake_model::Channel;

/// What a unit shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitValues {
    /// The register in 0.001 kWh or m³.
    pub register_milli: i64,
    /// Voltage of each phase in 0.1 V.
    pub volts_dv: [i64; 3],
    /// Power of all phases in W.
    pub watts: i64,
}

impl UnitValues {
    /// From a simulated reading.
    pub(super) fn of_reading(channels: &[Channel], values: &[i64]) -> Self {
        let get = |name: &str| channels.iter().position(|c| c.name() == name).and_then(|at| values.get(at).copied());
        let volts = |name: &str| get(name).unwrap_or(0);
        Self {
            register_milli: values.first().copied().unwrap_or(0),
            volts_dv: [volts("voltage_l1_v"), volts("voltage_l2_v"), volts("voltage_l3_v")],
            watts: get("power_kw").unwrap_or(0),
        }
    }
}

/// The register map of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Eastron SDM630: floats of 32 bits in input registers, high word first.
    Sdm630,
    /// A pulse counter on a water meter, a litre a pulse: holding registers.
    PulseWater,
}

/// Registers of an SDM630, its last documented one included.
const SDM630_REGISTERS: usize = 0x0184;
/// Registers of the pulse counter.
const PULSE_REGISTERS: usize = 16;

impl Layout {
    /// Name of the device profile that reads it.
    pub const fn profile(self) -> &'static str {
        match self {
            Self::Sdm630 => "eastron-sdm630",
            Self::PulseWater => "pulse-water",
        }
    }

    /// Whether it answers to input registers; else to holding registers.
    pub(super) const fn is_input(self) -> bool {
        matches!(self, Self::Sdm630)
    }

    /// All registers from address 0.
    pub(super) fn registers(self, values: &UnitValues) -> Vec<u16> {
        match self {
            Self::Sdm630 => sdm630(values),
            Self::PulseWater => pulse_water(values),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the device itself speaks floats of 32 bits")]
fn sdm630(values: &UnitValues) -> Vec<u16> {
    const POWER_FACTOR: f64 = 0.96;
    let mut registers = vec![0; SDM630_REGISTERS];
    let mut put = |address: usize, value: f64| {
        let bits = (value as f32).to_bits().to_be_bytes();
        registers[address] = u16::from_be_bytes([bits[0], bits[1]]);
        registers[address + 1] = u16::from_be_bytes([bits[2], bits[3]]);
    };
    let watts = values.watts as f64;
    let phases = values.volts_dv.iter().filter(|v| **v > 0).count().max(1) as f64;
    let mut amperes = 0.0;
    for (phase, volts) in values.volts_dv.iter().map(|dv| *dv as f64 / 10.0).enumerate().filter(|(_, v)| *v > 0.0) {
        let apparent = watts / phases / POWER_FACTOR;
        put(2 * phase, volts);
        put(0x0006 + 2 * phase, apparent / volts);
        put(0x000C + 2 * phase, watts / phases);
        put(0x0012 + 2 * phase, apparent);
        put(0x001E + 2 * phase, POWER_FACTOR);
        put(0x00C8 + 2 * phase, volts * 3_f64.sqrt());
        amperes += apparent / volts;
    }
    put(0x002A, values.volts_dv.iter().sum::<i64>() as f64 / 10.0 / phases);
    put(0x002E, amperes / phases);
    put(0x0030, amperes);
    put(0x0034, watts);
    put(0x0038, watts / POWER_FACTOR);
    put(0x003C, watts / POWER_FACTOR * (1.0 - POWER_FACTOR * POWER_FACTOR).sqrt());
    put(0x003E, POWER_FACTOR);
    put(0x0046, 50.0);
    let kwh = values.register_milli as f64 / 1000.0;
    put(0x0048, kwh);
    put(0x0156, kwh);
    registers
}

fn pulse_water(values: &UnitValues) -> Vec<u16> {
    let mut registers = vec![0; PULSE_REGISTERS];
    // A counter of 32 bits starts again at 0.
    let pulses = values.register_milli.rem_euclid(1 << 32).to_be_bytes();
    registers[0] = u16::from_be_bytes([pulses[4], pulses[5]]);
    registers[1] = u16::from_be_bytes([pulses[6], pulses[7]]);
    // 3.612 V, 14.5 °C, no status.
    registers[2] = 3612;
    registers[3] = 145;
    registers
}
