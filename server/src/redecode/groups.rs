//! Rows of one meter and time together, out of streams that are sorted by both.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt;
use meterlake_model::{MeterId, RowHeader, Timestamp};

use super::compare::{Decoded, Stored};
use super::rows::Names;

/// A meter and a time.
pub(super) type Key = (MeterId, Timestamp);

/// What has a meter and a time.
pub(super) trait Row {
    fn header(&self) -> &RowHeader;
}

impl Row for Stored {
    fn header(&self) -> &RowHeader {
        &self.header
    }
}

impl Row for Decoded {
    fn header(&self) -> &RowHeader {
        &self.header
    }
}

/// Reads the rows of a batch.
type Read<T> = fn(&RecordBatch, &mut Names) -> anyhow::Result<Vec<T>>;

/// A sorted stream of rows, or none.
pub(super) struct Groups<T> {
    stream: Option<SendableRecordBatchStream>,
    read: Read<T>,
    names: Names,
    waiting: VecDeque<T>,
}

impl<T: Row> Groups<T> {
    pub(super) fn new(stream: Option<SendableRecordBatchStream>, read: Read<T>) -> Self {
        Self { stream, read, names: Names::default(), waiting: VecDeque::new() }
    }

    /// The next row's meter and time; `None` behind the last one.
    pub(super) async fn peek(&mut self) -> anyhow::Result<Option<Key>> {
        while self.waiting.is_empty() {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.try_next().await? {
                Some(batch) => self.waiting.extend((self.read)(&batch, &mut self.names)?),
                None => self.stream = None,
            }
        }
        Ok(self.waiting.front().map(|row| key(row)))
    }

    /// The rows of this meter and time, where they come next.
    pub(super) async fn take(&mut self, of: &Key) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        while self.peek().await?.as_ref() == Some(of) {
            rows.extend(self.waiting.pop_front());
        }
        Ok(rows)
    }
}

fn key<T: Row>(row: &T) -> Key {
    (row.header().meter_id.clone(), row.header().ts)
}
