//! Undervoltage and phase loss at one meter, from the voltages of its readings.
//!
//! A reading below the limit counts towards an alert; one above the limit by the hysteresis counts towards its end; what
//! lies between does neither. Below 5 % of the nominal voltage it is an interruption, which is another matter. Readings
//! that do not follow each other at the meter's own pace are not consecutive: silence is no data.

use meterlake_model::{Amount, Timestamp};

use super::{Episode, EvidenceRow, MachineStep, MachineStepKind, Rule, Severity};

/// A set of limits that a country uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoltageProfile {
    /// EN 50160, low voltage: −10 %, never below −15 %.
    En50160,
    /// GB/T 12325: −10 % on one phase, −7 % on three.
    Gb12325,
    /// ANSI C84.1, service voltage: range A (−5 %), range B (−8.33 %).
    AnsiC84,
    /// Limits of one's own.
    Own {
        /// Voltage between phase and neutral where the registry names none, in 0.1 V.
        nominal_dv: i64,
        /// Lower limit in ‰ of nominal.
        low_permille: u16,
        /// Below this it is severe, in ‰ of nominal.
        severe_permille: u16,
    },
}

impl VoltageProfile {
    /// All profiles that have a name.
    pub const NAMED: [Self; 3] = [Self::En50160, Self::Gb12325, Self::AnsiC84];

    /// The name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En50160 => "EN 50160",
            Self::Gb12325 => "GB/T 12325",
            Self::AnsiC84 => "ANSI C84.1",
            Self::Own { .. } => "own",
        }
    }

    /// Reads the name of a named one back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|p| p.as_str() == text)
    }

    /// Voltage between phase and neutral where the registry names none, in 0.1 V.
    pub const fn nominal_dv(self) -> i64 {
        match self {
            Self::En50160 => 2300,
            Self::Gb12325 => 2200,
            Self::AnsiC84 => 1200,
            Self::Own { nominal_dv, .. } => nominal_dv,
        }
    }

    /// Lower limit and the limit below which it is severe, in ‰ of nominal.
    fn low_permille(self, phases: usize) -> (i64, i64) {
        match self {
            Self::En50160 => (900, 850),
            Self::Gb12325 if phases > 1 => (930, 880),
            Self::Gb12325 => (900, 850),
            // 114 V and 110 V of 120 V; limits are rounded up to 0.1 V, so that 916 ‰ of 120 V is 110.0 V.
            Self::AnsiC84 => (950, 916),
            Self::Own { low_permille, severe_permille, .. } => (i64::from(low_permille), i64::from(severe_permille)),
        }
    }
}

/// Limits and dwell of the voltage rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoltageRules {
    /// Which limits.
    pub profile: VoltageProfile,
    /// So many consecutive bad readings open an alert, …
    pub open_readings: u16,
    /// … if together they cover at least so many minutes.
    pub open_minutes: u16,
    /// So many consecutive good readings end it.
    pub close_readings: u16,
    /// A reading is good when it is above the limit by this share of nominal, in ‰.
    pub hysteresis_permille: u16,
    /// Below this share of nominal, in ‰, the supply is interrupted.
    pub interruption_permille: u16,
    /// Phase loss: a phase between the interruption and this share of nominal, in ‰, …
    pub lost_phase_permille: u16,
    /// … while another reaches this share, in ‰.
    pub standing_phase_permille: u16,
    /// An incident needs this share of a transformer's meters, in %, …
    pub incident_percent: u16,
    /// … and at least so many.
    pub incident_min_meters: u16,
}

impl Default for VoltageRules {
    fn default() -> Self {
        Self {
            profile: VoltageProfile::En50160,
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

/// What one reading says about the phases, in 0.1 V; `None` where the meter says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoltageReading {
    /// The meter's time.
    pub ts: Timestamp,
    /// L1, L2, L3 against neutral.
    pub phases_dv: [Option<i64>; 3],
}

/// Finds undervoltage and phase loss in the readings of one meter. `readings` rise by their time; `nominal_dv` is in
/// 0.1 V, `interval_s` what usually lies between two readings.
pub fn find(
    readings: impl IntoIterator<Item = VoltageReading>,
    nominal_dv: Option<i64>,
    interval_s: i64,
    rules: &VoltageRules,
) -> Vec<Episode> {
    let nominal_dv = nominal_dv.unwrap_or(rules.profile.nominal_dv());
    let judge = Judge { nominal_dv, rules };
    let mut low = Dwell::new(Rule::Undervoltage, interval_s, rules);
    let mut lost = Dwell::new(Rule::PhaseLoss, interval_s, rules);
    for reading in readings {
        let (low_verdict, lost_verdict) = judge.judge(&reading);
        low.take(reading.ts, low_verdict);
        lost.take(reading.ts, lost_verdict);
    }
    let mut found = low.finish();
    found.extend(lost.finish());
    found.sort_by_key(|e| (e.start, e.rule));
    found
}

/// What a reading says to one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Bad {
        lowest_dv: i64,
        limit_dv: i64,
        severe: bool,
    },
    Between,
    Good,
    /// Nothing to judge by.
    Silent,
}

struct Judge<'a> {
    nominal_dv: i64,
    rules: &'a VoltageRules,
}

impl Judge<'_> {
    /// The limit in 0.1 V, rounded up, so that a reading of tenths is below the limit exactly when it is below this.
    fn share(&self, permille: i64) -> i64 {
        (self.nominal_dv * permille).div_euclid(1000) + i64::from((self.nominal_dv * permille).rem_euclid(1000) != 0)
    }

    /// Verdicts of undervoltage and of phase loss.
    fn judge(&self, reading: &VoltageReading) -> (Verdict, Verdict) {
        let dead = self.share(i64::from(self.rules.interruption_permille));
        let live = || reading.phases_dv.into_iter().flatten().filter(|v| *v >= dead);
        let (Some(lowest), Some(highest)) = (live().min(), live().max()) else {
            return (Verdict::Silent, Verdict::Silent);
        };
        let lost_limit = self.share(i64::from(self.rules.lost_phase_permille));
        let standing = highest >= self.share(i64::from(self.rules.standing_phase_permille));
        // A phase that is not connected reads zero: below the interruption limit it proves no loss.
        if standing && lowest <= lost_limit && live().count() > 1 {
            let lost = Verdict::Bad { lowest_dv: lowest, limit_dv: lost_limit, severe: true };
            return (Verdict::Silent, lost);
        }
        let (limit, severe) = self.rules.profile.low_permille(live().count());
        let (limit_dv, severe_dv) = (self.share(limit), self.share(severe));
        let good_dv = self.share(limit + i64::from(self.rules.hysteresis_permille));
        let low = if lowest < limit_dv {
            Verdict::Bad { lowest_dv: lowest, limit_dv, severe: lowest < severe_dv }
        } else if lowest < good_dv {
            Verdict::Between
        } else {
            Verdict::Good
        };
        let lost = if live().count() > 1 { Verdict::Good } else { Verdict::Silent };
        (low, lost)
    }
}

#[derive(Clone, Copy)]
struct BadReading {
    ts: Timestamp,
    lowest_dv: i64,
    limit_dv: i64,
}

/// Opens after enough bad readings in a row, ends after enough good ones.
struct Dwell<'a> {
    rule: Rule,
    interval_s: i64,
    rules: &'a VoltageRules,
    last: Option<Timestamp>,
    /// Bad readings in a row while nothing is open.
    run: Vec<BadReading>,
    severe_in_a_row: u16,
    good_in_a_row: (u16, Option<Timestamp>),
    open: Option<Episode>,
    found: Vec<Episode>,
}

impl<'a> Dwell<'a> {
    fn new(rule: Rule, interval_s: i64, rules: &'a VoltageRules) -> Self {
        let interval_s = interval_s.max(1);
        Self {
            rule,
            interval_s,
            rules,
            last: None,
            run: Vec::new(),
            severe_in_a_row: 0,
            good_in_a_row: (0, None),
            open: None,
            found: Vec::new(),
        }
    }

    fn take(&mut self, ts: Timestamp, verdict: Verdict) {
        // Half an interval of patience for clocks that are not exact.
        let patience_us = self.interval_s.saturating_mul(1_500_000);
        let consecutive = self.last.is_some_and(|last| ts.micros_since(last) <= patience_us);
        if verdict != Verdict::Silent {
            self.last = Some(ts);
        }
        if !consecutive {
            self.forget_runs();
        }
        match verdict {
            Verdict::Bad { lowest_dv, limit_dv, severe } => self.bad(ts, lowest_dv, limit_dv, severe),
            Verdict::Good => self.good(ts),
            Verdict::Between | Verdict::Silent => self.forget_runs(),
        }
    }

    fn forget_runs(&mut self) {
        self.run.clear();
        self.severe_in_a_row = 0;
        self.good_in_a_row = (0, None);
    }

    fn bad(&mut self, ts: Timestamp, lowest_dv: i64, limit_dv: i64, severe: bool) {
        self.good_in_a_row = (0, None);
        self.severe_in_a_row = if severe { self.severe_in_a_row.saturating_add(1) } else { 0 };
        if let Some(episode) = &mut self.open {
            let value = volts(lowest_dv);
            episode.last_seen = ts;
            episode.occurrences += 1;
            if value < episode.measured {
                episode.measured = value;
            }
            episode.show(EvidenceRow { ts, value, what: "reading" });
        } else {
            self.run.push(BadReading { ts, lowest_dv, limit_dv });
            self.open_if_due(ts);
        }
        if self.severe_in_a_row >= self.rules.open_readings
            && let Some(episode) = &mut self.open
        {
            episode.raise(Severity::Major, ts);
        }
    }

    fn open_if_due(&mut self, now: Timestamp) {
        let Some(&BadReading { ts: start, limit_dv, .. }) = self.run.first() else { return };
        // A reading stands for the interval before it, so that two quarters of an hour cover half an hour.
        let covered_s = now.micros_since(start) / 1_000_000 + self.interval_s;
        let due = self.run.len() >= usize::from(self.rules.open_readings)
            && covered_s >= i64::from(self.rules.open_minutes) * 60;
        if !due {
            return;
        }
        let severe = self.severe_in_a_row >= self.rules.open_readings;
        let severity = if severe { Severity::Major } else { Severity::Minor };
        let mut episode = Episode {
            rule: self.rule,
            severity,
            start,
            last_seen: now,
            end: None,
            measured: self.run.iter().map(|r| volts(r.lowest_dv)).min().unwrap_or_default(),
            limit: volts(limit_dv),
            loss_m3: None,
            occurrences: u32::try_from(self.run.len()).unwrap_or(u32::MAX),
            steps: vec![MachineStep { at: now, kind: MachineStepKind::Opened, severity }],
            evidence: Vec::new(),
        };
        for BadReading { ts, lowest_dv, .. } in self.run.drain(..) {
            episode.show(EvidenceRow { ts, value: volts(lowest_dv), what: "reading" });
        }
        self.open = Some(episode);
    }

    fn good(&mut self, ts: Timestamp) {
        self.run.clear();
        self.severe_in_a_row = 0;
        let (count, first) = self.good_in_a_row;
        let first = first.unwrap_or(ts);
        self.good_in_a_row = (count.saturating_add(1), Some(first));
        if count + 1 >= self.rules.close_readings
            && let Some(mut episode) = self.open.take()
        {
            episode.clear(first, ts);
            self.found.push(episode);
        }
    }

    fn finish(mut self) -> Vec<Episode> {
        self.found.extend(self.open);
        self.found
    }
}

/// From 0.1 V to the amount in V.
fn volts(decivolts: i64) -> Amount {
    Amount::from_scaled(decivolts, 1).unwrap_or_default()
}

#[cfg(test)]
mod tests;
