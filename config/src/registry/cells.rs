//! What single cells mean. Each reader's error says what was found and what is allowed.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use meterlake_model::{Amount, Commodity, LocalResolution, Timestamp, Zone, parse_scaled};

/// Free text for people.
const LONGEST_TEXT: usize = 200;

pub(super) fn free_text(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?} holds a control character"));
    }
    if text.len() > LONGEST_TEXT {
        return Err(format!("has {} bytes, at most {LONGEST_TEXT} are allowed", text.len()));
    }
    Ok(text.to_owned())
}

pub(super) fn commodity(text: &str) -> Result<Commodity, String> {
    Commodity::parse(text).ok_or_else(|| format!("`{text}` is neither electricity nor water"))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("`{text}` is neither yes nor no")),
    }
}

/// Whether a meter only stands beside another.
pub(super) fn is_check(text: &str) -> Result<bool, String> {
    match text {
        "main" => Ok(false),
        "check" => Ok(true),
        _ => Err(format!("`{text}` is neither main nor check")),
    }
}

pub(super) fn integer<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("`{text}` is not a whole number from {} to {}", range.start(), range.end()))
}

/// An amount of the channel's unit, not negative.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    let amount = Amount::parse(text).map_err(|error| format!("`{text}` is {error}"))?;
    if amount < Amount::ZERO { Err(format!("`{text}` is negative")) } else { Ok(amount) }
}

/// As [`amount`], but not zero.
pub(super) fn positive_amount(text: &str) -> Result<Amount, String> {
    let amount = amount(text)?;
    if amount == Amount::ZERO { Err(format!("`{text}` is not above zero")) } else { Ok(amount) }
}

/// A factor above zero, in millionths.
pub(super) fn multiplier(text: &str) -> Result<i64, String> {
    positive_amount(text).map(Amount::micros)
}

/// A voltage above zero, in 0.1 V.
pub(super) fn decivolts(text: &str) -> Result<i64, String> {
    let value = parse_scaled(text, 1).map_err(|error| format!("`{text}` is {error} (0.1 V)"))?;
    if (1..=10_000_000).contains(&value) { Ok(value) } else { Err(format!("`{text}` is not from 0.1 to 1000000 V")) }
}

/// An instant: text with an offset, else a local time or a day of `zone`.
pub(super) fn instant(text: &str, zone: &Zone) -> Result<Timestamp, String> {
    if let Ok(ts) = Timestamp::parse_rfc3339(text) {
        return Ok(ts);
    }
    if let Ok(day) = meterlake_model::CivilDay::parse(text) {
        return Ok(zone.start_of_day(day));
    }
    let name = zone.name();
    match zone.resolve_local(text) {
        Ok(LocalResolution::Unique(ts)) => Ok(ts),
        Ok(LocalResolution::Ambiguous { earlier, later }) => {
            Err(format!("`{text}` came twice in {name}: write {earlier} or {later}"))
        }
        Ok(LocalResolution::Skipped(_)) => Err(format!("`{text}` was skipped by the clocks of {name}")),
        Err(_) => Err(format!("`{text}` is no time such as 2026-03-15T10:00:00Z, 2026-03-15 10:00 or 2026-03-15")),
    }
}

/// Zones by name: a registry has a million rows and a handful of zones.
#[derive(Default)]
pub(super) struct Zones(HashMap<String, Zone>);

impl Zones {
    pub(super) fn get(&mut self, name: &str) -> Result<Zone, meterlake_model::TimeError> {
        if let Some(zone) = self.0.get(name) {
            return Ok(zone.clone());
        }
        let zone = Zone::parse(name)?;
        self.0.insert(name.to_owned(), zone.clone());
        Ok(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_a_local_time_or_a_day_of_the_zone() {
        let madrid = Zone::parse("Europe/Madrid").unwrap();
        for (text, expected) in [
            ("2026-03-15T10:00:00Z", "2026-03-15T10:00:00Z"),
            ("2026-03-15T10:00:00+02:00", "2026-03-15T08:00:00Z"),
            ("2026-03-15", "2026-03-14T23:00:00Z"),
            ("2026-03-15 10:00", "2026-03-15T09:00:00Z"),
            ("2026-07-15T10:00:30", "2026-07-15T08:00:30Z"),
        ] {
            assert_eq!(instant(text, &madrid).map(|ts| ts.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for (text, said) in [
            ("2016-10-30 02:15", "came twice"),
            ("2016-03-27 02:15", "skipped"),
            ("2026-02-30", "is no time"),
            ("15.03.2026", "is no time"),
            ("yesterday", "is no time"),
        ] {
            let error = instant(text, &madrid).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_are_exact_and_not_negative() {
        assert_eq!(multiplier("40"), Ok(40_000_000));
        assert!(multiplier("0").is_err());
        assert!(amount("-1").is_err());
        assert!(amount("1,5").is_err());
        assert!(amount("0.0000001").is_err());
        assert_eq!(decivolts("230"), Ok(2300));
        assert!(integer::<u8>("29", 1..=28).is_err());
    }
}
