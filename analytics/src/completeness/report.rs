//! The table `completeness`, asked: listings and sums for people, figures for metrics.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use meterlake_model::CivilDay;
use meterlake_store::query::{LakeSession, QueryError, ReadOptions};
use meterlake_store::{Lake, StoreError};

use crate::tables::read::{Rows, other};
use crate::tables::write::days_since_1970;

const DAYS: &str = include_str!("../../sql/completeness_days.sql");
const GROUPS: &str = include_str!("../../sql/completeness_groups.sql");
const REASONS: &str = include_str!("../../sql/completeness_reasons.sql");
const SUMMARY: &str = include_str!("../../sql/completeness_summary.sql");
const CAUSES: &str = include_str!("../../sql/completeness_causes.sql");
const LAST_DAY: &str = include_str!("../../sql/completeness_last_day.sql");

/// Why completeness cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The job has not run yet.
    #[error("completeness is not derived yet: run `meterlake job run completeness`")]
    NotDerived,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake could not be opened for reading.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// The table could not be read.
    #[error("completeness: {0}")]
    Query(#[from] DataFusionError),
}

/// What a listing has one row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// One meter and day.
    Meter,
    /// One source: a Modbus line or a broker.
    Line,
    /// One gateway.
    Gateway,
    /// One reason and its subject.
    Reason,
    /// One civil day.
    Day,
}

/// Which days and meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// First civil day, by each usage point's zone.
    pub from: CivilDay,
    /// Day after the last.
    pub to: CivilDay,
    /// One meter alone.
    pub meter: Option<String>,
    /// Only what lacks something.
    pub missing_only: bool,
}

/// Expected and received readings of one commodity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// `electricity` or `water`.
    pub commodity: String,
    /// Expected readings.
    pub expected: i64,
    /// Received ones of them.
    pub received: i64,
    /// Meters of which anything is told.
    pub meters: i64,
    /// Meters with a late reading.
    pub late_meters: i64,
    /// Meters that said nothing of what was expected on some day.
    pub silent_meters: i64,
}

/// What the days of a question come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// By commodity; empty when nothing was expected.
    pub tallies: Vec<Tally>,
    /// Reason and subject with the missing readings that it explains, the largest first; three at most.
    pub causes: Vec<(String, Option<String>, i64)>,
}

/// Figures of one civil day for metrics: few, whatever the number of meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Which day.
    pub day: CivilDay,
    /// By commodity.
    pub tallies: Vec<Tally>,
    /// Commodity and reason with the missing readings that it explains.
    pub causes: Vec<(String, String, i64)>,
}

/// A session over the table.
async fn open(lake: &Lake) -> Result<LakeSession, ReportError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    if session.versions.contains_key("completeness") { Ok(session) } else { Err(ReportError::NotDerived) }
}

/// The newest civil day that is told whole; `None` when there is none yet.
///
/// # Errors
/// When the job has not run yet, or the lake cannot be read.
pub async fn days_told(lake: &Lake) -> Result<Option<CivilDay>, ReportError> {
    last_day(&open(lake).await?).await
}

async fn last_day(session: &LakeSession) -> Result<Option<CivilDay>, ReportError> {
    for batch in session.context.sql(LAST_DAY).await?.collect().await? {
        let column = batch.column(0).as_primitive_opt::<Date32Type>();
        let column = column.ok_or_else(|| other("the last day is no day".to_owned()))?;
        if let Some(days) = column.iter().next().flatten() {
            return Ok(CivilDay::new(1970, 1, 1).ok().map(|epoch| epoch.plus_days(days)));
        }
    }
    Ok(None)
}

/// Rows of a listing, what lacks most first. With sums there are columns `expected` and `received`.
///
/// # Errors
/// When the job has not run yet, or the lake cannot be read.
pub async fn listing(lake: &Lake, question: &Question, by: GroupBy) -> Result<Vec<RecordBatch>, ReportError> {
    let session = open(lake).await?;
    let (text, by) = match by {
        GroupBy::Meter => (DAYS, None),
        GroupBy::Reason => (REASONS, None),
        GroupBy::Line => (GROUPS, Some("line")),
        GroupBy::Gateway => (GROUPS, Some("gateway")),
        GroupBy::Day => (GROUPS, Some("day")),
    };
    ask(&session, text, question, by).await
}

async fn ask(
    session: &LakeSession,
    text: &str,
    question: &Question,
    by: Option<&str>,
) -> Result<Vec<RecordBatch>, ReportError> {
    let day = |day: CivilDay| ScalarValue::Date32(Some(days_since_1970(day)));
    let words = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let mut parameters = vec![("from", day(question.from)), ("to", day(question.to))];
    parameters.push(("meter", words(question.meter.as_deref().unwrap_or_default())));
    parameters.push(("missing_only", ScalarValue::Boolean(Some(question.missing_only))));
    parameters.extend(by.map(|by| ("by", words(by))));
    let frame = session.context.sql(text).await?.with_param_values(ParamValues::from(parameters))?;
    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
    let mut batches = frame.collect().await?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

/// Sums of the question's days.
///
/// # Errors
/// When the job has not run yet, or the lake cannot be read.
pub async fn summary(lake: &Lake, question: &Question) -> Result<Summary, ReportError> {
    let session = open(lake).await?;
    let mut causes = Vec::new();
    for batch in ask(&session, REASONS, question, None).await? {
        let rows = Rows(&batch);
        let (reason, subject) = (rows.text("reason")?, rows.text("reason_subject")?);
        let missing = long(&batch, "missing")?;
        let row = |row: usize| (reason.at(row).to_owned(), subject.get(row).map(str::to_owned), missing[row]);
        causes.extend((0..rows.len()).map(row));
        causes.truncate(3);
    }
    Ok(Summary { tallies: tallies(&session, question).await?, causes })
}

async fn tallies(session: &LakeSession, question: &Question) -> Result<Vec<Tally>, ReportError> {
    let mut tallies = Vec::new();
    for batch in ask(session, SUMMARY, question, None).await? {
        let commodity = Rows(&batch).text("commodity")?;
        let [expected, received, meters, late, silent] =
            ["expected", "received", "meters", "late_meters", "silent_meters"].map(|name| long(&batch, name));
        let (expected, received, meters, late, silent) = (expected?, received?, meters?, late?, silent?);
        tallies.extend((0..batch.num_rows()).map(|row| Tally {
            commodity: commodity.at(row).to_owned(),
            expected: expected[row],
            received: received[row],
            meters: meters[row],
            late_meters: late[row],
            silent_meters: silent[row],
        }));
    }
    Ok(tallies)
}

/// Figures of the newest civil day that is told whole; `None` when there is none yet.
///
/// # Errors
/// When the job has not run yet, or the lake cannot be read.
pub async fn last_day_figures(lake: &Lake) -> Result<Option<Figures>, ReportError> {
    let session = open(lake).await?;
    let Some(day) = last_day(&session).await? else { return Ok(None) };
    let question = Question { from: day, to: day.plus_days(1), meter: None, missing_only: false };
    let mut causes = Vec::new();
    for batch in ask(&session, CAUSES, &question, None).await? {
        let rows = Rows(&batch);
        let (commodity, reason) = (rows.text("commodity")?, rows.text("reason")?);
        let missing = long(&batch, "missing")?;
        let row = |row: usize| (commodity.at(row).to_owned(), reason.at(row).to_owned(), missing[row]);
        causes.extend((0..rows.len()).map(row));
    }
    Ok(Some(Figures { day, tallies: tallies(&session, &question).await?, causes }))
}

/// A column of whole numbers; 0 where there is none.
fn long(batch: &RecordBatch, name: &str) -> Result<Vec<i64>, DataFusionError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let column = column.ok_or_else(|| other(format!("the query gives no numbers {name}")))?;
    Ok((0..column.len()).map(|row| if column.is_valid(row) { column.value(row) } else { 0 }).collect())
}
