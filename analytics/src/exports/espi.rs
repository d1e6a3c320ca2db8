//! Green Button: an Atom feed of NAESB's ESPI, the same for a customer's download and for a billing system.
//!
//! Each usage point has its curves (`MeterReading`, `ReadingType`, one `IntervalBlock` a civil day) and a `UsageSummary` for each
//! use and each highest demand of its bills. Entries name each other by their links. Times are in UTC, values are integers:
//! of a thousandth of a watt-hour, of a cubic centimetre. A slot that nobody knows has no reading. Registers as read have no
//! place here.

mod time;

use std::collections::BTreeSet;
use std::io::{self, Write};

use meterlake_model::{Amount, Commodity};

use super::codes::{Unit, commodity, flow, tariff};
use super::error::ExportError;
use super::item::{Curve, Head, Item, LeftOut, Point, Slot};
use super::writer::PointWriter;
use super::xml::{Xml, segment, uuid};

/// Values beyond 48 bits have no place.
const LARGEST: i64 = (1 << 47) - 1;
const RESOURCES: &str = "/espi/1_1/resource";

/// Writes the feed.
pub(super) struct EspiWriter<'a, W: Write> {
    head: &'a Head,
    out: Xml<W>,
    /// Entries that several usage points share.
    shared: BTreeSet<String>,
}

impl<'a, W: Write> EspiWriter<'a, W> {
    pub(super) fn begin(head: &'a Head, out: W) -> Result<Self, ExportError> {
        let mut out = Xml::begin(out)?;
        out.open("feed", &[("xmlns", "http://www.w3.org/2005/Atom"), ("xmlns:espi", "http://naesb.org/espi")])?;
        out.text("id", format!("urn:uuid:{}", uuid(&head.name())))?;
        out.text("title", head.name())?;
        out.text("updated", head.as_of.to_string())?;
        out.open("author", &[])?;
        out.text("name", &head.pins.program)?;
        out.close("author")?;
        out.empty("link", &[("rel", "self"), ("href", &format!("{RESOURCES}/Batch/{}", segment(&head.name())))])?;
        Ok(Self { head, out, shared: BTreeSet::new() })
    }

    /// An entry: its place, what it is part of, and what is below or beside it.
    fn entry(
        &mut self,
        (place, title): (&str, &str),
        related: &[String],
        content: impl FnOnce(&mut Xml<W>) -> io::Result<()>,
    ) -> io::Result<()> {
        let out = &mut self.out;
        out.open("entry", &[])?;
        out.text("id", format!("urn:uuid:{}", uuid(place)))?;
        out.empty("link", &[("rel", "self"), ("href", place)])?;
        let up = place.rsplit_once('/').map_or(place, |(up, _)| up);
        out.empty("link", &[("rel", "up"), ("href", up)])?;
        for place in related {
            out.empty("link", &[("rel", "related"), ("href", place)])?;
        }
        out.text("title", title)?;
        out.open("content", &[("type", "application/xml")])?;
        content(out)?;
        out.close("content")?;
        out.text("published", self.head.as_of.to_string())?;
        out.text("updated", self.head.as_of.to_string())?;
        out.close("entry")
    }

    /// Zone of the usage point in the year of its first item.
    fn local_time(&mut self, place: &str, point: &Point) -> io::Result<()> {
        if !self.shared.insert(place.to_owned()) {
            return Ok(());
        }
        let day = point.items.first().map_or_else(|| point.zone.day_of(self.head.as_of), |item| item.first_day);
        let local = time::local_time(&point.zone, day);
        self.entry((place, point.zone.name()), &[], |out| {
            out.open("espi:LocalTimeParameters", &[])?;
            out.text("espi:dstEndRule", format!("{:08X}", local.end_rule))?;
            out.number("espi:dstOffset", local.dst_offset)?;
            out.text("espi:dstStartRule", format!("{:08X}", local.start_rule))?;
            out.number("espi:tzOffset", local.tz_offset)?;
            out.close("espi:LocalTimeParameters")
        })
    }

    fn curve(&mut self, place: &str, point: &Point, curve: &Curve, unit: Unit) -> Result<(), ExportError> {
        let name = curve.channel.name();
        let reading_type = format!("{RESOURCES}/ReadingType/{name}-{}", curve.interval_s);
        let reading = format!("{place}/MeterReading/{name}-{}", curve.interval_s);
        self.entry((&reading, name), &[format!("{reading}/IntervalBlock"), reading_type.clone()], |out| {
            out.empty("espi:MeterReading", &[])
        })?;
        if self.shared.insert(reading_type.clone()) {
            self.entry((&reading_type, name), &[], |out| reading_type_of(out, curve, unit))?;
        }
        let day_of = |slot: &Slot| point.zone.day_of(slot.start);
        for day in curve.slots.chunk_by(|a, b| day_of(a) == day_of(b)) {
            let (Some(first), Some(last)) = (day.first(), day.last()) else { continue };
            let date = day_of(first);
            for slot in day {
                let what = || format!("{} {name} {}", point.usage_point_id, slot.start);
                sayable(slot.value.unwrap_or_default(), what)?;
            }
            let place = format!("{reading}/IntervalBlock/{date}");
            self.entry((&place, &date.to_string()), &[], |out| {
                out.open("espi:IntervalBlock", &[])?;
                span(out, "espi:interval", (first.start.unix_seconds(), last.end.unix_seconds()))?;
                for slot in day {
                    let (Some(value), Some(quality)) = (slot.value, slot.quality.espi(slot.method)) else { continue };
                    out.open("espi:IntervalReading", &[])?;
                    out.open("espi:ReadingQuality", &[])?;
                    out.number("espi:quality", quality)?;
                    out.close("espi:ReadingQuality")?;
                    span(out, "espi:timePeriod", (slot.start.unix_seconds(), slot.end.unix_seconds()))?;
                    out.number("espi:value", value.micros())?;
                    out.close("espi:IntervalReading")?;
                }
                out.close("espi:IntervalBlock")
            })?;
        }
        Ok(())
    }

    fn summary(&mut self, place: &str, point: &Point, item: &Item, unit: Unit) -> Result<(), ExportError> {
        let id = item.id(&point.usage_point_id);
        sayable(item.value, || id.clone())?;
        let (start, end) = item.span(&point.zone);
        let place = format!("{place}/UsageSummary/{}", segment(&id));
        let status = self.head.as_of.unix_seconds();
        self.entry((&place, &id), &[], |out| {
            out.open("espi:UsageSummary", &[])?;
            span(out, "espi:billingPeriod", (start.unix_seconds(), end.unix_seconds()))?;
            let measure = if unit.is_use() { "espi:overallConsumptionLastPeriod" } else { "espi:peakDemand" };
            out.open(measure, &[])?;
            out.number("espi:powerOfTenMultiplier", unit.power - 6)?;
            out.number("espi:uom", unit.uom)?;
            out.number("espi:value", item.value.micros())?;
            out.close(measure)?;
            if let Some(quality) = item.quality.espi(None) {
                out.number("espi:qualityOfReading", quality)?;
            }
            out.number("espi:statusTimeStamp", status)?;
            out.number("espi:commodity", commodity(point.commodity))?;
            out.close("espi:UsageSummary")
        })?;
        Ok(())
    }
}

impl<W: Write> PointWriter<W> for EspiWriter<'_, W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        let id = &point.usage_point_id;
        let customer = point.customer_id.as_deref().unwrap_or("-");
        let place = format!("{RESOURCES}/RetailCustomer/{}/UsagePoint/{}", segment(customer), segment(id));
        let local_time = format!("{RESOURCES}/LocalTimeParameters/{}", segment(point.zone.name()));
        let related = [format!("{place}/MeterReading"), format!("{place}/UsageSummary"), local_time.clone()];
        let service = match point.commodity {
            Commodity::Electricity => 0,
            Commodity::Water => 2,
        };
        self.entry((&place, id), &related, |out| {
            out.open("espi:UsagePoint", &[])?;
            out.open("espi:ServiceCategory", &[])?;
            out.number("espi:kind", service)?;
            out.close("espi:ServiceCategory")?;
            out.number("espi:status", 1)?;
            out.close("espi:UsagePoint")
        })?;
        self.local_time(&local_time, point)?;
        let mut left = Vec::new();
        for curve in &point.curves {
            match Unit::of(curve.channel) {
                Some(unit) => self.curve(&place, point, curve, unit)?,
                None => {
                    let what = format!("{id} {}", curve.channel);
                    left.push(LeftOut { what, why: "its unit has no code in ESPI" });
                }
            }
        }
        for item in &point.items {
            let why = match Unit::by_name(&item.unit) {
                Some(unit) if !item.is_register() => {
                    self.summary(&place, point, item, unit)?;
                    continue;
                }
                Some(_) => "a register as read has no place in ESPI",
                None => "its unit has no code in ESPI",
            };
            left.push(LeftOut { what: item.id(id), why });
        }
        Ok(left)
    }

    fn finish(mut self: Box<Self>) -> Result<W, ExportError> {
        self.out.close("feed")?;
        Ok(self.out.finish()?)
    }
}

fn reading_type_of<W: Write>(out: &mut Xml<W>, curve: &Curve, unit: Unit) -> io::Result<()> {
    let name = curve.channel.name();
    out.open("espi:ReadingType", &[])?;
    // The use of each interval, validated unless a reading says otherwise.
    out.number("espi:accumulationBehaviour", 4)?;
    out.number("espi:commodity", commodity(curve.channel.commodity()))?;
    out.number("espi:dataQualifier", 12)?;
    out.number("espi:defaultQuality", 17)?;
    out.number("espi:flowDirection", flow(name))?;
    out.number("espi:intervalLength", curve.interval_s)?;
    out.number("espi:kind", unit.kind)?;
    out.number("espi:powerOfTenMultiplier", unit.power - 6)?;
    out.number("espi:timeAttribute", 0)?;
    if tariff(name) > 0 {
        out.number("espi:tou", tariff(name))?;
    }
    out.number("espi:uom", unit.uom)?;
    out.close("espi:ReadingType")
}

/// A stretch of time: ESPI says how long before it says from when.
fn span<W: Write>(out: &mut Xml<W>, name: &str, (start, end): (i64, i64)) -> io::Result<()> {
    out.open(name, &[])?;
    out.number("espi:duration", end - start)?;
    out.number("espi:start", start)?;
    out.close(name)
}

fn sayable(amount: Amount, what: impl Fn() -> String) -> Result<(), ExportError> {
    if amount.micros().abs() <= LARGEST {
        return Ok(());
    }
    Err(ExportError::Unsayable {
        what: what(),
        value: amount.to_string(),
        format: "ESPI",
        why: "values have at most 48 bits",
    })
}
