//! A listener that changes while device servers are connected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meterlake_config::{ModbusListener, PacketPattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::modbus::bench::column;
use crate::modbus::dial_in::{PATIENCE, Port, listener, pulses};
use crate::modbus::rtu_device::{Act, behaviour, serve};

const KEYS: &str = "registration = ['{id:8}']\nheartbeats = ['ping']\ntimeout = '30s'";

fn pattern(text: &str) -> PacketPattern {
    PacketPattern::parse(text).unwrap()
}

/// A device server that calls once; each of its devices counts its own unit in litres. Heartbeats come before its answers.
fn call(address: SocketAddr, registration: &str, heartbeat: &'static str) -> JoinHandle<std::io::Result<()>> {
    let registration = registration.to_owned();
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(registration.as_bytes()).await?;
        let behave = behaviour(move |asked| {
            vec![Act::Say([heartbeat.as_bytes(), &pulses(asked, u16::from(asked.unit))].concat())]
        });
        serve(&mut stream, Arc::default(), behave).await
    })
}

/// Waits for the end of a connection.
async fn ended(server: JoinHandle<std::io::Result<()>>) {
    let end = tokio::time::timeout(PATIENCE, server).await.expect("an end").unwrap();
    assert!(end.is_err(), "it is closed from our side");
}

fn connections(port: &Port, link: usize) -> u64 {
    port.line(link).connections.load(Ordering::Relaxed)
}

fn change(port: &Port, change: impl FnOnce(&mut ModbusListener)) {
    port.listeners.send_modify(change);
}

/// Waits for a reading of this meter with this many litres.
async fn read(port: &mut Port, meter: &str, litres: i64) {
    let is_there = |all: &meterlake_model::ReadingBatch| {
        let volumes = column(all, "volume_m3");
        let mut rows = all.water.headers().iter().zip(volumes);
        rows.any(|(header, volume)| header.meter_id.as_str() == meter && volume == Some(litres))
    };
    let all = port.until(&format!("{litres} l of {meter}"), is_there).await;
    assert!(all.dead_letters.is_empty(), "{:#?}", all.dead_letters);
}

#[tokio::test]
async fn links_that_do_not_change_keep_their_connection() {
    let mut port = Port::open(listener(KEYS, 4)).await;
    let mut servers: Vec<_> = (0..4).map(|link| call(port.address, &format!("dtu-{link:04}"), "ping")).collect();
    let stranger = call(port.address, "dtu-0004", "ping");
    ended(stranger).await;
    port.counted("four links and a stranger", |stats| {
        stats.links_up() == 4 && stats.unknown.load(Ordering::Relaxed) == 1
    })
    .await;
    for meter in ["W0000", "W0001", "W0002", "W0003"] {
        read(&mut port, meter, 1).await;
    }
    let kept: Vec<_> = (0..4).map(|link| port.line(link)).collect();

    // One stays, one has another unit, one is gone, one gets a second device, and a stranger is none any more.
    let five = listener(KEYS, 5);
    change(&port, |listener| {
        *listener = five;
        listener.links[1].line.devices[0].unit = 7;
        let mut second = listener.links[3].line.devices[0].clone();
        (second.unit, second.meter_id) = (9, meterlake_model::MeterId::new("W0009").unwrap());
        listener.links[3].line.devices.push(second);
        listener.links.remove(2);
    });
    ended(servers.remove(2)).await;
    for (meter, litres) in [("W0000", 1), ("W0001", 7), ("W0003", 1), ("W0009", 9)] {
        read(&mut port, meter, litres).await;
    }
    servers.push(call(port.address, "dtu-0004", "ping"));
    read(&mut port, "W0004", 1).await;

    let names: Vec<_> = port.stats.lines().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["dtus/dtu-0000", "dtus/dtu-0001", "dtus/dtu-0003", "dtus/dtu-0004"]);
    for (link, before) in [(0, 0), (1, 1), (2, 3)] {
        assert!(Arc::ptr_eq(&port.line(link), &kept[before]), "the counters go on");
    }
    assert_eq!([0, 1, 2, 3].map(|link| connections(&port, link)), [1; 4]);
    let registered = port.stats.registered.load(Ordering::Relaxed);
    assert_eq!((registered, port.stats.replaced.load(Ordering::Relaxed)), (5, 0), "each called once");
    assert!(servers.iter().all(|server| !server.is_finished()));
    ended(call(port.address, "dtu-0002", "ping")).await;
    port.counted("who was taken out is a stranger", |stats| stats.unknown.load(Ordering::Relaxed) == 2).await;
    port.end().await;
}

#[tokio::test]
async fn who_was_recognised_by_a_packet_that_is_gone_has_to_call_again() {
    let mut port = Port::open(listener(KEYS, 1)).await;
    let server = call(port.address, "dtu-0000", "ping");
    read(&mut port, "W0000", 1).await;
    // One more packet concerns nobody who is connected.
    change(&port, |listener| listener.registration.insert(0, pattern("#{id:8}")));
    change(&port, |listener| listener.links[0].line.devices[0].unit = 2);
    read(&mut port, "W0000", 2).await;
    assert_eq!(connections(&port, 0), 1);
    assert!(!server.is_finished());

    change(&port, |listener| listener.registration.truncate(1));
    ended(server).await;
    ended(call(port.address, "dtu-0000", "ping")).await;
    let again = call(port.address, "#dtu-0000", "ping");
    change(&port, |listener| listener.links[0].line.devices[0].unit = 3);
    read(&mut port, "W0000", 3).await;
    assert_eq!(connections(&port, 0), 2);
    again.abort();
    port.end().await;
}

#[tokio::test]
async fn a_new_heartbeat_is_known_on_connections_that_are_there() {
    // What cannot be read is drained for half of this time.
    let mut port = Port::open(listener(&KEYS.replace("30s", "1s"), 1)).await;
    let server = call(port.address, "dtu-0000", "pong");
    let taken = |all: &meterlake_model::ReadingBatch| !all.dead_letters.is_empty();
    let all = port.until("a heartbeat that is taken for an answer", taken).await;
    assert_eq!(all.water.len(), 0);
    change(&port, |listener| listener.heartbeats.push(pattern("pong")));
    let all = port.until("a reading", |all| !all.water.is_empty()).await;
    assert_eq!(column(&all, "volume_m3")[0], Some(1));
    assert_eq!(connections(&port, 0), 1);
    server.abort();
    port.end().await;
}

#[tokio::test]
async fn new_bounds_hold_for_whoever_calls_from_then_on() {
    let port = Port::open(listener(&format!("{KEYS}\nmax_links = 3"), 3)).await;
    let servers: Vec<_> = (0..2).map(|link| call(port.address, &format!("dtu-{link:04}"), "ping")).collect();
    port.counted("two links", |stats| stats.links_up() == 2).await;
    change(&port, |listener| listener.max_links = 2);
    ended(call(port.address, "dtu-0002", "ping")).await;
    port.counted("a third", |stats| stats.too_many.load(Ordering::Relaxed) == 1).await;
    assert!(servers.iter().all(|server| !server.is_finished()));
    change(&port, |listener| listener.max_links = 3);
    let _third = call(port.address, "dtu-0002", "ping");
    port.counted("the third", |stats| stats.links_up() == 3).await;

    // It does not say who it is for longer than is allowed now, and the others are not asked again.
    change(&port, |listener| {
        listener.registration_timeout = std::time::Duration::from_millis(100);
        (listener.max_links, listener.max_links_per_address) = (4, 4);
    });
    let mut mute = TcpStream::connect(port.address).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, mute.read_to_end(&mut rest)).await.expect("an end").ok();
    port.counted("it is refused", |stats| stats.unrecognised.load(Ordering::Relaxed) == 1).await;
    assert_eq!(port.stats.links_up(), 3);
    port.end().await;
}

#[tokio::test]
async fn a_link_of_another_protocol_is_connected_anew() {
    let mut port = Port::open(listener(KEYS, 1)).await;
    let server = call(port.address, "dtu-0000", "ping");
    read(&mut port, "W0000", 1).await;
    let tcp = listener(&format!("{KEYS}\nprotocol = 'tcp'"), 1);
    change(&port, |listener| *listener = tcp);
    ended(server).await;
    port.end().await;
}
