//! Questions that differ from an earlier one in their values alone: the next meter, the next month. They take its plan, with
//! files and filter of their own.
//!
//! A question's shape is its words without the texts that it compares with. Besides the plan for the first question of a
//! shape, one is made with parameters in the stead of these texts. Where these are found in the filter of the one scan
//! and nowhere else, another question can differ in that scan alone, so the scan is made anew and the rest stays. That
//! this holds is not argued but tried: what is put together for the first question must be what the planner made of it,
//! word for word, or the shape is planned as ever.
//!
//! It belongs to a session, whose tables stay as they are. A plan is put together for each question, so two that run at
//! once share nothing that changes.

use std::any::Any;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion::prelude::Column;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::prepared::is_lasting;
use super::provider::LakeTable;
use super::resolve::ResolveNode;

/// More values are no look-up of a meter.
const VALUES: usize = 16;

/// A question as shape and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) shape: Shape,
    pub(super) values: Vec<String>,
}

/// What questions have in common that differ in their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// So that few shapes are compared word by word.
    hash: u64,
    tokens: Vec<Token>,
}

impl Question {
    /// `None` when it is no query, has nothing to compare with, or parameters of its own.
    pub(super) fn of(tokens: Vec<Token>) -> Option<Self> {
        let mut shape = Vec::with_capacity(tokens.len());
        let mut values = Vec::new();
        for token in tokens {
            match token {
                Token::Whitespace(_) => {}
                Token::Placeholder(_) => return None,
                Token::SingleQuotedString(value) if shape.last().is_some_and(is_comparison) => {
                    values.push(value);
                    shape.push(Token::Placeholder(format!("${}", values.len())));
                }
                other => shape.push(other),
            }
        }
        let asks = matches!(shape.first(), Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("SELECT"));
        if !asks || values.is_empty() || values.len() > VALUES {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        shape.hash(&mut hasher);
        Some(Self { shape: Shape { hash: hasher.finish(), tokens: shape }, values })
    }
}

/// Whether a text behind this is compared with something. Behind AND it closes a BETWEEN.
fn is_comparison(token: &Token) -> bool {
    match token {
        Token::Eq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => true,
        Token::Word(word) => {
            word.quote_style.is_none() && ["BETWEEN", "AND"].iter().any(|w| word.value.eq_ignore_ascii_case(w))
        }
        _ => false,
    }
}

/// The plan of a shape.
#[derive(Debug)]
pub(super) struct Template {
    /// Types of the values.
    types: Vec<DataType>,
    /// What rows must meet, with parameters.
    predicate: Expr,
    scan: Arc<dyn datafusion::catalog::TableProvider>,
    /// Columns of the table, and those of them that are read.
    schema: DFSchema,
    projection: Option<Vec<usize>>,
    /// As it was made for the first question.
    plan: Arc<dyn ExecutionPlan>,
    state: Arc<SessionState>,
}

impl Template {
    /// From the first question of a shape and the plan that the planner made of it; `None` when other questions of the shape
    /// may need another.
    pub(super) async fn learn(
        state: Arc<SessionState>,
        question: &Question,
        plan: &Arc<dyn ExecutionPlan>,
        nesting: usize,
    ) -> DfResult<Option<Self>> {
        let tokens = question.shape.tokens.clone();
        let parser =
            Parser::new(&GenericDialect {}).with_recursion_limit(nesting).with_tokens(tokens).parse_statement();
        let Ok(statement) = parser else { return Ok(None) };
        let logical = state.statement_to_plan(Statement::Statement(Box::new(statement))).await?;
        if !is_lasting(&logical)? {
            return Ok(None);
        }
        let optimized = state.optimize(&logical)?;
        let Some((predicate, scan)) = only_scan(&optimized)? else { return Ok(None) };
        let Some(types) = types_of(predicate, question.values.len())? else { return Ok(None) };
        let provider = source_as_provider(&scan.source)?;
        let template = Self {
            types,
            // The scan knows its columns by their names alone.
            predicate: predicate.clone().transform(unqualified).data()?,
            schema: DFSchema::try_from(provider.schema())?,
            scan: provider,
            projection: scan.projection.clone(),
            plan: plan.clone(),
            state,
        };
        let told = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
        let same = template.plan(&question.values)?.is_some_and(|own| told(&own) == told(plan));
        Ok(same.then_some(template))
    }

    /// The plan for other values; `None` when these need the planner: a value of another form, hot rows or files that overlap.
    pub(super) fn plan(&self, values: &[String]) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(table) = (self.scan.as_ref() as &dyn Any).downcast_ref::<LakeTable>() else { return Ok(None) };
        let Some(values) = self.bind(values) else { return Ok(None) };
        let bound = self.predicate.clone().transform(|part| match &part {
            Expr::Placeholder(parameter) => match number(&parameter.id).and_then(|at| values.get(at)) {
                Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        });
        let bound = bound.data()?;
        let physical = |schema: &DFSchema| -> DfResult<Arc<dyn PhysicalExpr>> {
            create_physical_expr(&bound, schema, &Default::default(), &Default::default())
        };
        let leaf =
            table.scan_by(self.state.as_ref(), self.projection.as_ref(), Some(&physical(&self.schema)?), None)?;
        if !is_single_scan(&leaf) {
            return Ok(None);
        }
        let predicate = physical(&DFSchema::try_from(leaf.schema())?)?;
        let replaced = self.plan.clone().transform_down(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>().filter(|filter| is_single_scan(filter.input())) else {
                return Ok(Transformed::no(node));
            };
            let own = FilterExecBuilder::from(filter).with_predicate(predicate.clone()).with_input(leaf.clone());
            let own = FilterPushdown::new().optimize(Arc::new(own.build()?), self.state.config_options())?;
            // What is above relies on columns and order.
            if own.schema() != node.schema() || own.output_ordering() != node.output_ordering() {
                return Ok(Transformed::new(node, false, TreeNodeRecursion::Stop));
            }
            Ok(Transformed::new(own, true, TreeNodeRecursion::Jump))
        })?;
        Ok(replaced.transformed.then_some(replaced.data))
    }

    fn bind(&self, values: &[String]) -> Option<Vec<ScalarValue>> {
        let bind = |(value, kind): (&String, &DataType)| {
            let text = ScalarValue::Utf8(Some(value.clone()));
            let value = if *kind == DataType::Utf8 { text } else { text.cast_to(kind).ok()? };
            (!value.is_null()).then_some(value)
        };
        if values.len() != self.types.len() { None } else { values.iter().zip(&self.types).map(bind).collect() }
    }
}

/// Rows in one stream from files alone.
fn is_single_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<DataSourceExec>().is_some() && plan.output_partitioning().partition_count() == 1
}

/// The one filter of a plan and the scan below it; `None` when there is anything that might look at the parameters elsewhere.
fn only_scan(plan: &LogicalPlan) -> DfResult<Option<(&Expr, &datafusion::logical_expr::TableScan)>> {
    let mut node = plan;
    loop {
        if let LogicalPlan::Filter(filter) = node {
            let LogicalPlan::TableScan(scan) = filter.input.as_ref() else { return Ok(None) };
            return Ok((scan.fetch.is_none()).then_some((&filter.predicate, scan)));
        }
        let passes = match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::SubqueryAlias(_) => true,
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<ResolveNode>().is_some(),
            _ => false,
        };
        let inputs = node.inputs();
        let [input] = inputs.as_slice() else { return Ok(None) };
        let mut plain = passes;
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                plain &= !matches!(part, Expr::Placeholder(_)) && !is_subquery(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if !plain {
            return Ok(None);
        }
        node = input;
    }
}

fn is_subquery(part: &Expr) -> bool {
    matches!(
        part,
        Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
    )
}

/// The types of all parameters; `None` when one is missing, or of a type that a text is not simply turned into.
fn types_of(predicate: &Expr, values: usize) -> DfResult<Option<Vec<DataType>>> {
    let mut types = vec![None; values];
    let mut plain = true;
    predicate.apply(|part| {
        plain &= !is_subquery(part);
        if let Expr::Placeholder(parameter) = part {
            let kind = parameter.field.as_ref().map(|field| field.data_type().clone());
            let known = matches!(kind, Some(DataType::Utf8 | DataType::Timestamp(..)));
            match number(&parameter.id).and_then(|at| types.get_mut(at)) {
                Some(place) if known && (place.is_none() || *place == kind) => *place = kind,
                _ => plain = false,
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(types.into_iter().collect::<Option<Vec<_>>>().filter(|_| plain))
}

/// Which of the values `$1`, `$2` … is.
fn number(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn unqualified(part: Expr) -> DfResult<Transformed<Expr>> {
    Ok(match part {
        Expr::Column(column) if column.relation.is_some() => {
            Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
        }
        other => Transformed::no(other),
    })
}
