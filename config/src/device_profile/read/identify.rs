//! `[identify]`: what a device is asked about itself.

use super::super::{Check, Expected, Identify, Register, RegisterType};
use super::register::{Defaults, Reach, nameplate};
use crate::document::Section;

pub(super) fn identify(mut section: Section<'_>, defaults: &Defaults, reach: &Reach) -> Identify {
    let mut identify = Identify::default();
    if section.has("model") {
        let mut model = section.section("model");
        identify.model = check(&mut model, "model".to_owned(), defaults, reach);
    } else {
        drop(section.section("model"));
    }
    let has_serial = section.has("serial");
    let mut serial = section.section("serial");
    if has_serial {
        identify.serial = nameplate(&mut serial, defaults, reach);
        if identify.serial.as_ref().is_some_and(|register| register.kind.is_float()) {
            serial.refuse("type", "is a float: a serial number is not rounded");
        }
    }
    drop(serial);
    for mut required in section.sections("require") {
        let what = required.text("what");
        let what = required.required("what", what);
        identify.require.extend(check(&mut required, what.unwrap_or_default(), defaults, reach));
    }
    identify
}

fn check(section: &mut Section<'_>, what: String, defaults: &Defaults, reach: &Reach) -> Option<Check> {
    let register = nameplate(section, defaults, reach);
    let texts = section.texts("equals");
    let texts = section.required("equals", texts);
    let (register, texts) = (register?, texts?);
    if register.kind.is_float() {
        section.refuse("type", "is a float: it is not compared");
    }
    if texts.is_empty() {
        section.refuse("equals", "is empty");
    }
    let mut equals = Vec::new();
    for text in texts {
        match expected(&text.value, &register) {
            Some(expected) => equals.push(expected),
            None => section.document().note(
                text.line,
                format!("`equals` is \"{}\"; a number such as \"113\" or \"0x0071\" is wanted", text.value),
            ),
        }
    }
    Some(Check { what, register, equals })
}

fn expected(text: &str, register: &Register) -> Option<Expected> {
    if matches!(register.kind, RegisterType::Text(_)) {
        return Some(match text.strip_suffix('*') {
            Some(prefix) => Expected::Prefix(prefix.to_owned()),
            None => Expected::Text(text.to_owned()),
        });
    }
    let number = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    number.map(Expected::Number)
}
