//! What `usage_anchors` says of the borders between months, read as far as it is asked for.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray};
use datafusion::error::DataFusionError;
use meterlake_model::{Channel, Timestamp, month_key};

use super::super::JobError;
use super::super::run::Run;
use super::rows::{ANCHOR, NOTHING};
use crate::tables::read::{Rows, amount_at, instant_at, maybe_instant_at};
use crate::usage::{Anchor, Border, Start};

/// So many points are named one by one when their anchors are read.
const NAMED: usize = 200;

type AtBorder = HashMap<String, Vec<(Channel, Border)>>;

/// What is known, by border and usage point.
#[derive(Default)]
pub(super) struct Known {
    anchors: BTreeMap<Timestamp, AtBorder>,
}

impl Known {
    /// What is known of a channel at a border that has been read; `None` when it had said nothing at all.
    pub(super) fn of(&self, point: &str, border: Timestamp, channel: Channel) -> Option<&Border> {
        let known = self.anchors.get(&border)?.get(point)?;
        known.iter().find(|(of, _)| *of == channel).map(|(_, border)| border)
    }

    /// Reads what is known at a border; of few points, theirs alone.
    pub(super) async fn load(&mut self, run: &Run<'_>, border: Timestamp, wanted: &[&str]) -> Result<(), JobError> {
        let known = self.anchors.entry(border).or_default();
        let missing: Vec<&&str> = wanted.iter().filter(|id| !known.contains_key(**id)).collect();
        if missing.is_empty() || !run.has("usage_anchors") {
            return Ok(());
        }
        let mut sql = format!(
            "SELECT usage_point_id, channel, state, installation, ts, register, line_register, line_start, first_line,
               settled_at, closed_at
             FROM usage_anchors WHERE month = '{}'",
            month_key(border)
        );
        if missing.len() <= NAMED {
            let names: Vec<String> = missing.iter().map(|id| format!("'{}'", id.replace('\'', "''"))).collect();
            sql = format!("{sql} AND usage_point_id IN ({})", names.join(", "));
        } else {
            known.clear();
        }
        let mut rows = run.stream(&sql).await?;
        while let Some(batch) = run.next(&mut rows).await? {
            take(&batch, border, known).map_err(|e| run.failed(e))?;
        }
        Ok(())
    }
}

fn take(batch: &arrow::array::RecordBatch, border: Timestamp, known: &mut AtBorder) -> Result<(), DataFusionError> {
    let rows = Rows(batch);
    let (point, channel, state) = (rows.text("usage_point_id")?, rows.text("channel")?, rows.text("state")?);
    let (installation, ts) = (rows.int("installation")?, rows.time("ts")?);
    let (register, line_register) = (rows.amount("register")?, rows.amount("line_register")?);
    let (line_start, settled_at) = (rows.time("line_start")?, rows.time("settled_at")?);
    let closed_at = rows.time("closed_at")?;
    let first_line = batch.column_by_name("first_line").and_then(|c| c.as_boolean_opt());
    for row in 0..rows.len() {
        let Some(channel) = Channel::by_name(channel.at(row)) else { continue };
        let anchor = || -> Result<Option<Anchor>, DataFusionError> {
            let whole = amount_at(register, row)?.zip(amount_at(line_register, row)?);
            let installation = installation.is_valid(row).then(|| usize::try_from(installation.value(row)).ok());
            let (Some((register, line_register)), Some(Some(installation))) = (whole, installation) else {
                return Ok(None);
            };
            Ok(Some(Anchor {
                installation,
                ts: instant_at(ts, row)?,
                register: register.micros(),
                line_register: line_register.micros(),
                line_start: instant_at(line_start, row)?,
                first_line: first_line.is_some_and(|column| column.value(row)),
                settled_at: instant_at(settled_at, row)?,
            }))
        };
        let start = match state.at(row) {
            ANCHOR => anchor()?.map_or(Start::Unsure, Start::Anchor),
            NOTHING => Start::Nothing,
            _ => Start::Unsure,
        };
        let border = Border { ts: border, start, closed_at: maybe_instant_at(closed_at, row)? };
        match known.get_mut(point.at(row)) {
            Some(of) => of.push((channel, border)),
            None => drop(known.insert(point.at(row).to_owned(), vec![(channel, border)])),
        }
    }
    Ok(())
}
