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
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::dial::{AfterFailure, Habits, Idle, Setting, Way};
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
/// The listener may change meanwhile, but for its name and where it listens. Links that do not change keep their connection
/// and their times; those that are gone are closed; those that are new may call at once. Bounds hold for whoever calls from
/// then on. When one of the registration packets is gone, all have to say again who they are.
///
/// # Errors
/// When the port cannot be had, or nobody takes the readings any more.
pub async fn listen(
    listener: watch::Receiver<ModbusListener>,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<ListenStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let (name, bind) = {
        let listener = listener.borrow();
        (listener.name.clone(), listener.bind)
    };
    let refused = |error: io::Error| IngestError::Listen { listener: name.clone(), bind, reason: error.to_string() };
    let port = TcpListener::bind(bind).await.map_err(refused)?;
    let address = port.local_addr().unwrap_or(bind);
    let mut hall = Hall {
        name,
        wanted: listener,
        registration: Vec::new(),
        links: HashMap::new(),
        lines: JoinSet::new(),
        callers: JoinSet::new(),
        told: HashSet::new(),
        seats: Arc::default(),
        directory,
        out,
        stats,
    };
    hall.follow();
    hall.stats.set_address(address);
    tracing::info!(listener = hall.name, %address, links = hall.links.len(), "device servers may call");
    stop.run_until_cancelled(hall.serve(port)).await.unwrap_or(Ok(()))
}

/// What the connections of one port have in common.
struct Hall {
    name: String,
    wanted: watch::Receiver<ModbusListener>,
    /// The packets by which those who are connected were recognised.
    registration: Vec<PacketPattern>,
    links: HashMap<String, Link>,
    /// The polls of all links, each waiting for its device server.
    lines: JoinSet<Result<(), IngestError>>,
    /// Connections that have not said yet who they are.
    callers: JoinSet<Result<Called, (IpAddr, String)>>,
    told: HashSet<Refused>,
    seats: Arc<Seats>,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<ListenStats>,
}

/// A device server that may call.
struct Link {
    slot: Arc<Slot>,
    setting: watch::Sender<Setting>,
    polls: AbortHandle,
}

/// What a connection that may not stay has done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Refused {
    Unknown(String),
    Unrecognised(IpAddr),
    TooMany(IpAddr),
}

impl Hall {
    /// Takes the newest configuration.
    fn follow(&mut self) {
        let listener = self.wanted.borrow_and_update();
        if !self.registration.iter().all(|pattern| listener.registration.contains(pattern)) {
            self.callers = JoinSet::new();
            self.links.values().for_each(|link| link.slot.end());
        }
        self.registration.clone_from(&listener.registration);
        // What was refused may be let in now; what is refused still is told once more.
        self.told.clear();
        // A registration packet that comes again keeps the connection alive.
        let patterns: Arc<[PacketPattern]> =
            listener.heartbeats.iter().chain(&listener.registration).cloned().collect();
        let mut before = std::mem::take(&mut self.links);
        for (link, (_, stats)) in listener.links.iter().zip(&*self.stats.follow(&listener)) {
            let known = before.remove(&link.id);
            let slot = known.as_ref().map_or_else(Arc::default, |known| Arc::clone(&known.slot));
            let way = Way {
                dial: Arc::new(LinkDial(Arc::clone(&slot))),
                habits: habits(link.line.timeout, listener.idle_timeout),
                heartbeats: Heartbeats::new(Arc::clone(&patterns), link.id.as_str().into()),
            };
            let setting = Setting { line: link.line.clone(), way };
            let link_now = match known {
                Some(known) => {
                    known.setting.send_if_modified(|old| {
                        let differs = !setting.is_as(old);
                        if differs {
                            *old = setting;
                        }
                        differs
                    });
                    known
                }
                None => {
                    let (sender, setting) = watch::channel(setting);
                    let (directory, out) = (self.directory.clone(), self.out.clone());
                    let poller = Poller::new(setting, Clock::system(), directory, out, Arc::clone(stats));
                    Link { slot, setting: sender, polls: self.lines.spawn(poller.run()) }
                }
            };
            self.links.insert(link.id.clone(), link_now);
        }
        // Their connections end with their polls.
        before.values().for_each(|gone| gone.polls.abort());
    }

    /// Takes connections, finds out who each is, and follows the configuration, for ever. A line ends by itself only when it
    /// cannot go on.
    async fn serve(mut self, port: TcpListener) -> Result<(), IngestError> {
        let mut full = false;
        loop {
            tokio::select! {
                accepted = port.accept() => match accepted {
                    Ok((stream, peer)) => {
                        full = false;
                        count(&self.stats.accepted);
                        let (most, most_of_one) = {
                            let wanted = self.wanted.borrow();
                            (wanted.max_links, wanted.max_links_per_address)
                        };
                        match self.seats.take(peer.ip(), most, most_of_one) {
                            Some(seat) => self.greet(stream, peer, seat),
                            None => self.refuse(Refused::TooMany(peer.ip()), "connections are too many"),
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
                Some(ended) = self.callers.join_next() => match ended {
                    Ok(Ok(called)) => self.seat(called),
                    Ok(Err((peer, why))) => {
                        count(&self.stats.unrecognised);
                        self.refuse(Refused::Unrecognised(peer), &why);
                    }
                    Err(join) => tracing::error!(listener = self.name, %join, "a registration ended abruptly"),
                },
                Ok(()) = self.wanted.changed() => self.follow(),
                Some(ended) = self.lines.join_next() => match ended {
                    Ok(outcome) => return outcome,
                    Err(join) if join.is_cancelled() => {}
                    Err(join) => {
                        let detail = join.to_string();
                        return Err(IngestError::Internal { source_name: self.name, detail });
                    }
                },
            }
        }
    }

    fn greet(&mut self, stream: TcpStream, peer: SocketAddr, seat: Seat) {
        let config = self.wanted.borrow();
        let (registration, heartbeats) = (config.registration.clone(), config.heartbeats.clone());
        let (most, within) = (config.registration_bytes, config.registration_timeout);
        drop(config);
        self.callers.spawn(async move {
            let refused = |why: String| (peer.ip(), why);
            let mut stream = stream;
            prepare(&stream).map_err(|error| refused(error.to_string()))?;
            let id = register(&mut stream, &registration, &heartbeats, most, within).await;
            let id = id.map_err(|why| refused(why.to_string()))?;
            Ok(Called { id, stream, seat, peer })
        });
    }

    /// Hands a connection to its line.
    fn seat(&mut self, called: Called) {
        let Called { id, stream, seat, peer } = called;
        let Some(link) = self.links.get(&id) else {
            count(&self.stats.unknown);
            return self.refuse(Refused::Unknown(id.clone()), &format!("`{id}` of {peer} is nobody who may call"));
        };
        count(&self.stats.registered);
        let replaced = link.slot.put(stream, seat);
        if replaced {
            count(&self.stats.replaced);
        }
        tracing::debug!(listener = self.name, id, %peer, replaced, "device server called");
    }

    /// Counts, and tells once.
    fn refuse(&mut self, what: Refused, why: &str) {
        if matches!(what, Refused::TooMany(_)) {
            count(&self.stats.too_many);
        }
        if self.told.len() < MOST_TOLD && self.told.insert(what.clone()) {
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
pub(super) fn habits(timeout: Duration, idle_timeout: Duration) -> Habits {
    Habits {
        after_failure: AfterFailure { keep: true, drain: Some((timeout / 2, QUIET)) },
        idle: Idle::Listen(idle_timeout),
        gap: Duration::ZERO,
        character: Duration::ZERO,
    }
}
