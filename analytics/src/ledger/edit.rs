//! Edits: a value that two people agreed on, which stands until it is released.

use std::collections::BTreeMap;
use std::sync::Arc;

use meterlake_model::{Amount, Channel, CivilDay, Quality, Timestamp, Zone};

use crate::usage::{Level, Part, Span, reconcile};

/// What an edit sets: the use of one usage point and channel over whole civil days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditTarget {
    /// The place of supply.
    pub usage_point_id: String,
    /// The channel.
    pub channel: Channel,
    /// First day.
    pub first_day: CivilDay,
    /// The day after the last.
    pub end_day: CivilDay,
}

impl EditTarget {
    /// Whether it is about days of this time of this point and channel.
    pub fn touches(&self, usage_point_id: &str, channel: Channel, first_day: CivilDay, end_day: CivilDay) -> bool {
        self.usage_point_id == usage_point_id
            && self.channel == channel
            && self.first_day < end_day
            && first_day < self.end_day
    }
}

/// A step in the life of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditStep {
    /// Somebody proposes a value.
    Propose {
        /// Of what.
        target: EditTarget,
        /// The use, after the multiplier.
        value: Amount,
        /// Why.
        reason: String,
    },
    /// Somebody else agrees: from now on it stands.
    Approve,
    /// It does not stand any more, or never will.
    Release {
        /// Why.
        reason: String,
    },
}

/// An edit with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its name: the number of the event that proposed it.
    pub id: i64,
    /// What it sets.
    pub target: EditTarget,
    /// To what.
    pub value: Amount,
    /// Why.
    pub reason: String,
    /// Who proposed it, and when.
    pub proposed: (String, Timestamp),
    /// Who agreed, and when.
    pub approved: Option<(String, Timestamp)>,
    /// Who took it back, when, and why.
    pub released: Option<(String, Timestamp, String)>,
}

impl Edit {
    /// Whether it holds.
    pub fn stands(&self) -> bool {
        self.approved.is_some() && self.released.is_none()
    }

    /// `proposed`, `standing`, `released` or, where nobody had agreed, `withdrawn`.
    pub fn state(&self) -> &'static str {
        match (&self.approved, &self.released) {
            (None, None) => "proposed",
            (Some(_), None) => "standing",
            (Some(_), Some(_)) => "released",
            (None, Some(_)) => "withdrawn",
        }
    }
}

/// Why a step of an edit is not taken down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Every step is somebody's, and has its reason.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// There is none of this name.
    #[error("there is no edit {0}")]
    Unknown(i64),
    /// Two different people agree on an edit.
    #[error("edit {id} was proposed by {by}: somebody else has to approve it")]
    SamePerson {
        /// Which edit.
        id: i64,
        /// Who proposed it.
        by: String,
    },
    /// It is not in a state for this.
    #[error("edit {id} is {state}")]
    State {
        /// Which edit.
        id: i64,
        /// Where it is.
        state: &'static str,
    },
    /// Another stands on the same days.
    #[error("edit {0} stands on these days already: release it first")]
    Overlaps(i64),
    /// A use is at least nothing, of at least a day.
    #[error("{0}")]
    Value(String),
}

/// All edits, out of their events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    by_id: BTreeMap<i64, Edit>,
}

impl Edits {
    /// Takes an event in, in the order of their numbers; what was not allowed was never written, so it is not checked here.
    pub fn take(&mut self, id: i64, by: &str, at: Timestamp, step: &EditStep) {
        let who = || (by.to_owned(), at);
        match step {
            EditStep::Propose { target, value, reason } => {
                let (target, value, reason) = (target.clone(), *value, reason.clone());
                let edit = Edit { id, target, value, reason, proposed: who(), approved: None, released: None };
                self.by_id.insert(id, edit);
            }
            EditStep::Approve => {
                if let Some(edit) = self.by_id.get_mut(&id) {
                    edit.approved = edit.approved.take().or_else(|| Some(who()));
                }
            }
            EditStep::Release { reason } => {
                if let Some(edit) = self.by_id.get_mut(&id) {
                    edit.released = edit.released.take().or_else(|| Some((by.to_owned(), at, reason.clone())));
                }
            }
        }
    }

    /// Whether a step may be taken. `id` is that of the edit; a proposal makes its own.
    ///
    /// # Errors
    /// When somebody would approve their own proposal, another edit stands on the same days, or something is missing.
    pub fn check(&self, id: i64, by: &str, step: &EditStep) -> Result<(), EditError> {
        let by = by.trim();
        if by.is_empty() {
            return Err(EditError::Missing("who does it"));
        }
        if let EditStep::Propose { target, value, reason } = step {
            if reason.trim().is_empty() {
                return Err(EditError::Missing("the reason"));
            }
            if *value < Amount::ZERO {
                return Err(EditError::Value(format!("{value} is less than nothing")));
            }
            if target.first_day >= target.end_day {
                return Err(EditError::Value(format!(
                    "there is no day from {} to {}",
                    target.first_day,
                    target.end_day.plus_days(-1)
                )));
            }
            return self.free(None, target);
        }
        let edit = self.by_id.get(&id).ok_or(EditError::Unknown(id))?;
        let state = || Err(EditError::State { id, state: edit.state() });
        match step {
            EditStep::Approve if edit.approved.is_some() || edit.released.is_some() => state(),
            EditStep::Approve if edit.proposed.0.trim().to_lowercase() == by.to_lowercase() => {
                Err(EditError::SamePerson { id, by: edit.proposed.0.clone() })
            }
            EditStep::Approve => self.free(Some(id), &edit.target),
            EditStep::Release { .. } if edit.released.is_some() => state(),
            EditStep::Release { reason } if reason.trim().is_empty() => Err(EditError::Missing("the reason")),
            _ => Ok(()),
        }
    }

    fn free(&self, but: Option<i64>, target: &EditTarget) -> Result<(), EditError> {
        let there = self.by_id.values().filter(|e| e.stands() && Some(e.id) != but);
        let overlapping =
            |e: &&Edit| e.target.touches(&target.usage_point_id, target.channel, target.first_day, target.end_day);
        there.into_iter().find(overlapping).map_or(Ok(()), |e| Err(EditError::Overlaps(e.id)))
    }

    /// All, by number.
    pub fn all(&self) -> impl Iterator<Item = &Edit> {
        self.by_id.values()
    }

    /// Those that hold on days of this time, by number.
    pub fn standing(
        &self,
        usage_point_id: &str,
        channel: Channel,
        first_day: CivilDay,
        end_day: CivilDay,
    ) -> Vec<&Edit> {
        let touches = |e: &&Edit| e.stands() && e.target.touches(usage_point_id, channel, first_day, end_day);
        self.by_id.values().filter(touches).collect()
    }
}

/// An edit that readings contradict: it stands, and people are shown what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contested {
    /// Which edit.
    pub id: i64,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// What was agreed.
    pub edited: Amount,
    /// What the readings say.
    pub read: Amount,
}

/// Sets the days of standing edits. Each day takes its share by what it was thought to use; all add up to the edit's
/// value. Days that are not there are added. `limit` is from which difference on an edit is contested.
pub fn apply_edits(days: &mut Vec<Span>, zone: &Zone, edits: &[&Edit], limit: Amount) -> Vec<Contested> {
    let mut contested = Vec::new();
    for edit in edits {
        let (start, end) = (zone.start_of_day(edit.target.first_day), zone.start_of_day(edit.target.end_day));
        complete(days, zone, (start, end));
        let is_inside = |span: &Span| span.level == Level::Day && span.start >= start && span.end <= end;
        let inside: Vec<&Span> = days.iter().filter(|s| is_inside(s)).collect();
        let actual = |s: &&Span| s.quality.feeds_history() && s.estimated == Amount::ZERO;
        if inside.iter().all(actual)
            && let Some(read) = Amount::sum(inside.iter().filter_map(|s| s.value))
            && read.micros().abs_diff(edit.value.micros()) > limit.micros().unsigned_abs()
        {
            contested.push(Contested { id: edit.id, start, end, edited: edit.value, read });
        }
        let parts: Vec<Part> = inside.iter().map(|s| Part::Unknown(s.value.unwrap_or_default())).collect();
        let unit = Amount::from_micros(1000).unwrap_or_default();
        let Some(shared) = reconcile(edit.value, &parts, unit) else { continue };
        let approved = edit.approved.as_ref().map_or("", |(by, _)| by);
        let text = format!("edit {} by {}, approved by {approved}: {}", edit.id, edit.proposed.0, edit.reason);
        let evidence: Arc<str> = text.into();
        for (span, value) in days.iter_mut().filter(|s| is_inside(s)).zip(shared.values) {
            (span.value, span.quality, span.method) = (Some(value), Quality::Edited, None);
            (span.estimated, span.parts) = (Amount::ZERO, None);
            span.evidence = Some(Arc::clone(&evidence));
        }
    }
    contested
}

/// Adds empty days where there are none.
fn complete(days: &mut Vec<Span>, zone: &Zone, (start, end): (Timestamp, Timestamp)) {
    let mut holes = Vec::new();
    let mut at = start;
    let installation = days.iter().rev().find(|s| s.start <= start).or(days.first()).map_or(0, |s| s.installation);
    let mut known: Vec<(Timestamp, Timestamp)> = days.iter().map(|s| (s.start, s.end)).collect();
    known.sort_unstable();
    for (from, to) in known.into_iter().filter(|(_, to)| *to > start).chain([(end, end)]) {
        while at < from.min(end) {
            let next = zone.start_of_day(zone.day_of(at).plus_days(1)).min(from).min(end);
            holes.push(Span {
                level: Level::Day,
                start: at,
                end: next,
                value: None,
                quality: Quality::Missing,
                method: None,
                estimated: Amount::ZERO,
                start_register: None,
                end_register: None,
                installation,
                evidence: None,
                parts: None,
            });
            at = next;
        }
        at = at.max(to);
    }
    days.extend(holes);
    days.sort_by_key(|s| (s.level, s.start));
}
