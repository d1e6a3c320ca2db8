//! The command line: what can be asked, and which module answers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    alerts, backup, billing, checks, collect, completeness, config_commands, dead_letters, demo, doctor, golden, jobs,
    logs, modbus,
};
use crate::{
    edits, erase, hold, profile_picture, query, redecode, registry, reload, retention, run, serve, setup, shipped,
    simulate, tables, tap,
};

/// Smart-meter telemetry for water and electricity: collect, store, bill, alert.
#[derive(Debug, Parser)]
#[command(name = "meterlake", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file; without it the embedded defaults hold (see `meterlake config default`)
    #[arg(long, short, global = true, value_name = "FILE", env = "METERLAKE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What is logged: a level for this program, or directives such as `warn,meterlake_ingest=debug`
    /// [default: info for collect, jobs, serve and run; errors only for the others]
    #[arg(long, global = true, value_name = "FILTER", env = "METERLAKE_LOG")]
    pub(crate) log: Option<String>,
    /// How it is logged, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything: supervise collect, jobs and serve as processes of their own
    Run,
    /// Collect readings from brokers and Modbus lines into the lake
    Collect,
    /// Have the running collector take the changed configuration: all is checked first, only what changed is touched
    Reload,
    /// Derive usage, billing reads, alerts, profiles and completeness and check them on schedule; compact the tables
    Jobs,
    /// Answer over HTTP: health and Prometheus metrics
    Serve,
    /// Show the whole way of a reading with simulated meters; needs nothing else
    Demo(demo::DemoArgs),
    /// Ask the lake with SQL
    Query(query::QueryArgs),
    /// List the tables and views that can be asked, or the columns of one
    Tables(tables::TablesArgs),
    /// Run one job now, or list what ran
    #[command(subcommand)]
    Job(jobs::JobCommand),
    /// The registry: usage points, meters, installations, customers, network
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Alerts: list, acknowledge, assign, resolve
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Bills: compute, show, hold, issue, acknowledge; what changed afterwards
    #[command(subcommand)]
    Billing(billing::BillingCommand),
    /// Values that people agree on: one proposes, another approves
    #[command(subcommand)]
    Edit(edits::EditCommand),
    /// Checks: what is looked for, what is found, and what follows
    #[command(subcommand)]
    Checks(checks::ChecksCommand),
    /// Expected against received readings: what is late or missing, and why
    Completeness(completeness::CompletenessArgs),
    /// One customer's load shape and key figures, in the terminal and as a picture
    Profile(profile_picture::ProfileArgs),
    /// Input that could not be read: list it, read it again after the map is mended
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// History decoded again from messages as they came, after a map or profile was mended: previewed, then applied
    #[command(subcommand)]
    Redecode(redecode::RedecodeCommand),
    /// Show what comes in, as it comes in: readings, events and dead letters by meter, topic or source
    Tap(tap::TapArgs),
    /// For the person who connects a Modbus meter: read one, find those of a line
    #[command(subcommand)]
    Modbus(modbus::ModbusCommand),
    /// Run golden messages and vectors and cases of checks: what must come of what is given, as files beside them
    Test(golden::TestArgs),
    /// Payload maps that come with the program
    #[command(subcommand)]
    Maps(shipped::MapsCommand),
    /// Device profiles that come with the program
    #[command(subcommand)]
    Profiles(shipped::ProfilesCommand),
    /// Examine lake and journal; with --mend, repair what can be repaired
    Doctor(doctor::DoctorArgs),
    /// How long rows stay: what is older than its table keeps it, shown or taken out
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// Periods that must stay whatever retention says, with who said so and why
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Take a meter or a customer out of everything, with proof
    #[command(subcommand)]
    Erase(erase::EraseCommand),
    /// Copy lake and journal at a consistent state, while everything runs
    Backup(backup::BackupArgs),
    /// Bring a backup back to where the configuration says, which must be empty
    Restore(backup::RestoreArgs),
    /// Simulated meters and recorded data as MQTT or Modbus traffic
    #[command(subcommand)]
    Simulate(simulate::SimulateCommand),
    /// Check a configuration file: every problem at once, by line
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    /// The configuration itself
    #[command(subcommand)]
    Config(config_commands::ConfigCommand),
}

impl Command {
    /// Processes tell what they do; commands answer, and tell only what went wrong. The embedded broker of the demo
    /// takes every end of a connection for an error.
    fn default_log(&self) -> &'static str {
        match self {
            Self::Run | Self::Collect | Self::Jobs | Self::Serve => "info",
            _ => "error,rumqttd=off",
        }
    }
}

/// Parses the arguments, runs the command, and reports an error as one chain of causes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = cli.global.log.as_deref().unwrap_or_else(|| cli.command.default_log());
    logs::init(log, cli.global.log_format);
    let runtime = match setup::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::CheckConfig { file } => return Ok(config_commands::check(&file)),
        Command::Config(command) => return Ok(config_commands::run(&command)),
        Command::Run => run::run(global).await?,
        Command::Collect => collect::command(global).await?,
        Command::Reload => reload::command(global).await?,
        Command::Jobs => jobs::schedule(global).await?,
        Command::Serve => serve::command(global).await?,
        Command::Demo(args) => demo::run(&args).await?,
        Command::Query(args) => query::run(global, &args).await?,
        Command::Tables(args) => tables::run(global, &args).await?,
        Command::Job(command) => jobs::run(global, &command).await?,
        Command::Registry(command) => registry::run(global, &command).await?,
        Command::Alerts(command) => alerts::run(global, &command).await?,
        Command::Billing(command) => return billing::run(global, &command).await,
        Command::Edit(command) => edits::run(global, &command).await?,
        Command::Checks(command) => checks::run(global, &command).await?,
        Command::Completeness(args) => completeness::run(global, &args).await?,
        Command::Profile(args) => profile_picture::run(global, &args).await?,
        Command::DeadLetters(command) => dead_letters::run(global, &command).await?,
        Command::Redecode(command) => redecode::run(global, &command).await?,
        Command::Tap(args) => tap::run(global, &args).await?,
        Command::Modbus(command) => return modbus::run(global, &command).await,
        Command::Test(args) => return golden::run(&args).await,
        Command::Maps(command) => shipped::maps(&command).await?,
        Command::Profiles(command) => shipped::profiles(&command).await?,
        Command::Doctor(args) => return doctor::run(global, &args).await,
        Command::Retention(command) => retention::run(global, &command).await?,
        Command::Hold(command) => hold::run(global, &command).await?,
        Command::Erase(command) => return erase::run(global, &command).await,
        Command::Backup(args) => backup::backup(global, &args).await?,
        Command::Restore(args) => backup::restore(global, &args).await?,
        Command::Simulate(command) => return simulate::run(global, &command).await,
    }
    Ok(ExitCode::SUCCESS)
}
