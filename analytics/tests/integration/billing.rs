//! Billing reads out of the lake.

use meterlake_analytics::Job;

use crate::fixture::lake_with_usage;

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
