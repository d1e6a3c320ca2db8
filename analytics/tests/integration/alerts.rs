//! Alerts out of the lake, and what people do about them.

use meterlake_analytics::Job;
use meterlake_analytics::alerts::life::{PersonAction, PersonStep, State, StepError};
use meterlake_analytics::desk::{DeskError, add_step, present_alerts};
use meterlake_model::{ReadingBatch, Timestamp};

use crate::fixture::{HOUR_S, QUARTER_S, TestLake, at, day, lake_with_usage, push, register, registry, zone};

#[tokio::test]
async fn a_leak_is_found_where_it_is_and_nowhere_else() {
    let lake = lake_with_usage().await;
    lake.run(Job::Alerts, "2026-01-01", "2026-04-01").await;
    let rows = lake
        .rows(
            "SELECT rule, severity, state, usage_point_id, meter_id, node_id, place, start, \"end\", measured, unit, loss_m3
             FROM alerts",
        )
        .await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(
        rows[0].starts_with("leak,major,cleared,W2,w2,D1,W2 street,2026-02-04T04:00:00Z,2026-02-09T23:00:00Z,"),
        "{rows:?}"
    );
    // Its first hour is five in the morning, after the last quiet one; 139 hours of at least 11 litres.
    assert!(rows[0].ends_with(",11.000000,L/h,1.529000"), "{rows:?}");
    let steps = lake.rows("SELECT step, severity FROM alert_events ORDER BY ts").await;
    assert_eq!(steps, ["opened,major", "cleared,major"]);
}

#[tokio::test]
async fn rule_7_an_estimate_raises_no_alert() {
    let mut lake = TestLake::new(&registry()).await;
    let mut batch = ReadingBatch::default();
    let (from, to) = (zone().start_of_day(day("2026-01-01")), zone().start_of_day(day("2026-01-10")));
    register(&mut batch, ("w1", "volume_m3"), (from, to, HOUR_S), 200_000, |i| if i % 24 < 5 { 0 } else { 12 });
    // Three silent days in which 5 m³ were used: every estimated hour may be far above the floor.
    let (from, to) = (zone().start_of_day(day("2026-01-13")), zone().start_of_day(day("2026-01-20")));
    register(&mut batch, ("w1", "volume_m3"), (from, to, HOUR_S), 300_000, |i| if i % 24 < 5 { 0 } else { 12 });
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-01", "2026-02-01").await;
    let estimated =
        lake.rows("SELECT count(*) FROM usage_spans WHERE quality LIKE 'estimated%' AND level = 'slot'").await;
    assert_eq!(estimated, ["72"]);
    let report = lake.run(Job::Alerts, "2026-01-01", "2026-02-01").await;
    assert_eq!(report.rows, 0, "{}", report.summary);
}

fn volts(batch: &mut ReadingBatch, meter: &str, from: Timestamp, decivolts: &[i64]) {
    let mut ts = from;
    for value in decivolts {
        push(batch, meter, ts, &[("voltage_l1_v", *value)]);
        ts = ts.plus_seconds(QUARTER_S);
    }
}

#[tokio::test]
async fn low_voltage_at_most_meters_of_a_transformer_is_one_incident() {
    let mut lake = TestLake::new(&registry()).await;
    let mut batch = ReadingBatch::default();
    let from = at("2026-01-10T08:00:00Z");
    volts(&mut batch, "e1", from, &[2300, 1980, 1970, 1960, 2300, 2300, 2300]);
    volts(&mut batch, "e2", from, &[2300, 1990, 1970, 1990, 2300, 2300, 2300]);
    volts(&mut batch, "e3", from, &[2300, 2300, 2000, 1990, 2300, 2300, 2300]);
    // A meter that falls silent is not low.
    volts(&mut batch, "z4", from, &[2300, 2310]);
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-01", "2026-02-01").await;
    lake.run(Job::Alerts, "2026-01-01", "2026-02-01").await;
    let rows = lake
        .rows("SELECT rule, state, usage_point_id, measured, occurrences, group_id IS NULL FROM alerts ORDER BY rule, usage_point_id")
        .await;
    assert_eq!(
        rows,
        [
            "undervoltage,cleared,E1,196.000000,3,false",
            "undervoltage,cleared,E2,197.000000,3,false",
            "undervoltage,cleared,E3,199.000000,2,false",
            "undervoltage_incident,cleared,,196.000000,3,true",
        ]
    );
}

fn step(alert_id: &str, action: PersonAction) -> PersonStep {
    PersonStep { alert_id: alert_id.to_owned(), at: at("2026-02-07T09:00:00Z"), person: "ana".to_owned(), action }
}

#[tokio::test]
async fn what_people_did_stays_over_reruns_and_when_the_alert_is_undone() {
    let lake = lake_with_usage().await;
    lake.run(Job::Alerts, "2026-01-01", "2026-04-01").await;
    let alerts = present_alerts(&lake.lake).await.unwrap();
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    assert_eq!(alert.state, State::Cleared);
    let assign = PersonAction::Assign { to: "team north".to_owned() };
    add_step(&lake.lake, step(&alert.id, PersonAction::Acknowledge)).await.unwrap();
    assert_eq!(add_step(&lake.lake, step(&alert.id, assign)).await.unwrap(), State::Cleared);

    let report = lake.run(Job::Alerts, "2026-01-01", "2026-04-01").await;
    assert_eq!(report.partitions_changed, 0);
    let again = present_alerts(&lake.lake).await.unwrap();
    assert_eq!(again[0].steps.len(), 2, "{again:?}");

    // A better registry knows that W2 is a hospital: the alert is undone, what was done about it is not.
    let mut registry = registry();
    for point in registry.usage_points.values_mut().filter(|p| p.id.as_str() == "W2") {
        point.continuous_use = true;
    }
    lake.lake.write_registry(&registry).await.unwrap();
    lake.run(Job::Alerts, "2026-01-01", "2026-04-01").await;
    assert_eq!(lake.rows("SELECT count(*) FROM alerts").await, ["0"]);
    let after = present_alerts(&lake.lake).await.unwrap();
    let [undone] = after.as_slice() else { panic!("{after:?}") };
    assert_eq!((undone.state, undone.steps.len(), &undone.found), (State::Withdrawn, 2, &None));
}

#[tokio::test]
async fn steps_need_an_alert_that_is_there_and_not_resolved() {
    let lake = lake_with_usage().await;
    let unknown = add_step(&lake.lake, step("0000000000000000", PersonAction::Acknowledge)).await;
    assert!(matches!(unknown, Err(DeskError::Step(StepError::Unknown(_)))), "{unknown:?}");
    lake.run(Job::Alerts, "2026-01-01", "2026-04-01").await;
    let id = present_alerts(&lake.lake).await.unwrap().remove(0).id;
    let found = PersonAction::Resolve { found: "a running toilet".to_owned() };
    assert_eq!(add_step(&lake.lake, step(&id, found)).await.unwrap(), State::Resolved);
    let late = add_step(&lake.lake, step(&id, PersonAction::Acknowledge)).await;
    assert!(matches!(late, Err(DeskError::Step(StepError::Resolved(_)))), "{late:?}");
}
