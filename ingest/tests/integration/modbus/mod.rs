//! Modbus lines against real sockets: a gateway that misbehaves on purpose, and pymodbus and libmodbus as peers.

mod bench;
mod dial_in;
mod dial_in_changes;
mod faults;
mod gateway;
mod identity;
mod peers;
mod replay;
mod rtu;
mod rtu_device;
mod telling;
