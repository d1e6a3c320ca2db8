//! NEM12: interval metering data of electricity in AEMO's Meter Data File Format.
//!
//! A usage point's id is its NMI. Days are market days: 24 hours of UTC+10, whatever the usage point's own zone and its summer
//! time. A cycle takes the market days of its civil dates, so that each market day is in one cycle; where the usage point has
//! summer time, the hour at either end belongs to another cycle than by civil time. A day on which a meter was exchanged is the
//! later meter's. Values are kWh or kvarh of three decimals; finer ones are rounded on their running sum, so that the sum of
//! any stretch is less than a watt-hour off. Only curves have a place here, and the register at the end of the cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::RangeInclusive;

use meterlake_model::{Amount, CivilDay, Commodity, Method, Quality, Timestamp, Zone, rescale_half_even};

use super::codes::{nem12_quality, nem12_stream, shortest, unit_name};
use super::error::ExportError;
use super::item::{Curve, Head, LeftOut, Point, Slot};
use super::writer::{ExportOptions, PointWriter};

/// Seconds that market time is ahead of UTC, all the year.
const MARKET_S: i64 = 10 * 3600;

/// The market days of the civil dates from a first one up to the day before `end_day`, as instants.
pub(super) fn market_span(first_day: CivilDay, end_day: CivilDay) -> (Timestamp, Timestamp) {
    (start_of(first_day), start_of(end_day))
}

fn start_of(day: CivilDay) -> Timestamp {
    Zone::utc().start_of_day(day).plus_seconds(-MARKET_S)
}

/// `20260331093000`, in market time.
fn market_text(ts: Timestamp) -> String {
    let (utc, ts) = (Zone::utc(), ts.plus_seconds(MARKET_S));
    let (day, minute) = (utc.day_of(ts), utc.minute_of_day(ts));
    format!("{}{:02}{:02}{:02}", date(day), minute / 60, minute % 60, ts.unix_seconds().rem_euclid(60))
}

fn date(day: CivilDay) -> String {
    format!("{:04}{:02}{:02}", day.year(), day.month(), day.day())
}

/// Writes the file.
pub(super) struct Nem12Writer<W: Write> {
    updated: String,
    out: W,
}

impl<W: Write> Nem12Writer<W> {
    pub(super) fn begin(head: &Head, options: &ExportOptions, mut out: W) -> Result<Self, ExportError> {
        let updated = market_text(head.as_of);
        writeln!(out, "100,NEM12,{},{},{}", &updated[..12], options.nem12_from, options.nem12_to)?;
        Ok(Self { updated, out })
    }

    fn curve(&mut self, point: &Point, (suffix, all): (&str, &str), curve: &Curve) -> Result<(), ExportError> {
        let days: BTreeSet<CivilDay> = point
            .items
            .iter()
            .flat_map(|i| (0..i.end_day.days_since(i.first_day)).map(|n| i.first_day.plus_days(n)))
            .collect();
        let mut sum = RunningSum::default();
        let mut meter: Option<&str> = None;
        for day in days {
            let slots = slots_of(curve, day);
            // A day without any slot stays with the meter before it.
            let of_day = slots.iter().rev().flatten().next().map(|s| &*s.meter_id).or(meter).unwrap_or("");
            if meter != Some(of_day) {
                let serial = if of_day.len() <= 12 { of_day } else { "" };
                let (nmi, unit) = (&point.usage_point_id, unit_name(curve.channel));
                let minutes = curve.interval_s / 60;
                writeln!(self.out, "200,{nmi},{all},{suffix},{suffix},,{serial},{unit},{minutes},")?;
                meter = Some(of_day);
            }
            self.day(point, curve, day, &slots, &mut sum)?;
        }
        self.read(point, curve)
    }

    fn day(
        &mut self,
        point: &Point,
        curve: &Curve,
        day: CivilDay,
        slots: &[Option<&Slot>],
        sum: &mut RunningSum,
    ) -> Result<(), ExportError> {
        write!(self.out, "300,{}", date(day))?;
        for slot in slots.iter().copied() {
            let value = slot.filter(|s| nem12_quality(s.quality, s.method) != "N").and_then(|s| s.value);
            let value = value.unwrap_or_default();
            let thousandths = sum.add(value).ok_or_else(|| ExportError::Unsayable {
                what: format!("{} {} {}", point.usage_point_id, curve.channel, slot.map_or(start_of(day), |s| s.start)),
                value: shortest(value),
                format: "NEM12",
                why: "its values are never negative, and their sum has at most 18 digits",
            })?;
            write!(self.out, ",{}.{:03}", thousandths / 1000, thousandths % 1000)?;
        }
        let stretches = stretches(slots);
        match stretches.as_slice() {
            [(_, said)] => writeln!(self.out, ",{},{},", said.fields(), self.updated)?,
            _ => {
                writeln!(self.out, ",V,,,{},", self.updated)?;
                for (range, said) in &stretches {
                    writeln!(self.out, "400,{},{},{}", range.start(), range.end(), said.fields())?;
                }
            }
        }
        Ok(())
    }

    /// The register at the end of the cycle, behind its last day.
    fn read(&mut self, point: &Point, curve: &Curve) -> Result<(), ExportError> {
        let with = point.items.iter().filter(|i| !i.is_register() && i.part == curve.channel.name());
        let Some((item, read)) = with.rev().find_map(|i| Some((i, i.end_read?))) else { return Ok(()) };
        let code = if read.quality.is_estimate() { 'E' } else { 'N' };
        let at = market_text(item.span(&point.zone).1);
        Ok(writeln!(self.out, "500,{code},,{at},{}", shortest(read.register))?)
    }
}

impl<W: Write> PointWriter<W> for Nem12Writer<W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        let id = &point.usage_point_id;
        let whole = |why| Ok(vec![LeftOut { what: id.clone(), why }]);
        if point.commodity != Commodity::Electricity {
            return whole("NEM12 is for electricity");
        }
        if id.len() != 10 || !id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
            return whole("the id is no NMI of 10 capital letters and digits");
        }
        let mut left = Vec::new();
        let mut streams: BTreeMap<usize, (char, &Curve)> = BTreeMap::new();
        for curve in &point.curves {
            let what = || format!("{id} {}", curve.channel);
            let Some(stream) = nem12_stream(curve.channel) else {
                left.push(LeftOut { what: what(), why: "NEM12 has no data stream for it" });
                continue;
            };
            if ![300, 900, 1800].contains(&curve.interval_s) {
                left.push(LeftOut { what: what(), why: "intervals of NEM12 have 5, 15 or 30 minutes" });
            } else if !on_grid(curve) {
                left.push(LeftOut { what: what(), why: "its slots do not lie on the grid of market time" });
            } else {
                let order = "EBQK".find(stream).unwrap_or(4);
                // A meter's own intervals are finer than those between readings of its register.
                let better = curve.channel.name().contains("_delta_");
                let (kept, dropped) = match streams.get(&order) {
                    Some((_, other)) if !better => (*other, Some(curve)),
                    Some((_, other)) => (curve, Some(*other)),
                    None => (curve, None),
                };
                if let Some(dropped) = dropped {
                    let what = format!("{id} {}", dropped.channel);
                    left.push(LeftOut { what, why: "another channel has its data stream" });
                }
                streams.insert(order, (stream, kept));
            }
        }
        let all: String = streams.values().map(|(stream, _)| format!("{stream}1")).collect();
        for (stream, curve) in streams.values() {
            self.curve(point, (&format!("{stream}1"), &all), curve)?;
        }
        if streams.is_empty() && left.is_empty() {
            left.push(LeftOut { what: id.clone(), why: "there is no curve of it" });
        }
        Ok(left)
    }

    fn finish(mut self: Box<Self>) -> Result<W, ExportError> {
        writeln!(self.out, "900")?;
        Ok(self.out)
    }
}

/// Thousandths of the unit, rounded so that their sum is the rounded sum.
#[derive(Default)]
struct RunningSum {
    exact: Amount,
    said: i64,
}

impl RunningSum {
    /// `None` for what is negative, or beyond 18 digits.
    fn add(&mut self, value: Amount) -> Option<i64> {
        self.exact = self.exact.checked_add(value).filter(|_| value >= Amount::ZERO)?;
        let rounded = rescale_half_even(self.exact.micros(), Amount::SCALE, 3).ok()?;
        let step = rounded - self.said;
        self.said = rounded;
        Some(step)
    }
}

fn on_grid(curve: &Curve) -> bool {
    let aligned = |t: Timestamp| (t.unix_seconds() + MARKET_S).rem_euclid(curve.interval_s) == 0;
    curve.slots.iter().all(|s| aligned(s.start) && s.end.unix_seconds() - s.start.unix_seconds() == curve.interval_s)
}

/// The slots of a market day, each at its place.
fn slots_of(curve: &Curve, day: CivilDay) -> Vec<Option<&Slot>> {
    let (start, end) = (start_of(day), start_of(day.plus_days(1)));
    let from = curve.slots.partition_point(|s| s.start < start);
    let count = usize::try_from(86_400 / curve.interval_s).unwrap_or(0);
    let mut slots = vec![None; count];
    for slot in curve.slots[from..].iter().take_while(|s| s.start < end) {
        let place = (slot.start.unix_seconds() - start.unix_seconds()) / curve.interval_s;
        if let Some(place) = usize::try_from(place).ok().and_then(|at| slots.get_mut(at)) {
            *place = Some(slot);
        }
    }
    slots
}

/// Quality, reason and description of some intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    method: &'static str,
    reason: &'static str,
    description: String,
}

impl Said {
    fn of(slot: Option<&Slot>) -> Self {
        let (quality, method) = slot.map_or((Quality::Missing, None), |s| (s.quality, s.method));
        let code = nem12_quality(quality, method);
        let (reason, description) = match code.as_bytes().first() {
            Some(b'N') => ("78", String::new()),
            // Free text: what we know is how the value came about, not why the reading is not there.
            Some(b'S' | b'F') => ("0", describe(quality, method)),
            _ => ("", String::new()),
        };
        Self { method: code, reason, description }
    }

    fn fields(&self) -> String {
        format!("{},{},{}", self.method, self.reason, self.description)
    }
}

fn describe(quality: Quality, method: Option<Method>) -> String {
    method.map_or_else(|| quality.to_string(), |method| format!("{quality}: {method}"))
}

/// Intervals of equal quality, counted from 1.
fn stretches(slots: &[Option<&Slot>]) -> Vec<(RangeInclusive<usize>, Said)> {
    let mut found: Vec<(RangeInclusive<usize>, Said)> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let said = Said::of(*slot);
        match found.last_mut() {
            Some((range, last)) if *last == said => *range = *range.start()..=at + 1,
            _ => found.push((at + 1..=at + 1, said)),
        }
    }
    found
}
