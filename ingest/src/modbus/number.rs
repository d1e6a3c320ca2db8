//! From register bits to the integer of a column, exactly.
//!
//! A register or interval use is converted without loss or refused; a physical value is rounded half to even; a float
//! is rounded half to even to the step that the profile states, in integer arithmetic all the way.

use meterlake_config::device_profile::{Absent, ByteOrder, Factor, Field, RegisterType};
use meterlake_model::{Channel, ChannelKind};

/// Why bits are no value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NumberError {
    /// Fewer or more registers than the type has.
    #[error("{0} registers do not make a value of this type")]
    Width(usize),
    /// NaN or an infinity.
    #[error("the float is not a finite number")]
    NotFinite,
    /// A digit above nine in binary coded decimal.
    #[error("0x{0:X} is not binary coded decimal")]
    NotDecimal(u64),
    /// A register has more decimals than its column.
    #[error("{0} has more decimals than its column")]
    Inexact(i128),
    /// More digits than the column holds.
    #[error("too large for the column")]
    Overflow,
}

/// The value of a field in units of its column's last decimal; `None` when the device says that it has none.
///
/// # Errors
/// When the bits are no number of the field's type, or none that its column holds.
pub(super) fn value(field: &Field, words: &[u16]) -> Result<Option<i64>, NumberError> {
    let bits = bits(words, field.kind, field.order)?;
    if field.absent.contains(&Absent::Bits(bits)) {
        return Ok(None);
    }
    let scaled = match raw(bits, field.kind)? {
        Raw::Integer(integer) => scaled_integer(integer, field.factor, field.channel)?,
        Raw::Float(float) => {
            let step = field.resolution.unwrap_or(Factor::ONE);
            scaled_float(float, field.factor, step, field.channel.scale())?
        }
        Raw::NotFinite if field.absent.contains(&Absent::NotANumber) => return Ok(None),
        Raw::NotFinite => return Err(NumberError::NotFinite),
    };
    let value = i64::try_from(scaled).map_err(|_| NumberError::Overflow)?;
    if field.channel.fits(value) { Ok(Some(value)) } else { Err(NumberError::Overflow) }
}

/// The bits of a value, right-aligned, its bytes brought into order.
///
/// # Errors
/// `Width` when there are not as many registers as the type has.
pub(super) fn bits(words: &[u16], kind: RegisterType, order: ByteOrder) -> Result<u64, NumberError> {
    if words.len() != usize::from(kind.registers()) {
        return Err(NumberError::Width(words.len()));
    }
    let ordered = |word: &u16| match order {
        ByteOrder::Big | ByteOrder::WordSwapped => *word,
        ByteOrder::Little | ByteOrder::ByteSwapped => word.swap_bytes(),
    };
    let join = |bits: u64, word: u16| (bits << 16) | u64::from(word);
    Ok(match order {
        ByteOrder::Big | ByteOrder::ByteSwapped => words.iter().map(ordered).fold(0, join),
        ByteOrder::Little | ByteOrder::WordSwapped => words.iter().rev().map(ordered).fold(0, join),
    })
}

enum Raw {
    Integer(i128),
    Float(Float),
    NotFinite,
}

/// A finite float as it is: `±mantissa × 2^exponent`.
struct Float {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// The narrowings cut the bits above the type's width, which are zero.
#[expect(clippy::cast_possible_truncation, reason = "the width was checked")]
fn raw(bits: u64, kind: RegisterType) -> Result<Raw, NumberError> {
    Ok(match kind {
        RegisterType::U16 | RegisterType::U32 | RegisterType::U64 => Raw::Integer(i128::from(bits)),
        RegisterType::I16 => Raw::Integer(i128::from((bits as u16).cast_signed())),
        RegisterType::I32 => Raw::Integer(i128::from((bits as u32).cast_signed())),
        RegisterType::I64 => Raw::Integer(i128::from(bits.cast_signed())),
        RegisterType::Bcd16 | RegisterType::Bcd32 => Raw::Integer(binary_coded_decimal(bits)?),
        RegisterType::F32 => float(bits, 23, 8),
        RegisterType::F64 => float(bits, 52, 11),
    })
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

/// Takes an IEEE 754 number apart, by the width of its fraction and of its exponent.
fn float(bits: u64, fraction_bits: u32, exponent_bits: u32) -> Raw {
    let fraction = bits & ((1 << fraction_bits) - 1);
    let largest = (1_u64 << exponent_bits) - 1;
    let biased = (bits >> fraction_bits) & largest;
    if biased == largest {
        return Raw::NotFinite;
    }
    let negative = (bits >> (fraction_bits + exponent_bits)) & 1 == 1;
    let mantissa = if biased == 0 { fraction } else { fraction | (1 << fraction_bits) };
    let bias = i32::try_from(largest / 2).unwrap_or(0) + fraction_bits.cast_signed();
    let exponent = i32::try_from(biased.max(1)).unwrap_or(0) - bias;
    Raw::Float(Float { negative, mantissa, exponent })
}

fn scaled_integer(raw: i128, factor: Factor, channel: Channel) -> Result<i128, NumberError> {
    // A 64-bit number times a mantissa of twelve digits stays within 128 bits.
    let product = raw * i128::from(factor.mantissa());
    let shift = i32::from(factor.exponent()) + i32::from(channel.scale());
    let power = 10_i128.checked_pow(shift.unsigned_abs()).ok_or(NumberError::Overflow)?;
    if shift >= 0 {
        return product.checked_mul(power).ok_or(NumberError::Overflow);
    }
    match channel.kind() {
        ChannelKind::Register | ChannelKind::Interval if product % power != 0 => Err(NumberError::Inexact(raw)),
        ChannelKind::Register | ChannelKind::Interval => Ok(product / power),
        ChannelKind::Physical => {
            let rounded = divide_half_even(product.unsigned_abs(), power.unsigned_abs());
            signed(rounded, product < 0)
        }
    }
}

/// How many whole steps the float is, in units of 10^-`scale`. A profile's step is a whole number of those units.
fn scaled_float(float: Float, factor: Factor, step: Factor, scale: u8) -> Result<i128, NumberError> {
    if float.mantissa == 0 {
        return Ok(0);
    }
    // The number of steps is a fraction of two products. Powers go to the side where they are whole.
    let mut above = Product::of(float.mantissa);
    let mut below = Product::of(step.mantissa().unsigned_abs());
    above.times(factor.mantissa().unsigned_abs());
    let ten = i32::from(factor.exponent()) - i32::from(step.exponent());
    for (base, exponent) in [(10, ten), (2, float.exponent)] {
        if exponent >= 0 { above.times_power(base, exponent) } else { below.times_power(base, -exponent) }
    }
    let steps = match (above.0, below.0) {
        (None, _) => return Err(NumberError::Overflow),
        // What is above has less than 128 bits, what is below more than that: less than half a step.
        (Some(_), None) => 0,
        (Some(above), Some(below)) => divide_half_even(above, below),
    };
    let unit = i32::from(step.exponent()) + i32::from(scale);
    let unit = u32::try_from(unit).ok().and_then(|power| 10_u128.checked_pow(power)).ok_or(NumberError::Overflow)?;
    let size = unit.checked_mul(u128::from(step.mantissa().unsigned_abs())).ok_or(NumberError::Overflow)?;
    let magnitude = steps.checked_mul(size).ok_or(NumberError::Overflow)?;
    signed(magnitude, float.negative != (factor.mantissa() < 0))
}

/// A product that remembers when it left 128 bits.
struct Product(Option<u128>);

impl Product {
    fn of(value: u64) -> Self {
        Self(Some(u128::from(value)))
    }

    fn times(&mut self, value: u64) {
        self.0 = self.0.and_then(|product| product.checked_mul(u128::from(value)));
    }

    fn times_power(&mut self, base: u128, exponent: i32) {
        let power = base.checked_pow(exponent.unsigned_abs());
        self.0 = self.0.zip(power).and_then(|(product, power)| product.checked_mul(power));
    }
}

fn divide_half_even(value: u128, divisor: u128) -> u128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    // `rest` against what is missing to the next whole, so that nothing is doubled past 128 bits.
    let up = match rest.cmp(&(divisor - rest)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    quotient + u128::from(up)
}

fn signed(magnitude: u128, negative: bool) -> Result<i128, NumberError> {
    let value = i128::try_from(magnitude).map_err(|_| NumberError::Overflow)?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests;
