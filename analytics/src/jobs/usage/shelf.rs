//! What the walk gives, put by until its partition is written: the walk comes in the order of meters, files are in the order
//! of usage points.
//!
//! Up to a limit it stays in memory; the rest lies compressed in one file, of which only the places are remembered.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::tables::read::other;

type Result<T> = std::result::Result<T, DataFusionError>;

/// Of zstd: its quickest. The file is read once and then gone.
const LEVEL: i32 = 1;

/// A month, counted from the first one asked for, and a bucket.
pub(super) type Place = (usize, u16);

/// Rows by place and usage point.
pub(super) struct Shelf {
    session: SessionContext,
    by_place: BTreeMap<Place, BTreeMap<Arc<str>, Rows>>,
    /// Bytes in memory, and how many there may be.
    held: usize,
    limit: usize,
    spill: Option<Spill>,
}

#[derive(Clone)]
enum Rows {
    Held(Vec<RecordBatch>),
    /// Where it lies, its bytes there and those that they become.
    Spilled {
        offset: u64,
        bytes: u64,
        becomes: usize,
    },
}

struct Spill {
    /// Removes the file at its end.
    _guard: Box<dyn Any + Send>,
    file: File,
    end: u64,
}

impl Shelf {
    /// An empty one that holds about so many bytes in memory.
    pub(super) fn new(session: &SessionContext, limit: usize) -> Self {
        Self { session: session.clone(), by_place: BTreeMap::new(), held: 0, limit, spill: None }
    }

    /// Puts the rows of a usage point to their place; it has none there yet.
    pub(super) fn put(&mut self, place: Place, point: Arc<str>, rows: Vec<RecordBatch>) -> Result<()> {
        let bytes: usize = rows.iter().map(bytes_of).sum();
        let rows = if self.held + bytes <= self.limit {
            self.held += bytes;
            Rows::Held(rows)
        } else {
            self.spill(&rows)?
        };
        self.by_place.entry(place).or_default().insert(point, rows);
        Ok(())
    }

    fn spill(&mut self, rows: &[RecordBatch]) -> Result<Rows> {
        let Some(first) = rows.first() else { return Ok(Rows::Held(Vec::new())) };
        let mut writer = StreamWriter::try_new(Vec::new(), first.schema_ref())?;
        for batch in rows {
            writer.write(batch)?;
        }
        let encoded = writer.into_inner()?;
        let compressed = zstd::bulk::compress(&encoded, LEVEL)?;
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => {
                let guard = self.session.runtime_env().disk_manager.create_tmp_file("usage")?;
                let path = guard.path().ok_or_else(|| other("there is no folder for files that wait".to_owned()))?;
                let file = File::options().read(true).write(true).open(path)?;
                none.insert(Spill { _guard: Box::new(guard), file, end: 0 })
            }
        };
        let offset = spill.file.seek(SeekFrom::Start(spill.end))?;
        spill.file.write_all(&compressed)?;
        let bytes = compressed.len() as u64;
        spill.end = offset + bytes;
        Ok(Rows::Spilled { offset, bytes, becomes: encoded.len() })
    }

    /// The usage points of a place, in order.
    pub(super) fn points(&self, place: Place) -> Vec<Arc<str>> {
        self.by_place.get(&place).map(|points| points.keys().cloned().collect()).unwrap_or_default()
    }

    /// The rows of a usage point at a place.
    pub(super) fn rows(&mut self, place: Place, point: &str) -> Result<Vec<RecordBatch>> {
        match self.by_place.get(&place).and_then(|points| points.get(point)) {
            None => Ok(Vec::new()),
            Some(Rows::Held(rows)) => Ok(rows.clone()),
            Some(Rows::Spilled { offset, bytes, becomes }) => {
                let Some(spill) = &mut self.spill else { return Ok(Vec::new()) };
                spill.file.seek(SeekFrom::Start(*offset))?;
                let mut compressed = Vec::new();
                Read::by_ref(&mut spill.file).take(*bytes).read_to_end(&mut compressed)?;
                let encoded = zstd::bulk::decompress(&compressed, *becomes)?;
                Ok(StreamReader::try_new(Cursor::new(encoded), None)?.collect::<std::result::Result<_, _>>()?)
            }
        }
    }
}

/// About the bytes of a slice: its share of what it is a slice of.
fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
    use arrow::datatypes::Int8Type;

    fn batch(from: i64) -> RecordBatch {
        let texts: DictionaryArray<Int8Type> = (0..100).map(|n| if n % 3 == 0 { "slot" } else { "day" }).collect();
        let numbers = Int64Array::from_iter_values(from..from + 100);
        RecordBatch::try_from_iter([("level", Arc::new(texts) as ArrayRef), ("n", Arc::new(numbers))]).unwrap()
    }

    #[test]
    fn what_is_put_by_comes_back_from_memory_and_from_disk() {
        for (limit, spills) in [(usize::MAX, false), (0, true), (2000, true)] {
            let mut shelf = Shelf::new(&SessionContext::new(), limit);
            for n in 0..50_i64 {
                let rows = vec![batch(n).slice(10, 20), batch(n).slice(30, 5)];
                shelf.put((0, u16::try_from(n % 3).unwrap()), format!("p{n:02}").into(), rows).unwrap();
            }
            assert_eq!(shelf.spill.is_some(), spills, "{limit}");
            assert!(shelf.held <= limit);
            assert_eq!(shelf.points((0, 1)).len(), 17);
            let rows = shelf.rows((0, 1), "p04").unwrap();
            assert_eq!(rows, [batch(4).slice(10, 20), batch(4).slice(30, 5)], "{limit}");
            assert_eq!(shelf.rows((1, 1), "p04").unwrap(), [], "another month");
        }
    }
}
