//! `alerts`: what field teams work on, and the steps that they take.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use clap::{Args, Subcommand};
use meterlake_analytics::alerts::life::{PersonAction, PersonStep, State};
use meterlake_analytics::desk::{PresentAlert, add_step, present_alerts};
use meterlake_model::Timestamp;

use crate::cli::Global;
use crate::output::{self, Format};
use crate::setup;

/// What can be done with alerts.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List alerts, the gravest first
    List(ListArgs),
    /// Say that somebody has seen it
    Acknowledge(StepArgs),
    /// Say who is to go there
    Assign {
        /// Which alert, and who assigns it
        #[command(flatten)]
        step: StepArgs,
        /// Who goes there
        #[arg(long = "to", value_name = "PERSON")]
        to: String,
    },
    /// Close it with what was found
    Resolve {
        /// Which alert, and who resolves it
        #[command(flatten)]
        step: StepArgs,
        /// What was found
        #[arg(long, value_name = "TEXT")]
        found: String,
    },
}

/// Which alerts are listed, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Closed ones, too: cleared, resolved and withdrawn
    #[arg(long)]
    all: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// One step of a person.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// The alert, by its id as `alerts list` shows it
    id: String,
    /// Who takes the step
    #[arg(long, value_name = "PERSON", env = "USER")]
    by: String,
}

/// Runs one of the commands.
///
/// # Errors
/// When the alert is not there or closed already, or the lake cannot be read or written.
pub async fn run(global: &Global, command: &AlertsCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let (step, action) = match command {
        AlertsCommand::List(args) => {
            let batch = table(&present_alerts(&lake).await?, args.all)?;
            return output::write_batch(batch, args.format.unwrap_or_else(Format::for_stdout)).await;
        }
        AlertsCommand::Acknowledge(step) => (step, PersonAction::Acknowledge),
        AlertsCommand::Assign { step, to } => (step, PersonAction::Assign { to: to.clone() }),
        AlertsCommand::Resolve { step, found } => (step, PersonAction::Resolve { found: found.clone() }),
    };
    let step = PersonStep { alert_id: step.id.clone(), at: Timestamp::now(), person: step.by.clone(), action };
    let id = step.alert_id.clone();
    let state = add_step(&lake, step).await?;
    println!("{id} is {}", state.as_str());
    Ok(())
}

const COLUMNS: [&str; 9] = ["id", "state", "severity", "rule", "subject", "place", "since", "summary", "last_step"];

fn table(alerts: &[PresentAlert], all: bool) -> anyhow::Result<RecordBatch> {
    let is_closed = |state| matches!(state, State::Cleared | State::Resolved | State::Withdrawn);
    let mut shown: Vec<&PresentAlert> = alerts.iter().filter(|alert| all || !is_closed(alert.state)).collect();
    shown.sort_by_key(|alert| std::cmp::Reverse(alert.found.as_ref().map(|found| found.severity)));
    let rows: Vec<[String; COLUMNS.len()]> = shown.into_iter().map(cells).collect();
    let column = |at: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row[at]))) };
    let fields = COLUMNS.map(|name| Field::new(name, DataType::Utf8, false)).to_vec();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), (0..COLUMNS.len()).map(column).collect())?)
}

fn cells(alert: &PresentAlert) -> [String; COLUMNS.len()] {
    let found = alert.found.as_ref();
    let text = |value: Option<String>| value.unwrap_or_default();
    let last_step = alert.steps.last().map(|step| {
        let note = step.action.note();
        let colon = if note.is_empty() { "" } else { ": " };
        format!("{} by {}{colon}{note}", step.action.as_str(), step.person)
    });
    [
        alert.id.clone(),
        alert.state.as_str().to_owned(),
        text(found.map(|f| f.severity.as_str().to_owned())),
        text(found.map(|f| f.rule.as_str().to_owned())),
        text(found.and_then(|f| f.usage_point_id.clone().or_else(|| f.node_id.clone()))),
        text(found.map(|f| f.place.clone())),
        text(found.map(|f| f.start.to_string())),
        text(found.map(|f| f.summary.clone())),
        text(last_step),
    ]
}
