//! The read of one usage point for one billing cycle, from its day spans: start and end register, use, what of it is
//! estimated, and whether a bill may go out.
//!
//! Pure: no tables, no clock. Left out: prices, tariff buckets, demand, and the ledger of corrections.

mod cycle;
#[cfg(test)]
mod tests;

use meterlake_model::registry::Installation;
use meterlake_model::{Amount, Channel, CivilDay, MeterId, Quality, Timestamp, Zone};

use crate::usage::{Finding, Span};

pub use cycle::read_cycle;

/// What a cycle's read follows from.
#[derive(Debug, Clone, Copy)]
pub struct CycleInput<'a> {
    /// Civil time of the usage point.
    pub zone: &'a Zone,
    /// The channel that is billed.
    pub channel: Channel,
    /// First day of the cycle.
    pub start_day: CivilDay,
    /// The day after its last.
    pub end_day: CivilDay,
    /// The installations of the point, which the spans name by index.
    pub installations: &'a [&'a Installation],
    /// Day spans in order of time; those outside the cycle and slots are passed over.
    pub spans: &'a [Span],
    /// Findings; those that do not touch the cycle are passed over.
    pub findings: &'a [Finding],
}

/// When an estimate is too much of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingRules {
    /// Hold when more than so many thousandths of the use are estimated.
    pub estimated_limit_permille: i64,
}

impl Default for BillingRules {
    fn default() -> Self {
        Self { estimated_limit_permille: 50 }
    }
}

/// A register at one end of a cycle or of an installation within it, as read: never multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundaryRead {
    /// When.
    pub ts: Timestamp,
    /// The register; `None` for interval channels.
    pub register: Option<Amount>,
    /// Valid, derived or estimated.
    pub quality: Quality,
}

/// The share of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CyclePart {
    /// Whose register.
    pub meter_id: MeterId,
    /// Where it begins in the cycle.
    pub start: BoundaryRead,
    /// Where it ends in the cycle.
    pub end: BoundaryRead,
    /// Its use, after the multiplier.
    pub use_amount: Amount,
}

/// Whether a bill may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadState {
    /// It may.
    Ready,
    /// It waits for a person or a new fact; the reasons say why.
    Held,
}

/// Determinants of one usage point, channel and cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingRead {
    /// First instant of the cycle.
    pub start: Timestamp,
    /// The instant after its last.
    pub end: Timestamp,
    /// Register at the start, as read.
    pub start_read: Option<BoundaryRead>,
    /// Register at the end, as read.
    pub end_read: Option<BoundaryRead>,
    /// Use over what is known of the cycle; `None` when nothing is.
    pub use_amount: Option<Amount>,
    /// What of it is estimated.
    pub estimated: Amount,
    /// Its share of the use in millionths, rounded half to even.
    pub estimated_share_ppm: i64,
    /// Seconds of the cycle with a known use.
    pub covered_s: i64,
    /// Whole civil days with a known use.
    pub days_covered: i32,
    /// Civil days of the cycle.
    pub days: i32,
    /// By installation, in order of time.
    pub parts: Vec<CyclePart>,
    /// Ready or held.
    pub state: ReadState,
    /// Why it is held, and remarks where it is not; each once, in the order of time.
    pub reasons: Vec<Reason>,
}

/// Why a read is held, or a remark on one that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// `backward`, `wrap`, `capacity`, `digits`, `closure`, `failed`, `missing`, `no_meter`, `estimated`, `nothing`; as
    /// remarks `clipped` and `begins`.
    pub code: &'static str,
    /// Whether it holds the bill.
    pub holds: bool,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// In words.
    pub detail: String,
}
