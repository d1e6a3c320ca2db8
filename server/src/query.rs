//! `query`: SQL over committed and hot rows, read-only.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use meterlake_store::query::{AsOf, ReadOptions};

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{rows, setup};

/// A question and the form of its answer.
///
/// `meterlake tables` lists what can be asked. Commonly: `electricity` and `water` (one row a meter and time),
/// `electricity_latest` (the last of each meter), `electricity_full` (with customer, place and civil time). Functions of our own:
/// `civil_time(ts, zone)`, `civil_day(ts, zone)` and `civil_hour(ts, zone)`, with a zone such as 'Europe/Madrid';
/// `tou_bucket(ts, calendar[, usage_point_id])` with a calendar of the configuration; `billing_boundary(ts, zone, day)`,
/// where the cycle begins that starts on that day of the month.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// SQL; one SELECT, EXPLAIN, SHOW or DESCRIBE
    sql: String,
    /// Form of the result [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Committed rows only, without the journal's tail
    #[arg(long)]
    committed: bool,
    /// The lake as it was: a commit sequence number such as 4711, a time such as 2026-11-20T08:00:00Z, or a civil time
    /// with its zone such as '2026-11-20 08:00 Europe/Madrid'
    #[arg(long, value_name = "COMMIT_SEQ|TIME", value_parser = AsOf::parse)]
    as_of: Option<AsOf>,
}

/// Answers.
///
/// # Errors
/// When the text is not one read-only statement, the query fails, or the output cannot be written.
pub async fn run(global: &Global, args: &QueryArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let hot = !args.committed && args.as_of.is_none() && config.collect.journal.is_dir();
    let options = ReadOptions {
        journal: hot.then(|| config.collect.journal.clone()),
        as_of: args.as_of,
        calendars: Arc::new(config.calendars.clone()),
        ..ReadOptions::default()
    };
    let session = lake.session(options).await?;
    let stream = rows::stream(&session, &args.sql).await?;
    let format = args.format.unwrap_or_else(|| match &args.output {
        Some(path) => by_extension(path),
        None => Format::for_stdout(),
    });
    let written = output::write_stream(stream, format, args.output.as_deref()).await?;
    if let Some(path) = &args.output {
        eprintln!("{written} rows written to {}", path.display());
    }
    Ok(())
}

fn by_extension(path: &std::path::Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Format::Parquet,
        Some("json" | "jsonl" | "ndjson") => Format::Json,
        Some("txt") => Format::Table,
        _ => Format::Csv,
    }
}
