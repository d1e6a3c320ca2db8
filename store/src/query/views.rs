//! The views over readings that people ask first: one row a meter and time, the last of each meter, and readings with
//! customer, place and civil time.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{col, lit};
use meterlake_model::Commodity;

use super::error::QueryError;
use super::latest::LatestTable;
use super::resolve::{Keep, ResolveNode};
use crate::schema::readings_name;

/// The registry tables that `…_full` joins; without them there is no such view.
const JOINED: [&str; 5] = ["installations", "usage_points", "customers", "network", "meters"];

/// What the views stand on.
pub(super) struct Sources {
    /// Tables by name, as the session shows them.
    pub(super) tables: HashMap<String, LogicalPlan>,
    /// The last readings by readings table, where they need no scan.
    pub(super) latest: HashMap<String, LatestTable>,
    /// The revision of the registry that holds.
    pub(super) revision: i64,
}

/// Registers `electricity`, `water`, `…_latest`, `latest` and `…_full`, as far as their tables are there.
pub(super) async fn register(context: &SessionContext, mut sources: Sources) -> Result<(), QueryError> {
    let mut latest: Option<LogicalPlanBuilder> = None;
    for commodity in Commodity::ALL {
        let table = readings_name(commodity);
        let Some(plan) = sources.tables.get(table) else { continue };
        let resolved =
            |keep| LogicalPlan::Extension(Extension { node: Arc::new(ResolveNode::new(plan.clone(), keep)) });
        context.register_table(commodity.as_str(), Arc::new(ViewTable::new(resolved(Keep::All), None)))?;
        let name = format!("{commodity}_latest");
        let last: Arc<dyn TableProvider> = match sources.latest.remove(table) {
            Some(found) => Arc::new(found),
            None => Arc::new(ViewTable::new(resolved(Keep::Latest), None)),
        };
        context.register_table(name.as_str(), last.clone())?;
        let columns = ["meter_id", "ts", "received_at", "source", "profile", "flags"];
        let columns = [lit(commodity.as_str()).alias("commodity")].into_iter().chain(columns.map(col));
        let part = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(last), None)?.project(columns)?;
        latest = Some(match latest {
            Some(others) => others.union(part.build()?)?,
            None => part,
        });
        if JOINED.iter().all(|name| sources.tables.contains_key(*name)) {
            let text = full(commodity, sources.revision);
            let plan = context.state().create_logical_plan(&text).await?;
            context.register_table(format!("{commodity}_full"), Arc::new(ViewTable::new(plan, None)))?;
        }
    }
    if let Some(latest) = latest {
        context.register_table("latest", Arc::new(ViewTable::new(latest.build()?, None)))?;
    }
    Ok(())
}

/// Readings with what the registry says of the meter's place at the reading's time. A meter that the registry does not
/// know at that time has nulls there.
fn full(commodity: Commodity, revision: i64) -> String {
    let of = |table: &str| format!("(SELECT * FROM {table} WHERE revision = {revision})");
    let [installations, points, customers, network, meters] = JOINED.map(of);
    format!(
        "SELECT r.*, i.usage_point_id, p.place, p.class, p.customer_id, c.name AS customer, p.node_id, n.name AS node, \
                m.model, m.gateway_id, p.zone, civil_time(r.ts, p.zone) AS local_time, \
                civil_day(r.ts, p.zone) AS local_day, civil_hour(r.ts, p.zone) AS local_hour \
         FROM {commodity} r \
         LEFT JOIN {installations} i ON i.meter_id = r.meter_id \
              AND (i.installed_at IS NULL OR i.installed_at <= r.ts) AND (i.removed_at IS NULL OR r.ts < i.removed_at) \
         LEFT JOIN {points} p ON p.usage_point_id = i.usage_point_id \
         LEFT JOIN {customers} c ON c.customer_id = p.customer_id \
         LEFT JOIN {network} n ON n.node_id = p.node_id \
         LEFT JOIN {meters} m ON m.meter_id = r.meter_id"
    )
}
