//! What new rows touch: derived from the rows themselves, by the commit that brought them.

use std::collections::{BTreeSet, HashMap};

use arrow::array::Array;
use meterlake_model::revision::FIRST_RE_DECODED;
use meterlake_model::{Channel, ChannelKind, Commodity, MeterId, Timestamp, UsagePointId};
use meterlake_store::schema::readings_name;

use super::super::JobError;
use super::super::derive::Outages;
use super::super::run::Run;
use crate::tables::read::{Rows, instant_at};

/// A row of an hour that the wall clock shows twice may move others of that hour.
const FOLD_S: i64 = 3 * 3600;

type ByMeter = HashMap<(MeterId, Channel), Timestamp>;

/// The earliest time that rows of commits after `commit_seq` touch, by usage point and channel.
pub(super) async fn since(
    run: &Run<'_>,
    commit_seq: i64,
    outages: &Outages,
) -> Result<HashMap<UsagePointId, Vec<(Channel, Timestamp)>>, JobError> {
    let channels = |installed: &meterlake_model::registry::Installation| {
        let of = installed.channels.iter().map(|c| c.channel).filter(|c| c.kind() != ChannelKind::Physical);
        of.collect::<Vec<_>>()
    };
    let all: BTreeSet<Channel> = run.registry.installations.iter().flat_map(channels).collect();
    let mut by_meter = ByMeter::new();
    let mut outages_of = HashMap::new();
    for commodity in Commodity::ALL {
        let of: Vec<Channel> = all.iter().copied().filter(|c| c.commodity() == commodity).collect();
        if !of.is_empty() && run.has(readings_name(commodity)) {
            readings(run, (commodity, &of), commit_seq, &mut by_meter).await?;
        }
    }
    if run.has("meter_events") {
        outages_of = events(run, commit_seq, outages).await?;
    }
    let mut by_point: HashMap<UsagePointId, Vec<(Channel, Timestamp)>> = HashMap::new();
    // Where one meter was without supply, so was all that hangs there.
    let mut dark: HashMap<&UsagePointId, Timestamp> = HashMap::new();
    for installation in &run.registry.installations {
        if let Some(ts) = outages_of.get(&installation.meter_id) {
            dark.entry(&installation.usage_point_id).and_modify(|t| *t = (*t).min(*ts)).or_insert(*ts);
        }
    }
    for installation in &run.registry.installations {
        if let Some(ts) = dark.get(&installation.usage_point_id) {
            let of = channels(installation).into_iter().map(|channel| (channel, *ts));
            by_point.entry(installation.usage_point_id.clone()).or_default().extend(of);
        }
        for channel in channels(installation) {
            if let Some(ts) = by_meter.get(&(installation.meter_id.clone(), channel)) {
                by_point.entry(installation.usage_point_id.clone()).or_default().push((channel, *ts));
            }
        }
    }
    Ok(by_point)
}

fn mark(by_meter: &mut ByMeter, meter: &MeterId, channel: Channel, ts: Timestamp) {
    by_meter.entry((meter.clone(), channel)).and_modify(|t| *t = (*t).min(ts)).or_insert(ts);
}

async fn readings(
    run: &Run<'_>,
    (commodity, channels): (Commodity, &[Channel]),
    commit_seq: i64,
    by_meter: &mut ByMeter,
) -> Result<(), JobError> {
    // What was decoded again may have taken values away.
    let touches = |c: &Channel| format!("{c} IS NOT NULL OR revision >= {FIRST_RE_DECODED}");
    let firsts: Vec<String> =
        channels.iter().map(|c| format!("min(CASE WHEN {} THEN ts END) AS {c}", touches(c))).collect();
    let table = readings_name(commodity);
    let newer = format!(
        "SELECT meter_id, {} FROM {table} WHERE commit_seq > {commit_seq} GROUP BY meter_id",
        firsts.join(", ")
    );
    let mut rows = run.stream(&newer).await?;
    while let Some(batch) = run.next(&mut rows).await? {
        let rows = Rows(&batch);
        let meter_id = rows.text("meter_id").map_err(|e| run.failed(e))?;
        for channel in channels {
            let ts = rows.time(channel.name()).map_err(|e| run.failed(e))?;
            for row in (0..rows.len()).filter(|row| ts.is_valid(*row)) {
                // What has no valid name has no installation either.
                let Ok(meter) = MeterId::new(meter_id.at(row)) else { continue };
                let first = instant_at(ts, row).map_err(|e| run.failed(e))?;
                mark(by_meter, &meter, *channel, first.plus_seconds(-FOLD_S));
            }
        }
    }
    Ok(())
}

/// The earliest time that new events touch, by meter.
async fn events(run: &Run<'_>, commit_seq: i64, outages: &Outages) -> Result<HashMap<MeterId, Timestamp>, JobError> {
    let mut earliest = HashMap::new();
    let newer = format!(
        "SELECT meter_id, min(ts) AS ts FROM meter_events
         WHERE commit_seq > {commit_seq} AND event IN ('last_gasp', 'restoration') GROUP BY meter_id"
    );
    let mut rows = run.stream(&newer).await?;
    while let Some(batch) = run.next(&mut rows).await? {
        let rows = Rows(&batch);
        let (meter_id, ts) = (rows.text("meter_id"), rows.time("ts"));
        let (meter_id, ts) = (meter_id.map_err(|e| run.failed(e))?, ts.map_err(|e| run.failed(e))?);
        for row in 0..rows.len() {
            let Ok(meter) = MeterId::new(meter_id.at(row)) else { continue };
            let ts = instant_at(ts, row).map_err(|e| run.failed(e))?;
            // An event changes the outage that it begins or ends.
            let touched = outages.get(&meter).into_iter().flatten().filter(|(_, end)| *end >= ts);
            let from = touched.map(|(start, _)| *start).min().map_or(ts, |start| start.min(ts));
            earliest.insert(meter, from);
        }
    }
    Ok(earliest)
}
