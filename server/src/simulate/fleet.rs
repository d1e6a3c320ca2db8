//! `simulate fleet`: seeded meters over MQTT, history first and then the present.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use futures::{StreamExt, TryStreamExt, stream};
use meterlake_device_sim::{FleetPlan, History, LivePlan, MessageForm, Scenario, SimError, Simulation, live};
use meterlake_model::Timestamp;

use super::broker::BrokerArgs;
use super::window::WindowArgs;
use super::write_registry;
use crate::shutdown;

/// Which meters, over which time, sent how.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Electricity meters, a reading each quarter of an hour
    #[arg(long, value_name = "N", default_value_t = 50)]
    electricity: usize,
    /// Water meters, a reading each hour
    #[arg(long, value_name = "N", default_value_t = 25)]
    water: usize,
    /// Seed of the meters, their loads and their faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    window: WindowArgs,
    /// What goes wrong
    #[arg(long, value_enum, default_value_t = Faults::None)]
    faults: Faults,
    /// One reading a message [default: all readings of a meter's UTC day in one message]
    #[arg(long, conflicts_with = "frames")]
    singles: bool,
    /// All readings of a meter's UTC day in one message, which is the default
    #[arg(long)]
    frames: bool,
    /// After history go on with the present for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    live: u64,
    /// Seconds between the readings of the present; divides a day [default: each meter's own interval]
    #[arg(long, value_name = "SECONDS", requires = "live", value_parser = clap::value_parser!(i64).range(1..=86_400))]
    live_step: Option<i64>,
    /// Write the fleet's registry as CSV files to this folder first
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Write the registry and send nothing
    #[arg(long, requires = "registry")]
    registry_only: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Faults {
    /// Nothing.
    None,
    /// Leaks, sags, gaps, repeats, late and contradicting readings, exchanges, rollovers, and 1 % of broken messages.
    Mixed,
}

/// Publishes the fleet.
pub(super) async fn run(args: &FleetArgs) -> anyhow::Result<()> {
    let (from, to) = args.window.ends(Timestamp::now())?;
    let mut plan = FleetPlan::new(args.seed, from, to);
    plan.zone = args.window.zone.clone();
    (plan.electricity_mqtt, plan.water_mqtt) = (args.electricity, args.water);
    let scenario = match args.faults {
        Faults::None => Scenario::none(),
        Faults::Mixed => Scenario::defaults(&plan),
    };
    let simulation = Arc::new(Simulation::new(plan, scenario)?);
    if let Some(dir) = &args.registry {
        write_registry(&simulation.registry()?, dir)?;
    }
    if args.registry_only {
        return Ok(());
    }
    ensure!(from < to || args.live > 0, "nothing to send: history has no length, and --live is 0");

    let stop = shutdown::on_signal()?;
    let form = if args.singles { MessageForm::Singles } else { MessageForm::Frames };
    let history = stream::iter(History::new(Arc::clone(&simulation), form)).map(Ok::<_, SimError>);
    if args.live == 0 {
        let expected = expected_messages(&simulation, form);
        return args.broker.publish(history, Some(expected), stop).await;
    }
    let (length, step_s) = (Duration::from_secs(args.live), args.live_step);
    // Begins, and its time is measured, when history has gone out.
    let present = stream::once(async move {
        let from = step_s.map_or(Ok(to), next_on_grid)?;
        let messages = live(simulation, LivePlan { from, step_s })?;
        Ok::<_, SimError>(messages.map(Ok).take_until(tokio::time::sleep(length)))
    });
    args.broker.publish(history.chain(present.try_flatten()), None, stop).await
}

/// The present's first readings: the next instant of the grid of its step.
fn next_on_grid(step_s: i64) -> Result<Timestamp, SimError> {
    Ok(Timestamp::from_unix_seconds((Timestamp::now().unix_seconds().div_euclid(step_s) + 1) * step_s)?)
}

/// Roughly: what the scenario adds or takes away is a percent or two.
fn expected_messages(simulation: &Simulation, form: MessageForm) -> u64 {
    let plan = simulation.plan();
    let days = plan.to.micros_since(plan.from).div_euclid(86_400_000_000) + 1;
    match form {
        MessageForm::Frames => u64::try_from(days).unwrap_or(0) * simulation.points().len() as u64,
        MessageForm::Singles => simulation.truth().expected().distinct,
    }
}
