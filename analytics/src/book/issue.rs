//! Issuing: bills that are ready and corrections that are to be told, as a numbered list.

use std::collections::BTreeSet;

use meterlake_model::{Amount, CivilDay};
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;

use super::steps::{add, ledger_row, open};
use super::{Book, BookAccount, BookError, ItemKind, ListedItem, Runs, Scope, What, bill_lines};
use crate::checks;
use crate::ledger::{Account, ItemKey, Materiality, Posting};
use crate::runs::{BillState, GateRules, Step, StepError};
use crate::tables::read::Rows;

/// A list that went out just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedList {
    /// Its number. Numbers rise and are given once; not every number is a list.
    pub number: i64,
    /// What it says.
    pub items: Vec<ListedItem>,
    /// Bills in it.
    pub bills: usize,
}

/// Issues what is ready of a run, and the corrections that are to be told: one numbered list, which never changes.
/// `None`: there is nothing to issue.
///
/// # Errors
/// When nobody is named, the run was never computed, or the lake cannot be written.
pub async fn issue(
    lake: &Lake,
    run: &str,
    by: &str,
    (gates, notices): (&GateRules, &Materiality),
    today: CivilDay,
    usage_point_id: Option<&str>,
) -> Result<Option<IssuedList>, BookError> {
    if by.trim().is_empty() {
        return Err(BookError::Step { what: format!("run {run}"), source: StepError::Missing("who does it") });
    }
    let (lock, book) = open(lake, &Runs::Only(run.to_owned())).await?;
    let run_id = latest_run(lake, run).await?;
    be_checked(lake, run).await?;
    let lines = bill_lines(lake, &book, run, gates, today).await?;
    let number = book.used + 1;
    let (mut listed, mut rows, mut bills) = (Vec::new(), Vec::new(), 0);
    for line in lines.iter().filter(|l| usage_point_id.is_none_or(|p| p == l.usage_point_id)) {
        if !matches!(line.state, BillState::Ready | BillState::Rejected(_)) || line.items.is_empty() {
            continue;
        }
        bills += 1;
        for (item, context) in &line.items {
            let known = book.accounts.get(&item.key);
            let mut account = known.map_or_else(Account::default, |k| k.account.clone());
            let of = BookAccount {
                run: run.to_owned(),
                unit: item.unit.clone(),
                is_register: item.is_register,
                account: Account::default(),
            };
            if let Some(row) = account.post(&Posting { item, context, run_id: &run_id }) {
                rows.push(ledger_row(&of, &item.key, number, row.clone()));
            }
            // A bill that was refused goes out again whole.
            let (Some(last), Some(value)) = (account.last(), account.current()) else { continue };
            listed.push(ListedItem {
                number,
                posting: number,
                kind: ItemKind::Bill,
                run: run.to_owned(),
                key: item.key.clone(),
                unit: item.unit.clone(),
                old: None,
                value,
                delta: value,
                quality: last.quality,
                estimated: item.estimated,
                cause: crate::ledger::Cause::Issue.as_str().to_owned(),
                first_seq: 0,
                last_seq: last.seq,
                run_id: run_id.clone(),
            });
        }
    }
    listed.extend(due(&book, run, notices, number, usage_point_id, &listed));
    if listed.is_empty() {
        lock.release().await?;
        return Ok(None);
    }
    let what = What::Bill { scope: Scope { run: run.to_owned(), usage_point_id: None }, step: Step::Issue { number } };
    add(lake, &book, (by, what), &rows, &listed).await?;
    lock.release().await?;
    Ok(Some(IssuedList { number, items: listed, bills }))
}

/// Corrections of a run's items that are to be told, of bills that went out before.
fn due(
    book: &Book,
    run: &str,
    notices: &Materiality,
    number: i64,
    usage_point_id: Option<&str>,
    bills: &[ListedItem],
) -> Vec<ListedItem> {
    let now: BTreeSet<&ItemKey> = bills.iter().map(|l| &l.key).collect();
    let mut listed = Vec::new();
    for (key, of) in &book.accounts {
        if of.run != run || now.contains(key) || usage_point_id.is_some_and(|p| p != key.usage_point_id) {
            continue;
        }
        let Some(standing) = book.standing(key, notices) else { continue };
        // A first row that is to go out again goes with its bill.
        for due in standing.due.iter().filter(|d| d.first_seq > 0) {
            let mut rows = of.account.rows().iter().filter(|r| due.first_seq <= r.seq && r.seq <= due.last_seq);
            let causes: BTreeSet<&str> = rows.clone().map(|r| r.cause.as_str()).collect();
            let (Some(first), Some(last)) = (rows.clone().next(), rows.next_back()) else { continue };
            listed.push(ListedItem {
                number,
                posting: number,
                kind: ItemKind::Correction,
                run: run.to_owned(),
                key: key.clone(),
                unit: of.unit.clone(),
                old: first.old,
                value: last.new,
                delta: due.delta,
                quality: last.quality,
                estimated: Amount::ZERO,
                cause: causes.into_iter().collect::<Vec<_>>().join("+"),
                first_seq: due.first_seq,
                last_seq: due.last_seq,
                run_id: last.run_id.clone(),
            });
        }
    }
    listed
}

/// Where checks are run at all, no bill goes out before they have looked at it as it is now.
async fn be_checked(lake: &Lake, run: &str) -> Result<(), BookError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let Ok(first) = CivilDay::parse(&format!("{run}-01")) else { return Ok(()) };
    if !session.versions.contains_key(checks::TABLE) {
        return Ok(());
    }
    let sql = format!(
        "SELECT max(started_at) FILTER (WHERE job = 'checks') > max(started_at) FILTER (WHERE job = 'billing') AS checked
         FROM job_runs WHERE from_day < DATE '{}' AND to_day > DATE '{first}'",
        first.plus_months(1)
    );
    for batch in session.context.sql(&sql).await?.collect().await? {
        let checked = Rows(&batch).flag("checked")?;
        if checked.iter().any(|checked| checked == Some(true)) {
            return Ok(());
        }
    }
    Err(BookError::Nothing(format!(
        "the bills of run {run} were computed after the checks ran, or a check failed: `meterlake job run checks` comes first"
    )))
}

/// The last run of the job `billing` that computed the bills of a month.
///
/// # Errors
/// When there was none.
pub async fn latest_run(lake: &Lake, run: &str) -> Result<String, BookError> {
    let first = CivilDay::parse(&format!("{run}-01"))
        .map_err(|_| BookError::Nothing(format!("{run} is no month such as 2026-03")))?;
    let session = lake.open_session(ReadOptions::default()).await?;
    if !session.versions.contains_key("job_runs") {
        return Err(BookError::Nothing("no job has run yet".to_owned()));
    }
    let sql = format!(
        "SELECT run_id FROM job_runs WHERE job = 'billing' AND from_day < DATE '{}' AND to_day > DATE '{first}'
         ORDER BY started_at DESC, run_id DESC LIMIT 1",
        first.plus_months(1)
    );
    for batch in session.context.sql(&sql).await?.collect().await? {
        let rows = Rows(&batch);
        if rows.len() > 0 {
            return Ok(rows.text("run_id")?.at(0).to_owned());
        }
    }
    Err(BookError::Nothing(format!("no bill of run {run} has been computed: billing run comes first")))
}
