//! The operator: reads sorted rows once and derives complete points on worker threads, in order.

use std::fmt;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::DeriveInput;
use super::output::{SCHEMA, derive_point};
use super::walk::{Task, Walk};
use crate::tables::read::other;

/// Walks sorted readings once and gives usage spans and findings.
pub struct UsageDeriveExec {
    child: Arc<dyn ExecutionPlan>,
    input: Arc<DeriveInput>,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl UsageDeriveExec {
    pub(super) fn new(child: Arc<dyn ExecutionPlan>, input: Arc<DeriveInput>) -> Result<Self> {
        let schema = child.schema();
        let keys = ["meter_id", "ts", "revision"].map(|name| Ok(PhysicalSortExpr::new_default(col(name, &schema)?)));
        let keys = keys.into_iter().collect::<Result<Vec<_>>>()?;
        let order = LexOrdering::new(keys).ok_or_else(|| other("readings have no order".to_owned()))?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(SCHEMA.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { child, input, order, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for UsageDeriveExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageDeriveExec").field("commodity", &self.input.commodity).finish_non_exhaustive()
    }
}

impl DisplayAs for UsageDeriveExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UsageDeriveExec: {}", self.input.commodity)
    }
}

impl ExecutionPlan for UsageDeriveExec {
    fn name(&self) -> &'static str {
        "UsageDeriveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.child]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let child = children.pop().ok_or_else(|| other("UsageDeriveExec has one input".to_owned()))?;
        Ok(Arc::new(Self::new(child, self.input.clone())?))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let child = children.pop().ok_or_else(|| other("UsageDeriveExec has one input".to_owned()))?;
        Ok(Arc::new(Self::new(child, self.input.clone())?))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in &self.order {
            if f(&key.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.child.execute(partition, context.clone())?;
        let walk = Walk::new(&self.input);
        // Each step takes one batch of rows; after the last one it gives out the points that are left.
        let tasks = stream::try_unfold(Some((rows, walk)), |state| async move {
            let Some((mut rows, mut walk)) = state else { return Ok(None) };
            match rows.try_next().await? {
                Some(batch) => {
                    let ready = walk.take(&batch)?;
                    Ok::<_, datafusion::error::DataFusionError>(Some((ready, Some((rows, walk)))))
                }
                None => Ok(Some((walk.finish(), None))),
            }
        });
        let input = self.input.clone();
        let at_once = context.session_config().target_partitions().max(1);
        let batches = tasks
            .map_ok(|ready| stream::iter(ready.into_iter().map(Ok)))
            .try_flatten()
            .map(move |task| derive_on_worker(input.clone(), task))
            .buffered(at_once)
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(SCHEMA.clone(), batches)))
    }
}

async fn derive_on_worker(input: Arc<DeriveInput>, task: Result<Task>) -> Result<arrow::array::RecordBatch> {
    let task = task?;
    let work = SpawnedTask::spawn_blocking(move || derive_point(&input, &task));
    work.join().await.map_err(|e| other(format!("the walk over a usage point failed: {e}")))?
}
