//! The collectors against peers: a scripted broker, a scripted client library, mosquitto, and recorded messages.

mod fake_broker;
mod golden;
mod harness;
mod mosquitto;
mod mqtt;
mod watchdogs;
