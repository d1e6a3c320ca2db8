//! Lines and listeners as the file says them. Wrong files are in `tests/wrong-configurations`.

use std::path::Path;

use super::*;
use crate::Config;

fn config(text: &str, dir: &Path) -> Config {
    Config::parse(text, dir).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn each_transport_has_its_keys() {
    let device = |unit| format!("[[modbus.device]]\nunit = {unit}\nmeter_id = 'M{unit}'\nprofile = 'pulse-water'\n");
    let text = format!(
        "[[modbus]]\nname = 'a'\nhost = 'gateway'\n{}[[modbus]]\nname = 'b'\ntransport = 'rtu_over_tcp'\nhost = \
         'gateway'\nport = 4001\n{}[[modbus]]\nname = 'c'\ntransport = 'rtu'\nserial = '/dev/ttyS1'\nbaud = \
         19200\nparity = 'even'\n{}",
        device(0),
        device(1),
        device(2)
    );
    let transports: Vec<_> = config(&text, Path::new("")).modbus.into_iter().map(|line| line.transport).collect();
    let serial =
        SerialPort { device: "/dev/ttyS1".into(), baud: 19_200, parity: Parity::Even, data_bits: 8, stop_bits: 1 };
    assert_eq!(serial.character().as_micros(), 572, "eleven bits");
    assert_eq!(
        transports,
        [
            ModbusTransport::Tcp { host: "gateway".to_owned(), port: 502 },
            ModbusTransport::RtuOverTcp { host: "gateway".to_owned(), port: 4001 },
            ModbusTransport::Rtu(serial),
        ]
    );
    let framings: Vec<_> = transports.iter().map(ModbusTransport::framing).collect();
    assert_eq!(framings, [ModbusFraming::Tcp, ModbusFraming::Rtu, ModbusFraming::Rtu]);
}

#[test]
fn a_listener_has_its_links_from_the_file_and_from_a_table() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("devices.csv"),
        "meter_id,link,unit,profile,offset\nW2, 861234567890124 ,1,pulse-water,\nW3,861234567890124,2,pulse-water,7s\n",
    )
    .unwrap();
    let text = "[[modbus_listen]]\nname = 'dtus'\nbind = '127.0.0.1:5020'\nregistration = ['{id:15}']\nheartbeats = \
                ['hex:FE']\nstagger = 'none'\ndevices = 'devices.csv'\n[[modbus_listen.link]]\nid = \
                '861234567890123'\n[[modbus_listen.link.device]]\nunit = 1\nmeter_id = 'W1'\nprofile = \
                'pulse-water'\n";
    let config = config(text, dir.path());
    let [listener] = &config.modbus_listen[..] else { panic!("one listener") };
    assert_eq!((listener.max_links, listener.max_links_per_address), (2_000, 2_000));
    let lines: Vec<_> = config.modbus_lines().map(|line| (line.name.as_str(), line.devices.len())).collect();
    assert_eq!(lines, [("dtus/861234567890123", 1), ("dtus/861234567890124", 2)]);
    let of_table = &listener.links[1].line.devices;
    assert_eq!(of_table[1].meter_id.as_str(), "W3");
    assert_eq!((of_table[0].interval, of_table[0].offset), (INTERVAL, Duration::ZERO));
    assert_eq!(of_table[1].offset, Duration::from_secs(7));
}

#[test]
fn a_listeners_devices_are_kept_apart_unless_told_otherwise() {
    let text = |stagger: &str| {
        format!(
            "[[modbus_listen]]\nname = 'd'\nbind = '127.0.0.1:0'\nregistration = \
             ['{{id}}']\n{stagger}[[modbus_listen.link]]\nid = 'a'\n[[modbus_listen.link.device]]\nunit = 1\nmeter_id = \
             'W1'\nprofile = 'pulse-water'\n"
        )
    };
    let offset = |stagger| config(&text(stagger), Path::new("")).modbus_listen[0].links[0].line.devices[0].offset;
    assert!((1..5_000).contains(&offset("").as_millis()));
    assert_eq!(offset("").as_millis(), offset("stagger = 'auto'\n").as_millis());
    assert_eq!(offset("stagger = 'none'\n"), Duration::ZERO);
    assert!(offset("stagger = '10m'\n") > Duration::from_secs(5));
}
