//! The job `completeness`: when readings came to what was expected of each meter and civil day, and why the rest is
//! missing.
//!
//! Each civil month is derived by itself and replaced whole. A month reads the readings of the month and of the one
//! before, which tell what a meter that is silent reported through, and whether one without a date of installation was
//! there already.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use meterlake_model::registry::{Installation, Meter};
use meterlake_model::{CivilDay, Commodity, ReadingFlags, Timestamp};
use meterlake_store::schema::readings_name;
use meterlake_store::{DataFile, StoreError};

use super::JobError;
use super::groups::{Group, Groups};
use super::profiles::{civil_months, period_key, span_of};
use super::run::{Output, Run, month_partition};
use crate::completeness::cause::{self, Evidence};
use crate::completeness::count::{Arrival, DayInput};
use crate::completeness::{IntervalFrom, MeterDay, clock, steps};
use crate::tables;
use crate::tables::read::{Rows, instant_at};

const ELECTRICITY: &str = include_str!("../../sql/electricity_arrivals.sql");
const WATER: &str = include_str!("../../sql/water_arrivals.sql");
const LETTERS: &str = include_str!("../../sql/letters.sql");

/// A month and a day: so long before the month the readings are read, too.
const LOOKBACK_S: i64 = 32 * 86_400;
/// Readings on the day after the month may belong to its last minutes, and dead letters, too.
const LOOKAHEAD_S: i64 = 86_400;

/// Derives the civil months that the asked days touch.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    let horizon_s = horizon(run).await?;
    let meters = meters(run);
    let spec = tables::completeness();
    let (mut rows, mut expected, mut missing) = (0, 0_i64, 0_i64);
    for month in civil_months(run.options.from, run.options.to) {
        let mut walk = Month::new(run, month);
        if let Some(horizon_s) = horizon_s {
            walk.read(&meters, horizon_s, &mut output).await?;
        }
        let (days, evidence) = walk.finish();
        rows += days.len();
        expected += days.iter().map(|day| i64::from(day.count.expected.len())).sum::<i64>();
        missing += days.iter().map(|day| i64::from(day.count.missing.len())).sum::<i64>();
        let batch = tables::write::completeness(&days, &evidence).map_err(|e| run.failed(e.into()))?;
        let partition = (month_partition(&period_key(month)), vec![batch]);
        run.replace(&mut output, &spec, vec![partition]).await?;
    }
    output.summary = format!(
        "{rows} meter days, {missing} of {expected} readings missing; {} of {} partitions changed",
        output.partitions_changed, output.partitions
    );
    Ok(output)
}

/// The newest arrival of any reading up to the pin, in seconds since 1970; `None` when nothing ever arrived.
pub(super) async fn horizon(run: &Run<'_>) -> Result<Option<i64>, JobError> {
    let mut newest = None;
    for commodity in Commodity::ALL {
        let table = readings_name(commodity);
        let files = match run.lake.snapshot(table).await {
            Ok(snapshot) => snapshot.files,
            Err(StoreError::NoTable(_)) => continue,
            Err(e) => return Err(e.into()),
        };
        let up_to_pin = files.iter().filter(|file| !is_after(file, run.commit_seq));
        let told: Option<Vec<i64>> = up_to_pin.map(|file| newest_arrival(file, run.commit_seq)).collect();
        let micros = match told {
            Some(told) => told.into_iter().max(),
            // A file of which only some rows are up to the pin, or whose statistics nobody vouches for.
            None => ask_newest(run, table).await?,
        };
        newest = newest.max(micros);
    }
    Ok(newest.map(|micros| micros.div_euclid(1_000_000)))
}

fn is_after(file: &DataFile, pin: i64) -> bool {
    matches!(file.min("commit_seq"), Some(ScalarValue::Int64(Some(first))) if *first > pin)
}

/// In microseconds, when the file's statistics tell and all of its rows count.
fn newest_arrival(file: &DataFile, pin: i64) -> Option<i64> {
    match (file.max("commit_seq"), file.max("received_at")) {
        (Some(ScalarValue::Int64(Some(last))), Some(ScalarValue::TimestampMicrosecond(Some(micros), _)))
            if *last <= pin =>
        {
            Some(*micros)
        }
        _ => None,
    }
}

async fn ask_newest(run: &Run<'_>, table: &str) -> Result<Option<i64>, JobError> {
    if run.session().table_exist(table).map_err(|e| run.failed(e))? {
        let mut rows = run.stream(&format!("SELECT max(received_at) AS received_at FROM {table}")).await?;
        while let Some(batch) = run.next(&mut rows).await? {
            let column = Rows(&batch).time("received_at").map_err(|e| run.failed(e))?;
            if let Some(micros) = column.iter().flatten().max() {
                return Ok(Some(micros));
            }
        }
    }
    Ok(None)
}

/// A meter that somebody installed.
struct Known<'a> {
    meter: &'a Meter,
    /// In order of time; at least one.
    installations: Vec<&'a Installation>,
}

fn meters<'a>(run: &'a Run<'_>) -> BTreeMap<&'a str, Known<'a>> {
    let mut meters: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for installation in &run.registry.installations {
        let Some(meter) = run.registry.meters.get(&installation.meter_id) else { continue };
        let known = || Known { meter, installations: Vec::new() };
        meters.entry(meter.id.as_str()).or_insert_with(known).installations.push(installation);
    }
    for known in meters.values_mut() {
        known.installations.sort_by_key(|i| i.installed_at);
    }
    meters
}

/// What one meter said in the months that are read.
#[derive(Default)]
struct Heard {
    /// In order of time, each time once.
    arrivals: Vec<Arrival>,
    /// From when on it reported through which source.
    sources: Vec<(Timestamp, u32)>,
}

impl Heard {
    /// What the meter reported through last, as seen before an instant; else what it did first.
    fn source_before(&self, ts: Timestamp) -> Option<u32> {
        let known = self.sources.partition_point(|(from, _)| *from < ts).saturating_sub(1);
        self.sources.get(known).map(|(_, source)| *source)
    }
}

/// One civil month on its way into the table.
struct Month<'a> {
    run: &'a Run<'a>,
    month: CivilDay,
    /// What is read.
    range: (Timestamp, Timestamp),
    evidence: Evidence,
    days: Vec<MeterDay>,
}

impl<'a> Month<'a> {
    fn new(run: &'a Run<'a>, month: CivilDay) -> Self {
        let (from, to) = span_of(run, month, month.plus_months(1));
        let range = (from.plus_seconds(-LOOKBACK_S), to.plus_seconds(LOOKAHEAD_S));
        Self { run, month, range, evidence: Evidence::new(range.0), days: Vec::new() }
    }

    async fn read(
        &mut self,
        meters: &BTreeMap<&str, Known<'_>>,
        horizon_s: i64,
        output: &mut Output,
    ) -> Result<(), JobError> {
        let run = self.run;
        for (commodity, sql) in [(Commodity::Electricity, ELECTRICITY), (Commodity::Water, WATER)] {
            let mut silent: BTreeSet<&str> =
                meters.values().filter(|k| k.meter.commodity == commodity).map(|k| k.meter.id.as_str()).collect();
            if run.reads(readings_name(commodity), output).is_some() {
                let mut groups = Groups::new(run.stream_between(sql, self.range).await?, &["meter_id"]);
                while let Some(group) = groups.next(run).await? {
                    let heard = self.hear(&group).map_err(|e| run.failed(e))?;
                    let Some(id) = group.key.first().map(String::as_str) else { continue };
                    if silent.remove(id)
                        && let Some(known) = meters.get(id)
                    {
                        self.add(known, &heard, horizon_s);
                    }
                }
                output.rows_read += groups.rows_read;
            }
            for known in silent.into_iter().filter_map(|id| meters.get(id)) {
                self.add(known, &Heard::default(), horizon_s);
            }
        }
        self.letters(output).await
    }

    fn hear(&mut self, group: &Group) -> Result<Heard, DataFusionError> {
        let mut heard = Heard::default();
        let mut last_source = String::new();
        for batch in &group.batches {
            let rows = Rows(batch);
            let (ts, received_at) = (rows.time("ts")?, rows.time("received_at")?);
            let (source, flags) = (rows.text("source")?, rows.int("flags")?);
            for row in 0..rows.len() {
                let ts = instant_at(ts, row)?;
                let received_at_s = received_at.value(row).div_euclid(1_000_000);
                self.evidence.arrived(received_at_s);
                let name = source.at(row);
                if heard.sources.is_empty() || name != last_source {
                    heard.sources.push((ts, self.evidence.sources.number(name)));
                    name.clone_into(&mut last_source);
                }
                let flags = ReadingFlags::from_bits(flags.value(row).cast_unsigned());
                match heard.arrivals.last_mut() {
                    // Another revision of the same reading: it came when its first came.
                    Some(known) if known.ts == ts => known.received_at_s = known.received_at_s.min(received_at_s),
                    _ => heard.arrivals.push(Arrival { ts, received_at_s, flags }),
                }
            }
        }
        Ok(heard)
    }

    /// Counts a meter's days.
    fn add(&mut self, known: &Known<'_>, heard: &Heard, horizon_s: i64) {
        let run = self.run;
        let rules = &run.rules.completeness;
        let gateway = known.meter.gateway_id.as_ref().map(|id| self.evidence.gateways.number(id.as_str()));
        let last_point = known.installations.last().and_then(|i| run.registry.usage_points.get(&i.usage_point_id));
        let Some(zone) = last_point.map(|point| &point.zone) else { return };
        // An installation without dates reaches from the first reading on, and where there is none, over all.
        let first = heard.arrivals.first().map_or(self.range.0, |r| r.ts);
        let end_of_time = self.range.1.plus_seconds(LOOKAHEAD_S);
        let span = |i: &Installation| (i.installed_at.unwrap_or(first), i.removed_at.unwrap_or(end_of_time));
        let own_step = steps::median_step_s(heard.arrivals.iter().map(|r| r.ts));
        let (mut day, end_day) = (self.month, self.month.plus_months(1));
        while day < end_day {
            let (this, next) = (day, day.plus_days(1));
            let (start, end) = (zone.start_of_day(this), zone.start_of_day(next));
            day = next;
            let here = known.installations.iter().filter(|i| {
                let (from, to) = span(i);
                from < end && start < to
            });
            let here: Vec<&Installation> = here.copied().collect();
            let Some(point) = here.last().and_then(|i| run.registry.usage_points.get(&i.usage_point_id)) else {
                continue;
            };
            let (interval_s, interval_from) = interval(&here, own_step, known.meter.commodity);
            let installed: Vec<_> = here.iter().map(|i| span(i)).collect();
            let input = DayInput {
                start,
                end,
                interval_s,
                installed: &installed,
                readings: &heard.arrivals,
                horizon_s,
                late_after_s: rules.late_after_s,
            };
            let count = input.count();
            if count.expected.is_empty() && count.readings == 0 {
                continue;
            }
            self.days.push(MeterDay {
                meter_id: known.meter.id.clone(),
                day: this,
                start,
                end,
                usage_point_id: point.id.clone(),
                node_id: point.node_id.clone(),
                commodity: known.meter.commodity,
                gateway,
                source: heard.source_before(end),
                interval_s,
                interval_from,
                clock: clock::estimate(input.of_day(), interval_s),
                count,
                cause: None,
            });
        }
    }

    /// What came and could not be read, by the meters and gateways that its topic names.
    async fn letters(&mut self, output: &mut Output) -> Result<(), JobError> {
        let run = self.run;
        if run.reads("dead_letters", output).is_none() {
            return Ok(());
        }
        let mut rows = run.stream_between(LETTERS, self.range).await?;
        while let Some(batch) = run.next(&mut rows).await? {
            output.rows_read += batch.num_rows() as u64;
            let mut take = || {
                let rows = Rows(&batch);
                let (topic, reason) = (rows.text("topic")?, rows.text("reason")?);
                let received_at = rows.time("received_at")?;
                for row in 0..rows.len() {
                    let at_s = received_at.value(row).div_euclid(1_000_000);
                    self.evidence.arrived(at_s);
                    let names = topic.at(row).split('/').filter(|level| is_subject(run, &self.evidence, level));
                    let names: Vec<&str> = names.collect();
                    for name in names {
                        self.evidence.add_letter(name, at_s, reason.at(row));
                    }
                }
                Ok::<_, DataFusionError>(())
            };
            take().map_err(|e| run.failed(e))?;
        }
        Ok(())
    }

    /// The rows in their order, each with the cause of what is missing.
    fn finish(mut self) -> (Vec<MeterDay>, Evidence) {
        adopt_sources(&mut self.days);
        self.days.sort_by(|a, b| (a.day, &a.meter_id).cmp(&(b.day, &b.meter_id)));
        cause::assign(&mut self.days, &self.evidence, &self.run.rules.completeness);
        (self.days, self.evidence)
    }
}

/// Whether a level of a topic names a meter or gateway of the registry.
fn is_subject(run: &Run<'_>, evidence: &Evidence, level: &str) -> bool {
    run.registry.meters.contains_key(level) || evidence.gateways.is_known(level)
}

/// Seconds between readings of what hangs there, and how that is known.
fn interval(here: &[&Installation], own_step: Option<i64>, commodity: Commodity) -> (i64, IntervalFrom) {
    let channels = || here.iter().flat_map(|i| &i.channels);
    let stated = channels().filter(|c| !c.interval_assumed).map(|c| c.interval_s).min();
    let usual = if commodity == Commodity::Water { 3600 } else { 900 };
    match (stated, own_step) {
        (Some(stated), _) => (stated.max(1), IntervalFrom::Registry),
        (None, Some(own)) => (own.max(1), IntervalFrom::Estimated),
        (None, None) => (channels().map(|c| c.interval_s).min().unwrap_or(usual).max(1), IntervalFrom::Usual),
    }
}

/// A meter that nobody heard reports through what most meters of its gateway do.
fn adopt_sources(days: &mut [MeterDay]) {
    let mut of_gateway: HashMap<u32, BTreeMap<u32, usize>> = HashMap::new();
    for day in days.iter() {
        if let (Some(gateway), Some(source)) = (day.gateway, day.source) {
            *of_gateway.entry(gateway).or_default().entry(source).or_default() += 1;
        }
    }
    let most = |counts: BTreeMap<u32, usize>| counts.into_iter().rev().max_by_key(|(_, count)| *count);
    let of_gateway: HashMap<u32, u32> =
        of_gateway.into_iter().filter_map(|(gateway, counts)| Some((gateway, most(counts)?.0))).collect();
    for day in days.iter_mut().filter(|day| day.source.is_none()) {
        day.source = day.gateway.and_then(|gateway| of_gateway.get(&gateway).copied());
    }
}
