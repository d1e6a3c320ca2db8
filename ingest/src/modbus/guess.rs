//! Guesses what the registers of an unknown device mean: pure, for a person who connects a new meter.
//!
//! Two questions are answered. [`fits`] asks which known profile reads the device as a meter that could exist.
//! [`candidates`] asks where single values stand: it tries both function codes, the addresses beside the one of a manual,
//! every type, order and decimal scale, and ranks what is left by what a person knows ([`Hint`]) and by physics: mains
//! voltage and frequency, real power of no more than voltage times current, registers that do not run backward between
//! two reads. Every candidate says why it is one; none is certain, and a person decides.
//!
//! Values are compared as integers of their column's last decimal, as they would be stored.

mod fit;
mod physics;
mod survey;
mod tries;

use meterlake_config::device_profile::{DeviceProfile, Factor, Field, Function, Layout, RegisterRange, own_unit};
use meterlake_model::{Channel, parse_scaled_rounding};

use super::image::Image;
use super::planner::{BlockRequest, plan, plan_identity};
use crate::decode::golden::decimal;
pub use fit::{Fit, fits};
use tries::{Held, Try};

/// What is known of a device.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Its registers.
    pub first: &'a Image,
    /// The same some seconds later.
    pub again: Option<&'a Image>,
    /// What a person knows of it.
    pub hints: &'a [Hint],
}

/// What a person knows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A value, as its display shows it.
    Value {
        /// The column that it belongs to.
        channel: Channel,
        /// Decimal text in the column's unit; not zero, which is everywhere.
        about: String,
        /// Where a manual says that it stands, however the manual counts.
        address: Option<u16>,
        /// How far off it may be meanwhile, in ‰ of itself.
        tolerance_permille: u16,
    },
    /// A serial number, or a text of the nameplate.
    Text(String),
}

/// A register that may hold a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How it would be read.
    pub field: Field,
    /// What it reads then, in the column's unit.
    pub value: String,
    /// The higher, the more speaks for it: above 60 much does, below 30 little.
    pub score: u32,
    /// What speaks for it and against it.
    pub reasons: Vec<String>,
    /// The field as a profile has it.
    pub toml: String,
}

/// Candidates that are given for one column.
const MOST_A_COLUMN: usize = 8;

/// Where values may stand: by column, for each the best first.
pub fn candidates(evidence: &Evidence<'_>) -> Vec<Candidate> {
    let held = Held::of(evidence.first);
    let again = evidence.again.map(Held::of);
    let mut tries: Vec<Try> = evidence.hints.iter().flat_map(|hint| by_hint(&held, hint)).collect();
    let hinted: Vec<Channel> = tries.iter().map(|one| one.channel()).collect();
    tries.extend(survey::unasked(&held).into_iter().filter(|one| !hinted.contains(&one.channel())));
    for one in &mut tries {
        physics::weigh_phases(one, &held);
        if let Some(again) = &again {
            physics::weigh_time(one, again);
        }
    }
    weigh_company(&mut tries);
    tries.sort_by(|a, b| (a.channel(), b.score).cmp(&(b.channel(), a.score)));
    let mut kept: Vec<Candidate> = Vec::new();
    for one in tries {
        if kept.iter().filter(|other| other.field.channel == one.channel()).count() < MOST_A_COLUMN {
            kept.push(one.into());
        }
    }
    kept
}

/// Registers to read of an unknown device, so that every profile may be tried on it.
pub fn wanted(profiles: &[DeviceProfile]) -> Vec<BlockRequest> {
    const MARKER: u16 = 2;
    let mut requests: Vec<BlockRequest> = Vec::new();
    for profile in profiles {
        requests.extend(plan_identity(profile));
        requests.extend(plan(profile));
        if let Layout::SunSpec(sunspec) = &profile.layout {
            let function = Function::HoldingRegisters;
            let marker = |base: &u16| BlockRequest { function, range: RegisterRange::starting_at(*base, MARKER) };
            requests.extend(sunspec.bases.iter().map(marker));
        }
    }
    requests.sort_unstable();
    requests.dedup();
    requests
}

/// Where a hinted value may stand.
fn by_hint(held: &Held, hint: &Hint) -> Vec<Try> {
    let Hint::Value { channel, about, address, tolerance_permille } = hint else { return Vec::new() };
    let Ok(about) = parse_scaled_rounding(about, channel.scale()) else { return Vec::new() };
    if about == 0 {
        return Vec::new();
    }
    let allowed = (i128::from(about).abs() * i128::from(*tolerance_permille) / 1000).max(1);
    let mut found = Vec::new();
    for (function, at, (bonus, reason)) in places(held, *address) {
        for mut one in tries::at(held, *channel, function, at) {
            let off = (i128::from(one.value) - i128::from(about)).abs();
            if off > allowed {
                continue;
            }
            let near = if off == 0 { 40 } else { 30 };
            let shown = decimal(about, channel.scale());
            one.add(near, if off == 0 { format!("reads {shown} as given") } else { format!("is near {shown}") });
            if !reason.is_empty() {
                one.add(bonus, reason.to_owned());
            }
            found.push(one);
        }
    }
    found
}

/// What speaks for a place.
type Word = (i32, &'static str);

/// The registers to look at: those that a manual may mean, or all.
fn places(held: &Held, stated: Option<u16>) -> Vec<(Function, u16, Word)> {
    /// Where the numbering of old manuals begins.
    const HOLDING: u16 = 40_001;
    const INPUT: u16 = 30_001;
    let Some(stated) = stated else {
        return held.addresses().map(|(function, address)| (function, address, (0, ""))).collect();
    };
    let mut places = Vec::new();
    for function in Function::ALL {
        places.push((function, Some(stated), (15, "stands where the manual says")));
        places.push((function, stated.checked_sub(1), (12, "stands one register below: the manual counts from 1")));
        places.push((function, stated.checked_add(1), (3, "stands one register above what the manual says")));
    }
    let numbered = (14, "the manual numbers holding registers from 40001 and input registers from 30001");
    places.push((Function::HoldingRegisters, stated.checked_sub(HOLDING), numbered));
    places.push((Function::InputRegisters, stated.checked_sub(INPUT).filter(|at| *at < 10_000), numbered));
    places.into_iter().filter_map(|(function, address, word)| Some((function, address?, word))).collect()
}

/// What several columns say in the same way is more likely right: few devices mix orders and families of types.
fn weigh_company(tries: &mut [Try]) {
    const MOST: i32 = 15;
    let dialects: Vec<_> = tries.iter().map(|one| (one.dialect(), one.channel())).collect();
    for one in tries {
        let mut others: Vec<Channel> = dialects
            .iter()
            .filter(|(dialect, channel)| *dialect == one.dialect() && *channel != one.channel())
            .map(|(_, channel)| *channel)
            .collect();
        others.sort_unstable();
        others.dedup();
        let number = i32::try_from(others.len()).unwrap_or(MOST);
        if number > 0 {
            one.add((number * 3).min(MOST), format!("{number} other columns are found in the same way"));
        }
    }
}

impl From<Try> for Candidate {
    fn from(one: Try) -> Self {
        let value = decimal(one.value, one.channel().scale());
        let score = u32::try_from(one.score).unwrap_or(0);
        Self { toml: toml_of(&one.field), value, score, reasons: one.reasons, field: one.field }
    }
}

/// A field of one register as a profile has it.
fn toml_of(field: &Field) -> String {
    let mut text = format!("[[field]]\nchannel = \"{}\"\n", field.channel);
    for part in &field.parts {
        let register = &part.register;
        text.push_str(&format!(
            "function = {}\naddress = 0x{:04X}\ntype = \"{}\"\norder = \"{}\"\n",
            register.function.code(),
            register.address,
            register.kind.name(),
            register.order.name()
        ));
    }
    text.push_str(&format!("unit = \"{}\"\n", own_unit(field.channel)));
    if field.factor != Factor::ONE {
        text.push_str(&format!("scale = {}\n", field.factor));
    }
    if let Some(resolution) = field.resolution {
        text.push_str(&format!("resolution = {resolution}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
