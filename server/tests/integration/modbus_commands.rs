//! Modbus devices asked by hand: `modbus read`, `scan` and `doctor`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;

use meterlake_device_sim::modbus::{Behaviour, Gateway, Layout, Unit, UnitValues};

use crate::peers;
use crate::site::{Answer, Site, ask, json_lines, row, rows};

/// A gateway with a three-phase meter, a water meter, a dead one and nobody else.
async fn gateway() -> Gateway {
    let values = UnitValues { register_milli: 12_345_678, volts_dv: [2301, 2302, 2299], watts: 1500 };
    let unit = |layout, behaviour| Unit { layout, behaviour, source: Arc::new(move || values) };
    let units = BTreeMap::from([
        (1, unit(Layout::Sdm630, Behaviour::Answers)),
        (3, unit(Layout::PulseWater, Behaviour::Answers)),
        (4, unit(Layout::PulseWater, Behaviour::Dead)),
    ]);
    Gateway::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), units).await.unwrap()
}

/// Asks the gateway with `modbus` and these words.
fn modbus(gateway: &Gateway, command: &str, words: &[&str]) -> Answer {
    let port = gateway.address().port().to_string();
    ask(&[&["modbus", command, "--host", "127.0.0.1", "--port", &port], words].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_read_once_with_values_units_and_registers() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "read", &["--unit", "1", "--profile", "eastron-sdm630"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let read = rows(&answer.out);
    // Single-precision floats by IEEE 754: 230.1 is 0x4366199A, 1500 is 0x44BB8000.
    assert_eq!(row(&read, "voltage_l1_v"), ["230.1", "V", "4366 199A", "4:0x0000", ""]);
    assert_eq!(row(&read, "power_kw"), ["1.500", "kW", "44BB 8000", "4:0x0034", ""]);
    assert_eq!(row(&read, "power_factor")[..2], ["0.960", ""]);
    let json = modbus(&gateway, "read", &["--unit", "3", "--profile", "pulse-water", "--format", "json"]);
    let read = json_lines(&json.out);
    assert_eq!((read[3]["channel"].as_str(), read[3]["value"].as_str()), (Some("status"), Some("-")));
    assert_eq!((read[0]["channel"].as_str(), read[0]["value"].as_str()), (Some("volume_m3"), Some("12345.678")));

    // A profile of another device: what it has not is told, value by value.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("own.toml");
    let profile = "name = \"own\"\nversion = 1\nmaker = \"x\"\nmodel = \"y\"\nsource = \"z\"\ncommodity = \"water\"\n\
                   [defaults]\nfunction = 3\ntype = \"u16\"\n[[field]]\nchannel = \"battery_v\"\naddress = 2\nunit = \"mV\"\n\
                   [[field]]\nchannel = \"pressure_kpa\"\naddress = 500\nunit = \"kPa\"\n";
    std::fs::write(&file, profile).unwrap();
    let answer = modbus(&gateway, "read", &["--unit", "3", "--profile", file.to_str().unwrap()]);
    let read = rows(&answer.out);
    assert!(!answer.good);
    assert_eq!(row(&read, "battery_v"), ["3.612", "V", "0E1C", "3:0x0002", ""]);
    assert!(row(&read, "pressure_kpa")[4].contains("illegal data address"), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_registers_are_shown_and_silence_is_named_with_what_to_try() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "read", &["--unit", "3", "--registers", "3:0+4", "--registers", "3:0x0F+1"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let read = rows(&answer.out);
    assert_eq!(read.len(), 5);
    assert_eq!(row(&read, "3:0x0002"), ["2", "0E1C", "3612", "3612", "..", ""]);
    let beyond = modbus(&gateway, "read", &["--unit", "3", "--registers", "3:12+8", "--max-registers", "4"]);
    assert!(
        !beyond.good && rows(&beyond.out).len() == 5 && beyond.out.contains("illegal data address"),
        "{}",
        beyond.out
    );

    for (words, told) in [
        (&["--unit", "4", "--registers", "3:0+1", "--timeout", "100ms"][..], "is the unit right"),
        (&["--unit", "9", "--registers", "3:0+1"], "gateway target did not respond"),
        (&["--unit", "1", "--registers", "3:0+1"], "another function code or address"),
        (&["--unit", "1"], "name a --profile"),
        (&["--unit", "1", "--profile", "no-such"], "eastron-sdm630"),
        (&["--unit", "1", "--registers", "6:0+1"], "function code 6 does not read"),
        (&["--unit", "1", "--profile", "absent.toml"], "cannot read absent.toml"),
    ] {
        let answer = modbus(&gateway, "read", words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
    for (words, told) in [
        (&["modbus", "read", "--unit", "1"][..], "--host"),
        (&["modbus", "read", "--unit", "1", "--line", "hall"], "--config"),
        (&["modbus", "read", "--unit", "1", "--host", "127.0.0.1", "--port", "1", "--registers", "0"], "connect"),
    ] {
        let answer = ask(words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_configuration_is_asked_with_its_own_profile() {
    let gateway = gateway().await;
    let port = gateway.address().port();
    let site = Site::new(&format!(
        "[[modbus]]\nname = \"hall\"\nhost = \"127.0.0.1\"\nport = {port}\n[[modbus.device]]\nunit = 3\n\
         meter_id = \"W-1\"\nprofile = \"pulse-water\"\n"
    ));
    let read = rows(&site.tell(&["modbus", "read", "--line", "hall", "--unit", "3"]));
    assert_eq!(row(&read, "volume_m3")[..2], ["12345.678", "m³"]);
    for (words, told) in [
        (["modbus", "read", "--line", "hall", "--unit", "1"], "no device with unit 1"),
        (["modbus", "read", "--line", "cellar", "--unit", "3"], "hall"),
    ] {
        let answer = site.ask(&words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_finds_who_answers_and_nobody_else() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "scan", &["--units", "1-5", "--timeout", "100ms"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let found = rows(&answer.out);
    assert_eq!(found.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(row(&found, "1")[..2], ["4:0x0000", "4366 199A"], "after an exception to function code 3");
    assert_eq!(row(&found, "3")[..2], ["3:0x0000", "00BC"], "12,345,678 litres are 0x00BC614E");
    assert!(row(&found, "1")[2].starts_with("eastron-sdm"), "{found:?}");
    assert!(row(&found, "3")[2].contains("pulse-water"), "{found:?}");
    let bare = rows(&modbus(&gateway, "scan", &["--units", "1", "--no-identify"]).out);
    assert_eq!(row(&bare, "1")[2..4], ["", ""]);
    let nobody = modbus(&gateway, "scan", &["--units", "5-7", "--timeout", "100ms"]);
    assert!(!nobody.good && nobody.err.contains("5 to 7 (3 units)"), "{}", nobody.err);
    let refused = ask(&["modbus", "scan", "--host", "127.0.0.1", "--port", "1"]);
    assert!(!refused.good && refused.err.contains("127.0.0.1:1 cannot be connected"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_writes_a_profile_that_reads_the_meter_and_its_vector() {
    let gateway = gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-meter.toml");
    let file = file.to_str().unwrap();
    let words = [
        "--unit",
        "1",
        "--registers",
        "4:0+80",
        "--again",
        "0s",
        "--expect",
        "voltage_l1_v=230",
        "--expect",
        "voltage_l2_v=230.2@3",
        "--expect",
        "energy_import_kwh=12345.7",
        "--write",
        file,
    ];
    let answer = modbus(&gateway, "doctor", &words);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let candidates = rows(&answer.out);
    let best = |channel: &str| candidates.iter().find(|row| row[0] == channel).unwrap();
    assert_eq!(best("energy_import_kwh")[1], "12345.678", "{candidates:?}");
    assert_eq!(best("energy_import_kwh")[3], "4:0x0048");
    assert!(answer.err.contains("eastron-sdm630 fits"), "{}", answer.err);
    assert!(answer.err.contains(&format!("--profile {file}")), "{}", answer.err);

    // What it wrote passes its own test and reads the meter.
    let tested = ask(&["test", file]);
    assert!(tested.good && tested.out.starts_with("1 of 1 "), "{}", tested.out);
    let read = rows(&modbus(&gateway, "read", &["--unit", "1", "--profile", file]).out);
    assert_eq!(read.len(), 3, "only what was expected");
    assert_eq!(row(&read, "energy_import_kwh")[..2], ["12345.678", "kWh"]);
    assert_eq!(row(&read, "voltage_l2_v")[..4], ["230.2", "V", "4366 3333", "4:0x0002"], "the manual counts from 1");

    // Nothing is replaced unasked, and what it cannot find it does not write.
    let again = modbus(&gateway, "doctor", &words);
    assert!(!again.good && again.err.contains("--force"), "{}", again.err);
    let other = folder.path().join("other.toml");
    let words = ["--unit", "1", "--registers", "4:0+80", "--again", "0s", "--write", other.to_str().unwrap()];
    let lost = modbus(&gateway, "doctor", &[&words[..], &["--expect", "energy_export_kwh=777.7"]].concat());
    assert!(!lost.good && lost.err.contains("energy_export_kwh") && !other.exists(), "{}", lost.err);
    for (expect, told) in [("voltage=1", "voltage_l1_v"), ("voltage_l1_v=high", "no number"), ("x", "write it as")] {
        let answer = modbus(&gateway, "doctor", &["--unit", "1", "--expect", expect]);
        assert!(!answer.good && answer.err.contains(told), "{expect}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_without_hints_names_the_shipped_profile_that_fits() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "doctor", &["--unit", "1", "--again", "0s", "--timeout", "300ms"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let fit = answer.err.lines().find(|line| line.contains(" fits, ")).unwrap();
    assert!(fit.contains("profile eastron-sdm"), "{}", answer.err);
    let absent = modbus(&gateway, "doctor", &["--unit", "4", "--again", "0s", "--timeout", "50ms"]);
    assert!(!absent.good && absent.err.contains("is the unit right"), "{}", absent.err);
}

#[test]
fn devices_of_pymodbus_on_a_serial_line_are_found_and_read() {
    if !peers::asked_for() {
        return;
    }
    let mut server = std::process::Command::new("python3")
        .arg(peers::script("modbus_serial.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("METERLAKE_PEERS=1 needs python3");
    let mut device = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut device).unwrap();
    let line = ["--serial", device.trim(), "--baud", "19200"];
    let found =
        ask(&[&["modbus", "scan", "--units", "1-3", "--timeout", "500ms", "--no-identify"][..], &line].concat());
    let read = ask(&[&["modbus", "read", "--unit", "1", "--profile", "eastron-sdm630"][..], &line].concat());
    drop(server.stdin.take());
    server.wait().unwrap();
    let answers: Vec<_> = rows(&found.out).iter().map(|row| row[..3].join(" ")).collect();
    // pymodbus speaks for units that it does not have, too.
    let expected = ["1 3:0x0000 0000", "2 3:0x0000 0001", "3 3:0x0000 exception 4 (device failure)"];
    assert_eq!(answers, expected, "{}", found.err);
    assert!(read.good, "{}{}", read.out, read.err);
    let read = rows(&read.out);
    assert_eq!(row(&read, "voltage_l2_v"), ["231.5", "V", "4367 8000", "4:0x0002", ""]);
    assert_eq!(row(&read, "energy_import_kwh")[0], "12345.678");
}
