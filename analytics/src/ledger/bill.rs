//! One channel of one bill: from the days of the walk, with projections, issued boundaries and edits, to its read, the facts
//! that its gates look at, and its items.

use std::fmt::Write as _;

use meterlake_model::registry::{Installation, InstallationChannel};
use meterlake_model::{Amount, Channel, CivilDay, Quality, Timestamp, Zone};
use sha2::{Digest, Sha256};

use super::edit::{Contested, Edit, apply_edits};
use super::item::{END_READ, Item, USE, items_of_read};
use super::pinned::{PinnedBoundary, apply_pins, evidence_at};
use super::project::{ProjectInput, project};
use crate::alerts::hex;
use crate::billing::{BillingRead, BillingRules, BoundaryRead, CycleInput, read_cycle};
use crate::runs::{Cycle, Facts, GateRules, Unmet};
use crate::usage::{Finding, Level, Rule, Span};

/// What one channel of a bill follows from.
#[derive(Debug, Clone, Copy)]
pub struct BillInput<'a> {
    /// Civil time of the usage point.
    pub zone: &'a Zone,
    /// The channel.
    pub channel: Channel,
    /// The days of the bill.
    pub cycle: Cycle,
    /// The day for which is asked: from the deadline on, what is missing at the end is projected.
    pub today: CivilDay,
    /// The installations of the point, which the spans name by index.
    pub installations: &'a [&'a Installation],
    /// Day spans in order of time, those before and after the cycle too as far as an estimate or an average reaches.
    pub spans: &'a [Span],
    /// Findings of the same time.
    pub findings: &'a [Finding],
    /// Boundaries that were issued as estimates.
    pub pins: &'a [PinnedBoundary],
    /// Standing edits of this point and channel.
    pub edits: &'a [&'a Edit],
    /// Days of the average that is projected.
    pub average_days: i32,
    /// Since when the customer is there, where that is known.
    pub customer_since: Option<Timestamp>,
    /// How many cycles in a row before this one ended on an estimate.
    pub estimated_before: i32,
}

/// One channel of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// Boundary reads and use.
    pub read: BillingRead,
    /// What its gates look at.
    pub facts: Facts,
    /// Edits that readings contradict.
    pub contested: Vec<Contested>,
    /// Boundaries that stay where they were issued.
    pub pinned: Vec<Timestamp>,
    /// Fingerprint of what it rests on, without what only shapes estimates.
    pub basis: String,
    /// Of the end read, what it rests on, where it is an estimate.
    pub end_evidence: String,
    /// The days of the cycle as they were added up.
    pub days: Vec<Span>,
}

impl Bill {
    /// The items of this bill.
    pub fn items(&self, usage_point_id: &str, channel: Channel, cycle: Cycle) -> Vec<Item> {
        let mut items = items_of_read(usage_point_id, channel, (cycle.first_day, cycle.end_day), &self.read);
        let has_registers = self.read.end_read.is_some_and(|b| b.register.is_some());
        for item in &mut items {
            // Registers are pinned as boundaries, and the use between them with them.
            item.basis = match item.key.determinant.as_str() {
                END_READ if item.quality.is_estimate() => self.end_evidence.clone(),
                USE if !has_registers => self.basis.clone(),
                _ => String::new(),
            };
        }
        items
    }
}

/// Adds one channel of one bill up.
pub fn bill(input: &BillInput<'_>, rules: &BillingRules, gates: &GateRules) -> Bill {
    let Cycle { first_day, end_day } = input.cycle;
    let (start, end) = (input.zone.start_of_day(first_day), input.zone.start_of_day(end_day));
    let mut days: Vec<Span> = input.spans.iter().filter(|s| s.level == Level::Day).cloned().collect();
    days.sort_by_key(|s| s.start);
    if input.today >= gates.deadline(end_day) {
        project_end(input, &mut days, end);
    }
    let channel_at = |at: Timestamp| channel_of(input, &days, at).map(|c| (c.multiplier_micros, c.resolution));
    let near_s = gates.boundary_days * 86_400;
    let pins: Vec<(PinnedBoundary, (i64, Amount))> =
        input.pins.iter().filter_map(|pin| Some((*pin, channel_at(pin.at)?))).collect();
    let pinned = apply_pins(&mut days, input.findings, &pins, near_s);
    let contested = apply_edits(&mut days, input.zone, input.edits, Amount::from_micros(500_000).unwrap_or_default());
    let edited = |f: &Finding| {
        input.edits.iter().any(|e| {
            let from = input.zone.start_of_day(e.target.first_day);
            from <= f.start && f.end <= input.zone.start_of_day(e.target.end_day)
        })
    };
    let findings: Vec<Finding> = input.findings.iter().filter(|f| !edited(f)).cloned().collect();
    let off_s = |at: Timestamp, of: Option<BoundaryRead>, solid: bool| {
        let of = of?;
        let apart = of.ts.micros_since(at).abs() / 1_000_000;
        if solid || !of.quality.is_estimate() {
            return Some(if of.quality.is_estimate() { 0 } else { apart });
        }
        let (multiplier, _) = channel_of(input, &days, at).map(|c| (c.multiplier_micros, c.resolution))?;
        let evidence = evidence_at(&days, &findings, at, multiplier)?;
        let before = at.micros_since(evidence.from);
        let after = evidence.until.map_or(before, |(until, _)| until.micros_since(at));
        Some(before.min(after) / 1_000_000)
    };
    let evidence_line = |at: Timestamp| {
        let multiplier = channel_of(input, &days, at).map(|c| c.multiplier_micros)?;
        evidence_at(&days, &findings, at, multiplier).map(|e| e.to_line())
    };
    let read = read_of(input, &days, &findings, (start, pinned.contains(&start)), rules);
    let of_cycle: Vec<Span> = days.iter().filter(|s| s.start >= start && s.end <= end).cloned().collect();
    let by_people = |day: Option<&Span>| day.is_some_and(|d| d.quality == Quality::Edited);
    let start_off_s = off_s(start, read.start_read, pinned.contains(&start) || by_people(of_cycle.first()));
    let begins = read.reasons.iter().any(|r| r.code == "begins");
    let facts = Facts {
        end_day,
        today: input.today,
        start_off_s: if begins { Some(0) } else { start_off_s },
        end_off_s: off_s(end, read.end_read, by_people(of_cycle.last())),
        estimated_ppm: read.use_amount.map(|_| read.estimated_share_ppm),
        unscaled: of_cycle.iter().any(|s| s.quality == Quality::Estimated && s.estimated != Amount::ZERO),
        last_actual: last_actual(input.zone, &days, end),
        estimated_before: input.estimated_before,
        missing: unmet(&read, |code| code == "missing"),
        stops: unmet(&read, |code| !matches!(code, "missing" | "estimated" | "nothing")),
    };
    let basis = basis(&of_cycle, &findings, (start, end), [evidence_line(start), evidence_line(end)]);
    let end_evidence = evidence_line(end).unwrap_or_default();
    Bill { read, facts, contested, pinned, basis, end_evidence, days: of_cycle }
}

/// The read of the cycle. A start that was issued is settled: what lies behind it is no estimate on its account.
fn read_of(
    input: &BillInput<'_>,
    days: &[Span],
    findings: &[Finding],
    (start, settled): (Timestamp, bool),
    rules: &BillingRules,
) -> BillingRead {
    let mut days = days.to_vec();
    let mut issued = None;
    if settled
        && let Some(boundary) = days.iter_mut().find(|d| d.start == start).and_then(|d| d.start_register.as_mut())
    {
        issued = Some(boundary.quality);
        boundary.quality = Quality::Derived;
    }
    let cycle = CycleInput {
        zone: input.zone,
        channel: input.channel,
        start_day: input.cycle.first_day,
        end_day: input.cycle.end_day,
        installations: input.installations,
        spans: &days,
        findings,
    };
    let mut read = read_cycle(&cycle, rules);
    if let (Some(quality), Some(boundary)) = (issued, &mut read.start_read) {
        boundary.quality = quality;
        if let Some(part) = read.parts.first_mut() {
            part.start.quality = quality;
        }
    }
    read
}

/// Projects beyond the last reading where a meter hangs there to the end of the cycle.
fn project_end(input: &BillInput<'_>, days: &mut Vec<Span>, end: Timestamp) {
    let Some(last) = days.iter().rev().find(|s| s.value.is_some()) else { return };
    let Some(installation) = input.installations.get(last.installation) else { return };
    let channel = installation.channels.iter().find(|c| c.channel == input.channel);
    let there = installation.installed_at.is_some() && installation.removed_at.is_none_or(|at| at >= end);
    let (Some(channel), true) = (channel, there && last.end < end) else { return };
    let projection = ProjectInput {
        zone: input.zone,
        until: end,
        average_days: input.average_days,
        customer_since: input.customer_since,
        multiplier_micros: channel.multiplier_micros,
        resolution: channel.resolution,
    };
    project(days, &projection);
}

/// The channel of the installation whose day ends or begins there.
fn channel_of<'a>(input: &BillInput<'a>, days: &[Span], at: Timestamp) -> Option<&'a InstallationChannel> {
    let day = days.iter().find(|s| s.end == at).or_else(|| days.iter().find(|s| s.start == at))?;
    let installation = input.installations.get(day.installation)?;
    installation.channels.iter().find(|c| c.channel == input.channel)
}

/// The day of the last border up to `end` that was read or derived.
fn last_actual(zone: &Zone, days: &[Span], end: Timestamp) -> Option<CivilDay> {
    days.iter().rev().filter(|s| s.end <= end && s.value.is_some()).find_map(|day| {
        let solid = |quality: Quality| quality >= Quality::Derived;
        let ends = day.end_register.map_or(solid(day.quality), |b| solid(b.quality));
        let begins = day.start_register.is_some_and(|b| solid(b.quality));
        // A day that begins with a reading and has no end is the day of its start.
        if ends { Some(zone.day_of(day.end)) } else { begins.then(|| zone.day_of(day.start)) }
    })
}

fn unmet(read: &BillingRead, wanted: impl Fn(&str) -> bool) -> Vec<Unmet> {
    let holding = read.reasons.iter().filter(|r| r.holds && wanted(r.code));
    holding
        .map(|r| Unmet {
            code: r.code.to_owned(),
            subject: format!("{}/{}", r.start, r.end),
            detail: format!("{}: {}", r.code, r.detail),
        })
        .collect()
}

/// What the cycle rests on: what of each day is no estimate, the gaps, and what its estimated ends rest on. Like days that
/// shaped an estimate are not in it.
fn basis(
    days: &[Span],
    findings: &[Finding],
    (start, end): (Timestamp, Timestamp),
    ends: [Option<String>; 2],
) -> String {
    let mut text = String::new();
    for day in days {
        let solid = day.value.and_then(|v| v.checked_sub(day.estimated));
        let value = solid.map_or_else(|| "-".to_owned(), |v| v.to_string());
        // Writing to a string cannot fail.
        let _ = write!(text, "{} {value} {};", day.start, day.installation);
    }
    let gaps = findings.iter().filter(|f| f.rule == Rule::V09 && f.start < end && start < f.end);
    for gap in gaps {
        let _ = write!(text, "{}..{};", gap.start, gap.end);
    }
    for line in ends.into_iter().flatten() {
        let _ = write!(text, "{line};");
    }
    hex(&Sha256::digest(text)[..16])
}
