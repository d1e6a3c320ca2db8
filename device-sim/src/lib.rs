//! Seeded meters that speak MQTT and Modbus, with faults placed by a scenario and the truth beside them.
//!
//! One part knows the other's only through the wire: this crate writes its own JSON and registers and shares no encoder
//! with the collectors, so that each checks the other. It also replays recorded files of real meters, runs an embedded
//! broker for demonstrations, cuts connections on command, and keeps a ledger of what was sent and acknowledged.
//!
//! It leaves out how the product is wired: the server's binary joins a simulation with collectors and tables.
//!
//! ```
//! use std::sync::Arc;
//! use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
//! use meterlake_model::Timestamp;
//!
//! let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
//! let mut plan = FleetPlan::new(1, from, from.plus_seconds(86_400));
//! plan.electricity_mqtt = 2;
//! let simulation = Arc::new(Simulation::new(plan, Scenario::none()).unwrap());
//! let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Frames).collect();
//! assert_eq!(messages.len(), 2);
//! assert_eq!(messages[0].rows.len(), 96);
//! assert_eq!(simulation.truth().expected().distinct, 192);
//! ```

mod broker;
mod error;
mod fault_proxy;
mod history;
pub mod json;
pub mod ledger;
mod live;
mod load;
pub mod malformed;
mod message;
pub mod modbus;
mod plan;
mod point;
pub mod publisher;
mod random;
mod registry;
pub mod replay;
mod scenario;
mod simulation;
mod truth;

pub use broker::{BrokerOptions, EmbeddedBroker};
pub use error::SimError;
pub use fault_proxy::FaultProxy;
pub use history::{History, message, topic};
pub use live::{LivePlan, live};
pub use message::{Malformed, Message, MessageForm, MessageKind, Rows};
pub use plan::{Class, FleetPlan, Link, METERS_PER_TRANSFORMER, PointRef, UNITS_PER_GATEWAY};
pub use point::{Mount, Point};
pub use scenario::{Fault, Scenario, Window};
pub use simulation::Simulation;
pub use truth::{AlertKind, Expected, FoundAlert, Score, TrueAlert, Truth};
