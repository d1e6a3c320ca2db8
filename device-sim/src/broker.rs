//! An embedded MQTT broker on loopback, for demonstrations and plain tests. Not for readings that matter: it keeps all in
//! memory, drops what exceeds it although it was acknowledged, forgets all when the process ends, and knows no users.
//!
//! It has no way to stop: its threads live until the process ends. It logs ends of connections as errors; silence it
//! with `rumqttd=off` in the filter.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::error::SimError;

/// How long the broker may take until it answers.
const START: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(5);
/// Ports that are tried when none is asked for.
const ATTEMPTS: usize = 5;
/// Memory is given back in this many steps.
const SEGMENTS: usize = 16;

/// Limits of the broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Port on 127.0.0.1; 0: any that is free.
    pub port: u16,
    /// Bytes of messages that are held for each subscription; what exceeds them is lost.
    pub memory_bytes: usize,
    /// Bytes of the largest message.
    pub max_payload_bytes: usize,
    /// Clients at a time.
    pub max_connections: usize,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { port: 0, memory_bytes: 64 << 20, max_payload_bytes: 1 << 20, max_connections: 1000 }
    }
}

/// A broker that runs.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts it and returns when it answers.
    ///
    /// # Errors
    /// When the port is taken or the broker does not come up.
    pub async fn start(options: &BrokerOptions) -> Result<Self, SimError> {
        let attempts = if options.port == 0 { ATTEMPTS } else { 1 };
        let mut failure = None;
        for _ in 0..attempts {
            let address = free_address(options.port)?;
            let thread = spawn(config(options, address))?;
            match answers(address, &thread).await {
                Ok(()) => return Ok(Self { address }),
                Err(error) => failure = Some(SimError::io(format!("embedded broker on {address}"), error)),
            }
        }
        Err(failure.unwrap_or_else(|| SimError::Plan("no attempt to start the broker".to_owned())))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An address that is free now. Someone may take it before the broker does: then the next one is tried.
fn free_address(port: u16) -> Result<SocketAddr, SimError> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(wanted)
        .and_then(|listener| listener.local_addr())
        .map_err(|e| SimError::io(format!("embedded broker on {wanted}"), e))
}

fn spawn(config: rumqttd::Config) -> Result<JoinHandle<()>, SimError> {
    let run = move || {
        if let Err(error) = rumqttd::Broker::new(config).start() {
            tracing::error!(%error, "embedded broker ended");
        }
    };
    std::thread::Builder::new()
        .name("embedded-broker".to_owned())
        .spawn(run)
        .map_err(|e| SimError::io("thread of the embedded broker", e))
}

async fn answers(address: SocketAddr, thread: &JoinHandle<()>) -> std::io::Result<()> {
    let start = Instant::now();
    loop {
        // Its thread ends when it cannot listen; whoever answers then is not our broker.
        if thread.is_finished() {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > START => return Err(error),
            Err(_) => tokio::time::sleep(ASK).await,
        }
    }
}

fn config(options: &BrokerOptions, listen: SocketAddr) -> rumqttd::Config {
    let server = ServerSettings {
        name: "loopback".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: options.max_payload_bytes,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    rumqttd::Config {
        router: RouterConfig {
            max_connections: options.max_connections,
            max_outgoing_packet_count: 200,
            max_segment_size: (options.memory_bytes / SEGMENTS).max(1024),
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("loopback".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}
