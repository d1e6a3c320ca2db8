//! The Perth set through the whole way of a reading: its hours as intervals, usage, and the calendar variant of the rule.

use std::io::{BufRead, BufReader};

use meterlake_analytics::alerts::leak::{LeakRules, LeakVariant};
use meterlake_analytics::{Job, JobOptions, Rules, run_job};
use meterlake_model::registry::{Installation, InstallationChannel, Meter, Registry, UsagePoint};
use meterlake_model::{Amount, Commodity, MeterId, ReadingBatch, UsagePointId, Zone};

use crate::fixture::{HOUR_S, TestLake, channel, day, push};

#[tokio::test]
async fn the_job_finds_exactly_the_days_that_the_set_marks() {
    let root = std::env::var_os("METERLAKE_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        std::path::PathBuf::from,
    );
    let path = root.join("perth-water/hourly.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is not there (set METERLAKE_DATA)", path.display());
        return;
    };
    let zone = Zone::parse("Australia/Perth").unwrap();
    let midnight = zone.start_of_day(day("2019-01-01"));
    let mut registry = Registry::default();
    let mut batch = ReadingBatch::default();
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines().skip(1) {
        let line = line.unwrap();
        let fields: Vec<i64> = line.split(',').map(|f| f.parse().unwrap()).collect();
        let (household, hour, litres) = (fields[0], fields[1], fields[2]);
        let id = format!("h{household:03}");
        if hour == 0 {
            install(&mut registry, &id, &zone);
        }
        // An interval bears the time of its end.
        let ts = midnight.plus_seconds((hour + 1) * HOUR_S);
        push(&mut batch, &id, ts, &[("volume_delta_m3", litres * 1000)]);
    }
    let mut lake = TestLake::new(&registry).await;
    lake.commit(batch).await;
    let leak = LeakRules { variant: LeakVariant::CalendarDay, ..LeakRules::default() };
    let options = JobOptions {
        rules: Rules { leak, ..Rules::default() },
        ..JobOptions::new(day("2019-01-01"), day("2019-05-01"))
    };
    for job in [Job::Usage, Job::Alerts] {
        let report = run_job(&lake.lake, job, &options).await.unwrap();
        println!("{}", report.summary);
    }
    let days = lake.rows("SELECT sum(occurrences) FROM alerts WHERE rule = 'leak_calendar_day'").await;
    assert_eq!(days, ["1051"]);
    let spans = lake.rows("SELECT count(*) FROM usage_spans WHERE level = 'slot' AND quality = 'valid'").await;
    assert_eq!(spans, ["215040"]);
}

fn install(registry: &mut Registry, id: &str, zone: &Zone) {
    let point = UsagePointId::new(id).unwrap();
    let meter_id = MeterId::new(id).unwrap();
    registry.usage_points.insert(
        point.clone(),
        UsagePoint {
            id: point.clone(),
            commodity: Commodity::Water,
            zone: zone.clone(),
            customer_id: None,
            node_id: None,
            class: "residential".to_owned(),
            place: String::new(),
            billing_day: 1,
            active: true,
            continuous_use: false,
            nominal_voltage_dv: None,
            customer_since: None,
            parent_id: None,
        },
    );
    let meter = Meter {
        id: meter_id.clone(),
        commodity: Commodity::Water,
        serial: None,
        model: String::new(),
        gateway_id: None,
    };
    registry.meters.insert(meter_id.clone(), meter);
    registry.installations.push(Installation {
        meter_id,
        usage_point_id: point,
        installed_at: None,
        removed_at: None,
        is_check: false,
        channels: vec![InstallationChannel {
            channel: channel("volume_delta_m3"),
            multiplier_micros: 1_000_000,
            digits: None,
            resolution: Amount::parse("0.001").unwrap(),
            interval_s: HOUR_S,
            interval_assumed: false,
            capacity_per_hour: None,
            start_register: None,
            end_register: None,
        }],
    });
}
