//! Usage spans out of the lake: parts add up, exchanges join, every point is there once.

use crate::fixture::lake_with_usage;

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
