//! Daily temperatures: what E6 compares days by.

use std::collections::BTreeMap;
use std::sync::Arc;

use meterlake_model::CivilDay;
use sha2::{Digest, Sha256};

use super::history::{DayNumber, number_of};
use crate::alerts::hex;

/// Mean temperatures of the days of one region, in thousandths of a degree Celsius. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Temperatures {
    by_day: Arc<BTreeMap<DayNumber, i32>>,
    fingerprint: Arc<str>,
}

impl Temperatures {
    /// Temperatures by day; of a day that comes twice, the last.
    pub fn new(days: impl IntoIterator<Item = (CivilDay, i32)>) -> Self {
        let by_day: BTreeMap<DayNumber, i32> = days.into_iter().map(|(day, milli)| (number_of(day), milli)).collect();
        let mut hash = Sha256::new();
        for (day, milli) in &by_day {
            hash.update(format!("{day} {milli};"));
        }
        Self { by_day: Arc::new(by_day), fingerprint: hex(&hash.finalize()[..8]).into() }
    }

    pub(super) fn of(&self, day: DayNumber) -> Option<i32> {
        self.by_day.get(&day).copied()
    }
}

impl std::fmt::Debug for Temperatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What a hash of the rules is taken of: short, and another when anything is.
        write!(f, "temperatures of {} days, {}", self.by_day.len(), self.fingerprint)
    }
}
