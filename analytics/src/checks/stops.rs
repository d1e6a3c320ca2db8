//! What checks say to bills: findings that hold one, or that a named person is to look at first.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_model::check::OnFail;
use meterlake_model::{CivilDay, Timestamp, month_key};

use super::Month;
use crate::runs::Unmet;
use crate::tables::read::{Rows, instant_at};

/// The table that jobs write them to.
pub(crate) const TABLE: &str = "check_findings";

/// Stopping findings by place.
#[derive(Debug, Default)]
pub(crate) struct Stops(BTreeMap<String, Vec<Stop>>);

#[derive(Debug)]
struct Stop {
    month: String,
    start: Timestamp,
    end: Timestamp,
    unmet: Unmet,
}

impl Stops {
    /// Those that touch a bill, as reasons that a release can name.
    pub(crate) fn of(&self, point: &str, (start, end): (Timestamp, Timestamp)) -> Vec<Unmet> {
        // A row of slots that goes on in the next month is told there once more: that is the next bill's.
        let last = month_key(end.plus_micros(-1));
        let touches =
            |stop: &&Stop| stop.start < end && (stop.end > start || stop.start >= start) && stop.month <= last;
        let mut found: Vec<Unmet> =
            self.0.get(point).into_iter().flatten().filter(touches).map(|stop| stop.unmet.clone()).collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Findings that stop bills whose cycles end in a run's month.
pub(crate) async fn stops_of_run(session: &SessionContext, run: &str, longest: i32) -> Result<Stops, DataFusionError> {
    let Ok(first) = CivilDay::parse(&format!("{run}-01")) else { return Ok(Stops::default()) };
    let (from, to) = (Month::of(first.plus_months(-longest)).key, Month::of(first.plus_months(1)).key);
    let sql = format!(
        "SELECT month, usage_point_id, channel, start, \"end\", rule, on_fail, evidence FROM {TABLE}
         WHERE month >= '{from}' AND month <= '{to}' AND on_fail IN ('hold', 'verify')
         ORDER BY usage_point_id, start, rule, channel"
    );
    let mut stops = Stops::default();
    for batch in session.sql(&sql).await?.collect().await? {
        let rows = Rows(&batch);
        let (month, point, channel) = (rows.text("month")?, rows.text("usage_point_id")?, rows.text("channel")?);
        let (start, end) = (rows.time("start")?, rows.time("end")?);
        let (rule, on_fail, evidence) = (rows.text("rule")?, rows.text("on_fail")?, rows.text("evidence")?);
        for row in 0..rows.len() {
            let (start, end) = (instant_at(start, row)?, instant_at(end, row)?);
            let verify = on_fail.at(row) == OnFail::Verify.as_str();
            let code = if verify { format!("verify:{}", rule.at(row)) } else { rule.at(row).to_owned() };
            let subject = format!("{} {start}/{end}", channel.at(row)).trim_start().to_owned();
            let wait = if verify { ", to be looked at by a person" } else { "" };
            let detail = format!("{}: {}{wait}", rule.at(row), evidence.at(row));
            let month = month.at(row).to_owned();
            let stop = Stop { month, start, end, unmet: Unmet { code, subject, detail } };
            stops.0.entry(point.at(row).to_owned()).or_default().push(stop);
        }
    }
    Ok(stops)
}
