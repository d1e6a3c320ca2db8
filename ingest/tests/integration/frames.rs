//! Frames that the makers of Protocol Buffers write by our published schema, read by our own reader of its wire.

use std::path::Path;
use std::process::Command;

use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::{Decoder, Outcome, Receipt, golden};
use meterlake_model::{Channel, Commodity, MeterDirectory, RawMessage, ReadingBatch};

const NOON_S: i64 = 1_795_262_400;

/// The frames; `None` without the library, which is told.
fn frames() -> Option<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/peers/frames.py");
    let schema = root.join("../config/schema/meterlake.proto");
    let output = Command::new("python").arg(script).arg(schema).output();
    let wanted = std::env::var_os("METERLAKE_PEERS").is_some();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).unwrap();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            Some(text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect())
        }
        Ok(output) if wanted => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) if wanted => panic!("no Python: {error}"),
        _ => {
            eprintln!("skipped: Python with grpcio-tools is not there");
            None
        }
    }
}

fn read(topic: &str, payload: &[u8]) -> (ReadingBatch, Outcome) {
    let text = PayloadMap::shipped_text("meterlake-protobuf").unwrap();
    let any = text.replace("meterlake/v1/{meter}/frames", "gateways/+/frames");
    let maps = [PayloadMap::shipped("meterlake-protobuf").unwrap(), PayloadMap::parse(&any, "any").unwrap()];
    let message =
        RawMessage { source: "peer".into(), topic: topic.into(), payload: payload.to_vec(), received_at_s: NOON_S };
    let mut batch = ReadingBatch::default();
    let outcome = Decoder::default().decode(&maps, &message, false, &MeterDirectory::default(), &mut batch);
    assert_eq!(batch.dead_letters, [], "{topic}");
    (batch, outcome)
}

#[test]
fn frames_of_another_library_are_read_as_they_were_meant() {
    let Some(frames) = frames() else { return };
    let [one, day, most, least, events] = &frames[..] else { panic!("{} frames", frames.len()) };

    let (batch, outcome) = read("meterlake/v1/e1/frames", one);
    assert_eq!(
        golden::rows(&batch),
        [
            "-> electricity e1 2026-11-21T11:45:00Z energy_import_kwh=12345.678 energy_export_kwh=0.000 voltage_l1_v=230.1 \
          power_kw=-1.500 !unknown_meter"
        ]
    );
    assert_eq!(outcome.receipt, None);

    let (batch, outcome) = read("gateways/gw-7/frames", day);
    assert_eq!(batch.electricity.len(), 2 * 96);
    let energy = Channel::by_name("energy_import_kwh").unwrap();
    for (row, header) in batch.electricity.headers().iter().enumerate() {
        let quarter = i64::try_from(row % 96).unwrap();
        assert_eq!(header.meter_id.as_str(), if row < 96 { "m1" } else { "m2" });
        assert_eq!(header.ts.unix_seconds(), NOON_S - 86_400 + 900 * quarter);
        assert_eq!(batch.electricity.value(row, energy), Some(quarter * 999_999));
    }
    assert_eq!(outcome.receipt, Some(Receipt { gateway: "gw-7".into(), sequence: (1 << 63) + 5 }));

    for (frame, sign) in [(most, 1), (least, -1)] {
        let (batch, _) = read("gateways/gw-7/frames", frame);
        for commodity in Commodity::ALL {
            let values: Vec<_> = batch.rows(commodity).values(0).collect();
            let channels: Vec<_> = values.iter().map(|(channel, _)| *channel).collect();
            assert!(Channel::of(commodity).eq(channels), "every column of {commodity}");
            for (channel, value) in values {
                let digits = u32::from(channel.precision().min(9));
                assert_eq!(value, sign * (10_i64.pow(digits) - 1), "{channel}");
            }
        }
    }

    let (batch, _) = read("gateways/gw-7/frames", events);
    assert_eq!((batch.reading_count(), batch.events.len()), (0, 12));
}
