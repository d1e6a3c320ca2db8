//! The job `profiles`: slots to one profile a usage point, channel and civil month, with its rank in the peer class.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use meterlake_model::{Channel, CivilDay, Quality, Timestamp, UsagePointId};

use super::groups::{Group, Groups};
use super::run::{Output, Run, month_partition};
use super::{Job, JobError};
use crate::profiles::{Profile, SlotUse, profile};
use crate::tables;
use crate::tables::read::{Rows, amount_at, instant_at};

const SLOTS: &str = include_str!("../../sql/slots.sql");

/// A row of the table.
pub(crate) struct ProfileRow {
    pub(crate) usage_point_id: UsagePointId,
    pub(crate) channel: Channel,
    /// First day of the month.
    pub(crate) period: CivilDay,
    pub(crate) class: String,
    pub(crate) profile: Profile,
    /// 1 is who uses most of the class, with the number of them.
    pub(crate) rank: Option<(i32, i32)>,
}

/// Derives the civil months that the asked days touch.
pub(super) async fn derive(run: &Run<'_>) -> Result<Output, JobError> {
    let mut output = Output::default();
    run.needs("usage_spans", Job::Usage, &mut output)?;
    let months = civil_months(run.options.from, run.options.to);
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(output) };
    let range = span_of(run, *first, last.plus_months(1));
    let rows = run.stream_between(SLOTS, range).await?;
    let mut groups = Groups::new(rows, &["usage_point_id", "channel"]);
    let mut by_month: BTreeMap<CivilDay, Vec<ProfileRow>> = months.iter().map(|m| (*m, Vec::new())).collect();
    while let Some(group) = groups.next(run).await? {
        let [point, channel] = group.key.as_slice() else { continue };
        let (Some(point), Some(channel)) = (run.registry.usage_points.get(point.as_str()), Channel::by_name(channel))
        else {
            continue;
        };
        let slots = slots(&group).map_err(|e| run.failed(e))?;
        for (month, rows) in &mut by_month {
            let days = u16::try_from(month.plus_months(1).days_since(*month)).unwrap_or(31);
            let (from, to) = (point.zone.start_of_day(*month), point.zone.start_of_day(month.plus_months(1)));
            let begin = slots.partition_point(|s| s.start < from);
            let end = slots.partition_point(|s| s.start < to);
            let here = slots[begin..end].iter().copied();
            if begin == end {
                continue;
            }
            let (holidays, rules) = (&run.rules.holidays, &run.rules.profile);
            rows.push(ProfileRow {
                usage_point_id: point.id.clone(),
                channel,
                period: *month,
                class: point.class.clone(),
                profile: profile(here, &point.zone, *month, days, holidays, rules),
                rank: None,
            });
        }
    }
    output.rows_read += groups.rows_read;
    let spec = tables::profiles();
    let mut partitions = Vec::new();
    let (mut total, mut with_figures) = (0, 0);
    for (month, mut rows) in by_month {
        rank(&mut rows);
        total += rows.len();
        with_figures += rows.iter().filter(|r| r.profile.figures.is_some()).count();
        let batch = tables::write::profiles(&rows).map_err(|e| run.failed(e.into()))?;
        partitions.push((month_partition(&period_key(month)), vec![batch]));
    }
    run.replace(&mut output, &spec, partitions).await?;
    output.summary = format!(
        "{total} profiles, {with_figures} of them with key figures; {} of {} partitions changed",
        output.partitions_changed, output.partitions
    );
    Ok(output)
}

/// First days of the civil months that some days touch.
pub(super) fn civil_months(from: CivilDay, to: CivilDay) -> Vec<CivilDay> {
    let mut month = from.first_of_month();
    let mut months = Vec::new();
    while month < to {
        months.push(month);
        let next = month.plus_months(1);
        if next <= month {
            break;
        }
        month = next;
    }
    months
}

/// The instants between two days in the zones of all usage points.
pub(super) fn span_of(run: &Run<'_>, first: CivilDay, end: CivilDay) -> (Timestamp, Timestamp) {
    // No zone is more than 14 hours from UTC; a day more costs nothing.
    let utc = meterlake_model::Zone::utc();
    let points = &run.registry.usage_points;
    let from = points.values().map(|p| p.zone.start_of_day(first)).min();
    let to = points.values().map(|p| p.zone.start_of_day(end)).max();
    (from.unwrap_or_else(|| utc.start_of_day(first)), to.unwrap_or_else(|| utc.start_of_day(end)))
}

/// A month as `2026-11`.
pub(crate) fn period_key(month: CivilDay) -> String {
    format!("{:04}-{:02}", month.year(), month.month())
}

fn slots(group: &Group) -> Result<Vec<SlotUse>, DataFusionError> {
    let mut slots = Vec::new();
    for batch in &group.batches {
        let rows = Rows(batch);
        let (start, end, value) = (rows.time("start")?, rows.time("end")?, rows.amount("value")?);
        let quality = rows.text("quality")?;
        for row in 0..rows.len() {
            let actual = Quality::parse(quality.at(row)).is_some_and(Quality::feeds_history);
            if let Some(value) = amount_at(value, row)? {
                slots.push(SlotUse { start: instant_at(start, row)?, end: instant_at(end, row)?, value, actual });
            }
        }
    }
    Ok(slots)
}

/// Ranks by daily use among the points of the same class and channel; equal use has the better rank of both.
fn rank(rows: &mut [ProfileRow]) {
    let mut peers: BTreeMap<(String, Channel), Vec<f64>> = BTreeMap::new();
    for row in rows.iter() {
        if let Some(figures) = &row.profile.figures {
            peers.entry((row.class.clone(), row.channel)).or_default().push(figures.daily_use);
        }
    }
    for row in rows {
        let Some(figures) = &row.profile.figures else { continue };
        let Some(all) = peers.get(&(row.class.clone(), row.channel)) else { continue };
        let above = all.iter().filter(|use_| **use_ > figures.daily_use).count();
        let (rank, size) = (i32::try_from(above + 1), i32::try_from(all.len()));
        row.rank = rank.ok().zip(size.ok());
    }
}
