//! What decoding costs, on one core: frames of 96 readings of four columns.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p meterlake-ingest --lib decoding_costs -- --ignored --nocapture`

use std::fmt::Write;

use super::super::protobuf::wire::{write_bytes, write_number};
use super::*;

const READINGS: i64 = 96;
const FRAMES: i64 = 2_000;

fn json(start_s: i64, day: i64) -> Vec<u8> {
    let mut text = "{\"readings\":[".to_owned();
    for slot in 0..READINGS {
        let ts = Timestamp::from_unix_seconds(start_s + 900 * slot).unwrap();
        let (energy, tenths) = (day * 9_600 + slot * 97, 2_300 + slot % 17);
        let comma = if slot > 0 { "," } else { "" };
        write!(
            text,
            "{comma}{{\"ts\":\"{ts}\",\"energy_import_kwh\":{}.{:03},\"voltage_l1_v\":{}.{},\"current_l1_a\":1.{:03},\
             \"power_kw\":0.{:03}}}",
            energy / 1_000,
            energy % 1_000,
            tenths / 10,
            tenths % 10,
            slot * 7,
            slot * 3
        )
        .unwrap();
    }
    text.push_str("]}");
    text.into_bytes()
}

fn protobuf(start_s: i64, day: i64) -> Vec<u8> {
    let mut meter = Vec::new();
    for slot in 0..READINGS {
        let mut reading = Vec::new();
        write_number(2, (start_s + 900 * slot).cast_unsigned(), &mut reading);
        for (field, value) in
            [(3, day * 9_600 + slot * 97), (5, 2_300 + slot % 17), (8, 1_000 + slot * 7), (11, slot * 3)]
        {
            write_number(field, (value << 1).cast_unsigned(), &mut reading);
        }
        write_bytes(2, &reading, &mut meter);
    }
    let mut frame = Vec::new();
    write_bytes(3, &meter, &mut frame);
    frame
}

/// Time of this thread on a core, in seconds: a machine that others use, too, does not count.
fn on_core_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "measures, and asserts no time"]
fn decoding_costs() {
    let start_s = Timestamp::parse_rfc3339("2020-01-01T00:00:00Z").unwrap().unix_seconds();
    for (name, topic, payload) in [
        ("meterlake-json", "meterlake/v1/e1/readings", json as fn(i64, i64) -> Vec<u8>),
        ("meterlake-protobuf", "meterlake/v1/e1/frames", protobuf),
    ] {
        let maps = shipped(name);
        let frames: Vec<_> = (0..FRAMES)
            .map(|day| RawMessage { payload: payload(start_s + 86_400 * (day % 2_000), day), ..message(topic, "") })
            .collect();
        let directory = directory();
        let mut best = f64::MAX;
        for _ in 0..5 {
            let began = on_core_s();
            for hundred in frames.chunks(100) {
                let mut out = ReadingBatch::default();
                for frame in hundred {
                    decode(&maps, frame, false, &directory, &mut out);
                }
                assert_eq!(out.reading_count(), hundred.len() * 96, "{:?}", out.dead_letters.first());
            }
            best = best.min(on_core_s() - began);
        }
        let readings = (FRAMES * READINGS) as f64;
        let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        println!(
            "{name}: {:.2} M readings/s of a core, {:.0} B a reading",
            readings / best / 1e6,
            bytes as f64 / readings
        );
    }
}
