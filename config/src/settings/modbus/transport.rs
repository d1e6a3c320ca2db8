//! How a line is reached, and how its messages are framed.

use std::path::PathBuf;
use std::time::Duration;

use super::ModbusDevice;
use crate::document::Section;

/// How a line is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModbusTransport {
    /// Modbus TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// RTU on a serial line of this machine.
    Rtu(SerialPort),
    /// RTU frames over a TCP connection, as serial device servers pass them on.
    RtuOverTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A device server that connects to us: see [`super::ModbusListener`].
    DialIn(ModbusFraming),
}

/// The form of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModbusFraming {
    /// A header of seven bytes with transaction and length.
    Tcp,
    /// Unit first, checksum last.
    Rtu,
}

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialPort {
    /// Such as `/dev/ttyUSB0`.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// Bits of a character, without start, parity and stop: always 8 for RTU.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

impl ModbusTransport {
    /// The form of requests and answers.
    pub fn framing(&self) -> ModbusFraming {
        match self {
            Self::Tcp { .. } => ModbusFraming::Tcp,
            Self::Rtu(_) | Self::RtuOverTcp { .. } => ModbusFraming::Rtu,
            Self::DialIn(framing) => *framing,
        }
    }

    /// Whether two lines would use the same place, as key and place.
    pub(super) fn shared_with(&self, other: &Self) -> Option<(&'static str, String)> {
        match (self, other) {
            (Self::Rtu(ours), Self::Rtu(theirs)) => {
                (ours.device == theirs.device).then(|| ("serial", ours.device.display().to_string()))
            }
            _ => {
                let place = self.address()?;
                (other.address() == Some(place)).then(|| ("host", format!("{}:{}", place.0, place.1)))
            }
        }
    }

    fn address(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::RtuOverTcp { host, port } => Some((host, *port)),
            Self::Rtu(_) | Self::DialIn(_) => None,
        }
    }
}

impl SerialPort {
    /// How long one character takes on the line, with start, parity and stop bits.
    pub fn character(&self) -> Duration {
        let bits = 1 + u32::from(self.data_bits) + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits);
        Duration::from_secs(1) * bits / self.baud.max(1)
    }
}

/// What the keys of a line mean that are not of its transport.
const OF_TCP: &str = "belongs to transport \"tcp\" or \"rtu_over_tcp\"";
const OF_SERIAL: &str = "belongs to transport \"rtu\"";

/// Reads the keys that say how a line is reached. Notes devices whose address cannot be asked there.
pub(super) fn read(s: &mut Section<'_>, devices: &[ModbusDevice]) -> Option<ModbusTransport> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Tcp,
        Rtu,
        RtuOverTcp,
    }
    let kinds = [("tcp", Kind::Tcp), ("rtu", Kind::Rtu), ("rtu_over_tcp", Kind::RtuOverTcp)];
    let kind = if s.has("transport") { s.choice("transport", &kinds)? } else { Kind::Tcp };
    if kind != Kind::Tcp && devices.iter().any(|device| device.unit == 0) {
        s.refuse("transport", "has a device with unit 0: that is the address of all, and nobody answers it");
    }
    if kind == Kind::Rtu {
        for key in ["host", "port", "connect_timeout"] {
            s.forbid(key, OF_TCP);
        }
        return read_serial(s).map(ModbusTransport::Rtu);
    }
    for key in ["serial", "baud", "parity", "data_bits", "stop_bits"] {
        s.forbid(key, OF_SERIAL);
    }
    let host = s.text("host");
    let host = s.required("host", host);
    let port = s.integer("port", 1..=u16::MAX).unwrap_or(502);
    let host = host?;
    Some(match kind {
        Kind::RtuOverTcp => ModbusTransport::RtuOverTcp { host, port },
        _ => ModbusTransport::Tcp { host, port },
    })
}

fn read_serial(s: &mut Section<'_>) -> Option<SerialPort> {
    let device = s.text("serial");
    let device = s.required("serial", device);
    let baud = s.integer("baud", 300..=4_000_000_u32).unwrap_or(9_600);
    let parities = [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    let parity = s.choice("parity", &parities).unwrap_or(Parity::None);
    let data_bits = s.integer("data_bits", 8..=8_u8).unwrap_or(8);
    let stop_bits = s.integer("stop_bits", 1..=2_u8).unwrap_or(1);
    Some(SerialPort { device: device?.into(), baud, parity, data_bits, stop_bits })
}
