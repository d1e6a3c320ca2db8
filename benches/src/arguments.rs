//! The arguments of a bench.

use anyhow::{Context, bail};

/// How large and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arguments {
    /// Electricity meters.
    pub meters: usize,
    /// Days of history, from the first of a month; at most one month.
    pub days: i32,
    /// How often each part is timed; the median counts.
    pub repeats: usize,
}

impl Arguments {
    /// 200 meters for 31 days, five times.
    pub const FULL: Self = Self { meters: 200, days: 31, repeats: 5 };
    /// A check that the bench works, whose times say nothing.
    pub const SMALL: Self = Self { meters: 4, days: 3, repeats: 1 };

    /// Of this process.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of_process() -> anyhow::Result<Self> {
        Self::parse(std::env::args().skip(1))
    }

    /// `--small`, or any of `--meters N`, `--days N`, `--repeats N`, the last word counting. `--bench`, which cargo
    /// adds, is passed over.
    ///
    /// # Errors
    /// Names the argument that is unknown, without its number or out of range.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self::FULL;
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let mut number = |low: u32, high: u32| {
                let value = arguments.next().with_context(|| format!("`{name}` needs a number"))?;
                let range = low..=high;
                let number = value.parse::<u32>().ok().filter(|n| range.contains(n));
                number.with_context(|| format!("`{name} {value}`: a number from {low} to {high} is needed"))
            };
            match name.as_str() {
                "--bench" => {}
                "--small" => parsed = Self::SMALL,
                "--meters" => parsed.meters = usize::try_from(number(1, 100_000)?)?,
                "--days" => parsed.days = i32::try_from(number(2, 31)?)?,
                "--repeats" => parsed.repeats = usize::try_from(number(1, 99)?)?,
                other => bail!("unknown argument `{other}`: --small, --meters N, --days N and --repeats N are known"),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Arguments> {
        Arguments::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_full_size_stands_unless_told_otherwise() {
        assert_eq!(parse("--bench").unwrap(), Arguments::FULL);
        assert_eq!(parse("--small --bench").unwrap(), Arguments::SMALL);
        assert_eq!(parse("--meters 9 --days 2").unwrap(), Arguments { meters: 9, days: 2, ..Arguments::FULL });
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("--smal", "unknown argument `--smal`"),
            ("--meters", "`--meters` needs a number"),
            ("--days 32", "`--days 32`: a number from 2 to 31"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
