//! Parquet as we want it: encodings by column, pages of about one meter's month, sorted rows, the same bytes every time.
//!
//! The defaults of the writer cost three times the bytes and a hundred times the time to find one meter
//! (`ARCHITECTURE.md`, layout on disk).

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::StoreError;
use crate::stats::StatsBuilder;
use crate::table::ColumnRange;

/// Rows of one data page: about one meter's month at a quarter of an hour.
const PAGE_ROWS: usize = 3072;
/// The writer looks at a page's size after so many rows; a divisor of [`PAGE_ROWS`].
const WRITE_ROWS: usize = 1024;
/// Rows of one row group.
const GROUP_ROWS: usize = 1 << 20;
/// The name in every file. Of the form that other readers need in order to trust statistics, and the same in every
/// version of this program, so that equal rows stay equal bytes.
const CREATED_BY: &str = "meterlake version 1.0.0 (build 1)";

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
    writer: ArrowWriter<Vec<u8>>,
    stats: StatsBuilder,
    order: Option<OrderCheck>,
}

impl FileWriter {
    /// For rows of `schema` (without partition columns) in the order of `sort_by`.
    pub(crate) fn new(
        table: &str,
        schema: &SchemaRef,
        sort_by: &[impl AsRef<str>],
        effort: Effort,
    ) -> Result<Self, StoreError> {
        let properties = properties(schema, sort_by, effort);
        // Arrow's own copy of the schema would be larger than the rest of a small footer, and nobody needs it.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)
            .map_err(|source| StoreError::parquet(table, "(new)", source))?;
        let order = OrderCheck::new(schema, sort_by).map_err(|source| StoreError::arrow(table, source))?;
        Ok(Self { table: table.to_owned(), writer, stats: StatsBuilder::default(), order })
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
        self.writer.write(batch).map_err(|source| StoreError::parquet(&self.table, "(new)", source))
    }

    /// Bytes that the file will have at least.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Closes the file.
    pub(crate) fn finish(self) -> Result<EncodedFile, StoreError> {
        let bytes = self.writer.into_inner().map_err(|source| StoreError::parquet(&self.table, "(new)", source))?;
        let rows = self.stats.rows();
        Ok(EncodedFile { bytes: bytes.into(), rows, columns: self.stats.finish() })
    }
}

fn properties(schema: &Schema, sort_by: &[impl AsRef<str>], effort: Effort) -> WriterProperties {
    let level = match effort {
        Effort::Open => 1,
        Effort::Closed => 9,
    };
    let compression = Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default());
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(CREATED_BY.to_owned())
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(WRITE_ROWS)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_sorting_columns(sorting_columns(schema, sort_by));
    for field in schema.fields() {
        let layout = layout(field.name(), field.data_type());
        let path = match field.data_type() {
            DataType::List(_) => ColumnPath::new(vec![field.name().clone(), "list".to_owned(), "element".to_owned()]),
            _ => ColumnPath::from(field.name().as_str()),
        };
        builder = builder.set_column_dictionary_enabled(path.clone(), layout.dictionary);
        if let Some(encoding) = layout.encoding {
            builder = builder.set_column_encoding(path, encoding);
        }
    }
    builder.build()
}

/// How one column is encoded.
struct Layout {
    dictionary: bool,
    /// Without a dictionary, or once it is full.
    encoding: Option<Encoding>,
}

fn layout(name: &str, kind: &DataType) -> Layout {
    let with = |dictionary, encoding| Layout { dictionary, encoding: Some(encoding) };
    match kind {
        // Few values, in long runs.
        DataType::Int32 => with(true, Encoding::DELTA_BINARY_PACKED),
        DataType::Int64 if name == "commit_seq" => with(true, Encoding::DELTA_BINARY_PACKED),
        DataType::Timestamp(..) if name == "received_at" => with(true, Encoding::DELTA_BINARY_PACKED),
        DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) => with(false, Encoding::DELTA_BINARY_PACKED),
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            let encoding = if is_slow(name) { Encoding::DELTA_BINARY_PACKED } else { Encoding::BYTE_STREAM_SPLIT };
            with(false, encoding)
        }
        DataType::Float64 => with(false, Encoding::BYTE_STREAM_SPLIT),
        DataType::Utf8 => with(true, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        DataType::Binary => with(false, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        _ => Layout { dictionary: true, encoding: None },
    }
}

/// Registers and what changes little from reading to reading; use, current, power and flow are noise.
fn is_slow(name: &str) -> bool {
    if name.contains("_delta_") {
        return false;
    }
    ["_kwh", "_kvarh", "_m3", "_v", "_hz", "_c", "_kpa"].iter().any(|unit| name.ends_with(unit))
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
        let mut writer = FileWriter::new("t", &batch.schema(), &ORDER, Effort::Open)?;
        writer.write(batch)?;
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
        assert_eq!(encode(&batch(5000)).unwrap().bytes, encode(&batch(5000)).unwrap().bytes);
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
