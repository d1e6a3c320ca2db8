//! Modbus lines against real sockets: a gateway that misbehaves on purpose, and pymodbus as a peer.

#![expect(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

mod bench;
mod dial_in;
mod faults;
mod gateway;
mod identity;
mod peers;
mod replay;
mod rtu;
mod rtu_device;
