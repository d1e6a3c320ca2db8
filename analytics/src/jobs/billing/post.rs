//! What changed of bills that were issued: rows of the ledger, each once.

use meterlake_store::query::ReadOptions;
use meterlake_store::{Holder, Role};

use super::super::JobError;
use super::super::run::{Output, Run};
use super::{Reads, with_figures};
use crate::book::determinants::{self, ByBill};
use crate::book::{self, Runs, What};
use crate::ledger::Posting;

/// Posts what is new; gives the number of rows. What is the same as before adds nothing.
pub(super) async fn corrections(run: &Run<'_>, rows: &Reads<'_>, output: &Output) -> Result<u64, JobError> {
    if !run.has("billing_corrections") {
        return Ok(0);
    }
    let lock = run.lake.own(Role::Billing, &Holder::of_process("billing")).await?;
    let first = rows.keys().next().cloned().unwrap_or_default();
    // As it is now: bills may have been issued since the run began.
    let book = book::load_book(run.lake, &Runs::From(first)).await.map_err(|e| run.failed_book(e))?;
    let run_id = run.run_id(output).await?;
    let posting = book.used + 1;
    let mut posted = Vec::new();
    let extra = extra(run, rows).await?;
    for (row, item) in with_figures(rows, extra) {
        let Some(known) = book.accounts.get(&item.key) else { continue };
        let new = known.account.next_row(&Posting { item: &item, context: &row.context, run_id: &run_id });
        if let Some(new) = new {
            posted.push(book::ledger_row(known, &item.key, posting, new));
        }
    }
    if !posted.is_empty() {
        let what = What::Post { run_id };
        book::add(run.lake, &book, ("jobs", what), &posted, &[]).await.map_err(|e| run.failed_book(e))?;
    }
    lock.release().await?;
    Ok(u64::try_from(posted.len()).unwrap_or(u64::MAX))
}

/// The configured determinants of the runs, as they are now.
async fn extra(run: &Run<'_>, rows: &Reads<'_>) -> Result<ByBill, JobError> {
    let session = run.lake.open_session(ReadOptions::default()).await?;
    let mut found = ByBill::new();
    if session.versions.contains_key(determinants::TABLE) {
        for month in rows.keys() {
            let of_run = determinants::of_run(&session.context, month).await;
            found.extend(of_run.map_err(|e| run.failed(e))?);
        }
    }
    Ok(found)
}
