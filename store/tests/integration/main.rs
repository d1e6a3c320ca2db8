//! The store by its public door, one binary for all parts.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

mod as_of;
mod commit;
mod compact;
mod copies;
mod doctor;
mod engines;
mod faults;
mod growth;
mod kills;
mod lake;
mod life;
mod query;
mod registry;
mod remote;
mod shapes;
mod simulation;
mod views;
mod year;
