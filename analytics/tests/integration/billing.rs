//! Billing reads out of the lake.

use std::io::Read;

use meterlake_analytics::jobs::billing_reads_of_spans;
use meterlake_analytics::{Job, JobOptions};
use meterlake_model::{LocalResolution, MeterId, ReadingBatch, ReadingFlags, RowHeader, UsagePointId};

use crate::fixture::{TestLake, channel, day, lake_with_usage, registry, zone};

/// The reads in the table, which come from the exact days, are to the last digit those that the spans give.
async fn assert_bill_is_that_of_the_spans(lake: &TestLake, from: &str, to: &str) -> usize {
    lake.run(Job::Billing, from, to).await;
    let batches = billing_reads_of_spans(&lake.lake, &JobOptions::new(day(from), day(to))).await.unwrap();
    let mut text = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut text);
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    drop(writer);
    let text = String::from_utf8(text).unwrap();
    let mut of_spans: Vec<&str> = text.lines().collect();
    of_spans.sort_unstable();
    let schema = batches[0].schema();
    let columns: Vec<_> = schema.fields().iter().map(|f| format!("\"{}\"", f.name())).collect();
    let mut of_days = lake.rows(&format!("SELECT {} FROM billing_reads", columns.join(", "))).await;
    of_days.sort_unstable();
    assert_eq!(of_days, of_spans);
    of_days.len()
}

#[tokio::test]
async fn rule_8_a_bill_from_exact_days_is_the_bill_from_spans() {
    let lake = lake_with_usage().await;
    assert_eq!(assert_bill_is_that_of_the_spans(&lake, "2026-01-01", "2026-04-01").await, 18);
    let unequal = lake
        .rows(
            "SELECT usage_point_id, start, value FROM usage_days
             WHERE value <> use_failed + use_estimated + use_estimated_scaled + use_derived + use_valid + use_verified
               + use_edited",
        )
        .await;
    assert_eq!(unequal, Vec::<String>::new(), "the states share out the whole use");
    let slots = lake
        .rows(
            "SELECT usage_point_id, slots_none + slots_failed + slots_estimated + slots_estimated_scaled + slots_derived
               + slots_valid AS slots FROM usage_days WHERE day = DATE '2026-03-29' ORDER BY 1",
        )
        .await;
    assert_eq!(slots, ["E1,92", "E2,92", "E3,92", "E4,92", "W1,23", "W2,23"], "the day that the clock is put forward");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_a_year_of_real_meters_is_billed_from_exact_days_as_from_spans() {
    let root = std::env::var_os("METERLAKE_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        std::path::PathBuf::from,
    );
    let path = root.join("daiad-water/readings.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is not there (set METERLAKE_DATA)", path.display());
        return;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let template = registry();
    let (mut meters, mut batch) = (meterlake_model::registry::Registry::default(), ReadingBatch::default());
    for line in text.lines().skip(1) {
        let mut fields = line.split(';');
        let (key, time, litres) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let id = MeterId::new(key).unwrap();
        if !meters.meters.contains_key(&id) {
            let mut point = template.usage_points[&UsagePointId::new("W1").unwrap()].clone();
            point.id = UsagePointId::new(key).unwrap();
            let mut installation = template.installations[4].clone();
            (installation.meter_id, installation.usage_point_id) = (id.clone(), point.id.clone());
            let mut meter = template.meters[&MeterId::new("w1").unwrap()].clone();
            meter.id = id.clone();
            meters.usage_points.insert(point.id.clone(), point);
            meters.installations.push(installation);
            meters.meters.insert(id.clone(), meter);
        }
        let resolved = zone().resolve_local_as(time, "%d/%m/%Y %H:%M:%S").unwrap();
        let flags = match resolved {
            LocalResolution::Ambiguous { .. } => ReadingFlags::AMBIGUOUS_LOCAL_TIME,
            _ => ReadingFlags::NONE,
        };
        let litres = meterlake_model::parse_scaled(litres, 0).unwrap();
        let header = RowHeader {
            meter_id: id,
            ts: resolved.earlier(),
            received_at_s: 0,
            source: "test".into(),
            profile: "test@1".into(),
            flags,
        };
        let volume = channel("volume_m3");
        batch.rows_mut(volume.commodity()).push(header, &[(volume, litres)]);
    }
    let mut lake = TestLake::new(&meters).await;
    lake.commit(batch).await;
    lake.run(Job::Usage, "2016-03-01", "2017-03-01").await;
    let reads = assert_bill_is_that_of_the_spans(&lake, "2016-03-01", "2017-03-01").await;
    assert_eq!(reads, 92 * 12);
}

#[tokio::test]
async fn rule_8_reads_of_the_months_add_up_to_the_register() {
    let lake = lake_with_usage().await;
    let report = lake.run(Job::Billing, "2026-01-01", "2026-04-01").await;
    assert_eq!(report.rows, 18 + 6, "six points and two channels, three months: {}", report.summary);
    let difference = lake
        .rows(
            "SELECT b.usage_point_id, b.total - r.total AS difference FROM
               (SELECT usage_point_id, lower(usage_point_id) AS meter_id, sum(use_amount) AS total
                FROM billing_reads GROUP BY 1) b
               JOIN (SELECT meter_id, max(volume_m3) - min(volume_m3) AS total FROM water_readings GROUP BY 1
                     UNION ALL SELECT meter_id, max(energy_import_kwh) - min(energy_import_kwh)
                     FROM electricity_readings GROUP BY 1) r USING (meter_id)
             WHERE b.usage_point_id <> 'E4' ORDER BY 1",
        )
        .await;
    assert_eq!(difference, ["E1,0.000000", "E2,0.000000", "E3,0.000000", "W1,0.000000", "W2,0.000000"]);
    let february = lake
        .rows(
            "SELECT usage_point_id, first_day, last_day, days, days_covered, state, start_register, start_quality
             FROM billing_reads WHERE run = '2026-02' AND usage_point_id = 'E1'",
        )
        .await;
    assert!(february[0].starts_with("E1,2026-02-01,2026-02-28,28,28,ready,"), "{february:?}");
    assert!(february[0].ends_with(",valid"), "{february:?}");
}

#[tokio::test]
async fn an_exchange_is_one_read_with_two_parts() {
    let lake = lake_with_usage().await;
    lake.run(Job::Billing, "2026-02-01", "2026-03-01").await;
    let rows = lake.rows("SELECT parts FROM billing_reads WHERE usage_point_id = 'E4' AND run = '2026-02'").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].matches("meter_id").count(), 2, "{rows:?}");
}

#[tokio::test]
async fn a_cycle_that_is_not_over_is_held() {
    let lake = lake_with_usage().await;
    lake.run(Job::Usage, "2026-04-01", "2026-05-01").await;
    lake.run(Job::Billing, "2026-04-01", "2026-05-01").await;
    let states = lake.rows("SELECT DISTINCT state FROM billing_reads WHERE run = '2026-04'").await;
    assert!(states.iter().all(|s| s == "held"), "{states:?}");
}
