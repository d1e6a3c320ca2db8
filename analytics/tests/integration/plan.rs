//! Plans: what is sorted on disk is never sorted again.

use meterlake_analytics::jobs::explain_usage;
use meterlake_model::Commodity;

use crate::fixture::lake_with_usage;

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
