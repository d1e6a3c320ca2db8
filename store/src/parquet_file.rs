//! Parquet as we want it: encodings by column, pages of about one meter's month, sorted rows, the same bytes every time.
//!
//! The defaults of the writer cost three times the bytes and a hundred times the time to find one meter
//! (`ARCHITECTURE.md`, layout on disk).

mod encoding;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

use self::encoding::Layout;
use crate::error::StoreError;
use crate::stats::StatsBuilder;
use crate::table::ColumnRange;

/// Rows of one data page of files that will soon be merged: about one meter's month at a quarter of an hour.
const OPEN_PAGE_ROWS: usize = 3072;
/// Of files that stay: larger pages compress better, and one meter's month is still in one or two of them.
const CLOSED_PAGE_ROWS: usize = 8192;
/// The writer looks at a page's size after so many rows; a divisor of both.
const WRITE_ROWS: usize = 1024;
/// So many rows of a file that stays wait until its encodings are chosen by them.
const TRIAL_ROWS: usize = 1 << 16;
/// Rows of one row group.
const GROUP_ROWS: usize = 1 << 20;
/// The name in every file. Of the form that other readers need in order to trust statistics, and the same in every
/// version of this program, so that equal rows stay equal bytes.
pub(crate) const CREATED_BY: &str = "meterlake version 1.0.0 (build 1)";

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For files that will soon be merged.
    Open,
    /// For files that stay.
    Closed,
}

/// A file that is ready to be put into the store.
#[derive(Debug, Clone)]
pub(crate) struct EncodedFile {
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
    pub(crate) columns: BTreeMap<String, ColumnRange>,
}

/// Writes sorted rows into one file in memory.
pub(crate) struct FileWriter {
    table: String,
    schema: SchemaRef,
    sorting: Option<Vec<SortingColumn>>,
    effort: Effort,
    state: State,
    stats: StatsBuilder,
    order: Option<OrderCheck>,
}

enum State {
    /// The first rows of a file that stays: its encodings follow from them.
    Waiting(Vec<RecordBatch>, usize),
    Writing(Box<ArrowWriter<Vec<u8>>>),
}

impl FileWriter {
    /// For rows of `schema` (without partition columns) in the order of `sort_by`.
    pub(crate) fn new(
        table: &str,
        schema: &SchemaRef,
        sort_by: &[impl AsRef<str>],
        effort: Effort,
    ) -> Result<Self, StoreError> {
        let order = OrderCheck::new(schema, sort_by).map_err(|source| StoreError::arrow(table, source))?;
        let mut writer = Self {
            table: table.to_owned(),
            schema: schema.clone(),
            sorting: sorting_columns(schema, sort_by),
            effort,
            state: State::Waiting(Vec::new(), 0),
            stats: StatsBuilder::default(),
            order,
        };
        if effort == Effort::Open {
            let layouts: Vec<Layout> = schema.fields().iter().map(|field| encoding::usual(field)).collect();
            writer.state = State::Writing(Box::new(writer.begin(&layouts)?));
        }
        Ok(writer)
    }

    /// Adds rows behind those before.
    ///
    /// # Errors
    /// `Refused` when they are not in order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if let Some(order) = &mut self.order {
            let rising = order.rises(batch).map_err(|source| StoreError::arrow(&self.table, source))?;
            if !rising {
                let reason = "rows are not in the table's order".to_owned();
                return Err(StoreError::Refused { table: self.table.clone(), reason });
            }
        }
        self.stats.add(batch);
        match &mut self.state {
            State::Writing(writer) => {
                writer.write(batch).map_err(|source| StoreError::parquet(&self.table, "(new)", source))
            }
            State::Waiting(batches, rows) => {
                batches.push(batch.clone());
                *rows += batch.num_rows();
                if *rows > TRIAL_ROWS { self.choose(false) } else { Ok(()) }
            }
        }
    }

    /// Bytes that the file will have at least.
    pub(crate) fn bytes(&self) -> usize {
        match &self.state {
            State::Waiting(..) => 0,
            State::Writing(writer) => writer.bytes_written() + writer.in_progress_size(),
        }
    }

    /// Closes the file.
    pub(crate) fn finish(mut self) -> Result<EncodedFile, StoreError> {
        self.choose(true)?;
        let State::Writing(writer) = self.state else {
            return Err(StoreError::refused(&self.table, "a file was closed before its encodings were chosen"));
        };
        let bytes = writer.into_inner().map_err(|source| StoreError::parquet(&self.table, "(new)", source))?;
        let rows = self.stats.rows();
        Ok(EncodedFile { bytes: bytes.into(), rows, columns: self.stats.finish() })
    }

    /// Chooses the encodings by the first rows, always the same number of them, and writes what waited. `whole`: there
    /// are no others.
    fn choose(&mut self, whole: bool) -> Result<(), StoreError> {
        let State::Waiting(batches, _) = &mut self.state else { return Ok(()) };
        let batches = std::mem::take(batches);
        let first = concat_batches(&self.schema, &batches).map_err(|source| StoreError::arrow(&self.table, source))?;
        let first = first.slice(0, first.num_rows().min(TRIAL_ROWS));
        let wrap = |source| StoreError::parquet(&self.table, "(new)", source);
        let layouts = encoding::tried(&first, whole).map_err(wrap)?;
        let mut writer = self.begin(&layouts)?;
        for batch in &batches {
            writer.write(batch).map_err(wrap)?;
        }
        self.state = State::Writing(Box::new(writer));
        Ok(())
    }

    fn begin(&self, layouts: &[Layout]) -> Result<ArrowWriter<Vec<u8>>, StoreError> {
        let mut builder = pages(WriterProperties::builder(), self.effort)
            .set_compression(compression(self.effort))
            .set_created_by(CREATED_BY.to_owned())
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_sorting_columns(self.sorting.clone());
        for (field, layout) in self.schema.fields().iter().zip(layouts) {
            builder = layout.set(builder, field);
        }
        // Arrow's own copy of the schema would be larger than the rest of a small footer, and nobody needs it.
        let options = ArrowWriterOptions::new().with_properties(builder.build()).with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(Vec::new(), self.schema.clone(), options)
            .map_err(|source| StoreError::parquet(&self.table, "(new)", source))
    }
}

fn compression(effort: Effort) -> Compression {
    let level = match effort {
        Effort::Open => 1,
        Effort::Closed => 9,
    };
    Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
}

/// The builder with the sizes of pages and row groups.
fn pages(builder: WriterPropertiesBuilder, effort: Effort) -> WriterPropertiesBuilder {
    let rows = match effort {
        Effort::Open => OPEN_PAGE_ROWS,
        Effort::Closed => CLOSED_PAGE_ROWS,
    };
    builder
        .set_data_page_row_count_limit(rows)
        .set_write_batch_size(WRITE_ROWS)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
}

fn sorting_columns(schema: &Schema, sort_by: &[impl AsRef<str>]) -> Option<Vec<SortingColumn>> {
    let columns = sort_by
        .iter()
        .map(|name| {
            // Columns of the order are plain, and before them stand plain columns only, so field and leaf agree.
            let (index, _) = schema.column_with_name(name.as_ref())?;
            Some(SortingColumn { column_idx: i32::try_from(index).ok()?, descending: false, nulls_first: true })
        })
        .collect::<Option<Vec<_>>>()?;
    (!columns.is_empty()).then_some(columns)
}

/// Watches that rows rise, over the borders of batches too.
struct OrderCheck {
    converter: RowConverter,
    indexes: Vec<usize>,
    last: Option<OwnedRow>,
}

impl OrderCheck {
    fn new(schema: &Schema, sort_by: &[impl AsRef<str>]) -> Result<Option<Self>, arrow::error::ArrowError> {
        if sort_by.is_empty() {
            return Ok(None);
        }
        let indexes = sort_by.iter().map(|name| schema.index_of(name.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let fields = indexes.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
        Ok(Some(Self { converter: RowConverter::new(fields)?, indexes, last: None }))
    }

    fn rises(&mut self, batch: &RecordBatch) -> Result<bool, arrow::error::ArrowError> {
        let columns: Vec<_> = self.indexes.iter().map(|i| batch.column(*i).clone()).collect();
        let rows = self.converter.convert_columns(&columns)?;
        let count = rows.num_rows();
        if self.last.as_ref().is_some_and(|last| last.row() > rows.row(0)) {
            return Ok(false);
        }
        self.last = Some(rows.row(count - 1).owned());
        Ok((1..count).all(|i| rows.row(i - 1) <= rows.row(i)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Encoding;
    use parquet::basic::Type as Physical;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use std::sync::Arc;

    fn decimals(precision: u8, scale: i8, step: i128, rows: usize) -> ArrayRef {
        let values = Decimal128Array::from_iter_values((0..rows).map(|i| step * i as i128));
        Arc::new(values.with_precision_and_scale(precision, scale).unwrap())
    }

    fn batch(rows: usize) -> RecordBatch {
        let meters: StringArray = (0..rows).map(|i| Some(format!("m{:03}", i / 2976))).collect();
        let ts: TimestampMicrosecondArray =
            (0..rows).zip((0_i64..2976).cycle()).map(|(_, i)| Some(i * 900_000_000)).collect();
        RecordBatch::try_from_iter([
            ("meter_id", Arc::new(meters) as ArrayRef),
            ("ts", Arc::new(ts.with_timezone("UTC"))),
            ("energy_import_kwh", decimals(15, 3, 70, rows)),
            ("energy_import_delta_kwh", decimals(18, 6, 7, rows)),
            ("voltage_l1_v", decimals(9, 1, 1, rows)),
            ("power_kw", decimals(9, 3, 3, rows)),
            ("flags", Arc::new(Int32Array::from(vec![0; rows]))),
        ])
        .unwrap()
    }

    const ORDER: [&str; 2] = ["meter_id", "ts"];

    fn encode(batch: &RecordBatch) -> Result<EncodedFile, StoreError> {
        encode_as(Effort::Open, &[batch])
    }

    fn encode_as(effort: Effort, batches: &[&RecordBatch]) -> Result<EncodedFile, StoreError> {
        let mut writer = FileWriter::new("t", &batches[0].schema(), &ORDER, effort)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()
    }

    #[test]
    fn each_column_has_its_encoding_and_the_file_says_its_order() {
        let file = encode(&batch(10_000)).unwrap();
        let reader = SerializedFileReader::new(file.bytes).unwrap();
        let group = reader.metadata().row_group(0);
        let wanted = [
            ("meter_id", Physical::BYTE_ARRAY, Encoding::RLE_DICTIONARY),
            ("ts", Physical::INT64, Encoding::DELTA_BINARY_PACKED),
            ("energy_import_kwh", Physical::INT64, Encoding::DELTA_BINARY_PACKED),
            ("energy_import_delta_kwh", Physical::INT64, Encoding::BYTE_STREAM_SPLIT),
            ("voltage_l1_v", Physical::INT32, Encoding::DELTA_BINARY_PACKED),
            ("power_kw", Physical::INT32, Encoding::BYTE_STREAM_SPLIT),
            ("flags", Physical::INT32, Encoding::RLE_DICTIONARY),
        ];
        for (column, (name, physical, encoding)) in group.columns().iter().zip(wanted) {
            assert_eq!(column.column_path().string(), name);
            assert_eq!(column.column_type(), physical, "{name}");
            assert!(column.encodings().any(|e| e == encoding), "{name}: {:?}", column.encodings().collect::<Vec<_>>());
            assert!(column.offset_index_offset().is_some() && column.column_index_offset().is_some(), "{name}");
        }
        let order: Vec<_> = group.sorting_columns().unwrap().iter().map(|c| c.column_idx).collect();
        assert_eq!(order, [0, 1]);
        assert_eq!(reader.metadata().file_metadata().created_by(), Some(CREATED_BY));
    }

    #[test]
    fn equal_rows_are_equal_bytes() {
        for rows in [5000, TRIAL_ROWS + 5000] {
            let rows = batch(rows);
            for effort in [Effort::Open, Effort::Closed] {
                assert_eq!(encode_as(effort, &[&rows]).unwrap().bytes, encode_as(effort, &[&rows]).unwrap().bytes);
            }
        }
    }

    #[test]
    fn a_file_that_stays_has_all_its_rows_however_they_came() {
        let all = batch(TRIAL_ROWS + 3000);
        for cut in [1, 1000, TRIAL_ROWS - 1, TRIAL_ROWS, TRIAL_ROWS + 1] {
            let parts = [&all.slice(0, cut), &all.slice(cut, all.num_rows() - cut)];
            let file = encode_as(Effort::Closed, &parts).unwrap();
            assert_eq!(file.rows, all.num_rows() as u64);
            let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes).unwrap();
            let read: Vec<_> = reader.with_batch_size(all.num_rows()).build().unwrap().map(Result::unwrap).collect();
            assert_eq!(concat_batches(&read[0].schema(), &read).unwrap().columns(), all.columns());
        }
        let none = FileWriter::new("t", &all.schema(), &ORDER, Effort::Closed).unwrap();
        assert_eq!(none.finish().unwrap().rows, 0);
    }

    #[test]
    fn rows_out_of_order_are_refused_also_between_batches() {
        let all = batch(100);
        let mut writer = FileWriter::new("t", &all.schema(), &ORDER, Effort::Open).unwrap();
        writer.write(&all.slice(50, 50)).unwrap();
        assert!(matches!(writer.write(&all.slice(0, 50)), Err(StoreError::Refused { .. })));
        let twisted = arrow::compute::concat_batches(&all.schema(), [&all.slice(1, 1), &all.slice(0, 1)]).unwrap();
        assert!(matches!(encode(&twisted), Err(StoreError::Refused { .. })));
    }
}
