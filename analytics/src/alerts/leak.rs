//! Customer leaks: water that runs in every hour.
//!
//! Two variants. [`find`] slides over hours: the smallest of 24 hours above the floor, 22 of them actual. [`find_days`]
//! asks for a whole calendar day above the floor. Both take hours in order of time, and only actual ones count:
//! an estimate or a missing hour neither raises nor clears. No leak seen is no proof that there is none, since a small
//! leak may lie below what the meter can feel.

use std::collections::VecDeque;

use meterlake_model::{Amount, CivilDay, Timestamp, Zone};

use super::{Episode, EvidenceRow, MAX_EVIDENCE, MachineStep, MachineStepKind, Rule, Severity};

const HOUR_S: i64 = 3600;
const HOUR_US: i64 = 3_600_000_000;

/// Which variant of the rule runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakVariant {
    /// The smallest of any 24 hours in a row.
    SlidingDay,
    /// Every hour of a calendar day.
    CalendarDay,
}

/// Limits of the leak rule. Flows are in m³ an hour (0.002 is 2 L/h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakRules {
    /// Which variant runs.
    pub variant: LeakVariant,
    /// An hour at or below it is no leak.
    pub floor_m3h: Amount,
    /// Length of the sliding window in hours.
    pub window_hours: u16,
    /// Hours of the window that must be actual.
    pub min_actual_hours: u16,
    /// After so many hours a leak is minor.
    pub minor_after_hours: u16,
    /// After so many hours a strong leak is major.
    pub major_after_hours: u16,
    /// A leak is strong when the window's smallest hour reaches this.
    pub major_m3h: Amount,
}

impl Default for LeakRules {
    fn default() -> Self {
        Self {
            variant: LeakVariant::SlidingDay,
            floor_m3h: litres(2),
            window_hours: 24,
            min_actual_hours: 22,
            minor_after_hours: 72,
            major_after_hours: 24,
            major_m3h: litres(10),
        }
    }
}

const fn litres(litres: i64) -> Amount {
    match Amount::from_micros(litres * 1000) {
        Some(amount) => amount,
        None => Amount::ZERO,
    }
}

/// Use of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourUse {
    /// Its first instant.
    pub start: Timestamp,
    /// In m³.
    pub volume: Amount,
    /// Whether it was read (or follows from readings); estimates are not actual.
    pub actual: bool,
}

impl HourUse {
    fn end(&self) -> Timestamp {
        self.start.plus_seconds(HOUR_S)
    }
}

/// Episodes of the sliding rule, in order of time. `hours` rise by their start.
///
/// An episode begins with the first actual hour of the first window that fulfils the rule, and ends with the first
/// actual hour at or below the floor. The rate is the smallest hour, the loss is that rate times the actual hours: at least so much.
pub fn find(hours: impl IntoIterator<Item = HourUse>, rules: &LeakRules) -> Vec<Episode> {
    let mut walk = Walk { rules, window: VecDeque::new(), quiet_until: None, open: None, found: Vec::new() };
    for hour in hours.into_iter().filter(|h| h.actual) {
        walk.take(hour);
    }
    walk.finish()
}

struct Walk<'a> {
    rules: &'a LeakRules,
    /// Actual hours above the floor within one window's length.
    window: VecDeque<HourUse>,
    /// End of the last hour at or below the floor: no window may reach back behind it.
    quiet_until: Option<Timestamp>,
    open: Option<Episode>,
    found: Vec<Episode>,
}

impl Walk<'_> {
    fn take(&mut self, hour: HourUse) {
        if hour.volume <= self.rules.floor_m3h {
            if let Some(mut episode) = self.open.take() {
                episode.clear(hour.start, hour.end());
                self.found.push(episode);
            }
            self.window.clear();
            self.quiet_until = Some(hour.end());
            return;
        }
        let window_start = hour.end().plus_seconds(-HOUR_S * i64::from(self.rules.window_hours));
        self.window.push_back(hour);
        while self.window.front().is_some_and(|h| h.start < window_start) {
            self.window.pop_front();
        }
        let full = self.window.len() >= usize::from(self.rules.min_actual_hours);
        match &mut self.open {
            Some(episode) => {
                episode.occurrences += 1;
                episode.measured = episode.measured.min(per_hour(hour.volume));
                episode.last_seen = hour.end();
            }
            None if full && self.quiet_until.is_none_or(|end| end <= window_start) => {
                self.open = Some(opened(&self.window, hour.end(), self.rules));
            }
            None => return,
        }
        self.judge(hour.end(), full);
    }

    fn judge(&mut self, now: Timestamp, full: bool) {
        let Some(episode) = &mut self.open else { return };
        let age_h = now.micros_since(episode.start) / HOUR_US;
        let smallest = self.window.iter().map(|h| h.volume).min().unwrap_or_default();
        let strong = full && smallest >= self.rules.major_m3h;
        if strong && age_h >= i64::from(self.rules.major_after_hours) {
            episode.raise(Severity::Major, now);
        } else if age_h >= i64::from(self.rules.minor_after_hours) {
            episode.raise(Severity::Minor, now);
        }
        episode.loss_m3 = loss(episode.measured, i64::from(episode.occurrences));
    }

    fn finish(mut self) -> Vec<Episode> {
        self.found.extend(self.open);
        self.found
    }
}

fn opened(window: &VecDeque<HourUse>, now: Timestamp, rules: &LeakRules) -> Episode {
    let start = window.front().map_or(now, |h| h.start);
    let smallest = window.iter().map(|h| h.volume).min().unwrap_or_default();
    let evidence =
        window.iter().take(MAX_EVIDENCE).map(|h| EvidenceRow { ts: h.start, value: per_hour(h.volume), what: "hour" });
    Episode {
        rule: Rule::Leak,
        severity: Severity::Suspect,
        start,
        last_seen: now,
        end: None,
        measured: per_hour(smallest),
        limit: per_hour(rules.floor_m3h),
        loss_m3: None,
        occurrences: u32::try_from(window.len()).unwrap_or(u32::MAX),
        steps: vec![MachineStep { at: now, kind: MachineStepKind::Opened, severity: Severity::Suspect }],
        evidence: evidence.collect(),
    }
}

/// From m³ in an hour to L/h; what would not fit is not a customer's flow.
fn per_hour(volume: Amount) -> Amount {
    volume.checked_scale(1_000_000_000).unwrap_or(volume)
}

/// Rate in L/h times hours, in m³.
fn loss(rate: Amount, hours: i64) -> Option<Amount> {
    rate.proportion(hours, 1000)
}

/// Days of which every hour is actual and above the floor, with the smallest hour of each. `hours` rise by their start.
pub fn leaking_days(
    hours: impl IntoIterator<Item = HourUse>,
    zone: &Zone,
    rules: &LeakRules,
) -> Vec<(CivilDay, Amount)> {
    days(hours, zone, rules)
        .into_iter()
        .filter(|d| d.verdict == Verdict::Leaking)
        .map(|d| (d.day, d.smallest))
        .collect()
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Verdict {
    /// Every hour of the day is actual and above the floor.
    Leaking,
    /// At least one actual hour is at or below the floor.
    Dry,
    /// Hours are missing, and none of the others is at or below the floor.
    Unknown,
}

struct Day {
    day: CivilDay,
    smallest: Amount,
    verdict: Verdict,
}

fn days(hours: impl IntoIterator<Item = HourUse>, zone: &Zone, rules: &LeakRules) -> Vec<Day> {
    let mut found: Vec<Day> = Vec::new();
    let (mut end, mut above, mut wanted) = (None::<Timestamp>, 0_i64, 0_i64);
    for hour in hours.into_iter().filter(|h| h.actual) {
        if end.is_none_or(|end| hour.start >= end) {
            let day = zone.day_of(hour.start);
            let (from, to) = zone.span_of_day(day);
            (end, above, wanted) = (Some(to), 0, to.micros_since(from));
            found.push(Day { day, smallest: hour.volume, verdict: Verdict::Unknown });
        }
        let Some(day) = found.last_mut() else { continue };
        day.smallest = day.smallest.min(hour.volume);
        if hour.volume > rules.floor_m3h {
            above += HOUR_US;
        } else {
            day.verdict = Verdict::Dry;
        }
        if day.verdict != Verdict::Dry && above == wanted {
            day.verdict = Verdict::Leaking;
        }
    }
    found
}

/// Episodes of the calendar variant: days in a row are one episode, a day with a quiet hour ends it, and a day of which
/// hours are missing does neither.
pub fn find_days(hours: impl IntoIterator<Item = HourUse>, zone: &Zone, rules: &LeakRules) -> Vec<Episode> {
    let mut found = Vec::new();
    let (mut open, mut leaking_hours) = (None::<Episode>, 0_i64);
    for day in days(hours, zone, rules) {
        let (from, to) = zone.span_of_day(day.day);
        match day.verdict {
            Verdict::Unknown => {}
            Verdict::Dry => {
                if let Some(mut episode) = open.take() {
                    episode.clear(episode.last_seen, to);
                    found.push(episode);
                    leaking_hours = 0;
                }
            }
            Verdict::Leaking => {
                let episode = open.get_or_insert_with(|| Episode {
                    rule: Rule::LeakCalendarDay,
                    severity: Severity::Suspect,
                    start: from,
                    last_seen: to,
                    end: None,
                    measured: per_hour(day.smallest),
                    limit: per_hour(rules.floor_m3h),
                    loss_m3: None,
                    occurrences: 0,
                    steps: vec![MachineStep { at: to, kind: MachineStepKind::Opened, severity: Severity::Suspect }],
                    evidence: Vec::new(),
                });
                episode.occurrences += 1;
                episode.last_seen = to;
                episode.measured = episode.measured.min(per_hour(day.smallest));
                episode.show(EvidenceRow { ts: from, value: per_hour(day.smallest), what: "day" });
                let age_h = to.micros_since(episode.start) / HOUR_US;
                if day.smallest >= rules.major_m3h && age_h >= i64::from(rules.major_after_hours) {
                    episode.raise(Severity::Major, to);
                } else if age_h >= i64::from(rules.minor_after_hours) {
                    episode.raise(Severity::Minor, to);
                }
                leaking_hours += to.micros_since(from) / HOUR_US;
                episode.loss_m3 = loss(episode.measured, leaking_hours);
            }
        }
    }
    found.extend(open);
    found
}

#[cfg(test)]
mod tests;
