//! Alerts: what a rule found about one subject, as an episode with a start, a severity and its evidence.
//!
//! The rules are pure: they take values in order of time and give back [`Episode`]s. Estimates never raise or clear one,
//! and silence is no data. An episode becomes an [`Alert`] when it is joined with the registry, and its identity is the
//! hash of rule, subject and start, so that a rerun finds the same alerts. What people do about an alert is in [`life`].

use meterlake_model::{Amount, Commodity, MeterId, NodeId, Timestamp, UsagePointId};
use sha2::{Digest, Sha256};

pub mod incident;
pub mod leak;
pub mod life;
pub mod undervoltage;

/// Which rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Water that runs in every hour of a day.
    Leak,
    /// Every hour of a calendar day above a limit.
    LeakCalendarDay,
    /// Supply voltage below its limit at one meter.
    Undervoltage,
    /// One or two phases gone while another stands.
    PhaseLoss,
    /// Undervoltage at most meters of one transformer.
    UndervoltageIncident,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 5] =
        [Self::Leak, Self::LeakCalendarDay, Self::Undervoltage, Self::PhaseLoss, Self::UndervoltageIncident];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::LeakCalendarDay => "leak_calendar_day",
            Self::Undervoltage => "undervoltage",
            Self::PhaseLoss => "phase_loss",
            Self::UndervoltageIncident => "undervoltage_incident",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// Unit of what it measures and of its limit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Leak | Self::LeakCalendarDay => "L/h",
            Self::Undervoltage | Self::PhaseLoss | Self::UndervoltageIncident => "V",
        }
    }

    /// What it watches.
    pub const fn commodity(self) -> Commodity {
        match self {
            Self::Leak | Self::LeakCalendarDay => Commodity::Water,
            Self::Undervoltage | Self::PhaseLoss | Self::UndervoltageIncident => Commodity::Electricity,
        }
    }
}

/// How much it matters, rising. It never falls within one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth a look; most of these go away by themselves.
    Suspect,
    /// To be mended in its turn.
    Minor,
    /// To be mended first.
    Major,
}

impl Severity {
    /// All, rising.
    pub const ALL: [Self; 3] = [Self::Suspect, Self::Minor, Self::Major];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Minor => "minor",
            Self::Major => "major",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A step that the machine derives; a rerun replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineStep {
    /// When the rule knew it: the end of the reading or hour that decided.
    pub at: Timestamp,
    /// What happened.
    pub kind: MachineStepKind,
    /// Severity from then on.
    pub severity: Severity,
}

/// What the machine does with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineStepKind {
    /// The rule's condition held.
    Opened,
    /// The severity rose.
    Escalated,
    /// The condition went away by itself.
    Cleared,
}

impl MachineStepKind {
    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Escalated => "escalated",
            Self::Cleared => "cleared",
        }
    }
}

/// One row that speaks for an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// When: start of an hour or day, time of a reading.
    pub ts: Timestamp,
    /// The value in the rule's unit.
    pub value: Amount,
    /// What it is: `hour`, `day`, `reading`, `lowest`, …
    pub what: &'static str,
}

/// At most so many evidence rows are kept with an alert; the tables have the others.
pub const MAX_EVIDENCE: usize = 48;

/// What a rule found about one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// Which rule.
    pub rule: Rule,
    /// The highest severity so far.
    pub severity: Severity,
    /// When the condition began.
    pub start: Timestamp,
    /// The last instant at which it held.
    pub last_seen: Timestamp,
    /// When it was over; `None` while it stands.
    pub end: Option<Timestamp>,
    /// The worst value, in [`Rule::unit`].
    pub measured: Amount,
    /// What it was held against, in [`Rule::unit`].
    pub limit: Amount,
    /// Water lost, in m³, at least; leaks only.
    pub loss_m3: Option<Amount>,
    /// Hours, days, readings or meters that fulfilled the condition.
    pub occurrences: u32,
    /// The machine's steps in order of time.
    pub steps: Vec<MachineStep>,
    /// Rows that speak for it, at most [`MAX_EVIDENCE`].
    pub evidence: Vec<EvidenceRow>,
}

impl Episode {
    pub(crate) fn raise(&mut self, severity: Severity, at: Timestamp) {
        if severity <= self.severity {
            return;
        }
        self.severity = severity;
        match self.steps.last_mut() {
            // What is severe from its first moment is opened as such.
            Some(opened) if opened.at == at && opened.kind == MachineStepKind::Opened => opened.severity = severity,
            _ => self.steps.push(MachineStep { at, kind: MachineStepKind::Escalated, severity }),
        }
    }

    pub(crate) fn clear(&mut self, end: Timestamp, at: Timestamp) {
        self.end = Some(end);
        self.steps.push(MachineStep { at, kind: MachineStepKind::Cleared, severity: self.severity });
    }

    pub(crate) fn show(&mut self, row: EvidenceRow) {
        if self.evidence.len() < MAX_EVIDENCE {
            self.evidence.push(row);
        }
    }
}

/// An episode with its identity and place: a row of the table `alerts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Hash of rule, subject and start.
    pub id: String,
    /// What was found.
    pub episode: Episode,
    /// The place of supply; `None` for what concerns a part of the network.
    pub usage_point_id: Option<UsagePointId>,
    /// The meter whose readings say so.
    pub meter_id: Option<MeterId>,
    /// Transformer or district above.
    pub node_id: Option<NodeId>,
    /// Where to go.
    pub place: String,
    /// The incident that it is part of: an alert's id.
    pub group_id: Option<String>,
}

impl Alert {
    /// The usage point, or the part of the network.
    pub fn subject(&self) -> &str {
        match (&self.usage_point_id, &self.node_id) {
            (Some(point), _) => point.as_str(),
            (None, Some(node)) => node.as_str(),
            (None, None) => "",
        }
    }

    /// `open` or `cleared`, as far as the machine knows; people's steps come on top ([`life::present_state`]).
    pub fn machine_state(&self) -> life::State {
        if self.episode.end.is_some() { life::State::Cleared } else { life::State::Open }
    }

    /// One line for the field team.
    pub fn summary(&self) -> String {
        let e = &self.episode;
        let hours = e.last_seen.micros_since(e.start) / 3_600_000_000;
        match e.rule {
            Rule::Leak => format!(
                "never below {} L/h for {hours} h, at least {} m³ lost",
                plain(e.measured, 1),
                plain(e.loss_m3.unwrap_or_default(), 3)
            ),
            Rule::LeakCalendarDay => format!(
                "every hour of {} {} above {} L, at least {} m³ lost",
                e.occurrences,
                if e.occurrences == 1 { "day" } else { "days" },
                plain(e.limit, 1),
                plain(e.loss_m3.unwrap_or_default(), 3)
            ),
            Rule::Undervoltage => {
                format!("down to {} V, limit {} V, {} readings", plain(e.measured, 1), plain(e.limit, 1), e.occurrences)
            }
            Rule::PhaseLoss => format!("a phase down to {} V while another stands", plain(e.measured, 1)),
            Rule::UndervoltageIncident => {
                format!("{} meters of one transformer below {} V", e.occurrences, plain(e.limit, 1))
            }
        }
    }
}

/// An amount with some decimals, cut (not rounded): for texts.
fn plain(amount: Amount, decimals: usize) -> String {
    let text = amount.to_string();
    let keep = text.len() - 6 + decimals;
    text[..keep].trim_end_matches('.').to_owned()
}

/// Identity of an alert: the first 16 hex digits of the hash of rule, subject and start.
pub fn alert_id(rule: Rule, subject: &str, start: Timestamp) -> String {
    let mut hash = Sha256::new();
    hash.update(rule.as_str());
    hash.update([0]);
    hash.update(subject);
    hash.update([0]);
    hash.update(start.micros().to_be_bytes());
    hex(&hash.finalize()[..8])
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_keeps_its_identity_over_reruns_and_shares_it_with_no_other() {
        let start = Timestamp::from_unix_seconds(1_700_000_000).unwrap();
        let id = alert_id(Rule::Leak, "p1", start);
        assert_eq!(id, alert_id(Rule::Leak, "p1", start));
        assert_eq!(id.len(), 16);
        assert_ne!(id, alert_id(Rule::Leak, "p2", start));
        assert_ne!(id, alert_id(Rule::LeakCalendarDay, "p1", start));
        assert_ne!(id, alert_id(Rule::Leak, "p1", start.plus_seconds(3600)));
    }

    #[test]
    fn names_are_read_back() {
        for rule in Rule::ALL {
            assert_eq!(Rule::parse(rule.as_str()), Some(rule));
        }
        for severity in Severity::ALL {
            assert_eq!(Severity::parse(severity.as_str()), Some(severity));
        }
    }

    #[test]
    fn amounts_in_texts_are_short() {
        assert_eq!(plain(Amount::parse("12.345678").unwrap(), 1), "12.3");
        assert_eq!(plain(Amount::parse("0.5").unwrap(), 0), "0");
    }
}
