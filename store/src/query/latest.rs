//! The last reading of each meter, without a scan of all that was ever read.
//!
//! Files are taken by their newest time, newest first. What a file can add is told before its rows are read: its
//! dictionary names its meters, and a meter is settled once a later time of it is known than the file holds. So the newest
//! files are read and of the others a page each, save for meters that fell silent, whose pages alone are read. What was
//! found stays in memory; after a commit only its files are looked at.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::merge::{KEY, Keep, Resolver};
use super::provider::{COMMIT_SEQ, reading_schema};
use crate::error::StoreError;
use crate::read::{dictionary, rows_of};
use crate::table::{DataFile, TableSnapshot};

/// Last readings that stay in memory, of all tables together, in bytes. What does not fit is found again each time.
const MEMORY: usize = 256 << 20;
/// Of the meters of a file no more than one in so many are looked up by page; else the file is read whole.
const LOOK_UP_SHARE: usize = 4;

static FOUND: LazyLock<Mutex<HashMap<Key, Found>>> = LazyLock::new(Mutex::default);

/// Of which table, and which of its columns.
type Key = (PathBuf, Vec<String>);

/// What the files of a table gave.
#[derive(Debug, Clone)]
struct Found {
    /// Hashes of the files' names; a name never comes again with other rows.
    files: BTreeSet<u64>,
    newest: Newest,
}

/// The rows of each meter's newest time, and that time.
#[derive(Debug, Clone, Default)]
struct Newest {
    times: HashMap<Arc<str>, i64>,
    rows: Vec<RecordBatch>,
}

/// The table of last readings: over one snapshot and the hot rows behind it.
#[derive(Debug)]
pub(super) struct LatestTable {
    pub(super) snapshot: TableSnapshot,
    pub(super) path: PathBuf,
    /// Of the table, not of the lake.
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) hot: Option<RecordBatch>,
    schema: SchemaRef,
}

impl LatestTable {
    pub(super) fn new(
        snapshot: TableSnapshot,
        path: PathBuf,
        store: Arc<dyn ObjectStore>,
        hot: Option<RecordBatch>,
    ) -> Self {
        let schema = reading_schema(&snapshot.schema);
        Self { snapshot, path, store, hot, schema }
    }

    /// One row a meter, in their order. `only`: of these meters and perhaps of others.
    async fn rows(&self, columns: &[&str], only: Option<&BTreeSet<String>>) -> DfResult<RecordBatch> {
        let mut newest = match only {
            Some(only) => self.look(Newest::default(), &self.snapshot.files, columns, Some(only)).await,
            None => self.remembered(columns).await,
        }
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
        let fields = columns.iter().filter_map(|name| self.schema.field_with_name(name).ok().cloned());
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        if let Some(hot) = &self.hot {
            let indexes = columns.iter().map(|name| hot.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
            newest.add(&hot.project(&indexes)?)?;
        }
        Ok(newest.resolved(&schema)?)
    }

    /// What the files give, from memory as far as it goes.
    async fn remembered(&self, columns: &[&str]) -> Result<Newest, StoreError> {
        let key = (self.path.clone(), columns.iter().map(|c| (*c).to_owned()).collect());
        let files: BTreeSet<u64> = self.snapshot.files.iter().map(name_hash).collect();
        let before = FOUND.lock().ok().and_then(|found| found.get(&key).cloned());
        // A file that is gone may have taken rows with it: after a compaction, an erasure or a retention all is found anew.
        let before = before.filter(|found| found.files.is_subset(&files));
        if let Some(found) = before.as_ref().filter(|found| found.files == files) {
            return Ok(found.newest.clone());
        }
        let (newest, known) = before.map_or_else(Default::default, |found| (found.newest, found.files));
        let new: Vec<DataFile> =
            self.snapshot.files.iter().filter(|file| !known.contains(&name_hash(file))).cloned().collect();
        let mut newest = self.look(newest, &new, columns, None).await?;
        newest.forget_superseded().map_err(|source| StoreError::arrow(&self.snapshot.name, source))?;
        if let Ok(mut all) = FOUND.lock() {
            all.remove(&key);
            let held: usize = all.values().map(|found| found.newest.bytes()).sum();
            if held + newest.bytes() > MEMORY {
                all.clear();
            }
            if newest.bytes() <= MEMORY {
                all.insert(key, Found { files, newest: newest.clone() });
            }
        }
        Ok(newest)
    }

    async fn look(
        &self,
        mut newest: Newest,
        files: &[DataFile],
        columns: &[&str],
        only: Option<&BTreeSet<String>>,
    ) -> Result<Newest, StoreError> {
        let mut files: Vec<(i64, &DataFile)> = files.iter().map(|file| (newest_time(file), file)).collect();
        files.sort_by(|a, b| (b.0, &b.1.path).cmp(&(a.0, &a.1.path)));
        let in_file: Vec<&str> =
            columns.iter().copied().filter(|c| !self.snapshot.partition_by.iter().any(|p| p == c)).collect();
        for (until, file) in files {
            let open = |meter: &str| newest.times.get(meter).is_none_or(|known| *known <= until);
            let meters = match only {
                Some(only) => Some(only.iter().filter(|m| may_hold(file, m)).cloned().collect()),
                None if newest.times.is_empty() => None,
                None => dictionary::texts(&self.store, &self.snapshot, file, KEY[0]).await?,
            };
            let wanted: Option<BTreeSet<&str>> = meters
                .as_ref()
                .map(|all: &BTreeSet<String>| all.iter().map(String::as_str).filter(|m| open(m)).collect());
            let all = meters.as_ref().map_or(usize::MAX, BTreeSet::len);
            let by_page = match &wanted {
                Some(wanted) if wanted.is_empty() => continue,
                Some(wanted) if only.is_some() || wanted.len() * LOOK_UP_SHARE <= all => Some((KEY[0], wanted)),
                _ => None,
            };
            let mut rows = rows_of(&self.store, &self.snapshot, file, by_page, &in_file).await?;
            let wrap = |source| StoreError::parquet(&self.snapshot.name, &file.path, source);
            while let Some(batch) = rows.try_next().await.map_err(wrap)? {
                let added = self.with_partition(&batch, file, columns).and_then(|batch| newest.add(&batch));
                added.map_err(|source| StoreError::arrow(&self.snapshot.name, source))?;
            }
        }
        Ok(newest)
    }

    /// The columns asked for, those among them that are in the path.
    fn with_partition(
        &self,
        batch: &RecordBatch,
        file: &DataFile,
        columns: &[&str],
    ) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let columns = columns.iter().map(|name| {
            let field = self.schema.field_with_name(name)?.clone();
            let column: ArrayRef = match batch.column_by_name(name) {
                Some(column) => column.clone(),
                None => {
                    let value = ScalarValue::from(file.partition_value(name));
                    value.to_array_of_size(rows).map_err(|e| ArrowError::ExternalError(Box::new(e)))?
                }
            };
            Ok((field, column))
        });
        let (fields, columns): (Vec<_>, Vec<_>) = columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}

impl Newest {
    /// Takes rows of one file, in its order.
    fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (meters, times) = keys(batch)?;
        let rows = batch.num_rows();
        let mut keep = vec![false; rows];
        let mut end = rows;
        while end > 0 {
            // The rows of one meter, its newest last.
            let (meter, time) = (meters.value(end - 1), times[end - 1]);
            let start = (0..end).rev().take_while(|row| meters.value(*row) == meter).last().unwrap_or(end - 1);
            let known = self.times.get(meter).copied();
            if known.is_none_or(|known| known <= time) {
                let same = (start..end).rev().take_while(|row| times[*row] == time);
                same.for_each(|row| keep[row] = true);
                if known != Some(time) {
                    self.times.insert(Arc::from(meter), time);
                }
            }
            end = start;
        }
        if keep.contains(&true) {
            self.rows.push(filter_record_batch(batch, &BooleanArray::from(keep))?);
        }
        Ok(())
    }

    /// Lets go of rows of which newer ones came, and of the memory of what they were cut from.
    fn forget_superseded(&mut self) -> Result<(), ArrowError> {
        let mut kept = Vec::with_capacity(self.rows.len());
        for batch in &self.rows {
            let (meters, times) = keys(batch)?;
            let is_newest = |row: usize| Some(self.times.get(meters.value(row)) == Some(&times[row]));
            let filtered = filter_record_batch(batch, &(0..batch.num_rows()).map(is_newest).collect::<BooleanArray>())?;
            if filtered.num_rows() > 0 {
                kept.push(filtered);
            }
        }
        self.rows = match kept.first() {
            Some(first) => vec![concat_batches(&first.schema(), &kept)?],
            None => Vec::new(),
        };
        Ok(())
    }

    /// One row a meter.
    fn resolved(mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        self.forget_superseded()?;
        let rows = concat_batches(schema, &self.rows)?;
        let order = [KEY[0], KEY[1], KEY[2], COMMIT_SEQ];
        let order = order.iter().filter_map(|name| rows.column_by_name(name));
        let order: Vec<_> = order.map(|column| SortColumn { values: column.clone(), options: None }).collect();
        let sorted = take_record_batch(&rows, &lexsort_to_indices(&order, None)?)?;
        let mut resolver = Resolver::new(schema.clone(), Keep::Latest)?;
        let mut done: Vec<RecordBatch> = resolver.push(sorted)?.into_iter().collect();
        done.extend(resolver.finish()?);
        concat_batches(schema, &done)
    }

    fn bytes(&self) -> usize {
        let names: usize = self.times.keys().map(|meter| meter.len() + 64).sum();
        names + self.rows.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
    }
}

fn keys(batch: &RecordBatch) -> Result<(&StringArray, &[i64]), ArrowError> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))
    };
    let times = column(KEY[1])?.as_primitive::<TimestampMicrosecondType>();
    Ok((column(KEY[0])?.as_string::<i32>(), times.values()))
}

fn name_hash(file: &DataFile) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&file.path, file.size, file.rows).hash(&mut hasher);
    hasher.finish()
}

/// The newest time in a file; the end of time when the log does not tell.
fn newest_time(file: &DataFile) -> i64 {
    match file.max(KEY[1]) {
        Some(ScalarValue::TimestampMicrosecond(Some(micros), _)) => *micros,
        _ => i64::MAX,
    }
}

fn may_hold(file: &DataFile, meter: &str) -> bool {
    let text = |bound: Option<&ScalarValue>| match bound {
        Some(ScalarValue::Utf8(bound)) => bound.clone(),
        _ => None,
    };
    text(file.min(KEY[0])).is_none_or(|low| low.as_str() <= meter)
        && text(file.max(KEY[0])).is_none_or(|high| meter <= high.as_str())
}

/// The meters that a filter names, when it names some: `meter_id = 'a'` or `meter_id IN ('a', 'b')`.
pub(super) fn named_meters(filters: &[Expr]) -> Option<BTreeSet<String>> {
    let is_meter = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == KEY[0]);
    let text = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    filters.iter().find_map(|filter| match filter {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let (one, other) = (binary.left.as_ref(), binary.right.as_ref());
            let value = if is_meter(one) { other } else { one };
            if is_meter(one) || is_meter(other) { Some(BTreeSet::from([text(value)?])) } else { None }
        }
        Expr::InList(list) if !list.negated && is_meter(&list.expr) => list.list.iter().map(text).collect(),
        _ => None,
    })
}

#[async_trait]
impl TableProvider for LatestTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let wanted = |at: usize, name: &str| {
            projection.is_none_or(|columns| columns.contains(&at)) || KEY.contains(&name) || name == COMMIT_SEQ
        };
        let names = self.schema.fields().iter().enumerate();
        let names: Vec<&str> =
            names.map(|(at, f)| (at, f.name().as_str())).filter(|c| wanted(c.0, c.1)).map(|c| c.1).collect();
        let rows = self.rows(&names, named_meters(filters).as_ref()).await?;
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let indexes =
            schema.fields().iter().map(|f| rows.schema().index_of(f.name())).collect::<Result<Vec<_>, _>>()?;
        let rows = rows.project(&indexes)?.with_schema(schema.clone())?;
        Ok(DataSourceExec::from_data_source(MemorySourceConfig::try_new(&[vec![rows]], schema, None)?))
    }
}
