//! From register bits to the integer of a column, exactly.
//!
//! A register or interval use is converted without loss or refused; a physical value is rounded half to even; a float
//! is rounded half to even to the step that the profile states, in integer arithmetic all the way.

mod exact;
mod raw;

use meterlake_config::device_profile::{Factor, Field, Negative, Register, RegisterType, ScaleMeaning};
use meterlake_model::ChannelKind;

use exact::{Exact, divide_half_even};
use raw::{Float, Raw};

pub(super) use raw::{bits, text};

/// What a scale register may say, either way.
const LARGEST_POWER: i128 = 10;

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
    /// More than four digits in a register, or of two signs.
    #[error("0x{0:X} is not four digits a register")]
    NotDigits(u64),
    /// A scale register with a number that means nothing.
    #[error("the register of its scale says {0}")]
    Scale(i128),
    /// A register that it is divided by holds zero.
    #[error("the register that it is divided by holds zero")]
    DividedByZero,
    /// A register has more decimals than its column.
    #[error("{0} has more decimals than its column")]
    Inexact(i128),
    /// More digits than the column holds.
    #[error("too large for the column")]
    Overflow,
}

/// The value of a field in units of its column's last decimal; `None` when the device says that it has none, or when
/// `words` does not have all of its registers.
///
/// # Errors
/// When the bits are no number of the field's type, or none that its column holds.
pub(super) fn value<'w>(
    field: &Field,
    words: impl Fn(&Register) -> Option<&'w [u16]>,
) -> Result<Option<i64>, NumberError> {
    let Some(multiplier) = multiplier(field, &words)? else { return Ok(None) };
    let mut integers: Option<Exact> = None;
    let mut floats = 0_i128;
    for part in &field.parts {
        let Some(words) = words(&part.register) else { return Ok(None) };
        match raw::number(words, &part.register)? {
            None => return Ok(None),
            Some(Raw::Integer(integer)) => {
                let scaled = Exact::integer(integer).times(part.scale)?;
                integers = Some(match integers {
                    Some(sum) => sum.plus(scaled)?,
                    None => scaled,
                });
            }
            Some(Raw::Float(float)) => {
                let rounded = rounded_float(&float, multiplier.times(part.scale)?, field)?;
                floats = floats.checked_add(rounded).ok_or(NumberError::Overflow)?;
            }
        }
    }
    let integers = integers.map(|sum| scaled_integer(sum, multiplier, field)).transpose()?.unwrap_or(0);
    let value = integers.checked_add(floats).and_then(|sum| i64::try_from(sum).ok()).ok_or(NumberError::Overflow)?;
    if field.channel.fits(value) { Ok(Some(value)) } else { Err(NumberError::Overflow) }
}

/// What the sum of the parts is multiplied by; `None` when a register of it is absent or not there.
fn multiplier<'w>(
    field: &Field,
    words: &impl Fn(&Register) -> Option<&'w [u16]>,
) -> Result<Option<Exact>, NumberError> {
    let mut multiplier = Exact::of(field.factor);
    if let Some(scale) = &field.scale_register {
        let Some(words) = words(&scale.register) else { return Ok(None) };
        let Some(number) = raw::number(words, &scale.register)? else { return Ok(None) };
        multiplier = match &scale.meaning {
            ScaleMeaning::Exponent => multiplier.times_power(power(&number)?),
            ScaleMeaning::Decimals => multiplier.times_power(-power(&number)?),
            ScaleMeaning::Multiplier => multiplier.times_exact(number.exact()?)?,
            ScaleMeaning::Lookup(factors) => multiplier.times(looked_up(factors, &number)?)?,
        };
    }
    for factor in &field.factor_registers {
        let Some(words) = words(&factor.register) else { return Ok(None) };
        let Some(number) = raw::number(words, &factor.register)? else { return Ok(None) };
        let number = number.exact()?.times(factor.scale)?;
        multiplier = if factor.divide { multiplier.divided_by(number)? } else { multiplier.times_exact(number)? };
    }
    if let Some(sign) = &field.sign {
        let Some(words) = words(&sign.register) else { return Ok(None) };
        let bits = bits(words, sign.register.kind, sign.register.order)?;
        let is_negative = match sign.negative {
            Negative::Bit(bit) => bits >> bit & 1 == 1,
            Negative::Number(number) => bits == u64::from(number),
        };
        multiplier = if is_negative { multiplier.negated() } else { multiplier };
    }
    Ok(Some(multiplier))
}

fn power(number: &Raw) -> Result<i32, NumberError> {
    let Raw::Integer(power) = number else { return Err(NumberError::NotFinite) };
    let in_range = (-LARGEST_POWER..=LARGEST_POWER).contains(power);
    i32::try_from(*power).ok().filter(|_| in_range).ok_or(NumberError::Scale(*power))
}

fn looked_up(factors: &[(u8, Factor)], number: &Raw) -> Result<Factor, NumberError> {
    let Raw::Integer(number) = number else { return Err(NumberError::NotFinite) };
    let found = factors.iter().find(|(key, _)| i128::from(*key) == *number);
    found.map(|(_, factor)| *factor).ok_or(NumberError::Scale(*number))
}

fn scaled_integer(sum: Exact, multiplier: Exact, field: &Field) -> Result<i128, NumberError> {
    let product = multiplier.times_exact(sum)?;
    // In units of the column's last decimal a step is a whole number.
    let step = field.resolution.map_or(Ok(1), |step| step_of(step, field.channel.scale()))?;
    let is_exact = field.resolution.is_none() && field.channel.kind() != ChannelKind::Physical;
    let (steps, rest) = product.in_steps(field.channel.scale(), step)?;
    if is_exact && rest {
        return Err(NumberError::Inexact(sum.numerator()));
    }
    let step = i128::try_from(step).map_err(|_| NumberError::Overflow)?;
    steps.checked_mul(step).ok_or(NumberError::Overflow)
}

/// A step in units of 10^-`scale`.
fn step_of(step: Factor, scale: u8) -> Result<u128, NumberError> {
    let unit = i32::from(step.exponent()) + i32::from(scale);
    let unit = u32::try_from(unit).ok().and_then(|power| 10_u128.checked_pow(power)).ok_or(NumberError::Overflow)?;
    unit.checked_mul(u128::from(step.mantissa().unsigned_abs())).ok_or(NumberError::Overflow)
}

/// How many whole steps the float is, in units of the column's last decimal.
fn rounded_float(float: &Float, multiplier: Exact, field: &Field) -> Result<i128, NumberError> {
    let step = field.resolution.unwrap_or(Factor::ONE);
    if float.mantissa == 0 || multiplier.numerator() == 0 {
        return Ok(0);
    }
    // The number of steps is a fraction of two products. Powers go to the side where they are whole.
    let mut above = Product::of(float.mantissa.into());
    let mut below = Product::of(step.mantissa().unsigned_abs().into());
    above.times(multiplier.numerator().unsigned_abs());
    below.times(multiplier.divisor());
    let ten = multiplier.exponent() - i32::from(step.exponent());
    for (base, exponent) in [(10, ten), (2, float.exponent)] {
        if exponent >= 0 { above.times_power(base, exponent) } else { below.times_power(base, -exponent) }
    }
    let steps = match (above.0, below.0) {
        (None, _) => return Err(NumberError::Overflow),
        // What is above has less than 128 bits, what is below more than that: less than half a step.
        (Some(_), None) => 0,
        (Some(above), Some(below)) => divide_half_even(above, below),
    };
    let magnitude = steps.checked_mul(step_of(step, field.channel.scale())?).ok_or(NumberError::Overflow)?;
    let value = i128::try_from(magnitude).map_err(|_| NumberError::Overflow)?;
    Ok(if float.negative == (multiplier.numerator() < 0) { value } else { -value })
}

/// A product that remembers when it left 128 bits.
struct Product(Option<u128>);

impl Product {
    fn of(value: u128) -> Self {
        Self(Some(value))
    }

    fn times(&mut self, value: u128) {
        self.0 = self.0.and_then(|product| product.checked_mul(value));
    }

    fn times_power(&mut self, base: u128, exponent: i32) {
        let power = base.checked_pow(exponent.unsigned_abs());
        self.0 = self.0.zip(power).and_then(|(product, power)| product.checked_mul(power));
    }
}

/// A register of a nameplate as text: a text as it stands, a number in decimal digits. `None` when it is absent or
/// blank.
///
/// # Errors
/// When the bits are no number of the register's type.
pub(super) fn plate(words: &[u16], register: &Register) -> Result<Option<String>, NumberError> {
    if let RegisterType::Text(_) = register.kind {
        return Ok(Some(text(words, register.order)).filter(|text| !text.is_empty()));
    }
    Ok(match raw::number(words, register)? {
        Some(Raw::Integer(integer)) => Some(integer.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
