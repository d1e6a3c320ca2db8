//! The rows of a preview on their way into the journal, like anything that a meter says.

use datafusion::prelude::{ParquetReadOptions, col};
use futures::TryStreamExt;
use meterlake_config::Config;
use meterlake_model::{ReadingBatch, Timestamp};

use super::decode::sorting;
use super::preview::Preview;
use super::rows::{Names, stored_rows};
use crate::{hand_over, progress};

/// Rows of one record of the journal.
const RECORD_ROWS: usize = 8_192;
/// Records that are handed over at once.
const RECORDS: usize = 16;

/// Hands over every row that is not there yet, in order of meter and time; gives their number. The committer drops what it
/// has already, so after a crash it may simply be called again.
pub(super) async fn apply(config: &Config, preview: &Preview) -> anyhow::Result<u64> {
    let total: u64 = preview.changes.iter().flat_map(|changes| changes.meters.values()).sum();
    let bar = progress::bar(total, "rows made durable");
    let files = sorting()?;
    let mut handing = Handing { config, id: &preview.id, records: Vec::new(), handed: 0 };
    for changes in &preview.changes {
        let rows = files.read_parquet(changes.path.as_str(), ParquetReadOptions::default()).await?;
        let order = ["meter_id", "ts", "revision"].map(|name| col(name).sort(true, false)).to_vec();
        let mut stream = rows.sort(order)?.execute_stream().await?;
        let mut names = Names::default();
        while let Some(batch) = stream.try_next().await? {
            for row in stored_rows(&batch, &mut names)? {
                let record = handing.record();
                record.rows_mut(changes.commodity).push(row.header, &row.values);
            }
            if handing.records.len() > RECORDS {
                handing.hand_over().await?;
                bar.set_position(handing.handed);
            }
        }
    }
    handing.hand_over().await?;
    bar.finish_and_clear();
    Ok(handing.handed)
}

/// Records that are gathered.
struct Handing<'a> {
    config: &'a Config,
    id: &'a str,
    records: Vec<ReadingBatch>,
    handed: u64,
}

impl Handing<'_> {
    /// The record that takes the next row.
    fn record(&mut self) -> &mut ReadingBatch {
        if self.records.last().is_none_or(|record| record.reading_count() >= RECORD_ROWS) {
            self.records.push(ReadingBatch::default());
        }
        let last = self.records.len() - 1;
        &mut self.records[last]
    }

    async fn hand_over(&mut self) -> anyhow::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let rows: usize = self.records.iter().map(ReadingBatch::reading_count).sum();
        let name = format!("redecode-{}-{}", self.id, Timestamp::now().micros());
        hand_over::hand_over(self.config, &name, &self.records).await?;
        self.records.clear();
        self.handed += rows as u64;
        Ok(())
    }
}
