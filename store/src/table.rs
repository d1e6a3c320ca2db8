//! The words for tables: what a table should be ([`TableSpec`]) and what it is at one version ([`TableSnapshot`]).
//!
//! Plain values without I/O. A snapshot is complete in itself: a scan over its files needs no Delta log any more.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;

/// The application transaction that carries the journal position in every table that `collect` writes.
pub const JOURNAL_APP: &str = "meterlake/journal";

/// The table property that names the columns by which every file is sorted, separated by commas.
pub const SORT_BY_PROPERTY: &str = "meterlake.sortBy";

/// What a table should be. Partition columns are part of `schema`, at its end, and of type Utf8 or Int32.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name, which is also its directory below the lake's root.
    pub name: &'static str,
    /// All columns, partition columns last.
    pub schema: SchemaRef,
    /// Columns whose values are in the path instead of the file.
    pub partition_by: &'static [&'static str],
    /// Rows of every file are in rising order of these columns, nulls first.
    pub sort_by: &'static [&'static str],
}

/// What a file says about one column. A bound that is absent is unknown; one that is present is exact.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnRange {
    /// The smallest value.
    pub min: Option<ScalarValue>,
    /// The largest value.
    pub max: Option<ScalarValue>,
    /// Number of nulls.
    pub nulls: Option<u64>,
}

/// One live file of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Relative to the table's root, decoded, such as `month=2026-11/part-….parquet`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Values of the partition columns in the order of [`TableSpec::partition_by`].
    pub partition: Vec<(String, Option<String>)>,
    /// Statistics by column, of the columns that are in the file.
    pub columns: BTreeMap<String, ColumnRange>,
}

impl DataFile {
    /// The smallest value of a column, if the log tells.
    pub fn min(&self, column: &str) -> Option<&ScalarValue> {
        self.columns.get(column)?.min.as_ref()
    }

    /// The largest value of a column, if the log tells.
    pub fn max(&self, column: &str) -> Option<&ScalarValue> {
        self.columns.get(column)?.max.as_ref()
    }

    /// The value of a partition column; `None` when it is null or there is no such column.
    pub fn partition_value(&self, column: &str) -> Option<&str> {
        self.partition.iter().find(|(name, _)| name == column)?.1.as_deref()
    }
}

/// A table at one version of its log.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Its name.
    pub name: String,
    /// All columns, partition columns last.
    pub schema: SchemaRef,
    /// Columns whose values are in the path instead of the file.
    pub partition_by: Vec<String>,
    /// Columns by which the rows of every file are sorted; empty when the table does not say.
    pub sort_by: Vec<String>,
    /// Version of the Delta log.
    pub version: i64,
    /// Live files in the order of their paths.
    pub files: Vec<DataFile>,
    /// Last version by application: [`JOURNAL_APP`] and `maintenance/<table>`.
    pub transactions: HashMap<String, i64>,
}

impl TableSnapshot {
    /// The last journal position whose rows the table holds; 0 before the first.
    pub fn journal_position(&self) -> u64 {
        self.transactions.get(JOURNAL_APP).and_then(|v| u64::try_from(*v).ok()).unwrap_or(0)
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }
}

/// The name of the application transaction that serialises whoever rewrites a table.
pub fn maintenance_app(table: &str) -> String {
    format!("maintenance/{table}")
}
