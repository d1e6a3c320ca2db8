//! What a session has planned before: a dashboard asks the same again and again, and to plan a question takes longer than to
//! find one meter's month.
//!
//! Kept is the optimized logical plan, which holds no rows, and for questions about single meters their shape's whole plan
//! (`shape`). Questions whose answer depends on the moment of planning
//! (`now()`) or on chance are planned anew each time.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::shape::{Shape, Template};

/// Plans of each kind that a session keeps.
const KEPT: usize = 64;

/// The plans of one session, whose tables stay as they are.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// By the texts of the questions.
    texts: Recent<String, LogicalPlan>,
    /// By the shapes of the questions; `None`: its questions are planned each by itself.
    shapes: Recent<Shape, Option<Arc<Template>>>,
    /// In which all of them run, and by which what is new of them is planned. Neither knows this: it would hold itself.
    task: OnceLock<Arc<TaskContext>>,
    few: OnceLock<Arc<SessionState>>,
}

impl Prepared {
    pub(super) fn get(&self, text: &str) -> Option<LogicalPlan> {
        self.texts.get(text)
    }

    pub(super) fn keep(&self, text: &str, plan: LogicalPlan) {
        self.texts.keep(text.to_owned(), plan);
    }

    /// What is known of a shape; `None` when it was not asked for lately.
    pub(super) fn shape(&self, shape: &Shape) -> Option<Option<Arc<Template>>> {
        self.shapes.get(shape)
    }

    pub(super) fn keep_shape(&self, shape: Shape, template: Option<Template>) {
        self.shapes.keep(shape, template.map(Arc::new));
    }

    pub(super) fn task(&self, context: &SessionContext) -> Arc<TaskContext> {
        self.task.get_or_init(|| Arc::new(TaskContext::from(&forgetful(context.state())))).clone()
    }

    /// The session for questions of few rows.
    pub(super) fn few(&self, context: &SessionContext) -> Arc<SessionState> {
        self.few.get_or_init(|| Arc::new(one_stream(forgetful(context.state())))).clone()
    }
}

/// The same without what was planned before.
fn forgetful(mut state: SessionState) -> SessionState {
    let config = state.config().clone().with_extension(Arc::new(Prepared::default()));
    *state.config_mut() = config;
    state
}

/// For few rows: what shares them out among threads costs more than it brings.
pub(super) fn one_stream(mut state: SessionState) -> SessionState {
    let config = state.config().clone().with_target_partitions(1);
    *state.config_mut() = config;
    state
}

/// What was asked for lately; the one that was asked for longest ago makes room.
#[derive(Debug)]
struct Recent<K, V>(Mutex<VecDeque<(K, V)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn get<Q: PartialEq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut kept = self.0.lock().ok()?;
        let at = kept.iter().position(|(of, _)| of.borrow() == key)?;
        let found = kept.remove(at)?;
        let value = found.1.clone();
        kept.push_back(found);
        Some(value)
    }

    fn keep(&self, key: K, value: V) {
        let Ok(mut kept) = self.0.lock() else { return };
        kept.retain(|(of, _)| *of != key);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((key, value));
    }
}

/// Whether a plan, before it is optimized, means the same at any time.
pub(super) fn is_lasting(plan: &LogicalPlan) -> DfResult<bool> {
    let mut lasting = !matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                lasting &= match part {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(lasting)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::LogicalPlanBuilder;

    use super::*;

    #[test]
    fn no_more_plans_are_kept_than_fit_and_the_oldest_goes() {
        let prepared = Prepared::default();
        let plan = LogicalPlanBuilder::empty(true).build().unwrap();
        for n in 0..KEPT {
            prepared.keep(&n.to_string(), plan.clone());
        }
        assert!(prepared.get("0").is_some());
        prepared.keep("one more", plan);
        assert!(prepared.get("0").is_some(), "it was asked for just before");
        assert!(prepared.get("1").is_none());
        assert_eq!(prepared.texts.0.lock().unwrap().len(), KEPT);
    }
}
