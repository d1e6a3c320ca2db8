//! Readings to work on: a month of simulated electricity meters without faults, as messages and as journal records.

use std::sync::Arc;

use anyhow::{Context, ensure};
use meterlake_config::payload_map::PayloadMap;
use meterlake_device_sim::{FleetPlan, History, Message, MessageForm, Scenario, Simulation};
use meterlake_ingest::decode::decode;
use meterlake_model::registry::Registry;
use meterlake_model::{CivilDay, MeterDirectory, RawMessage, ReadingBatch, Timestamp, Zone};

use crate::arguments::Arguments;

/// Everything that varies follows from it.
pub const SEED: u64 = 1;
/// Readings of one journal record at most, as the collector gathers them.
pub const RECORD_ROWS: usize = 16_384;
/// The payload map that reads the simulated meters' messages.
const MAP: &str = "meterlake-json";

/// One size of input, made in memory.
#[derive(Debug)]
pub struct Input {
    /// The meters and the truth about them.
    pub simulation: Arc<Simulation>,
    /// Who they belong to.
    pub registry: Registry,
    /// The same as the collector sees it.
    pub directory: MeterDirectory,
    /// The map, alone.
    pub maps: Vec<PayloadMap>,
    /// Frames of a day of one meter each, 96 readings, day by day.
    pub messages: Vec<RawMessage>,
    /// The same readings, decoded, as journal records.
    pub records: Vec<Arc<ReadingBatch>>,
    /// First day.
    pub first_day: CivilDay,
    /// Day after the last.
    pub end_day: CivilDay,
    /// Readings of all messages.
    pub readings: u64,
}

impl Input {
    /// Makes the messages, decodes them, and checks every decoded value against what was sent.
    ///
    /// # Errors
    /// When a decoded reading is not the one that was sent.
    pub fn make(arguments: Arguments) -> anyhow::Result<Self> {
        let zone = Zone::utc();
        let first_day = CivilDay::new(2026, 1, 1)?;
        let end_day = first_day.plus_days(arguments.days);
        let mut plan = FleetPlan::new(SEED, zone.start_of_day(first_day), zone.start_of_day(end_day));
        plan.electricity_mqtt = arguments.meters;
        let simulation = Arc::new(Simulation::new(plan, Scenario::none())?);
        let registry = simulation.registry()?;
        let directory = registry.directory();
        let map = PayloadMap::shipped(MAP).with_context(|| format!("there is no payload map `{MAP}`"))?;
        let maps = vec![map];

        let source: Arc<str> = "bench/replay".into();
        let mut messages = Vec::new();
        let mut records = Vec::new();
        let mut record = ReadingBatch::default();
        let mut readings = 0;
        for sent in History::new(Arc::clone(&simulation), MessageForm::Frames) {
            let message = raw(&sent, &source)?;
            let mut batch = ReadingBatch::default();
            decode(&maps, &message, false, &directory, &mut batch);
            check(&sent, &batch)?;
            readings += sent.readings() as u64;
            record.electricity.append(batch.electricity);
            if record.reading_count() + sent.readings() > RECORD_ROWS {
                records.push(Arc::new(std::mem::take(&mut record)));
            }
            messages.push(message);
        }
        if record.reading_count() > 0 {
            records.push(Arc::new(record));
        }
        let expected = simulation.truth().expected().distinct;
        ensure!(readings == expected, "{expected} readings were to be sent, {readings} were");
        Ok(Self { simulation, registry, directory, maps, messages, records, first_day, end_day, readings })
    }

    /// Bytes of all payloads.
    pub fn payload_bytes(&self) -> u64 {
        self.messages.iter().map(|m| m.payload.len() as u64).sum()
    }

    /// Names of the columns that the meters send.
    pub fn channels(&self) -> Vec<&'static str> {
        let first = self.records.first();
        first.map(|batch| batch.electricity.columns().map(|(channel, _)| channel.name()).collect()).unwrap_or_default()
    }

    /// First instant of the history and the one after its last.
    pub fn instants(&self) -> (Timestamp, Timestamp) {
        let plan = self.simulation.plan();
        (plan.from, plan.to)
    }

    /// First instant of the month and the one after its last: a job derives months whole, however few days it has.
    pub fn month(&self) -> (Timestamp, Timestamp) {
        let zone = &self.simulation.plan().zone;
        (zone.start_of_day(self.first_day), zone.start_of_day(self.first_day.plus_months(1)))
    }
}

/// The message as the collector gets it, when its last reading has just been taken.
fn raw(sent: &Message, source: &Arc<str>) -> anyhow::Result<RawMessage> {
    let last = sent.rows.times.last().context("a frame without readings")?;
    Ok(RawMessage {
        source: Arc::clone(source),
        topic: Arc::clone(&sent.topic),
        payload: sent.payload.to_vec(),
        received_at_s: last.unix_seconds(),
    })
}

/// Whether a message became the rows that were sent, to the last digit.
fn check(sent: &Message, batch: &ReadingBatch) -> anyhow::Result<()> {
    let rows = &batch.electricity;
    let same = batch.dead_letters.is_empty()
        && rows.len() == sent.rows.len()
        && sent.rows.iter().enumerate().all(|(index, (ts, values))| {
            let header = &rows.headers()[index];
            let columns = sent.rows.channels.iter().zip(values);
            header.ts == ts
                && header.meter_id == sent.rows.meter_id
                && columns.into_iter().all(|(channel, value)| rows.value(index, *channel) == Some(*value))
        });
    ensure!(same, "a message of {} was not read as it was sent: {:?}", sent.topic, batch.dead_letters);
    Ok(())
}
