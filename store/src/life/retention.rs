//! Rows that are older than their table keeps them, holds apart.
//!
//! Time is the row's own (`ts`, the end of a span, the arrival of a message). The limit is the first instant of the UTC
//! month in which it falls, so that whole partitions leave and files are rewritten only where a hold or another time
//! than the partition's keeps some of their rows. A row without a time, such as an alert that goes on, stays.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use meterlake_model::{Channel, Commodity, Timestamp, Zone};

use super::holds::Hold;
use super::sift::{Sieve, Sifted, Touch, sift};
use super::subject::{Subject, month_span};
use crate::error::StoreError;
use crate::lake::Lake;
use crate::schema::commodity_of;
use crate::table::{DataFile, TableSnapshot};

/// What tells a row's time, the first that the table has.
const TIMES: [&str; 7] = ["ts", "end", "last_seen", "received_at", "started_at", "replayed_at", "day"];
const DAY: i64 = 86_400_000_000;

/// How long the rows of a table stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// The table.
    pub table: String,
    /// Only rows of this commodity, in a table that has rows of several.
    pub commodity: Option<Commodity>,
    /// At least so long.
    pub keep: Duration,
}

/// What one rule takes out of its table, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRetention {
    /// The rule.
    pub rule: RetentionRule,
    /// Rows before this instant go.
    pub limit: Timestamp,
    /// Files that leave as they are.
    pub whole_files: usize,
    /// Files that are written anew without some of their rows.
    pub rewritten_files: usize,
    /// Rows that go.
    pub rows: u64,
    /// Rows before the limit that holds keep.
    pub held_rows: u64,
    /// Ids of the holds that kept some.
    pub held_by: Vec<String>,
}

impl Lake {
    /// What the rules take out at an instant; `dry` changes nothing. Tables that are not there are passed over.
    ///
    /// # Errors
    /// `Refused` when the clock cannot be trusted, `Conflict` when another process rewrote a table meanwhile.
    pub async fn retain(
        &self,
        rules: &[RetentionRule],
        holds: &[Hold],
        now: Timestamp,
        dry: bool,
    ) -> Result<Vec<TableRetention>, StoreError> {
        if !dry {
            self.check_clock(now).await?;
        }
        let subjects = subjects_of(self, holds).await?;
        let mut report = Vec::new();
        for rule in rules {
            let state = match self.snapshot(&rule.table).await {
                Ok(state) => state,
                Err(StoreError::NoTable(_)) => continue,
                Err(e) => return Err(e),
            };
            let limit = limit(now, rule.keep);
            let mut sieve = Old {
                rule,
                limit: limit.micros(),
                time: time_column(&state),
                holds: subjects.iter().filter(|(hold, _)| concerns(hold, rule)).collect(),
                held_rows: 0,
                held_by: Vec::new(),
            };
            let done: Sifted = sift(self, &rule.table, &mut sieve, true).await?;
            let (held_rows, mut held_by) = (sieve.held_rows, sieve.held_by.clone());
            held_by.sort();
            held_by.dedup();
            if !dry && !done.is_empty() {
                sift(self, &rule.table, &mut sieve, false).await?;
            }
            report.push(TableRetention {
                rule: rule.clone(),
                limit,
                whole_files: done.whole_files,
                rewritten_files: done.rewritten_files,
                rows: done.rows,
                held_rows,
                held_by,
            });
        }
        Ok(report)
    }
}

/// The active holds, each with whom it is about.
pub(super) async fn subjects_of<'a>(
    lake: &Lake,
    holds: &'a [Hold],
) -> Result<Vec<(&'a Hold, Option<Subject>)>, StoreError> {
    let active: Vec<&Hold> = holds.iter().filter(|h| h.is_active()).collect();
    let asked: Vec<_> = active.iter().filter_map(|h| h.subject.clone()).collect();
    let mut found = lake.subjects(&asked).await?.into_iter();
    let with = |hold: &'a Hold| (hold, hold.subject.as_ref().and_then(|_| found.next()));
    Ok(active.into_iter().map(with).collect())
}

/// The first instant of the month in which the age is reached.
fn limit(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let utc = Zone::utc();
    utc.start_of_day(utc.day_of(now.plus_seconds(keep.saturating_neg())).first_of_month())
}

fn time_column(state: &TableSnapshot) -> Option<&'static str> {
    TIMES.into_iter().find(|name| {
        let kind = state.schema.field_with_name(name).map(|f| f.data_type().clone());
        matches!(kind, Ok(DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32))
    })
}

fn concerns(hold: &Hold, rule: &RetentionRule) -> bool {
    let same_table = hold.table.as_ref().is_none_or(|table| *table == rule.table);
    let of_table = rule.commodity.or_else(|| commodity_of(&rule.table));
    same_table && hold.commodity.zip(of_table).is_none_or(|(a, b)| a == b)
}

struct Old<'a> {
    rule: &'a RetentionRule,
    /// In microseconds.
    limit: i64,
    time: Option<&'static str>,
    holds: Vec<&'a (&'a Hold, Option<Subject>)>,
    held_rows: u64,
    held_by: Vec<String>,
}

impl Old<'_> {
    /// From and to of a hold in microseconds.
    fn period(hold: &Hold) -> (i64, i64) {
        (hold.from.map_or(i64::MIN, Timestamp::micros), hold.to.map_or(i64::MAX, Timestamp::micros))
    }

    /// The first and the last time of a file; `None` when the log does not tell.
    fn span(&self, file: &DataFile) -> Option<(i64, i64)> {
        let bounds = self.time.and_then(|name| {
            let whole = file.columns.get(name)?.nulls == Some(0);
            Some((micros(file.min(name)?)?, micros(file.max(name)?)?)).filter(|_| whole)
        });
        match self.time {
            // The last instant of the month: none of its rows is later.
            None => month_span(file.partition_value("month")?).map(|(from, to)| (from, to - 1)),
            Some(_) => bounds,
        }
    }
}

impl Sieve for Old<'_> {
    fn touch(&self, _state: &TableSnapshot, file: &DataFile) -> Touch {
        let Some((first, last)) = self.span(file) else { return Touch::Rows };
        if first >= self.limit {
            return Touch::No;
        }
        let held = self.holds.iter().any(|(hold, subject)| {
            let (from, to) = Self::period(hold);
            from <= last && first < to && subject.as_ref().is_none_or(|s| s.may_be_in(file))
        });
        let one_commodity = self.rule.commodity.is_none() || commodity_of(&self.rule.table) == self.rule.commodity;
        if last < self.limit && !held && one_commodity { Touch::Whole } else { Touch::Rows }
    }

    fn keep(&mut self, batch: &RecordBatch, file: &DataFile) -> Result<BooleanArray, StoreError> {
        let end_of_month = file.partition_value("month").and_then(month_span).map(|(_, end)| end - 1);
        let column = self.time.and_then(|name| batch.column_by_name(name));
        let time = |row: usize| match column {
            Some(column) => time_at(column, row),
            None => end_of_month,
        };
        let subjects: Vec<Option<BooleanArray>> = self
            .holds
            .iter()
            .map(|(_, subject)| subject.as_ref().map(|s| s.rows(&self.rule.table, batch, file)))
            .collect();
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let Some(at) = time(row).filter(|at| *at < self.limit) else {
                keep.push(true);
                continue;
            };
            if self.rule.commodity.is_some_and(|c| commodity_at(&self.rule.table, batch, row).is_some_and(|of| of != c))
            {
                keep.push(true);
                continue;
            }
            let of = commodity_at(&self.rule.table, batch, row);
            let held = self.holds.iter().zip(&subjects).find(|((hold, _), rows)| {
                let (from, to) = Self::period(hold);
                let commodity = hold.commodity.zip(of).is_none_or(|(a, b)| a == b);
                from <= at && at < to && commodity && rows.as_ref().is_none_or(|rows| rows.value(row))
            });
            if let Some(((hold, _), _)) = held {
                self.held_rows += 1;
                if self.held_by.last() != Some(&hold.id) {
                    self.held_by.push(hold.id.clone());
                }
            }
            keep.push(held.is_some());
        }
        Ok(BooleanArray::from(keep))
    }
}

/// The commodity of a row, where the table or the row tells.
fn commodity_at(table: &str, batch: &RecordBatch, row: usize) -> Option<Commodity> {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    commodity_of(table)
        .or_else(|| text("commodity").and_then(Commodity::parse))
        .or_else(|| text("channel").and_then(Channel::by_name).map(|c| c.commodity()))
}

fn time_at(column: &ArrayRef, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        // A day is over with its last instant.
        DataType::Date32 => Some(i64::from(column.as_primitive::<Date32Type>().value(row)) * DAY + DAY - 1),
        _ => Some(column.as_primitive_opt::<TimestampMicrosecondType>()?.value(row)),
    }
}

fn micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        ScalarValue::Date32(Some(day)) => Some(i64::from(*day) * DAY + DAY - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_beginning_of_the_month_in_which_the_age_is_reached() {
        for (now, days, expected) in [
            ("2026-11-22T10:00:00Z", 0, "2026-11-01T00:00:00Z"),
            ("2026-11-22T10:00:00Z", 22, "2026-10-01T00:00:00Z"),
            ("2026-11-01T00:00:00Z", 31, "2026-10-01T00:00:00Z"),
            ("2026-03-15T00:00:00Z", 3653, "2016-03-01T00:00:00Z"),
        ] {
            let found = limit(Timestamp::parse_rfc3339(now).unwrap(), Duration::from_secs(days * 86_400));
            assert_eq!(found.to_string(), expected, "{days} days before {now}");
        }
    }
}
