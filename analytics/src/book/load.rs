//! The book read from its tables.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;

use super::rows::LedgerRow;
use super::{Book, BookAccount, BookError, What, event, rows};
use crate::ledger::{Account, ItemKey};
use crate::runs::Step;
use crate::tables::read::Rows;

/// Of which runs the ledger and the lists are read: they are large. Events always are, and are few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// Of all.
    All,
    /// Of those from this month on, such as `2026-01`.
    From(String),
    /// Of this one.
    Only(String),
    /// Of none.
    None,
}

impl Runs {
    /// A condition on the partition, which is the run.
    fn condition(&self) -> String {
        // Runs are months as `2026-03`; anything else matches none.
        match self {
            Self::All => "true".to_owned(),
            Self::From(run) => format!("month >= '{}'", run.replace('\'', "")),
            Self::Only(run) => format!("month = '{}'", run.replace('\'', "")),
            Self::None => "false".to_owned(),
        }
    }
}

/// Reads the book: every event, and of these runs the ledger and the lists.
///
/// # Errors
/// When the lake cannot be read.
pub async fn load_book(lake: &Lake, runs: &Runs) -> Result<Book, BookError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let has = |table: &str| session.versions.contains_key(table);
    Ok(read(&session.context, has, runs, None).await?)
}

/// As [`load_book`], over a session, up to an event.
pub(crate) async fn read(
    session: &SessionContext,
    has: impl Fn(&str) -> bool,
    runs: &Runs,
    upto: Option<i64>,
) -> Result<Book, DataFusionError> {
    let mut book = Book::default();
    let mut there = BTreeSet::new();
    if has("billing_events") {
        for batch in session.sql("SELECT * FROM billing_events ORDER BY seq").await?.collect().await? {
            for event in event::events(&batch)? {
                book.used = book.used.max(event.seq);
                if upto.is_none_or(|upto| event.seq <= upto) && there.insert(event.seq) {
                    book.take(event);
                }
            }
        }
    }
    for table in ["billing_corrections", "billing_items"] {
        if has(table) {
            book.used = book.used.max(newest(session, table).await?);
        }
    }
    if *runs == Runs::None {
        return Ok(book);
    }
    let wanted = runs.condition();
    if has("billing_corrections") {
        let sql = format!("SELECT * FROM billing_corrections WHERE {wanted}");
        let mut by_key: BTreeMap<ItemKey, Vec<LedgerRow>> = BTreeMap::new();
        for batch in session.sql(&sql).await?.collect().await? {
            for row in rows::read_ledger(&batch)? {
                if there.contains(&row.posting) {
                    by_key.entry(row.key.clone()).or_default().push(row);
                }
            }
        }
        for (key, rows) in by_key {
            let Some(first) = rows.first() else { continue };
            let (run, unit, is_register) = (first.run.clone(), first.unit.clone(), first.is_register);
            let account = Account::new(rows.into_iter().map(|r| r.row).collect());
            book.accounts.insert(key, BookAccount { run, unit, is_register, account });
        }
    }
    if has("billing_items") {
        let sql = format!(
            "SELECT * FROM billing_items WHERE {wanted}
             ORDER BY number, usage_point_id, determinant, part, first_seq"
        );
        for batch in session.sql(&sql).await?.collect().await? {
            for item in rows::read_listed(&batch)? {
                if !there.contains(&item.posting) {
                    continue;
                }
                let at = book.listed.len();
                book.listed_by_key.entry(item.key.clone()).or_default().push(at);
                if item.kind == super::ItemKind::Bill {
                    let bill = (item.run.clone(), item.key.usage_point_id.clone());
                    book.lists_of_bill.entry(bill).or_default().insert(item.number);
                }
                book.listed.push(item);
            }
        }
    }
    Ok(book)
}

/// The newest event that a table has rows of, be it there or not.
async fn newest(session: &SessionContext, table: &str) -> Result<i64, DataFusionError> {
    let sql = format!("SELECT coalesce(max(posting), 0) AS newest FROM {table}");
    let batches = session.sql(&sql).await?.collect().await?;
    let first = batches.iter().find(|batch| batch.num_rows() > 0);
    first.map_or(Ok(0), |batch| Ok(Rows(batch).long("newest")?.value(0)))
}

impl Book {
    fn take(&mut self, event: super::BookEvent) {
        self.last_event = event.seq;
        match &event.what {
            What::Edit { id, step } => self.edits.take(*id, &event.by, event.at, step),
            What::Bill { scope, step } => {
                let answer = match step {
                    Step::Ack { number } => Some((*number, (true, false))),
                    Step::Reject { number, .. } => Some((*number, (false, true))),
                    _ => None,
                };
                if let Some((number, (acked, rejected))) = answer {
                    let known = self.answers.entry((number, scope.usage_point_id.clone())).or_default();
                    *known = (known.0 || acked, known.1 || rejected);
                }
            }
            What::Post { .. } => {}
        }
        self.events.push(event);
    }
}
