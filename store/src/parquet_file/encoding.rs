//! How each column is encoded: by its type and name in files that will soon be merged, by trial in files that stay.
//!
//! Which encoding is smallest depends on the meters: a voltage that wanders wants differences, one that jumps a
//! dictionary; values that are all multiples of ten want a dictionary, noise without steps its bytes apart. So the first
//! rows of a file that stays are encoded in every way that its readers know, and the smallest is taken
//! (`docs/decisions/0011`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::Result;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::{Effort, compression, pages};

/// A dictionary found in the first rows serves those that follow, too: this part of it is charged to the first.
const DICTIONARY_SHARE: u64 = 4;

/// How one column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dictionary: bool,
    /// Without a dictionary, or once it is full.
    pub(super) encoding: Option<Encoding>,
}

impl Layout {
    const fn plain(encoding: Encoding) -> Self {
        Self { dictionary: false, encoding: Some(encoding) }
    }

    const fn dictionary(then: Encoding) -> Self {
        Self { dictionary: true, encoding: Some(then) }
    }

    /// The builder with this layout for one column.
    pub(super) fn set(self, builder: WriterPropertiesBuilder, field: &Field) -> WriterPropertiesBuilder {
        let path = match field.data_type() {
            DataType::List(_) => ColumnPath::new(vec![field.name().clone(), "list".to_owned(), "element".to_owned()]),
            _ => ColumnPath::from(field.name().as_str()),
        };
        let builder = builder.set_column_dictionary_enabled(path.clone(), self.dictionary);
        match self.encoding {
            Some(encoding) => builder.set_column_encoding(path, encoding),
            None => builder,
        }
    }
}

/// The layout of a column of which nothing is known but its type and name.
pub(super) fn usual(field: &Field) -> Layout {
    match field.data_type() {
        // Few values, in long runs.
        DataType::Int32 => Layout::dictionary(Encoding::DELTA_BINARY_PACKED),
        DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) => Layout::plain(Encoding::DELTA_BINARY_PACKED),
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            let slow = is_slow(field.name());
            Layout::plain(if slow { Encoding::DELTA_BINARY_PACKED } else { Encoding::BYTE_STREAM_SPLIT })
        }
        DataType::Float64 => Layout::plain(Encoding::BYTE_STREAM_SPLIT),
        DataType::Utf8 => Layout::dictionary(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        DataType::Binary => Layout::plain(Encoding::DELTA_LENGTH_BYTE_ARRAY),
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

/// All layouts worth a trial; the usual one is first and wins where others are no smaller.
fn candidates(field: &Field) -> Vec<Layout> {
    let usual = usual(field);
    let (delta, split) = (Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT);
    let others: &[Layout] = match field.data_type() {
        DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) => {
            &[Layout::plain(delta), Layout::plain(split), Layout::dictionary(delta)]
        }
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            &[Layout::plain(delta), Layout::plain(split), Layout::dictionary(delta)]
        }
        DataType::Float64 => &[Layout::dictionary(split)],
        _ => &[],
    };
    [usual].into_iter().chain(others.iter().copied().filter(|l| *l != usual)).collect()
}

/// The layout of each column that makes these rows smallest. `whole`: no further rows follow in the file.
pub(super) fn tried(rows: &RecordBatch, whole: bool) -> Result<Vec<Layout>> {
    let fields = rows.schema_ref().fields().iter().zip(rows.columns());
    fields.map(|(field, column)| smallest(field, column, whole)).collect()
}

fn smallest(field: &Arc<Field>, column: &ArrayRef, whole: bool) -> Result<Layout> {
    let candidates = candidates(field);
    let usual = usual(field);
    if candidates.len() < 2 || column.null_count() == column.len() {
        return Ok(usual);
    }
    let mut best: Option<(u64, Layout)> = None;
    for layout in candidates {
        let size = size(field, column, layout, whole)?;
        if best.is_none_or(|(least, _)| size < least) {
            best = Some((size, layout));
        }
    }
    Ok(best.map_or(usual, |(_, layout)| layout))
}

/// Bytes of the column when it is encoded so.
fn size(field: &Arc<Field>, column: &ArrayRef, layout: Layout, whole: bool) -> Result<u64> {
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let builder = pages(WriterProperties::builder(), Effort::Closed).set_compression(compression(Effort::Closed));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(layout.set(builder, field).build()))?;
    writer.write(&RecordBatch::try_new(schema, vec![column.clone()])?)?;
    let metadata = writer.close()?;
    let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    let of_chunk = |chunk: &parquet::file::metadata::ColumnChunkMetaData| {
        let all = chunk.compressed_size();
        let dictionary = chunk.dictionary_page_offset().map_or(0, |at| chunk.data_page_offset() - at);
        let (all, dictionary) = (all.unsigned_abs(), dictionary.unsigned_abs());
        if whole { all } else { all.saturating_sub(dictionary) + dictionary / DICTIONARY_SHARE }
    };
    Ok(chunks.map(of_chunk).sum())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, TimestampMicrosecondArray};

    use super::*;
    use crate::schema::instant;

    const ROWS: usize = 20_000;

    /// Noise that is the same on every machine.
    fn noise(n: usize) -> i128 {
        let mut x = (n as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i128::from(x ^ (x >> 31))
    }

    fn decimals(precision: u8, scale: i8, value: impl Fn(usize) -> i128) -> (Arc<Field>, ArrayRef) {
        let array: Decimal128Array = (0..ROWS).map(|n| Some(value(n))).collect();
        let array = array.with_precision_and_scale(precision, scale).unwrap();
        (Arc::new(Field::new("x_kwh", array.data_type().clone(), true)), Arc::new(array))
    }

    #[test]
    fn the_smallest_encoding_of_the_rows_at_hand_is_taken() {
        let split = Layout::plain(Encoding::BYTE_STREAM_SPLIT);
        let delta = Layout::plain(Encoding::DELTA_BINARY_PACKED);
        let dictionary = Layout::dictionary(Encoding::DELTA_BINARY_PACKED);
        let times = TimestampMicrosecondArray::from_iter_values((0..20_000_i64).map(|n| n * 900_000_000));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let cases = [
            ("a register that rises steadily", decimals(15, 3, |n| 70 * n as i128 + noise(n) % 16), delta),
            ("noise of a byte and a bit", decimals(9, 3, |n| noise(n) % 700), split),
            ("few values, far apart", decimals(9, 3, |n| (noise(n) % 50) * 13_337), dictionary),
            ("times", (Arc::new(Field::new("ts", instant(), false)), times), delta),
        ];
        for (name, (field, column), expected) in cases {
            assert_eq!(smallest(&field, &column, true).unwrap(), expected, "{name}");
            let least = size(&field, &column, expected, true).unwrap();
            for other in candidates(&field) {
                assert!(least <= size(&field, &column, other, true).unwrap(), "{name}: {other:?}");
            }
        }
    }

    #[test]
    fn what_has_no_values_keeps_the_usual_layout() {
        let (field, _) = decimals(9, 3, |_| 0);
        let nothing = arrow::array::new_null_array(field.data_type(), 100);
        assert_eq!(smallest(&field, &nothing, true).unwrap(), usual(&field));
    }

    #[test]
    fn a_dictionary_of_the_first_rows_is_charged_in_part_when_more_follow() {
        let (field, column) = decimals(9, 3, |n| (noise(n) % 3000) * 10);
        let layout = Layout::dictionary(Encoding::DELTA_BINARY_PACKED);
        let (whole, first) =
            (size(&field, &column, layout, true).unwrap(), size(&field, &column, layout, false).unwrap());
        assert!(first < whole, "{first} {whole}");
    }
}
