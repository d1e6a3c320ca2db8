//! Events of the book as rows: who did what, and when.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use meterlake_model::{Channel, CivilDay, Timestamp, month_key};
use meterlake_store::schema::MONTH;

use crate::ledger::{EditStep, EditTarget};
use crate::runs::Step;
use crate::tables;
use crate::tables::read::{Rows, amount_at, instant_at, maybe_day_at};
use crate::tables::write::Columns;

/// Which bills a step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The run, such as `2026-03`.
    pub run: String,
    /// One of its usage points; `None`: all of them.
    pub usage_point_id: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A step of bills.
    Bill {
        /// Of which.
        scope: Scope,
        /// Which.
        step: Step,
    },
    /// A step of an edit.
    Edit {
        /// Of which; a proposal's own number.
        id: i64,
        /// Which.
        step: EditStep,
    },
    /// A run posted corrections.
    Post {
        /// Which run.
        run_id: String,
    },
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookEvent {
    /// Its place in the order of all.
    pub seq: i64,
    /// When, by the clock of whoever took it down.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What.
    pub what: What,
}

/// The row of an event, with its partition.
pub(super) fn row(event: &BookEvent) -> Result<RecordBatch, ArrowError> {
    let (mut run, mut point, mut channel, mut first, mut last) = (None, None, None, None, None);
    let (mut value, mut number, mut covers, mut note) = (None, None, None, None);
    let kind = match &event.what {
        What::Bill { scope, step } => {
            (run, point) = (Some(scope.run.clone()), scope.usage_point_id.clone());
            match step {
                Step::Hold { reason } | Step::Cancel { reason } => note = Some(reason.clone()),
                Step::Release { covers: keys } => {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    covers = Some(keys.join("\n"));
                }
                Step::Issue { number: n } | Step::Ack { number: n } => number = Some(*n),
                Step::Reject { number: n, reason } => (number, note) = (Some(*n), Some(reason.clone())),
            }
            step.as_str()
        }
        What::Edit { id, step } => {
            number = Some(*id);
            match step {
                EditStep::Propose { target, value: v, reason } => {
                    (point, channel) = (Some(target.usage_point_id.clone()), Some(target.channel.name()));
                    (first, last) = (Some(target.first_day), Some(target.end_day.plus_days(-1)));
                    (value, note) = (Some(*v), Some(reason.clone()));
                    "edit_propose"
                }
                EditStep::Approve => "edit_approve",
                EditStep::Release { reason } => {
                    note = Some(reason.clone());
                    "edit_release"
                }
            }
        }
        What::Post { run_id } => {
            note = Some(run_id.clone());
            "post"
        }
    };
    let mut c = Columns::default();
    c.long("seq", [event.seq].into_iter());
    c.time("at", [Some(event.at)].into_iter());
    c.text("person", [&event.by].into_iter());
    c.text("kind", [kind].into_iter());
    c.maybe_text("run", [run].into_iter());
    c.maybe_text("usage_point_id", [point].into_iter());
    c.maybe_text("channel", [channel].into_iter());
    c.maybe_day("first_day", [first].into_iter());
    c.maybe_day("last_day", [last].into_iter());
    c.amount("value", [value].into_iter());
    c.maybe_long("number", [number].into_iter());
    c.maybe_text("covers", [covers].into_iter());
    c.maybe_text("note", [note].into_iter());
    c.text(MONTH, [month_key(event.at)].into_iter());
    c.batch(&tables::billing_events())
}

/// Reads [`row`] back; rows of kinds that this program does not know are passed over.
pub(super) fn events(batch: &RecordBatch) -> Result<Vec<BookEvent>, DataFusionError> {
    let rows = Rows(batch);
    let (seq, at, person) = (rows.long("seq")?, rows.time("at")?, rows.text("person")?);
    let (kind, run, point) = (rows.text("kind")?, rows.text("run")?, rows.text("usage_point_id")?);
    let (channel, first, last) = (rows.text("channel")?, rows.day("first_day")?, rows.day("last_day")?);
    let (value, number) = (rows.amount("value")?, rows.long("number")?);
    let (covers, note) = (rows.text("covers")?, rows.text("note")?);
    let mut events = Vec::new();
    for row in 0..rows.len() {
        let scope = || Scope { run: run.at(row).to_owned(), usage_point_id: point.get(row).map(str::to_owned) };
        let (number, note) = (number.value(row), note.at(row).to_owned());
        let bill = |step| What::Bill { scope: scope(), step };
        let days = || -> Result<Option<(CivilDay, CivilDay)>, DataFusionError> {
            Ok(maybe_day_at(first, row)?.zip(maybe_day_at(last, row)?.map(|day| day.plus_days(1))))
        };
        let what = match kind.at(row) {
            "hold" => bill(Step::Hold { reason: note }),
            "release" => {
                let covers: BTreeSet<String> = covers.at(row).lines().map(str::to_owned).collect();
                bill(Step::Release { covers })
            }
            "issue" => bill(Step::Issue { number }),
            "ack" => bill(Step::Ack { number }),
            "reject" => bill(Step::Reject { number, reason: note }),
            "cancel" => bill(Step::Cancel { reason: note }),
            "post" => What::Post { run_id: note },
            "edit_approve" => What::Edit { id: number, step: EditStep::Approve },
            "edit_release" => What::Edit { id: number, step: EditStep::Release { reason: note } },
            "edit_propose" => {
                let (Some(channel), Some((first_day, end_day)), Some(value)) =
                    (Channel::by_name(channel.at(row)), days()?, amount_at(value, row)?)
                else {
                    continue;
                };
                let target = EditTarget { usage_point_id: point.at(row).to_owned(), channel, first_day, end_day };
                What::Edit { id: number, step: EditStep::Propose { target, value, reason: note } }
            }
            _ => continue,
        };
        events.push(BookEvent { seq: seq.value(row), at: instant_at(at, row)?, by: person.at(row).to_owned(), what });
    }
    Ok(events)
}
