//! Bills as people see them: out of `billing_reads`, configured determinants and the book.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use meterlake_model::{Amount, Channel, CivilDay, Quality, Timestamp};
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;
use serde_json::Value;

use super::{Book, BookError, determinants};
use crate::billing::BoundaryRead;
use crate::checks::{self, Stops};
use crate::ledger::{Context, END_READ, Item, START_READ, USE};
use crate::runs::{BillState, Cycle, Facts, Gate, GateRules, Unmet, bill_state, gate};
use crate::tables::read::{Rows, amount_at, day_at, instant_at};

/// One bill: a usage point and cycle with all its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLine {
    /// The run, such as `2026-03`.
    pub run: String,
    /// The place of supply.
    pub usage_point_id: String,
    /// The customer, as the registry has it now.
    pub customer_id: Option<String>,
    /// The days of the bill.
    pub cycle: Cycle,
    /// What the gates say.
    pub gate: Gate,
    /// Where it stands.
    pub state: BillState,
    /// Its items as they are now, each with what else it went by.
    pub items: Vec<(Item, Context)>,
    /// Remarks: contested edits, boundaries that stay where they were issued.
    pub remarks: Vec<String>,
}

/// The longest cycle, in months.
const LONGEST_CYCLE: i32 = 12;

/// The bills of a run as they are on a day, out of `billing_reads` and the book.
///
/// # Errors
/// When the lake cannot be read, or the run has never been computed.
pub async fn bill_lines(
    lake: &Lake,
    book: &Book,
    run: &str,
    rules: &GateRules,
    today: CivilDay,
) -> Result<Vec<BillLine>, BookError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    if !session.versions.contains_key("billing_reads") {
        return Err(BookError::Nothing(format!("no bill of run {run} has been computed: billing run comes first")));
    }
    let has_determinants = session.versions.contains_key(determinants::TABLE);
    let reads = read_bills(&session.context, run).await?;
    if reads.is_empty() {
        return Err(BookError::Nothing(format!("run {run} has no bills: billing run computes them")));
    }
    let mut extra = if has_determinants { determinants::of_run(&session.context, run).await? } else { BTreeMap::new() };
    let stops = match session.versions.contains_key(checks::TABLE) {
        true => checks::stops_of_run(&session.context, run, LONGEST_CYCLE).await?,
        false => Stops::default(),
    };
    let mut lines: Vec<BillLine> = Vec::new();
    let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
    for read in reads {
        let key = (read.usage_point_id.clone(), read.cycle);
        let one_gate = gate(&Facts { today, ..read.facts.clone() }, rules);
        match lines.last_mut().filter(|l| (l.usage_point_id.as_str(), l.cycle) == (key.0.as_str(), key.1)) {
            Some(line) => {
                line.gate =
                    both(std::mem::replace(&mut line.gate, Gate::Wait(Vec::new())), one_gate, Some(read.channel));
                line.items.extend(read.items.into_iter().map(|item| (item, read.context.clone())));
                line.remarks.extend(read.remarks);
            }
            None => {
                let mut items: Vec<(Item, Context)> =
                    read.items.into_iter().map(|item| (item, read.context.clone())).collect();
                // They rest on what the bill's first channel rests on.
                let more = extra.remove(&key).unwrap_or_default();
                let on = |item: Item| Item { basis: read.basis.clone(), ..item };
                items.extend(more.items.into_iter().map(|item| (on(item), read.context.clone())));
                let one_gate = match more.held {
                    held if held.is_empty() || matches!(one_gate, Gate::Wait(_)) => one_gate,
                    held => both(one_gate, Gate::Hold(held), None),
                };
                spans.push(read.span);
                lines.push(BillLine {
                    run: run.to_owned(),
                    usage_point_id: read.usage_point_id,
                    customer_id: read.customer_id,
                    cycle: read.cycle,
                    gate: one_gate,
                    state: BillState::Ready,
                    items,
                    remarks: read.remarks,
                });
            }
        }
    }
    for (line, span) in lines.iter_mut().zip(spans) {
        let held = stops.of(&line.usage_point_id, span);
        if !held.is_empty() && !matches!(line.gate, Gate::Wait(_)) {
            line.gate = both(std::mem::replace(&mut line.gate, Gate::Wait(Vec::new())), Gate::Hold(held), None);
        }
        line.state = bill_state(&line.gate, &book.events_of(run, &line.usage_point_id));
    }
    Ok(lines)
}

/// A bill goes out when all its channels may.
fn both(a: Gate, b: Gate, channel: Option<Channel>) -> Gate {
    let named = |list: Vec<Unmet>| -> Vec<Unmet> {
        let Some(channel) = channel else { return list };
        let name = |u: Unmet| Unmet { subject: format!("{channel} {}", u.subject).trim_end().to_owned(), ..u };
        list.into_iter().map(name).collect()
    };
    match (a, b) {
        (Gate::Hold(mut x), Gate::Hold(y)) => {
            x.extend(named(y));
            Gate::Hold(x)
        }
        (Gate::Hold(x), _) => Gate::Hold(x),
        (_, Gate::Hold(y)) => Gate::Hold(named(y)),
        (Gate::Wait(mut x), Gate::Wait(y)) => {
            x.extend(named(y));
            Gate::Wait(x)
        }
        (Gate::Wait(x), _) => Gate::Wait(x),
        (_, Gate::Wait(y)) => Gate::Wait(named(y)),
        (Gate::Open { despite: mut x }, Gate::Open { despite: y }) => {
            x.extend(named(y));
            Gate::Open { despite: x }
        }
    }
}

/// A row of `billing_reads`.
struct ReadBill {
    usage_point_id: String,
    customer_id: Option<String>,
    channel: Channel,
    cycle: Cycle,
    span: (Timestamp, Timestamp),
    facts: Facts,
    items: Vec<Item>,
    context: Context,
    basis: String,
    remarks: Vec<String>,
}

async fn read_bills(session: &SessionContext, run: &str) -> Result<Vec<ReadBill>, DataFusionError> {
    let sql = format!(
        "SELECT * FROM billing_reads WHERE month = '{}' ORDER BY usage_point_id, first_day, channel",
        run.replace('\'', "")
    );
    let mut found = Vec::new();
    for batch in session.sql(&sql).await?.collect().await? {
        let rows = Rows(&batch);
        let (point, customer, channel) =
            (rows.text("usage_point_id")?, rows.text("customer_id")?, rows.text("channel")?);
        let (first, last) = (rows.day("first_day")?, rows.day("last_day")?);
        let (start, start_quality) = (rows.amount("start_register")?, rows.text("start_quality")?);
        let (end, end_quality) = (rows.amount("end_register")?, rows.text("end_quality")?);
        let (used, estimated) = (rows.amount("use_amount")?, rows.amount("estimated")?);
        let (from, to) = (rows.time("start")?, rows.time("end")?);
        let (facts, basis) = (rows.text("facts")?, rows.text("basis")?);
        let (evidence, context) = (rows.text("end_evidence")?, rows.text("context")?);
        for row in 0..rows.len() {
            let Some(channel) = Channel::by_name(channel.at(row)) else { continue };
            let cycle = Cycle { first_day: day_at(first, row)?, end_day: day_at(last, row)?.plus_days(1) };
            let known: Value = serde_json::from_str(facts.at(row)).unwrap_or(Value::Null);
            let quality = |text: &str| Quality::parse(text);
            let boundaries = [
                (START_READ, amount_at(start, row)?, quality(start_quality.at(row))),
                (END_READ, amount_at(end, row)?, quality(end_quality.at(row))),
            ];
            let used = amount_at(used, row)?;
            let estimated = amount_at(estimated, row)?.unwrap_or_default();
            let items =
                items(point.at(row), channel, cycle, boundaries, used.map(|u| (u, estimated)), |what, q| match what {
                    END_READ if q.is_estimate() => evidence.at(row).to_owned(),
                    USE if boundaries[1].1.is_none() => basis.at(row).to_owned(),
                    _ => String::new(),
                });
            found.push(ReadBill {
                usage_point_id: point.at(row).to_owned(),
                customer_id: customer.get(row).map(str::to_owned),
                channel,
                cycle,
                span: (instant_at(from, row)?, instant_at(to, row)?),
                facts: parse_facts(&known, cycle),
                items,
                context: Context::parse(context.at(row)),
                basis: basis.at(row).to_owned(),
                remarks: remarks(&known),
            });
        }
    }
    Ok(found)
}

/// The same items as [`crate::ledger::items_of_read`] makes, out of the columns of the table.
fn items(
    point: &str,
    channel: Channel,
    cycle: Cycle,
    boundaries: [(&str, Option<Amount>, Option<Quality>); 2],
    used: Option<(Amount, Amount)>,
    basis: impl Fn(&str, Quality) -> String,
) -> Vec<Item> {
    // Where they lie the items do not say.
    let boundary = |(_, register, quality): (&str, Option<Amount>, Option<Quality>)| {
        Some(BoundaryRead { ts: Timestamp::from_unix_seconds(0).ok()?, register, quality: quality? })
    };
    let (start_read, end_read) = (boundary(boundaries[0]), boundary(boundaries[1]));
    let days = (cycle.first_day, cycle.end_day);
    let mut items = crate::ledger::items_of_boundaries(point, channel, days, (start_read, end_read), used);
    for item in &mut items {
        item.basis = basis(&item.key.determinant, item.quality);
    }
    items
}

fn parse_facts(known: &Value, cycle: Cycle) -> Facts {
    let list = |name: &str| -> Vec<Unmet> {
        let text = |u: &Value, name: &str| u[name].as_str().unwrap_or("").to_owned();
        let one = |u: &Value| Unmet { code: text(u, "code"), subject: text(u, "subject"), detail: text(u, "detail") };
        known[name].as_array().into_iter().flatten().map(one).collect()
    };
    Facts {
        end_day: cycle.end_day,
        today: cycle.end_day,
        start_off_s: known["start_off_s"].as_i64(),
        end_off_s: known["end_off_s"].as_i64(),
        estimated_ppm: known["estimated_ppm"].as_i64(),
        unscaled: known["unscaled"].as_bool().unwrap_or(false),
        last_actual: known["last_actual"].as_str().and_then(|d| CivilDay::parse(d).ok()),
        estimated_before: known["estimated_before"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        missing: list("missing"),
        stops: list("stops"),
    }
}

fn remarks(known: &Value) -> Vec<String> {
    let list = |name: &str| known[name].as_array().cloned().unwrap_or_default();
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or("").to_owned();
    let contested = list("contested").into_iter().map(|c| {
        format!("contested: edit {} says {}, the readings say {}", c["edit"], text(&c, "edited"), text(&c, "read"))
    });
    let pinned = list("pinned").into_iter().map(|p| format!("pinned at {}", p.as_str().unwrap_or("")));
    contested.chain(pinned).collect()
}
