//! What others read in our files: DuckDB, aemo-mdff-reader and greenbutton-objects, and the rules of the two XML schemas. Runs
//! where `METERLAKE_PEERS=1`; there their absence is a failure.

use std::path::Path;
use std::process::Command;

use meterlake_model::Timestamp;
use serde_json::{Value, json};

use super::sample::{electricity, written};
use crate::exports::{Curve, Format};

/// What `tests/peers/read_exports.py` finds in the sample; `None` where peers are not asked for.
fn found(format: Format) -> Option<Value> {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        println!("skipped: set METERLAKE_PEERS=1 to have the files read by others");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("sample{}", format.ending()));
    std::fs::write(&file, written(format).0).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/read_exports.py");
    let output = Command::new("python3").arg(script).arg(format.as_str()).arg(&file).output();
    let output = output.expect("METERLAKE_PEERS=1 needs python3");
    assert!(output.status.success(), "{format:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn duckdb_reads_the_same_items_in_csv_json_and_parquet() {
    for format in [Format::Csv, Format::Json, Format::Parquet] {
        let Some(found) = found(format) else { return };
        assert_eq!(found["rows"], 5, "{format:?}");
        assert_eq!(found["items"][3], "NMI0000001/use/energy_import_kwh/2026-04-04", "{format:?}");
        let start = Timestamp::parse_rfc3339("2026-04-03T13:00:00Z").unwrap();
        assert_eq!(found["start"], start.micros(), "{format:?}: midnight of summer time in Sydney");
        assert_eq!(found["sums"], json!(["2123.171352", "2122.791352", "0.801000", "1061.000001"]), "{format:?}");
        if format == Format::Parquet {
            assert_eq!(found["types"], json!(["BIGINT", "DATE", "TIMESTAMP WITH TIME ZONE", "DECIMAL(18,6)"]));
        }
    }
}

#[test]
fn a_reader_of_nem12_finds_every_interval_at_its_time() {
    let Some(found) = found(Format::Nem12) else { return };
    assert_eq!(found["from"], "MDP1");
    assert_eq!(found["to"], "RETAILER1");
    let point = electricity(Format::Nem12);
    for (suffix, curve) in [("E1", &point.curves[0]), ("B1", &point.curves[1])] {
        let readings = found["streams"][format!("NMI0000001 {suffix}")].as_array().unwrap();
        assert_eq!(readings.len(), curve.slots.len());
        for (reading, slot) in readings.iter().zip(&curve.slots) {
            assert_eq!(reading[0], slot.start.unix_seconds());
        }
        let micros = |text: &Value| meterlake_model::Amount::parse(text.as_str().unwrap()).unwrap().micros();
        let sum: i64 = readings.iter().map(|r| micros(&r[1])).sum();
        assert_eq!(sum, exact(curve), "{suffix}: halves of a watt-hour round the sum, not each");
    }
    assert_eq!(found["streams"]["NMI0000001 E1"][0][2], "V");
    assert_eq!(found["streams"]["NMI0000001 B1"][0][2], "A");
}

fn exact(curve: &Curve) -> i64 {
    curve.slots.iter().filter_map(|s| s.value).map(|v| v.micros()).sum()
}

#[test]
fn a_reader_of_green_button_finds_every_reading_and_the_feed_obeys_its_schema() {
    let Some(found) = found(Format::Espi) else { return };
    let kinds = ["IntervalBlock", "LocalTimeParameters", "MeterReading", "ReadingType", "UsagePoint", "UsageSummary"];
    assert_eq!(found["kinds"], json!(kinds));
    assert_eq!(found["summaries"][0], json!(["NMI0000001/use/energy_import_kwh/2026-04-04", 60_500_001]));
    let points = found["points"].as_array().unwrap();
    assert_eq!((&points[0][0], &points[0][1]), (&json!("NMI0000001"), &json!("electricity")));
    let point = electricity(Format::Espi);
    for curve in &point.curves {
        let reading = &points[0][2][curve.channel.name()];
        assert_eq!((&reading["unit"], &reading["power"]), (&json!("wattHours"), &json!(-3)));
        let known = curve.slots.iter().filter_map(|s| {
            let quality = s.quality.espi(s.method)?;
            Some(json!([s.start.unix_seconds(), curve.interval_s, s.value?.micros(), quality]))
        });
        assert_eq!(reading["values"], Value::from(known.collect::<Vec<_>>()), "{}", curve.channel);
    }
}

#[test]
fn meter_readings_obey_their_schema_and_carry_every_item_and_slot() {
    let Some(found) = found(Format::Iec61968) else { return };
    let point = electricity(Format::Iec61968);
    let items = found["items"].as_array().unwrap();
    let expected = [
        ("NMI0000001/start_read/energy_import_kwh/2026-04-04", "1000.5", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("NMI0000001/end_read/energy_import_kwh/2026-04-04", "1061.000001", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("NMI0000001/use/energy_import_kwh/2026-04-04", "60.500001", "8.0.0.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("NMI0000001/max_kw/all/2026-04-04", "0.801", "8.8.0.6.1.1.8.0.0.0.0.0.0.0.0.3.38.0"),
        ("W, \"1\"/use/volume_m3/2026-04-04#2", "0.37035", "8.0.0.4.1.9.58.0.0.0.0.0.0.0.0.0.42.0"),
    ];
    for (item, (id, value, kind)) in items.iter().zip(expected) {
        assert_eq!(*item, json!([id, value, kind]));
    }
    assert_eq!(items.len(), 5);
    let values = |key: &str| found["curves"][key].as_array().unwrap_or_else(|| panic!("no {key}")).clone();
    // Half hours, forward and reverse; the second meter took over.
    let (first, second) = (
        values("NMI0000001 M1 0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        values("NMI0000001 M2-and-long-name 0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
    );
    assert_eq!(first.len() + second.len(), point.curves[0].slots.len());
    assert_eq!(first[0], json!([point.curves[0].slots[0].end.unix_seconds(), "0.125", "3.0.1"]));
    assert_eq!(first[3][2], "3.8.3");
    assert_eq!(first[10], json!([point.curves[0].slots[10].end.unix_seconds(), null, "3.5.259"]));
    assert_eq!(values("NMI0000001 M1 0.0.5.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0").len(), 98, "49 hours");
    assert_eq!(values("W, \"1\" W1 0.0.7.4.1.9.58.0.0.0.0.0.0.0.0.0.42.0").len(), 48);
}
