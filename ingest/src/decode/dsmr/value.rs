//! What stands in the brackets of a telegram: exact decimal text with its unit, times, and names in hexadecimal.

/// A number with its unit: `00123.456*kWh`. Powers and energies come in kilo units whatever the meter writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured<'p> {
    /// Its digits as a whole number.
    pub(super) digits: i128,
    /// How many of them stand behind the point.
    pub(super) decimals: u32,
    pub(super) unit: &'p str,
}

/// No meter writes longer numbers.
const MAX_DIGITS: usize = 24;
const MAX_UNIT: usize = 8;

impl<'p> Measured<'p> {
    /// Reads a number with its unit; `None` for anything else.
    pub(super) fn parse(text: &'p str) -> Option<Self> {
        let (number, unit) = text.split_once('*')?;
        if unit.is_empty() || unit.len() > MAX_UNIT || !unit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (digits, decimals) = decimal(number)?;
        Some(match unit.len() {
            // From the plain unit to the kilo unit.
            1..=4 => match KILO.iter().find(|(plain, _)| *plain == unit) {
                Some((_, kilo)) => Self { digits, decimals: decimals + 3, unit: kilo },
                None => Self { digits, decimals, unit },
            },
            _ => Self { digits, decimals, unit },
        })
    }

    /// As decimal text.
    pub(super) fn text(&self) -> String {
        let sign = if self.digits < 0 { "-" } else { "" };
        let divisor = 10_u128.pow(self.decimals);
        let (whole, fraction) = (self.digits.unsigned_abs() / divisor, self.digits.unsigned_abs() % divisor);
        match self.decimals {
            0 => format!("{sign}{whole}"),
            decimals => format!("{sign}{whole}.{fraction:0width$}", width = decimals as usize),
        }
    }

    /// The sum of two of the same unit, exactly; with `minus` the difference.
    pub(super) fn plus(&self, other: &Self, minus: bool) -> Option<Self> {
        if self.unit != other.unit {
            return None;
        }
        let decimals = self.decimals.max(other.decimals);
        let lifted = |of: &Self| of.digits.checked_mul(10_i128.pow(decimals - of.decimals));
        let (one, two) = (lifted(self)?, lifted(other)?);
        let digits = if minus { one.checked_sub(two)? } else { one.checked_add(two)? };
        Some(Self { digits, decimals, unit: self.unit })
    }
}

const KILO: [(&str, &str); 6] =
    [("Wh", "kWh"), ("W", "kW"), ("varh", "kvarh"), ("var", "kvar"), ("VAh", "kVAh"), ("VA", "kVA")];

/// Digits and the number of decimals of `-0123.456`.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = match rest.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (rest, ""),
    };
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || whole.len() + fraction.len() > MAX_DIGITS || !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits().fold(0_i128, |value, byte| value * 10 + i128::from(byte - b'0'));
    Some((if negative { -value } else { value }, u32::try_from(fraction.len()).ok()?))
}

/// Whether a text is a time `YYMMDDhhmmss` with `S` or `W` that a clock can show. Meters fill the logs of times that they
/// did not know with years before any of them was made, or with what is no date.
pub(super) fn is_time(text: &str) -> bool {
    let Some((digits, "S" | "W")) = text.split_at_checked(12) else { return false };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let part = |at: usize| digits.get(at..at + 2).and_then(|two| two.parse::<u8>().ok()).unwrap_or(u8::MAX);
    let (year, month, day) = (part(0), part(2), part(4));
    let days = match month {
        2 => 28 + u8::from(year % 4 == 0),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year >= FIRST_YEAR && (1..=days).contains(&day) && part(6) < 24 && part(8) < 60 && part(10) < 60
}

/// The first companion standard is of 2007.
const FIRST_YEAR: u8 = 7;

/// A name as the meter writes it: octets in hexadecimal, where these are the characters of a name; otherwise as it stands.
pub(super) fn name(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let decoded: Option<String> = pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.contains('+'))?;
            let octet = u8::from_str_radix(pair, 16).ok()?;
            (octet.is_ascii_alphanumeric() || octet == b'-').then(|| char::from(octet))
        })
        .collect();
    Some(decoded.unwrap_or_else(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_keep_every_digit_and_come_in_kilo_units() {
        for (text, expected) in [
            ("000123.456*kWh", Some(("123.456", "kWh"))),
            ("006545766*Wh", Some(("6545.766", "kWh"))),
            ("000747.85*W", Some(("0.74785", "kW"))),
            ("000000166*var", Some(("0.166", "kvar"))),
            ("0230.0*V", Some(("230.0", "V"))),
            ("016*A", Some(("16", "A"))),
            ("-00.5*kW", Some(("-0.5", "kW"))),
            ("12785.123*m3", Some(("12785.123", "m3"))),
            ("0000000240*s", Some(("240", "s"))),
            ("12", None),
            ("*kWh", None),
            ("1.*kWh", None),
            (".5*kWh", None),
            ("1.2.3*kWh", None),
            ("1*", None),
            ("1*k Wh", None),
            ("1234567890123456789012345*kWh", None),
        ] {
            let found = Measured::parse(text);
            let found = found.as_ref().map(|found| (found.text(), found.unit));
            assert_eq!(found, expected.map(|(text, unit)| (text.to_owned(), unit)), "{text}");
        }
    }

    #[test]
    fn sums_are_exact_and_of_one_unit() {
        let measured = |text| Measured::parse(text).unwrap();
        let sum = |one, two, minus| measured(one).plus(&measured(two), minus).map(|sum| sum.text());
        assert_eq!(sum("0.1*kWh", "0.23*kWh", false), Some("0.33".to_owned()));
        assert_eq!(sum("0.1*kW", "0.23*kW", true), Some("-0.13".to_owned()));
        assert_eq!(sum("1*kWh", "500*Wh", false), Some("1.500".to_owned()));
        assert_eq!(sum("1*kWh", "1*m3", false), None);
    }

    #[test]
    fn only_what_a_clock_can_show_is_a_time() {
        for (text, expected) in [
            ("101209113020W", true),
            ("200229000000S", true),
            ("190229000000W", false),
            ("632525252525W", false),
            ("000101000001W", false),
            ("101209113020", false),
            ("101209113020X", false),
            ("101209243020W", false),
            ("101309113020W", false),
            ("10120911302é", false),
            ("", false),
        ] {
            assert_eq!(is_time(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_decoded_where_they_are_names() {
        for (text, expected) in [
            ("4D4C303031", Some("ML001")),
            ("3960221976967177082151037881335713", Some("3960221976967177082151037881335713")),
            ("00000000000000", Some("00000000000000")),
            ("ABC", Some("ABC")),
            ("+1+2", Some("+1+2")),
            ("", None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), number in "[-0-9.]{0,30}\\*[A-Za-z0-9]{0,10}") {
            let _ = (is_time(&text), name(&text), Measured::parse(&text));
            if let Some(found) = Measured::parse(&number) {
                let (_, written) = (found.text(), found.plus(&found, true));
                prop_assert!(written.is_some_and(|none| none.digits == 0));
            }
        }
    }
}
