//! pymodbus and libmodbus as the other side. Runs where `METERLAKE_PEERS=1`; there their absence is a failure.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use meterlake_config::ModbusTransport;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::FailureKind;
use meterlake_model::{EventKind, ReadingBatch};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::modbus::bench::{Bench, column};
use crate::modbus::dial_in::Port;
use crate::modbus::rtu::serial;
use crate::modbus::rtu_device::joined_terminals;

/// Longer than any machine needs.
const PATIENT: Duration = Duration::from_secs(5);

fn peers_wanted() -> bool {
    let wanted = std::env::var("METERLAKE_PEERS").as_deref() == Ok("1");
    if !wanted {
        eprintln!("skipped: METERLAKE_PEERS is not 1");
    }
    wanted
}

/// Starts a peer that says one line when it serves, and serves until it is dropped.
async fn started(mut command: Command, hint: &str) -> (Child, String) {
    let mut peer = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{hint}: {error}"));
    let mut lines = BufReader::new(peer.stdout.take().expect("a pipe")).lines();
    let line = lines.next_line().await.expect("a pipe").unwrap_or_else(|| panic!("the peer serves: {hint}"));
    (peer, line)
}

async fn pymodbus(arguments: &[&str]) -> (Child, String) {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/modbus_server.py")).args(arguments);
    started(command, "python3 -m pip install pymodbus pyserial").await
}

fn host(port: &str) -> (String, u16) {
    ("127.0.0.1".to_owned(), port.parse().expect("a port"))
}

fn profiles() -> [DeviceProfile; 2] {
    ["eastron-sdm630", "pulse-water"].map(|name| DeviceProfile::shipped(name).unwrap())
}

const ELECTRICITY: [(&str, i64); 11] = [
    ("voltage_l1_v", 2302),
    ("voltage_l2_v", 2315),
    ("voltage_l3_v", 2298),
    ("current_l1_a", 4125),
    ("power_kw", 2851),
    ("power_factor", 969),
    ("frequency_hz", 4998),
    ("energy_import_kwh", 12_345_678),
    ("energy_export_kwh", 1500),
    ("reactive_import_kvarh", 678_250),
    ("reactive_export_kvarh", 0),
];
const WATER: [(&str, i64); 3] = [("volume_m3", 123_456), ("battery_v", 3612), ("temperature_c", -12)];

fn reads(all: &ReadingBatch, values: &[(&str, i64)]) {
    for &(channel, value) in values {
        let column = column(all, channel);
        assert!(column.iter().all(|read| *read == Some(value)), "{channel} is {column:?}, {value} expected");
    }
}

/// What the line of pymodbus says, over whatever it is reached.
fn is_as_served(all: &ReadingBatch) {
    reads(all, &ELECTRICITY);
    reads(all, &WATER);
    let events: Vec<_> = all.events.iter().map(|event| event.kind).collect();
    assert_eq!(events, [EventKind::Leak, EventKind::LowBattery], "told when they rise, not at every poll");
    assert_eq!(all.dead_letters.len(), 1, "unit 3 has no such registers: {:#?}", all.dead_letters);
}

async fn pymodbus_is_read_over(transport: ModbusTransport) {
    let [sdm630, pulse] = profiles();
    let devices = vec![(1, sdm630), (2, pulse.clone()), (3, pulse)];
    let mut bench = Bench::over(transport, PATIENT, devices);
    let enough =
        |all: &ReadingBatch| all.electricity.len() >= 2 && all.water.len() >= 2 && !all.dead_letters.is_empty();
    let all = bench.until(enough).await;
    is_as_served(&all);
    assert!(bench.stats.failures(FailureKind::Exception) > 0);
    bench.end().await;
}

#[tokio::test]
async fn pymodbus_over_tcp_is_read_as_its_values_are() {
    if peers_wanted() {
        let (_peer, port) = pymodbus(&["tcp"]).await;
        let (host, port) = host(&port);
        pymodbus_is_read_over(ModbusTransport::Tcp { host, port }).await;
    }
}

#[tokio::test]
async fn pymodbus_with_rtu_over_tcp_is_read_as_its_values_are() {
    if peers_wanted() {
        let (_peer, port) = pymodbus(&["rtu_over_tcp"]).await;
        let (host, port) = host(&port);
        pymodbus_is_read_over(ModbusTransport::RtuOverTcp { host, port }).await;
    }
}

#[tokio::test]
async fn pymodbus_on_a_serial_line_is_read_as_its_values_are() {
    if peers_wanted() {
        let [theirs, ours] = joined_terminals();
        let (_peer, _) = pymodbus(&["rtu", &theirs]).await;
        pymodbus_is_read_over(serial(ours)).await;
    }
}

#[tokio::test]
async fn pymodbus_behind_a_device_server_that_calls_is_read_as_its_values_are() {
    if !peers_wanted() {
        return;
    }
    let device = |unit, profile| {
        format!(
            "[[modbus_listen.link.device]]\nunit = {unit}\nmeter_id = 'M{unit}'\nprofile = '{profile}'\ninterval = \
             '1s'\n"
        )
    };
    let devices = [device(1, "eastron-sdm630"), device(2, "pulse-water"), device(3, "pulse-water")].concat();
    let mut port = Port::of(&format!(
        "registration = ['REG:{{id:15}};']\nheartbeats = ['ping']\n[[modbus_listen.link]]\nid = \
         '861234567890123'\n{devices}"
    ))
    .await;
    let (host, number) = (port.address.ip().to_string(), port.address.port().to_string());
    let (_peer, _) = pymodbus(&["dial_in", &host, &number, "REG:861234567890123;"]).await;
    let enough =
        |all: &ReadingBatch| all.electricity.len() >= 2 && all.water.len() >= 2 && !all.dead_letters.is_empty();
    let all = port.until("readings of all units", enough).await;
    is_as_served(&all);
    port.end().await;
}

/// A server on libmodbus, compiled here: its header and library come with the package `libmodbus-dev`.
async fn libmodbus(arguments: &[&str]) -> (Child, String) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("modbus_server");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/modbus_server.c");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(source).arg("-lmodbus").status().await;
    assert!(compiled.expect("a C compiler").success(), "apt-get install libmodbus-dev");
    let mut command = Command::new(&program);
    command.args(arguments);
    let peer = started(command, "libmodbus").await;
    // The program runs from memory once it has said its line.
    folder.close().ok();
    peer
}

async fn libmodbus_is_read_over(transport: ModbusTransport) {
    let [sdm630, pulse] = profiles();
    let mut bench = Bench::over(transport.clone(), PATIENT, vec![(1, sdm630)]);
    let all = bench.until(|all| all.electricity.len() >= 2 || !all.dead_letters.is_empty()).await;
    assert!(all.dead_letters.is_empty(), "{:#?}", all.dead_letters);
    reads(&all, &ELECTRICITY);
    bench.end().await;
    let mut bench = Bench::over(transport, PATIENT, vec![(1, pulse)]);
    let all = bench.until(|all| all.water.len() >= 2 || !all.dead_letters.is_empty()).await;
    assert!(all.dead_letters.is_empty(), "{:#?}", all.dead_letters);
    reads(&all, &WATER);
    bench.end().await;
}

#[tokio::test]
async fn libmodbus_over_tcp_is_read_as_its_values_are() {
    if peers_wanted() {
        let (_peer, port) = libmodbus(&["tcp"]).await;
        let (host, port) = host(&port);
        libmodbus_is_read_over(ModbusTransport::Tcp { host, port }).await;
    }
}

#[tokio::test]
async fn libmodbus_on_a_serial_line_is_read_as_its_values_are() {
    if peers_wanted() {
        let [theirs, ours] = joined_terminals();
        let (_peer, _) = libmodbus(&["rtu", &theirs]).await;
        libmodbus_is_read_over(serial(ours)).await;
    }
}
