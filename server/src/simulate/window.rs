//! From when to when a fleet has a history.

use anyhow::ensure;
use clap::Args;
use meterlake_model::{Timestamp, Zone};

/// Grid that the ends of history fall on: readings are at most so far apart.
const GRID_S: i64 = 3600;
const DAY_S: i64 = 86_400;

/// The time of history.
#[derive(Debug, Clone, Args)]
pub(crate) struct WindowArgs {
    /// Days of history up to --to [default: 1, if nothing else says how long]
    #[arg(long, value_name = "N", conflicts_with_all = ["hours", "from"], value_parser = clap::value_parser!(i64).range(0..=3660))]
    days: Option<i64>,
    /// Hours of history up to --to
    #[arg(long, value_name = "N", conflicts_with = "from", value_parser = clap::value_parser!(i64).range(0..=87_840))]
    hours: Option<i64>,
    /// First reading, such as 2026-11-01T00:00:00Z; a whole hour in UTC
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// End of history, without it; a whole hour in UTC [default: the hour that has begun]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// Civil time of all places, by its name in the zone database
    #[arg(long, value_name = "ZONE", default_value = "Europe/Madrid", value_parser = zone)]
    pub(super) zone: Zone,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let ts = Timestamp::parse_rfc3339(text).map_err(|error| error.to_string())?;
    if ts == grid(ts) { Ok(ts) } else { Err(format!("`{text}` is no whole hour in UTC")) }
}

fn zone(text: &str) -> Result<Zone, String> {
    Zone::parse(text).map_err(|error| error.to_string())
}

fn grid(ts: Timestamp) -> Timestamp {
    ts.plus_micros(-ts.micros().rem_euclid(GRID_S * 1_000_000))
}

impl WindowArgs {
    /// First reading and end of history, as seen at `now`.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub(super) fn ends(&self, now: Timestamp) -> anyhow::Result<(Timestamp, Timestamp)> {
        let to = self.to.unwrap_or_else(|| grid(now));
        let seconds = self.hours.map_or_else(|| self.days.unwrap_or(1) * DAY_S, |hours| hours * 3600);
        let from = self.from.unwrap_or_else(|| to.plus_seconds(-seconds));
        ensure!(from <= to, "history ends at {to} before it begins at {from}");
        Ok((from, to))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        window: WindowArgs,
    }

    fn ends(words: &str) -> Result<(String, String), String> {
        let now = Timestamp::parse_rfc3339("2026-11-21T10:44:00Z").unwrap();
        let line = Line::try_parse_from(std::iter::once("simulate").chain(words.split_whitespace()));
        let (from, to) = line.map_err(|e| e.to_string())?.window.ends(now).map_err(|e| e.to_string())?;
        Ok((from.to_string(), to.to_string()))
    }

    #[test]
    fn history_ends_at_the_hour_unless_told() {
        for (words, from, to) in [
            ("", "2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("--days 0", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("--hours 3", "2026-11-21T07:00:00Z", "2026-11-21T10:00:00Z"),
            ("--from 2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-11-21T10:00:00Z"),
            ("--days 2 --to 2026-03-01T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(ends(words), Ok((from.to_owned(), to.to_owned())), "{words}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for words in [
            "--days 2 --hours 3",
            "--days 2 --from 2026-11-01T00:00:00Z",
            "--from 2026-11-01T00:15:00Z",
            "--from 2026-11-01T00:00:00Z --to 2026-10-01T00:00:00Z",
            "--zone Europe/Atlantis",
        ] {
            assert!(ends(words).is_err(), "{words}");
        }
    }
}
