//! The upkeep of tables in the jobs process: small files are merged, logs get checkpoints, what nobody refers to goes.

use std::time::{Duration, Instant};

use meterlake_store::Lake;
use meterlake_store::compact::CompactOptions;

/// Between two rounds of merging.
const ROUND: Duration = Duration::from_secs(3600);

/// Remembers when it was last done.
#[derive(Debug, Default)]
pub struct Maintenance {
    last: Option<Instant>,
}

impl Maintenance {
    /// Does what is due. A table that cannot be kept is named and left as it was; the next round tries again.
    pub async fn run(&mut self, lake: &Lake) {
        if self.last.is_some_and(|last| last.elapsed() < ROUND) {
            return;
        }
        self.last = Some(Instant::now());
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
