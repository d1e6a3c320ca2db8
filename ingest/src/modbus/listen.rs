//! A port that device servers connect to. Each is recognised by its registration packet and becomes a line like any
//! other: the same schedule, turns and rests, with a dial that takes the connection which the device server has made.
//!
//! A registration packet proves nothing: whoever knows an id can send it. So the port belongs into a private network.

mod link;
mod registration;
mod stats;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meterlake_config::{ModbusListener, PacketPattern};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::connection::Connection;
use super::dial::{AfterFailure, Habits, Idle};
use super::heartbeat::Heartbeats;
use super::line::Poller;
use super::stats::count;
use crate::{Delivery, Directory, IngestError};
use link::{LinkDial, Seat, Seats, Slot};
use registration::register;

pub use stats::ListenStats;

/// A peer that answers nothing, not even the probes of TCP, is gone after a minute and a half.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;
/// Rest when the system has no more room for connections.
const NO_ROOM: Duration = Duration::from_millis(200);
/// Refused ids and addresses that are told once each; beyond them they are only counted.
const MOST_TOLD: usize = 1_000;
/// Quiet at the end of what comes late through a mobile network.
const QUIET: Duration = Duration::from_millis(100);

/// Listens until told to stop, and polls the devices of every device server that calls. What is refused is counted in
/// `stats` and told once for each id or address; nothing of it ends the listener.
///
/// # Errors
/// When the port cannot be had, or nobody takes the readings any more.
pub async fn listen(
    listener: ModbusListener,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<ListenStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let refused = |error: io::Error| IngestError::Listen {
        listener: listener.name.clone(),
        bind: listener.bind,
        reason: error.to_string(),
    };
    let port = TcpListener::bind(listener.bind).await.map_err(refused)?;
    let address = port.local_addr().unwrap_or(listener.bind);
    stats.set_address(address);
    tracing::info!(listener = listener.name, %address, links = listener.links.len(), "device servers may call");
    let hall = Hall::new(listener, stats);
    let mut lines = JoinSet::new();
    for poller in hall.pollers(&directory, &out) {
        lines.spawn(poller.run());
    }
    let serving = async {
        tokio::select! {
            never = hall.accept(port) => never,
            // A line ends by itself only when it cannot go on.
            Some(ended) = lines.join_next() => match ended {
                Ok(outcome) => outcome,
                Err(join) => Err(IngestError::Internal { source_name: hall.name.clone(), detail: join.to_string() }),
            },
        }
    };
    stop.run_until_cancelled(serving).await.unwrap_or(Ok(()))
}

/// What the connections of one port have in common.
struct Hall {
    name: String,
    config: ModbusListener,
    slots: HashMap<String, Arc<Slot>>,
    seats: Arc<Seats>,
    stats: Arc<ListenStats>,
}

/// What a connection that may not stay has done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Refused {
    Unknown(String),
    Unrecognised(IpAddr),
    TooMany(IpAddr),
}

impl Hall {
    fn new(config: ModbusListener, stats: Arc<ListenStats>) -> Self {
        let slots = config.links.iter().map(|link| (link.id.clone(), Arc::default())).collect();
        Self { name: config.name.clone(), config, slots, seats: Arc::default(), stats }
    }

    /// The pollers of all links, each waiting for its device server.
    fn pollers(&self, directory: &Directory, out: &mpsc::Sender<Delivery>) -> Vec<Poller> {
        // A registration packet that comes again keeps the connection alive.
        let patterns: Arc<[PacketPattern]> =
            self.config.heartbeats.iter().chain(&self.config.registration).cloned().collect();
        let pollers = self.config.links.iter().zip(&self.stats.lines).map(|(link, (_, stats))| {
            let dial = Box::new(LinkDial(self.slots.get(&link.id).map(Arc::clone).unwrap_or_default()));
            let heartbeats = Heartbeats::new(Arc::clone(&patterns), link.id.as_str().into());
            let habits = habits(link.line.timeout, self.config.idle_timeout);
            let connection = Connection::new(dial, &link.line, habits, heartbeats);
            let line = link.line.clone();
            Poller::new(line, connection, Clock::system(), directory.clone(), out.clone(), Arc::clone(stats))
        });
        pollers.collect()
    }

    /// Takes connections, and finds out who each is, for ever.
    async fn accept(&self, port: TcpListener) -> Result<(), IngestError> {
        let mut callers = JoinSet::new();
        let mut told = HashSet::new();
        let mut full = false;
        loop {
            tokio::select! {
                accepted = port.accept() => match accepted {
                    Ok((stream, peer)) => {
                        full = false;
                        count(&self.stats.accepted);
                        let most = self.config.max_links;
                        match self.seats.take(peer.ip(), most, self.config.max_links_per_address) {
                            Some(seat) => self.greet(&mut callers, stream, peer, seat),
                            None => self.refuse(&mut told, Refused::TooMany(peer.ip()), "connections are too many"),
                        }
                    }
                    Err(error) => {
                        count(&self.stats.accept_errors);
                        if !std::mem::replace(&mut full, true) {
                            tracing::error!(listener = self.name, %error, "a connection cannot be taken");
                        }
                        sleep(NO_ROOM).await;
                    }
                },
                Some(ended) = callers.join_next() => match ended {
                    Ok(Ok(called)) => self.seat(called, &mut told),
                    Ok(Err((peer, why))) => {
                        count(&self.stats.unrecognised);
                        self.refuse(&mut told, Refused::Unrecognised(peer), &why);
                    }
                    Err(join) => tracing::error!(listener = self.name, %join, "a registration ended abruptly"),
                },
            }
        }
    }

    fn greet(
        &self,
        callers: &mut JoinSet<Result<Called, (IpAddr, String)>>,
        stream: TcpStream,
        peer: SocketAddr,
        seat: Seat,
    ) {
        let config = &self.config;
        let (registration, heartbeats) = (config.registration.clone(), config.heartbeats.clone());
        let (most, within) = (config.registration_bytes, config.registration_timeout);
        callers.spawn(async move {
            let refused = |why: String| (peer.ip(), why);
            let mut stream = stream;
            prepare(&stream).map_err(|error| refused(error.to_string()))?;
            let id = register(&mut stream, &registration, &heartbeats, most, within).await;
            let id = id.map_err(|why| refused(why.to_string()))?;
            Ok(Called { id, stream, seat, peer })
        });
    }

    /// Hands a connection to its line.
    fn seat(&self, called: Called, told: &mut HashSet<Refused>) {
        let Called { id, stream, seat, peer } = called;
        let Some(slot) = self.slots.get(&id) else {
            count(&self.stats.unknown);
            return self.refuse(
                told,
                Refused::Unknown(id.clone()),
                &format!("`{id}` of {peer} is nobody who may call"),
            );
        };
        count(&self.stats.registered);
        let replaced = slot.put(stream, seat);
        if replaced {
            count(&self.stats.replaced);
        }
        tracing::debug!(listener = self.name, id, %peer, replaced, "device server called");
    }

    /// Counts, and tells once.
    fn refuse(&self, told: &mut HashSet<Refused>, what: Refused, why: &str) {
        if matches!(what, Refused::TooMany(_)) {
            count(&self.stats.too_many);
        }
        if told.len() < MOST_TOLD && told.insert(what.clone()) {
            let (Refused::TooMany(address) | Refused::Unrecognised(address)) = what else {
                return tracing::warn!(listener = self.name, why, "device server refused; told once for each id");
            };
            tracing::warn!(listener = self.name, %address, why, "connection refused; told once for each address");
        }
    }
}

/// A connection that has said who it is.
struct Called {
    id: String,
    stream: TcpStream,
    seat: Seat,
    peer: SocketAddr,
}

/// Requests go out at once, and a peer that is gone is found out.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY).with_retries(KEEP_ALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// A device server may need a minute to call again, so its connection is kept and drained: what comes late through a
/// mobile network comes mostly within half of the time that an answer may take.
fn habits(timeout: Duration, idle_timeout: Duration) -> Habits {
    Habits {
        after_failure: AfterFailure { keep: true, drain: Some((timeout / 2, QUIET)) },
        idle: Idle::Listen(idle_timeout),
        gap: Duration::ZERO,
        character: Duration::ZERO,
    }
}
