//! What follows from readings: usage spans, billing reads, alerts, profiles and completeness, and the jobs that derive them.
//!
//! The rules are pure functions with their tables of cases ([`usage`], [`billing`], [`runs`], [`ledger`], [`alerts`], [`profiles`], [`completeness`]); [`jobs`]
//! runs them over the lake's tables with DataFusion. This crate knows nothing of how a reading came (MQTT, Modbus,
//! maps) nor of who asks for the results (command line, HTTP): `server` hands it its [`Rules`] as plain values.

pub mod alerts;
pub mod billing;
pub mod book;
pub mod checks;
pub mod completeness;
pub mod desk;
pub mod determinants;
pub mod exports;
pub mod jobs;
pub mod ledger;
pub mod profiles;
mod rules;
pub mod runs;
pub mod tables;
pub mod usage;

pub use jobs::{Job, JobError, JobOptions, JobReport, run_job};
pub use rules::{FillRules, Rules};
