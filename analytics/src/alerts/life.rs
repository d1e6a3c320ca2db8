//! The life of an alert: the machine opens, escalates and clears; people acknowledge, assign and resolve.
//!
//! The machine's steps follow from readings, so a rerun replaces them. People's steps are facts of their own: they are
//! only ever added. The present state is computed from both.

use meterlake_model::Timestamp;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nobody has looked.
    Open,
    /// Somebody has.
    Acknowledged,
    /// Somebody is to go.
    Assigned,
    /// It went away by itself.
    Cleared,
    /// Somebody was there and said what was found.
    Resolved,
    /// The readings, as they are known now, no longer say so: better data came.
    Withdrawn,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Acknowledged, Self::Assigned, Self::Cleared, Self::Resolved, Self::Withdrawn];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Assigned => "assigned",
            Self::Cleared => "cleared",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// What a person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonAction {
    /// Has seen it.
    Acknowledge,
    /// Gave it to somebody.
    Assign {
        /// To whom.
        to: String,
    },
    /// Was there.
    Resolve {
        /// What was found.
        found: String,
    },
}

impl PersonAction {
    /// The name of the step in tables.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledged",
            Self::Assign { .. } => "assigned",
            Self::Resolve { .. } => "resolved",
        }
    }

    /// To whom, or what was found; empty for an acknowledgement.
    pub fn note(&self) -> &str {
        match self {
            Self::Acknowledge => "",
            Self::Assign { to } => to,
            Self::Resolve { found } => found,
        }
    }

    /// Reads step and note back.
    pub fn parse(step: &str, note: &str) -> Option<Self> {
        match step {
            "acknowledged" => Some(Self::Acknowledge),
            "assigned" => Some(Self::Assign { to: note.to_owned() }),
            "resolved" => Some(Self::Resolve { found: note.to_owned() }),
            _ => None,
        }
    }
}

/// One step of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonStep {
    /// Which alert.
    pub alert_id: String,
    /// When, by the clock of whoever took it down.
    pub at: Timestamp,
    /// Who.
    pub person: String,
    /// What.
    pub action: PersonAction,
}

/// Why a person's step is not taken down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Resolved alerts are closed; a new leak is a new alert.
    #[error("alert {0} is resolved already")]
    Resolved(String),
    /// A step says who took it, to whom it goes, or what was found.
    #[error("alert {alert_id}: {missing} is missing")]
    Missing {
        /// Which alert.
        alert_id: String,
        /// What must be named.
        missing: &'static str,
    },
    /// No alert has this id.
    #[error("there is no alert {0}")]
    Unknown(String),
    /// Texts are kept short.
    #[error("alert {alert_id}: {what} has {len} characters, at most {MAX_NOTE} are kept")]
    TooLong {
        /// Which alert.
        alert_id: String,
        /// Which text.
        what: &'static str,
        /// Its length.
        len: usize,
    },
}

/// Longest text of a step, in characters.
pub const MAX_NOTE: usize = 2000;

/// Checks a step against the state that the alert is in.
///
/// # Errors
/// When the alert is resolved, or person, assignee or finding is missing or too long.
pub fn check_step(state: State, step: &PersonStep) -> Result<(), StepError> {
    let alert_id = || step.alert_id.clone();
    if state == State::Resolved {
        return Err(StepError::Resolved(alert_id()));
    }
    let note_name = match step.action {
        PersonAction::Acknowledge => None,
        PersonAction::Assign { .. } => Some("the person it is assigned to"),
        PersonAction::Resolve { .. } => Some("what was found"),
    };
    let texts = [Some((step.person.as_str(), "the person who did it")), note_name.map(|n| (step.action.note(), n))];
    for (text, what) in texts.into_iter().flatten() {
        if text.trim().is_empty() {
            return Err(StepError::Missing { alert_id: alert_id(), missing: what });
        }
        let len = text.chars().count();
        if len > MAX_NOTE {
            return Err(StepError::TooLong { alert_id: alert_id(), what, len });
        }
    }
    Ok(())
}

/// The present state: what people said last counts, but a resolution is final, and an alert that went away by itself is
/// cleared whoever had it. `machine` is `Open`, `Cleared` or, where a rerun no longer finds the alert, `Withdrawn`.
pub fn present_state<'a>(machine: State, steps: impl IntoIterator<Item = &'a PersonAction>) -> State {
    let mut by_people = State::Open;
    for action in steps {
        by_people = match (by_people, action) {
            (State::Resolved, _) | (_, PersonAction::Resolve { .. }) => State::Resolved,
            (State::Assigned, PersonAction::Acknowledge) | (_, PersonAction::Assign { .. }) => State::Assigned,
            (_, PersonAction::Acknowledge) => State::Acknowledged,
        };
    }
    match machine {
        _ if by_people == State::Resolved => State::Resolved,
        State::Cleared | State::Withdrawn => machine,
        _ => by_people,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign() -> PersonAction {
        PersonAction::Assign { to: "team north".to_owned() }
    }

    fn resolve() -> PersonAction {
        PersonAction::Resolve { found: "running toilet".to_owned() }
    }

    #[test]
    fn the_present_state_follows_from_both() {
        use PersonAction::Acknowledge as Ack;
        for (machine, steps, expected) in [
            (State::Open, vec![], State::Open),
            (State::Open, vec![Ack], State::Acknowledged),
            (State::Open, vec![Ack, assign()], State::Assigned),
            (State::Open, vec![assign(), Ack], State::Assigned),
            (State::Open, vec![Ack, assign(), resolve()], State::Resolved),
            (State::Cleared, vec![Ack], State::Cleared),
            (State::Cleared, vec![resolve()], State::Resolved),
            (State::Withdrawn, vec![assign()], State::Withdrawn),
            (State::Open, vec![resolve(), Ack], State::Resolved),
        ] {
            assert_eq!(present_state(machine, &steps), expected, "{machine:?} {steps:?}");
        }
    }

    #[test]
    fn a_step_names_who_and_what() {
        let step = |person: &str, action| PersonStep {
            alert_id: "a".to_owned(),
            at: Timestamp::from_unix_seconds(0).unwrap(),
            person: person.to_owned(),
            action,
        };
        assert!(check_step(State::Open, &step("ana", resolve())).is_ok());
        assert!(matches!(check_step(State::Open, &step(" ", resolve())), Err(StepError::Missing { .. })));
        let empty = PersonAction::Resolve { found: String::new() };
        assert!(matches!(check_step(State::Open, &step("ana", empty)), Err(StepError::Missing { .. })));
        let long = PersonAction::Assign { to: "x".repeat(MAX_NOTE + 1) };
        assert!(matches!(check_step(State::Open, &step("ana", long)), Err(StepError::TooLong { .. })));
        assert!(matches!(check_step(State::Resolved, &step("ana", assign())), Err(StepError::Resolved(_))));
    }

    #[test]
    fn steps_are_read_back() {
        for action in [PersonAction::Acknowledge, assign(), resolve()] {
            assert_eq!(PersonAction::parse(action.as_str(), action.note()), Some(action));
        }
    }
}
