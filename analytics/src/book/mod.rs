//! The book: what people did to bills and edits, what went out, and what changed afterwards, as the tables hold it.
//!
//! Three tables that are only ever added to. A step is one commit of the events table; rows of the ledger and of lists that
//! belong to a step are written before it and count once it is there, so that a crash in between leaves nothing that counts.
//! Whoever adds holds the book's lock, so that numbers are given once.

mod bills;
pub(crate) mod determinants;
mod event;
mod issue;
mod load;
mod pinned;
mod rows;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::error::DataFusionError;
use meterlake_model::{Channel, CivilDay, Timestamp, Zone};
use meterlake_store::StoreError;
use meterlake_store::query::QueryError;

use crate::ledger::{
    Account, EditError, Edits, ItemKey, NoticeState, PinnedBoundary, Sent, Standing, pins_of, standing,
};
use crate::runs::{Event, Step, StepError};
use crate::{jobs, ledger};

pub use bills::{BillLine, bill_lines};
pub use event::{BookEvent, Scope, What};
pub use issue::{IssuedList, issue, latest_run};
pub(crate) use load::read;
pub use load::{Runs, load_book};
pub use pinned::{PinnedRun, pinned_run};
pub use rows::{ItemKind, ListedItem};
pub(crate) use steps::{add, ledger_row};
pub use steps::{answer, bill_step, edit_step};

/// Why the book cannot be read, or a step is not taken down.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The step does not fit where the bill stands.
    #[error("{what}: {source}")]
    Step {
        /// Which bill.
        what: String,
        /// Why not.
        source: StepError,
    },
    /// The step does not fit where the edit stands.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Nothing is there that was asked for.
    #[error("{0}")]
    Nothing(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake could not be opened for reading.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// A job could not be run.
    #[error(transparent)]
    Job(#[from] Box<jobs::JobError>),
    /// The tables could not be read.
    #[error("billing: {0}")]
    Query(#[from] DataFusionError),
}

/// An account with what is the same in all its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookAccount {
    /// The run that its cycle belongs to, such as `2026-03`.
    pub run: String,
    /// Its unit.
    pub unit: String,
    /// Whether it is a register as read.
    pub is_register: bool,
    /// Its rows.
    pub account: Account,
}

/// All that was done and issued, up to an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// The last event that is taken in; 0: none.
    pub last_event: i64,
    /// Every number up to this one has been used, be it by a step that was never completed.
    pub(crate) used: i64,
    /// Steps of bills, in order.
    pub events: Vec<BookEvent>,
    /// Edits.
    pub edits: Edits,
    /// The ledger.
    pub accounts: BTreeMap<ItemKey, BookAccount>,
    /// What went out, in order of number.
    pub listed: Vec<ListedItem>,
    /// Items that went out by what they are, as indexes into `listed`.
    pub(crate) listed_by_key: BTreeMap<ItemKey, Vec<usize>>,
    /// The lists in which a usage point's bill of a run went out.
    pub(crate) lists_of_bill: BTreeMap<(String, String), BTreeSet<i64>>,
    /// Whether a list was acknowledged and rejected, as a whole or for one usage point.
    pub(crate) answers: BTreeMap<(i64, Option<String>), (bool, bool)>,
}

impl Book {
    /// The boundaries of a point and channel that were issued as estimates.
    pub fn pins(&self, usage_point_id: &str, channel: Channel, zone: &Zone) -> Vec<PinnedBoundary> {
        let of = self.accounts_of(usage_point_id).filter(|(key, _)| key.part == channel.name());
        pins_of(of.map(|(key, account)| (key, &account.account)), zone)
    }

    /// How many cycles in a row up to the one that ends with this day's eve ended on an estimate.
    pub fn estimated_before(&self, usage_point_id: &str, channel: Channel, first_day: CivilDay) -> i32 {
        let mut ends: Vec<(&ItemKey, &BookAccount)> = self
            .accounts_of(usage_point_id)
            .filter(|(key, _)| key.determinant == ledger::END_READ && key.part == channel.name())
            .filter(|(key, _)| key.end_day <= first_day)
            .collect();
        ends.sort_by_key(|(key, _)| std::cmp::Reverse(key.end_day));
        let guessed = |a: &BookAccount| a.account.last().is_some_and(|row| row.quality.is_estimate());
        let count = ends.into_iter().take_while(|(_, account)| guessed(account)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// The accounts of a usage point.
    pub fn accounts_of(&self, usage_point_id: &str) -> impl Iterator<Item = (&ItemKey, &BookAccount)> {
        // Keys are in order of usage point, then of determinant.
        let from = self.accounts.keys().next().map(|key| ItemKey {
            usage_point_id: usage_point_id.to_owned(),
            determinant: String::new(),
            part: String::new(),
            ..key.clone()
        });
        let of = from.map(|from| self.accounts.range(from..)).into_iter().flatten();
        let id = usage_point_id.to_owned();
        of.take_while(move |(key, _)| key.usage_point_id == id)
    }

    /// The run that a list is of.
    pub fn run_of_list(&self, number: i64) -> Option<&str> {
        self.events.iter().find_map(|event| match &event.what {
            What::Bill { scope, step: Step::Issue { number: n } } if *n == number => Some(scope.run.as_str()),
            _ => None,
        })
    }

    /// The events of one bill, those of its whole run and of its lists among them.
    pub fn events_of(&self, run: &str, usage_point_id: &str) -> Vec<Event> {
        let lists = self.lists_of_bill.get(&(run.to_owned(), usage_point_id.to_owned()));
        let in_list = |number: i64| lists.is_some_and(|l| l.contains(&number));
        let mut events = Vec::new();
        for event in &self.events {
            let What::Bill { scope, step } = &event.what else { continue };
            let about = scope.usage_point_id.as_ref().is_none_or(|p| p == usage_point_id);
            let mine = match step {
                Step::Issue { number } | Step::Ack { number } | Step::Reject { number, .. } => in_list(*number),
                _ => scope.run == run,
            };
            if about && mine {
                events.push(Event { seq: event.seq, at: event.at, by: event.by.clone(), step: step.clone() });
            }
        }
        events
    }

    /// Where an item stands with the billing system.
    pub fn standing(&self, key: &ItemKey, rules: &ledger::Materiality) -> Option<Standing> {
        let of = self.accounts.get(key)?;
        let listed = || self.listed_by_key.get(key).into_iter().flatten().filter_map(|at| self.listed.get(*at));
        let sent: Vec<Sent> =
            listed().map(|l| Sent { number: l.number, first_seq: l.first_seq, last_seq: l.last_seq }).collect();
        let (mut acked, mut rejected) = (BTreeSet::new(), BTreeSet::new());
        for number in listed().map(|l| l.number) {
            let (yes, no) = self.answer(number, &key.usage_point_id);
            if yes {
                acked.insert(number);
            } else if no {
                rejected.insert(number);
            }
        }
        let value = of.account.current()?;
        let limit = rules.limit(&of.unit, value, of.is_register);
        Some(standing(&of.account, &sent, (&acked, &rejected), limit, false))
    }

    /// Whether a list was acknowledged and whether it was rejected, for one usage point.
    fn answer(&self, number: i64, usage_point_id: &str) -> (bool, bool) {
        let of =
            |point: Option<&str>| self.answers.get(&(number, point.map(str::to_owned))).copied().unwrap_or_default();
        let (all, one) = (of(None), of(Some(usage_point_id)));
        (all.0 || one.0, all.1 || one.1)
    }

    /// The state of each row's notice.
    pub fn notices(&self, key: &ItemKey, rules: &ledger::Materiality) -> Vec<NoticeState> {
        self.standing(key, rules).map(|s| s.rows).unwrap_or_default()
    }
}

/// A list that went out, with how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedSummary {
    /// Its number.
    pub number: i64,
    /// The run, such as `2026-03`.
    pub run: String,
    /// When it was issued.
    pub at: Option<Timestamp>,
    /// Who issued it.
    pub by: String,
    /// Usage points that acknowledged it.
    pub acked: usize,
    /// Usage points that rejected it.
    pub rejected: usize,
    counts: [usize; 2],
}

impl IssuedSummary {
    /// How many bills or corrections it has: of a bill all items count as one.
    pub fn count(&self, kind: ItemKind) -> usize {
        self.counts[usize::from(kind == ItemKind::Correction)]
    }
}

impl Book {
    /// The lists that went out, in order.
    pub fn lists(&self) -> Vec<IssuedSummary> {
        let mut lists = Vec::new();
        for items in self.listed.chunk_by(|a, b| a.number == b.number) {
            let Some(first) = items.first() else { continue };
            let points: BTreeSet<&str> = items.iter().map(|i| i.key.usage_point_id.as_str()).collect();
            let bills: BTreeSet<&str> =
                items.iter().filter(|i| i.kind == ItemKind::Bill).map(|i| i.key.usage_point_id.as_str()).collect();
            let corrections = items.iter().filter(|i| i.kind == ItemKind::Correction).count();
            let event = self.events.iter().find(|e| e.seq == first.posting);
            let answers: Vec<(bool, bool)> = points.iter().map(|p| self.answer(first.number, p)).collect();
            lists.push(IssuedSummary {
                number: first.number,
                run: first.run.clone(),
                at: event.map(|e| e.at),
                by: event.map_or_else(String::new, |e| e.by.clone()),
                acked: answers.iter().filter(|(acked, _)| *acked).count(),
                rejected: answers.iter().filter(|(acked, rejected)| !acked && *rejected).count(),
                counts: [bills.len(), corrections],
            });
        }
        lists
    }
}
