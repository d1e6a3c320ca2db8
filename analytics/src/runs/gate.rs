//! The gates of a bill: what must be so before it goes out, what waits until the deadline, and what holds it.

use meterlake_model::CivilDay;

/// When a bill may go out. The defaults are the domain's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRules {
    /// A boundary is good when it was read, or when a reading lies within so many days of it.
    pub boundary_days: i64,
    /// Up to so many millionths of the use may be estimated.
    pub estimated_ppm: i64,
    /// After the deadline a bill goes out with estimates of up to so many millionths.
    pub late_estimated_ppm: i64,
    /// So many days after the cycle a bill no longer waits for readings.
    pub deadline_days: i32,
    /// A bill is held when the last actual boundary lies more than so many days before its end (V26).
    pub last_actual_days: i32,
    /// So many cycles in a row may rest on an estimated end; the next one is held (V26).
    pub estimated_cycles: i32,
}

impl Default for GateRules {
    fn default() -> Self {
        Self {
            boundary_days: 2,
            estimated_ppm: 50_000,
            late_estimated_ppm: 500_000,
            deadline_days: 3,
            last_actual_days: 90,
            estimated_cycles: 3,
        }
    }
}

impl GateRules {
    /// The first day on which a bill whose cycle ends before `end_day` no longer waits.
    pub fn deadline(&self, end_day: CivilDay) -> CivilDay {
        end_day.plus_days(self.deadline_days)
    }
}

/// What the gates look at: one bill as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The day after the cycle's last.
    pub end_day: CivilDay,
    /// The day for which is asked. No clock is looked at.
    pub today: CivilDay,
    /// Seconds from the start to the nearest accepted reading: 0 where it was read or derived; `None`: nothing near.
    pub start_off_s: Option<i64>,
    /// As `start_off_s`, of the end.
    pub end_off_s: Option<i64>,
    /// What of the use is estimated, in millionths; `None` where no use is known at all.
    pub estimated_ppm: Option<i64>,
    /// Whether a part of the use has no register behind it.
    pub unscaled: bool,
    /// The day of the last boundary that was read or derived, up to the end of the cycle.
    pub last_actual: Option<CivilDay>,
    /// How many cycles in a row before this one ended on an estimate.
    pub estimated_before: i32,
    /// Parts of the cycle of which nothing is known.
    pub missing: Vec<Unmet>,
    /// What stops the bill whatever the day is: findings, missing meters.
    pub stops: Vec<Unmet>,
}

/// A gate that is not met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// `not_over`, `start`, `end`, `estimated`, `unscaled`, `nothing`, `long_estimate`, or the code of what stops it.
    pub code: String,
    /// What it is about. The same code with another subject is another reason.
    pub subject: String,
    /// In words.
    pub detail: String,
}

impl Unmet {
    /// What a release names: a reason that changes is a new one.
    pub fn key(&self) -> String {
        if self.subject.is_empty() { self.code.clone() } else { format!("{}@{}", self.code, self.subject) }
    }
}

/// What the gates say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// All are met, or what is missing is little enough after the deadline.
    Open {
        /// What was not met and is passed over, for the record.
        despite: Vec<Unmet>,
    },
    /// Time may mend it: before the deadline.
    Wait(Vec<Unmet>),
    /// A person or a new fact must.
    Hold(Vec<Unmet>),
}

/// Asks the gates.
pub fn gate(facts: &Facts, rules: &GateRules) -> Gate {
    let unmet = |code: &str, detail: String| Unmet { code: code.to_owned(), subject: String::new(), detail };
    if facts.today < facts.end_day {
        let detail = format!("the cycle ends on {}", facts.end_day.plus_days(-1));
        return Gate::Wait(vec![unmet("not_over", detail)]);
    }
    if !facts.stops.is_empty() {
        let mut stops = facts.stops.clone();
        stops.sort();
        stops.dedup();
        return Gate::Hold(stops);
    }
    let mut missing = Vec::new();
    let near = |off: Option<i64>| off.is_some_and(|off| off <= rules.boundary_days * 86_400);
    for (code, off) in [("start", facts.start_off_s), ("end", facts.end_off_s)] {
        if !near(off) {
            missing.push(unmet(code, format!("no reading within {} days of the {code}", rules.boundary_days)));
        }
    }
    match facts.estimated_ppm {
        None => missing.push(unmet("nothing", "no use is known".to_owned())),
        Some(ppm) if ppm > rules.estimated_ppm => {
            missing.push(unmet("estimated", format!("{} is estimated", percent(ppm))));
        }
        Some(_) => {}
    }
    missing.extend(facts.missing.iter().cloned());
    if facts.unscaled {
        missing.push(unmet("unscaled", "a part of the use has no register behind it".to_owned()));
    }
    if missing.is_empty() {
        return Gate::Open { despite: Vec::new() };
    }
    if facts.today < rules.deadline(facts.end_day) {
        return Gate::Wait(missing);
    }
    // What nobody knows is not billed unasked.
    let mut holds: Vec<Unmet> = missing.iter().filter(|m| m.code == "nothing").chain(&facts.missing).cloned().collect();
    if let Some(ppm) = facts.estimated_ppm.filter(|ppm| *ppm > rules.late_estimated_ppm) {
        holds.push(unmet("estimated", format!("{} is estimated", percent(ppm))));
    }
    holds.extend(long_estimate(facts, rules));
    if holds.is_empty() { Gate::Open { despite: missing } } else { Gate::Hold(holds) }
}

/// V26: the last actual boundary lies too far back.
fn long_estimate(facts: &Facts, rules: &GateRules) -> Option<Unmet> {
    let detail = match facts.last_actual {
        _ if facts.end_off_s == Some(0) => return None,
        Some(day) if day.plus_days(rules.last_actual_days) < facts.end_day => {
            format!("V26: the last actual reading is of {day}, more than {} days before", rules.last_actual_days)
        }
        _ if facts.estimated_before >= rules.estimated_cycles => {
            format!("V26: {} cycles before ended on an estimate", facts.estimated_before)
        }
        _ => return None,
    };
    Some(Unmet { code: "long_estimate".to_owned(), subject: String::new(), detail })
}

/// Millionths as a percentage with two decimals.
fn percent(ppm: i64) -> String {
    let hundredths = (ppm + 50) / 100;
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
