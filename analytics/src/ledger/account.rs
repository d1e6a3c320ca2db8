//! The account of an item: rows that are only ever added to.

use meterlake_model::{Amount, Quality};

use super::cause::{Cause, Context, cause_of};
use super::item::{END_READ, Item};

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// 0 for what was issued, then one after the other.
    pub seq: i32,
    /// Why.
    pub cause: Cause,
    /// The value before; `None` in the first row.
    pub old: Option<Amount>,
    /// The value after.
    pub new: Amount,
    /// New less old.
    pub delta: Amount,
    /// How sure the new value is.
    pub quality: Quality,
    /// Fingerprint of the readings that the new value rests on.
    pub basis: String,
    /// What else it went by.
    pub context: Context,
    /// The run that gave the new value.
    pub run_id: String,
}

/// All rows of one item, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    rows: Vec<Row>,
}

/// What an item is worth by a new computation.
#[derive(Debug, Clone, Copy)]
pub struct Posting<'a> {
    /// The item as it is now.
    pub item: &'a Item,
    /// What it went by.
    pub context: &'a Context,
    /// The run.
    pub run_id: &'a str,
}

impl Account {
    /// The account with these rows, in any order; a row that is there twice counts once.
    pub fn new(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| row.seq);
        rows.dedup_by_key(|row| row.seq);
        Self { rows }
    }

    /// The rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The last row.
    pub fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    /// The present value: the sum of all deltas. `None`: nothing was issued, or the sum does not fit.
    pub fn current(&self) -> Option<Amount> {
        if self.rows.is_empty() { None } else { Amount::sum(self.rows.iter().map(|row| row.delta)) }
    }

    /// The row that a new computation adds; `None` where it changes nothing. The first computation is what is issued.
    ///
    /// An issued estimate stays as it is while the readings that it rests on are the same: like days that changed
    /// elsewhere do not correct it.
    pub fn next_row(&self, posting: &Posting<'_>) -> Option<Row> {
        let Posting { item, run_id, .. } = *posting;
        let context = if item.is_of_read() { &posting.context.without_tariffs() } else { posting.context };
        let (cause, old) = match self.rows.last() {
            None => (Cause::Issue, None),
            Some(last) => (cause_of(&last.context, context), Some(self.current()?)),
        };
        if old == Some(item.value) {
            return None;
        }
        let is_pinned = |last: &Row| {
            cause == Cause::LateRead
                && item.key.determinant != END_READ
                && last.quality.is_estimate()
                && item.quality.is_estimate()
                && !item.basis.is_empty()
                && last.basis == item.basis
        };
        if self.rows.last().is_some_and(is_pinned) {
            return None;
        }
        Some(Row {
            seq: self.rows.last().map_or(0, |last| last.seq + 1),
            cause,
            old,
            new: item.value,
            delta: item.value.checked_sub(old.unwrap_or_default())?,
            quality: item.quality,
            basis: item.basis.clone(),
            context: context.clone(),
            run_id: run_id.to_owned(),
        })
    }

    /// Adds the row that a new computation makes.
    pub fn post(&mut self, posting: &Posting<'_>) -> Option<&Row> {
        let row = self.next_row(posting)?;
        self.rows.push(row);
        self.rows.last()
    }
}
