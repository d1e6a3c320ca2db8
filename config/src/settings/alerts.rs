//! `[alerts.leak]` and `[alerts.undervoltage]`. The defaults are those of domain.md, water and voltage.

use meterlake_model::Amount;

use crate::document::Section;
use crate::quantity::{HOUR, MINUTE, decimal_text};

/// When alerts open and end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertsConfig {
    /// Water that runs in every hour.
    pub leak: LeakConfig,
    /// Voltage below its limits, and lost phases.
    pub undervoltage: UndervoltageConfig,
}

impl AlertsConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            leak: LeakConfig::read(section.section("leak")),
            undervoltage: UndervoltageConfig::read(section.section("undervoltage")),
        }
    }
}

/// Which variant of the leak rule runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakRule {
    /// The smallest hour of a sliding window.
    Continuous,
    /// Every hour of a calendar day.
    CalendarDay,
}

/// The leak rule. Flows are in m³ an hour, as the tables hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakConfig {
    /// Which variant.
    pub rule: LeakRule,
    /// An hour at or below it clears, in m³.
    pub above_m3_per_h: Amount,
    /// Length of the sliding window.
    pub window_hours: u16,
    /// So much of the window must be actual.
    pub min_actual_hours: u16,
    /// After this a leak is minor.
    pub minor_after_hours: u16,
    /// After this a strong leak is major.
    pub major_after_hours: u16,
    /// A leak is strong when the smallest hour reaches this, in m³.
    pub major_m3_per_h: Amount,
}

impl Default for LeakConfig {
    fn default() -> Self {
        Self {
            rule: LeakRule::Continuous,
            above_m3_per_h: litres(2_000),
            window_hours: 24,
            min_actual_hours: 22,
            minor_after_hours: 72,
            major_after_hours: 24,
            major_m3_per_h: litres(10_000),
        }
    }
}

/// An amount of m³ from thousandths of a litre, which are its millionths.
fn litres(thousandths: i64) -> Amount {
    Amount::from_micros(thousandths).unwrap_or_default()
}

impl LeakConfig {
    fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        let rules = [("continuous", LeakRule::Continuous), ("calendar_day", LeakRule::CalendarDay)];
        let config = Self {
            rule: s.choice("rule", &rules).unwrap_or(default.rule),
            above_m3_per_h: s.decimal("above_l_per_h", 3, 0..=1_000_000_000).map_or(default.above_m3_per_h, litres),
            window_hours: s.multiple("window", HOUR, 2..=168).unwrap_or(default.window_hours),
            min_actual_hours: s.multiple("min_actual", HOUR, 1..=168).unwrap_or(default.min_actual_hours),
            minor_after_hours: s.multiple("minor_after", HOUR, 1..=2400).unwrap_or(default.minor_after_hours),
            major_after_hours: s.multiple("major_after", HOUR, 1..=2400).unwrap_or(default.major_after_hours),
            major_m3_per_h: s.decimal("major_l_per_h", 3, 0..=1_000_000_000).map_or(default.major_m3_per_h, litres),
        };
        if config.min_actual_hours > config.window_hours {
            s.refuse("min_actual", format_args!("is more than the window of {}h", config.window_hours));
        }
        if config.major_m3_per_h < config.above_m3_per_h {
            let litres = decimal_text(config.major_m3_per_h.micros(), 3);
            s.refuse("major_l_per_h", format_args!("is {litres}, less than `above_l_per_h`"));
        }
        config
    }
}

/// Limits of the supply voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoltageLimits {
    /// EN 50160, low voltage.
    En50160,
    /// GB/T 12325.
    Gbt12325,
    /// ANSI C84.1, service voltage.
    AnsiC84,
    /// Limits of one's own.
    Own {
        /// Between phase and neutral where the registry names none, in 0.1 V.
        nominal_dv: i64,
        /// Lower limit in ‰ of nominal.
        low_permille: u16,
        /// Below this it is severe, in ‰ of nominal.
        severe_permille: u16,
    },
}

/// The voltage rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndervoltageConfig {
    /// Which limits.
    pub limits: VoltageLimits,
    /// So many consecutive bad readings open an alert, …
    pub open_readings: u16,
    /// … if they cover at least so many minutes.
    pub open_minutes: u16,
    /// So many consecutive good readings end it.
    pub close_readings: u16,
    /// A reading is good when it is above the limit by this, in ‰ of nominal.
    pub hysteresis_permille: u16,
    /// Below this it is an interruption, in ‰ of nominal.
    pub interruption_permille: u16,
    /// A phase between the interruption and this is lost, in ‰ of nominal, …
    pub lost_phase_permille: u16,
    /// … while another reaches this.
    pub standing_phase_permille: u16,
    /// Share of a transformer's meters that make one incident, in %.
    pub incident_percent: u16,
    /// The fewest meters that make one incident.
    pub incident_min_meters: u16,
}

impl Default for UndervoltageConfig {
    fn default() -> Self {
        Self {
            limits: VoltageLimits::En50160,
            open_readings: 2,
            open_minutes: 10,
            close_readings: 2,
            hysteresis_permille: 20,
            interruption_permille: 50,
            lost_phase_permille: 800,
            standing_phase_permille: 900,
            incident_percent: 50,
            incident_min_meters: 3,
        }
    }
}

/// What `profile = "own"` asks for.
const OWN: [&str; 3] = ["nominal_v", "low_percent", "severe_percent"];

impl UndervoltageConfig {
    fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        let limits = read_limits(s);
        // Low voltage in China opens after an hour (domain.md, voltage).
        let usual_minutes = if limits == VoltageLimits::Gbt12325 { 60 } else { default.open_minutes };
        let config = Self {
            limits,
            open_readings: s.integer("open_readings", 1..=100_u16).unwrap_or(default.open_readings),
            open_minutes: s.multiple("open_after", MINUTE, 0..=1440).unwrap_or(usual_minutes),
            close_readings: s.integer("close_readings", 1..=100_u16).unwrap_or(default.close_readings),
            hysteresis_permille: s.permille("hysteresis_percent", 0..=100).unwrap_or(default.hysteresis_permille),
            interruption_permille: s.permille("interruption_percent", 0..=500).unwrap_or(default.interruption_permille),
            lost_phase_permille: s.permille("lost_phase_percent", 0..=1000).unwrap_or(default.lost_phase_permille),
            standing_phase_permille: s
                .permille("standing_phase_percent", 0..=1000)
                .unwrap_or(default.standing_phase_permille),
            incident_percent: s.integer("incident_percent", 1..=100_u16).unwrap_or(default.incident_percent),
            incident_min_meters: s.integer("incident_min_meters", 2..=1000_u16).unwrap_or(default.incident_min_meters),
        };
        if config.lost_phase_permille > config.standing_phase_permille {
            s.refuse("lost_phase_percent", "is more than `standing_phase_percent`");
        }
        if config.interruption_permille > config.lost_phase_permille {
            s.refuse("interruption_percent", "is more than `lost_phase_percent`");
        }
        config
    }
}

fn read_limits(s: &mut Section<'_>) -> VoltageLimits {
    // The figures of one's own stand in beside a word that is not read further.
    let own = VoltageLimits::Own { nominal_dv: 0, low_permille: 0, severe_permille: 0 };
    let words = [
        ("en50160", VoltageLimits::En50160),
        ("gbt12325", VoltageLimits::Gbt12325),
        ("ansi_c84", VoltageLimits::AnsiC84),
        ("own", own),
    ];
    let limits = s.choice("profile", &words).unwrap_or(UndervoltageConfig::default().limits);
    let nominal_dv = s.decimal("nominal_v", 1, 10..=10_000_000);
    let low_permille = s.permille("low_percent", 1..=1000);
    let severe_permille = s.permille("severe_percent", 0..=1000);
    if limits != own {
        for key in OWN.into_iter().filter(|key| s.has(key)) {
            s.refuse(key, "is for `profile = \"own\"`");
        }
        return limits;
    }
    let nominal_dv = s.required("nominal_v", nominal_dv);
    let low_permille = s.required("low_percent", low_permille);
    let severe_permille = s.required("severe_percent", severe_permille);
    let (Some(nominal_dv), Some(low_permille), Some(severe_permille)) = (nominal_dv, low_permille, severe_permille)
    else {
        return limits;
    };
    if severe_permille > low_permille {
        s.refuse("severe_percent", "is more than `low_percent`");
    }
    VoltageLimits::Own { nominal_dv, low_permille, severe_permille }
}
