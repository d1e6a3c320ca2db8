//! `tables`: what can be asked with SQL, and the columns of one table or view.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use clap::Args;
use meterlake_store::query::ReadOptions;

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{rows, setup};

/// One line each; a table that is not here is still listed.
const ABOUT: &[(&str, &str)] = &[
    ("alert_events", "each step of an alert's life, the machine's and people's"),
    ("alerts", "alerts as the machine knows them"),
    ("billing_corrections", "what late readings change of reads that were billed"),
    ("billing_determinants", "tariff buckets, demands, tiers and what else is configured, by usage point and cycle"),
    ("billing_corrections", "the ledger: what was issued of each item, and each later change with its cause"),
    ("billing_events", "what people did to bills and edits: rows are only ever added"),
    ("billing_items", "the numbered lists of bills and corrections that went out"),
    ("billing_reads", "determinants of one usage point, channel and cycle"),
    ("billing_runs", "totals of a billing run by channel"),
    ("check_findings", "what checks found, by the month that was checked, and what follows from it"),
    ("commits", "when commits were made that the logs no longer tell of"),
    ("completeness", "expected against received readings by meter and civil day, and why some are missing"),
    ("customers", "registry: who is billed, by revision"),
    ("dead_letters", "input that could not be read, whole, with its reason"),
    ("electricity", "one row a meter and time: repeats merged, contradictions flagged, hot rows included"),
    (
        "electricity_full",
        "the same with usage point, place, customer, node and civil time (local_time, local_day, local_hour)",
    ),
    ("electricity_latest", "the last row of each meter"),
    ("electricity_readings", "what meters said, one row a message and meter time, revisions included"),
    ("erasures", "what was taken out for good, without saying whose it was"),
    ("findings", "what checks found while use was derived"),
    ("holds", "periods that must stay, with who said so and why"),
    ("installation_channels", "registry: how readings of an installation become use, by revision"),
    ("installations", "registry: which meter was where from when to when, by revision"),
    ("job_runs", "one row a run of a job"),
    ("latest", "when each meter was last heard, electricity and water"),
    ("meter_events", "last gasps, restorations, tampers and the like"),
    ("meters", "registry: meters, by revision"),
    ("network", "registry: feeders, transformers, districts, by revision"),
    ("profiles", "load shape and key figures of one usage point and period"),
    ("raw_messages", "payloads as they came, where their map keeps them"),
    ("redecodes", "which history was decoded again, why, who proposed and who approved it"),
    ("usage_anchors", "last readings that surely stand at the beginning of each month, from which a run goes on"),
    ("usage_days", "exact use of each usage point, channel and civil day with its registers: what bills add up"),
    ("usage_points", "registry: places of supply, by revision"),
    ("usage_progress", "months of use that are derived, and up to which commit"),
    ("usage_spans", "use over a stretch of time; level tells slots from days: never add both"),
    ("water", "one row a meter and time: repeats merged, contradictions flagged, hot rows included"),
    (
        "water_full",
        "the same with usage point, place, customer, node and civil time (local_time, local_day, local_hour)",
    ),
    ("water_latest", "the last row of each meter"),
    ("water_readings", "what meters said, one row a message and meter time, revisions included"),
];

/// Which table.
#[derive(Debug, Args)]
pub struct TablesArgs {
    /// Show the columns of this table or view
    name: Option<String>,
    /// Form of the result [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Lists.
///
/// # Errors
/// When there is no lake, or no table of that name.
pub async fn run(global: &Global, args: &TablesArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let session = lake.session(ReadOptions::default()).await?;
    let format = args.format.unwrap_or_else(Format::for_stdout);
    let listed = "SELECT table_name, CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END FROM information_schema.tables \
                  WHERE table_schema = 'public' ORDER BY table_name";
    let mut found = BTreeMap::new();
    for row in rows::fetch(&session, listed).await? {
        if let [Some(name), Some(kind)] = row.as_slice() {
            found.insert(name.clone(), kind.clone());
        }
    }
    if let Some(name) = &args.name {
        if !found.contains_key(name) {
            bail!("there is no table `{name}`; `meterlake tables` lists them");
        }
        let stream = rows::stream(&session, &format!("DESCRIBE {name}")).await?;
        output::write_stream(stream, format, None).await?;
        return Ok(());
    }
    let texts = |of: &dyn Fn((&String, &String)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let about = |name: &str| ABOUT.iter().find(|(of, _)| *of == name).map_or("", |(_, about)| *about).to_owned();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("name", texts(&|(name, _)| name.clone())),
        ("kind", texts(&|(_, kind)| kind.clone())),
        ("about", texts(&|(name, _)| about(name))),
    ];
    output::write_batch(RecordBatch::try_from_iter(columns)?, format).await
}
