//! `retention`: which rows are older than their table keeps them; shown, or taken out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use clap::{Args, Subcommand};
use meterlake_config::{Config, RetentionConfig};
use meterlake_model::{Commodity, Timestamp};
use meterlake_store::life::{Hold, RetentionRule, SubjectKind, TableRetention};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Lake, StoreError};

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{jobs, progress, rows, setup};

/// Tables whose rows stay until they are billed.
const BILLED: [&str; 6] =
    ["electricity_readings", "water_readings", "usage_spans", "usage_days", "findings", "billing_reads"];
/// How holds of what is not billed are called.
const UNBILLED: &str = "unbilled";

/// What can be asked of retention.
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Say which rows are older than `[retention]` keeps them, and which holds keep some; change nothing
    Plan(ShowArgs),
    /// Take those rows out of their tables; the jobs do so once a day. Their files go 7 days later
    Apply(ShowArgs),
}

/// How the answer is written.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Runs one of them.
///
/// # Errors
/// When the lake cannot be read, another process runs jobs, or the clock cannot be trusted.
pub async fn run(global: &Global, command: &RetentionCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let (args, dry) = match command {
        RetentionCommand::Plan(args) => (args, true),
        RetentionCommand::Apply(args) => (args, false),
    };
    let ownership = if dry { None } else { Some(jobs::own(&lake).await?) };
    let spinner = progress::spinner(if dry { "looking for old rows" } else { "taking old rows out" });
    let report = retain(&config, &lake, dry).await;
    spinner.finish_and_clear();
    if let Some(ownership) = ownership {
        ownership.release().await?;
    }
    output::write_batch(batch(&report?)?, args.format.unwrap_or_else(Format::for_stdout)).await
}

/// Takes out what is old, or says what would be.
///
/// # Errors
/// As [`run`].
pub async fn retain(config: &Config, lake: &Lake, dry: bool) -> anyhow::Result<Vec<TableRetention>> {
    let now = Timestamp::now();
    let mut holds = lake.holds().await?;
    let rules = rules(&config.retention);
    let shortest = rules.iter().filter(|r| BILLED.contains(&r.table.as_str())).map(|r| r.keep).min();
    if let Some(keep) = shortest.filter(|_| config.retention.keep_unbilled) {
        // What is newer is not old enough to matter: mostly there is nothing older that no bill is ready for.
        let before = now.plus_seconds(-i64::try_from(keep.as_secs()).unwrap_or(i64::MAX));
        holds.extend(unbilled(lake, before, now).await?);
        holds.extend(waiting(lake, before, now).await?);
    }
    Ok(lake.retain(&rules, &holds, now, dry).await?)
}

/// One rule for each table, or for each commodity of one where they differ.
fn rules(config: &RetentionConfig) -> Vec<RetentionRule> {
    let mut rules = Vec::new();
    for (table, keep) in &config.tables {
        let of = |commodity| match commodity {
            Commodity::Electricity => config.electricity.get(table),
            Commodity::Water => config.water.get(table),
        };
        let rule = |commodity, keep: &Option<Duration>| {
            keep.map(|keep| RetentionRule { table: (*table).to_owned(), commodity, keep })
        };
        if Commodity::ALL.into_iter().all(|c| of(c).is_none()) {
            rules.extend(rule(None, keep));
        } else {
            rules.extend(Commodity::ALL.into_iter().filter_map(|c| rule(Some(c), of(c).unwrap_or(keep))));
        }
    }
    rules
}

/// Holds of what no bill is ready for, of usage points whose last ready one ends before an instant. Points that were
/// never billed here are nobody's bills.
async fn unbilled(lake: &Lake, before: Timestamp, now: Timestamp) -> anyhow::Result<Vec<Hold>> {
    let text = format!(
        "SELECT usage_point_id, billed, CAST(NULL AS BIGINT) AS until FROM (SELECT usage_point_id, \
         CAST(max(CASE WHEN state = 'ready' THEN \"end\" END) AS BIGINT) AS billed FROM billing_reads \
         GROUP BY usage_point_id) AS points WHERE billed IS NULL OR billed < {}",
        before.micros()
    );
    holds(lake, &text, "no bill is ready for it", now).await
}

/// Holds of billing reads that wait for a person, of cycles that begin before an instant.
///
/// # Errors
/// When the billing reads cannot be read.
pub async fn waiting(lake: &Lake, before: Timestamp, now: Timestamp) -> anyhow::Result<Vec<Hold>> {
    let text = format!(
        "SELECT usage_point_id, CAST(start AS BIGINT) AS first, CAST(\"end\" AS BIGINT) AS until FROM billing_reads \
         WHERE state = 'held' AND CAST(start AS BIGINT) < {}",
        before.micros()
    );
    holds(lake, &text, "a billing read waits for a person", now).await
}

/// One hold for each of the tables that bills stand on, of a query's usage points, beginnings and ends.
async fn holds(lake: &Lake, text: &str, reason: &str, now: Timestamp) -> anyhow::Result<Vec<Hold>> {
    match lake.snapshot("billing_reads").await {
        Ok(_) => {}
        Err(StoreError::NoTable(_)) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    }
    let session = lake.session(ReadOptions::default()).await?;
    let instant = |cell: &Option<String>| Timestamp::from_micros(cell.as_ref()?.parse().ok()?).ok();
    let mut holds = Vec::new();
    for row in rows::fetch(&session, text).await? {
        let [Some(point), from, to] = row.as_slice() else { continue };
        holds.extend(BILLED.map(|table| Hold {
            id: UNBILLED.to_owned(),
            table: Some(table.to_owned()),
            commodity: None,
            subject: Some((SubjectKind::UsagePoint, point.clone())),
            from: instant(from),
            to: instant(to),
            reason: reason.to_owned(),
            who: "billing".to_owned(),
            placed_at: now,
            released: None,
        }));
    }
    Ok(holds)
}

fn batch(report: &[TableRetention]) -> anyhow::Result<RecordBatch> {
    let texts =
        |of: &dyn Fn(&TableRetention) -> String| Arc::new(report.iter().map(|r| Some(of(r))).collect::<StringArray>());
    let counts = |of: &dyn Fn(&TableRetention) -> usize| {
        Arc::new(report.iter().map(|r| i64::try_from(of(r)).ok()).collect::<Int64Array>())
    };
    let held_by = |r: &TableRetention| {
        r.held_by.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    RecordBatch::try_from_iter([
        ("table", texts(&|r| r.rule.table.clone()) as Arc<dyn Array>),
        ("commodity", texts(&|r| r.rule.commodity.map_or("all", Commodity::as_str).to_owned())),
        ("before", texts(&|r| r.limit.to_string())),
        ("rows", Arc::new(report.iter().map(|r| Some(r.rows)).collect::<UInt64Array>())),
        ("whole_files", counts(&|r| r.whole_files)),
        ("rewritten_files", counts(&|r| r.rewritten_files)),
        ("held_rows", Arc::new(report.iter().map(|r| Some(r.held_rows)).collect::<UInt64Array>())),
        ("held_by", texts(&held_by)),
    ])
    .context("the answer cannot be written")
}
