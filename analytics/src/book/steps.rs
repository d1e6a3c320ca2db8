//! Steps: what people do with bills, lists and edits, and how it is taken down.

use std::collections::BTreeSet;

use datafusion::error::DataFusionError;
use meterlake_model::{CivilDay, Timestamp};
use meterlake_store::{Holder, Lake, Role};

use super::rows::LedgerRow;
use super::{
    BillLine, Book, BookAccount, BookError, BookEvent, ListedItem, Runs, Scope, What, bill_lines, event, load_book,
    rows,
};
use crate::ledger::{EditStep, ItemKey, Row};
use crate::runs::{GateRules, Step, StepError, check_step};
use crate::tables;

/// Takes the book's lock and reads it: whoever adds to it comes one after the other.
pub(super) async fn open(lake: &Lake, runs: &Runs) -> Result<(meterlake_store::Ownership, Book), BookError> {
    let lock = lake.own(Role::Billing, &Holder::of_process("billing")).await?;
    let book = load_book(lake, runs).await?;
    Ok((lock, book))
}

/// Adds an event, behind the rows that belong to it. Gives its number.
pub(crate) async fn add(
    lake: &Lake,
    book: &Book,
    (by, what): (&str, What),
    corrections: &[LedgerRow],
    listed: &[ListedItem],
) -> Result<i64, BookError> {
    let seq = book.used + 1;
    if !corrections.is_empty() {
        let rows = rows::ledger(corrections).map_err(DataFusionError::from)?;
        lake.append(&tables::billing_corrections(), vec![rows]).await?;
    }
    if !listed.is_empty() {
        let rows = rows::listed(listed).map_err(DataFusionError::from)?;
        lake.append(&tables::billing_items(), vec![rows]).await?;
    }
    let event = BookEvent { seq, at: Timestamp::now(), by: by.trim().to_owned(), what };
    let row = event::row(&event).map_err(DataFusionError::from)?;
    lake.append(&tables::billing_events(), vec![row]).await?;
    Ok(seq)
}

/// A row of an account that is there.
pub(crate) fn ledger_row(of: &BookAccount, key: &ItemKey, posting: i64, row: Row) -> LedgerRow {
    LedgerRow {
        run: of.run.clone(),
        key: key.clone(),
        unit: of.unit.clone(),
        is_register: of.is_register,
        posting,
        row,
    }
}

/// Takes down a step of one bill, or of every bill of a run to which it applies. Gives how many bills it changed; a step
/// that was taken already changes none and is not taken down again.
///
/// # Errors
/// When it applies to none, or not to the one that is named.
pub async fn bill_step(
    lake: &Lake,
    scope: &Scope,
    by: &str,
    step: &Step,
    (rules, today): (&GateRules, CivilDay),
) -> Result<usize, BookError> {
    let (lock, book) = open(lake, &Runs::Only(scope.run.clone())).await?;
    let mut lines = bill_lines(lake, &book, &scope.run, rules, today).await?;
    if let Some(point) = &scope.usage_point_id {
        lines.retain(|l| l.usage_point_id == *point);
        if lines.is_empty() {
            return Err(BookError::Nothing(format!("run {} has no bill of usage point {point}", scope.run)));
        }
    }
    let (mut changed, mut refused, mut same) = (0, None, false);
    for line in &lines {
        match check_step(&line.state, by, step) {
            Ok(true) => changed += 1,
            Ok(false) => same = true,
            Err(source @ StepError::Missing(_)) => return Err(refusal(line, source)),
            Err(source) => refused = refused.or(Some(refusal(line, source))),
        }
    }
    if changed == 0 {
        lock.release().await?;
        return match refused {
            Some(error) if !same => Err(error),
            _ => Ok(0),
        };
    }
    add(lake, &book, (by, What::Bill { scope: scope.clone(), step: step.clone() }), &[], &[]).await?;
    lock.release().await?;
    Ok(changed)
}

fn refusal(line: &BillLine, source: StepError) -> BookError {
    BookError::Step { what: format!("{} of run {}", line.usage_point_id, line.run), source }
}

/// Says that a billing system has taken a list, or refused it: wholly, or for one usage point.
///
/// # Errors
/// When there is no such list, or it has been answered otherwise.
pub async fn answer(
    lake: &Lake,
    number: i64,
    usage_point_id: Option<&str>,
    by: &str,
    rejected: Option<&str>,
) -> Result<usize, BookError> {
    let unknown = || BookError::Nothing(format!("there is no list {number}: billing lists shows them"));
    let events = load_book(lake, &Runs::None).await?;
    let run = events.run_of_list(number).ok_or_else(unknown)?.to_owned();
    let (lock, book) = open(lake, &Runs::Only(run.clone())).await?;
    let points: BTreeSet<&str> = book
        .listed
        .iter()
        .filter(|l| l.number == number && usage_point_id.is_none_or(|p| p == l.key.usage_point_id))
        .map(|l| l.key.usage_point_id.as_str())
        .collect();
    if by.trim().is_empty() {
        return Err(BookError::Step { what: format!("list {number}"), source: StepError::Missing("who does it") });
    }
    if points.is_empty() {
        let point = usage_point_id.unwrap_or("");
        return Err(BookError::Nothing(format!("list {number} says nothing of usage point {point}")));
    }
    let mut changed = 0;
    for point in &points {
        let (acked, refused) = book.answer(number, point);
        match (rejected, acked, refused) {
            (None, true, _) | (Some(_), false, true) => {}
            (None, false, false) | (Some(_), false, false) => changed += 1,
            (_, acked, _) => {
                let state = if acked { "acked" } else { "rejected" };
                let why = "it has been answered otherwise; a rejected list goes out again under a new number";
                let source = StepError::State { state, why: why.to_owned() };
                return Err(BookError::Step { what: format!("{point} in list {number}"), source });
            }
        }
    }
    if changed > 0 {
        let scope = Scope { run, usage_point_id: usage_point_id.map(str::to_owned) };
        let step = match rejected {
            None => Step::Ack { number },
            Some(reason) => Step::Reject { number, reason: reason.to_owned() },
        };
        add(lake, &book, (by, What::Bill { scope, step }), &[], &[]).await?;
    }
    lock.release().await?;
    Ok(changed)
}

/// Takes down a step of an edit. Gives the edit's number.
///
/// # Errors
/// When it is not allowed: nobody is named, somebody approves their own proposal, another edit stands on the same days.
pub async fn edit_step(lake: &Lake, id: Option<i64>, by: &str, step: EditStep) -> Result<i64, BookError> {
    let (lock, book) = open(lake, &Runs::None).await?;
    let id = id.unwrap_or(book.used + 1);
    book.edits.check(id, by, &step)?;
    add(lake, &book, (by, What::Edit { id, step }), &[], &[]).await?;
    lock.release().await?;
    Ok(id)
}
