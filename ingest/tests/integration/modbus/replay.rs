//! Dead letters of register blocks come back once the profile is mended.

use std::time::Duration;

use meterlake_config::device_profile::DeviceProfile;
use meterlake_config::{ModbusDevice, ModbusLine, ModbusTransport};
use meterlake_ingest::modbus::replay;
use meterlake_model::{DeadReason, EventKind, MeterDirectory, MeterId, RawMessage, ReadingBatch};

use crate::modbus::bench::column;

const PROFILE: &str = r#"
name = "battery"
version = 1
maker = "test"
model = "test"
source = "test"
commodity = "water"
[defaults]
function = 3
[[field]]
channel = "volume_m3"
address = 0
type = "u32"
unit = "l"
[[field]]
channel = "battery_v"
address = 2
type = "f32"
unit = "V"
resolution = 0.01
[[status]]
address = 4
bits = { 0 = "leak" }
"#;

fn line(profile: &str) -> ModbusLine {
    let device = ModbusDevice {
        unit: 7,
        meter_id: MeterId::new("W7").unwrap(),
        profile: DeviceProfile::parse(profile, "battery").unwrap(),
        interval: Duration::from_secs(900),
        offset: Duration::ZERO,
    };
    ModbusLine {
        name: "cellar".to_owned(),
        transport: ModbusTransport::Tcp { host: "localhost".to_owned(), port: 502 },
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
        devices: vec![device],
    }
}

fn block(topic: &str, words: &[u16]) -> RawMessage {
    RawMessage {
        source: "modbus/cellar".into(),
        topic: topic.into(),
        payload: words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        received_at_s: 1_800_000_007,
    }
}

fn replayed(profile: &str, message: &RawMessage) -> ReadingBatch {
    let mut out = ReadingBatch::default();
    replay(&[line(profile)], message, &MeterDirectory::default(), &mut out);
    out
}

#[test]
fn a_block_that_was_refused_is_read_after_the_profile_was_mended() {
    let message = block("7/3/0+5", &[0, 1234, 0x7FC0, 0, 1]);
    let refused = replayed(PROFILE, &message);
    assert_eq!(refused.reading_count(), 0);
    assert_eq!(refused.dead_letters[0].reason, DeadReason::BadValue);
    assert_eq!(refused.dead_letters[0].message, message, "whole, to be tried again");

    let mended = PROFILE
        .replace("resolution = 0.01", "resolution = 0.01\nabsent = [\"nan\"]")
        .replace("version = 1", "version = 2");
    let read = replayed(&mended, &message);
    assert_eq!(column(&read, "volume_m3"), [Some(1234)]);
    assert_eq!(column(&read, "battery_v"), [None]);
    let header = &read.water.headers()[0];
    assert_eq!(header.ts.unix_seconds(), 1_800_000_000, "the slot that it was polled for");
    assert_eq!(&*header.profile, "battery@2");
    assert_eq!(read.events[0].kind, EventKind::Leak);
    assert!(read.dead_letters.is_empty());
}

#[test]
fn what_no_device_said_stays_dead_with_its_reason() {
    for (topic, reason, detail) in [
        ("8/3/0+5", DeadReason::NoMap, "no device with unit 8 is configured on modbus/cellar"),
        ("7/3/0+5/answer", DeadReason::BadAnswer, "`7/3/0+5/answer` is no register block"),
        ("7/3/0+4", DeadReason::BadAnswer, "10 bytes came, 7/3/0+4 has two for each register"),
    ] {
        let message = block(topic, &[0, 1234, 0, 0, 0]);
        let out = replayed(PROFILE, &message);
        assert_eq!(out.reading_count(), 0, "{topic}");
        let [dead] = &out.dead_letters[..] else { panic!("{topic}: {:?}", out.dead_letters) };
        assert_eq!((dead.reason, dead.detail.as_str()), (reason, detail));
        assert_eq!(dead.message, message);
    }
}
