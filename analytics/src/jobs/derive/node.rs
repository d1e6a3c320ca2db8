//! The logical node and its planner.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::DeriveInput;
use super::exec::UsageDeriveExec;
use super::output::SCHEMA;
use crate::tables::read::other;

/// Readings of one commodity to usage spans and findings.
#[derive(Clone)]
pub struct UsageDerive {
    child: LogicalPlan,
    input: Arc<DeriveInput>,
    schema: DFSchemaRef,
}

impl UsageDerive {
    /// Over readings sorted by (meter_id, ts, revision), with the columns that the walk needs.
    ///
    /// # Errors
    /// Never in practice: the output's columns are fixed.
    pub(crate) fn new(child: LogicalPlan, input: Arc<DeriveInput>) -> Result<Self> {
        let schema = Arc::new(DFSchema::try_from(SCHEMA.as_ref().clone())?);
        Ok(Self { child, input, schema })
    }
}

impl fmt::Debug for UsageDerive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self, f)
    }
}

impl PartialEq for UsageDerive {
    fn eq(&self, other: &Self) -> bool {
        self.child == other.child && self.input.key() == other.input.key()
    }
}

impl Eq for UsageDerive {}

impl PartialOrd for UsageDerive {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { self.child.partial_cmp(&other.child) }
    }
}

impl Hash for UsageDerive {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.child.hash(state);
        self.input.key().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for UsageDerive {
    fn name(&self) -> &'static str {
        "UsageDerive"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.child]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UsageDerive: {}, registry revision {}", self.input.commodity, self.input.registry.revision)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let child = inputs.pop().filter(|_| inputs.is_empty());
        let child = child.ok_or_else(|| other("UsageDerive has one input".to_owned()))?;
        Ok(Self { child, ..self.clone() })
    }
}

/// Turns [`UsageDerive`] into its operator.
#[derive(Debug, Default)]
pub struct UsageDerivePlanner;

#[async_trait]
impl ExtensionPlanner for UsageDerivePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
        let Some(node) = node.as_any().downcast_ref::<UsageDerive>() else { return Ok(None) };
        let Some(child) = physical_inputs.first() else { return Ok(None) };
        Ok(Some(Arc::new(UsageDeriveExec::new(child.clone(), node.input.clone())?)))
    }
}
