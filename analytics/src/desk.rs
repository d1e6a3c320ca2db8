//! The desk: alerts as people see them, and the steps that people take.
//!
//! Steps are appended and never replaced; a rerun of the job `alerts` leaves them alone. An alert that better readings
//! have undone stays visible while somebody has taken a step on it, as withdrawn.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_model::Timestamp;
use meterlake_store::query::{QueryError, ReadOptions};
use meterlake_store::{Lake, StoreError};

use crate::alerts::life::{PersonAction, PersonStep, State, StepError, check_step, present_state};
use crate::alerts::{Rule, Severity};
use crate::tables;
use crate::tables::read::{Rows, instant_at, maybe_instant_at};

const ALERTS: &str = include_str!("../sql/alert_list.sql");
const STEPS: &str = include_str!("../sql/alert_steps.sql");

/// Why alerts cannot be read, or a step is not taken down.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The step itself.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake could not be opened for reading.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// The tables could not be read.
    #[error("alerts: {0}")]
    Query(#[from] DataFusionError),
}

/// An alert with what people did about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentAlert {
    /// Hash of rule, subject and start.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// What the machine found; `None` when it no longer does.
    pub found: Option<FoundAlert>,
    /// People's steps in order of time.
    pub steps: Vec<PersonStep>,
}

/// What the machine knows of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAlert {
    /// Which rule.
    pub rule: Rule,
    /// How much it matters.
    pub severity: Severity,
    /// The place of supply; `None` for incidents.
    pub usage_point_id: Option<String>,
    /// The meter whose readings say so.
    pub meter_id: Option<String>,
    /// Transformer or district.
    pub node_id: Option<String>,
    /// Where to go.
    pub place: String,
    /// The incident that it is part of.
    pub group_id: Option<String>,
    /// When the condition began.
    pub start: Timestamp,
    /// The last instant at which it held.
    pub last_seen: Timestamp,
    /// When it was over.
    pub end: Option<Timestamp>,
    /// Hours, days, readings or meters.
    pub occurrences: i32,
    /// One line for the field team.
    pub summary: String,
}

/// All alerts, newest first, then those that were withdrawn.
///
/// # Errors
/// When the lake cannot be read.
pub async fn present_alerts(lake: &Lake) -> Result<Vec<PresentAlert>, DeskError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let has = |table: &str| session.versions.contains_key(table);
    let mut steps = if has("alert_events") { steps(&session.context).await? } else { BTreeMap::new() };
    let mut alerts = Vec::new();
    if has("alerts") {
        for (id, machine, found) in found(&session.context).await? {
            let steps = steps.remove(&id).unwrap_or_default();
            let state = present_state(machine, steps.iter().map(|s| &s.action));
            alerts.push(PresentAlert { id, state, found: Some(found), steps });
        }
    }
    alerts.extend(steps.into_iter().map(|(id, steps)| {
        let state = present_state(State::Withdrawn, steps.iter().map(|s| &s.action));
        PresentAlert { id, state, found: None, steps }
    }));
    Ok(alerts)
}

/// Takes down a person's step and gives the state after it.
///
/// # Errors
/// When the alert is not there or resolved already, or the step lacks who or what; then nothing was written.
pub async fn add_step(lake: &Lake, step: PersonStep) -> Result<State, DeskError> {
    let mut alerts = present_alerts(lake).await?;
    let at = alerts.iter().position(|a| a.id == step.alert_id);
    let Some(at) = at else { return Err(StepError::Unknown(step.alert_id).into()) };
    let alert = alerts.swap_remove(at);
    check_step(alert.state, &step)?;
    let rows = tables::write::person_steps(std::slice::from_ref(&step)).map_err(DataFusionError::from)?;
    lake.append(&tables::alert_events(), vec![rows]).await?;
    let machine = match &alert.found {
        None => State::Withdrawn,
        Some(found) if found.end.is_some() => State::Cleared,
        Some(_) => State::Open,
    };
    Ok(present_state(machine, alert.steps.iter().chain([&step]).map(|s| &s.action)))
}

async fn found(session: &SessionContext) -> Result<Vec<(String, State, FoundAlert)>, DataFusionError> {
    let mut alerts = Vec::new();
    for batch in session.sql(ALERTS).await?.collect().await? {
        let rows = Rows(&batch);
        let (id, rule, severity) = (rows.text("id")?, rows.text("rule")?, rows.text("severity")?);
        let (state, place, summary) = (rows.text("state")?, rows.text("place")?, rows.text("summary")?);
        let (point, meter) = (rows.text("usage_point_id")?, rows.text("meter_id")?);
        let (node, group) = (rows.text("node_id")?, rows.text("group_id")?);
        let (start, last_seen, end) = (rows.time("start")?, rows.time("last_seen")?, rows.time("end")?);
        let occurrences = rows.int("occurrences")?;
        for row in 0..rows.len() {
            let (Some(rule), Some(severity)) = (Rule::parse(rule.at(row)), Severity::parse(severity.at(row))) else {
                continue;
            };
            let state = State::parse(state.at(row)).unwrap_or(State::Open);
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let found = FoundAlert {
                rule,
                severity,
                usage_point_id: owned(point.get(row)),
                meter_id: owned(meter.get(row)),
                node_id: owned(node.get(row)),
                place: place.at(row).to_owned(),
                group_id: owned(group.get(row)),
                start: instant_at(start, row)?,
                last_seen: instant_at(last_seen, row)?,
                end: maybe_instant_at(end, row)?,
                occurrences: occurrences.value(row),
                summary: summary.at(row).to_owned(),
            };
            alerts.push((id.at(row).to_owned(), state, found));
        }
    }
    Ok(alerts)
}

async fn steps(session: &SessionContext) -> Result<BTreeMap<String, Vec<PersonStep>>, DataFusionError> {
    let mut steps: BTreeMap<String, Vec<PersonStep>> = BTreeMap::new();
    for batch in session.sql(STEPS).await?.collect().await? {
        let rows = Rows(&batch);
        let (alert_id, ts, step) = (rows.text("alert_id")?, rows.time("ts")?, rows.text("step")?);
        let (person, note) = (rows.text("person")?, rows.text("note")?);
        for row in 0..rows.len() {
            let Some(action) = PersonAction::parse(step.at(row), note.at(row)) else { continue };
            let alert_id = alert_id.at(row).to_owned();
            let (at, person) = (instant_at(ts, row)?, person.at(row).to_owned());
            steps.entry(alert_id.clone()).or_default().push(PersonStep { alert_id, at, person, action });
        }
    }
    Ok(steps)
}
