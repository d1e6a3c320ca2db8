//! Quality of a span: a rank to choose by, and the method of an estimate.

use std::fmt;

/// How a value that was not read came about. The names and their order are those of the fill rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// E0: no supply, shown by an outage; zero and valid.
    NoSupply,
    /// E1: a parallel meter or second source of the same point.
    Twin,
    /// E2: the one unknown part of a known whole.
    Closure,
    /// E3: straight line between the neighbours.
    Linear,
    /// E4: mean of the same slot of like days.
    LikeDay,
    /// E5: mean of the same slot of days of the same type.
    DayType,
    /// E6: mean of the same slot of the days whose weather was nearest.
    ProxyDay,
    /// E7: profile of the segment at the customer's own level.
    Profile,
    /// E8: projected beyond the last reading.
    Project,
    /// A boundary reading between two accepted neighbours at most a day apart.
    Boundary,
    /// Shares of a known whole in proportion to time, for want of any shape.
    Even,
}

impl Method {
    const NAMES: [(Self, &'static str); 11] = [
        (Self::NoSupply, "no_supply"),
        (Self::Twin, "twin"),
        (Self::Closure, "closure"),
        (Self::Linear, "linear"),
        (Self::LikeDay, "like_day"),
        (Self::DayType, "day_type"),
        (Self::ProxyDay, "proxy_day"),
        (Self::Profile, "profile"),
        (Self::Project, "project"),
        (Self::Boundary, "boundary"),
        (Self::Even, "even"),
    ];

    /// The name in tables.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(m, _)| *m == self).map_or("", |(_, name)| name)
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(m, _)| *m)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Quality of a span, in rising rank: a higher rank wins over a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// No value.
    Missing,
    /// A check failed.
    Failed,
    /// A fill made it, and no register stands behind it.
    Estimated,
    /// A fill shaped it and a register's difference gives the total.
    EstimatedScaled,
    /// Follows from accepted readings (boundary between near neighbours, closure of one unknown).
    Derived,
    /// Read, and passed every check. Also zero by evidence of an outage.
    Valid,
    /// Failed, then confirmed.
    Verified,
    /// Set and approved by people.
    Edited,
}

impl Quality {
    /// All, in rising rank.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Failed,
        Self::Estimated,
        Self::EstimatedScaled,
        Self::Derived,
        Self::Valid,
        Self::Verified,
        Self::Edited,
    ];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "none",
            Self::Failed => "failed",
            Self::Estimated => "estimated",
            Self::EstimatedScaled => "estimated_scaled",
            Self::Derived => "derived",
            Self::Valid => "valid",
            Self::Verified => "verified",
            Self::Edited => "edited",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|q| q.as_str() == text)
    }

    /// Whether the value is an estimate, scaled or not.
    pub const fn is_estimate(self) -> bool {
        matches!(self, Self::Estimated | Self::EstimatedScaled)
    }

    /// Whether estimates may learn from it.
    pub const fn feeds_history(self) -> bool {
        matches!(self, Self::Derived | Self::Valid | Self::Verified)
    }

    /// ESPI `QualityOfReading`; `None` where there is no value.
    pub const fn espi(self, method: Option<Method>) -> Option<u8> {
        Some(match self {
            Self::Missing => return None,
            Self::Failed => 10,
            Self::Estimated | Self::EstimatedScaled => match method {
                Some(Method::Linear) => 9,
                Some(Method::Project) => 12,
                _ => 8,
            },
            Self::Derived => 11,
            Self::Valid => 17,
            Self::Verified => 18,
            Self::Edited => 7,
        })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_ranks_rise() {
        for pair in Quality::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for quality in Quality::ALL {
            assert_eq!(Quality::parse(quality.as_str()), Some(quality));
        }
        for (method, name) in Method::NAMES {
            assert_eq!(Method::parse(name), Some(method));
            assert_eq!(method.as_str(), name);
        }
    }
}
