//! The product from outside: the workspace's edges, the command line, and the real binary against real peers.
//!
//! What needs mosquitto, pymodbus, deltalake or DuckDB runs where `METERLAKE_PEERS=1` is set; there the absence of a
//! peer is a failure. Recorded data is found by `METERLAKE_DATA` or in `../shared/data`; without it those tests say so.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

mod billing_commands;
mod command_line;
mod completeness;
mod golden_files;
mod life;
mod modbus_commands;
mod mosquitto;
mod nothing_lost;
mod one_bad_thing;
mod open_tables;
mod oracle;
mod peers;
mod process;
mod real_input;
mod redecode;
mod reload;
mod site;
mod tap;
mod workspace;
