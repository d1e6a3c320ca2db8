//! Device servers that call: a thousand on one port, and those that may not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meterlake_config::{Config, ModbusListener};
use meterlake_ingest::modbus::{FailureKind, LineStats, ListenStats, listen};
use meterlake_ingest::{Delivery, IngestError};
use meterlake_model::{MeterDirectory, ReadingBatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::modbus::bench::column;
use crate::modbus::rtu_device::{Act, Asked, behaviour, serve};
use crate::modbus::telling::{two_requests, value};

/// Longer than any machine needs: reached, a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Port {
    pub(crate) stats: Arc<ListenStats>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    /// Takes another listener.
    pub(crate) listeners: watch::Sender<ModbusListener>,
    deliveries: mpsc::Receiver<Delivery>,
    task: JoinHandle<Result<(), IngestError>>,
    _directory: watch::Sender<Arc<MeterDirectory>>,
}

/// A listener with these keys, and so many links `dtu-0000`, … with one pulse counter each, read every second.
pub(crate) fn listener(keys: &str, links: usize) -> ModbusListener {
    let mut text = format!("{keys}\n");
    for link in 0..links {
        text.push_str(&format!(
            "[[modbus_listen.link]]\nid = 'dtu-{link:04}'\n[[modbus_listen.link.device]]\nunit = 1\nmeter_id = \
             'W{link:04}'\nprofile = 'pulse-water'\ninterval = '1s'\n"
        ));
    }
    parsed(&text)
}

fn parsed(keys: &str) -> ModbusListener {
    let text = format!("[[modbus_listen]]\nname = 'dtus'\nbind = '127.0.0.1:0'\n{keys}\n");
    let config = Config::parse(&text, std::path::Path::new("")).unwrap_or_else(|errors| panic!("{errors}"));
    config.modbus_listen.into_iter().next().unwrap()
}

impl Port {
    /// A listener with these keys and tables.
    pub(crate) async fn of(keys: &str) -> Self {
        Self::open(parsed(keys)).await
    }

    pub(crate) async fn open(listener: ModbusListener) -> Self {
        let stats = Arc::new(ListenStats::default());
        let (listeners, listener) = watch::channel(listener);
        let (out, deliveries) = mpsc::channel(10_000);
        let (_directory, directory) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(listen(listener, directory, out, Arc::clone(&stats), stop.clone()));
        let address = loop {
            match stats.address() {
                Some(address) => break address,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        Self { stats, address, stop, listeners, deliveries, task, _directory }
    }

    pub(crate) async fn until(&mut self, what: &str, mut enough: impl FnMut(&ReadingBatch) -> bool) -> ReadingBatch {
        let mut all = ReadingBatch::default();
        let collect = async {
            while !enough(&all) {
                all.append(self.deliveries.recv().await.expect("a running listener").batch);
            }
        };
        assert!(tokio::time::timeout(PATIENCE, collect).await.is_ok(), "{what}");
        all
    }

    /// Waits until the counters are as wanted.
    pub(crate) async fn counted(&self, what: &str, wanted: impl Fn(&ListenStats) -> bool) {
        let wait = async {
            while !wanted(&self.stats) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}: {:#?}", self.stats);
    }

    pub(crate) fn line(&self, link: usize) -> Arc<LineStats> {
        Arc::clone(&self.stats.lines()[link].1)
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("a listener that stops");
        assert_eq!(ended.unwrap(), Ok(()));
    }
}

/// The pulse counter's registers: a count of so many litres.
pub(crate) fn pulses(asked: &Asked, count: u16) -> Vec<u8> {
    let mut words = vec![0; usize::from(asked.registers)];
    words[1] = count;
    asked.answer(&words)
}

/// A device server: it calls, says who it is, and answers with this count. Heartbeats come before each answer, within
/// some, and while nothing is asked.
fn device_server(address: SocketAddr, registration: Vec<u8>, count: u16) -> JoinHandle<std::io::Result<()>> {
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&registration).await?;
        let behave = behaviour(move |asked| {
            let answer = pulses(asked, count);
            match asked.nth % 3 {
                0 => vec![Act::Say([b"ping", &answer[..]].concat())],
                1 => vec![Act::Say([&answer[..5], b"ping", &answer[5..]].concat())],
                _ => vec![Act::Say(answer), Act::Say(b"ping".to_vec())],
            }
        });
        serve(&mut stream, Arc::default(), behave).await
    })
}

const KEYS: &str = "registration = ['{id:8}']\nheartbeats = ['ping']\ntimeout = '30s'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_device_servers_on_one_port_are_all_read() {
    const LINKS: usize = 1_000;
    // Two ends of each connection are files of this process.
    let wanted = 4 * u64::try_from(LINKS).unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let more = rustix::process::Rlimit { current: Some(wanted), maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, more).expect("room for the files of a test");
    }
    let mut port = Port::open(listener(KEYS, LINKS)).await;
    let count = |link: usize| u16::try_from(link + 1).unwrap();
    let mut servers: Vec<_> = (0..LINKS)
        .map(|link| device_server(port.address, format!("dtu-{link:04}").into_bytes(), count(link)))
        .collect();
    // Three readings of each: heartbeats before, within and behind an answer.
    let mut seen: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let mut rows_seen = 0;
    let all = port
        .until("three readings of each of a thousand links", |all| {
            for header in &all.water.headers()[rows_seen..] {
                seen.entry(header.meter_id.to_string()).or_default().insert(header.ts.unix_seconds());
            }
            rows_seen = all.water.len();
            seen.len() == LINKS && seen.values().all(|times| times.len() >= 3)
        })
        .await;
    let volumes = column(&all, "volume_m3");
    for (header, volume) in all.water.headers().iter().zip(volumes) {
        let link: usize = header.meter_id.as_str()[1..].parse().unwrap();
        assert_eq!(volume, Some(i64::from(count(link))), "{header:?}");
        assert_eq!(&*header.source, format!("modbus/dtus/dtu-{link:04}"));
    }
    assert!(all.dead_letters.is_empty(), "{:#?}", all.dead_letters[0]);
    assert_eq!(port.stats.links_up(), LINKS);
    assert_eq!((port.stats.registered.load(Ordering::Relaxed), port.stats.refused()), (1_000, 0));

    // A hundred call again, each with another count: the old connection ends at once, the new one is read.
    for (link, server) in servers.iter_mut().enumerate().take(100) {
        let again = device_server(port.address, format!("dtu-{link:04}").into_bytes(), count(link) + 20_000);
        let old = std::mem::replace(server, again);
        let ended = tokio::time::timeout(PATIENCE, old).await.expect("the older connection ends").unwrap();
        assert!(ended.is_err(), "it is closed from our side");
    }
    assert_eq!(port.stats.replaced.load(Ordering::Relaxed), 100);
    let mut renewed = BTreeSet::new();
    let mut rows_seen = 0;
    port.until("a reading of each renewed link", |all| {
        let volumes = column(all, "volume_m3");
        for (header, volume) in all.water.headers().iter().zip(volumes).skip(rows_seen) {
            if volume.is_some_and(|volume| volume > 20_000) {
                renewed.insert(header.meter_id.to_string());
            }
        }
        rows_seen = all.water.len();
        renewed.len() == 100
    })
    .await;
    assert_eq!(port.stats.links_up(), LINKS);
    port.end().await;
}

#[tokio::test]
async fn who_may_not_call_is_refused_and_counted() {
    let open = async |more: &str| Port::open(listener(&format!("{KEYS}\n{more}"), 2)).await;
    let port = open("registration_timeout = '300ms'\nregistration_bytes = 64").await;
    async fn call(port: &Port, said: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream
    }
    /// Whether the other side ends the connection.
    async fn is_ended(mut stream: TcpStream) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
        assert!(rest.is_empty(), "nothing is said to a stranger");
        // A reset is an end, too.
        read.map_or(true, |count| count == 0)
    }
    assert!(is_ended(call(&port, b"dtu-9999").await).await);
    port.counted("an id that nobody has", |stats| stats.unknown.load(Ordering::Relaxed) == 1).await;
    assert!(is_ended(call(&port, b"GET / HTTP/1.1\r\n\r\n").await).await);
    port.counted("no registration", |stats| stats.unrecognised.load(Ordering::Relaxed) == 1).await;
    assert!(is_ended(call(&port, b"dtu").await).await, "in time");
    port.counted("too late", |stats| stats.unrecognised.load(Ordering::Relaxed) == 2).await;
    port.end().await;

    let port = open("max_links = 4\nmax_links_per_address = 3\nregistration_timeout = '5m'").await;
    let seated = [call(&port, b"dtu-0000").await, call(&port, b"dtu-0001").await];
    port.counted("both links", |stats| stats.links_up() == 2).await;
    let third = call(&port, b"").await;
    assert!(is_ended(call(&port, b"dtu-0000").await).await);
    port.counted("a fourth of one address", |stats| stats.too_many.load(Ordering::Relaxed) == 1).await;
    assert_eq!(port.stats.links_up(), 2);
    drop((seated, third));
    port.counted("all are gone", |stats| stats.links_up() == 0).await;
    port.end().await;
}

#[tokio::test]
async fn a_device_server_that_goes_and_comes_back_is_read_again_at_once() {
    let mut port = Port::open(listener(KEYS, 1)).await;
    for count in 1..=3 {
        let server = device_server(port.address, b"dtu-0000".to_vec(), count);
        let all = port.until("a reading", |all| column(all, "volume_m3").contains(&Some(i64::from(count)))).await;
        assert!(all.dead_letters.is_empty());
        server.abort();
        port.counted("gone", |stats| stats.links_up() == 0).await;
    }
    assert_eq!(port.stats.replaced.load(Ordering::Relaxed), 0, "each had ended before");
    assert_eq!(port.line(0).devices()[0].failures(FailureKind::Timeout), 0, "the device is not to blame");
    port.end().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_ended() {
    let keys = "registration = ['{id:8}']\ntimeout = '50ms'\nidle_timeout = '2s'";
    let port = Port::open(listener(keys, 1)).await;
    let mut dumb = TcpStream::connect(port.address).await.unwrap();
    dumb.write_all(b"dtu-0000").await.unwrap();
    let mut asked = Vec::new();
    tokio::time::timeout(PATIENCE, dumb.read_to_end(&mut asked)).await.expect("an end").ok();
    assert!(port.line(0).failures(FailureKind::Timeout) > 0, "it was asked before");
    assert!(!asked.is_empty() && asked.len().is_multiple_of(8));
    port.end().await;
}

#[tokio::test]
async fn a_late_answer_through_a_device_server_is_never_taken_for_anothers() {
    let keys = "registration = ['{id:8}']\nheartbeats = ['ping']\ntimeout = '300ms'";
    let mut listener = listener(keys, 1);
    listener.links[0].line.devices[0].profile = two_requests();
    let mut port = Port::open(listener).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(b"dtu-0000").await.unwrap();
    let server = tokio::spawn(async move {
        let late = behaviour(|asked| match asked.nth % 5 {
            1 => vec![
                Act::Wait(Duration::from_millis(200)),
                Act::Say(b"ping".to_vec()),
                Act::Wait(Duration::from_millis(200)),
                Act::Say(asked.answer(&asked.words())),
            ],
            _ => vec![Act::Say(asked.answer(&asked.words()))],
        });
        serve(&mut stream, Arc::default(), late).await
    });
    let all = port.until("six readings", |all| all.water.len() >= 6).await;
    let (first, second) = (value(1, 0), value(1, 100));
    assert!(column(&all, "volume_m3").iter().all(|read| *read == Some(first)), "{:?}", column(&all, "volume_m3"));
    assert!(column(&all, "reverse_volume_m3").iter().all(|read| *read == Some(second)));
    assert!(port.line(0).failures(FailureKind::Timeout) > 0, "the device was late");
    assert_eq!(port.line(0).connections.load(Ordering::Relaxed), 1, "the connection is kept");
    server.abort();
    port.end().await;
}

#[tokio::test]
async fn a_device_server_may_speak_modbus_tcp_and_register_by_a_binary_heartbeat() {
    let keys = "protocol = 'tcp'\nregistration = ['hex: 7E {id:8} 7E']\ntimeout = '30s'";
    let mut port = Port::open(listener(keys, 1)).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(b"\x7Edtu-0000\x7E").await.unwrap();
    let server = tokio::spawn(async move {
        loop {
            let mut request = [0; 12];
            if stream.read_exact(&mut request).await.is_err() {
                return;
            }
            let count = request[11] * 2;
            let mut answer = vec![request[0], request[1], 0, 0, 0, 3 + count, request[6], request[7], count];
            answer.resize(9 + usize::from(count), 0);
            answer[12] = 42;
            stream.write_all(&[b"\x7Edtu-0000\x7E", &answer[..]].concat()).await.unwrap();
        }
    });
    let all = port.until("two readings", |all| all.water.len() >= 2).await;
    assert!(column(&all, "volume_m3").iter().all(|volume| *volume == Some(42)), "{:?}", column(&all, "volume_m3"));
    server.abort();
    port.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_reason_to_stop() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut listener = listener(KEYS, 1);
    listener.bind = taken.local_addr().unwrap();
    let (_listeners, listener) = watch::channel(listener);
    let stats = Arc::new(ListenStats::default());
    let (out, _deliveries) = mpsc::channel(1);
    let (_directory, directory) = watch::channel(Arc::default());
    let ended = listen(listener, directory, out, stats, CancellationToken::new()).await;
    assert!(matches!(ended, Err(IngestError::Listen { .. })), "{ended:?}");
}
