//! What the product says beside what is true.

use std::fmt::Write as _;

use datafusion::prelude::SessionContext;
use meterlake_device_sim::{AlertKind, Simulation, TrueAlert};
use meterlake_model::{Amount, Channel, Timestamp, UsagePointId};

use crate::rows::{self, Row};

/// Billing reads that are printed one by one; the count is of all.
const SHOWN: usize = 6;

fn cell(row: &Row, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or("")
}

fn instant(row: &Row, at: usize) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_micros(cell(row, at).parse()?)?)
}

/// Billing reads of the closed cycle beside the simulator's own use.
pub(crate) async fn billing(session: &SessionContext, simulation: &Simulation) -> anyhow::Result<String> {
    // Cycles that began before the simulation did are not closed ones.
    let begins = simulation.plan().from.micros();
    let text = format!(
        "SELECT usage_point_id, channel, CAST(start AS BIGINT) AS start_us, CAST(\"end\" AS BIGINT) AS end_us, use_amount,
                state, reasons, estimated, start_register, end_register, first_day, last_day
         FROM billing_reads WHERE CAST(start AS BIGINT) >= {begins} ORDER BY usage_point_id, channel, start_us"
    );
    let found = rows::fetch(session, &text).await?;
    let truth = simulation.truth();
    let (mut equal, mut held, mut differing, mut compared, mut lines) = (0, 0, Vec::new(), 0, String::new());
    for row in &found {
        let (Ok(id), Some(channel)) = (UsagePointId::new(cell(row, 0)), Channel::by_name(cell(row, 1))) else {
            continue;
        };
        let Some(true_use) = truth.usage(&id, channel, instant(row, 2)?, instant(row, 3)?) else { continue };
        compared += 1;
        held += usize::from(cell(row, 5) == "held");
        let said = Amount::parse(cell(row, 4)).ok();
        if said == Some(true_use) {
            equal += 1;
        } else {
            differing.push(format!(
                "  {id}: billed {}, true {true_use}, estimated {}, {} {}",
                cell(row, 4),
                cell(row, 7),
                cell(row, 5),
                cell(row, 6)
            ));
        }
        if compared <= SHOWN {
            writeln!(
                lines,
                "  {:<14} {:<18} {:>12} → {:>12}  billed {:>11}  true {:>11}  {}",
                cell(row, 0),
                cell(row, 1),
                cell(row, 8).trim_end_matches('0'),
                cell(row, 9).trim_end_matches('0'),
                short(said),
                short(Some(true_use)),
                cell(row, 5)
            )?;
        }
    }
    let cycle = found.first().map_or_else(String::new, |row| format!("{} to {}", cell(row, 10), cell(row, 11)));
    let mut text = format!(
        "Billing reads of the closed cycle {cycle}: {equal} of {compared} equal the truth to the last digit, {held} held\n{lines}"
    );
    if compared > SHOWN {
        writeln!(text, "  … and {} more", compared - SHOWN)?;
    }
    for line in &differing {
        writeln!(text, "{line}")?;
    }
    Ok(text)
}

fn short(amount: Option<Amount>) -> String {
    amount.map_or_else(|| "–".to_owned(), |amount| amount.to_string().trim_end_matches("000").to_owned())
}

/// Alerts beside those that are due, with precision and recall by kind.
pub(crate) async fn alerts(session: &SessionContext, simulation: &Simulation) -> anyhow::Result<String> {
    let found = rows::fetch(
        session,
        "SELECT rule, usage_point_id, CAST(start AS BIGINT) AS start_us,
                CAST(coalesce(\"end\", last_seen) AS BIGINT) AS end_us, severity,
                state, summary
         FROM alerts WHERE usage_point_id IS NOT NULL ORDER BY rule, usage_point_id, start_us",
    )
    .await?;
    let due = simulation.truth().alerts();
    let mut text = String::from("Alerts beside the truth\n");
    for (kind, name, rules) in [
        (AlertKind::Leak, "leak", &["leak", "leak_calendar_day"][..]),
        (AlertKind::Undervoltage, "undervoltage", &["undervoltage", "phase_loss"][..]),
    ] {
        let said: Vec<&Row> = found.iter().filter(|row| rules.contains(&cell(row, 0))).collect();
        let due: Vec<&TrueAlert> = due.iter().filter(|alert| alert.kind == kind).collect();
        let right = said.iter().filter(|row| due.iter().any(|alert| is_about(row, alert))).count();
        let found_due = due.iter().filter(|alert| said.iter().any(|row| is_about(row, alert))).count();
        writeln!(
            text,
            "  {name:<13} {} raised, {} due: precision {}, recall {}",
            said.len(),
            due.len(),
            share(right, said.len()),
            share(found_due, due.len())
        )?;
        for row in said.iter().filter(|row| !due.iter().any(|alert| is_about(row, alert))) {
            writeln!(text, "    not due: {} {}", cell(row, 1), cell(row, 6))?;
        }
        for alert in due.iter().filter(|alert| !said.iter().any(|row| is_about(row, alert))) {
            writeln!(text, "    missed: {} {} to {}", alert.usage_point_id, alert.window.from, alert.window.to)?;
        }
    }
    let incidents = rows::fetch(session, "SELECT node_id, summary FROM alerts WHERE usage_point_id IS NULL").await?;
    for row in &incidents {
        writeln!(text, "  one incident at {}: {}", cell(row, 0), cell(row, 1))?;
    }
    let leaks = found.iter().filter(|row| cell(row, 0) == "leak").take(3);
    for row in leaks {
        writeln!(text, "  e.g. {} {}: {} ({})", cell(row, 4), cell(row, 1), cell(row, 6), cell(row, 5))?;
    }
    Ok(text)
}

/// Same place, and the spans touch.
fn is_about(row: &Row, alert: &TrueAlert) -> bool {
    let (Ok(start), Ok(end)) = (instant(row, 2), instant(row, 3)) else { return false };
    cell(row, 1) == alert.usage_point_id.as_str() && start <= alert.window.to && end >= alert.window.from
}

fn share(part: usize, whole: usize) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.3}", ratio(part, whole)) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
