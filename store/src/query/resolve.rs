//! The walk of `merge` as a node of plans, so that views, jobs and optimizer rules know it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt;

pub use super::merge::Keep;
use super::merge::{KEY, Resolver};
use super::provider::COMMIT_SEQ;

/// One row a meter and time (or the last of each meter) out of a readings table. Has the columns of its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolveNode {
    input: LogicalPlan,
    keep: Keep,
}

impl ResolveNode {
    /// Over a plan with the columns of a readings table.
    pub fn new(input: LogicalPlan, keep: Keep) -> Self {
        Self { input, keep }
    }
}

impl PartialOrd for ResolveNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.keep.partial_cmp(&other.keep).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for ResolveNode {
    fn name(&self) -> &str {
        "Resolve"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        // A filter may go below only if it takes or leaves all rows of a group alike.
        let through: &[&str] = match self.keep {
            Keep::All => &["meter_id", "ts"],
            Keep::Latest => &["meter_id"],
        };
        let names = self.input.schema().fields().iter().map(|f| f.name());
        names.filter(|name| !through.contains(&name.as_str())).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolve: keep={:?}", self.keep)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, keep: self.keep }),
            _ => internal_err!("Resolve has one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let fields = self.input.schema().fields();
        let needed =
            |(at, name): (usize, &str)| output_columns.contains(&at) || KEY.contains(&name) || name == COMMIT_SEQ;
        let columns = fields.iter().map(|f| f.name().as_str()).enumerate();
        Some(vec![columns.filter(|c| needed(*c)).map(|(at, _)| at).collect()])
    }
}

/// Turns [`ResolveNode`] into its operator.
#[derive(Debug)]
pub(super) struct ResolvePlanner;

#[async_trait]
impl ExtensionPlanner for ResolvePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn datafusion::catalog::Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<ResolveNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("Resolve has one input") };
        Ok(Some(Arc::new(ResolveExec::new(input.clone(), node.keep)?)))
    }
}

/// The operator: one sorted stream in, one out.
#[derive(Debug)]
struct ResolveExec {
    input: Arc<dyn ExecutionPlan>,
    keep: Keep,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl ResolveExec {
    fn new(input: Arc<dyn ExecutionPlan>, keep: Keep) -> Result<Self> {
        let schema = input.schema();
        let columns = KEY.iter().map(|name| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, schema.index_of(name)?));
            Ok(PhysicalSortExpr::new_default(column))
        });
        let Some(order) = LexOrdering::new(columns.collect::<Result<Vec<_>>>()?) else {
            return internal_err!("Resolve has no order");
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, [order.clone()]),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { input, keep, order, properties: Arc::new(properties) })
    }
}

impl DisplayAs for ResolveExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResolveExec: keep={:?}", self.keep)
    }
}

impl ExecutionPlan for ResolveExec {
    fn name(&self) -> &str {
        "ResolveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.keep)?)),
            _ => internal_err!("Resolve has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let resolver = Resolver::new(schema.clone(), self.keep).map_err(DataFusionError::from)?;
        let stream = futures::stream::unfold(Some((input, resolver)), |state| async {
            let (mut input, mut resolver) = state?;
            loop {
                let step = match input.next().await {
                    Some(Ok(batch)) => resolver.push(batch).map_err(DataFusionError::from),
                    Some(Err(e)) => return Some((Err(e), None)),
                    None => {
                        let rest = resolver.finish().map_err(DataFusionError::from).transpose()?;
                        return Some((rest, None));
                    }
                };
                match step {
                    Ok(Some(batch)) if batch.num_rows() > 0 => return Some((Ok(batch), Some((input, resolver)))),
                    Ok(_) => {}
                    Err(e) => return Some((Err(e), None)),
                }
            }
        });
        let stream = stream.map(|batch: Result<RecordBatch>| batch);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}
