//! Time spans and sizes as people write them: `15m`, `64MiB`.

use std::time::Duration;

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// Milliseconds of each unit, the longest first.
const DURATIONS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads whole numbers with units, such as `15m`, `24h`, `1h30m`, `500ms`. A day has 24 hours.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (count, after) = leading_number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(count.checked_mul(*factor)?)?;
        rest = next.trim_start();
    }
    Some(Duration::from_millis(millis))
}

/// The shortest text that [`parse_duration`] reads back, to a millisecond.
pub fn duration_text(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    // Weeks only by themselves: "2w" reads well, "12w6d" does not.
    let units = if millis.is_multiple_of(DURATIONS[0].1) { &DURATIONS[..] } else { &DURATIONS[1..] };
    let mut text = String::new();
    for (unit, factor) in units {
        if millis >= *factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    text
}

const SIZES: [(&str, u64); 4] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// Reads a whole number of `B`, `KiB`, `MiB` or `GiB`, such as `64MiB` or `8 GiB`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (count, unit) = leading_number(text.trim())?;
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit.trim_start())?;
    count.checked_mul(*factor)
}

/// The shortest text that [`parse_bytes`] reads back.
pub fn bytes_text(bytes: u64) -> String {
    let (unit, factor) =
        SIZES.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(&SIZES[3]);
    format!("{}{unit}", bytes / factor)
}

/// An integer of 10^-`scale` as decimal text without needless zeros.
pub(crate) fn decimal_text(value: i64, scale: u8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let divisor = 10_u64.pow(u32::from(scale));
    let (whole, fraction) = (value.unsigned_abs() / divisor, value.unsigned_abs() % divisor);
    let text = format!("{sign}{whole}.{fraction:0width$}", width = usize::from(scale));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("15m", Some(900_000)),
            ("24h", Some(86_400_000)),
            ("90d", Some(7_776_000_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("15", None),
            ("", None),
            ("m", None),
            ("15 minutes", None),
            ("-5s", None),
            ("1.5h", None),
            ("99999999999999999999w", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("8GiB", Some(8 << 30)),
            ("64 MiB", Some(64 << 20)),
            ("256KiB", Some(256 << 10)),
            ("12B", Some(12)),
            ("12", None),
            ("8GB", None),
            ("x", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn decimals_are_written_without_needless_zeros() {
        for (value, scale, text) in
            [(1_100_000, 6, "1.1"), (40_000_000, 6, "40"), (-500, 3, "-0.5"), (0, 6, "0"), (7, 0, "7")]
        {
            assert_eq!(decimal_text(value, scale), text);
        }
    }

    proptest! {
        #[test]
        fn durations_and_sizes_are_read_back_as_written(millis in 0_u64..10_000_000_000, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
            prop_assert_eq!(parse_bytes(&bytes_text(bytes)), Some(bytes));
        }
    }
}
