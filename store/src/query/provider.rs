//! A table as DataFusion sees it: a pinned list of sorted files, and the hot rows beside them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::path::Path;

use super::files::{PinnedFiles, Selected};
use crate::read::conform;
use crate::table::TableSnapshot;

/// The column that tells which commit brought a row. Null in hot rows: no commit has yet.
pub(super) const COMMIT_SEQ: &str = "commit_seq";

/// One table at one version of its log, with the rows of the journal behind it.
#[derive(Debug)]
pub(super) struct LakeTable {
    schema: SchemaRef,
    files: PinnedFiles,
    sort_by: Vec<String>,
    store: ObjectStoreUrl,
    /// Sorted like every file.
    hot: Vec<RecordBatch>,
}

impl LakeTable {
    /// A table over the snapshot's files, which lie below `base` of `store`, and hot rows in the order of the table.
    ///
    /// # Errors
    /// When the table's partition columns are not its last.
    pub(super) fn new(
        snapshot: &TableSnapshot,
        store: ObjectStoreUrl,
        base: &Path,
        hot: Option<RecordBatch>,
    ) -> Result<Self> {
        let schema = reading_schema(&snapshot.schema);
        let files = PinnedFiles::new(snapshot, schema.clone(), base)?;
        // By name: the table may have columns that this program does not know, or lack some that it does.
        let hot = hot.into_iter().filter(|batch| batch.num_rows() > 0).map(|batch| conform(&batch, &schema));
        let hot = hot.collect::<Result<_, _>>()?;
        Ok(Self { schema, files, sort_by: snapshot.sort_by.clone(), store, hot })
    }

    fn ordering(&self) -> Option<LexOrdering> {
        let columns = self.sort_by.iter().map(|name| {
            let index = self.schema.index_of(name).ok()?;
            Some(PhysicalSortExpr::new_default(Arc::new(Column::new(name, index))))
        });
        LexOrdering::new(columns.collect::<Option<Vec<_>>>()?)
    }

    /// The files that may hold rows for which the predicate is true, and the hot rows.
    pub(super) fn scan_by(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let selected = self.files.select(predicate)?;
        // With a filter behind it a scan must not stop early.
        let limit = limit.filter(|_| predicate.is_none());
        let mut parts = Vec::new();
        if !selected.is_empty() {
            parts.push(self.scan_files(state, &selected, projection, limit)?);
        }
        if !self.hot.is_empty() {
            parts.push(self.scan_hot(projection)?);
        }
        match parts.len() {
            0 => {
                let schema = match projection {
                    Some(columns) => Arc::new(self.schema.project(columns)?),
                    None => self.schema.clone(),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        selected: &Selected<'_>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let parquet =
            TableParquetOptions { global: state.config().options().execution.parquet.clone(), ..Default::default() };
        let runtime = state.runtime_env();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&self.store)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let table_schema = TableSchema::builder(self.files.file_schema.clone())
            .with_table_partition_cols(self.files.partition_fields.clone())
            .build();
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(parquet)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(selected.groups()?)
            .with_statistics(selected.statistics()?)
            .with_output_ordering(self.ordering().into_iter().collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn scan_hot(&self, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let source =
            MemorySourceConfig::try_new(std::slice::from_ref(&self.hot), self.schema.clone(), projection.cloned())?;
        let source = source.try_with_sort_information(self.ordering().into_iter().collect())?;
        Ok(DataSourceExec::from_data_source(source))
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They choose files and pages; the rows are filtered again.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = conjunction(filters.iter().cloned());
        let predicate =
            predicate.map(|p| state.create_physical_expr(p, &DFSchema::try_from(self.schema.clone())?)).transpose()?;
        self.scan_by(state, projection, predicate.as_ref(), limit)
    }

    fn statistics(&self) -> Option<Statistics> {
        if self.hot.is_empty() { self.files.select(None).and_then(|all| all.statistics()).ok() } else { None }
    }
}

/// The schema of readers: hot rows have no commit yet.
pub(super) fn reading_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let lax = field.name() == COMMIT_SEQ;
        if lax { Arc::new(field.as_ref().clone().with_nullable(true)) } else { field.clone() }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
