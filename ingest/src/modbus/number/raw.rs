//! From words to the number that their bits are.

use meterlake_config::device_profile::{Absent, BitRange, ByteOrder, Register, RegisterType};

use super::NumberError;
use super::exact::Exact;

/// A number as the device has it.
pub(super) enum Raw {
    Integer(i128),
    Float(Float),
}

impl Raw {
    /// The number in decimal. A float is the shortest decimal number that is this float, so that a ratio of 0.1 is 0.1.
    pub(super) fn exact(&self) -> Result<Exact, NumberError> {
        match self {
            Self::Integer(integer) => Ok(Exact::integer(*integer)),
            Self::Float(float) => Exact::parse(&float.shortest()),
        }
    }
}

/// A finite float as it is: `±mantissa × 2^exponent`.
pub(super) struct Float {
    pub(super) negative: bool,
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
    bits: u64,
    is_double: bool,
}

impl Float {
    /// The fewest digits that mean this float.
    fn shortest(&self) -> String {
        let single = u32::try_from(self.bits).ok().filter(|_| !self.is_double);
        single.map_or_else(|| format!("{:e}", f64::from_bits(self.bits)), |bits| format!("{:e}", f32::from_bits(bits)))
    }
}

/// The number of a register; `None` when the device says that it has none.
///
/// # Errors
/// When the bits are no number of the register's type.
pub(super) fn number(words: &[u16], register: &Register) -> Result<Option<Raw>, NumberError> {
    let kind = register.kind;
    let bits = bits(words, kind, register.order)?;
    if register.absent.contains(&Absent::Bits(bits)) {
        return Ok(None);
    }
    if let Some(range) = register.bits {
        return Ok(Some(Raw::Integer(cut(bits, range, kind))));
    }
    Ok(Some(match kind {
        RegisterType::F32 | RegisterType::F64 => {
            let (fraction_bits, exponent_bits) = if kind == RegisterType::F32 { (23, 8) } else { (52, 11) };
            match float(bits, fraction_bits, exponent_bits) {
                Some(float) => Raw::Float(float),
                None if register.absent.contains(&Absent::NotANumber) => return Ok(None),
                None => return Err(NumberError::NotFinite),
            }
        }
        RegisterType::Bcd16 | RegisterType::Bcd32 | RegisterType::Bcd48 | RegisterType::Bcd64 => {
            Raw::Integer(binary_coded_decimal(bits)?)
        }
        RegisterType::M10k32 | RegisterType::M10k48 | RegisterType::M10k64 => {
            Raw::Integer(four_digits_a_register(bits, kind.registers())?)
        }
        RegisterType::Text(_) => return Err(NumberError::Width(words.len())),
        _ if kind.is_signed() => Raw::Integer(two_s_complement(bits, kind.width())),
        _ => Raw::Integer(i128::from(bits)),
    }))
}

/// The bits of a value, right-aligned, its bytes brought into order.
///
/// # Errors
/// `Width` when there are not as many registers as the type has.
pub(in crate::modbus) fn bits(words: &[u16], kind: RegisterType, order: ByteOrder) -> Result<u64, NumberError> {
    if words.len() != usize::from(kind.registers()) || words.len() > 4 {
        return Err(NumberError::Width(words.len()));
    }
    let join = |bits: u64, word: u16| (bits << 16) | u64::from(word);
    let ordered = |word: &u16| in_order(*word, order);
    let bits = match order {
        ByteOrder::Big | ByteOrder::ByteSwapped => words.iter().map(ordered).fold(0, join),
        ByteOrder::Little | ByteOrder::WordSwapped => words.iter().rev().map(ordered).fold(0, join),
    };
    Ok(match kind {
        RegisterType::U8High | RegisterType::I8High => bits >> 8,
        RegisterType::U8Low | RegisterType::I8Low => bits & 0xFF,
        _ => bits,
    })
}

fn in_order(word: u16, order: ByteOrder) -> u16 {
    match order {
        ByteOrder::Big | ByteOrder::WordSwapped => word,
        ByteOrder::Little | ByteOrder::ByteSwapped => word.swap_bytes(),
    }
}

/// Text of registers: up to the first byte that fills up, without blanks around it; what is no ASCII shows as `?`.
pub(in crate::modbus) fn text(words: &[u16], order: ByteOrder) -> String {
    let mut words: Vec<u16> = words.iter().map(|word| in_order(*word, order)).collect();
    if matches!(order, ByteOrder::Little | ByteOrder::WordSwapped) {
        words.reverse();
    }
    let bytes = words.iter().flat_map(|word| word.to_be_bytes()).take_while(|byte| !matches!(byte, 0 | 0xFF));
    let text: String =
        bytes.map(|byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }).collect();
    text.trim().to_owned()
}

/// Some bits of an integer, as an integer of its own.
fn cut(bits: u64, range: BitRange, kind: RegisterType) -> i128 {
    let shifted = bits.checked_shr(u32::from(range.first)).unwrap_or(0);
    let mask = if range.count >= 64 { u64::MAX } else { (1 << range.count) - 1 };
    let cut = shifted & mask;
    if kind.is_signed() { two_s_complement(cut, range.count) } else { i128::from(cut) }
}

/// `width` is at least one.
fn two_s_complement(bits: u64, width: u8) -> i128 {
    let value = i128::from(bits);
    let is_negative = bits >> (width - 1) & 1 == 1;
    if is_negative { value - (1_i128 << width) } else { value }
}

fn binary_coded_decimal(bits: u64) -> Result<i128, NumberError> {
    let mut value = 0_i128;
    for shift in (0..64).step_by(4).rev() {
        let digit = (bits >> shift) & 0xF;
        if digit > 9 {
            return Err(NumberError::NotDecimal(bits));
        }
        value = value * 10 + i128::from(digit);
    }
    Ok(value)
}

/// Registers from -9999 to 9999, all of one sign.
fn four_digits_a_register(bits: u64, registers: u16) -> Result<i128, NumberError> {
    let (mut value, mut positive, mut negative) = (0_i128, false, false);
    for place in (0..registers).rev() {
        let word = two_s_complement(bits >> (16 * place) & 0xFFFF, 16);
        if word.abs() > 9_999 {
            return Err(NumberError::NotDigits(bits));
        }
        positive |= word > 0;
        negative |= word < 0;
        value = value * 10_000 + word;
    }
    if positive && negative { Err(NumberError::NotDigits(bits)) } else { Ok(value) }
}

/// Takes an IEEE 754 number apart, by the width of its fraction and of its exponent. `None` when it is not finite.
fn float(bits: u64, fraction_bits: u32, exponent_bits: u32) -> Option<Float> {
    let fraction = bits & ((1 << fraction_bits) - 1);
    let largest = (1_u64 << exponent_bits) - 1;
    let biased = (bits >> fraction_bits) & largest;
    if biased == largest {
        return None;
    }
    let negative = (bits >> (fraction_bits + exponent_bits)) & 1 == 1;
    let mantissa = if biased == 0 { fraction } else { fraction | (1 << fraction_bits) };
    let bias = i32::try_from(largest / 2).unwrap_or(0) + fraction_bits.cast_signed();
    let exponent = i32::try_from(biased.max(1)).unwrap_or(0) - bias;
    Some(Float { negative, mantissa, exponent, is_double: exponent_bits > 8, bits })
}
