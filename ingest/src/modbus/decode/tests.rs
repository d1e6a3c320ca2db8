//! Golden vectors of the shipped profiles, and blocks that cannot be read.

use super::*;
use crate::modbus::planner::plan;
use meterlake_model::{Commodity, MeterEntry, Zone};
use proptest::prelude::*;

/// An SDM630 on a bench: registers 0x0000 to 0x004F as floats, high word first.
fn sdm630(set: &[(u16, f32)]) -> Block {
    let profile = DeviceProfile::shipped("eastron-sdm630").unwrap();
    let mut words = vec![0; 80];
    for &(address, value) in set {
        let [a, b, c, d] = value.to_be_bytes();
        words[usize::from(address)] = u16::from_be_bytes([a, b]);
        words[usize::from(address) + 1] = u16::from_be_bytes([c, d]);
    }
    Block { request: plan(&profile)[0], words }
}

fn shown(values: &[(Channel, i64)]) -> Vec<(&'static str, i64)> {
    values.iter().map(|(channel, value)| (channel.name(), *value)).collect()
}

#[test]
fn an_sdm630_block_becomes_a_row() {
    let profile = DeviceProfile::shipped("eastron-sdm630").unwrap();
    let block = sdm630(&[
        (0x0000, 230.2),
        (0x0002, 231.25),
        (0x0004, 229.98),
        (0x0006, 5.123),
        (0x000C, 1_178.6),
        (0x0034, 3_512.4),
        (0x0038, 3_600.0),
        (0x003C, -212.5),
        (0x003E, -0.9757),
        (0x0046, 49.987),
        (0x0048, 12_345.678),
        (0x004A, 0.0),
        (0x004C, 17.25),
        (0x004E, 3.001),
    ]);
    let decoded = decode_block(&profile, &block).unwrap();
    assert_eq!(
        shown(&decoded.values),
        [
            ("energy_import_kwh", 12_345_678),
            ("energy_export_kwh", 0),
            ("reactive_import_kvarh", 17_250),
            ("reactive_export_kvarh", 3_001),
            ("voltage_l1_v", 2_302),
            ("voltage_l2_v", 2_312),
            ("voltage_l3_v", 2_300),
            ("current_l1_a", 5_123),
            ("current_l2_a", 0),
            ("current_l3_a", 0),
            ("power_l1_kw", 1_179),
            ("power_l2_kw", 0),
            ("power_l3_kw", 0),
            ("power_kw", 3_512),
            ("apparent_power_kva", 3_600),
            ("reactive_power_kvar", -212),
            ("power_factor", -976),
            ("frequency_hz", 4_999),
        ]
    );
}

fn pulse_water(words: [u16; 5]) -> (DeviceProfile, Block) {
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let block = Block { request: plan(&profile)[0], words: words.to_vec() };
    (profile, block)
}

#[test]
fn a_pulse_block_becomes_a_volume_and_its_status() {
    let (profile, block) = pulse_water([0x0001, 0xE240, 3_612, 0xFFF4, 0b1_0001]);
    let decoded = decode_block(&profile, &block).unwrap();
    assert_eq!(shown(&decoded.values), [("volume_m3", 123_456), ("battery_v", 3_612), ("temperature_c", -12)]);
    assert_eq!(decoded.status, [(0, 0b1_0001)]);
    let (profile, block) = pulse_water([0, 0, 3_612, 0x8000, 0]);
    assert_eq!(shown(&decode_block(&profile, &block).unwrap().values), [("volume_m3", 0), ("battery_v", 3_612)]);
}

#[test]
fn a_block_is_read_whole_or_not_at_all() {
    let profile = DeviceProfile::shipped("eastron-sdm630").unwrap();
    for (value, reason, detail) in [
        (f32::NAN, DeadReason::BadValue, "power_factor of registers 7FC0 0000: the float is not a finite number"),
        (f32::INFINITY, DeadReason::BadValue, "power_factor"),
        (12.0, DeadReason::Overflow, "power_factor of registers 4140 0000: too large for the column"),
    ] {
        let error = decode_block(&profile, &sdm630(&[(0x0048, 1.0), (0x003E, value)])).unwrap_err();
        assert_eq!(error.reason, reason);
        assert!(error.detail.contains(detail), "{error}");
    }
    let mut short = sdm630(&[]);
    short.words.pop();
    assert_eq!(decode_block(&profile, &short).unwrap_err().reason, DeadReason::BadAnswer);
}

fn directory(commodity: Commodity) -> MeterDirectory {
    let entry = MeterEntry::new(commodity, Zone::utc());
    MeterDirectory::new([(MeterId::new("W1").unwrap(), entry)])
}

fn add(block: &Block, known: &mut [u32], directory: &MeterDirectory) -> ReadingBatch {
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let answered = Answered {
        unit: 3,
        meter_id: &MeterId::new("W1").unwrap(),
        label: &profile.label().into(),
        profile: &profile,
        source: &"modbus/line".into(),
        directory,
        plate: &[],
        stranger: None,
        ts: Timestamp::from_unix_seconds(900).unwrap(),
        received_at_s: 902,
    };
    let mut batch = ReadingBatch::default();
    answered.add_blocks(std::slice::from_ref(block), known, &mut batch);
    batch
}

#[test]
fn a_status_bit_is_an_event_when_it_rises() {
    let mut known = [0];
    let events = |batch: ReadingBatch| batch.events.iter().map(|event| event.kind).collect::<Vec<_>>();
    let directory = directory(Commodity::Water);
    let mut read = |status| events(add(&pulse_water([0, 1, 3_600, 0, status]).1, &mut known, &directory));
    assert_eq!(read(0b01), [EventKind::Leak]);
    assert_eq!(read(0b01), []);
    assert_eq!(read(0b11), [EventKind::Burst]);
    assert_eq!(read(0b00), []);
    assert_eq!(read(0b100_0001), [EventKind::Leak, EventKind::CoverOpen]);
}

#[test]
fn a_row_says_where_its_time_is_from_and_whether_the_meter_is_known() {
    let (_, block) = pulse_water([0, 1, 3_600, 0, 0]);
    let batch = add(&block, &mut [0], &directory(Commodity::Water));
    let header = &batch.water.headers()[0];
    assert_eq!(header.flags, ReadingFlags::COLLECTOR_TIME);
    assert_eq!((&*header.source, &*header.profile), ("modbus/line", "pulse-water@1"));
    assert_eq!(&*batch.raw[0].topic, "3/3/0+5");
    assert_eq!(batch.raw[0].payload, [0, 0, 0, 1, 14, 16, 0, 0, 0, 0]);

    let unknown = add(&block, &mut [0], &MeterDirectory::default());
    assert!(unknown.water.headers()[0].flags.contains(ReadingFlags::UNKNOWN_METER));

    let contradicted = add(&block, &mut [0], &directory(Commodity::Electricity));
    assert!(contradicted.water.is_empty());
    assert_eq!(contradicted.dead_letters[0].reason, DeadReason::Identity);
}

#[test]
fn a_kept_block_is_read_back() {
    let (_, block) = pulse_water([0, 1, 3_600, 0, 0]);
    let batch = add(&block, &mut [0], &MeterDirectory::default());
    assert_eq!(read_message(&batch.raw[0]), Ok(Kept { unit: 3, blocks: vec![block], found: None }));
    for (topic, bytes) in [
        ("3/3/0+5", 9),
        ("3/6/0+5", 10),
        ("3/3/0+5/answer", 10),
        ("300/3/0+5", 10),
        ("3/3/65535+2", 4),
        ("3/3/0+0", 0),
        ("3/3/0+1&", 2),
        ("3/3/0+1@", 2),
        ("3/3/0+1@203:1:2:3", 2),
        ("", 0),
    ] {
        let message = RawMessage { source: "x".into(), topic: topic.into(), payload: vec![0; bytes], received_at_s: 0 };
        assert!(read_message(&message).is_err(), "{topic} with {bytes} bytes");
    }
}

proptest! {
    #[test]
    fn no_registers_make_it_panic(words in prop::collection::vec(any::<u16>(), 0..100), water: bool) {
        let profile = DeviceProfile::shipped(if water { "pulse-water" } else { "eastron-sdm630" }).unwrap();
        let request = plan(&profile)[0];
        let _ = decode_block(&profile, &Block { request, words: words.clone() });
        let mut fitted = words;
        fitted.resize(usize::from(request.registers()), 0x7FC0);
        let _ = decode_block(&profile, &Block { request, words: fitted });
    }
}
