//! `simulate fleet`: seeded meters over MQTT, history first and then the present.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use futures::{StreamExt, stream};
use meterlake_device_sim::{FleetPlan, History, LivePlan, MessageForm, Scenario, Simulation, live};
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
    let history = stream::iter(History::new(Arc::clone(&simulation), form));
    let expected = (args.live == 0).then(|| expected_messages(&simulation, form));
    // The present starts where history ends: at its own interval with what is due by now, else with the next second.
    let from = if args.live_step.is_some() { now_on_grid(args.live_step)? } else { to };
    let present = live(Arc::clone(&simulation), LivePlan { from, step_s: args.live_step })?;
    let present = present.take_until(tokio::time::sleep(Duration::from_secs(args.live)));
    let messages = history.chain(stream::iter((args.live > 0).then_some(())).flat_map({
        let mut present = Some(present.boxed());
        move |()| present.take().unwrap_or_else(|| stream::empty().boxed())
    }));
    args.broker.publish(messages.map(Ok), expected, stop).await
}

/// The next instant of a grid.
fn now_on_grid(step_s: Option<i64>) -> anyhow::Result<Timestamp> {
    let step = step_s.unwrap_or(1).max(1);
    Ok(Timestamp::from_unix_seconds((Timestamp::now().unix_seconds().div_euclid(step) + 1) * step)?)
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
