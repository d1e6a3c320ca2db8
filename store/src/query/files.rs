//! A pinned list of files: what the log says of each, which of them a predicate can concern, and which may be read one
//! after the other without losing the order of rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics, plan_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use object_store::path::Path;

use crate::table::{DataFile, TableSnapshot};

/// The files of one table, as a scan needs them.
#[derive(Debug)]
pub(super) struct PinnedFiles {
    /// Columns that are in the files.
    pub(super) file_schema: SchemaRef,
    /// Columns that are in the paths, in the order of the table's schema.
    pub(super) partition_fields: Vec<FieldRef>,
    /// Columns of each file's order.
    sort_by: Vec<String>,
    schema: SchemaRef,
    files: Vec<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    file: PartitionedFile,
    /// Of all columns, partition columns last.
    statistics: Arc<Statistics>,
    /// First and last value of the sort columns, column by column; `None` when the log does not tell.
    range: Option<Range>,
}

type Range = (Vec<ScalarValue>, Vec<ScalarValue>);

impl PinnedFiles {
    /// The live files of a snapshot below `base`. `schema` is the table's, possibly with laxer nullability.
    pub(super) fn new(snapshot: &TableSnapshot, schema: SchemaRef, base: &Path) -> Result<Self> {
        let in_path = |field: &Field| snapshot.partition_by.contains(field.name());
        let (partition_fields, file_fields): (Vec<FieldRef>, Vec<FieldRef>) =
            schema.fields().iter().cloned().partition(|field| in_path(field));
        let last = schema.fields().iter().skip(file_fields.len());
        if !last.eq(partition_fields.iter()) || partition_fields.len() != snapshot.partition_by.len() {
            return plan_err!("table {} does not have its partition columns last", snapshot.name);
        }
        let file_schema = Arc::new(Schema::new(file_fields));
        let files = snapshot
            .files
            .iter()
            .map(|file| pin(file, &file_schema, &partition_fields, &snapshot.sort_by, base))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { file_schema, partition_fields, sort_by: snapshot.sort_by.clone(), schema, files })
    }

    /// The files that may hold rows for which `predicate` is true; all when there is none.
    pub(super) fn select(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Selected<'_>> {
        let mut keep = vec![true; self.files.len()];
        if let Some(predicate) = predicate {
            let pruning =
                PruningPredicateBuilder::new().with_file_schema(self.schema.clone()).try_build(predicate.clone())?;
            let statistics = self.files.iter().map(|f| f.statistics.clone()).collect();
            keep = pruning.prune(&PrunableStatistics::new(statistics, self.schema.clone()))?;
        }
        let files = self.files.iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect();
        Ok(Selected { all: self, files })
    }
}

/// Some of the files.
pub(super) struct Selected<'a> {
    all: &'a PinnedFiles,
    files: Vec<&'a Pinned>,
}

impl Selected<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Statistics of all of them together.
    pub(super) fn statistics(&self) -> Result<Statistics> {
        merged(self.files.iter().map(|f| &*f.statistics), &self.all.schema)
    }

    /// As few groups as keep the order: within a group each file ends before the next begins.
    pub(super) fn groups(&self) -> Result<Vec<FileGroup>> {
        if self.all.sort_by.is_empty() {
            // Without an order one group each lets the engine share them out as it likes.
            return self.files.iter().map(|f| self.group(&[*f])).collect();
        }
        let mut groups: Vec<Vec<&Pinned>> = Vec::new();
        let mut unknown = Vec::new();
        let mut known: Vec<(&Range, &Pinned)> = Vec::new();
        for file in &self.files {
            match &file.range {
                Some(range) => known.push((range, file)),
                None => unknown.push(vec![*file]),
            }
        }
        known.sort_by(|a, b| compare(&a.0.0, &b.0.0));
        let mut ends: Vec<&Vec<ScalarValue>> = Vec::new();
        for (range, file) in known {
            // The first group that ends before this file begins; the files come in order of their beginnings.
            match ends.iter().position(|end| compare(end, &range.0).is_lt()) {
                Some(at) => {
                    ends[at] = &range.1;
                    groups[at].push(file);
                }
                None => {
                    ends.push(&range.1);
                    groups.push(vec![file]);
                }
            }
        }
        groups.extend(unknown);
        groups.iter().map(|files| self.group(files)).collect()
    }

    fn group(&self, files: &[&Pinned]) -> Result<FileGroup> {
        let statistics = merged(files.iter().map(|f| &*f.statistics), &self.all.schema)?;
        let files = files.iter().map(|f| f.file.clone()).collect();
        Ok(FileGroup::new(files).with_statistics(Arc::new(statistics)))
    }
}

fn merged<'a>(parts: impl ExactSizeIterator<Item = &'a Statistics>, schema: &Schema) -> Result<Statistics> {
    if parts.len() == 0 {
        let mut none = Statistics::new_unknown(schema);
        none.num_rows = Precision::Exact(0);
        return Ok(none);
    }
    Statistics::try_merge_iter(parts, schema)
}

fn compare(a: &[ScalarValue], b: &[ScalarValue]) -> std::cmp::Ordering {
    a.iter()
        .zip(b)
        // What cannot be compared counts as overlapping.
        .map(|(a, b)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}

fn pin(
    file: &DataFile,
    file_schema: &Schema,
    partition_fields: &[FieldRef],
    sort_by: &[String],
    base: &Path,
) -> Result<Pinned> {
    let mut statistics = Statistics::new_unknown(file_schema);
    statistics.num_rows = Precision::Exact(usize::try_from(file.rows).unwrap_or(usize::MAX));
    statistics.total_byte_size = Precision::Absent;
    for (column, field) in statistics.column_statistics.iter_mut().zip(file_schema.fields()) {
        let Some(range) = file.columns.get(field.name()) else { continue };
        *column = ColumnStatistics {
            null_count: range.nulls.and_then(|n| usize::try_from(n).ok()).map_or(Precision::Absent, Precision::Exact),
            min_value: bound(range.min.as_ref(), field.data_type()),
            max_value: bound(range.max.as_ref(), field.data_type()),
            ..ColumnStatistics::new_unknown()
        };
    }
    let values = partition_fields
        .iter()
        .map(|field| partition_value(file.partition_value(field.name()), field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let mut pinned = PartitionedFile::new(String::new(), file.size);
    pinned.object_meta.location = Path::from(format!("{base}/{}", file.path));
    let pinned = pinned.with_partition_values(values).with_statistics(Arc::new(statistics.clone()));
    let statistics = pinned.statistics.clone().unwrap_or_else(|| Arc::new(statistics));
    let bounds = |of: fn(&DataFile, &str) -> Option<ScalarValue>| {
        sort_by.iter().map(|column| of(file, column)).collect::<Option<Vec<_>>>()
    };
    let range = bounds(|f, c| f.min(c).cloned()).zip(bounds(|f, c| f.max(c).cloned()));
    let has_nulls = |column: &String| file.columns.get(column).is_none_or(|c| c.nulls != Some(0));
    // Nulls come first, whatever the smallest value is.
    let range = range.filter(|_| !sort_by.iter().any(has_nulls));
    Ok(Pinned { file: pinned, statistics, range })
}

fn bound(value: Option<&ScalarValue>, data_type: &DataType) -> Precision<ScalarValue> {
    match value {
        Some(value) if value.data_type() == *data_type && !value.is_null() => Precision::Exact(value.clone()),
        _ => Precision::Absent,
    }
}

fn partition_value(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        Some(text) => ScalarValue::try_from_string(text.to_owned(), data_type),
        None => ScalarValue::try_from(data_type),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use datafusion::common::ToDFSchema;
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::prelude::{Expr, col, lit};

    use super::*;
    use crate::table::ColumnRange;

    fn snapshot(files: &[(&str, i64, i64, &str)]) -> TableSnapshot {
        let schema = Schema::new(vec![
            Field::new("meter_id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, false),
            Field::new("month", DataType::Utf8, false),
        ]);
        let range = |min: ScalarValue, max: ScalarValue| ColumnRange { min: Some(min), max: Some(max), nulls: Some(0) };
        let files = files.iter().map(|(meters, from, to, month)| {
            let (first, last) = meters.split_once('-').unwrap();
            DataFile {
                path: format!("month={month}/{meters}.parquet"),
                size: 10,
                rows: 5,
                partition: vec![("month".into(), Some((*month).to_owned()))],
                columns: BTreeMap::from([
                    ("meter_id".to_owned(), range(first.into(), last.into())),
                    ("n".to_owned(), range((*from).into(), (*to).into())),
                ]),
            }
        });
        TableSnapshot {
            name: "t".into(),
            schema: Arc::new(schema),
            partition_by: vec!["month".into()],
            sort_by: vec!["meter_id".into(), "n".into()],
            version: 1,
            files: files.collect(),
            transactions: HashMap::new(),
        }
    }

    fn pinned(files: &[(&str, i64, i64, &str)]) -> PinnedFiles {
        let snapshot = snapshot(files);
        PinnedFiles::new(&snapshot, snapshot.schema.clone(), &Path::from("lake/t")).unwrap()
    }

    fn names(groups: &[FileGroup]) -> Vec<Vec<String>> {
        let name = |f: &PartitionedFile| f.path().filename().unwrap().trim_end_matches(".parquet").to_owned();
        groups.iter().map(|g| g.iter().map(name).collect()).collect()
    }

    #[test]
    fn files_of_disjoint_meters_share_a_group_and_overlapping_ones_do_not() {
        let files =
            [("a-c", 0, 9, "1"), ("d-f", 0, 9, "1"), ("a-f", 10, 19, "2"), ("c-d", 0, 9, "3"), ("g-h", 0, 1, "2")];
        let groups = pinned(&files).select(None).unwrap().groups().unwrap();
        assert_eq!(names(&groups), [vec!["a-c", "d-f", "g-h"], vec!["a-f"], vec!["c-d"]]);
    }

    #[test]
    fn files_that_touch_are_kept_apart() {
        // The last row of the one may equal the first of the other in the sort columns, which is still in order, but
        // bounds by column say less than rows: be careful.
        let groups = pinned(&[("a-c", 5, 9, "1"), ("c-d", 0, 9, "2")]).select(None).unwrap().groups().unwrap();
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn a_predicate_keeps_the_files_that_it_may_concern() {
        let files = [("a-c", 0, 9, "1"), ("d-f", 0, 9, "1"), ("a-f", 10, 19, "2")];
        let pinned = pinned(&files);
        let check = |predicate: Expr, expected: &[&str]| {
            let schema = pinned.schema.clone().to_dfschema().unwrap();
            let predicate =
                create_physical_expr(&predicate, &schema, &Default::default(), &Default::default()).unwrap();
            let groups = pinned.select(Some(&predicate)).unwrap().groups().unwrap();
            let mut found = names(&groups).concat();
            found.sort();
            assert_eq!(found, expected);
        };
        check(col("meter_id").eq(lit("b")), &["a-c", "a-f"]);
        check(col("n").gt(lit(9_i64)), &["a-f"]);
        check(col("month").eq(lit("1")), &["a-c", "d-f"]);
        check(col("month").eq(lit("1")).and(col("meter_id").eq(lit("e"))), &["d-f"]);
        check(col("meter_id").eq(lit("z")), &[]);
    }

    #[test]
    fn statistics_of_many_files_add_up() {
        let statistics = pinned(&[("a-c", 0, 9, "1"), ("d-f", 3, 12, "2")]).select(None).unwrap().statistics().unwrap();
        assert_eq!(statistics.num_rows, Precision::Exact(10));
        assert_eq!(statistics.column_statistics[1].max_value, Precision::Exact(12_i64.into()));
        assert_eq!(statistics.column_statistics[2].min_value, Precision::Exact("1".into()));
    }
}
