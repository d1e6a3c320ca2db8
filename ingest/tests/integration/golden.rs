//! Recorded messages of each shipped map beside the rows that they must become. The files are written by hand.
//!
//! A case is `# title`, `topic …`, `payload …` (one line), and its rows, each on a line beginning with `->`.

use std::fmt::Write;

use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::decode;
use meterlake_model::{Commodity, MeterDirectory, MeterEntry, MeterId, RawMessage, ReadingBatch, Timestamp, Zone};

const CASES: [(&str, &str); 4] = [
    ("meterlake-json", include_str!("golden/meterlake-json.txt")),
    ("wmbusmeters", include_str!("golden/wmbusmeters.txt")),
    ("tasmota", include_str!("golden/tasmota.txt")),
    ("litres-local-json", include_str!("golden/litres-local-json.txt")),
];

fn directory() -> MeterDirectory {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let known = [("plug-1", Commodity::Electricity), ("E-100", Commodity::Electricity), ("house-7", Commodity::Water)];
    MeterDirectory::new(
        known.map(|(id, commodity)| {
            (MeterId::new(id).unwrap(), MeterEntry { commodity, zone: zone.clone(), serial: None })
        }),
    )
}

fn described(batch: &ReadingBatch) -> String {
    let mut text = String::new();
    for commodity in Commodity::ALL {
        let rows = batch.rows(commodity);
        for (row, header) in rows.headers().iter().enumerate() {
            let (meter, ts) = (&header.meter_id, header.ts);
            write!(text, "-> {commodity} {meter} {ts}").unwrap();
            for (channel, value) in rows.values(row) {
                write!(text, " {channel}={}", decimal(value, channel.scale())).unwrap();
            }
            for flag in header.flags.names() {
                write!(text, " !{flag}").unwrap();
            }
            text.push('\n');
        }
    }
    for event in &batch.events {
        writeln!(text, "-> event {} {} {} \"{}\"", event.meter_id, event.ts, event.kind, event.detail).unwrap();
    }
    for dead in &batch.dead_letters {
        writeln!(text, "-> dead {} {}", dead.reason, dead.detail).unwrap();
    }
    text
}

fn decimal(value: i64, scale: u8) -> String {
    let divisor = 10_u64.pow(u32::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (value.unsigned_abs() / divisor, value.unsigned_abs() % divisor);
    format!("{sign}{whole}.{fraction:0width$}", width = usize::from(scale))
}

#[test]
fn rule_12_every_shipped_map_reads_its_messages_as_recorded() {
    assert!(PayloadMap::shipped_names().eq(CASES.iter().map(|(name, _)| *name)), "a map without cases");
    for (name, text) in CASES {
        let maps = [PayloadMap::shipped(name).unwrap()];
        for case in text.split("# ").skip(1) {
            let mut lines = case.lines();
            let title = lines.next().unwrap();
            let topic = lines.next().and_then(|line| line.strip_prefix("topic ")).unwrap();
            let payload = lines.next().and_then(|line| line.strip_prefix("payload ")).unwrap();
            let expected: String = lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
            let message = RawMessage {
                source: "golden".into(),
                topic: topic.into(),
                payload: payload.as_bytes().to_vec(),
                received_at_s: Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap().unix_seconds(),
            };
            let mut batch = ReadingBatch::default();
            decode(&maps, &message, false, &directory(), &mut batch);
            assert_eq!(described(&batch), expected, "{name}: {title}");
        }
    }
}
