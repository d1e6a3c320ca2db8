//! The program: command line, pipeline wiring, HTTP, and the demo.
//!
//! It stands on top: `ingest` and `store` meet in [`pipeline`], the rules reach `analytics` as plain values from
//! [`setup`]. Nothing else in the workspace knows this crate.

pub mod alerts;
pub mod backup;
pub mod billing;
mod births;
pub mod checks;
pub mod cli;
pub mod collect;
mod collectors;
pub mod completeness;
pub mod config_commands;
pub mod dead_letters;
pub mod demo;
mod directory;
pub mod doctor;
pub mod edits;
pub mod erase;
mod golden;
mod hand_over;
pub mod hold;
pub mod jobs;
mod kept_file;
mod kept_filters;
mod logs;
mod maintenance;
mod metrics;
mod modbus;
mod output;
pub mod pipeline;
mod profile_picture;
mod progress;
pub mod query;
mod redecode;
pub mod registry;
pub mod reload;
mod replay_spool;
pub mod retention;
mod rows;
pub mod run;
pub mod serve;
pub mod setup;
mod shipped;
mod shutdown;
pub mod simulate;
pub mod status;
pub mod tables;
mod tap;
mod units;
