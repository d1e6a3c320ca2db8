//! The collectors against peers: a scripted broker, a scripted source, mosquitto, and recorded messages.

#![expect(clippy::unwrap_used, reason = "a test stops where it meets what it did not expect")]

mod broker_process;
mod dsmr;
mod fake_broker;
mod frames;
mod golden;
mod harness;
mod modbus;
mod mosquitto;
mod mqtt;
mod publishing;
mod receipts;
mod sessions;
mod sparkplug;
mod tls;
mod unsubscribing;
mod watchdogs;
