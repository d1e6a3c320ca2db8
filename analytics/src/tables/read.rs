//! Columns as rows: typed access to the batches of a query by column name, with errors that name the column.

use arrow::array::{
    Array, AsArray, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use meterlake_model::{Amount, CivilDay, Timestamp};

type Result<T> = std::result::Result<T, DataFusionError>;

/// The columns of one batch.
pub(crate) struct Rows<'a>(pub(crate) &'a RecordBatch);

impl<'a> Rows<'a> {
    fn column(&self, name: &str) -> Result<&'a dyn Array> {
        let column = self.0.column_by_name(name);
        column.map(AsRef::as_ref).ok_or_else(|| other(format!("the query gives no column {name}")))
    }

    /// Texts of any Arrow kind.
    pub(crate) fn text(&self, name: &str) -> Result<Texts<'a>> {
        let column = self.column(name)?;
        match column.data_type() {
            DataType::Utf8 => Ok(Texts::Small(column.as_string::<i32>())),
            DataType::LargeUtf8 => Ok(Texts::Large(column.as_string::<i64>())),
            DataType::Utf8View => Ok(Texts::View(column.as_string_view())),
            found => Err(unexpected(name, found, "text")),
        }
    }

    pub(crate) fn time(&self, name: &str) -> Result<&'a TimestampMicrosecondArray> {
        let column = self.column(name)?;
        column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| unexpected(name, column.data_type(), "timestamp"))
    }

    pub(crate) fn amount(&self, name: &str) -> Result<&'a Decimal128Array> {
        let column = self.column(name)?;
        column.as_primitive_opt::<Decimal128Type>().ok_or_else(|| unexpected(name, column.data_type(), "decimal"))
    }

    pub(crate) fn int(&self, name: &str) -> Result<&'a Int32Array> {
        let column = self.column(name)?;
        column.as_primitive_opt::<Int32Type>().ok_or_else(|| unexpected(name, column.data_type(), "integer"))
    }

    pub(crate) fn long(&self, name: &str) -> Result<&'a Int64Array> {
        let column = self.column(name)?;
        column.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(name, column.data_type(), "integer"))
    }

    pub(crate) fn day(&self, name: &str) -> Result<&'a Date32Array> {
        let column = self.column(name)?;
        column.as_primitive_opt::<Date32Type>().ok_or_else(|| unexpected(name, column.data_type(), "date"))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<&'a BooleanArray> {
        let column = self.column(name)?;
        column.as_boolean_opt().ok_or_else(|| unexpected(name, column.data_type(), "boolean"))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.num_rows()
    }
}

/// A column of texts.
#[derive(Clone, Copy)]
pub(crate) enum Texts<'a> {
    Small(&'a arrow::array::StringArray),
    Large(&'a arrow::array::LargeStringArray),
    View(&'a arrow::array::StringViewArray),
}

impl<'a> Texts<'a> {
    /// Empty for null.
    pub(crate) fn at(self, row: usize) -> &'a str {
        self.get(row).unwrap_or("")
    }

    pub(crate) fn get(self, row: usize) -> Option<&'a str> {
        match self {
            Self::Small(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Large(array) => array.is_valid(row).then(|| array.value(row)),
            Self::View(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// The instant in a row; required columns have one in each.
pub(crate) fn instant_at(column: &TimestampMicrosecondArray, row: usize) -> Result<Timestamp> {
    Timestamp::from_micros(column.value(row)).map_err(|e| other(e.to_string()))
}

pub(crate) fn maybe_instant_at(column: &TimestampMicrosecondArray, row: usize) -> Result<Option<Timestamp>> {
    if column.is_null(row) { Ok(None) } else { instant_at(column, row).map(Some) }
}

/// The day in a row; required columns have one in each.
pub(crate) fn day_at(column: &Date32Array, row: usize) -> Result<CivilDay> {
    let epoch = CivilDay::new(1970, 1, 1).map_err(|e| other(e.to_string()))?;
    Ok(epoch.plus_days(column.value(row)))
}

pub(crate) fn maybe_day_at(column: &Date32Array, row: usize) -> Result<Option<CivilDay>> {
    if column.is_null(row) { Ok(None) } else { day_at(column, row).map(Some) }
}

/// The amount in a row, of a column of scale 6.
pub(crate) fn amount_at(column: &Decimal128Array, row: usize) -> Result<Option<Amount>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let value = i64::try_from(column.value(row)).ok().and_then(Amount::from_micros);
    value.map(Some).ok_or_else(|| other("an amount has more than 18 digits".to_owned()))
}

/// A value of another scale as an integer of that scale.
pub(crate) fn scaled_at(column: &Decimal128Array, row: usize) -> Result<Option<i64>> {
    if column.is_null(row) {
        return Ok(None);
    }
    i64::try_from(column.value(row)).map(Some).map_err(|_| other("a value has more than 18 digits".to_owned()))
}

/// An error about what a table holds.
pub(crate) fn other(text: String) -> DataFusionError {
    DataFusionError::External(text.into())
}

fn unexpected(name: &str, found: &DataType, wanted: &str) -> DataFusionError {
    other(format!("column {name} is {found}, not {wanted}"))
}
