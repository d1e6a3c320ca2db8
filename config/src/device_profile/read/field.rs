//! `[[field]]` and `[[status]]`.

use meterlake_model::{Channel, Commodity, EventKind};

use super::super::{
    Absent, Factor, FactorRegister, Field, Negative, Part, Register, RegisterType, ScaleMeaning, ScaleRegister,
    SignRegister, StatusField, unit,
};
use super::register::{
    Defaults, Reach, SMALL, absent, check_reach, factor, factor_or_one, overridden, place, register,
};
use crate::document::Section;

/// Numbers that one value may be the sum of, and registers that it may be multiplied by.
const PARTS: std::ops::RangeInclusive<usize> = 2..=8;
const FACTORS: usize = 4;
/// What most devices write where a scale factor is not there.
const NO_SCALE: Absent = Absent::Bits(0x8000);

pub(super) fn field(
    section: &mut Section<'_>,
    defaults: &Defaults,
    reach: &Reach,
    commodity: Option<Commodity>,
) -> Option<Field> {
    let channel = section.parsed("channel", |text| channel(text, commodity));
    let channel = section.required("channel", channel);
    let parts = parts(section, defaults, reach);
    let own = overridden(section, defaults);
    let unit_name = section.text("unit");
    let unit_name = section.required("unit", unit_name);
    let scale = factor_or_one(section, "scale");
    let resolution = factor(section, "resolution");
    let scale_register = scale_register(section, &own, reach);
    let factor_registers = factor_registers(section, &own, reach);
    let sign = sign(section, &own, reach);
    let models = section.numbers("models", 1..=u16::MAX).unwrap_or_default();
    let (channel, unit_name) = (channel?, unit_name?);
    let Some(unit_factor) = unit::to_channel(&unit_name, channel) else {
        let allowed = unit::allowed(channel);
        section.refuse("unit", format_args!("is \"{unit_name}\"; {channel} takes one of {allowed}"));
        return None;
    };
    let Some(factor) = scale?.times(unit_factor) else {
        section.refuse("scale", "is too large or too fine for its unit");
        return None;
    };
    let (parts, factor_registers) = (parts?, factor_registers?);
    let float = parts.iter().any(|part| part.register.kind.is_float());
    let rounding = if float {
        Rounding::Needed
    } else if factor_registers.is_empty() {
        Rounding::None
    } else {
        Rounding::Allowed
    };
    let resolution = resolution_of(section, channel, rounding, resolution, unit_factor)?;
    Some(Field {
        channel,
        parts,
        unit: unit_name,
        factor,
        resolution,
        scale_register: scale_register?,
        factor_registers,
        sign: sign?,
        models,
    })
}

/// The field's own register, or those that are added up.
fn parts(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Vec<Part>> {
    if !section.has("parts") {
        drop(section.sections("parts"));
        return register(section, defaults, reach).map(|register| vec![Part { register, scale: Factor::ONE }]);
    }
    for key in ["address", "bits"] {
        section.forbid(key, "stands in each of the `parts`");
    }
    let own = overridden(section, defaults);
    let absent = absent(section, None);
    let sections = section.sections("parts");
    if !PARTS.contains(&sections.len()) {
        let (least, most) = (PARTS.start(), PARTS.end());
        section.refuse("parts", format_args!("has {} registers; {least} to {most} are allowed", sections.len()));
    }
    let mut parts = Vec::new();
    let mut complete = !sections.is_empty();
    for mut section in sections {
        let mut register = register(&mut section, &own, reach);
        if let Some(register) = register.as_mut().filter(|_| !section.has("absent")) {
            register.absent.clone_from(&absent);
        }
        match (register, factor_or_one(&mut section, "scale")) {
            (Some(register), Some(scale)) => parts.push(Part { register, scale }),
            _ => complete = false,
        }
    }
    complete.then_some(parts)
}

/// The outer `None`: a problem was noted.
fn scale_register(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Option<ScaleRegister>> {
    let is_there = section.has("scale_register");
    let mut table = section.section("scale_register");
    if !is_there {
        return Some(None);
    }
    let defaults = defaults.of_type(Some(RegisterType::I16));
    let register = register(&mut table, &defaults, reach);
    let meanings =
        [("exponent", ScaleWord::Exponent), ("decimals", ScaleWord::Decimals), ("multiplier", ScaleWord::Multiplier)];
    let word = table.choice("meaning", &meanings);
    let has_lookup = table.has("lookup");
    let mut lookup = table.section("lookup");
    let mut by_number = Vec::new();
    for (number, key) in (0_u8..).zip(SMALL) {
        by_number.extend(factor(&mut lookup, key).map(|factor| (number, factor)));
    }
    drop(lookup);
    if has_lookup && table.has("meaning") {
        table.refuse("lookup", "and `meaning` say the same thing; write one of them");
    }
    let meaning = match word {
        _ if has_lookup => ScaleMeaning::Lookup(by_number),
        Some(ScaleWord::Decimals) => ScaleMeaning::Decimals,
        Some(ScaleWord::Multiplier) => ScaleMeaning::Multiplier,
        Some(ScaleWord::Exponent) | None => ScaleMeaning::Exponent,
    };
    let mut register = register?;
    if register.kind.is_float() && meaning != ScaleMeaning::Multiplier {
        table.refuse("type", "is a float: only a multiplier may be one");
        return None;
    }
    if !table.has("absent") && register.kind == RegisterType::I16 {
        register.absent.push(NO_SCALE);
    }
    Some(Some(ScaleRegister { register, meaning }))
}

#[derive(Clone, Copy)]
enum ScaleWord {
    Exponent,
    Decimals,
    Multiplier,
}

fn factor_registers(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Vec<FactorRegister>> {
    let tables = section.sections("factor_registers");
    if tables.len() > FACTORS {
        section.refuse("factor_registers", format_args!("has {}; at most {FACTORS} are allowed", tables.len()));
    }
    let mut factors = Vec::new();
    let mut complete = true;
    // A ratio is seldom of its value's type.
    let defaults = defaults.of_type(None);
    for mut table in tables {
        let register = register(&mut table, &defaults, reach);
        let scale = factor_or_one(&mut table, "scale");
        let divide = table.boolean("divide").unwrap_or(false);
        match (register, scale) {
            (Some(register), Some(scale)) => factors.push(FactorRegister { register, scale, divide }),
            _ => complete = false,
        }
    }
    complete.then_some(factors)
}

/// The outer `None`: a problem was noted.
fn sign(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Option<SignRegister>> {
    let is_there = section.has("sign");
    let mut table = section.section("sign");
    if !is_there {
        return Some(None);
    }
    let defaults = defaults.of_type(Some(RegisterType::U16));
    let kinds = [
        ("u16", RegisterType::U16),
        ("u32", RegisterType::U32),
        ("u8_high", RegisterType::U8High),
        ("u8_low", RegisterType::U8Low),
    ];
    let place = place(&mut table, &defaults, &kinds);
    let bit = table.integer("bit", 0..=31_u8);
    let equals = table.integer("equals", 0..=u32::MAX);
    if table.has("bit") == table.has("equals") {
        table.refuse("bit", "or `equals` says when the value is negative: one of them");
        return None;
    }
    let register = place?.register();
    check_reach(&table, "address", &register, reach);
    if bit.is_some_and(|bit| bit >= register.kind.width()) {
        table.refuse("bit", format_args!("is not within the {} bits", register.kind.width()));
    }
    let negative = bit.map(Negative::Bit).or(equals.map(Negative::Number))?;
    Some(Some(SignRegister { register, negative }))
}

fn channel(text: &str, commodity: Option<Commodity>) -> Result<Channel, String> {
    let channel = Channel::by_name(text);
    match (channel, commodity) {
        (Some(channel), Some(commodity)) if channel.commodity() != commodity => {
            Err(format!("is \"{text}\", which is a column of {}", channel.commodity()))
        }
        (Some(channel), _) => Ok(channel),
        (None, Some(commodity)) => {
            let names: Vec<_> = Channel::of(commodity).map(Channel::name).collect();
            Err(format!("is \"{text}\"; {commodity} has the columns {}", names.join(", ")))
        }
        (None, None) => Err(format!("is \"{text}\"; there is no such column")),
    }
}

/// Whether a value is rounded to a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// An integer is taken as it is.
    None,
    /// A product or quotient may be.
    Allowed,
    /// A float has to be.
    Needed,
}

/// The rounding step in the channel's unit. The outer `None`: a problem was noted.
fn resolution_of(
    section: &Section<'_>,
    channel: Channel,
    rounding: Rounding,
    stated: Option<Factor>,
    unit_factor: Factor,
) -> Option<Option<Factor>> {
    if !section.has("resolution") {
        if rounding != Rounding::Needed {
            return Some(None);
        }
        section.refuse("resolution", "is missing: a float is rounded to the meter's own step, such as 0.1");
    } else if rounding == Rounding::None {
        section.refuse("resolution", "is for floats: an integer register is taken as it is");
        return None;
    }
    let step = stated?.times(unit_factor);
    // In units of the column's last decimal a step must be a whole number, or a value would be rounded twice.
    let whole = step.filter(|s| s.mantissa() > 0 && i32::from(s.exponent()) + i32::from(channel.scale()) >= 0);
    if whole.is_none() {
        let decimals = channel.scale();
        section.refuse(
            "resolution",
            format_args!("is finer than {channel} holds ({decimals} decimals), or not a whole multiple of it"),
        );
        return None;
    }
    Some(whole)
}

pub(super) fn status(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<StatusField> {
    let kinds = [("u16", RegisterType::U16), ("u32", RegisterType::U32)];
    let place = place(section, &defaults.of_type(Some(RegisterType::U16)), &kinds);
    let models = section.numbers("models", 1..=u16::MAX).unwrap_or_default();
    let is_code = section.has("codes");
    if is_code && section.has("bits") {
        section.refuse("codes", "and `bits` cannot both be read from one register");
    }
    let bits = place.map_or(0, |place| if is_code { 32 } else { place.kind.width() });
    let coded = events(section.section("codes"), bits);
    let by_bit = events(section.section("bits"), bits);
    let events = if is_code { coded } else { by_bit };
    let register: Register = place?.register();
    if events.is_empty() {
        section.refuse(if is_code { "codes" } else { "bits" }, "names no event");
        return None;
    }
    check_reach(section, "address", &register, reach);
    Some(StatusField { register, is_code, events, models })
}

/// The events of the bits, or numbers, below a limit.
fn events(mut table: Section<'_>, below: u8) -> Vec<(u8, EventKind)> {
    let mut events = Vec::new();
    for (number, key) in (0..below).zip(SMALL) {
        let event = table
            .parsed(key, |text| EventKind::parse(text).ok_or_else(|| format!("is \"{text}\"; there is no such event")));
        events.extend(event.map(|event| (number, event)));
    }
    events
}
