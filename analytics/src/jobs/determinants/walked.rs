//! Slots and days of usage points walked anew from readings, some points at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::error::DataFusionError;
use meterlake_model::{Channel, Timestamp, UsagePointId};

use crate::jobs::JobError;
use crate::jobs::billing::again::{Silence, point_of, walk_points};
use crate::jobs::groups::Group;
use crate::jobs::run::Run;
use crate::jobs::usage::table_rows;
use crate::tables;
use crate::tables::read::Rows;
use crate::usage::Level;

/// Points that are walked at once: what is in memory.
const AT_ONCE: usize = 200;

/// What the tables of usage would give of some points, channels and times.
pub(super) struct Walked {
    silence: Arc<Silence>,
    level: Level,
    channels: BTreeSet<Channel>,
    span: (Timestamp, Timestamp),
    /// In order; those before `at` have been walked.
    points: Vec<UsagePointId>,
    at: usize,
    held: BTreeMap<String, Group>,
}

impl Walked {
    pub(super) fn new(
        silence: &Arc<Silence>,
        level: Level,
        channels: BTreeSet<Channel>,
        span: (Timestamp, Timestamp),
        points: BTreeSet<UsagePointId>,
    ) -> Self {
        let (silence, points) = (silence.clone(), points.into_iter().collect());
        Self { silence, level, channels, span, points, at: 0, held: BTreeMap::new() }
    }

    /// The rows of a usage point. Points are asked for in order.
    pub(super) async fn take(&mut self, run: &Run<'_>, point: &str) -> Result<Option<Group>, JobError> {
        while self.points.get(self.at).is_some_and(|next| next.as_str() <= point) {
            let passed = self.points[self.at..].partition_point(|next| next.as_str() < point);
            self.at = (self.at + passed).min(self.points.len());
            let until = (self.at + AT_ONCE).min(self.points.len());
            let points: BTreeSet<UsagePointId> = self.points[self.at..until].iter().cloned().collect();
            self.at = until;
            self.held.clear();
            if points.is_empty() {
                break;
            }
            let (held, level, channels) = (&mut self.held, self.level, &self.channels);
            let mut keep = |batch: &RecordBatch| {
                let Some(id) = point_of(batch)? else { return Ok(()) };
                let Some(usage_point) = run.registry.usage_points.get(id.as_str()) else { return Ok(()) };
                let spec = if level == Level::Day { tables::usage_days() } else { tables::usage_spans() };
                let Some(rows) = table_rows(&spec, std::slice::from_ref(batch), &usage_point.zone)? else {
                    return Ok(());
                };
                let rows = of(&rows, level, channels)?;
                held.insert(id.clone(), Group { key: vec![id], batches: vec![rows] });
                Ok(())
            };
            walk_points(run, &self.silence, Some(&points), self.span, &mut keep).await?;
        }
        Ok(self.held.remove(point))
    }
}

/// The rows of some channels; of spans those of one level.
fn of(rows: &RecordBatch, level: Level, channels: &BTreeSet<Channel>) -> Result<RecordBatch, DataFusionError> {
    let named = Rows(rows);
    let channel = named.text("channel")?;
    let levels = if level == Level::Day { None } else { Some(named.text("level")?) };
    let wanted = |row: usize| {
        let of_level = levels.as_ref().is_none_or(|levels| levels.at(row) == level.as_str());
        Some(of_level && Channel::by_name(channel.at(row)).is_some_and(|c| channels.contains(&c)))
    };
    Ok(filter_record_batch(rows, &(0..rows.num_rows()).map(wanted).collect::<BooleanArray>())?)
}
