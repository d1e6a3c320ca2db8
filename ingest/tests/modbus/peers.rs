//! pymodbus as the other side. Runs where `METERLAKE_PEERS=1`; there its absence is a failure.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::FailureKind;
use meterlake_model::EventKind;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::bench::{Bench, column};

/// Serves until it is dropped.
async fn pymodbus() -> (Child, SocketAddr) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/modbus_server.py");
    let mut server = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 with pymodbus");
    let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let port =
        lines.next_line().await.expect("a pipe").expect("pymodbus says its port: python3 -m pip install pymodbus");
    let port: u16 = port.parse().expect("a port");
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[tokio::test]
async fn pymodbus_is_read_as_its_values_are() {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        eprintln!("skipped: METERLAKE_PEERS is not 1");
        return;
    }
    let (_server, address) = pymodbus().await;
    let [sdm630, pulse] = ["eastron-sdm630", "pulse-water"].map(|name| DeviceProfile::shipped(name).unwrap());
    let devices = vec![(1, sdm630), (2, pulse.clone()), (3, pulse)];
    let mut bench = Bench::start(address, Duration::from_secs(5), devices);
    let all = bench.until(|all| all.electricity.len() >= 2 && all.water.len() >= 2).await;
    for (channel, value) in [
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
        ("volume_m3", 123_456),
        ("battery_v", 3612),
        ("temperature_c", -12),
    ] {
        let column = column(&all, channel);
        assert!(column.iter().all(|read| *read == Some(value)), "{channel} is {column:?}, {value} expected");
    }
    let events: Vec<_> = all.events.iter().map(|event| event.kind).collect();
    assert_eq!(events, [EventKind::Leak, EventKind::LowBattery], "told when they rise, not at every poll");
    assert_eq!(all.dead_letters.len(), 1, "unit 3 has no such registers: {:#?}", all.dead_letters);
    assert!(bench.stats.failures(FailureKind::Exception) > 0);
    bench.end().await;
}
