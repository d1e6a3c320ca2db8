//! `completeness`: what came of what was expected, and why the rest did not.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use clap::{Args, ValueEnum};
use meterlake_analytics::completeness::{GroupBy, Question, Summary, days_told, listing, summary};
use meterlake_model::{CivilDay, Timestamp, Zone};
use meterlake_store::Lake;

use crate::cli::Global;
use crate::jobs::day;
use crate::output::{self, Format};
use crate::setup;

/// Which days and meters, and what the rows stand for.
#[derive(Debug, Args)]
pub struct CompletenessArgs {
    /// One civil day, by each usage point's zone [default: the newest that is over]
    #[arg(long, value_parser = day, conflicts_with_all = ["from", "to"])]
    day: Option<CivilDay>,
    /// First civil day
    #[arg(long, value_parser = day)]
    from: Option<CivilDay>,
    /// Day after the last [default: tomorrow]
    #[arg(long, value_parser = day, requires = "from")]
    to: Option<CivilDay>,
    /// One meter alone
    #[arg(long, value_name = "METER_ID")]
    meter: Option<String>,
    /// What has a row of its own
    #[arg(long, value_enum, default_value_t = By::Meter)]
    group_by: By,
    /// Leave out what is complete
    #[arg(long)]
    missing_only: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// One meter and day
    Meter,
    /// One source: a Modbus line or a broker
    Line,
    /// One gateway, as the registry names them
    Gateway,
    /// One cause of missing readings
    Reason,
    /// One civil day
    Day,
}

impl By {
    const fn asked(self) -> GroupBy {
        match self {
            Self::Meter => GroupBy::Meter,
            Self::Line => GroupBy::Line,
            Self::Gateway => GroupBy::Gateway,
            Self::Reason => GroupBy::Reason,
            Self::Day => GroupBy::Day,
        }
    }
}

/// Lists, and says in one line what it comes to: below a table, else on standard error.
///
/// # Errors
/// When the job has not run yet, or the lake cannot be read.
pub async fn run(global: &Global, args: &CompletenessArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let (from, to) = days(&lake, args).await?;
    let question = Question { from, to, meter: args.meter.clone(), missing_only: args.missing_only };
    let format = args.format.unwrap_or_else(Format::for_stdout);
    let batches = listing(&lake, &question, args.group_by.asked()).await?;
    let schema = batches.first().context("the listing has no form")?.schema();
    let rows = with_share(&concat_batches(&schema, &batches)?, format == Format::Table)?;
    output::write_batch(rows, format).await?;
    let line = format!("{}: {}", named(from, to), sentence(&summary(&lake, &question).await?));
    if format == Format::Table {
        println!("{line}");
    } else {
        eprintln!("{line}");
    }
    Ok(())
}

async fn days(lake: &Lake, args: &CompletenessArgs) -> anyhow::Result<(CivilDay, CivilDay)> {
    let tomorrow = || Zone::utc().day_of(Timestamp::now()).plus_days(1);
    if let Some(from) = args.from {
        let to = args.to.unwrap_or_else(tomorrow);
        anyhow::ensure!(from < to, "no days from {from} to {to}: the first day must lie before the last");
        return Ok((from, to));
    }
    let day = match args.day {
        Some(day) => day,
        None => days_told(lake).await?.context("no civil day is over yet: name one with --day")?,
    };
    Ok((day, day.plus_days(1)))
}

fn named(from: CivilDay, to: CivilDay) -> String {
    let last = to.plus_days(-1);
    if from == last { from.to_string() } else { format!("{from} to {last}") }
}

/// Adds the share that was received, in % and rounded down, to rows that have what it takes, and a bar for people.
fn with_share(batch: &RecordBatch, with_bar: bool) -> anyhow::Result<RecordBatch> {
    let number = |name: &str| -> anyhow::Result<Option<Int64Array>> {
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        Ok(cast(column, &DataType::Int64)?.as_primitive_opt::<Int64Type>().cloned())
    };
    let (Some(expected), Some(received)) = (number("expected")?, number("received")?) else {
        return Ok(batch.clone());
    };
    let pairs = || (0..expected.len()).map(|row| (received.value(row), expected.value(row)));
    let share: Decimal128Array = pairs().map(|(part, whole)| share(part, whole, 10_000).map(i128::from)).collect();
    let share: ArrayRef = Arc::new(share.with_precision_and_scale(5, 2)?);
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    fields.push(Arc::new(Field::new("share_percent", DataType::Decimal128(5, 2), true)));
    columns.push(share);
    if with_bar {
        let bars: StringArray = pairs().map(|(part, whole)| share_bar(part, whole)).collect();
        fields.push(Arc::new(Field::new("share", DataType::Utf8, true)));
        columns.push(Arc::new(bars));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// `part` of `whole` in units of one `of`th, rounded down: what lacks one reading is not whole.
fn share(part: i64, whole: i64, of: i64) -> Option<i64> {
    (whole > 0).then(|| part.saturating_mul(of) / whole)
}

const BAR: i64 = 20;

fn share_bar(part: i64, whole: i64) -> Option<String> {
    let full = usize::try_from(share(part, whole, BAR)?).ok()?;
    let all = usize::try_from(BAR).ok()?;
    Some(format!("{}{}", "█".repeat(full.min(all)), "·".repeat(all.saturating_sub(full))))
}

/// Such as `99.2 % of 1,234,567 expected; 37 meters late; gateway G-7 explains 312 missing`.
fn sentence(summary: &Summary) -> String {
    let sum = |figure: fn(&meterlake_analytics::completeness::Tally) -> i64| -> i64 {
        summary.tallies.iter().map(figure).sum()
    };
    let (expected, received) = (sum(|t| t.expected), sum(|t| t.received));
    let Some(permille) = share(received, expected, 1000) else { return "nothing was expected".to_owned() };
    let mut parts = vec![format!("{}.{} % of {} expected", permille / 10, permille % 10, grouped(expected))];
    for (count, what) in [(sum(|t| t.late_meters), "late"), (sum(|t| t.silent_meters), "silent for a day")] {
        if count > 0 {
            parts.push(format!("{} meter{} {what}", grouped(count), if count == 1 { "" } else { "s" }));
        }
    }
    parts.extend(summary.causes.iter().map(|(reason, subject, missing)| {
        let subject = subject.as_ref().map_or_else(String::new, |subject| format!(" {subject}"));
        format!("{reason}{subject} explains {} missing", grouped(*missing))
    }));
    parts.join("; ")
}

/// With a comma after each thousand.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use meterlake_analytics::completeness::Tally;

    use super::*;

    #[test]
    fn the_last_line_says_how_much_and_why() {
        let tally = |expected, received, late_meters, silent_meters| Tally {
            commodity: "water".to_owned(),
            expected,
            received,
            meters: 100,
            late_meters,
            silent_meters,
        };
        let cause =
            |reason: &str, subject: Option<&str>, missing| (reason.to_owned(), subject.map(str::to_owned), missing);
        for (tallies, causes, expected) in [
            (vec![], vec![], "nothing was expected"),
            (vec![tally(96, 96, 0, 0)], vec![], "100.0 % of 96 expected"),
            (
                vec![tally(1_234_000, 1_224_700, 30, 1), tally(567, 566, 7, 0)],
                vec![cause("gateway", Some("G-7"), 312), cause("collector", None, 1200)],
                "99.2 % of 1,234,567 expected; 37 meters late; 1 meter silent for a day; gateway G-7 explains 312 missing; \
                 collector explains 1,200 missing",
            ),
            (vec![tally(100_000, 99_999, 0, 0)], vec![], "99.9 % of 100,000 expected"),
        ] {
            assert_eq!(sentence(&Summary { tallies, causes }), expected);
        }
    }

    #[test]
    fn a_share_is_never_rounded_up_to_the_whole() {
        assert_eq!((share(9_999, 10_000, 100), share(0, 0, 100), share(5, 5, 10_000)), (Some(99), None, Some(10_000)));
        assert_eq!(share_bar(19_999, 20_000).unwrap(), "███████████████████·");
        assert_eq!(grouped(-1_234), "-1,234");
    }
}
