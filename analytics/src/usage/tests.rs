//! The acceptance cases of the walk and the fills, and its properties.

mod aside;
mod bench;
mod cases;
mod daiad;
mod fills;
mod properties;
mod resumed;

use std::collections::BTreeSet;

use meterlake_model::registry::{Installation, InstallationChannel, UsagePoint};
use meterlake_model::{
    Amount, Channel, CivilDay, Commodity, MeterId, Quality, ReadingFlags, Timestamp, UsagePointId, Zone,
};

use super::{
    Aids, Finding, InstallationReadings, Level, LoadProfile, PointInput, PointUsage, Reading, Rule, Span, Temperatures,
    UsageRules, Whole, derive,
};

/// An electricity meter at a point in Madrid: resolution 0.001, 3 × 63 A × 230 V, hourly, unless a case says otherwise.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) point: UsagePoint,
    pub(crate) channel: Channel,
    pub(crate) meters: Vec<(Installation, InstallationChannel, Vec<Reading>)>,
    pub(crate) outages: Vec<(Timestamp, Timestamp)>,
    pub(crate) holidays: BTreeSet<CivilDay>,
    pub(crate) wholes: Vec<Whole>,
    pub(crate) anchor: Option<super::Anchor>,
    pub(crate) borders: Vec<Timestamp>,
    pub(crate) twins: Vec<(Installation, InstallationChannel, Vec<Reading>)>,
    pub(crate) temperatures: Option<Temperatures>,
    pub(crate) profile: Option<LoadProfile>,
    pub(crate) suspended: Option<Timestamp>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

pub(crate) fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

/// A local time in Madrid such as `2026-03-15 10:00`.
pub(crate) fn at(local: &str) -> Timestamp {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let text = if local.len() == 10 { format!("{local} 00:00") } else { local.to_owned() };
    zone.resolve_local(&format!("{text}:00")).unwrap().earlier()
}

impl Case {
    pub(crate) fn electricity() -> Self {
        Self::new(Commodity::Electricity, "energy_import_kwh")
    }

    pub(crate) fn water() -> Self {
        Self::new(Commodity::Water, "volume_m3")
    }

    pub(crate) fn new(commodity: Commodity, channel: &str) -> Self {
        Self {
            point: UsagePoint {
                id: UsagePointId::new("point").unwrap(),
                commodity,
                zone: Zone::parse("Europe/Madrid").unwrap(),
                customer_id: None,
                node_id: None,
                class: "residential".into(),
                place: String::new(),
                billing_day: 1,
                active: true,
                continuous_use: false,
                nominal_voltage_dv: None,
                customer_since: None,
                parent_id: None,
            },
            channel: Channel::by_name(channel).unwrap(),
            meters: Vec::new(),
            outages: Vec::new(),
            holidays: BTreeSet::new(),
            wholes: Vec::new(),
            anchor: None,
            borders: Vec::new(),
            twins: Vec::new(),
            temperatures: None,
            profile: None,
            suspended: None,
            from: at("2010-01-01"),
            to: at("2030-01-01"),
        }
    }

    /// Adds a meter without dates.
    pub(crate) fn meter(mut self, readings: &[(&str, &str)]) -> Self {
        let capacity = (self.point.commodity == Commodity::Electricity).then(|| amount("43.47"));
        let installation = Installation {
            meter_id: MeterId::new(&format!("meter-{}", self.meters.len() + 1)).unwrap(),
            usage_point_id: self.point.id.clone(),
            installed_at: None,
            removed_at: None,
            is_check: false,
            channels: Vec::new(),
        };
        let channel = InstallationChannel {
            channel: self.channel,
            multiplier_micros: 1_000_000,
            digits: None,
            resolution: amount("0.001"),
            interval_s: 3600,
            interval_assumed: false,
            capacity_per_hour: capacity,
            start_register: None,
            end_register: None,
        };
        let readings = readings
            .iter()
            .enumerate()
            .map(|(i, (ts, value))| reading(at(ts), value, i64::try_from(i).unwrap()))
            .collect();
        self.meters.push((installation, channel, readings));
        self
    }

    /// Adds a check meter like the last meter added, with these readings.
    pub(crate) fn twin(mut self, readings: impl IntoIterator<Item = Reading>) -> Self {
        let (installation, channel, _) = self.meters.last().unwrap().clone();
        let installation = Installation { is_check: true, meter_id: MeterId::new("check").unwrap(), ..installation };
        self.twins.push((installation, channel, readings.into_iter().collect()));
        self
    }

    /// Changes the last meter added.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Installation, &mut InstallationChannel)) -> Self {
        let (installation, channel, _) = self.meters.last_mut().unwrap();
        change(installation, channel);
        self
    }

    pub(crate) fn readings(mut self, readings: impl IntoIterator<Item = Reading>) -> Self {
        self.meters.last_mut().unwrap().2.extend(readings);
        self
    }

    pub(crate) fn run(&self) -> PointUsage {
        self.run_by(&UsageRules::default())
    }

    pub(crate) fn run_by(&self, rules: &UsageRules) -> PointUsage {
        let input = PointInput {
            usage_point: &self.point,
            channel: self.channel,
            installations: self
                .meters
                .iter()
                .map(|(installation, channel, readings)| InstallationReadings { installation, channel, readings })
                .collect(),
            outages: &self.outages,
            holidays: &self.holidays,
            wholes: &self.wholes,
            aids: Aids {
                twins: self
                    .twins
                    .iter()
                    .map(|(installation, channel, readings)| InstallationReadings { installation, channel, readings })
                    .collect(),
                temperatures: self.temperatures.as_ref(),
                profile: self.profile.as_ref(),
                suspended: self.suspended,
            },
            anchor: self.anchor,
            borders: &self.borders,
            from: self.from,
            to: self.to,
        };
        derive(&input, rules)
    }
}

pub(crate) fn reading(ts: Timestamp, value: &str, received: i64) -> Reading {
    let flags = ReadingFlags::NONE;
    Reading { ts, received_at_s: received, revision: 0, value: amount(value), flags }
}

/// Readings every hour from a local time on, each higher by the next of `uses`.
pub(crate) fn hourly(start: Timestamp, register: &str, uses: &[&str]) -> Vec<Reading> {
    let mut now = amount(register);
    let mut out = vec![reading(start, register, 0)];
    for (i, use_) in uses.iter().enumerate() {
        now = now.checked_add(amount(use_)).unwrap();
        let hours = i64::try_from(i).unwrap() + 1;
        let mut next = reading(start.plus_seconds(hours * 3600), "0", 0);
        next.value = now;
        out.push(next);
    }
    out
}

pub(crate) fn level(usage: &PointUsage, level: Level) -> Vec<&Span> {
    usage.spans.iter().filter(|span| span.level == level).collect()
}

pub(crate) fn total(usage: &PointUsage) -> Amount {
    Amount::sum(level(usage, Level::Day).iter().filter_map(|span| span.value)).unwrap()
}

pub(crate) fn rules(usage: &PointUsage) -> Vec<Rule> {
    usage.findings.iter().map(|finding| finding.rule).collect()
}

/// The findings without gaps, which most cases leave between their readings.
pub(crate) fn told(usage: &PointUsage) -> Vec<&Finding> {
    usage.findings.iter().filter(|finding| finding.rule != Rule::V09).collect()
}

/// Slots add up to the known days, and nothing is negative.
pub(crate) fn check_closure(usage: &PointUsage) {
    for day in level(usage, Level::Day).into_iter().filter(|day| day.value.is_some()) {
        let first = usage.spans.partition_point(|s| (s.level == Level::Slot, s.start) < (true, day.start));
        let inside = usage.spans[first..].iter().take_while(|slot| slot.start < day.end);
        assert_eq!(
            Amount::sum(inside.map(|slot| slot.value.unwrap())),
            day.value,
            "slots add up to their day: {day:?}"
        );
    }
    for span in &usage.spans {
        assert!(span.value.is_none_or(|value| value >= Amount::ZERO), "no negative use: {span:?}");
        assert!(span.start < span.end, "a span has a length: {span:?}");
        assert_eq!(span.value.is_none(), span.quality == Quality::Missing, "{span:?}");
    }
}
