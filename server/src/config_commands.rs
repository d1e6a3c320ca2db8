//! `check-config` and `config default`.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use meterlake_config::Config;
use meterlake_ingest::mqtt;

/// What can be asked of the configuration itself.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the commented defaults, to start a file from
    Default,
}

/// Prints the defaults.
pub fn run(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Default => print!("{}", Config::default_text()),
    }
    ExitCode::SUCCESS
}

/// Names every problem of a file, or says that there is none.
pub fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            // What only whoever connects can tell of certificates and keys.
            let unsound: Vec<_> = config
                .mqtt
                .iter()
                .filter_map(|broker| Some((&broker.name, mqtt::check(broker).err()?)))
                .map(|(name, complaint)| format!("{}: broker `{name}`: {complaint}", file.display()))
                .collect();
            if !unsound.is_empty() {
                eprintln!("{}", unsound.join("\n"));
                return ExitCode::FAILURE;
            }
            for caution in config.cautions() {
                eprintln!("{}: mind: {caution}", file.display());
            }
            println!(
                "{}: right; {} MQTT brokers, {} Modbus lines with {} devices",
                file.display(),
                config.mqtt.len(),
                config.modbus_lines().count(),
                config.modbus_lines().map(|line| line.devices.len()).sum::<usize>()
            );
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::FAILURE
        }
    }
}
