//! The upkeep of tables in the jobs process: small files are merged, logs get checkpoints, what nobody refers to goes.

use std::time::{Duration, Instant};

use meterlake_config::Config;
use meterlake_store::Lake;
use meterlake_store::compact::CompactOptions;

use crate::retention;

/// Between two rounds of merging.
const ROUND: Duration = Duration::from_secs(3600);

/// Between two looks for rows that are too old.
const RETENTION_ROUND: Duration = Duration::from_secs(86_400);

/// Remembers when it was last done.
#[derive(Debug, Default)]
pub struct Maintenance {
    last: Option<Instant>,
    last_retention: Option<Instant>,
}

impl Maintenance {
    /// Does what is due. A table that cannot be kept is named and left as it was; the next round tries again.
    pub async fn run(&mut self, config: &Config, lake: &Lake) {
        if self.last.is_some_and(|last| last.elapsed() < ROUND) {
            return;
        }
        self.last = Some(Instant::now());
        if self.last_retention.is_none_or(|last| last.elapsed() >= RETENTION_ROUND) {
            self.last_retention = Some(Instant::now());
            retain(config, lake).await;
        }
        let tables = match lake.tables().await {
            Ok(tables) => tables,
            Err(error) => {
                tracing::error!(%error, "cannot list the tables");
                return;
            }
        };
        for table in tables {
            if let Err(error) = keep(lake, &table).await {
                tracing::error!(table, error = format!("{error:#}"), "cannot keep the table");
            }
        }
    }
}

async fn retain(config: &Config, lake: &Lake) {
    match retention::retain(config, lake, false).await {
        Ok(report) => {
            for table in report.iter().filter(|table| table.rows > 0) {
                tracing::info!(
                    table = table.rule.table,
                    before = %table.limit,
                    rows = table.rows,
                    held_rows = table.held_rows,
                    "took out rows that were kept long enough"
                );
            }
        }
        Err(error) => tracing::warn!(error = format!("{error:#}"), "no row was taken out by age"),
    }
}

async fn keep(lake: &Lake, table: &str) -> anyhow::Result<()> {
    let report = lake.compact(table, &CompactOptions::default()).await?;
    if report.removed_files > 0 {
        tracing::info!(
            table,
            removed_files = report.removed_files,
            added_files = report.added_files,
            rows = report.rows,
            "merged small files"
        );
    }
    lake.checkpoint(table).await?;
    let vacuumed = lake.vacuum(table).await?;
    if vacuumed > 0 {
        tracing::info!(table, files = vacuumed, "removed files that no version needs");
    }
    Ok(())
}
