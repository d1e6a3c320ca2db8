//! Which parts of the network are in storm mode, as the readings up to the pin tell: a rerun finds the same.
//!
//! Looked at are the hours of the days that make out what is usual, the days for which estimates wait, and one more. Memory
//! holds two numbers a part of the network and hour.

use std::collections::{BTreeMap, HashMap};

use meterlake_model::registry::Installation;
use meterlake_model::{ChannelKind, Commodity, NodeId, Timestamp};
use meterlake_store::schema::readings_name;

use super::super::JobError;
use super::super::completeness::horizon;
use super::super::derive::{Suspensions, above};
use super::super::run::Run;
use crate::tables::read::{Rows, instant_at};
use crate::usage::storm::{Hour, suspended};

const HOUR_S: i64 = 3_600;

/// From when on estimates wait, by part of the network. Empty unless the rules ask for it.
pub(in crate::jobs) async fn suspensions(run: &Run<'_>) -> Result<Suspensions, JobError> {
    let rules = &run.rules.fills.storm;
    let mut found = Suspensions::new();
    if !rules.enabled {
        return Ok(found);
    }
    let Some(horizon_s) = horizon(run).await? else { return Ok(found) };
    let hours = rules.usual_hours + rules.release_hours + 24;
    // An hour whose readings may still be on their way says nothing.
    let end = (horizon_s - run.rules.completeness.late_after_s).div_euclid(HOUR_S);
    let begin = end - i64::try_from(hours).unwrap_or(0);
    let time = |hour: i64| Timestamp::from_unix_seconds(hour * HOUR_S).ok();
    let Some(range) = time(begin).zip(time(end)) else { return Ok(found) };
    let mut heard = Heard { begin, hours, areas: BTreeMap::new() };
    let mut meters: HashMap<&str, Vec<&Installation>> = HashMap::new();
    for installation in run.registry.installations.iter().filter(|i| reports_hourly(i)) {
        heard.hung(run, installation);
        meters.entry(installation.meter_id.as_str()).or_default().push(installation);
    }
    for commodity in Commodity::ALL {
        let table = readings_name(commodity);
        if !run.has(table) {
            continue;
        }
        let sql = format!("SELECT meter_id, ts FROM {table} WHERE ts >= $from AND ts < $to ORDER BY meter_id, ts");
        let mut rows = run.stream_between(&sql, range).await?;
        let mut last = (String::new(), i64::MIN);
        while let Some(batch) = run.next(&mut rows).await? {
            let rows = Rows(&batch);
            let (meter_id, ts) = (rows.text("meter_id"), rows.time("ts"));
            let (meter_id, ts) = (meter_id.map_err(|e| run.failed(e))?, ts.map_err(|e| run.failed(e))?);
            for row in 0..rows.len() {
                let at = instant_at(ts, row).map_err(|e| run.failed(e))?;
                let hour = at.unix_seconds().div_euclid(HOUR_S);
                if last.1 == hour && last.0 == meter_id.at(row) {
                    continue;
                }
                if last.0 != meter_id.at(row) {
                    meter_id.at(row).clone_into(&mut last.0);
                }
                last.1 = hour;
                let mut places = meters.get(last.0.as_str()).into_iter().flatten();
                if let Some(place) = places.find(|i| i.covers(at)) {
                    heard.said(run, place, hour);
                }
            }
        }
    }
    for (node, hours) in heard.areas {
        let Some(storm) = suspended(hours.iter().copied(), rules) else { continue };
        let Some(since) = i64::try_from(storm.since).ok().and_then(|at| time(begin + at)) else { continue };
        tracing::warn!(
            area = node.as_str(),
            %since,
            usual_percent = storm.usual_ppm / 10_000,
            now_percent = storm.now_ppm / 10_000,
            meters = storm.meters,
            "nothing is estimated there: too many meters are silent at once"
        );
        found.insert(node.clone(), since);
    }
    Ok(found)
}

/// Whether silence of an hour says anything.
fn reports_hourly(installation: &Installation) -> bool {
    let mut channels = installation.channels.iter().filter(|c| c.channel.kind() != ChannelKind::Physical);
    !installation.is_check && channels.any(|c| c.interval_s <= HOUR_S)
}

/// Hours by part of the network.
struct Heard<'r> {
    begin: i64,
    hours: usize,
    areas: BTreeMap<&'r NodeId, Vec<Hour>>,
}

impl<'r> Heard<'r> {
    /// A meter hung there in the hours that its installation covers.
    fn hung(&mut self, run: &'r Run<'_>, installation: &Installation) {
        let Some(point) = run.registry.usage_points.get(&installation.usage_point_id) else { return };
        let end = self.begin + i64::try_from(self.hours).unwrap_or(0);
        // A meter counts in the hours that it hung there whole.
        let from =
            installation.installed_at.map_or(self.begin, |at| (at.unix_seconds() + HOUR_S - 1).div_euclid(HOUR_S));
        let to = installation.removed_at.map_or(end, |at| at.unix_seconds().div_euclid(HOUR_S));
        for node in above(&run.registry, point) {
            let hours = self.hours;
            let area = self.areas.entry(node).or_insert_with(|| vec![Hour::default(); hours]);
            for hour in from.max(self.begin)..to.min(end) {
                if let Some(hour) = usize::try_from(hour - self.begin).ok().and_then(|at| area.get_mut(at)) {
                    hour.meters += 1;
                }
            }
        }
    }

    fn said(&mut self, run: &'r Run<'_>, installation: &Installation, hour: i64) {
        let Some(point) = run.registry.usage_points.get(&installation.usage_point_id) else { return };
        let Ok(at) = usize::try_from(hour - self.begin) else { return };
        for node in above(&run.registry, point) {
            if let Some(hour) = self.areas.get_mut(node).and_then(|hours| hours.get_mut(at)) {
                hour.reporting = (hour.reporting + 1).min(hour.meters);
            }
        }
    }
}

/// Where estimates began or ceased to wait between two runs, and from when on.
pub(super) fn changed(before: &Suspensions, now: &Suspensions) -> Suspensions {
    let nodes = before.keys().chain(now.keys());
    let of = |node: &NodeId| match (before.get(node), now.get(node)) {
        (a, b) if a == b => None,
        (a, b) => a.into_iter().chain(b).min().copied(),
    };
    nodes.filter_map(|node| Some((node.clone(), of(node)?))).collect()
}

/// The parts of the network in words, after a summary.
pub(super) fn told(suspended: &Suspensions) -> String {
    let parts: Vec<String> = suspended.iter().take(5).map(|(node, since)| format!("{node} since {since}")).collect();
    let more = suspended.len().saturating_sub(parts.len());
    match (parts.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; nothing is estimated in {}", parts.join(", ")),
        (false, more) => format!("; nothing is estimated in {} and {more} more", parts.join(", ")),
    }
}
