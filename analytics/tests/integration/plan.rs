//! Plans: what is sorted on disk is never sorted again.

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use meterlake_analytics::jobs::explain_usage;
use meterlake_model::{Commodity, EventKind, MeterEvent, MeterId, ReadingBatch};
use meterlake_store::query::ReadOptions;

use crate::fixture::{at, lake_with_usage, push};

#[tokio::test]
async fn the_walk_over_readings_sorts_nothing() {
    let lake = lake_with_usage().await;
    for commodity in Commodity::ALL {
        let plan = explain_usage(&lake.lake, commodity).await.unwrap();
        assert!(plan.contains("UsageDeriveExec"), "{plan}");
        assert!(!plan.contains("SortExec"), "{plan}");
        assert!(!plan.contains("Aggregate") && !plan.contains("HashJoin"), "{plan}");
    }
}

/// A query of the jobs, the tables it needs being there, with overlapping files of several months in each.
async fn physical(session: &SessionContext, text: &str) -> String {
    let instant = |text: &str| ScalarValue::TimestampMicrosecond(Some(at(text).micros()), Some("UTC".into()));
    let parameters = vec![("from", instant("2026-01-15T00:00:00Z")), ("to", instant("2026-03-15T00:00:00Z"))];
    let frame = session.sql(text).await.unwrap();
    let frame =
        if text.contains('$') { frame.with_param_values(ParamValues::from(parameters)).unwrap() } else { frame };
    let plan = frame.create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(true).to_string()
}

#[tokio::test]
async fn the_queries_of_the_jobs_sort_nothing() {
    let mut lake = lake_with_usage().await;
    // Late rows of every month, so that files overlap.
    let mut late = ReadingBatch::default();
    for (meter, channel) in [("e1", "energy_import_kwh"), ("w1", "volume_m3")] {
        for day in ["2026-01-05T00:01:00Z", "2026-02-05T00:01:00Z", "2026-03-05T00:01:00Z"] {
            push(&mut late, meter, at(day), &[(channel, 1)]);
        }
    }
    for day in ["2026-01-05T00:00:00Z", "2026-02-05T00:00:00Z"] {
        late.events.push(MeterEvent {
            meter_id: MeterId::new("e1").unwrap(),
            ts: at(day),
            kind: EventKind::LastGasp,
            detail: "".into(),
            received_at_s: at(day).unix_seconds(),
            source: "test".into(),
        });
    }
    let pin = lake.commit(late).await;
    for commit_seq in [None, Some(pin)] {
        let session = lake.lake.session(ReadOptions { commit_seq, ..ReadOptions::default() }).await.unwrap();
        for (name, text) in [
            ("days", include_str!("../../sql/days.sql")),
            ("electricity_arrivals", include_str!("../../sql/electricity_arrivals.sql")),
            ("findings", include_str!("../../sql/findings.sql")),
            ("hours", include_str!("../../sql/hours.sql")),
            ("outages", include_str!("../../sql/outages.sql")),
            ("slots", include_str!("../../sql/slots.sql")),
            ("voltages", include_str!("../../sql/voltages.sql")),
            ("water_arrivals", include_str!("../../sql/water_arrivals.sql")),
        ] {
            let plan = physical(&session, text).await;
            assert!(!plan.contains("SortExec"), "{name}:\n{plan}");
        }
    }
}
