//! The values of one reading, as integers of their columns.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::LazyLock;

use meterlake_config::payload_map::{Conversion, Field, PayloadMap, Source, UnitRule, ValuePath};
use meterlake_model::{Channel, Commodity, DeadReason, DecimalError};

use super::document::{Kind, Value};
use super::find::{Places, twice};
use super::{Refusal, number};

static CHANNELS: LazyLock<HashMap<&'static str, Channel>> =
    LazyLock::new(|| Channel::all().map(|channel| (channel.name(), channel)).collect());

/// The columns of members by their place: the readings of a frame name them in one order.
#[derive(Default)]
pub(super) struct Columns<'s>(Vec<(&'s str, Option<Channel>)>);

impl<'s> Columns<'s> {
    /// The column that the member at this place is, if any.
    fn of(&mut self, place: usize, key: Value<'s>) -> Option<Channel> {
        match self.0.get(place) {
            Some((known, channel)) if *known == key.raw() => *channel,
            _ => {
                let channel = CHANNELS.get(&*key.unescaped()).copied();
                self.0.truncate(place);
                // Places before this one are known: members are asked for one after the other.
                if self.0.len() == place {
                    self.0.push((key.raw(), channel));
                }
                channel
            }
        }
    }
}

/// Adds the values of one reading, which begin at `from`.
pub(super) fn values<'s>(
    map: &PayloadMap,
    places: &Places<'s>,
    from: usize,
    columns: &mut Columns<'s>,
    values: &mut Vec<(Channel, i64)>,
) -> Result<(), Refusal> {
    for field in &map.fields {
        if !field.when.is_empty() && !places.meet_all(&field.when)? {
            continue;
        }
        match value(field, places)? {
            Some(value) => values.push((field.channel, value)),
            None if field.optional => {}
            None => {
                let (Source::First(paths) | Source::Sum(paths)) = &field.source else { continue };
                let paths: Vec<_> = paths.iter().map(|path| format!("`{path}`")).collect();
                return Err(Refusal::new(DeadReason::MissingField, format!("{} is missing", paths.join(" or "))));
            }
        }
    }
    if map.by_name {
        for (place, (key, value)) in places.reading.members().enumerate() {
            let Some(channel) = columns.of(place, key) else { continue };
            if value.kind() == Kind::Null || map.fields.iter().any(|field| field.channel == channel) {
                continue;
            }
            if values[from..].iter().any(|(other, _)| *other == channel) {
                return Err(twice(channel.name()));
            }
            let how =
                How { conversion: &Conversion::identity(channel), as_text: map.format.has_texts_only(), comma: false };
            values.push((channel, scaled(channel, &channel, value, &how)?));
        }
    }
    Ok(())
}

fn value(field: &Field, places: &Places<'_>) -> Result<Option<i64>, Refusal> {
    match &field.source {
        Source::Constant(value) => Ok(Some(*value)),
        Source::First(paths) => {
            for path in paths {
                match places.find(path)? {
                    Some(value) if field.scalar_only && matches!(value.kind(), Kind::List | Kind::Object) => {}
                    Some(value) => return one(field, path, value, places).map(Some),
                    None => {}
                }
            }
            Ok(None)
        }
        Source::Sum(paths) => {
            let mut sum = 0_i64;
            for path in paths {
                let Some(value) = places.find(path)? else { return Ok(None) };
                let added = sum.checked_add(one(field, path, value, places)?);
                sum = added.filter(|sum| field.channel.fits(*sum)).ok_or_else(|| {
                    let detail = format!("the sum at `{path}` is too large for `{}`", field.channel);
                    Refusal::new(DeadReason::Overflow, detail)
                })?;
            }
            Ok(Some(sum))
        }
    }
}

fn one(field: &Field, path: &ValuePath, value: Value<'_>, places: &Places<'_>) -> Result<i64, Refusal> {
    let conversion = match &field.unit {
        Some(rule) => stated(field, rule, places)?,
        None => &field.conversion,
    };
    scaled(field.channel, path, value, &How { conversion, as_text: field.text, comma: field.decimal_comma })
}

/// The conversion from the unit that the message states.
fn stated<'f>(field: &'f Field, rule: &'f UnitRule, places: &Places<'_>) -> Result<&'f Conversion, Refusal> {
    let bad = |detail| Err(Refusal::new(DeadReason::BadValue, detail));
    let Some(unit) = places.find(&rule.path)? else {
        if !rule.required {
            return Ok(&field.conversion);
        }
        return bad(format!("the unit `{}` of `{}` is missing", rule.path, field.channel));
    };
    let text = unit.unescaped();
    match rule.conversions.iter().find(|(name, _)| *name == text.trim()) {
        Some((_, conversion)) => Ok(conversion),
        None => {
            bad(format!("the unit `{}` is {}, which `{}` does not take", rule.path, unit.described(), field.channel))
        }
    }
}

/// The commodity that all values share; none where there is no value.
pub(super) fn commodity(values: &[(Channel, i64)]) -> Result<Option<Commodity>, Refusal> {
    let Some((first, rest)) = values.split_first() else { return Ok(None) };
    let commodity = first.0.commodity();
    match rest.iter().find(|(channel, _)| channel.commodity() != commodity) {
        None => Ok(Some(commodity)),
        Some((other, _)) => {
            let detail = format!("`{}` and `{other}` in one reading are of two commodities", first.0);
            Err(Refusal::new(DeadReason::BadValue, detail))
        }
    }
}

/// How a number is written and what becomes of it.
struct How<'f> {
    conversion: &'f Conversion,
    as_text: bool,
    comma: bool,
}

fn scaled(channel: Channel, place: &dyn Display, value: Value<'_>, how: &How<'_>) -> Result<i64, Refusal> {
    let converted = match value.kind() {
        Kind::Number => number::convert(value.raw(), how.conversion),
        Kind::Text { .. } if how.as_text => {
            let text = value.unescaped();
            match how.comma {
                true => with_point(text.trim()).and_then(|text| number::convert(&text, how.conversion)),
                false => number::convert(text.trim(), how.conversion),
            }
        }
        _ => Err(DecimalError::Syntax),
    };
    match converted {
        Ok(value) if channel.fits(value) => Ok(value),
        Ok(_) | Err(DecimalError::Overflow) => {
            let detail = format!("`{place}` is {}, which is too large for `{channel}`", value.described());
            Err(Refusal::new(DeadReason::Overflow, detail))
        }
        Err(DecimalError::Inexact) => {
            let detail = format!(
                "`{place}` is {}, which has more decimals than the {} of `{channel}`",
                value.described(),
                channel.scale()
            );
            Err(Refusal::new(DeadReason::Overflow, detail))
        }
        Err(DecimalError::Syntax) => {
            let detail = format!("`{place}` is {}; a number is wanted", value.described());
            Err(Refusal::new(DeadReason::BadValue, detail))
        }
    }
}

/// `1.234,5` and `1234,5` with a decimal point. A point that does not part thousands is refused: whoever wrote it may have
/// meant either.
fn with_point(text: &str) -> Result<Cow<'_, str>, DecimalError> {
    let (whole, fraction) = match text.split_once(',') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut groups = whole.split('.');
    let first = groups.next().unwrap_or_default();
    let parted = whole.contains('.');
    let digits = first.trim_start_matches(['+', '-']).len();
    if parted && (!(1..=3).contains(&digits) || groups.any(|group| group.len() != 3)) {
        return Err(DecimalError::Syntax);
    }
    match (parted, fraction) {
        (false, None) => Ok(Cow::Borrowed(text)),
        (_, fraction) => {
            let point = if fraction.is_some() { "." } else { "" };
            Ok(Cow::Owned(format!("{}{point}{}", whole.replace('.', ""), fraction.unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_commas_are_read_and_points_only_between_thousands() {
        for (text, expected) in [
            ("1234,5", Some("1234.5")),
            ("-0,001", Some("-0.001")),
            ("1.234,5", Some("1234.5")),
            ("12.345.678", Some("12345678")),
            ("7", Some("7")),
            (",5", Some(".5")),
            ("1.5", None),
            ("1234.567", None),
            ("1.2345,6", None),
        ] {
            assert_eq!(with_point(text).ok().as_deref(), expected, "{text}");
        }
        assert!(
            number::convert(
                &with_point("1,2,3").unwrap(),
                &Conversion::identity(Channel::by_name("volume_m3").unwrap())
            )
            .is_err()
        );
    }
}
