//! Usage spans out of the lake: parts add up, exchanges join, every point is there once.

use meterlake_analytics::Job;
use meterlake_model::{Amount, MeterId, ReadingBatch, ReadingFlags, RowHeader};

use crate::fixture::{QUARTER_S, TestLake, at, channel, lake_with_usage, push, register, registry};

#[tokio::test]
async fn rule_8_slots_add_up_to_days_and_days_to_the_register() {
    let lake = lake_with_usage().await;
    let unequal = lake
        .rows(
            "SELECT s.usage_point_id, s.day_use, d.day_use FROM
               (SELECT usage_point_id, sum(value) AS day_use FROM usage_spans WHERE level = 'slot' GROUP BY 1) s
               JOIN (SELECT usage_point_id, sum(value) AS day_use FROM usage_spans WHERE level = 'day' GROUP BY 1) d
               USING (usage_point_id)
             WHERE s.day_use <> d.day_use",
        )
        .await;
    assert_eq!(unequal, Vec::<String>::new());
    // Every point but the one with the exchange: use is last minus first register.
    let use_of = lake
        .rows(
            "SELECT u.usage_point_id, u.total - r.total AS difference FROM
               (SELECT usage_point_id, lower(usage_point_id) AS meter_id, sum(value) AS total
                FROM usage_spans WHERE level = 'slot' GROUP BY 1) u
               JOIN (SELECT meter_id, max(energy_import_kwh) - min(energy_import_kwh) AS total
                     FROM electricity_readings GROUP BY 1) r USING (meter_id)
             WHERE u.usage_point_id < 'E4' ORDER BY 1",
        )
        .await;
    assert_eq!(use_of, ["E1,0.000000", "E2,0.000000", "E3,0.000000"]);
}

#[tokio::test]
async fn a_point_whose_meter_was_exchanged_is_derived_once_over_both_meters() {
    let lake = lake_with_usage().await;
    let meters = lake
        .rows(
            "SELECT meter_id, count(*), min(quality) FROM usage_spans
             WHERE usage_point_id = 'E4' AND level = 'slot' AND start >= TIMESTAMP '2026-02-09T00:00:00Z'
               AND start < TIMESTAMP '2026-02-12T00:00:00Z' GROUP BY 1 ORDER BY 1",
        )
        .await;
    // z4 is sorted after e4, so the walk waits for it; 34 hours of one meter, 38 of the other.
    assert_eq!(meters.len(), 2, "{meters:?}");
    assert!(meters[0].starts_with("e4,152,") && meters[1].starts_with("z4,13"), "{meters:?}");
    let doubled = lake
        .rows(
            "SELECT usage_point_id, channel, level, start, count(*) FROM usage_spans
             GROUP BY 1, 2, 3, 4 HAVING count(*) > 1",
        )
        .await;
    assert_eq!(doubled, Vec::<String>::new());
}

#[tokio::test]
async fn v15_a_reading_with_more_digits_or_decimals_than_the_meter_has_is_a_finding_and_no_use() {
    let mut registry = registry();
    registry.installations[0].channels[0].digits = Some(4);
    registry.installations[1].channels[0].resolution = Amount::parse("0.1").unwrap();
    let mut lake = TestLake::new(&registry).await;
    let (from, to) = (at("2026-02-01T00:00:00Z"), at("2026-02-03T00:00:00Z"));
    let mut batch = ReadingBatch::default();
    for meter in ["e1", "e2"] {
        register(&mut batch, (meter, "energy_import_kwh"), (from, to, QUARTER_S), 1_000_000, |_| 100);
    }
    let between = from.plus_seconds(10 * QUARTER_S + 60);
    push(&mut batch, "e1", between, &[("energy_import_kwh", 10_001_000)]);
    push(&mut batch, "e2", between, &[("energy_import_kwh", 1_001_050)]);
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-02-01", "2026-02-03").await;
    let found = lake
        .rows("SELECT usage_point_id, rule, severity, measured, \"limit\", meter_id FROM findings WHERE rule <> 'V09' ORDER BY 1")
        .await;
    assert_eq!(found, ["E1,V15,issue,10001.000000,10000.000000,e1", "E2,V15,issue,1001.050000,0.100000,e2"]);
    let used = lake
        .rows(
            "SELECT usage_point_id, sum(value), min(quality), max(quality) FROM usage_spans
             WHERE level = 'slot' AND usage_point_id IN ('E1', 'E2') GROUP BY 1 ORDER BY 1",
        )
        .await;
    assert_eq!(used, ["E1,19.200000,valid,valid", "E2,19.200000,valid,valid"]);
}

#[tokio::test]
async fn v07_a_bill_does_not_end_at_a_reading_that_its_meter_marks() {
    let mut lake = TestLake::new(&registry()).await;
    let (from, to) = (at("2026-01-31T00:00:00Z"), at("2026-03-02T00:00:00Z"));
    let midnight = at("2026-02-28T23:00:00Z");
    let mut batch = ReadingBatch::default();
    let (before, behind) = (midnight.plus_seconds(-QUARTER_S), midnight.plus_seconds(QUARTER_S));
    register(&mut batch, ("e1", "energy_import_kwh"), (from, before, QUARTER_S), 1_000_000, |_| 100);
    register(&mut batch, ("e1", "energy_import_kwh"), (behind, to, QUARTER_S), 1_278_100, |_| 100);
    let header = RowHeader {
        meter_id: MeterId::new("e1").unwrap(),
        ts: midnight,
        received_at_s: midnight.unix_seconds() + 5,
        source: "test".into(),
        profile: "test@1".into(),
        flags: ReadingFlags::TEST_MODE,
    };
    let energy = channel("energy_import_kwh");
    batch.rows_mut(energy.commodity()).push(header, &[(energy, 1_278_090)]);
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-31", "2026-03-02").await;
    lake.run(Job::Billing, "2026-02-01", "2026-03-01").await;
    let found =
        lake.rows("SELECT rule, start, evidence FROM findings WHERE usage_point_id = 'E1' AND rule = 'V07'").await;
    assert_eq!(found, ["V07,2026-02-28T23:00:00Z,the meter marks reading 1278.090000 with test_mode"]);
    let bill = lake
        .rows(
            "SELECT start_register, start_quality, end_register, end_quality, use_amount FROM billing_reads
             WHERE usage_point_id = 'E1' AND first_day = DATE '2026-02-01'",
        )
        .await;
    assert_eq!(bill, ["1009.200000,valid,1278.000000,derived,268.800000"]);
}
