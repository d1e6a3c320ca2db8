//! What the derived months stand for, so that a run need only look at what came since.
//!
//! Derived rows and this list are in different tables and cannot change in one commit. So the list says beforehand how far a
//! run may have written, and afterwards what it wrote; a run that ended in between is done again.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use meterlake_store::{Lake, PartitionKey, StoreError};

use meterlake_model::NodeId;

use super::super::JobError;
use super::super::derive::Suspensions;
use super::super::run::Run;
use crate::tables;
use crate::tables::read::{Rows, instant_at, other};
use crate::tables::write::Columns;

/// The list, as `usage_progress` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Hash of all but the readings that the months depend on.
    pub(super) basis: String,
    /// They are what a run pinned to this commit would derive from nothing.
    pub(super) commit_seq: i64,
    /// A run that did not end may have written what came up to here.
    pub(super) reached: i64,
    /// Such as `2026-11`.
    pub(super) months: BTreeSet<String>,
    /// From when on nothing is estimated in them, by part of the network.
    pub(super) suspended: Suspensions,
}

impl Progress {
    pub(super) async fn read(run: &Run<'_>) -> Result<Self, JobError> {
        let mut progress = Self::default();
        if !run.has("usage_progress") {
            return Ok(progress);
        }
        let mut rows = run.stream("SELECT * FROM usage_progress").await?;
        while let Some(batch) = run.next(&mut rows).await? {
            let text = |name| Rows(&batch).text(name).map_err(|e| run.failed(e));
            let (month, basis) = (text("derived_month")?, text("basis")?);
            let long = |name: &str| {
                let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
                column.ok_or_else(|| run.failed(other(format!("usage_progress has no number {name}"))))
            };
            let (commit_seq, reached) = (long("commit_seq")?, long("reached")?);
            // A table of before storm mode was there has no such columns.
            let areas = batch.column_by_name("area").is_some();
            let area = if areas {
                Some((text("area")?, Rows(&batch).time("suspended_since").map_err(|e| run.failed(e))?))
            } else {
                None
            };
            for row in 0..batch.num_rows() {
                if let Some((area, since)) = &area
                    && let Some(node) = area.get(row).and_then(|id| NodeId::new(id).ok())
                {
                    let since = instant_at(since, row).map_err(|e| run.failed(e))?;
                    progress.suspended.insert(node, since);
                    continue;
                }
                basis.at(row).clone_into(&mut progress.basis);
                (progress.commit_seq, progress.reached) = (commit_seq.value(row), reached.value(row));
                if !month.at(row).is_empty() {
                    progress.months.insert(month.at(row).to_owned());
                }
            }
        }
        Ok(progress)
    }

    /// Writes the list; nothing when it is the same.
    pub(super) async fn write(&self, run: &Run<'_>) -> Result<(), JobError> {
        let spec = tables::usage_progress();
        let areas = self.suspended.len();
        let months = || std::iter::repeat_n("", areas + 1).chain(self.months.iter().map(String::as_str));
        let here = || self.suspended.iter().map(Some).chain(std::iter::repeat_n(None, 1 + self.months.len()));
        let mut columns = Columns::default();
        columns.text("derived_month", months());
        columns.text("basis", months().map(|_| self.basis.as_str()));
        columns.long("commit_seq", months().map(|_| self.commit_seq));
        columns.long("reached", months().map(|_| self.reached));
        columns.maybe_text("area", here().map(|of| of.map(|(node, _)| node.as_str())));
        columns.time("suspended_since", here().map(|of| of.map(|(_, since)| *since)));
        let batch = columns.batch(&spec).map_err(|e| run.failed(e.into()))?;
        run.lake.replace(&spec, vec![(PartitionKey::default(), vec![batch])]).await?;
        Ok(())
    }
}

/// Makes the next run derive its months from nothing. For what changes readings without a commit of new ones, such as an
/// erasure.
///
/// # Errors
/// When the table cannot be written.
pub async fn forget_usage(lake: &Lake) -> Result<(), JobError> {
    let spec = tables::usage_progress();
    match lake.snapshot(spec.name).await {
        Err(StoreError::NoTable(_)) => return Ok(()),
        there => there?,
    };
    lake.replace(&spec, vec![(PartitionKey::default(), Vec::new())]).await?;
    Ok(())
}
