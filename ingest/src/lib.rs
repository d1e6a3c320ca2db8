//! Collectors: bytes of remote meters in, readings or dead letters out.
//!
//! [`decode`] turns one message into rows by a payload map and touches nothing else. [`mqtt`] keeps a persistent
//! session with a broker, [`modbus`] polls lines of devices; both hand over [`Delivery`]s through a bounded channel and
//! acknowledge to the device's side only what the receiver says is durable. This crate knows neither the journal nor
//! the tables, and opens no file.

pub mod decode;
mod delivery;
mod error;
pub mod modbus;
pub mod mqtt;

use std::sync::Arc;

use meterlake_model::MeterDirectory;

pub use delivery::{Ack, Delivery};
pub use error::IngestError;

/// The registry's newest snapshot, as the collectors follow it.
pub type Directory = tokio::sync::watch::Receiver<Arc<MeterDirectory>>;
