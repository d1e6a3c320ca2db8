//! What a session has planned before: a dashboard asks the same again and again, and to plan a question takes longer than to
//! find one meter's month.
//!
//! Kept is the optimized logical plan, which holds no rows. Questions whose answer depends on the moment of planning
//! (`now()`) or on chance are planned anew each time.

use std::collections::VecDeque;
use std::sync::Mutex;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

/// Plans that a session keeps.
const KEPT: usize = 64;

/// The plans of one session, whose tables stay as they are, by the texts of the questions.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<VecDeque<Question>>);

#[derive(Debug)]
struct Question {
    text: String,
    plan: LogicalPlan,
}

impl Prepared {
    pub(super) fn get(&self, text: &str) -> Option<LogicalPlan> {
        let mut kept = self.0.lock().ok()?;
        let at = kept.iter().position(|question| question.text == text)?;
        let question = kept.remove(at)?;
        let plan = question.plan.clone();
        kept.push_back(question);
        Some(plan)
    }

    /// Keeps a plan; the one that was asked for longest ago makes room.
    pub(super) fn keep(&self, text: &str, plan: LogicalPlan) {
        let Ok(mut kept) = self.0.lock() else { return };
        kept.retain(|question| question.text != text);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Question { text: text.to_owned(), plan });
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
        assert_eq!(prepared.0.lock().unwrap().len(), KEPT);
    }
}
