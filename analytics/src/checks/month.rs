//! One month: every check, by every setting that is in force in it, over the tables of a session.

use std::collections::BTreeMap;

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use meterlake_model::check::{Catalogue, Check, OnFail, Operator, Source, Variant, in_force};
use meterlake_model::{CivilDay, Quality, Timestamp, Zone, month_key};
use meterlake_store::query::QueryError;

use super::keep::Keep;
use super::slots::{self, Slot};
use super::{Found, Subjects, query};
use crate::tables::read::{Rows, amount_at, instant_at};

const SLOTS: &str = include_str!("../../sql/slots.sql");

/// A UTC month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// Such as `2026-04`.
    pub key: String,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant of the next.
    pub to: Timestamp,
}

impl Month {
    /// The month of a day.
    pub fn of(day: CivilDay) -> Self {
        let (first, utc) = (day.first_of_month(), Zone::utc());
        let (from, to) = (utc.start_of_day(first), utc.start_of_day(first.plus_months(1)));
        Self { key: month_key(from), from, to }
    }

    /// Whether a stretch of time, or an instant, reaches into it.
    pub(super) fn touches(&self, start: Timestamp, end: Timestamp) -> bool {
        start < self.to && (end > self.from || start >= self.from)
    }

    /// The civil days of any zone that reach into it, and the day after them.
    fn days(&self) -> (CivilDay, CivilDay) {
        let utc = Zone::utc();
        (utc.day_of(self.from).plus_days(-1), utc.day_of(self.to).plus_days(2))
    }
}

/// What the checks found in a month.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonthFindings {
    /// In canonical order.
    pub rows: Vec<Found>,
    /// How many are not among the rows, by check.
    pub cut: BTreeMap<String, u64>,
    /// Checks that could not be run, with why.
    pub failed: BTreeMap<String, String>,
}

/// Runs the checks of a catalogue over a month, or those of these ids. A check that fails leaves no finding and stops no other.
///
/// # Errors
/// When the slots cannot be read.
pub async fn run_month(
    context: &SessionContext,
    catalogue: &Catalogue,
    subjects: &Subjects,
    month: &Month,
    only: Option<&[String]>,
) -> Result<MonthFindings, DataFusionError> {
    let mut all = MonthFindings::default();
    let mut of_slots = Vec::new();
    let (first, last) = month.days();
    for check in catalogue.checks.iter().filter(|check| only.is_none_or(|only| only.contains(&check.id))) {
        let mut asked = Asked::new(catalogue, check);
        // A finding may have begun long before; what was in force then is only asked where it may be the last word.
        asked.wanted = (0..asked.variants.len())
            .filter(|at| asked.variants[*at].on_fail != OnFail::Off && reaches(&asked.variants[*at], first, last))
            .collect();
        match &check.source {
            Source::Sql(sql) => match asked.query(context, sql, subjects, month).await {
                Ok(()) => asked.close(&mut all),
                Err(error) => drop(all.failed.insert(check.id.clone(), error.to_string())),
            },
            Source::Operator(operator) if operator.of_slots() && !asked.wanted.is_empty() => {
                of_slots.push((*operator, asked));
            }
            Source::Operator(_) => {}
        }
    }
    if !of_slots.is_empty() {
        over_slots(context, subjects, month, &mut of_slots).await?;
        of_slots.into_iter().for_each(|(_, asked)| asked.close(&mut all));
    }
    all.rows.sort();
    Ok(all)
}

/// Days that a finding of a month may have begun before it.
const LONGEST_DAYS: i32 = 400;

fn reaches(variant: &Variant, first: CivilDay, last: CivilDay) -> bool {
    variant.days.touch(first.plus_days(-LONGEST_DAYS), last)
}

/// A check while it is run.
struct Asked<'a> {
    check: &'a Check,
    variants: Vec<Variant>,
    /// The variants that are run.
    wanted: Vec<usize>,
    keep: Keep,
}

impl<'a> Asked<'a> {
    fn new(catalogue: &Catalogue, check: &'a Check) -> Self {
        Self { check, variants: catalogue.variants(check), wanted: Vec::new(), keep: Keep::new(catalogue.most) }
    }

    async fn query(
        &mut self,
        context: &SessionContext,
        sql: &str,
        subjects: &Subjects,
        month: &Month,
    ) -> Result<(), QueryError> {
        let (check, variants, keep) = (self.check, &self.variants, &mut self.keep);
        let mut rest: Vec<usize> = self.wanted.clone();
        while let Some(at) = rest.first().copied() {
            // What differs in scope and policy alone is asked once.
            let same: Vec<usize> =
                rest.iter().copied().filter(|other| variants[*other].params == variants[at].params).collect();
            rest.retain(|other| !same.contains(other));
            let take = |found: Found, estimated| {
                if let Some(found) = judged(variants, &same, subjects, found, estimated) {
                    keep.put(found);
                }
            };
            query::run(context, (check, sql), &variants[at].params, month, take).await?;
        }
        Ok(())
    }

    fn close(self, all: &mut MonthFindings) {
        let (rows, cut) = self.keep.close();
        all.rows.extend(rows);
        if cut > 0 {
            all.cut.insert(self.check.id.clone(), cut);
        }
    }
}

/// A finding with the policy that was in force when it began; `None` when that was not asked with these parameters.
fn judged(variants: &[Variant], asked: &[usize], subjects: &Subjects, found: Found, estimated: bool) -> Option<Found> {
    let subject = subjects.subject(&found.usage_point_id, &found.channel, &found.meter_id);
    let at = in_force(variants, &subject, subjects.day(&found.usage_point_id, found.start))?;
    let variant = variants.get(at).filter(|variant| asked.contains(&at) && variant.on_fail != OnFail::Off)?;
    let found = Found { severity: variant.severity, on_fail: variant.on_fail, ..found };
    Some(if estimated { found.only_told() } else { found })
}

/// One walk over the slots for all operators.
async fn over_slots(
    context: &SessionContext,
    subjects: &Subjects,
    month: &Month,
    asked: &mut [(Operator, Asked<'_>)],
) -> Result<(), DataFusionError> {
    let back = asked.iter().flat_map(|(operator, asked)| {
        asked.wanted.iter().map(move |at| slots::look_back_s(*operator, &asked.variants[*at].params))
    });
    let from = month.from.plus_seconds(-back.max().unwrap_or(0));
    // A civil day that begins in the month may end behind it.
    let to = month.to.plus_seconds(27 * 3600);
    let instant = |ts: Timestamp| ScalarValue::TimestampMicrosecond(Some(ts.micros()), Some("UTC".into()));
    let bounds = ParamValues::from(vec![("from", instant(from)), ("to", instant(to))]);
    let mut rows = context.sql(SLOTS).await?.with_param_values(bounds)?.execute_stream().await?;
    let mut at = (String::new(), String::new());
    let mut held: Vec<Slot> = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        let rows = Rows(&batch);
        let (point, channel) = (rows.text("usage_point_id")?, rows.text("channel")?);
        let (start, end, quality) = (rows.time("start")?, rows.time("end")?, rows.text("quality")?);
        let value = rows.amount("value")?;
        for row in 0..rows.len() {
            if (point.at(row), channel.at(row)) != (at.0.as_str(), at.1.as_str()) {
                of_channel(subjects, month, asked, &at, &held);
                held.clear();
                at = (point.at(row).to_owned(), channel.at(row).to_owned());
            }
            held.push(Slot {
                start: instant_at(start, row)?,
                end: instant_at(end, row)?,
                value: amount_at(value, row)?,
                quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
            });
        }
    }
    of_channel(subjects, month, asked, &at, &held);
    Ok(())
}

fn of_channel(
    subjects: &Subjects,
    month: &Month,
    asked: &mut [(Operator, Asked<'_>)],
    (point, channel): &(String, String),
    held: &[Slot],
) {
    if held.is_empty() {
        return;
    }
    let (zone, subject) = (subjects.zone(point), subjects.subject(point, channel, ""));
    for (operator, Asked { check, variants, wanted, keep }) in asked {
        for at in wanted.iter().copied() {
            if !variants[at].scope.holds(&subject) {
                continue;
            }
            for one in slots::find(*operator, &variants[at].params, &zone, month, held) {
                let found = Found {
                    usage_point_id: point.clone(),
                    channel: channel.clone(),
                    start: one.start,
                    rule: check.id.clone(),
                    end: one.end,
                    severity: check.severity,
                    on_fail: check.on_fail,
                    measured: one.measured,
                    reference: one.reference,
                    limit: one.limit,
                    meter_id: String::new(),
                    evidence: one.evidence,
                };
                if let Some(found) = judged(variants, &[at], subjects, found, one.estimated) {
                    keep.put(found);
                }
            }
        }
    }
}
