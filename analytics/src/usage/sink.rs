//! Where spans and findings of one usage point gather, with what all its installations share.

use std::collections::BTreeSet;
use std::sync::Arc;

use meterlake_model::{Amount, Quality, Timestamp};

use super::finding::{Finding, Rule, Severity};
use super::history::{DayNumber, History};
use super::register::Point;
use super::span::{Level, Span};
use super::twin::Twin;
use super::{PointInput, UsageRules, Whole};

/// What all lines of a usage point share.
pub(super) struct Sink<'a> {
    pub(super) input: &'a PointInput<'a>,
    pub(super) rules: &'a UsageRules,
    pub(super) history: History<'a>,
    /// Meters beside those whose use is counted.
    pub(super) twins: Vec<Twin>,
    /// Days with an outage teach nothing.
    pub(super) outage_days: BTreeSet<DayNumber>,
    pub(super) slots: Vec<Span>,
    pub(super) days: Vec<Span>,
    pub(super) findings: Vec<Finding>,
    /// Days of a register whose both ends are known, also those that are not asked for.
    pub(super) wholes: Vec<Whole>,
    /// Slots and days before need not be derived, but where they hang together with later ones.
    pub(super) learn: Option<Timestamp>,
    /// What lies before the anchor would have been looked at.
    pub(super) short: bool,
}

impl Sink<'_> {
    pub(super) fn wants(&self, start: Timestamp) -> bool {
        self.input.from <= start && start < self.input.to
    }

    pub(super) fn outage_covers(&self, from: Timestamp, to: Timestamp) -> bool {
        self.input.outages.iter().any(|(start, end)| *start <= from && to <= *end)
    }

    pub(super) fn outage_touches(&self, from: Timestamp, to: Timestamp) -> bool {
        self.input.outages.iter().any(|(start, end)| *start < to && from < *end)
    }

    /// E1: what a meter beside the other used.
    pub(super) fn twin_use(&self, from: Timestamp, to: Timestamp) -> Option<i64> {
        self.twins.iter().find_map(|twin| twin.use_of(from, to))
    }

    /// The points of a line that are of the present customer.
    pub(super) fn of_customer<'p>(&self, points: &'p [Point]) -> &'p [Point] {
        let since = self.input.usage_point.customer_since;
        let here = since.filter(|since| points.last().is_some_and(|last| last.ts >= *since));
        here.map_or(points, |since| &points[points.partition_point(|point| point.ts < since)..])
    }

    /// Whether estimates of a stretch of time have to wait.
    pub(super) fn is_suspended(&self, to: Timestamp) -> bool {
        self.input.aids.suspended.is_some_and(|since| since < to)
    }

    /// The end of the last day that is asked for: so far an installation without an end reaches.
    pub(super) fn horizon(&self) -> Timestamp {
        let zone = &self.input.usage_point.zone;
        zone.start_of_day(zone.day_of(self.input.to.plus_micros(-1)).plus_days(1))
    }

    /// A stretch of which nobody knows the use: one span a civil day.
    pub(super) fn missing(&mut self, installation: usize, from: Timestamp, to: Timestamp, why: &str) {
        let zone = &self.input.usage_point.zone;
        let mut start = from;
        // Days before the range are passed over in one step.
        if start < self.input.from {
            start = start.max(zone.start_of_day(zone.day_of(self.input.from)).min(self.input.from));
        }
        let evidence: Arc<str> = why.into();
        while start < to && start < self.input.to {
            let end = zone.start_of_day(zone.day_of(start).plus_days(1)).min(to);
            if self.wants(start) {
                self.days.push(Span {
                    level: Level::Day,
                    start,
                    end,
                    value: None,
                    quality: Quality::Missing,
                    method: None,
                    estimated: Amount::ZERO,
                    start_register: None,
                    end_register: None,
                    installation,
                    evidence: Some(Arc::clone(&evidence)),
                    parts: Some(Box::default()),
                });
            }
            start = end.max(start.plus_micros(1));
        }
    }

    pub(super) fn gap_finding(
        &mut self,
        installation: usize,
        severity: Severity,
        gap: (Timestamp, Timestamp),
        text: &str,
    ) {
        if self.wants(gap.0) {
            self.findings.push(Finding {
                rule: Rule::V09,
                severity,
                start: gap.0,
                end: gap.1,
                measured: Amount::from_micros(gap.1.micros_since(gap.0)),
                limit: None,
                installation,
                evidence: text.to_owned(),
            });
        }
    }
}
