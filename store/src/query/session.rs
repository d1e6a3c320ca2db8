//! A session over the lake as it is at one moment: tables, views, limits.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, RwLock};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::{CacheManagerConfig, FileMetadataCache};
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::context::{QueryPlanner, SessionContext};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, col, lit};
use meterlake_model::calendar::Calendars;
use object_store::ObjectStore;
use url::Url;

use super::as_of::{AsOf, Moment, RefusedTable};
use super::civil;
use super::error::QueryError;
use super::hot::HotTail;
use super::latest::LatestTable;
use super::prepared::Prepared;
use super::provider::{COMMIT_SEQ, LakeTable};
use super::resolve::ResolvePlanner;
use super::tariff;
use super::views::{self, Sources};
use crate::error::StoreError;
use crate::history::COMMITS;
use crate::journal::JournalReader;
use crate::lake::Lake;
use crate::log::REGISTRY_APP;
use crate::registry::{registry_tables, usage_points};
use crate::schema;
use crate::table::TableSnapshot;

/// The only store that a session knows: the lake's files, under a name that no user types.
const STORE: &str = "lake://files/";
/// Footers of Parquet files that stay in memory, in bytes.
const METADATA_BYTES: usize = 256 << 20;

/// Footers are the same in every session of a process.
static METADATA: LazyLock<Arc<FileMetadataCache>> = LazyLock::new(|| Arc::new(DefaultCache::new(METADATA_BYTES)));

/// What a session shows.
#[derive(Clone)]
pub struct ReadOptions {
    /// The journal's folder: rows that are durable and not committed yet are shown, too. `None`: committed rows only.
    pub journal: Option<PathBuf>,
    /// Only rows of commits up to this one. Hot rows are left out then. All other tables are as they are now.
    pub commit_seq: Option<i64>,
    /// Rows that are in no table, by table, each in its table's columns and order: what would be if they were. They are shown
    /// like hot rows, and by a pin on `commit_seq` according to the number that they bear.
    pub what_if: BTreeMap<String, RecordBatch>,
    /// Every table as it was at this moment, in the stead of `commit_seq`. Hot rows are left out then.
    pub as_of: Option<AsOf>,
    /// The most bytes that sorts, joins and aggregates may hold before they spill or fail.
    pub memory_bytes: usize,
    /// Streams that run at once; `None`: one for each core.
    pub target_partitions: Option<usize>,
    /// Whether Parquet filters rows while it decodes. Pays for one meter, costs for scans; off for what is billed.
    pub filter_pushdown: bool,
    /// Planners of plan nodes that others define.
    pub planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
    /// The calendars that `tou_bucket` knows.
    pub calendars: Arc<Calendars>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            journal: None,
            commit_seq: None,
            what_if: BTreeMap::new(),
            as_of: None,
            memory_bytes: 1 << 30,
            target_partitions: None,
            filter_pushdown: false,
            planners: Vec::new(),
            calendars: Arc::default(),
        }
    }
}

impl fmt::Debug for ReadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOptions")
            .field("journal", &self.journal)
            .field("commit_seq", &self.commit_seq)
            .field("what_if", &self.what_if.keys())
            .field("as_of", &self.as_of)
            .field("memory_bytes", &self.memory_bytes)
            .field("target_partitions", &self.target_partitions)
            .field("filter_pushdown", &self.filter_pushdown)
            .finish_non_exhaustive()
    }
}

/// A session and what it stands on.
#[derive(Clone)]
pub struct LakeSession {
    /// The session.
    pub context: SessionContext,
    /// The version of each table.
    pub versions: BTreeMap<String, i64>,
    /// The newest journal position whose rows are shown; `None` when hot rows are not.
    pub journal_position: Option<u64>,
    /// The moment that is shown, when one was asked for.
    pub moment: Option<Moment>,
}

impl Lake {
    /// A session with every table of the lake at its present version.
    ///
    /// # Errors
    /// When a log or the journal cannot be read, or too many hot rows wait.
    pub async fn session(&self, options: ReadOptions) -> Result<SessionContext, QueryError> {
        Ok(self.open_session(options).await?.context)
    }

    /// As [`Self::session`], with the versions that it stands on.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub async fn open_session(&self, options: ReadOptions) -> Result<LakeSession, QueryError> {
        // Tables first, the tail behind their positions after: the rows of a commit in between are still in the tail, so
        // they are shown, and once.
        let names = self.tables().await?;
        let mut snapshots = futures::future::try_join_all(names.iter().map(|name| self.snapshot(name))).await?;
        let moment = match options.as_of {
            Some(as_of) => Some(self.moment(as_of).await?),
            None => None,
        };
        let pin = moment.map(|m| m.commit_seq).or(options.commit_seq);
        let tail = match (&options.journal, pin) {
            (Some(dir), None) => read_tail(JournalReader::open(dir), &snapshots).await?,
            _ => None,
        };
        let context = new_context(Some(self.object_store()), &options)?;
        let mut versions = BTreeMap::new();
        let (mut tables, mut latest) = (HashMap::new(), HashMap::new());
        let marker = snapshots.iter().find(|s| s.name == usage_points().name);
        let revision = marker.and_then(|s| s.transactions.get(REGISTRY_APP).copied()).unwrap_or(0);
        for snapshot in &mut snapshots {
            let name = snapshot.name.clone();
            let shown = Shown::of(snapshot, pin, moment);
            if let (Shown::AsItWas, Some(moment)) = (&shown, moment) {
                match self.as_it_was(&name, moment).await? {
                    Ok(then) => *snapshot = then,
                    Err(reason) => {
                        let table = RefusedTable { schema: snapshot.schema.clone(), reason };
                        context.register_table(name.as_str(), Arc::new(table))?;
                        continue;
                    }
                }
            }
            let hot = match (options.what_if.get(&name), &tail) {
                (Some(rows), _) => Some(rows.clone()),
                (None, Some(tail)) => tail.rows(&name, snapshot.journal_position()).map_err(arrow_error)?,
                (None, None) => None,
            };
            if schema::commodity_of(&name).is_some() && matches!(shown, Shown::AsItIs) {
                let store = self.locked(&name).await?.store().clone();
                let found = LatestTable::new(snapshot.clone(), self.table_path(&name), store, hot.clone());
                latest.insert(name.clone(), found);
            }
            let store = ObjectStoreUrl::parse(STORE)?;
            let base = self.table_key(&name)?;
            let table = Arc::new(LakeTable::new(snapshot, store, &base, hot)?);
            let plan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(table.clone()), None)?;
            let plan = match &shown {
                Shown::UpTo(column, last) => {
                    let plan = plan.filter(col(*column).lt_eq(lit(*last)))?.build()?;
                    context.register_table(name.as_str(), Arc::new(ViewTable::new(plan.clone(), None)))?;
                    plan
                }
                Shown::AsItIs | Shown::AsItWas => {
                    context.register_table(name.as_str(), table)?;
                    plan.build()?
                }
            };
            tables.insert(name.clone(), plan);
            versions.insert(name, snapshot.version);
        }
        let revision = moment.and_then(|m| m.revision).unwrap_or(revision);
        views::register(&context, Sources { tables, latest, revision }).await?;
        Ok(LakeSession { context, versions, journal_position: tail.map(|t| t.synced), moment })
    }

    /// A table at a moment, or why it cannot be shown.
    async fn as_it_was(&self, table: &str, moment: Moment) -> Result<Result<TableSnapshot, String>, QueryError> {
        let Some(at) = moment.at else {
            let seq = moment.commit_seq;
            return Ok(Err(format!(
                "when commit {seq} was made is not told any more, so table {table} of then is unknown"
            )));
        };
        match self.snapshot_of(table, at).await {
            Ok(snapshot) => Ok(Ok(snapshot)),
            Err(StoreError::Refused { table, reason }) => Ok(Err(format!("table {table}: {reason}"))),
            Err(e) => Err(e.into()),
        }
    }
}

/// Which rows of a table a session shows.
#[derive(Debug)]
enum Shown {
    AsItIs,
    /// Those whose value of this column is at most so much.
    UpTo(&'static str, i64),
    /// Those of the version of a moment.
    AsItWas,
}

impl Shown {
    fn of(snapshot: &TableSnapshot, pin: Option<i64>, moment: Option<Moment>) -> Self {
        let name = snapshot.name.as_str();
        let has = |column: &str| snapshot.schema.index_of(column).is_ok();
        let Some(moment) = moment else {
            return match pin {
                Some(pin) if has(COMMIT_SEQ) => Self::UpTo(COMMIT_SEQ, pin),
                _ => Self::AsItIs,
            };
        };
        if schema::collected().iter().any(|spec| spec.name == name) {
            return Self::UpTo(COMMIT_SEQ, moment.commit_seq);
        }
        match moment.revision {
            _ if name == COMMITS => Self::AsItIs,
            Some(revision) if registry_tables().iter().any(|spec| spec.name == name) => {
                Self::UpTo("revision", revision)
            }
            _ => Self::AsItWas,
        }
    }
}

async fn read_tail(reader: JournalReader, snapshots: &[TableSnapshot]) -> Result<Option<HotTail>, QueryError> {
    let collected = schema::collected();
    let fed = snapshots.iter().filter(|s| collected.iter().any(|spec| spec.name == s.name));
    let Some(furthest) = fed.min_by_key(|s| s.journal_position()) else { return Ok(None) };
    let (position, table) = (furthest.journal_position(), furthest.name.clone());
    let read = tokio::task::spawn_blocking(move || HotTail::read(&reader, position, &table));
    let read = read.await.map_err(|e| QueryError::from(datafusion::error::DataFusionError::External(e.into())))?;
    read.map(Some)
}

fn arrow_error(error: arrow::error::ArrowError) -> QueryError {
    datafusion::error::DataFusionError::from(error).into()
}

/// A session without a lake, for rows that somebody gives: the functions and limits are the same, and no file can be named.
///
/// # Errors
/// When the session cannot be made.
pub fn session_without_lake(options: &ReadOptions) -> Result<SessionContext, QueryError> {
    new_context(None, options)
}

fn new_context(files: Option<Arc<dyn ObjectStore>>, options: &ReadOptions) -> Result<SessionContext, QueryError> {
    let top = std::num::NonZeroUsize::new(3).unwrap_or(std::num::NonZeroUsize::MIN);
    let pool: Arc<dyn MemoryPool> = Arc::new(TrackConsumersPool::new(FairSpillPool::new(options.memory_bytes), top));
    let stores = Arc::new(OneStore(RwLock::new(files)));
    let caches = CacheManagerConfig {
        file_metadata_cache: Some(METADATA.clone()),
        metadata_cache_limit: METADATA_BYTES,
        ..Default::default()
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_object_store_registry(stores)
        .with_cache_manager(caches)
        .build_arc()?;
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_parquet_pruning(true)
        .with_parquet_page_index_pruning(true)
        .with_extension(Arc::new(Prepared::default()));
    if let Some(partitions) = options.target_partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    let settings = config.options_mut();
    settings.execution.parquet.pushdown_filters = options.filter_pushdown;
    settings.execution.parquet.reorder_filters = options.filter_pushdown;
    // They have a history of wrong rows, and our scans are pruned without them.
    settings.optimizer.enable_dynamic_filter_pushdown = false;
    // The files are sorted so that plans need no sort; a repartition that loses the order costs more than it brings.
    settings.optimizer.prefer_existing_sort = true;
    let mut planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> = vec![Arc::new(ResolvePlanner)];
    planners.extend(options.planners.iter().cloned());
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_query_planner(Arc::new(LakePlanner(planners)))
        .build();
    let context = SessionContext::new_with_state(state);
    civil::functions().into_iter().for_each(|function| context.register_udf(function));
    tariff::functions(&options.calendars).into_iter().for_each(|function| context.register_udf(function));
    Ok(context)
}

/// Plans our own nodes besides DataFusion's.
struct LakePlanner(Vec<Arc<dyn ExtensionPlanner + Send + Sync>>);

impl fmt::Debug for LakePlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakePlanner({} planners)", self.0.len())
    }
}

#[async_trait]
impl QueryPlanner for LakePlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(self.0.clone());
        planner.create_physical_plan(logical_plan, session).await
    }
}

/// Knows the lake's files and nothing else: no local file, no bucket can be named by a query.
#[derive(Debug)]
struct OneStore(RwLock<Option<Arc<dyn ObjectStore>>>);

impl ObjectStoreRegistry for OneStore {
    fn register_store(&self, _: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        // Nothing can be added; what is given comes back.
        Some(store)
    }

    fn get_store(&self, url: &Url) -> DfResult<Arc<dyn ObjectStore>> {
        let store = self.0.read().ok().and_then(|store| store.clone());
        match store {
            Some(store) if url.as_str() == STORE => Ok(store),
            _ => exec_err!("a query reads tables, not `{url}`"),
        }
    }
}
