//! Where a bill stands, derived from its gates and its events.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::Timestamp;

use super::gate::{Gate, Unmet};

/// What was done to a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A person stops it.
    Hold {
        /// Why.
        reason: String,
    },
    /// A person lets it go in spite of these reasons, and of no others.
    Release {
        /// Reasons by their keys.
        covers: BTreeSet<String>,
    },
    /// It went out in this list.
    Issue {
        /// Number of the list.
        number: i64,
    },
    /// The billing system has taken it. Saying so twice is saying it once.
    Ack {
        /// Number of the list.
        number: i64,
    },
    /// The billing system has refused it.
    Reject {
        /// Number of the list.
        number: i64,
        /// Why.
        reason: String,
    },
    /// It will never go out.
    Cancel {
        /// Why.
        reason: String,
    },
}

impl Step {
    /// The name in tables.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Release { .. } => "release",
            Self::Issue { .. } => "issue",
            Self::Ack { .. } => "ack",
            Self::Reject { .. } => "reject",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// One event of a bill. Events are only ever added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all events of the lake.
    pub seq: i64,
    /// When it was taken down.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What.
    pub step: Step,
}

/// Why a bill is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldReason {
    /// What a release names.
    pub key: String,
    /// In words.
    pub detail: String,
    /// Who holds it; `None`: a gate does.
    pub by: Option<String>,
}

/// Where a bill stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BillState {
    /// Gates are not met and the deadline has not passed.
    Waiting(Vec<Unmet>),
    /// It may go out.
    Ready,
    /// It waits for a person or for a new fact.
    Held(Vec<HoldReason>),
    /// It went out in this list and nobody has answered.
    Issued(i64),
    /// The billing system has it.
    Acked(i64),
    /// The billing system refused this list; it may go out again.
    Rejected(i64),
    /// It will never go out.
    Cancelled,
}

impl BillState {
    /// The name in tables.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Ready => "ready",
            Self::Held(_) => "held",
            Self::Issued(_) => "issued",
            Self::Acked(_) => "acked",
            Self::Rejected(_) => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Why it does not go out, in words.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Waiting(unmet) => unmet.iter().map(|u| u.detail.clone()).collect(),
            Self::Held(reasons) => reasons
                .iter()
                .map(|r| match &r.by {
                    Some(by) => format!("{} (held by {by})", r.detail),
                    None => r.detail.clone(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The state of a bill. `events` are its own, in any order.
pub fn bill_state(gate: &Gate, events: &[Event]) -> BillState {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|e| e.seq);
    let last = events.iter().rev().find(|e| matches!(e.step, Step::Issue { .. } | Step::Cancel { .. }));
    match last.map(|e| &e.step) {
        Some(Step::Cancel { .. }) => return BillState::Cancelled,
        Some(Step::Issue { number }) => {
            let acked = |e: &&Event| matches!(&e.step, Step::Ack { number: n } if n == number);
            let rejected = |e: &&Event| matches!(&e.step, Step::Reject { number: n, .. } if n == number);
            let is = |of: &dyn Fn(&&Event) -> bool| events.iter().any(of);
            return match (is(&acked), is(&rejected)) {
                (true, _) => BillState::Acked(*number),
                (_, true) if held(gate, &events).is_empty() => BillState::Rejected(*number),
                (_, true) => BillState::Held(held(gate, &events)),
                _ => BillState::Issued(*number),
            };
        }
        _ => {}
    }
    match (held(gate, &events), gate) {
        (reasons, _) if !reasons.is_empty() => BillState::Held(reasons),
        (_, Gate::Wait(unmet)) => BillState::Waiting(unmet.clone()),
        _ => BillState::Ready,
    }
}

/// The reasons that nobody has released, a gate's and people's.
fn held(gate: &Gate, events: &[&Event]) -> Vec<HoldReason> {
    let mut reasons: BTreeMap<String, HoldReason> = BTreeMap::new();
    if let Gate::Hold(unmet) = gate {
        for u in unmet {
            let reason = HoldReason { key: u.key(), detail: u.detail.clone(), by: None };
            reasons.insert(reason.key.clone(), reason);
        }
    }
    for event in events {
        match &event.step {
            Step::Hold { reason } => {
                let key = format!("person#{}", event.seq);
                let by = Some(event.by.clone());
                reasons.insert(key.clone(), HoldReason { key, detail: reason.clone(), by });
            }
            Step::Release { covers } => reasons.retain(|key, _| !covers.contains(key)),
            _ => {}
        }
    }
    reasons.into_values().collect()
}

/// Why a step is not taken down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The state does not allow it.
    #[error("the bill is {state}: {why}")]
    State {
        /// Where it stands.
        state: &'static str,
        /// What could be done instead.
        why: String,
    },
    /// Every step is somebody's.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Nothing would be released.
    #[error("there is nothing to release: {0}")]
    NotHeld(String),
}

/// Checks a step against the state that the bill is in. `Ok(false)`: it has been done already, and is not to be repeated.
///
/// # Errors
/// When nobody is named, a reason is missing, or the state does not allow the step.
pub fn check_step(state: &BillState, by: &str, step: &Step) -> Result<bool, StepError> {
    if by.trim().is_empty() {
        return Err(StepError::Missing("who does it"));
    }
    let refuse = |why: &str| Err(StepError::State { state: state.as_str(), why: why.to_owned() });
    match (step, state) {
        (Step::Hold { reason } | Step::Cancel { reason } | Step::Reject { reason, .. }, _)
            if reason.trim().is_empty() =>
        {
            Err(StepError::Missing("the reason"))
        }
        (Step::Cancel { .. }, BillState::Cancelled) => Ok(false),
        (_, BillState::Cancelled) => refuse("nothing can be done with it any more"),
        (Step::Hold { .. }, BillState::Issued(_) | BillState::Acked(_)) => {
            refuse("it has gone out; what changes now is a correction")
        }
        (Step::Release { covers }, BillState::Held(reasons)) => {
            if reasons.iter().any(|r| r.key == "nothing" && covers.contains(&r.key)) {
                return refuse("no use is known, so there is nothing to issue: propose an edit");
            }
            if reasons.iter().any(|r| covers.contains(&r.key)) {
                return Ok(true);
            }
            let keys: Vec<&str> = reasons.iter().map(|r| r.key.as_str()).collect();
            Err(StepError::NotHeld(format!("it is held for {}", keys.join(", "))))
        }
        (Step::Release { .. }, _) => Err(StepError::NotHeld(format!("the bill is {}", state.as_str()))),
        (Step::Issue { .. }, BillState::Ready | BillState::Rejected(_)) => Ok(true),
        (Step::Issue { .. }, _) => refuse("only what is ready or was rejected is issued"),
        (Step::Ack { number }, BillState::Acked(n)) if number == n => Ok(false),
        (Step::Ack { number }, BillState::Issued(n)) if number == n => Ok(true),
        (Step::Reject { number, .. }, BillState::Rejected(n)) if number == n => Ok(false),
        (Step::Reject { number, .. }, BillState::Issued(n)) if number == n => Ok(true),
        (Step::Ack { .. } | Step::Reject { .. }, _) => refuse("it is not out in that list without an answer"),
        (Step::Cancel { .. }, BillState::Issued(_) | BillState::Acked(_)) => {
            refuse("it has gone out: have it rejected first, or correct it")
        }
        (Step::Hold { .. } | Step::Cancel { .. }, _) => Ok(true),
    }
}
