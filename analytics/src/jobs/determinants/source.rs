//! Rows of usage points out of a sorted query, taken as the points come.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use meterlake_model::{Amount, Channel, Method, Quality, Timestamp};

use super::walked::Walked;
use crate::jobs::JobError;
use crate::jobs::groups::{Group, Groups};
use crate::jobs::run::Run;
use crate::tables::read::{Rows, amount_at, instant_at};
use crate::usage::{Level, Span};

/// A query's rows, what readings are walked to, or nothing.
pub(super) enum Source {
    Nothing,
    Rows { groups: Box<Groups>, next: Option<Group> },
    Walked(Walked),
}

/// A day of `usage_days`: its start, its end and its use.
pub(super) type Day = (Timestamp, Timestamp, Option<Amount>);

impl Source {
    pub(super) fn none() -> Self {
        Self::Nothing
    }

    pub(super) async fn of(run: &Run<'_>, mut groups: Groups) -> Result<Self, JobError> {
        let next = groups.next(run).await?;
        Ok(Self::Rows { groups: Box::new(groups), next })
    }

    pub(super) fn rows_read(&self) -> u64 {
        match self {
            Self::Rows { groups, .. } => groups.rows_read,
            Self::Nothing | Self::Walked(_) => 0,
        }
    }

    /// The rows of a usage point; those of points before it are passed over. Points are asked for in order.
    pub(super) async fn take(&mut self, run: &Run<'_>, point: &str) -> Result<Option<Group>, JobError> {
        let (groups, next) = match self {
            Self::Nothing => return Ok(None),
            Self::Walked(walked) => return walked.take(run, point).await,
            Self::Rows { groups, next } => (groups, next),
        };
        let key = |group: &Group| group.key.first().cloned().unwrap_or_default();
        while next.as_ref().is_some_and(|group| key(group).as_str() < point) {
            *next = groups.next(run).await?;
        }
        let found = next.take_if(|group| key(group) == point);
        if found.is_some() {
            *next = groups.next(run).await?;
        }
        Ok(found)
    }
}

/// Slots by channel.
pub(super) fn slots(group: Option<&Group>) -> Result<BTreeMap<Channel, Vec<Span>>, DataFusionError> {
    let mut found: BTreeMap<Channel, Vec<Span>> = BTreeMap::new();
    for batch in group.into_iter().flat_map(|group| &group.batches) {
        let rows = Rows(batch);
        let (channel, quality, method) = (rows.text("channel")?, rows.text("quality")?, rows.text("method")?);
        let (start, end, value) = (rows.time("start")?, rows.time("end")?, rows.amount("value")?);
        for row in 0..rows.len() {
            let Some(channel) = Channel::by_name(channel.at(row)) else { continue };
            found.entry(channel).or_default().push(Span {
                level: Level::Slot,
                start: instant_at(start, row)?,
                end: instant_at(end, row)?,
                value: amount_at(value, row)?,
                quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
                method: method.get(row).and_then(Method::parse),
                estimated: Amount::ZERO,
                start_register: None,
                end_register: None,
                installation: 0,
                evidence: None,
                parts: None,
            });
        }
    }
    Ok(found)
}

/// Days by channel.
pub(super) fn days(group: Option<&Group>) -> Result<BTreeMap<Channel, Vec<Day>>, DataFusionError> {
    let mut found: BTreeMap<Channel, Vec<Day>> = BTreeMap::new();
    for batch in group.into_iter().flat_map(|group| &group.batches) {
        let rows = Rows(batch);
        let (channel, start, end) = (rows.text("channel")?, rows.time("start")?, rows.time("end")?);
        let value = rows.amount("value")?;
        for row in 0..rows.len() {
            let Some(channel) = Channel::by_name(channel.at(row)) else { continue };
            let day = (instant_at(start, row)?, instant_at(end, row)?, amount_at(value, row)?);
            found.entry(channel).or_default().push(day);
        }
    }
    Ok(found)
}
