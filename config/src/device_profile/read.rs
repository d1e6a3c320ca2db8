//! From TOML to a checked profile: every mistake with its line.

mod field;
mod identify;
mod register;

use std::time::Duration;

use meterlake_model::Commodity;

use super::{
    ByteOrder, DeviceProfile, Field, ForbiddenRange, Function, Layout, MAX_REGISTERS, RegisterRange, RegisterType,
    SUNSPEC_BASES, SunSpec,
};
use crate::Problem;
use crate::document::{Document, Section};
use register::{Defaults, Reach};

const COMMODITIES: [(&str, Commodity); 2] =
    [(Commodity::Electricity.as_str(), Commodity::Electricity), (Commodity::Water.as_str(), Commodity::Water)];

struct ReadRules {
    reach: Reach,
    max_hole: u16,
    pause: Duration,
    keep_raw: bool,
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
    let by_discovery = root.choice("kind", &[("registers", false), ("sunspec", true)]).unwrap_or(false);
    let mut defaults = defaults(root.section("defaults"));
    if by_discovery {
        defaults.function = defaults.function.or(Some(Function::HoldingRegisters));
    }
    let mut rules = rules(root.section("read"), &defaults);
    // Fields of a discovered model do not know yet where they lie: the planner heeds what must not be read.
    let never = if by_discovery { std::mem::take(&mut rules.reach.never) } else { Vec::new() };
    let identify = identify::identify(root.section("identify"), &defaults, &rules.reach);
    if by_discovery && !identify.is_empty() {
        root.refuse("identify", "is not for kind = \"sunspec\": its device says itself what it is");
    }
    let mut fields = Vec::new();
    let mut complete = true;
    for mut section in root.sections("field") {
        match field::field(&mut section, &defaults, &rules.reach, commodity) {
            Some(field) => {
                check_models(&section, &field.models, by_discovery);
                if fields.iter().any(|other: &Field| is_again(other, &field)) {
                    section.refuse("channel", format_args!("is \"{}\" a second time", field.channel));
                }
                fields.push(field);
            }
            None => complete = false,
        }
    }
    let mut status = Vec::new();
    for mut section in root.sections("status") {
        match field::status(&mut section, &defaults, &rules.reach) {
            Some(field) => {
                check_models(&section, &field.models, by_discovery);
                status.push(field);
            }
            None => complete = false,
        }
    }
    if complete && fields.is_empty() {
        root.refuse("field", "is missing: a profile has at least one [[field]]");
    }
    let sunspec = sunspec(root, by_discovery, &fields);
    let ReadRules { reach: Reach { max_registers, never: checked }, max_hole, pause, keep_raw } = rules;
    complete.then_some(DeviceProfile {
        name: name?,
        version: version?,
        maker: maker?,
        model: model?,
        source: source?,
        commodity: commodity?,
        layout: sunspec.map_or(Layout::Fixed, Layout::SunSpec),
        identify,
        fields,
        status,
        max_registers,
        max_hole,
        never_read: if by_discovery { never } else { checked },
        pause,
        keep_raw,
    })
}

/// Whether a column would be read twice of one device.
fn is_again(one: &Field, other: &Field) -> bool {
    let both = one.models.is_empty() || one.models.iter().any(|model| other.models.contains(model));
    one.channel == other.channel && both
}

fn check_models(section: &Section<'_>, models: &[u16], by_discovery: bool) {
    match (by_discovery, models.is_empty()) {
        (true, true) => section.refuse("models", "is missing: the models that have this register at this place"),
        (false, false) => section.refuse("models", "is for kind = \"sunspec\""),
        _ => {}
    }
}

fn sunspec(root: &mut Section<'_>, by_discovery: bool, fields: &[Field]) -> Option<SunSpec> {
    if root.has("sunspec") && !by_discovery {
        root.refuse("sunspec", "is for kind = \"sunspec\"");
    }
    let mut section = root.section("sunspec");
    let bases = section.numbers("bases", 0..=u16::MAX).unwrap_or_else(|| SUNSPEC_BASES.to_vec());
    let models = section.numbers("models", 1..=u16::MAX);
    if bases.is_empty() {
        section.refuse("bases", "is empty");
    }
    let mut named = Vec::new();
    for model in fields.iter().flat_map(|field| &field.models) {
        if !named.contains(model) {
            named.push(*model);
        }
    }
    if let Some(unread) = models.iter().flatten().find(|model| !named.contains(model)) {
        section.refuse("models", format_args!("has {unread}, of which no [[field]] is read"));
    }
    by_discovery.then(|| SunSpec { bases, models: models.unwrap_or(named) })
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
        function: register::function(&mut section),
        kind: section.choice("type", &RegisterType::NUMBERS),
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
        let function = register::function_of(&mut range, defaults);
        let first = register::address(&mut range, "first", defaults);
        let last = register::address(&mut range, "last", defaults);
        let (Some(function), Some(first), Some(last)) = (function, first, last) else { continue };
        if last < first {
            range.refuse("last", "is before `first`");
        } else {
            never.push(ForbiddenRange { function, range: RegisterRange { first, last } });
        }
    }
    let pause = Duration::from_millis(pause_ms);
    ReadRules { reach: Reach { max_registers, never }, max_hole, pause, keep_raw }
}
