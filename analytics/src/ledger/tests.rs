//! Corrections and edits under the ids of their cases, with the real walk, and the properties of the ledger.

mod cases;
mod properties;

use std::collections::BTreeMap;

use meterlake_model::registry::Installation;
use meterlake_model::{Amount, CivilDay, Zone};

use super::*;
use crate::billing::BillingRules;
use crate::runs::{Cycle, Gate, GateRules, gate};
use crate::usage::tests::Case;

fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

fn cycle(from: &str, to: &str) -> Cycle {
    Cycle { first_day: day(from), end_day: day(to) }
}

/// Everything that was issued.
#[derive(Default)]
struct Book {
    accounts: BTreeMap<ItemKey, Account>,
    edits: Edits,
}

impl Book {
    /// The bill of one cycle as it is known on a day.
    fn bill(&self, case: &Case, cycle: Cycle, today: &str) -> (Bill, Context) {
        let usage = case.run();
        let installations: Vec<Installation> = case
            .meters
            .iter()
            .map(|(installation, channel, _)| Installation { channels: vec![channel.clone()], ..installation.clone() })
            .collect();
        let installations: Vec<&Installation> = installations.iter().collect();
        let pins = pins_of(&self.accounts, &case.point.zone);
        let edits = self.edits.standing(case.point.id.as_str(), case.channel, cycle.first_day, cycle.end_day);
        let input = BillInput {
            zone: &case.point.zone,
            channel: case.channel,
            cycle,
            today: day(today),
            installations: &installations,
            spans: &usage.spans,
            findings: &usage.findings,
            pins: &pins,
            edits: &edits,
            average_days: 28,
            customer_since: case.point.customer_since,
            estimated_before: 0,
        };
        let (start, end) = (case.point.zone.start_of_day(cycle.first_day), case.point.zone.start_of_day(cycle.end_day));
        let context = Context {
            edits: format!("{:?}", edits.iter().map(|e| e.id).collect::<Vec<_>>()),
            ..Context::of_installations(&installations, case.channel, (start, end))
        };
        (bill(&input, &BillingRules::default(), &GateRules::default()), context)
    }

    /// Computes a cycle and posts what changed; gives (determinant, cause, delta) of each new row.
    fn post(&mut self, case: &Case, cycle: Cycle, today: &str) -> Vec<(String, Cause, String)> {
        let (bill, context) = self.bill(case, cycle, today);
        let mut posted = Vec::new();
        for item in bill.items(case.point.id.as_str(), case.channel, cycle) {
            let posting = Posting { item: &item, context: &context, run_id: today };
            let account = self.accounts.entry(item.key.clone()).or_default();
            if let Some(row) = account.post(&posting) {
                let delta = row.delta.to_string();
                posted.push((item.key.determinant.clone(), row.cause, short(&delta)));
            }
        }
        posted
    }

    fn account(&self, determinant: &str, cycle: Cycle) -> &Account {
        let of = |key: &&ItemKey| key.determinant == determinant && key.first_day == cycle.first_day;
        let key = self.accounts.keys().find(of).unwrap();
        &self.accounts[key]
    }

    fn current(&self, determinant: &str, cycle: Cycle) -> String {
        short(&self.account(determinant, cycle).current().unwrap().to_string())
    }
}

/// Without trailing zeros.
fn short(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn in_zone(mut case: Case, zone: &str) -> Case {
    case.point.zone = Zone::parse(zone).unwrap();
    case
}

/// A reading at the start of a day in the case's zone.
fn at_midnight(case: &mut Case, date: &str, register: &str) {
    let ts = case.point.zone.start_of_day(day(date));
    let received = ts.unix_seconds();
    case.meters.last_mut().unwrap().2.push(crate::usage::tests::reading(ts, register, received));
}

fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}
