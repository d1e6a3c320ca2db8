//! Checks over what is derived: queries as data, and operators over slots in their order. Their rows are findings; no value is
//! ever changed by them.
//!
//! A check is run for one UTC month, whatever else was asked for, so that a month's findings follow from its tables alone.
//! What follows from a finding is decided apart, by the settings that were in force when it began ([`meterlake_model::check`]).
//! Bills look at findings that hold or wait for a person ([`stops`]); rules of the walk are its own ([`crate::usage`]), and only
//! their policy is here ([`policy`]).

pub mod cases;
mod given;
mod keep;
mod month;
mod policy;
mod query;
mod slots;
mod stops;
mod subjects;

use meterlake_model::check::{OnFail, Severity};
use meterlake_model::{Amount, Timestamp};

pub(crate) use given::register;
pub use month::{Month, MonthFindings, run_month};
pub(crate) use policy::apply_policy;
pub(crate) use stops::{Stops, TABLE, stops_of_run};
pub use subjects::{Place, Subjects};

/// One finding of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The place of supply.
    pub usage_point_id: String,
    /// The channel; empty: of none or all.
    pub channel: String,
    /// First instant it touches.
    pub start: Timestamp,
    /// Id of the check.
    pub rule: String,
    /// The instant after the last; equal to the start for a single instant.
    pub end: Timestamp,
    /// How much it matters.
    pub severity: Severity,
    /// What follows from it.
    pub on_fail: OnFail,
    /// What was measured.
    pub measured: Option<Amount>,
    /// What it was compared with.
    pub reference: Option<Amount>,
    /// The most, or least, that is let pass.
    pub limit: Option<Amount>,
    /// The meter; empty: of none.
    pub meter_id: String,
    /// In words.
    pub evidence: String,
}

impl Found {
    /// Told, and that is all: what rests on estimates proves nothing.
    fn only_told(self) -> Self {
        let on_fail = if self.on_fail == OnFail::Off { OnFail::Off } else { OnFail::Keep };
        Self { severity: Severity::Information, on_fail, ..self }
    }
}
