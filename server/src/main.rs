//! `meterlake`: remote meters over MQTT and Modbus to billing reads, alerts and profiles, in one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    meterlake_server::cli::main()
}
