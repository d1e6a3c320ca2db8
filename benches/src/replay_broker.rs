//! Just enough of an MQTT broker to find a collector's limit: it sends messages that were encoded beforehand, holds a
//! window of unacknowledged ones, and counts acknowledgements. MQTT 3.1.1 and 5, one client, two threads.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x80;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xC0;
const PINGRESP: u8 = 0xD0;
const DISCONNECT: u8 = 0xE0;
/// Of MQTT 5 in CONNECT.
const LEVEL_5: u8 = 5;
/// What is written at once at most.
const CHUNK_BYTES: usize = 256 * 1024;

/// One message.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// How the messages are sent.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Messages that may be unacknowledged.
    pub window: u16,
    /// Messages a second; `None`: as fast as the window allows.
    pub rate: Option<f64>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// From the first message to the last acknowledgement.
    pub wall: Duration,
    /// From a message's sending to its acknowledgement, by message; only with a rate.
    pub latencies: Vec<Duration>,
}

/// A listening broker.
pub struct ReplayBroker {
    listener: TcpListener,
}

#[derive(Default)]
struct State {
    acknowledged: usize,
    /// When each unacknowledged message was sent.
    sent: VecDeque<Instant>,
    latencies: Vec<Duration>,
    failed: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReplayBroker {
    /// On a free port of this machine.
    ///
    /// # Errors
    /// When the system gives no port.
    pub fn bind() -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for one client and its subscription, sends every message once, and waits until all are acknowledged.
    ///
    /// # Errors
    /// When the client speaks something else, leaves early, or acknowledges nothing for `patience`.
    pub fn serve(&self, messages: &[Outgoing], flow: Flow, patience: Duration) -> anyhow::Result<Seen> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        let level = greet(&mut reader, &mut stream)?;
        let wire = encode(messages, level)?;
        let shared = Arc::new(Shared { state: Mutex::default(), moved: Condvar::new() });
        let listening = {
            let (shared, stream) = (Arc::clone(&shared), stream.try_clone()?);
            let total = messages.len();
            std::thread::spawn(move || listen(reader, stream, &shared, total))
        };
        let started = Instant::now();
        let outcome = send(&mut stream, &wire, flow, &shared, patience);
        let all = outcome.and_then(|()| wait_for(messages.len(), &shared, patience));
        let wall = started.elapsed();
        // The client may stay connected; what it says from now on is not waited for.
        stream.set_read_timeout(Some(Duration::from_millis(1))).ok();
        if all.is_err() {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
        drop(listening);
        all?;
        Ok(Seen { wall, latencies: shared.with(|state| std::mem::take(&mut state.latencies)) })
    }
}

/// Every packet, one behind the other, and where each ends.
struct Wire {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

fn encode(messages: &[Outgoing], level: u8) -> anyhow::Result<Wire> {
    let mut wire = Wire { bytes: Vec::new(), ends: Vec::with_capacity(messages.len()) };
    for (number, message) in messages.iter().enumerate() {
        // In order of sending, so an id is free again long before it comes round.
        let id = u16::try_from(number % usize::from(u16::MAX))? + 1;
        let properties = usize::from(level == LEVEL_5);
        let length = 2 + message.topic.len() + 2 + properties + message.payload.len();
        wire.bytes.push(PUBLISH_QOS1);
        put_length(&mut wire.bytes, length);
        wire.bytes.extend(u16::try_from(message.topic.len())?.to_be_bytes());
        wire.bytes.extend(message.topic.as_bytes());
        wire.bytes.extend(id.to_be_bytes());
        wire.bytes.extend(std::iter::repeat_n(0, properties));
        wire.bytes.extend(&message.payload);
        wire.ends.push(wire.bytes.len());
    }
    Ok(wire)
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7F).unwrap_or(0x7F);
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

fn send(stream: &mut TcpStream, wire: &Wire, flow: Flow, shared: &Shared, patience: Duration) -> anyhow::Result<()> {
    let window = usize::from(flow.window);
    let started = Instant::now();
    let mut next = 0;
    while next < wire.ends.len() {
        let mut allowed = wait_for((next + 1).saturating_sub(window), shared, patience)
            .map(|()| shared.with(|state| state.acknowledged) + window)?
            .min(wire.ends.len());
        if let Some(rate) = flow.rate {
            let due = Duration::from_secs_f64((next + 1) as f64 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            let by_now = (started.elapsed().as_secs_f64() * rate) as usize;
            allowed = allowed.min(by_now.max(next + 1));
        }
        let from = if next == 0 { 0 } else { wire.ends[next - 1] };
        let mut to = next;
        while to < allowed && (to == next || wire.ends[to] - from <= CHUNK_BYTES) {
            to += 1;
        }
        if flow.rate.is_some() {
            let now = Instant::now();
            shared.with(|state| state.sent.extend(std::iter::repeat_n(now, to - next)));
        }
        stream.write_all(&wire.bytes[from..wire.ends[to - 1]]).context("the client takes no more")?;
        next = to;
    }
    Ok(())
}

/// Waits until so many messages are acknowledged.
fn wait_for(acknowledged: usize, shared: &Shared, patience: Duration) -> anyhow::Result<()> {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut last, mut quiet_since) = (state.acknowledged, Instant::now());
    while state.acknowledged < acknowledged {
        if let Some(failed) = &state.failed {
            bail!("{failed}");
        }
        ensure!(quiet_since.elapsed() < patience, "no acknowledgement for {} s after {last}", patience.as_secs());
        let waited = shared.moved.wait_timeout(state, Duration::from_millis(200));
        state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        if state.acknowledged != last {
            (last, quiet_since) = (state.acknowledged, Instant::now());
        }
    }
    Ok(())
}

/// Reads what the client says until all is acknowledged.
fn listen(mut reader: BufReader<TcpStream>, mut writer: TcpStream, shared: &Shared, total: usize) {
    let outcome = (|| -> anyhow::Result<()> {
        let mut acknowledged = 0;
        let mut unpublished = 0;
        while acknowledged < total {
            let (kind, body) = packet(&mut reader)?;
            match kind & 0xF0 {
                PUBACK => {
                    // Some clients acknowledge in another order: only the number counts.
                    ensure!(body.len() >= 2, "a PUBACK without an id");
                    acknowledged += 1;
                    unpublished += 1;
                }
                PINGREQ => writer.write_all(&[PINGRESP, 0])?,
                DISCONNECT => bail!("the client left after {acknowledged} acknowledgements"),
                other => bail!("the client sent packet type {other:#x}"),
            }
            // One wake-up for all that came together.
            if reader.buffer().is_empty() || unpublished >= 1024 || acknowledged == total {
                let now = Instant::now();
                shared.with(|state| {
                    state.acknowledged = acknowledged;
                    for _ in 0..unpublished {
                        if let Some(sent) = state.sent.pop_front() {
                            state.latencies.push(now - sent);
                        }
                    }
                });
                unpublished = 0;
                shared.moved.notify_all();
            }
        }
        Ok(())
    })();
    if let Err(error) = outcome {
        shared.with(|state| state.failed = Some(format!("{error:#}")));
        shared.moved.notify_all();
    }
}

/// CONNECT and the first SUBSCRIBE; gives the protocol level.
fn greet(reader: &mut impl Read, writer: &mut TcpStream) -> anyhow::Result<u8> {
    let (kind, body) = packet(reader)?;
    ensure!(kind == CONNECT, "the client began with packet type {kind:#x}");
    // Name of the protocol, then its level.
    let level = *body.get(6).context("a CONNECT without a level")?;
    let greeting: &[u8] = if level == LEVEL_5 { &[CONNACK, 3, 0, 0, 0] } else { &[CONNACK, 2, 0, 0] };
    writer.write_all(greeting)?;
    loop {
        let (kind, body) = packet(reader)?;
        match kind & 0xF0 {
            SUBSCRIBE => {
                writer.write_all(&granted(&body, level)?)?;
                return Ok(level);
            }
            PINGREQ => writer.write_all(&[PINGRESP, 0])?,
            other => bail!("the client sent packet type {other:#x} before it subscribed"),
        }
    }
}

/// SUBACK with QoS 1 for every filter.
fn granted(body: &[u8], level: u8) -> anyhow::Result<Vec<u8>> {
    let mut at = 2;
    if level == LEVEL_5 {
        at += 1 + usize::from(*body.get(at).context("a SUBSCRIBE that ends early")?);
    }
    let mut filters = 0;
    while at + 2 <= body.len() {
        at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]])) + 1;
        filters += 1;
    }
    let properties = usize::from(level == LEVEL_5);
    let mut answer = vec![SUBACK];
    put_length(&mut answer, 2 + properties + filters);
    answer.extend(body.get(..2).context("a SUBSCRIBE without an id")?);
    answer.extend(std::iter::repeat_n(0, properties));
    answer.extend(std::iter::repeat_n(1, filters));
    Ok(answer)
}

/// One packet: its first byte and what follows the length.
fn packet(reader: &mut impl Read) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    reader.read_exact(&mut byte).context("the client is gone")?;
    let kind = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        reader.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        ensure!(shift < 28, "a packet of impossible length");
    }
    ensure!(length <= 1 << 20, "a packet of {length} bytes from a client");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((kind, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(count: usize) -> Vec<Outgoing> {
        (0..count).map(|i| Outgoing { topic: format!("m/{i}"), payload: vec![b'x'; i % 300] }).collect()
    }

    /// A client by hand, byte for byte, that acknowledges everything.
    fn client(address: SocketAddr, level: u8, total: usize) -> Vec<Vec<u8>> {
        let mut stream = TcpStream::connect(address).unwrap();
        let tail: &[u8] = if level == 5 { &[0, 0, 30, 0, 0, 1, b'c'] } else { &[0, 0, 30, 0, 1, b'c'] };
        let mut hello = vec![CONNECT, u8::try_from(7 + tail.len()).unwrap(), 0, 4, b'M', b'Q', b'T', b'T', level];
        hello.extend(tail);
        stream.write_all(&hello).unwrap();
        assert_eq!(packet(&mut stream).unwrap().0, CONNACK);
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let mut subscribe = vec![0x82, u8::try_from(2 + properties.len() + 6).unwrap(), 0, 7];
        subscribe.extend(properties);
        subscribe.extend([0, 3, b'm', b'/', b'#', 1]);
        stream.write_all(&subscribe).unwrap();
        let (kind, body) = packet(&mut stream).unwrap();
        assert_eq!((kind, body[1], *body.last().unwrap()), (SUBACK, 7, 1));
        let mut payloads = Vec::new();
        for _ in 0..total {
            let (kind, body) = packet(&mut stream).unwrap();
            assert_eq!(kind, PUBLISH_QOS1);
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let id = &body[2 + topic..4 + topic];
            payloads.push(body[4 + topic + usize::from(level == 5)..].to_vec());
            stream.write_all(&[PUBACK, 2, id[0], id[1]]).unwrap();
        }
        payloads
    }

    #[test]
    fn every_message_arrives_once_in_order_within_the_window() {
        for (level, window) in [(4, 1), (5, 20), (5, u16::MAX)] {
            let broker = ReplayBroker::bind().unwrap();
            let (address, sent) = (broker.address().unwrap(), messages(500));
            let taking = std::thread::spawn(move || client(address, level, 500));
            let flow = Flow { window, rate: None };
            broker.serve(&sent, flow, Duration::from_secs(20)).unwrap();
            let expected: Vec<_> = sent.into_iter().map(|message| message.payload).collect();
            assert_eq!(taking.join().unwrap(), expected, "level {level}, window {window}");
        }
    }

    #[test]
    fn a_rate_gives_a_latency_for_each_message() {
        let broker = ReplayBroker::bind().unwrap();
        let address = broker.address().unwrap();
        let taking = std::thread::spawn(move || client(address, 5, 50));
        let flow = Flow { window: 20, rate: Some(5_000.0) };
        let seen = broker.serve(&messages(50), flow, Duration::from_secs(20)).unwrap();
        assert_eq!(seen.latencies.len(), 50);
        taking.join().unwrap();
    }
}
