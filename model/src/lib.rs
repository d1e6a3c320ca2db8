//! The words of the field, as types: quantities with units, identifiers, time, readings, registry.
//!
//! This crate does no I/O and knows neither Arrow nor tokio. Every other crate but `config` may use it, and it uses
//! none of them. Numbers that bear money are integers of a stated unit from here to the last report.
//!
//! ```
//! use meterlake_model::{Amount, Channel, Timestamp};
//!
//! let channel = Channel::by_name("energy_import_kwh").expect("in the catalogue");
//! assert_eq!(channel.scale(), 3);
//! assert_eq!(Amount::parse("54.322").unwrap().to_string(), "54.322000");
//! assert!(Timestamp::parse_rfc3339("2016-03-27T01:00:00Z").is_ok());
//! ```

mod amount;
mod batch;
pub mod calendar;
mod channel;
pub mod check;
mod decimal;
pub mod determinant;
mod directory;
mod event;
pub mod formula;
mod id;
pub mod ledger;
mod quality;
pub mod registry;
pub mod revision;
mod time;

pub use amount::Amount;
pub use batch::{DeadLetter, DeadReason, RawMessage, ReadingBatch, ReadingFlags, ReadingRows, RowHeader};
pub use channel::{Channel, ChannelKind, Commodity};
pub use decimal::{DecimalError, parse_scaled, parse_scaled_rounding, rescale_exact, rescale_half_even};
pub use directory::{InstalledMultiplier, MeterDirectory, MeterEntry};
pub use event::{EventKind, MeterEvent};
pub use id::{CustomerId, GatewayId, IdError, MeterId, NodeId, UsagePointId};
pub use quality::{Method, Quality};
pub use time::{CivilDay, LocalResolution, TimeError, Timestamp, Zone, month_key};
