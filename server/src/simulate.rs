//! `simulate`: meters that are not there, as traffic that is: a seeded fleet or recorded files over MQTT, gateways over
//! Modbus TCP; and the comparison of what was sent with what the lake holds.

mod broker;
mod fleet;
mod gateways;
mod ledger;
mod replay;
mod window;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use meterlake_config::registry::write_dir;
use meterlake_model::registry::Registry;

use crate::cli::Global;

/// What can be simulated.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// A seeded fleet of MQTT meters: its history, then its present
    ///
    /// The same seed and times give the same meters, readings and faults, to the last byte. Import the registry before
    /// readings come in:
    ///
    ///   meterlake simulate fleet --registry registry --registry-only --days 35
    ///   meterlake registry import registry
    Fleet(fleet::FleetArgs),
    /// Readings that real meters once sent, as MQTT messages in the order of their file
    ///
    /// daiad: registers of 92 water meters in local time, read by the map `litres-local-json`. swiss: quarter-hourly use
    /// of 150 homes. perth: hourly water use of 80 homes. Both are read by the map `meterlake-json`.
    Replay(replay::ReplayArgs),
    /// Modbus TCP gateways on this machine whose meters answer until a signal comes
    ///
    /// Prints the [[modbus]] tables for the configuration file on standard output.
    Gateways(gateways::GatewaysArgs),
    /// Compare a ledger of what was sent with the lake of --config
    ///
    /// Every value of the two readings tables is looked at. Exit code 1 when a value that the broker acknowledged is
    /// lost, or one is doubled, invented or different.
    CheckLedger(ledger::CheckLedgerArgs),
}

/// Runs one of them.
///
/// # Errors
/// When the arguments contradict each other, a file is not there or cannot be written, the broker refuses, or the lake
/// cannot be read.
pub async fn run(global: &Global, command: &SimulateCommand) -> anyhow::Result<ExitCode> {
    match command {
        SimulateCommand::Fleet(args) => fleet::run(args).await?,
        SimulateCommand::Replay(args) => replay::run(args).await?,
        SimulateCommand::Gateways(args) => gateways::run(args).await?,
        SimulateCommand::CheckLedger(args) => return ledger::run(global, args).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_registry(registry: &Registry, dir: &Path) -> anyhow::Result<()> {
    write_dir(registry, dir).with_context(|| format!("cannot write the registry to {}", dir.display()))?;
    eprintln!(
        "registry of {} usage points and {} meters written to {}: `meterlake registry import {}` takes it in",
        registry.usage_points.len(),
        registry.meters.len(),
        dir.display(),
        dir.display()
    );
    Ok(())
}
