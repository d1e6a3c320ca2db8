//! Billing determinants as they are configured: from which channel, in which buckets, over which windows, reduced how,
//! rounded and split how. What is computed from them is not known here.

use std::collections::{BTreeMap, BTreeSet};

use crate::amount::Amount;
use crate::channel::Channel;
use crate::decimal::divide_half_even;
use crate::formula::Formula;
use crate::id::UsagePointId;

/// One figure that a bill needs of a usage point and cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determinant {
    /// Its name, once in a configuration.
    pub id: String,
    /// Whose it is.
    pub scope: Scope,
    /// How it comes about.
    pub kind: Kind,
    /// How the result is rounded.
    pub round: Rounding,
}

/// Which usage points: those that are named and those of the classes; all of them where nothing is named. A point that is
/// in several groups is in scope once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// By name.
    pub points: BTreeSet<UsagePointId>,
    /// By customer class, as the registry has it.
    pub classes: BTreeSet<String>,
}

impl Scope {
    /// Whether a usage point of a class is in it.
    pub fn has(&self, point: &UsagePointId, class: &str) -> bool {
        let all = self.points.is_empty() && self.classes.is_empty();
        all || self.points.contains(point) || self.classes.contains(class)
    }
}

/// Buckets of a calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The calendar's name.
    pub calendar: String,
    /// Names of buckets; none: all of the calendar, in its order.
    pub buckets: Vec<String>,
}

/// What the parts of a determinant must add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseTo {
    /// To nothing else.
    Itself,
    /// To the use of a channel over the cycle, commonly a register.
    UseOf(Channel),
}

/// Windows that a demand is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Their length in seconds.
    pub length_s: i64,
    /// From one to the next, in seconds; equal to the length: blocks one after the other. Divides the length.
    pub step_s: i64,
}

/// How a maximum demand is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peak {
    /// What is measured.
    pub channel: Channel,
    /// The windows, counted from civil midnight.
    pub window: Window,
    /// Only windows that lie whole in these buckets.
    pub within: Option<Within>,
    /// Whether windows with estimates may be the highest.
    pub estimated: bool,
    /// Whether windows in which supply was restored may be the highest.
    pub restored: bool,
    /// 1 for the highest, 2 for the second highest and so on; windows that overlap a higher one do not count.
    pub nth: u16,
    /// Whether only the highest of each civil day counts.
    pub by_day: bool,
    /// No less than a share of what earlier cycles had.
    pub ratchet: Option<Ratchet>,
}

/// A floor under a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratchet {
    /// Share of the highest of earlier cycles, in ‰.
    pub permille: u16,
    /// So many earlier cycles.
    pub cycles: u8,
}

/// By when tiers begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierPeriod {
    /// With each cycle.
    Cycle,
    /// With a day of the year: month and day.
    Year(i8, i8),
}

/// A value that is not metered, such as lamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmeteredItem {
    /// What it is.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// How much each uses.
    pub load: UnmeteredLoad,
}

/// How much an unmetered item uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmeteredLoad {
    /// So much a civil day.
    Daily(Amount),
    /// So much an hour, in the hours of the determinant's buckets, or in all.
    Hourly(Amount),
}

/// The standards of the Chinese rule on power factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PowerFactorStandard {
    /// 0.90
    P90,
    /// 0.85
    P85,
    /// 0.80
    P80,
}

/// How a determinant comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// D1: registers at both ends of the cycle, as read.
    Boundary {
        /// A register.
        channel: Channel,
    },
    /// D2: use over the cycle.
    Use {
        /// A register or interval channel.
        channel: Channel,
    },
    /// D3: use by bucket of a calendar.
    Bucket {
        /// A register or interval channel.
        channel: Channel,
        /// The calendar, and the buckets that are given out.
        within: Within,
        /// What all buckets of the calendar add up to.
        close_to: CloseTo,
    },
    /// D3 by the meter's own tariff registers.
    TariffRegisters {
        /// The register of each bucket, by its name.
        registers: BTreeMap<String, Channel>,
        /// What they must add up to.
        close_to: CloseTo,
    },
    /// D4: maximum demand.
    Peak(Peak),
    /// D5: the highest demand of all points in scope together, and each one's share in it. `nth` and `ratchet` do not hold.
    Coincident(Peak),
    /// D6: cos φ of the cycle's energies, and the adjustment that follows.
    PowerFactor {
        /// Active energy.
        active: Vec<Channel>,
        /// Reactive energy; each counts by its size, so that both ways add up.
        reactive: Vec<Channel>,
        /// `None`: no adjustment.
        standard: Option<PowerFactorStandard>,
    },
    /// D7: use by tiers.
    Tier {
        /// A register or interval channel.
        channel: Channel,
        /// Rising limits; the last tier has none.
        limits: Vec<Amount>,
        /// When they begin anew.
        period: TierPeriod,
        /// Whether limits of a year are for the months from the move-in on only.
        prorate: bool,
    },
    /// D8: use by slots of a common grid.
    Curve {
        /// A register or interval channel.
        channel: Channel,
        /// Seconds of a slot, counted from civil midnight.
        interval_s: i64,
    },
    /// D9: arithmetic over uses and other determinants.
    Formula {
        /// What is computed.
        formula: Formula,
        /// The usage points that `sum(…)` adds up.
        of: Vec<UsagePointId>,
        /// What the result is in.
        unit: String,
    },
    /// D10: what the figures rest on.
    Evidence {
        /// A register or interval channel.
        channel: Channel,
    },
    /// D11: items times a profile.
    Unmetered {
        /// What is there.
        items: Vec<UnmeteredItem>,
        /// When hourly loads burn; `None`: at all hours.
        within: Option<Within>,
        /// What the result is in.
        unit: String,
    },
}

impl Kind {
    /// The word in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Boundary { .. } => "boundary",
            Self::Use { .. } => "use",
            Self::Bucket { .. } => "bucket",
            Self::TariffRegisters { .. } => "tariff_registers",
            Self::Peak(_) => "peak",
            Self::Coincident(_) => "coincident",
            Self::PowerFactor { .. } => "power_factor",
            Self::Tier { .. } => "tier",
            Self::Curve { .. } => "curve",
            Self::Formula { .. } => "formula",
            Self::Evidence { .. } => "evidence",
            Self::Unmetered { .. } => "unmetered",
        }
    }

    /// The calendar and buckets that it goes by.
    pub fn within(&self) -> Option<&Within> {
        match self {
            Self::Bucket { within, .. } => Some(within),
            Self::Peak(peak) | Self::Coincident(peak) => peak.within.as_ref(),
            Self::Unmetered { within, .. } => within.as_ref(),
            _ => None,
        }
    }
}

/// To how many decimals, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    /// Decimals that are kept, 0 to 6.
    pub digits: u8,
    /// Which way.
    pub mode: RoundMode,
}

impl Default for Rounding {
    fn default() -> Self {
        Self { digits: Amount::SCALE, mode: RoundMode::HalfEven }
    }
}

/// Which way a number is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundMode {
    /// To the nearest; halves to the even neighbour.
    HalfEven,
    /// To the nearest; halves away from zero.
    HalfUp,
    /// Towards zero.
    Down,
    /// Away from zero.
    Up,
}

impl Rounding {
    /// Millionths of one step of the last decimal that is kept.
    pub fn step(self) -> i64 {
        10_i64.pow(u32::from(Amount::SCALE.saturating_sub(self.digits)))
    }

    /// A value of `numerator ÷ denominator` units, rounded; `None` when it does not fit or the denominator is not positive.
    pub fn ratio(self, numerator: i128, denominator: i128) -> Option<Amount> {
        if denominator <= 0 {
            return None;
        }
        let step = i128::from(self.step());
        let scaled = numerator.checked_mul(1_000_000)?;
        let divisor = denominator.checked_mul(step)?;
        let (size, sign) = (scaled.checked_abs()?, if scaled < 0 { -1 } else { 1 });
        let steps = match self.mode {
            RoundMode::HalfEven => divide_half_even(size, divisor),
            RoundMode::HalfUp => size.checked_mul(2)?.checked_add(divisor)? / divisor.checked_mul(2)?,
            RoundMode::Down => size / divisor,
            RoundMode::Up => size / divisor + i128::from(size % divisor != 0),
        };
        i64::try_from(sign * steps.checked_mul(step)?).ok().and_then(Amount::from_micros)
    }

    /// An amount, rounded.
    pub fn amount(self, amount: Amount) -> Option<Amount> {
        self.ratio(i128::from(amount.micros()), 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_the_way_that_is_asked_for() {
        use RoundMode::{Down, HalfEven, HalfUp, Up};
        for (text, digits, mode, expected) in [
            ("2.5", 0, HalfEven, "2"),
            ("3.5", 0, HalfEven, "4"),
            ("2.5", 0, HalfUp, "3"),
            ("-2.5", 0, HalfUp, "-3"),
            ("-2.5", 0, HalfEven, "-2"),
            ("2.999", 0, Down, "2"),
            ("-2.999", 0, Down, "-2"),
            ("2.001", 0, Up, "3"),
            ("-2.001", 0, Up, "-3"),
            ("1.2345", 3, HalfEven, "1.234"),
            ("1.2345", 3, HalfUp, "1.235"),
            ("1.234567", 6, Down, "1.234567"),
        ] {
            let rounded = Rounding { digits, mode }.amount(Amount::parse(text).unwrap());
            assert_eq!(rounded, Amount::parse(expected).ok(), "{text} {mode:?}");
        }
        assert_eq!(Rounding::default().ratio(1, 3), Amount::from_micros(333_333));
        assert_eq!(Rounding::default().ratio(1, 0), None);
    }

    #[test]
    fn f11_a_point_in_two_groups_is_in_scope_once() {
        let (a, b) = (UsagePointId::new("A").unwrap(), UsagePointId::new("B").unwrap());
        let scope = Scope { points: [a.clone()].into(), classes: ["industrial".to_owned()].into() };
        assert!(scope.has(&a, "industrial") && scope.has(&a, "residential") && scope.has(&b, "industrial"));
        assert!(!scope.has(&b, "residential"));
        assert!(Scope::default().has(&b, "residential"), "who names nothing means all");
    }
}
