//! The job `checks`: what is derived to `check_findings`, month by month. It reads everything and writes findings only.
//!
//! It comes last, since checks ask spans, bills, determinants and completeness alike, and since nothing that they find changes any
//! of these.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use meterlake_model::Zone;
use meterlake_store::Lake;

use super::run::{Output, Run, month_partition};
use super::{Job, JobError, JobOptions};
use crate::checks::{self, Month, Subjects, run_month};
use crate::tables;
use crate::tables::read::other;

/// Runs every check over the UTC months that the asked days touch. Where a check cannot be run, all others are, and the run fails
/// with the names of those that were not.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    run.needs("usage_days", Job::Usage, &mut output)?;
    for table in ["usage_spans", "billing_reads", "billing_determinants", "completeness", "meter_events"] {
        run.reads(table, &mut output);
    }
    checks::register(run.session(), &run.registry).map_err(|e| run.failed(e))?;
    let subjects = Subjects::of(&run.registry);
    let (mut partitions, mut cut, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0_usize;
    for month in run.months() {
        let month = Month { key: month.key, from: month.start, to: month.end };
        let found = run_month(run.session(), &run.rules.checks, &subjects, &month, None).await;
        let found = found.map_err(|e| run.failed(e))?;
        rows += found.rows.len();
        cut.extend(found.cut.iter().map(|(check, count)| format!("{check} {} has {count} more", month.key)));
        failed.extend(found.failed.iter().map(|(check, why)| format!("{check}: {why}")));
        let batch = tables::write::check_findings(&found.rows).map_err(|e| run.failed(e.into()))?;
        partitions.push((month_partition(&month.key), vec![batch]));
    }
    run.replace(&mut output, &tables::check_findings(), partitions).await?;
    if !failed.is_empty() {
        failed.sort();
        failed.dedup();
        return Err(run.failed(other(format!(
            "{} of the checks could not be run: {}",
            failed.len(),
            failed.join("; ")
        ))));
    }
    output.findings = u64::try_from(rows).unwrap_or(u64::MAX);
    output.summary = format!(
        "{rows} findings of {} checks; {} of {} partitions changed",
        run.rules.checks.checks.iter().filter(|check| check.runs()).count(),
        output.partitions_changed,
        output.partitions
    );
    if !cut.is_empty() {
        tracing::warn!(cut = cut.join(", "), "more findings than are kept: see [checks] most_findings");
        output.summary.push_str(&format!("; not kept: {}", cut.join(", ")));
    }
    Ok(output)
}

/// What the checks find in a month, without a trace of it in any table.
#[derive(Debug, Clone)]
pub struct CheckedMonth {
    /// The month, such as `2026-04`.
    pub month: String,
    /// Rows as `check_findings` would have them, without its partition columns.
    pub rows: RecordBatch,
    /// How many findings are not among the rows, by check.
    pub cut: BTreeMap<String, u64>,
    /// Checks that could not be run, with why.
    pub failed: BTreeMap<String, String>,
}

/// Runs checks over the UTC months of the asked days' names, or those of these ids. Nothing is written.
///
/// # Errors
/// As [`super::run_job`].
pub async fn check_now(
    lake: &Lake,
    options: &JobOptions,
    only: Option<&[String]>,
) -> Result<Vec<CheckedMonth>, JobError> {
    let run = Run::begin(lake, Job::Checks, options).await?;
    checks::register(run.session(), &run.registry).map_err(|e| run.failed(e))?;
    let subjects = Subjects::of(&run.registry);
    let mut months = Vec::new();
    // A civil day may begin in the month before; whoever asks for a month means that one.
    let first = Zone::utc().start_of_day(options.from.first_of_month());
    let asked = |month: &super::run::Month| month.start >= first && month.start < Zone::utc().start_of_day(options.to);
    for month in run.months().into_iter().filter(asked) {
        let month = Month { key: month.key, from: month.start, to: month.end };
        let found = run_month(run.session(), &run.rules.checks, &subjects, &month, only).await;
        let found = found.map_err(|e| run.failed(e))?;
        let rows = tables::write::check_findings(&found.rows).map_err(|e| run.failed(e.into()))?;
        months.push(CheckedMonth { month: month.key, rows, cut: found.cut, failed: found.failed });
    }
    Ok(months)
}
