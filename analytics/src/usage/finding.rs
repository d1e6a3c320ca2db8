//! What a check found. A finding never changes a value.

use std::fmt;

pub use meterlake_model::check::Severity;
use meterlake_model::{Amount, Timestamp};

/// The rules of the walk, by their lasting numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An interval reading that does not lie on the grid of the installation.
    V04,
    /// Two values for the same meter, channel and time.
    V05,
    /// A reading that the meter itself marks as not to be trusted.
    V07,
    /// Missing slots or a missing boundary.
    V09,
    /// The register fell, and neither wrap nor order explains it.
    V11,
    /// The register wrapped, or seems to have.
    V12,
    /// A reading of another meter or a flipped bit: the value leaves and returns to the running register.
    V13,
    /// More than the connection can carry.
    V14,
    /// More digits or decimals than the register has.
    V15,
    /// Parts and whole do not close.
    V16,
}

impl Rule {
    const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::V04, "V04", "interval_length"),
        (Self::V05, "V05", "conflict"),
        (Self::V07, "V07", "device_flag"),
        (Self::V09, "V09", "gap"),
        (Self::V11, "V11", "backward"),
        (Self::V12, "V12", "wrap"),
        (Self::V13, "V13", "foreign"),
        (Self::V14, "V14", "capacity"),
        (Self::V15, "V15", "digits"),
        (Self::V16, "V16", "closure"),
    ];

    /// The number, such as `V11`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(rule, ..)| *rule == self).map_or("", |(_, id, _)| id)
    }

    /// The name for people, such as `backward`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(rule, ..)| *rule == self).map_or("", |(.., name)| name)
    }

    /// Number and name, as checks are called: `V11_backward`.
    pub fn id(self) -> String {
        format!("{}_{}", self.as_str(), self.name())
    }

    /// Whether a check of this id is answered by the walk, alone or with others.
    pub fn answers(id: &str) -> bool {
        Self::ALL.iter().any(|(rule, ..)| rule.id() == id)
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == id).map(|(rule, ..)| *rule)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What it asks for.
    pub severity: Severity,
    /// First instant it touches.
    pub start: Timestamp,
    /// The instant after the last; equal to the start for a single reading.
    pub end: Timestamp,
    /// What was measured: a reading (V07, V15) or a register step in the channel's unit as read, a use after the multiplier
    /// (V14, V16), or seconds (V09).
    pub measured: Option<Amount>,
    /// What it was held against, in the same unit.
    pub limit: Option<Amount>,
    /// Which of the input's installations it belongs to.
    pub installation: usize,
    /// The readings that show it, in words.
    pub evidence: String,
}

impl Finding {
    /// Whether it is of a time, `start` to before `end`: a gap that ends where the time begins is not, a single reading there is.
    pub fn touches(&self, start: Timestamp, end: Timestamp) -> bool {
        self.start < end && (self.end > start || self.start >= start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_ends_where_a_cycle_begins_is_none_of_it() {
        let ts = |hour: i64| Timestamp::from_unix_seconds(hour * 3600).unwrap();
        // From, to, and whether it touches the hours 10 to before 20.
        let cases = [
            (5, 10, false),
            (5, 11, true),
            (10, 10, true),
            (12, 13, true),
            (19, 25, true),
            (20, 20, false),
            (20, 25, false),
            (9, 9, false),
        ];
        for (start, end, expected) in cases {
            let finding = Finding {
                rule: Rule::V09,
                severity: Severity::Issue,
                start: ts(start),
                end: ts(end),
                measured: None,
                limit: None,
                installation: 0,
                evidence: String::new(),
            };
            assert_eq!(finding.touches(ts(10), ts(20)), expected, "{start} to {end}");
        }
    }
}
