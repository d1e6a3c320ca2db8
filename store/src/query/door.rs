//! The one door for SQL that people and tools type: read-only, bounded in size, depth and planning time.
//!
//! Planning runs on a thread with a large stack, since a long expression overflows a worker's. Execution is the
//! caller's, who bounds rows, bytes and time.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, ParamValues};
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use tokio::sync::{Semaphore, oneshot};

use super::error::QueryError;
use super::latest::named_meters;
use super::merge::KEY;
use super::prepared::{Prepared, is_lasting, one_stream};
use super::shape::{Question, Template};

/// Stack of the planning thread, in bytes. Only what is touched takes memory.
const STACK_BYTES: usize = 256 << 20;
/// The columns by which readings are told.
const METER: &str = KEY[0];
const TIME: &str = KEY[1];
/// Planning threads at once, those past their deadline included.
static PLANNERS: Semaphore = Semaphore::const_new(8);

/// How large a question may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// Bytes of the text.
    pub text_bytes: usize,
    /// Operators, set operations and joins together: each is a level of the plan at worst.
    pub operators: usize,
    /// Parentheses within each other.
    pub nesting: usize,
    /// Time to plan.
    pub planning: Duration,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { text_bytes: 16 << 10, operators: 500, nesting: 40, planning: Duration::from_secs(10) }
    }
}

/// A planned query. Nothing has run yet.
#[derive(Clone)]
pub struct SqlResult {
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    reused: bool,
}

impl SqlResult {
    /// Columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    /// Whether the plan is that of an earlier question that differed in values alone.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Starts the query.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn stream(&self) -> Result<SendableRecordBatchStream, QueryError> {
        Ok(execute_stream(self.plan.clone(), self.task.clone())?)
    }
}

/// Plans one statement that only reads: a query, EXPLAIN, SHOW or DESCRIBE.
///
/// # Errors
/// `Refused` with the reason, `Deadline`, or what the planner found wrong.
pub async fn sql(context: &SessionContext, text: &str, limits: SqlLimits) -> Result<SqlResult, QueryError> {
    by_planner(context, Asked { text: text.to_owned(), bound: None }, limits).await
}

/// As [`sql`], for a query with parameters such as `$from`, whose values are bound as they are and never become text. Its rows
/// come in the order of these columns, as far as it has them.
///
/// # Errors
/// As [`sql`].
pub async fn sql_bound(
    context: &SessionContext,
    text: &str,
    values: ParamValues,
    order_by: &[&str],
    limits: SqlLimits,
) -> Result<SqlResult, QueryError> {
    let order_by = order_by.iter().map(|name| (*name).to_owned()).collect();
    by_planner(context, Asked { text: text.to_owned(), bound: Some((values, order_by)) }, limits).await
}

/// What is asked.
struct Asked {
    text: String,
    /// Values of parameters, and the columns that the rows are ordered by.
    bound: Option<(ParamValues, Vec<String>)>,
}

async fn by_planner(context: &SessionContext, asked: Asked, limits: SqlLimits) -> Result<SqlResult, QueryError> {
    let tokens = check_size(&asked.text, limits)?;
    let prepared = context.state_ref().read().config().get_extension::<Prepared>();
    let question = if prepared.is_some() && asked.bound.is_none() { Question::of(tokens) } else { None };
    let mut unknown = None;
    if let (Some(prepared), Some(question)) = (&prepared, question) {
        match prepared.shape(&question.shape) {
            Some(Some(template)) => {
                // What fails here is planned as ever, and told of then.
                if let Ok(Some(plan)) = template.plan(&question.values) {
                    return Ok(SqlResult { plan, task: prepared.task(context), reused: true });
                }
            }
            Some(None) => {}
            None => unknown = Some(question),
        }
    }
    let deadline = tokio::time::Instant::now() + limits.planning;
    let permit = tokio::time::timeout_at(deadline, PLANNERS.acquire());
    let permit = permit.await.map_err(|_| QueryError::Deadline(limits.planning))?;
    let permit = permit.map_err(|e| QueryError::Refused(e.to_string()))?;
    let (answer, planned) = oneshot::channel();
    let context = context.clone();
    let runtime = tokio::runtime::Handle::current();
    let plan = move || {
        let _permit = permit;
        let result = runtime.block_on(plan(&context, asked, limits));
        let made = result.as_ref().ok().map(|(result, narrow)| (result.plan.clone(), *narrow));
        // Nobody may be waiting any more.
        let _ = answer.send(result.map(|(result, _)| result));
        // Nobody waits for what the next question gains.
        if let (Some(prepared), Some(question), Some((made, narrow))) = (prepared, unknown, made) {
            let template = if narrow {
                let learn = Template::learn(prepared.few(&context), &question, &made, limits.nesting * 2);
                runtime.block_on(learn).ok().flatten()
            } else {
                None
            };
            prepared.keep_shape(question.shape, template);
        }
    };
    std::thread::Builder::new()
        .name("sql-planner".into())
        .stack_size(STACK_BYTES)
        .spawn(plan)
        .map_err(|e| QueryError::Refused(format!("no thread to plan with: {e}")))?;
    match tokio::time::timeout_at(deadline, planned).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(QueryError::Refused("the planner failed on this statement".into())),
        Err(_) => Err(QueryError::Deadline(limits.planning)),
    }
}

/// The plan, and whether it is of few rows.
async fn plan(context: &SessionContext, asked: Asked, limits: SqlLimits) -> Result<(SqlResult, bool), QueryError> {
    let text = asked.text.as_str();
    if let Some((values, order_by)) = asked.bound {
        let logical = verified(context, text, limits).await?.with_param_values(values)?;
        let columns = order_by.into_iter().filter(|name| logical.schema().has_column_with_unqualified_name(name));
        let order: Vec<SortExpr> =
            columns.map(|name| Expr::Column(Column::new_unqualified(name)).sort(true, false)).collect();
        let sorted = LogicalPlanBuilder::from(logical).sort(order)?.build()?;
        let optimized = context.state().optimize(&sorted)?;
        return physical(context, &optimized).await;
    }
    let prepared = context.state_ref().read().config().get_extension::<Prepared>();
    let optimized = match prepared.as_ref().and_then(|prepared| prepared.get(text)) {
        Some(optimized) => optimized,
        None => logical(context, text, limits).await?,
    };
    physical(context, &optimized).await
}

/// From what is to be done to how.
async fn physical(context: &SessionContext, optimized: &LogicalPlan) -> Result<(SqlResult, bool), QueryError> {
    let narrow = is_narrow(optimized)?;
    let state = context.state();
    let state = if narrow { one_stream(state) } else { state };
    let plan = state.query_planner().create_physical_plan(optimized, &state).await?;
    let prepared = state.config().get_extension::<Prepared>();
    let task = prepared.map_or_else(|| context.task_ctx(), |prepared| prepared.task(context));
    Ok((SqlResult { plan, task, reused: false }, narrow))
}

/// From the text to what is to be done.
async fn logical(context: &SessionContext, text: &str, limits: SqlLimits) -> Result<LogicalPlan, QueryError> {
    let logical = verified(context, text, limits).await?;
    let state = context.state();
    let optimized = state.optimize(&logical)?;
    if let Some(prepared) = state.config().get_extension::<Prepared>()
        && is_lasting(&logical)?
    {
        prepared.keep(text, optimized.clone());
    }
    Ok(optimized)
}

/// One statement that only reads, as a plan.
async fn verified(context: &SessionContext, text: &str, limits: SqlLimits) -> Result<LogicalPlan, QueryError> {
    let mut parser = DFParserBuilder::new(text).with_recursion_limit(limits.nesting * 2).build()?;
    let mut statements = parser.parse_statements()?;
    let statement = match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => statement,
        (None, _) => return Err(QueryError::Refused("there is no statement".into())),
        (Some(_), false) => return Err(QueryError::Refused("one statement at a time".into())),
    };
    if !is_reading(&statement) {
        let text = "only SELECT, EXPLAIN, SHOW and DESCRIBE are answered here";
        return Err(QueryError::Refused(text.into()));
    }
    let state = context.state();
    let logical = state.statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&logical).map_err(|e| QueryError::Refused(first_line(&e)))?;
    Ok(logical)
}

/// Whether all readings that are asked for are of meters named in the question: then they are few.
fn is_narrow(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let (mut named, mut all) = (0, 0);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.source.schema().index_of(METER).is_ok()
            && scan.source.schema().index_of(TIME).is_ok()
        {
            all += 1;
            named += usize::from(named_meters(&scan.filters).is_some());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all > 0 && named == all)
}

fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

fn is_reading(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => is_reading_sql(statement),
        Statement::Explain(explain) => is_reading(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn is_reading_sql(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Query(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ExplainTable { .. } => true,
        SqlStatement::Explain { statement, .. } => is_reading_sql(statement),
        _ => false,
    }
}

/// Before anything recursive looks at the text. Gives its words.
fn check_size(text: &str, limits: SqlLimits) -> Result<Vec<Token>, QueryError> {
    if text.len() > limits.text_bytes {
        let reason = format!("the statement has {} bytes, at most {} are answered", text.len(), limits.text_bytes);
        return Err(QueryError::Refused(reason));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize();
    let tokens = tokens.map_err(|e| QueryError::Refused(e.to_string()))?;
    let (mut operators, mut depth, mut deepest) = (0_usize, 0_usize, 0_usize);
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word)
                if word.quote_style.is_none() && LEVELS.iter().any(|l| word.value.eq_ignore_ascii_case(l)) =>
            {
                operators += 1;
            }
            Token::Word(_)
            | Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon
            | Token::EOF => {}
            _ => operators += 1,
        }
    }
    if operators > limits.operators {
        let reason = format!("the statement has {operators} operators, at most {} are answered", limits.operators);
        return Err(QueryError::Refused(reason));
    }
    if deepest > limits.nesting {
        let reason = format!("the statement nests {deepest} parentheses, at most {} are answered", limits.nesting);
        return Err(QueryError::Refused(reason));
    }
    Ok(tokens)
}

/// Words that add a level to an expression or a plan.
const LEVELS: [&str; 16] = [
    "AND",
    "OR",
    "NOT",
    "LIKE",
    "ILIKE",
    "IS",
    "BETWEEN",
    "CASE",
    "WHEN",
    "JOIN",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "SELECT",
    "WITH",
    "XOR",
];
