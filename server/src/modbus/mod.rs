//! `modbus`: for the person who connects a new meter. Only reads; nothing is ever written to a device.

mod doctor;
mod line;
mod range;
mod read;
mod scan;
mod survey;
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
    /// Find the devices of a line: which units answer, to what, how soon, and which shipped profiles fit them
    ///
    /// Asks each unit for a register or two with function codes 3 and 4, until one of them is answered; an exception is
    /// an answer, too. Exit code 1 when none answers.
    Scan(scan::ScanArgs),
    /// Find out what an unknown device says: which shipped profile fits, where which value may stand, and why
    ///
    /// Reads registers, tries addresses, types, byte orders and scales, and ranks what is left by what you say of the
    /// meter (--expect) and by physics. Nothing is ever written to the device. With --write the best becomes a profile:
    ///
    ///   meterlake modbus doctor --host 192.168.1.20 --unit 3 --registers 3:0+100
    ///     --expect voltage_l1_v=231 --expect energy_import_kwh=1234.5 --write my-meter.toml
    Doctor(doctor::DoctorArgs),
}

/// Runs one of them.
///
/// # Errors
/// When the arguments name no line or profile, the line cannot be connected, or the output cannot be written.
pub async fn run(global: &Global, command: &ModbusCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModbusCommand::Read(args) => read::run(global, args).await,
        ModbusCommand::Scan(args) => scan::run(global, args).await,
        ModbusCommand::Doctor(args) => doctor::run(global, args).await,
    }
}
