//! Gathers sorted rows into points: gives a point out as soon as the last of its meters has passed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, Decimal128Array, RecordBatch};
use datafusion::error::DataFusionError;
use meterlake_model::{Amount, Channel, MeterId, ReadingFlags, Timestamp, UsagePointId, revision};

use super::DeriveInput;
use crate::tables::read::{Rows, instant_at, other, scaled_at};
use crate::usage::Reading;

/// What one meter said, by channel in catalogue order.
#[derive(Debug, Default)]
pub(super) struct MeterReadings(pub(super) Vec<(Channel, Vec<Reading>)>);

impl MeterReadings {
    fn new(channels: &[Channel]) -> Self {
        Self(channels.iter().map(|c| (*c, Vec::new())).collect())
    }

    /// Lets go of what does not stand any more at a time, since history was decoded again. It was read just before.
    fn supersede(&mut self, ts: Timestamp, generation: i32) {
        for (_, readings) in &mut self.0 {
            let stood = |r: &Reading| r.ts == ts && revision::generation(r.revision) < generation;
            while readings.last().is_some_and(stood) {
                readings.pop();
            }
        }
    }

    pub(super) fn of(&self, channel: Channel) -> &[Reading] {
        self.0.iter().find(|(c, _)| *c == channel).map_or(&[], |(_, readings)| readings)
    }
}

/// A usage point that is ready to be derived: all that its meters said is there.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) point: UsagePointId,
    pub(super) readings: HashMap<MeterId, Arc<MeterReadings>>,
}

/// Where the walk is.
pub(super) struct Walk {
    channels: Vec<Channel>,
    /// The points of each meter.
    points_of: HashMap<MeterId, Vec<UsagePointId>>,
    /// The points that are not yet given out, under the last of their meters. Meters come in rising order.
    pending: BTreeMap<MeterId, Vec<UsagePointId>>,
    /// What the earlier meters of those points said.
    held: HashMap<UsagePointId, HashMap<MeterId, Arc<MeterReadings>>>,
    current: Option<(MeterId, MeterReadings)>,
    /// The meter of the last row, so that the registry is asked once a meter.
    last_id: String,
}

impl Walk {
    pub(super) fn new(input: &DeriveInput) -> Self {
        let mut points_of: HashMap<MeterId, Vec<UsagePointId>> = HashMap::new();
        let mut last_of: BTreeMap<&UsagePointId, &MeterId> = BTreeMap::new();
        for point in input.by_point.keys() {
            for installation in input.installations_of(point) {
                let points = points_of.entry(installation.meter_id.clone()).or_default();
                if points.last() != Some(point) {
                    points.push(point.clone());
                }
                let last = last_of.entry(point).or_insert(&installation.meter_id);
                *last = (*last).max(&installation.meter_id);
            }
        }
        let mut pending: BTreeMap<MeterId, Vec<UsagePointId>> = BTreeMap::new();
        for (point, last) in last_of {
            pending.entry(last.clone()).or_default().push(point.clone());
        }
        Self {
            channels: input.channels(),
            points_of,
            pending,
            held: HashMap::new(),
            current: None,
            last_id: String::new(),
        }
    }

    /// Takes the next rows and gives out the points that are complete.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<Vec<Task>, DataFusionError> {
        let rows = Rows(batch);
        let (meter_id, ts) = (rows.text("meter_id")?, rows.time("ts")?);
        let (revision, flags) = (rows.int("revision")?, rows.int("flags")?);
        let received_at = rows.time("received_at")?;
        let columns =
            self.channels.iter().map(|c| rows.amount(c.name())).collect::<Result<Vec<&Decimal128Array>, _>>()?;
        let mut ready = Vec::new();
        for row in 0..rows.len() {
            let id = meter_id.at(row);
            if id != self.last_id {
                self.next_meter(id, &mut ready)?;
            }
            let Some((_, readings)) = &mut self.current else { continue };
            let generation = revision::generation(revision.value(row));
            if generation > 0 {
                readings.supersede(instant_at(ts, row)?, generation);
            }
            for (index, column) in columns.iter().enumerate() {
                if column.is_null(row) {
                    continue;
                }
                let (channel, list) = &mut readings.0[index];
                let value = scaled_at(column, row)?.unwrap_or_default();
                let value = Amount::from_scaled(value, channel.scale())
                    .map_err(|e| other(format!("{channel} of meter {id}: {e}")))?;
                list.push(Reading {
                    ts: instant_at(ts, row)?,
                    received_at_s: received_at.value(row).div_euclid(1_000_000),
                    revision: revision.value(row),
                    value,
                    flags: ReadingFlags::from_bits(flags.value(row).cast_unsigned()),
                });
            }
        }
        Ok(ready)
    }

    fn next_meter(&mut self, id: &str, ready: &mut Vec<Task>) -> Result<(), DataFusionError> {
        if id < self.last_id.as_str() {
            return Err(other(format!("readings are not sorted: meter {id} comes after {}", self.last_id)));
        }
        id.clone_into(&mut self.last_id);
        self.finish_meter(ready);
        // Points whose last meter said nothing are complete too once it has been passed.
        while let Some(entry) = self.pending.first_entry()
            && entry.key().as_str() < id
        {
            let points = entry.remove();
            ready.extend(points.into_iter().map(|point| self.task(point)));
        }
        if let Some((meter, _)) = self.points_of.get_key_value(id) {
            self.current = Some((meter.clone(), MeterReadings::new(&self.channels)));
        }
        Ok(())
    }

    fn finish_meter(&mut self, ready: &mut Vec<Task>) {
        let Some((meter, readings)) = self.current.take() else { return };
        let readings = Arc::new(readings);
        for point in self.points_of.get(&meter).into_iter().flatten() {
            self.held.entry(point.clone()).or_default().insert(meter.clone(), readings.clone());
        }
        let complete = self.pending.remove(&meter).unwrap_or_default();
        ready.extend(complete.into_iter().map(|point| self.task(point)));
    }

    fn task(&mut self, point: UsagePointId) -> Task {
        let readings = self.held.remove(&point).unwrap_or_default();
        Task { point, readings }
    }

    /// No more rows: gives out what is left, which are points that nobody heard of.
    pub(super) fn finish(&mut self) -> Vec<Task> {
        let mut ready = Vec::new();
        self.finish_meter(&mut ready);
        for points in std::mem::take(&mut self.pending).into_values() {
            ready.extend(points.into_iter().map(|point| self.task(point)));
        }
        ready
    }
}
