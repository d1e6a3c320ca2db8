//! Cycles and the bills of a run: when a bill may go out, where it stands, and which days it covers.
//!
//! A bill is what one usage point has to show for one cycle. Where it stands is derived from its gates, which follow from
//! readings, and from its events, which people caused and which are only ever added: nothing is a field that somebody
//! changes. Pure: no tables, no clock. What a bill is worth, and what becomes of it after it was issued, is in
//! [`crate::ledger`].

mod cycle;
mod gate;
mod state;
#[cfg(test)]
mod tests;

pub use cycle::{Cycle, CycleCalendar, CycleRule};
pub use gate::{Facts, Gate, GateRules, Unmet, gate};
pub use state::{BillState, Event, HoldReason, Step, StepError, bill_state, check_step};
