//! The job `alerts`: water by slot to leaks, voltages to undervoltage, and both to `alerts` and `alert_events`.
//!
//! Every point is walked from its first slot to the pin, so an alert does not depend on the days that were asked for;
//! they say which partitions are written: their own months, and those in which an alert began that reaches into them.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::error::DataFusionError;
use meterlake_model::registry::{Installation, UsagePoint};
use meterlake_model::{Amount, Commodity, MeterId, NodeId, Quality, Timestamp, Zone, month_key};
use meterlake_store::PartitionKey;
use meterlake_store::schema::readings_name;

use super::groups::{Group, Groups};
use super::run::{Output, Run, month_partition};
use super::{Job, JobError};
use crate::alerts::leak::{self, HourUse, LeakVariant};
use crate::alerts::undervoltage::{self, VoltageReading};
use crate::alerts::{Alert, Episode, Rule, alert_id, incident};
use crate::tables;
use crate::tables::read::{Rows, amount_at, instant_at, scaled_at};

const HOURS: &str = include_str!("../../sql/hours.sql");
const VOLTAGES: &str = include_str!("../../sql/voltages.sql");

/// Finds all alerts and writes the partitions that the asked days touch.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    let mut alerts = leaks(run, &mut output).await?;
    alerts.extend(voltages(run, &mut output).await?);
    alerts.sort_by(|a, b| (a.episode.start, &a.id).cmp(&(b.episode.start, &b.id)));
    write(run, &mut output, &alerts).await?;
    Ok(output)
}

async fn leaks(run: &Run<'_>, output: &mut Output) -> Result<Vec<Alert>, JobError> {
    let mut alerts = Vec::new();
    let waters = run.registry.usage_points.values().any(|p| p.commodity == Commodity::Water);
    if !waters {
        return Ok(alerts);
    }
    run.needs("usage_spans", Job::Usage, output)?;
    let mut groups = Groups::new(run.stream(HOURS).await?, &["usage_point_id", "channel"]);
    let mut last = String::new();
    while let Some(group) = groups.next(run).await? {
        let [point, _] = group.key.as_slice() else { continue };
        // Intervals sort before the register and are finer; a point's second channel says the same again.
        let repeated = *point == last;
        point.clone_into(&mut last);
        let Some(point) = run.registry.usage_points.get(point.as_str()) else { continue };
        if repeated || point.continuous_use {
            continue;
        }
        let (hours, meters) = hours(&group, &point.zone).map_err(|e| run.failed(e))?;
        let found = match run.rules.leak.variant {
            LeakVariant::SlidingDay => leak::find(hours, &run.rules.leak),
            LeakVariant::CalendarDay => leak::find_days(hours, &point.zone, &run.rules.leak),
        };
        for episode in found {
            let meter = meters.range(..=episode.start).next_back().map(|(_, meter)| meter.clone());
            alerts.push(alert_at(point, meter, episode));
        }
    }
    output.rows_read += groups.rows_read;
    Ok(alerts)
}

type MetersByTime = BTreeMap<Timestamp, MeterId>;

/// Slots of at most an hour, added up to hours of the wall clock; an hour is actual when all of it is.
fn hours(group: &Group, zone: &Zone) -> Result<(Vec<HourUse>, MetersByTime), DataFusionError> {
    const HOUR_US: i64 = 3_600_000_000;
    let mut hours: Vec<(HourUse, i64)> = Vec::new();
    let mut meters = MetersByTime::new();
    for batch in &group.batches {
        let rows = Rows(batch);
        let (start, end, value) = (rows.time("start")?, rows.time("end")?, rows.amount("value")?);
        let (quality, meter_id) = (rows.text("quality")?, rows.text("meter_id")?);
        for row in 0..rows.len() {
            let (start, end) = (instant_at(start, row)?, instant_at(end, row)?);
            let length = end.micros_since(start);
            if length > HOUR_US {
                continue;
            }
            let meter = meter_id.at(row);
            if meters.last_key_value().is_none_or(|(_, m)| m.as_str() != meter) {
                meters.extend(MeterId::new(meter).ok().map(|m| (start, m)));
            }
            let read = Quality::parse(quality.at(row)).is_some_and(Quality::feeds_history);
            let value = amount_at(value, row)?.filter(|_| read);
            let first = hour_start(start, length, zone);
            if hours.last().is_none_or(|(hour, _)| hour.start != first) {
                hours.push((HourUse { start: first, volume: Amount::ZERO, actual: false }, 0));
            }
            let Some((hour, covered)) = hours.last_mut() else { continue };
            let Some(value) = value else { continue };
            hour.volume = hour.volume.checked_add(value).unwrap_or(hour.volume);
            *covered += length;
            hour.actual = *covered >= HOUR_US;
        }
    }
    Ok((hours.into_iter().map(|(hour, _)| hour).collect(), meters))
}

/// The full hour of the wall clock that a slot begins in.
fn hour_start(start: Timestamp, length_us: i64, zone: &Zone) -> Timestamp {
    if length_us == 3_600_000_000 {
        return start;
    }
    let minutes = i64::from(zone.minute_of_day(start) % 60);
    let seconds = start.unix_seconds().rem_euclid(60);
    start.plus_seconds(-minutes * 60 - seconds)
}

async fn voltages(run: &Run<'_>, output: &mut Output) -> Result<Vec<Alert>, JobError> {
    let mut alerts = Vec::new();
    if run.reads(readings_name(Commodity::Electricity), output).is_none() {
        return Ok(alerts);
    }
    let mut installed: BTreeMap<&str, Vec<&Installation>> = BTreeMap::new();
    for installation in &run.registry.installations {
        installed.entry(installation.meter_id.as_str()).or_default().push(installation);
    }
    let mut groups = Groups::new(run.stream(VOLTAGES).await?, &["meter_id"]);
    while let Some(group) = groups.next(run).await? {
        let Some(places) = group.key.first().and_then(|id| installed.get(id.as_str())) else { continue };
        let readings = voltage_readings(&group).map_err(|e| run.failed(e))?;
        for installation in places {
            let Some(point) = run.registry.usage_points.get(&installation.usage_point_id) else { continue };
            let here = readings.iter().copied().filter(|r| installation.covers(r.ts));
            let interval_s = installation.channels.iter().map(|c| c.interval_s).min().unwrap_or(900);
            let found = undervoltage::find(here, point.nominal_voltage_dv, interval_s, &run.rules.voltage);
            let meter = Some(&installation.meter_id);
            alerts.extend(found.into_iter().map(|episode| alert_at(point, meter.cloned(), episode)));
        }
    }
    output.rows_read += groups.rows_read;
    let incidents = incidents(run, &mut alerts);
    alerts.extend(incidents);
    Ok(alerts)
}

fn voltage_readings(group: &Group) -> Result<Vec<VoltageReading>, DataFusionError> {
    let mut readings = Vec::new();
    for batch in &group.batches {
        let rows = Rows(batch);
        let ts = rows.time("ts")?;
        let phases = ["voltage_l1_v", "voltage_l2_v", "voltage_l3_v"].map(|name| rows.amount(name));
        let [l1, l2, l3] = phases;
        let (l1, l2, l3) = (l1?, l2?, l3?);
        for row in 0..rows.len() {
            let phases_dv = [scaled_at(l1, row)?, scaled_at(l2, row)?, scaled_at(l3, row)?];
            readings.push(VoltageReading { ts: instant_at(ts, row)?, phases_dv });
        }
    }
    Ok(readings)
}

fn alert_at(point: &UsagePoint, meter_id: Option<MeterId>, episode: Episode) -> Alert {
    Alert {
        id: alert_id(episode.rule, point.id.as_str(), episode.start),
        usage_point_id: Some(point.id.clone()),
        meter_id,
        node_id: point.node_id.clone(),
        place: point.place.clone(),
        group_id: None,
        episode,
    }
}

/// Incidents of each transformer; their members learn to which they belong.
fn incidents(run: &Run<'_>, alerts: &mut [Alert]) -> Vec<Alert> {
    let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (index, alert) in alerts.iter().enumerate().filter(|(_, a)| a.episode.rule == Rule::Undervoltage) {
        if let Some(node) = &alert.node_id {
            by_node.entry(node.clone()).or_default().push(index);
        }
    }
    let mut found = Vec::new();
    for (node, indexes) in by_node {
        let fed = |p: &&UsagePoint| p.commodity == Commodity::Electricity && p.node_id.as_ref() == Some(&node);
        let meters = run.registry.usage_points.values().filter(fed).count();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let episodes: Vec<(usize, &Episode)> = indexes
            .iter()
            .map(|i| {
                let next = numbers.len();
                (*numbers.entry(alerts[*i].subject()).or_insert(next), &alerts[*i].episode)
            })
            .collect();
        let groups = incident::group(&episodes, meters, &run.rules.voltage);
        for incident::Incident { episode, members } in groups {
            let id = alert_id(episode.rule, node.as_str(), episode.start);
            for member in members {
                alerts[indexes[member]].group_id = Some(id.clone());
            }
            let name = run.registry.network.get(&node).map_or_else(String::new, |n| n.name.clone());
            found.push(Alert {
                id,
                episode,
                usage_point_id: None,
                meter_id: None,
                node_id: Some(node.clone()),
                place: name,
                group_id: None,
            });
        }
    }
    found
}

async fn write(run: &Run<'_>, output: &mut Output, alerts: &[Alert]) -> Result<(), JobError> {
    let (from, to) = run.instants();
    let mut months: BTreeSet<String> = run.months().into_iter().map(|m| m.key).collect();
    let reaches = |a: &&Alert| a.episode.start < to && a.episode.end.is_none_or(|end| end >= from);
    months.extend(alerts.iter().filter(reaches).map(|a| month_key(a.episode.start)));
    let (alert_spec, event_spec) = (tables::alerts(), tables::alert_events());
    let (mut alert_parts, mut event_parts) = (Vec::new(), Vec::new());
    let (mut open, mut total) = (0_usize, 0_usize);
    for month in &months {
        let here: Vec<&Alert> = alerts.iter().filter(|a| month_key(a.episode.start) == *month).collect();
        total += here.len();
        open += here.iter().filter(|a| a.episode.end.is_none()).count();
        let rows = tables::write::alerts(&here).map_err(|e| run.failed(e.into()))?;
        alert_parts.push((month_partition(month), vec![rows]));
        let rows = tables::write::machine_steps(&here).map_err(|e| run.failed(e.into()))?;
        event_parts.push((PartitionKey::new(["machine", month.as_str()]), vec![rows]));
    }
    run.replace(output, &alert_spec, alert_parts).await?;
    run.replace(output, &event_spec, event_parts).await?;
    output.summary = format!(
        "{total} alerts, {open} of them open; {} of {} partitions changed",
        output.partitions_changed, output.partitions
    );
    Ok(())
}
