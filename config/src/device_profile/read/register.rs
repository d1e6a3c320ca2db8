//! One register as a table of the file describes it.

use super::super::{
    Absent, BitRange, ByteOrder, Factor, ForbiddenRange, Function, MAX_TEXT, Register, RegisterRange, RegisterType,
};
use crate::document::Section;

/// Decimals that a scale or a resolution may have.
const DECIMALS: u8 = 9;
/// The largest scale: with nine decimals it still fits 64 bits.
const LARGEST: i64 = 1_000_000_000_000_000;
const FUNCTIONS: [u8; 2] = [3, 4];
/// Small numbers as keys of a table: bits and codes.
pub(super) const SMALL: [&str; 32] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
];

/// What a register takes when it does not say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) address_base: u16,
    pub(super) function: Option<Function>,
    pub(super) kind: Option<RegisterType>,
    pub(super) order: ByteOrder,
}

impl Defaults {
    /// As these, of another type.
    pub(super) const fn of_type(self, kind: Option<RegisterType>) -> Self {
        Self { kind, ..self }
    }
}

/// What requests may do.
pub(super) struct Reach {
    pub(super) max_registers: u16,
    pub(super) never: Vec<ForbiddenRange>,
}

/// Where a register stands and of which type it is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) kind: RegisterType,
    pub(super) order: ByteOrder,
}

impl Place {
    pub(super) fn register(self) -> Register {
        let Self { function, address, kind, order } = self;
        Register { function, address, kind, order, bits: None, absent: Vec::new() }
    }
}

/// What a register's own keys change about the defaults.
pub(super) fn overridden(section: &mut Section<'_>, defaults: &Defaults) -> Defaults {
    let kind = section.choice("type", &RegisterType::NUMBERS);
    Defaults {
        address_base: defaults.address_base,
        function: function(section).or(defaults.function.filter(|_| !section.has("function"))),
        kind: if section.has("type") { kind } else { defaults.kind },
        order: section.choice("order", &ByteOrder::NAMES).unwrap_or(defaults.order),
    }
}

/// A number's register with everything that may be said about it.
pub(super) fn register(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Register> {
    let place = place(section, defaults, &RegisterType::NUMBERS);
    let kind = place.map(|place| place.kind);
    let bits = bits(section, kind);
    let absent = absent(section, kind);
    let register = Register { bits, absent, ..place?.register() };
    check_reach(section, "address", &register, reach);
    Some(register)
}

/// Where it stands.
pub(super) fn place(section: &mut Section<'_>, defaults: &Defaults, kinds: &[(&str, RegisterType)]) -> Option<Place> {
    let function = function_of(section, defaults);
    let address = address(section, "address", defaults);
    let own = section.choice("type", kinds);
    let kind = if section.has("type") { own } else { section.required("type", defaults.kind) };
    let order = section.choice("order", &ByteOrder::NAMES).unwrap_or(defaults.order);
    Some(Place { function: function?, address: address?, kind: kind?, order })
}

/// A number's or a text's.
pub(super) fn nameplate(section: &mut Section<'_>, defaults: &Defaults, reach: &Reach) -> Option<Register> {
    let mut kinds = RegisterType::NUMBERS.to_vec();
    kinds.push(("string", RegisterType::Text(0)));
    let place = place(section, defaults, &kinds);
    let is_text = place.is_some_and(|place| place.kind == RegisterType::Text(0));
    let registers = if is_text {
        let registers = section.integer("registers", 1..=MAX_TEXT);
        section.required("registers", registers)
    } else {
        None
    };
    let mut place = place?;
    if is_text {
        place.kind = RegisterType::Text(registers?);
    }
    let register = place.register();
    check_reach(section, "address", &register, reach);
    Some(register)
}

pub(super) fn function(section: &mut Section<'_>) -> Option<Function> {
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

pub(super) fn function_of(section: &mut Section<'_>, defaults: &Defaults) -> Option<Function> {
    let own = function(section);
    if own.is_none() && !section.has("function") {
        return section.required("function", defaults.function);
    }
    own
}

pub(super) fn address(section: &mut Section<'_>, key: &'static str, defaults: &Defaults) -> Option<u16> {
    let base = defaults.address_base;
    let stated: Option<u32> = section.integer(key, u32::from(base)..=u32::from(u16::MAX) + u32::from(base));
    section.required(key, stated).and_then(|stated| u16::try_from(stated - u32::from(base)).ok())
}

pub(super) fn factor(section: &mut Section<'_>, key: &'static str) -> Option<Factor> {
    let value = section.decimal(key, DECIMALS, -LARGEST..=LARGEST)?;
    let factor = Factor::new(value, -DECIMALS.cast_signed());
    if factor.is_none() {
        section.refuse(key, "is zero or has more than 12 digits");
    }
    factor
}

/// A factor that is one when it is left out. `None`: a problem was noted.
pub(super) fn factor_or_one(section: &mut Section<'_>, key: &'static str) -> Option<Factor> {
    let stated = factor(section, key);
    if section.has(key) { stated } else { Some(Factor::ONE) }
}

fn bits(section: &mut Section<'_>, kind: Option<RegisterType>) -> Option<BitRange> {
    let [first, count] = section.integers("bits", 0..=64)?.map(|number| u8::try_from(number).unwrap_or(u8::MAX));
    let kind = kind?;
    if !kind.is_integer() {
        section.refuse("bits", format_args!("is for integers, not for {}", kind.name()));
        return None;
    }
    if count == 0 || first + count > kind.width() {
        section.refuse("bits", format_args!("is not within the {} bits of {}", kind.width(), kind.name()));
        return None;
    }
    Some(BitRange { first, count })
}

pub(super) fn absent(section: &mut Section<'_>, kind: Option<RegisterType>) -> Vec<Absent> {
    let mut all = Vec::new();
    for text in section.texts("absent").unwrap_or_default() {
        let bits = text.value.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let width = kind.map_or(64, |kind| u32::from(kind.width()));
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

/// That one request may fetch the register.
pub(super) fn check_reach(section: &Section<'_>, key: &str, register: &Register, reach: &Reach) {
    let registers = register.kind.registers();
    if u32::from(register.address) + u32::from(registers) > u32::from(u16::MAX) + 1 {
        section.refuse(key, format_args!("leaves no room for {registers} registers"));
    }
    if registers > reach.max_registers {
        section
            .refuse("type", format_args!("has {registers} registers, `read.max_registers` is {}", reach.max_registers));
    }
    let own = RegisterRange::starting_at(register.address, registers);
    if reach.never.iter().any(|never| never.function == register.function && never.range.overlaps(own)) {
        section.refuse(key, "lies in a range of `read.never`");
    }
}
