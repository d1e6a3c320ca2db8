//! Many meters with one cause are one incident: undervoltage at half of a transformer's meters, at least three.

use std::collections::BTreeSet;

use meterlake_model::Timestamp;

use super::undervoltage::VoltageRules;
use super::{Episode, EvidenceRow, MachineStep, MachineStepKind, Rule, Severity};

/// An incident of one transformer: its episode, and which of the given episodes are part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What the team sees; `occurrences` is the number of meters.
    pub episode: Episode,
    /// Indexes into the episodes that were given.
    pub members: BTreeSet<usize>,
}

/// Groups the undervoltage episodes of one transformer's meters.
///
/// `episodes` are pairs of (meter, episode), where a meter is any number that tells meters apart; `meters` is how many
/// meters the transformer feeds. An incident begins when enough meters are low at the same time, dates from the first of
/// them, and ends when fewer than half of what began it still are.
pub fn group(episodes: &[(usize, &Episode)], meters: usize, rules: &VoltageRules) -> Vec<Incident> {
    let share = (meters * usize::from(rules.incident_percent)).div_ceil(100);
    let needed = share.max(usize::from(rules.incident_min_meters)).max(1);
    let mut found = Vec::new();
    let mut open: Option<Incident> = None;
    let mut low: BTreeSet<usize> = BTreeSet::new();
    for (at, edge) in edges(episodes) {
        match edge {
            Edge::Begins(index) => {
                low.insert(index);
                if let Some(incident) = &mut open {
                    join(incident, index, episodes[index].1);
                } else if meters_of(&low, episodes) >= needed {
                    open = Some(begin(at, &low, episodes));
                }
            }
            Edge::Ends(index) => {
                low.remove(&index);
                if meters_of(&low, episodes) < needed.div_ceil(2)
                    && let Some(mut incident) = open.take()
                {
                    incident.episode.clear(at, at);
                    found.push(incident);
                }
            }
        }
    }
    found.extend(open);
    for incident in &mut found {
        finish(incident, episodes);
    }
    found
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Edge {
    /// Before beginnings at the same instant: who came back is no longer low.
    Ends(usize),
    Begins(usize),
}

fn edges(episodes: &[(usize, &Episode)]) -> Vec<(Timestamp, Edge)> {
    let begins = episodes.iter().enumerate().map(|(i, (_, e))| (e.start, Edge::Begins(i)));
    let ends = episodes.iter().enumerate().filter_map(|(i, (_, e))| Some((e.end?, Edge::Ends(i))));
    let mut all: Vec<_> = begins.chain(ends).collect();
    all.sort_unstable();
    all
}

fn meters_of(indexes: &BTreeSet<usize>, episodes: &[(usize, &Episode)]) -> usize {
    indexes.iter().map(|i| episodes[*i].0).collect::<BTreeSet<_>>().len()
}

fn begin(at: Timestamp, low: &BTreeSet<usize>, episodes: &[(usize, &Episode)]) -> Incident {
    let members = || low.iter().map(|i| episodes[*i].1);
    // Knowing takes as long as the slowest of the members' own alerts.
    let known = members().filter_map(|e| e.steps.first()).map(|s| s.at).max().unwrap_or(at);
    let severity = Severity::Major;
    Incident {
        episode: Episode {
            rule: Rule::UndervoltageIncident,
            severity,
            start: members().map(|e| e.start).min().unwrap_or(at),
            last_seen: at,
            end: None,
            measured: members().map(|e| e.measured).min().unwrap_or_default(),
            limit: members().map(|e| e.limit).max().unwrap_or_default(),
            loss_m3: None,
            occurrences: 0,
            steps: vec![MachineStep { at: known, kind: MachineStepKind::Opened, severity }],
            evidence: Vec::new(),
        },
        members: low.clone(),
    }
}

fn join(incident: &mut Incident, index: usize, episode: &Episode) {
    incident.members.insert(index);
    incident.episode.measured = incident.episode.measured.min(episode.measured);
}

fn finish(incident: &mut Incident, episodes: &[(usize, &Episode)]) {
    let last = incident.members.iter().map(|i| episodes[*i].1.last_seen).max();
    let episode = &mut incident.episode;
    if let Some(last) = last {
        episode.last_seen = episode.end.map_or(last, |end| last.min(end));
    }
    let meters = meters_of(&incident.members, episodes);
    episode.occurrences = u32::try_from(meters).unwrap_or(u32::MAX);
    for index in &incident.members {
        let (_, member) = episodes[*index];
        episode.show(EvidenceRow { ts: member.start, value: member.measured, what: "meter" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::Amount;

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_790_000_000 + minutes * 60).unwrap()
    }

    fn low(from: i64, to: Option<i64>) -> Episode {
        Episode {
            rule: Rule::Undervoltage,
            severity: Severity::Minor,
            start: minute(from),
            last_seen: minute(to.unwrap_or(from + 30)),
            end: to.map(minute),
            measured: Amount::parse("190").unwrap(),
            limit: Amount::parse("207").unwrap(),
            loss_m3: None,
            occurrences: 2,
            steps: vec![MachineStep {
                at: minute(from + 15),
                kind: MachineStepKind::Opened,
                severity: Severity::Minor,
            }],
            evidence: Vec::new(),
        }
    }

    /// (from, to) of each incident in minutes with the number of its members.
    fn check(spans: &[(usize, i64, Option<i64>)], meters: usize, expected: &[(i64, Option<i64>, usize)]) {
        let episodes: Vec<_> = spans.iter().map(|(meter, from, to)| (*meter, low(*from, *to))).collect();
        let given: Vec<_> = episodes.iter().map(|(meter, e)| (*meter, e)).collect();
        let found: Vec<_> = group(&given, meters, &VoltageRules::default())
            .into_iter()
            .map(|i| (i.episode.start, i.episode.end, i.members.len()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(s, e, n)| (minute(*s), e.map(minute), *n)).collect();
        assert_eq!(found, expected, "{spans:?} of {meters}");
    }

    #[test]
    fn half_of_the_meters_at_least_three_make_one_incident() {
        // Two of four are half but not three.
        check(&[(0, 0, Some(60)), (1, 5, Some(60))], 4, &[]);
        check(&[(0, 0, Some(60)), (1, 5, Some(70)), (2, 10, Some(80))], 6, &[(0, Some(70), 3)]);
        // Three of seven are less than half.
        check(&[(0, 0, Some(60)), (1, 5, Some(70)), (2, 10, Some(80))], 7, &[]);
        // One after the other is not at the same time.
        check(&[(0, 0, Some(10)), (1, 10, Some(20)), (2, 20, Some(30))], 3, &[]);
        // One meter thrice is one meter.
        check(&[(0, 0, Some(10)), (0, 5, Some(20)), (0, 6, Some(30))], 3, &[]);
    }

    #[test]
    fn an_incident_takes_in_who_comes_later_and_stands_while_its_meters_do() {
        check(&[(0, 0, None), (1, 0, None), (2, 3, None), (3, 40, Some(50))], 6, &[(0, None, 4)]);
    }
}
