//! What was billed, and what changed afterwards: items, their accounts, notices, edits.
//!
//! An item is one number of one bill. Its account is a list of rows that is only ever added to: the first is what was
//! issued, each later one is a correction with its cause. So two sums hold at any time:
//!
//! ```text
//! Σ delta of all rows            = the present value
//! Σ delta of acknowledged rows   = what the billing system has
//! ```
//!
//! Pure: no tables, no clock. It knows nothing of what an item is: boundary reads and use ([`items_of_read`]) and whatever
//! else is computed by cycle go the same way.

mod account;
mod bill;
mod cause;
mod edit;
mod item;
mod notice;
mod pinned;
mod project;
#[cfg(test)]
mod tests;

pub use account::{Account, Posting, Row};
pub use bill::{Bill, BillInput, bill};
pub use cause::{Cause, Context, cause_of};
pub use edit::{Contested, Edit, EditError, EditStep, EditTarget, Edits, apply_edits};
pub(crate) use item::items_of_boundaries;
pub use item::{END_READ, Item, ItemKey, START_READ, USE, items_of_read};
pub use notice::{Due, Materiality, NoticeState, Sent, Standing, standing};
pub use pinned::{Evidence, PinnedBoundary, apply_pins, evidence_at, pins_of};
pub use project::{ProjectInput, project};
