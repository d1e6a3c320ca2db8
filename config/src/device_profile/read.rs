//! From TOML to a checked profile: every mistake with its line.

use std::time::Duration;

use meterlake_model::{Channel, Commodity, EventKind};

use super::{
    Absent, ByteOrder, DeviceProfile, Factor, Field, ForbiddenRange, Function, MAX_REGISTERS, RegisterRange,
    RegisterType, StatusField, unit,
};
use crate::Problem;
use crate::document::{Document, Section};

/// Decimals that a scale or a resolution may have.
const DECIMALS: u8 = 9;
/// The largest scale: with nine decimals it still fits 64 bits.
const LARGEST: i64 = 1_000_000_000_000_000;
const FUNCTIONS: [u8; 2] = [3, 4];
/// Bits of a status register as keys of a table.
const BITS: [&str; 32] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
];
const COMMODITIES: [(&str, Commodity); 2] =
    [(Commodity::Electricity.as_str(), Commodity::Electricity), (Commodity::Water.as_str(), Commodity::Water)];

/// What a field takes when it does not say otherwise.
struct Defaults {
    address_base: u16,
    function: Option<Function>,
    kind: Option<RegisterType>,
    order: ByteOrder,
}

struct ReadRules {
    max_registers: u16,
    max_hole: u16,
    pause: Duration,
    keep_raw: bool,
    never: Vec<ForbiddenRange>,
}

pub(super) fn profile(text: &str, file: &str) -> Result<DeviceProfile, Vec<Problem>> {
    let (doc, table) = Document::parse(file, text);
    let read = {
        let mut root = Section::root(&doc, &table);
        whole(&mut root)
    };
    let problems = doc.into_problems();
    match read {
        Some(profile) if problems.is_empty() => Ok(profile),
        _ if problems.is_empty() => Err(vec![Problem::of_file(file, "is no device profile")]),
        _ => Err(problems),
    }
}

fn whole(root: &mut Section<'_>) -> Option<DeviceProfile> {
    let name = root.parsed("name", name);
    let name = root.required("name", name);
    let version = root.integer("version", 1..=u32::MAX);
    let version = root.required("version", version);
    let [maker, model, source] = ["maker", "model", "source"].map(|key| {
        let text = root.text(key);
        root.required(key, text)
    });
    let commodity = root.choice("commodity", &COMMODITIES);
    let commodity = root.required("commodity", commodity);
    let defaults = defaults(root.section("defaults"));
    let rules = rules(root.section("read"), &defaults);
    let mut fields = Vec::new();
    let mut complete = true;
    for mut section in root.sections("field") {
        let read = field(&mut section, &defaults, commodity);
        match read {
            Some(field) => {
                check_reach(&section, field.function, field.address, field.kind, &rules);
                if fields.iter().any(|other: &Field| other.channel == field.channel) {
                    section.refuse("channel", format_args!("is \"{}\" a second time", field.channel));
                }
                fields.push(field);
            }
            None => complete = false,
        }
    }
    let mut status = Vec::new();
    for mut section in root.sections("status") {
        match status_field(&mut section, &defaults) {
            Some(field) => {
                check_reach(&section, field.function, field.address, field.kind, &rules);
                status.push(field);
            }
            None => complete = false,
        }
    }
    if complete && fields.is_empty() {
        root.refuse("field", "is missing: a profile has at least one [[field]]");
    }
    let ReadRules { max_registers, max_hole, pause, keep_raw, never } = rules;
    complete.then_some(DeviceProfile {
        name: name?,
        version: version?,
        maker: maker?,
        model: model?,
        source: source?,
        commodity: commodity?,
        fields,
        status,
        max_registers,
        max_hole,
        never_read: never,
        pause,
        keep_raw,
    })
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(format!("is \"{text}\"; 1 to 64 lower-case letters, digits, `-` and `_` are allowed"));
    }
    Ok(text.to_owned())
}

fn defaults(mut section: Section<'_>) -> Defaults {
    Defaults {
        address_base: section.integer("address_base", 0..=1).unwrap_or(0),
        function: function(&mut section),
        kind: section.choice("type", &RegisterType::NAMES),
        order: section.choice("order", &ByteOrder::NAMES).unwrap_or_default(),
    }
}

fn rules(mut section: Section<'_>, defaults: &Defaults) -> ReadRules {
    let mut never = Vec::new();
    let max_registers = section.integer("max_registers", 1..=MAX_REGISTERS).unwrap_or(MAX_REGISTERS);
    let max_hole = section.integer("max_hole", 0..=MAX_REGISTERS).unwrap_or(0);
    let pause_ms = section.integer("pause_ms", 0..=60_000_u64).unwrap_or(0);
    let keep_raw = section.boolean("keep_raw").unwrap_or(true);
    for mut range in section.sections("never") {
        let function = function_of(&mut range, defaults);
        let first = address(&mut range, "first", defaults);
        let last = address(&mut range, "last", defaults);
        let (Some(function), Some(first), Some(last)) = (function, first, last) else { continue };
        if last < first {
            range.refuse("last", "is before `first`");
        } else {
            never.push(ForbiddenRange { function, range: RegisterRange { first, last } });
        }
    }
    ReadRules { max_registers, max_hole, pause: Duration::from_millis(pause_ms), keep_raw, never }
}

fn function(section: &mut Section<'_>) -> Option<Function> {
    let code = section.integer("function", 1..=127_u8)?;
    let function = Function::from_code(code);
    if function.is_none() {
        let [holding, input] = FUNCTIONS;
        section.refuse(
            "function",
            format_args!(
                "is {code}; {holding} (holding registers) and {input} (input registers) are allowed: only what reads"
            ),
        );
    }
    function
}

fn function_of(section: &mut Section<'_>, defaults: &Defaults) -> Option<Function> {
    let own = function(section);
    if own.is_none() && !section.has("function") {
        return section.required("function", defaults.function);
    }
    own
}

fn address(section: &mut Section<'_>, key: &'static str, defaults: &Defaults) -> Option<u16> {
    let base = defaults.address_base;
    let stated: Option<u32> = section.integer(key, u32::from(base)..=u32::from(u16::MAX) + u32::from(base));
    section.required(key, stated).and_then(|stated| u16::try_from(stated - u32::from(base)).ok())
}

fn kind_of(section: &mut Section<'_>, defaults: &Defaults) -> Option<RegisterType> {
    let own = section.choice("type", &RegisterType::NAMES);
    if own.is_none() && !section.has("type") {
        return section.required("type", defaults.kind);
    }
    own
}

fn factor(section: &mut Section<'_>, key: &'static str) -> Option<Factor> {
    let value = section.decimal(key, DECIMALS, -LARGEST..=LARGEST)?;
    let factor = Factor::new(value, -DECIMALS.cast_signed());
    if factor.is_none() {
        section.refuse(key, "is zero or has more than 12 digits");
    }
    factor
}

fn field(section: &mut Section<'_>, defaults: &Defaults, commodity: Option<Commodity>) -> Option<Field> {
    let channel = section.parsed("channel", |text| channel(text, commodity));
    let channel = section.required("channel", channel);
    let function = function_of(section, defaults);
    let address = address(section, "address", defaults);
    let kind = kind_of(section, defaults);
    let order = section.choice("order", &ByteOrder::NAMES).unwrap_or(defaults.order);
    let unit_name = section.text("unit");
    let unit_name = section.required("unit", unit_name);
    let stated_scale = factor(section, "scale");
    let scale = if section.has("scale") { stated_scale } else { Some(Factor::ONE) };
    let resolution = factor(section, "resolution");
    let absent = absent(section, kind);
    let (channel, kind, unit_name) = (channel?, kind?, unit_name?);
    let Some(unit_factor) = unit::to_channel(&unit_name, channel) else {
        let allowed = unit::allowed(channel);
        section.refuse("unit", format_args!("is \"{unit_name}\"; {channel} takes one of {allowed}"));
        return None;
    };
    let Some(factor) = scale?.times(unit_factor) else {
        section.refuse("scale", "is too large or too fine for its unit");
        return None;
    };
    let resolution = resolution_of(section, channel, kind, resolution, unit_factor)?;
    Some(Field {
        channel,
        function: function?,
        address: address?,
        kind,
        order,
        unit: unit_name,
        factor,
        resolution,
        absent,
    })
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

/// The rounding step of a float in the channel's unit. The outer `None`: a problem was noted.
fn resolution_of(
    section: &Section<'_>,
    channel: Channel,
    kind: RegisterType,
    stated: Option<Factor>,
    unit_factor: Factor,
) -> Option<Option<Factor>> {
    if !kind.is_float() {
        if section.has("resolution") {
            section.refuse("resolution", "is for floats: an integer register is taken as it is");
            return None;
        }
        return Some(None);
    }
    if stated.is_none() && !section.has("resolution") {
        section.refuse("resolution", "is missing: a float is rounded to the meter's own step, such as 0.1");
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

fn absent(section: &mut Section<'_>, kind: Option<RegisterType>) -> Vec<Absent> {
    let mut all = Vec::new();
    for text in section.texts("absent").unwrap_or_default() {
        let bits = text.value.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let width = kind.map_or(64, |kind| u32::from(kind.registers()) * 16);
        let not_a_number = text.value == "nan" && kind.is_none_or(RegisterType::is_float);
        match bits {
            Some(bits) if width == 64 || bits >> width == 0 => all.push(Absent::Bits(bits)),
            None if not_a_number => all.push(Absent::NotANumber),
            _ => {
                let message = format!(
                    "`absent` is \"{}\"; bits such as \"0x8000\" (or \"nan\" of floats) are allowed",
                    text.value
                );
                section.document().note(text.line, message);
            }
        }
    }
    all
}

fn status_field(section: &mut Section<'_>, defaults: &Defaults) -> Option<StatusField> {
    let function = function_of(section, defaults);
    let address = address(section, "address", defaults);
    let kinds = [("u16", RegisterType::U16), ("u32", RegisterType::U32)];
    let kind = section.choice("type", &kinds);
    let kind = if section.has("type") { kind? } else { RegisterType::U16 };
    let order = section.choice("order", &ByteOrder::NAMES).unwrap_or(defaults.order);
    let mut table = section.section("bits");
    let mut bits = Vec::new();
    for (bit, key) in (0_u8..).zip(BITS) {
        if u16::from(bit) >= kind.registers() * 16 {
            break;
        }
        let event = table
            .parsed(key, |text| EventKind::parse(text).ok_or_else(|| format!("is \"{text}\"; there is no such event")));
        bits.extend(event.map(|event| (bit, event)));
    }
    drop(table);
    if bits.is_empty() {
        section.refuse("bits", "names no event");
        return None;
    }
    Some(StatusField { function: function?, address: address?, kind, order, bits })
}

/// That one request may fetch the field.
fn check_reach(section: &Section<'_>, function: Function, address: u16, kind: RegisterType, rules: &ReadRules) {
    let registers = kind.registers();
    if u32::from(address) + u32::from(registers) > u32::from(u16::MAX) + 1 {
        section.refuse("address", format_args!("leaves no room for {registers} registers"));
    }
    if registers > rules.max_registers {
        section
            .refuse("type", format_args!("has {registers} registers, `read.max_registers` is {}", rules.max_registers));
    }
    let own = RegisterRange::starting_at(address, registers);
    if rules.never.iter().any(|never| never.function == function && never.range.overlaps(own)) {
        section.refuse("address", "lies in a range of `read.never`");
    }
}
