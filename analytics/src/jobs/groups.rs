//! Rows of one key together, out of a stream that is sorted by it.

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;

use super::JobError;
use super::run::Run;
use crate::tables::read::{Rows, other};

/// Hands over runs of rows that share the texts of some columns: one group is held at a time.
pub(super) struct Groups {
    rows: SendableRecordBatchStream,
    key: &'static [&'static str],
    /// The rest of the batch that the last group ended in.
    rest: Option<RecordBatch>,
    pub(super) rows_read: u64,
}

/// The rows of one key.
pub(super) struct Group {
    pub(super) key: Vec<String>,
    pub(super) batches: Vec<RecordBatch>,
}

impl Groups {
    /// Over rows that are sorted by the columns of the key.
    pub(super) fn new(rows: SendableRecordBatchStream, key: &'static [&'static str]) -> Self {
        Self { rows, key, rest: None, rows_read: 0 }
    }

    /// The next group; `None` after the last one.
    pub(super) async fn next(&mut self, run: &Run<'_>) -> Result<Option<Group>, JobError> {
        let mut group: Option<Group> = None;
        loop {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match run.next(&mut self.rows).await? {
                    Some(batch) => {
                        self.rows_read += batch.num_rows() as u64;
                        batch
                    }
                    None => return Ok(group),
                },
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let group = group.get_or_insert_with(|| Group { key: Vec::new(), batches: Vec::new() });
            let count = self.leading(&batch, group).map_err(|e| run.failed(e))?;
            if count > 0 {
                group.batches.push(batch.slice(0, count));
            }
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
                return Ok(Some(std::mem::replace(group, Group { key: Vec::new(), batches: Vec::new() })));
            }
        }
    }

    /// How many rows at the front of the batch belong to the group; a new group takes the first row's key.
    fn leading(&self, batch: &RecordBatch, group: &mut Group) -> Result<usize, DataFusionError> {
        let rows = Rows(batch);
        let columns = self.key.iter().map(|name| rows.text(name)).collect::<Result<Vec<_>, _>>()?;
        if group.batches.is_empty() {
            group.key = columns.iter().map(|c| c.at(0).to_owned()).collect();
        }
        let same = |row: &usize| columns.iter().zip(&group.key).all(|(c, k)| c.at(*row) == k);
        let count = (0..rows.len()).take_while(same).count();
        let next = columns.iter().map(|c| if count < rows.len() { c.at(count) } else { "" });
        if count < rows.len() && next.lt(group.key.iter().map(String::as_str)) {
            return Err(other(format!("rows are not sorted by {:?} after {:?}", self.key, group.key)));
        }
        Ok(count)
    }
}
