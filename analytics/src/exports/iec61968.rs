//! A message of IEC 61968-9: `MeterReadings` in an event message of IEC 61968-100.
//!
//! Each usage point has one `MeterReading` for its bills (registers as read, uses, demands) and one for each meter's curve. What is
//! measured is said by reading types of 18 numbers, how sure it is by quality codes; the comment of an item's quality is the
//! item's id. The time of an interval is its end. A slot that nobody knows is an interval without a value.

use std::io::{self, Write};

use super::codes::{Unit, cim_quality, commodity, flow, shortest, tariff};
use super::error::ExportError;
use super::item::{Curve, Head, Item, LeftOut, Point, START_READ, Slot};
use super::writer::PointWriter;
use super::xml::{Xml, uuid};

/// Writes the message.
pub(super) struct MeterReadingsWriter<W: Write> {
    out: Xml<W>,
}

const MESSAGE: &str = "EventMessage";

impl<W: Write> MeterReadingsWriter<W> {
    pub(super) fn begin(head: &Head, out: W) -> Result<Self, ExportError> {
        let mut out = Xml::begin(out)?;
        out.open(MESSAGE, &[("xmlns", "http://iec.ch/TC57/2011/schema/message")])?;
        out.open("Header", &[])?;
        out.text("Verb", "created")?;
        out.text("Noun", "MeterReadings")?;
        out.text("Timestamp", head.as_of.to_string())?;
        out.text("Source", &head.pins.program)?;
        out.text("MessageID", uuid(&head.name()))?;
        out.text("CorrelationID", head.name())?;
        out.close("Header")?;
        out.open("Payload", &[])?;
        out.open("MeterReadings", &[("xmlns", "http://iec.ch/TC57/2011/MeterReadings#")])?;
        Ok(Self { out })
    }

    /// Curves of one meter.
    fn curves(&mut self, point: &Point, meter: &str) -> io::Result<()> {
        let out = &mut self.out;
        out.open("MeterReading", &[])?;
        for curve in &point.curves {
            let Some(unit) = Unit::of(curve.channel) else { continue };
            let mut slots = curve.slots.iter().filter(|s| &*s.meter_id == meter).peekable();
            if slots.peek().is_none() {
                continue;
            }
            let measuring = measuring_period(curve.interval_s);
            out.open("IntervalBlocks", &[])?;
            for slot in slots {
                interval(out, slot, measuring.is_none())?;
            }
            out.empty("ReadingType", &[("ref", &curve_type(curve, unit, measuring.unwrap_or(0)))])?;
            out.close("IntervalBlocks")?;
        }
        out.open("Meter", &[])?;
        out.text("mRID", meter)?;
        out.close("Meter")?;
        usage_point(out, point)?;
        out.close("MeterReading")
    }
}

impl<W: Write> PointWriter<W> for MeterReadingsWriter<W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        let id = &point.usage_point_id;
        let mut left = Vec::new();
        let out = &mut self.out;
        out.open("MeterReading", &[])?;
        for item in &point.items {
            let Some(unit) = Unit::by_name(&item.unit) else {
                left.push(LeftOut { what: item.id(id), why: "its unit has no code in IEC 61968-9" });
                continue;
            };
            reading(out, point, item, unit)?;
        }
        usage_point(out, point)?;
        out.close("MeterReading")?;
        let mut meters: Vec<&str> = Vec::new();
        for curve in &point.curves {
            if Unit::of(curve.channel).is_none() {
                left.push(LeftOut {
                    what: format!("{id} {}", curve.channel),
                    why: "its unit has no code in IEC 61968-9",
                });
                continue;
            }
            for slots in curve.slots.chunk_by(|a, b| a.meter_id == b.meter_id) {
                meters.extend(slots.first().map(|s| &*s.meter_id).filter(|m| !meters.contains(m)));
            }
        }
        for meter in meters {
            self.curves(point, meter)?;
        }
        Ok(left)
    }

    fn finish(mut self: Box<Self>) -> Result<W, ExportError> {
        for name in ["MeterReadings", "Payload", MESSAGE] {
            self.out.close(name)?;
        }
        Ok(self.out.finish()?)
    }
}

fn usage_point<W: Write>(out: &mut Xml<W>, point: &Point) -> io::Result<()> {
    out.open("UsagePoint", &[])?;
    out.text("mRID", &point.usage_point_id)?;
    out.close("UsagePoint")
}

fn interval<W: Write>(out: &mut Xml<W>, slot: &Slot, with_period: bool) -> io::Result<()> {
    out.open("IntervalReadings", &[])?;
    out.text("timeStamp", slot.end.to_string())?;
    if let Some(value) = slot.value {
        out.text("value", shortest(value))?;
    }
    quality(out, None, cim_quality(slot.quality, slot.method))?;
    if with_period {
        period(out, &slot.start.to_string(), &slot.end.to_string())?;
    }
    out.close("IntervalReadings")
}

fn reading<W: Write>(out: &mut Xml<W>, point: &Point, item: &Item, unit: Unit) -> io::Result<()> {
    let (start, end) = item.span(&point.zone);
    out.open("Readings", &[])?;
    out.text("reason", "billing")?;
    out.text("timeStamp", if item.determinant == START_READ { start } else { end }.to_string())?;
    out.text("value", shortest(item.value))?;
    quality(out, Some(&item.id(&point.usage_point_id)), cim_quality(item.quality, None))?;
    out.empty("ReadingType", &[("ref", &item_type(point, item, unit))])?;
    if !item.is_register() {
        period(out, &start.to_string(), &end.to_string())?;
    }
    out.close("Readings")
}

fn quality<W: Write>(out: &mut Xml<W>, comment: Option<&str>, code: &str) -> io::Result<()> {
    out.open("ReadingQualities", &[])?;
    if let Some(comment) = comment {
        out.text("comment", comment)?;
    }
    out.empty("ReadingQualityType", &[("ref", code)])?;
    out.close("ReadingQualities")
}

fn period<W: Write>(out: &mut Xml<W>, start: &str, end: &str) -> io::Result<()> {
    out.open("timePeriod", &[])?;
    out.text("end", end)?;
    out.text("start", start)?;
    out.close("timePeriod")
}

/// Code of an interval's length; `None` where there is none, and each interval says its own.
const fn measuring_period(interval_s: i64) -> Option<u8> {
    Some(match interval_s {
        60 => 3,
        300 => 6,
        600 => 1,
        900 => 2,
        1200 => 31,
        1800 => 5,
        3600 => 7,
        86_400 => 4,
        _ => return None,
    })
}

/// The use of intervals.
fn curve_type(curve: &Curve, unit: Unit, measuring: u8) -> String {
    let name = curve.channel.name();
    reading_type([0, 0, measuring, 4], (flow(name), commodity(curve.channel.commodity())), unit, tariff(name))
}

/// A register (bulk quantity), the use of a billing period (delta data), or the highest demand in it.
fn item_type(point: &Point, item: &Item, unit: Unit) -> String {
    let what = match (item.is_register(), unit.is_use()) {
        (true, _) => [0, 0, 0, 1],
        (false, true) => [8, 0, 0, 4],
        (false, false) => [8, 8, 0, 6],
    };
    reading_type(what, (flow(&item.part), commodity(point.commodity)), unit, tariff(&item.part))
}

/// Period, aggregate, measuring period, accumulation; flow, commodity, kind; no harmonics nor argument; tariff register; no critical
/// peak, tier nor phases; power of ten, unit, no currency.
fn reading_type([period, aggregate, measuring, accumulation]: [u8; 4], of: (u8, u8), unit: Unit, tou: u8) -> String {
    let (flow, commodity) = of;
    let Unit { uom, kind, power } = unit;
    format!(
        "{period}.{aggregate}.{measuring}.{accumulation}.{flow}.{commodity}.{kind}.0.0.0.0.{tou}.0.0.0.{power}.{uom}.0"
    )
}
