//! Every way to read one register as one column.

use meterlake_config::device_profile::{
    ByteOrder, Factor, Field, Function, Part, Register, RegisterRange, RegisterType, own_unit,
};
use meterlake_model::{Channel, ChannelKind};

use super::super::decode::Block;
use super::super::image::Image;
use super::super::number;
use super::super::planner::BlockRequest;

/// Powers of ten that a register may be scaled by.
const SCALES: std::ops::RangeInclusive<i8> = -4..=3;
/// Types of values that are never negative.
const UNSIGNED: [RegisterType; 8] = {
    use RegisterType::{Bcd32, Bcd64, F32, F64, M10k64, U16, U32, U64};
    [U16, U32, U64, F32, F64, Bcd32, Bcd64, M10k64]
};
/// Types of values that may be negative.
const SIGNED: [RegisterType; 6] = {
    use RegisterType::{F32, F64, I16, I32, I64, M10k64};
    [I16, I32, I64, F32, F64, M10k64]
};

/// The registers of a device, to be looked into.
pub(super) struct Held {
    blocks: Vec<Block>,
}

impl Held {
    pub(super) fn of(image: &Image) -> Self {
        let runs = image.runs().into_iter().filter_map(|(function, first, words)| {
            let last = first.checked_add(u16::try_from(words.len().checked_sub(1)?).ok()?)?;
            Some(Block { request: BlockRequest { function, range: RegisterRange { first, last } }, words })
        });
        Self { blocks: runs.collect() }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (Function, u16)> {
        let all = self.blocks.iter().map(|block| block.request);
        all.flat_map(|request| (request.range.first..=request.range.last).map(move |at| (request.function, at)))
    }

    /// What a field reads, in units of its column's last decimal.
    pub(super) fn value(&self, field: &Field) -> Option<i64> {
        number::value(field, |register| self.words(register)).ok().flatten()
    }

    /// Whether every register of a field is there.
    pub(super) fn has(&self, field: &Field) -> bool {
        field.registers().all(|register| self.words(register).is_some())
    }

    pub(super) fn words(&self, register: &Register) -> Option<&[u16]> {
        self.blocks.iter().find_map(|block| block.words(register))
    }

    pub(super) fn blocks(&self) -> Vec<&Block> {
        self.blocks.iter().collect()
    }
}

/// One way to read a register, what it reads, and what speaks for it.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) field: Field,
    pub(super) value: i64,
    pub(super) score: i32,
    pub(super) reasons: Vec<String>,
}

impl Try {
    pub(super) fn channel(&self) -> Channel {
        self.field.channel
    }

    pub(super) fn add(&mut self, score: i32, reason: String) {
        self.score += score;
        self.reasons.push(reason);
    }

    /// Function, order and whether it is a float: what a device seldom mixes.
    pub(super) fn dialect(&self) -> (Option<Function>, Option<ByteOrder>, bool) {
        let register = self.register();
        let is_float = register.is_some_and(|register| register.kind.is_float());
        (register.map(|register| register.function), register.map(|register| register.order), is_float)
    }

    pub(super) fn register(&self) -> Option<&Register> {
        self.field.parts.first().map(|part| &part.register)
    }

    /// Single precision floats beside it that no meter says, read in the same way: numbers far smaller than any step, or
    /// larger than any register. A float that is read one register off has the digits of one value and the zeros of
    /// another, and shows so.
    pub(super) fn odd_floats_beside(&self, held: &Held) -> usize {
        const BESIDE: i32 = 64;
        let Some(register) = self.register().filter(|register| register.kind == RegisterType::F32) else { return 0 };
        let step = i32::from(register.kind.registers());
        let beside = (-BESIDE..=BESIDE).filter_map(|at| u16::try_from(i32::from(register.address) + at * step).ok());
        let bits = beside.filter_map(|address| {
            let there = Register { address, ..register.clone() };
            number::bits(held.words(&there)?, there.kind, there.order).ok()
        });
        bits.filter(|bits| {
            // Zero and "no number" are usual; else from about 10^-9 to 10^12.
            let exponent = bits >> 23 & 0xFF;
            let fraction = bits & 0x7F_FFFF;
            exponent != 0xFF && (exponent, fraction) != (0, 0) && !(97..=167).contains(&exponent)
        })
        .count()
    }

    /// The same way of reading, so many values further on.
    pub(super) fn next_value(&self, held: &Held, values: u16) -> Option<i64> {
        let mut field = self.field.clone();
        for register in field.registers_mut() {
            register.address = register.address.checked_add(register.kind.registers().checked_mul(values)?)?;
        }
        held.value(&field)
    }
}

/// A field of one register.
pub(super) fn field(channel: Channel, register: Register, factor: Factor) -> Field {
    // What a float is rounded to if nobody knows better: the column's last decimal.
    let step = Factor::new(1, -channel.scale().cast_signed()).filter(|_| register.kind.is_float());
    Field {
        channel,
        parts: vec![Part { register, scale: Factor::ONE }],
        unit: own_unit(channel).to_owned(),
        factor,
        resolution: step,
        scale_register: None,
        factor_registers: Vec::new(),
        sign: None,
        models: Vec::new(),
    }
}

pub(super) const fn orders(kind: RegisterType) -> &'static [ByteOrder] {
    use ByteOrder::{Big, ByteSwapped, Little, WordSwapped};
    if kind.registers() == 1 { &[Big, ByteSwapped] } else { &[Big, WordSwapped, Little, ByteSwapped] }
}

/// Whether a column's value may be negative.
fn is_signed(channel: Channel) -> bool {
    let name = channel.name();
    channel.kind() == ChannelKind::Physical
        && ["power", "flow", "temperature"].iter().any(|word| name.contains(word))
        && !name.starts_with("apparent")
}

/// Every way to read the column at an address that gives a number. Zero is none: it is everywhere.
pub(super) fn at(held: &Held, channel: Channel, function: Function, address: u16) -> Vec<Try> {
    let kinds: &[RegisterType] = if is_signed(channel) { &SIGNED } else { &UNSIGNED };
    let mut tries = Vec::new();
    for &kind in kinds {
        for &order in orders(kind) {
            let register = Register { function, address, kind, order, bits: None, absent: Vec::new() };
            if held.words(&register).is_none() {
                continue;
            }
            for exponent in SCALES {
                let Some(factor) = Factor::new(1, exponent) else { continue };
                let field = field(channel, register.clone(), factor);
                let Some(value) = held.value(&field).filter(|value| *value != 0) else { continue };
                let (score, reasons) = usual(channel, kind, order, exponent);
                tries.push(Try { field, value, score, reasons });
            }
        }
    }
    tries
}

/// How usual it is to have a column in this way, before anything is known of the device.
fn usual(channel: Channel, kind: RegisterType, order: ByteOrder, exponent: i8) -> (i32, Vec<String>) {
    let by_order = match order {
        ByteOrder::Big => 8,
        ByteOrder::WordSwapped => 5,
        ByteOrder::Little => 2,
        ByteOrder::ByteSwapped => 0,
    };
    let is_counter = channel.kind() == ChannelKind::Register;
    let by_kind = match kind {
        RegisterType::F32 => 8,
        RegisterType::U32 | RegisterType::I32 => 7,
        RegisterType::U16 | RegisterType::I16 if !is_counter => 8,
        RegisterType::U64 | RegisterType::I64 if is_counter => 6,
        RegisterType::F64 => 4,
        RegisterType::Bcd32 | RegisterType::Bcd64 => 2,
        _ => 0,
    };
    // Floats are in a unit of their own, or in its thousandth; integers have decimals.
    let by_scale = match (kind.is_float(), exponent) {
        (true, 0) => 8,
        (true, -3) => 6,
        (true, _) => -10,
        (false, -3..=0) => 5,
        (false, _) => 0,
    };
    let mut reasons = Vec::new();
    if by_scale < 0 {
        reasons.push("few devices scale floats".to_owned());
    }
    (by_order + by_kind + by_scale, reasons)
}
