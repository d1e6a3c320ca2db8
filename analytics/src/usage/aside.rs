//! What is set aside before anything else is decided: readings that the register cannot show, and those that the meter itself
//! does not vouch for.
//!
//! Nothing looks at them again, neither a choice between values of one time nor a look ahead.

use meterlake_model::registry::InstallationChannel;
use meterlake_model::{Amount, ChannelKind, ReadingFlags};

use super::Reading;
use super::finding::{Finding, Rule, Severity};
use super::register::range;

/// What a channel can show.
struct Shows {
    /// Registers stay below; without digits on file nothing is known of it.
    below: Option<i64>,
    /// One step of the last decimal. `None` where every value that is stored is a step.
    step: Option<i64>,
    register: bool,
}

impl Shows {
    fn new(channel: &InstallationChannel) -> Self {
        let register = channel.channel.kind() == ChannelKind::Register;
        let step = step_of_decimals(channel.resolution.micros());
        let stored = 10_i64.pow(u32::from(Amount::SCALE.saturating_sub(channel.channel.scale())));
        Self { below: range(channel), step: Some(step).filter(|step| register && *step > stored), register }
    }

    fn is_sound(&self, row: &Reading) -> bool {
        let value = row.value.micros();
        let shown = value >= 0
            && self.below.is_none_or(|below| value < below)
            && self.step.is_none_or(|step| value % step == 0);
        (shown || !self.register) && !row.flags.intersects(ReadingFlags::UNTRUSTED)
    }

    /// Why a reading is not sound: the rule, what it was held against, and in words.
    fn complaint(&self, row: &Reading) -> (Rule, Option<i64>, String) {
        let value = row.value.micros();
        if row.flags.intersects(ReadingFlags::UNTRUSTED) {
            let marks: Vec<_> = row.flags.common(ReadingFlags::UNTRUSTED).names().collect();
            return (Rule::V07, None, format!("the meter marks reading {} with {}", row.value, marks.join(", ")));
        }
        match (self.below, self.step) {
            _ if value < 0 => (Rule::V15, Some(0), format!("reading {} is less than nothing", row.value)),
            (Some(below), _) if value >= below => {
                (Rule::V15, Some(below), format!("reading {} has more digits than the register", row.value))
            }
            (_, step) => (Rule::V15, step, format!("reading {} has more decimals than the register", row.value)),
        }
    }
}

/// 1 at its last decimal: 0.01 for a resolution of 0.05, and 1 for 10.
fn step_of_decimals(resolution: i64) -> i64 {
    let mut step = 1;
    while step < 1_000_000 && resolution % (step * 10) == 0 {
        step *= 10;
    }
    step
}

/// Takes the readings out that are not sound, and tells of each.
pub(super) fn set_aside(rows: &mut Vec<Reading>, channel: &InstallationChannel, installation: usize) -> Vec<Finding> {
    let shows = Shows::new(channel);
    let mut findings: Vec<Finding> = Vec::new();
    if rows.iter().all(|row| shows.is_sound(row)) {
        return findings;
    }
    rows.retain(|row| {
        if shows.is_sound(row) {
            return true;
        }
        let (rule, limit, evidence) = shows.complaint(row);
        let finding = Finding {
            rule,
            severity: Severity::Issue,
            start: row.ts,
            end: row.ts,
            measured: Some(row.value),
            limit: limit.and_then(Amount::from_micros),
            installation,
            evidence,
        };
        // What is sent again is told once.
        if findings.last() != Some(&finding) {
            findings.push(finding);
        }
        false
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolution_has_decimals() {
        for (resolution, expected) in
            [("0.001", "0.001"), ("0.1", "0.1"), ("0.05", "0.01"), ("0.037854", "0.000001"), ("1", "1"), ("10", "1")]
        {
            let micros = |text: &str| Amount::parse(text).unwrap().micros();
            assert_eq!(step_of_decimals(micros(resolution)), micros(expected), "{resolution}");
        }
    }
}
