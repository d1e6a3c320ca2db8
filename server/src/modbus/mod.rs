//! `modbus`: for the person who connects a new meter. Only reads; nothing is ever written to a device.

mod line;
mod range;
mod read;
mod scan;
mod values;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Global;

/// What can be asked of Modbus lines and their devices.
#[derive(Debug, Subcommand)]
pub enum ModbusCommand {
    /// Read one device once: every value of its profile with its registers, or bare registers
    ///
    ///   meterlake modbus read --host 192.168.1.20 --unit 3 --profile eastron-sdm630
    ///   meterlake modbus read --serial /dev/ttyUSB0 --baud 9600 --unit 1 --registers 4:0x0000+20
    ///   meterlake --config meterlake.toml modbus read --line hall --unit 3
    ///
    /// Exit code 1 when something could not be read.
    Read(read::ReadArgs),
    /// Find the devices of a line: which units answer, to what, and how soon
    ///
    /// Asks each unit for a register or two with function codes 3 and 4, until one of them is answered; an exception is
    /// an answer, too. Exit code 1 when none answers.
    Scan(scan::ScanArgs),
}

/// Runs one of them.
///
/// # Errors
/// When the arguments name no line or profile, the line cannot be connected, or the output cannot be written.
pub async fn run(global: &Global, command: &ModbusCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModbusCommand::Read(args) => read::run(global, args).await,
        ModbusCommand::Scan(args) => scan::run(global, args).await,
    }
}
