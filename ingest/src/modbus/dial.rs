//! Makes the connections of a line, and knows the habits of each way to reach one.

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meterlake_config::{ModbusLine, ModbusTransport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::heartbeat::Heartbeats;
use super::serial::{self, SerialDial};

/// A byte stream to a line.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Transport for T {}

/// Makes connections. Tests make them in memory.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// A new connection.
    async fn dial(&self) -> io::Result<Box<dyn Transport>>;

    /// Returns when dialling is worth a try; never where nothing tells.
    async fn ready(&self) {
        pending::<()>().await;
    }
}

/// What follows from the way a line is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habits {
    /// What becomes of a connection on which an answer may still be on its way.
    pub(super) after_failure: AfterFailure,
    /// What becomes of a connection that has nothing to do.
    pub(super) idle: Idle,
    /// Silence before each request.
    pub(super) gap: Duration,
    /// What one character takes on the line: it comes on top of the time that a device may take.
    pub(super) character: Duration,
}

/// What becomes of a connection after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterFailure {
    /// Whether it is kept; else it is ended, and what comes late on it with it.
    pub(super) keep: bool,
    /// Where what comes late may come on the next connection, or on this one that is kept: for how long after the failure
    /// it is thrown away at least, and how long it must have been quiet then.
    pub(super) drain: Option<(Duration, Duration)>,
}

impl AfterFailure {
    /// How much longer than its own time-out a failed request occupies the line.
    pub(super) fn rest(self) -> Duration {
        self.drain.map_or(Duration::ZERO, |(at_least, quiet)| at_least + quiet)
    }
}

/// What becomes of a connection that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// It is given back before long: gateways have few, and end idle ones unseen.
    GiveBack,
    /// It is kept.
    Keep,
    /// It is listened to, and ended when it says nothing for so long.
    Listen(Duration),
}

/// Where each request is answered on its own connection or none.
pub(super) const BY_CONNECTION: Habits = Habits {
    after_failure: AfterFailure { keep: false, drain: None },
    idle: Idle::GiveBack,
    gap: Duration::ZERO,
    character: Duration::ZERO,
};

/// A serial device server passes on what its line says to whoever is connected then, also what somebody else asked for.
/// Its line is taken to be as slow as most are: 9,600 bits a second.
pub(super) const THROUGH_DEVICE_SERVER: Habits = Habits {
    after_failure: AfterFailure { keep: false, drain: Some((Duration::from_millis(300), Duration::from_millis(50))) },
    ..BY_CONNECTION
};

/// How a line is reached, and how the connection is kept.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) habits: Habits,
    pub(super) heartbeats: Heartbeats,
}

impl Way {
    /// That to a line that we connect to.
    pub(super) fn to(line: &ModbusLine) -> Self {
        let tcp = |host: &String, port: u16| Arc::new(TcpDial { host: host.clone(), port });
        let (dial, habits): (Arc<dyn Dial>, _) = match &line.transport {
            ModbusTransport::Tcp { host, port } => (tcp(host, *port), BY_CONNECTION),
            ModbusTransport::RtuOverTcp { host, port } => (tcp(host, *port), THROUGH_DEVICE_SERVER),
            ModbusTransport::Rtu(port) => (Arc::new(SerialDial::new(port.clone())), serial::habits(port)),
            ModbusTransport::DialIn(_) => (Arc::new(Nobody), BY_CONNECTION),
        };
        Self { dial, habits, heartbeats: Heartbeats::default() }
    }
}

/// A line as it is to be from now on.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) line: ModbusLine,
    pub(super) way: Way,
}

impl Setting {
    /// Of a line that we connect to.
    pub(super) fn of(line: &ModbusLine) -> Self {
        Self { line: line.clone(), way: Way::to(line) }
    }

    /// Whether both ask for the same, whoever dials.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let habits = self.way.habits == other.way.habits;
        habits && self.way.heartbeats == other.way.heartbeats && self.line == other.line
    }
}

/// Connects by TCP.
#[derive(Debug)]
struct TcpDial {
    host: String,
    port: u16,
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A request is a few bytes and waits for its answer: there is nothing to collect.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// A line that only its listener can have.
struct Nobody;

#[async_trait]
impl Dial for Nobody {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the device server connects to the collector, not the other way",
        ))
    }
}
