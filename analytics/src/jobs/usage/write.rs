//! Partitions written point by point: rows of points that were derived, and between them those that are kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::Stream;
use meterlake_store::TableSpec;

use super::super::JobError;
use super::super::groups::{Group, Groups};
use super::super::run::{Month, Output, Run};
use super::plan::Work;
use super::rows::table_rows;
use super::shelf::{Place, Shelf};
use crate::tables;
use crate::tables::read::other;

/// Replaces the partitions of the asked months in which anything was derived, table by table.
pub(super) async fn replace(
    run: &Run<'_>,
    work: &Work,
    shelf: &mut Shelf,
    output: &mut Output,
) -> Result<(), JobError> {
    for spec in [tables::usage_spans(), tables::usage_days(), tables::findings(), tables::usage_anchors()] {
        let mut replacement = run.lake.replacement(&spec).await?;
        let (mut kept, present): (u64, Vec<_>) = (0, replacement.present().collect());
        for (at, month) in work.months.iter().enumerate() {
            for bucket in 0..work.buckets {
                output.partitions += 1;
                let key = month.partition(bucket);
                let derived = work.derived(at, bucket);
                let fresh = work.is_fresh(at);
                if derived.is_empty() && !fresh {
                    kept += replacement.rows_of(&key);
                    continue;
                }
                let old = if fresh || !present.contains(&key) {
                    None
                } else {
                    Some(rows_of(run, &spec, month, bucket).await?)
                };
                let merge = Merge::new(run, &spec, (at, bucket), shelf, derived, old).await?;
                replacement.partition(key, merge.into_stream()).await?;
            }
            // A month that was shared out to more buckets before.
            let mine: Vec<_> = (0..work.buckets).map(|bucket| month.partition(bucket)).collect();
            let of_month = |key: &&meterlake_store::PartitionKey| key.0.first() == Some(&month.key);
            for key in present.iter().filter(of_month).filter(|key| !mine.contains(key)) {
                let nothing = futures::stream::empty::<Result<RecordBatch, JobError>>();
                replacement.partition(key.clone(), nothing).await?;
            }
        }
        let done = replacement.commit().await?;
        output.partitions_changed += done.changed;
        *output.tables.entry(spec.name).or_default() += done.rows + kept;
    }
    Ok(())
}

/// The rows of a partition as the last run left them, in the table's order.
async fn rows_of(run: &Run<'_>, spec: &TableSpec, month: &Month, bucket: u16) -> Result<Groups, JobError> {
    let quoted =
        |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let fields = spec.schema.fields();
    let columns = quoted(&mut fields.iter().map(|f| f.name().as_str()).filter(|n| !spec.partition_by.contains(n)));
    let order = quoted(&mut spec.sort_by.iter().copied());
    let text = format!(
        "SELECT {columns} FROM {} WHERE month = '{}' AND bucket = {bucket} ORDER BY {order}",
        spec.name, month.key
    );
    Ok(Groups::new(run.stream(&text).await?, &["usage_point_id"]))
}

/// Kept and derived rows in the order of usage points.
struct Merge<'a> {
    run: &'a Run<'a>,
    spec: &'a TableSpec,
    place: Place,
    shelf: &'a mut Shelf,
    /// Points whose old rows go.
    derived: HashSet<&'a str>,
    old: Option<Groups>,
    next_old: Option<Group>,
    new: VecDeque<Arc<str>>,
    ready: VecDeque<RecordBatch>,
}

impl<'a> Merge<'a> {
    async fn new(
        run: &'a Run<'a>,
        spec: &'a TableSpec,
        place: Place,
        shelf: &'a mut Shelf,
        derived: HashSet<&'a str>,
        old: Option<Groups>,
    ) -> Result<Self, JobError> {
        let new = shelf.points(place).into();
        let mut merge = Self { run, spec, place, shelf, derived, old, next_old: None, new, ready: VecDeque::new() };
        merge.advance().await?;
        Ok(merge)
    }

    /// Goes to the next old rows that are kept.
    async fn advance(&mut self) -> Result<(), JobError> {
        self.next_old = None;
        while let Some(old) = &mut self.old {
            let Some(group) = old.next(self.run).await? else { break };
            if !group.key.first().is_some_and(|point| self.derived.contains(point.as_str())) {
                self.next_old = Some(group);
                break;
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, JobError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let old = self.next_old.as_ref().and_then(|group| group.key.first());
            let old_first = match (old, self.new.front()) {
                (None, None) => return Ok(None),
                (Some(old), Some(new)) => old.as_str() < &**new,
                (old, None) => old.is_some(),
                (None, Some(_)) => false,
            };
            if old_first {
                let group = self.next_old.take();
                self.ready.extend(group.map(|group| group.batches).unwrap_or_default());
                self.advance().await?;
            } else if let Some(point) = self.new.pop_front() {
                let rows = self.derived_rows(&point)?;
                self.ready.extend(rows);
            }
        }
    }

    fn derived_rows(&mut self, point: &str) -> Result<Option<RecordBatch>, JobError> {
        let known = self.run.registry.usage_points.get(point);
        let known = known.ok_or_else(|| self.run.failed(other(format!("{point} is no usage point"))))?;
        let rows = self.shelf.rows(self.place, point);
        let rows = rows.and_then(|batches| table_rows(self.spec, &batches, &known.zone));
        rows.map_err(|e| self.run.failed(e))
    }

    fn into_stream(self) -> impl Stream<Item = Result<RecordBatch, JobError>> + 'a {
        futures::stream::try_unfold(
            self,
            |mut merge| async move { Ok(merge.next().await?.map(|batch| (batch, merge))) },
        )
    }
}
