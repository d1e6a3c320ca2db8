//! Telegrams of the P1 port: DSMR 4 and 5 of the Netherlands, the Belgian, Luxembourgish and Swedish ones, and with
//! `checksum = false` the older ones.
//!
//! A telegram becomes a document of readings: that of the meter itself, one of each water or electricity meter that is
//! bound to it, and one for each line of its log of long power failures:
//!
//! ```text
//! {"identification": "ISk5\\2MT382-1000", "meter": "K8EG004046395507", "time": "101209113020W", "passed_over": 1,
//!  "readings": [
//!   {"meter": "K8EG004046395507", "time": "101209113020W",
//!    "1-0:1.8.1": {"kWh": 123456.789}, "0-0:96.14.0": "0002", "import_total": {"kWh": 246913.578}},
//!   {"meter": "M4004", "time": "101209112500W", "device_type": 7, "24.2.1": {"m3": 872.234}},
//!   {"meter": "K8EG004046395507", "time": "101208152415W", "power_failure": "restored after 240 s"}]}
//! ```
//!
//! The unit is part of a value's place, so that a meter that writes another unit is never read by a wrong factor; powers
//! and energies come in kilo units whatever the meter writes. Totals of the tariffs and net powers are added, exactly,
//! where the telegram holds only their parts. Meters of other media, and those without a name, are passed over.

mod frame;
mod value;

use meterlake_model::DeadReason;

use super::document::{Builder, Document};
use super::{LIMITS, Refusal};
use frame::{Object, Telegram};
use value::Measured;

/// Where a meter's own name stands: by the Dutch and Belgian standards, by the Luxembourgish.
const METER_NAMES: [&str; 2] = ["96.1.1", "42.0.0"];
/// Of a meter that is bound to it: by the Dutch standard, by the Belgian.
const BOUND_NAMES: [&str; 2] = ["96.1.0", "96.1.1"];
/// Device types of the M-Bus that measure what we keep: electricity, warm water, water.
const BOUND_TYPES: [u8; 3] = [2, 6, 7];
/// The log of long power failures.
const FAILURE_LOG: (&str, &str) = ("1-0", "99.97.0");
/// Longer than any failure: ten years.
const MOST_FAILURE_S: i128 = 10 * 366 * 86_400;

/// Sums and differences: name, the whole where the telegram has it, the parts, and whether the second is subtracted.
const DERIVED: [(&str, &str, [&str; 2], bool); 9] = [
    ("import_total", "1.8.0", ["1.8.1", "1.8.2"], false),
    ("export_total", "2.8.0", ["2.8.1", "2.8.2"], false),
    ("reactive_import_total", "3.8.0", ["3.8.1", "3.8.2"], false),
    ("reactive_export_total", "4.8.0", ["4.8.1", "4.8.2"], false),
    ("net_power", "16.7.0", ["1.7.0", "2.7.0"], true),
    ("net_power_l1", "36.7.0", ["21.7.0", "22.7.0"], true),
    ("net_power_l2", "56.7.0", ["41.7.0", "42.7.0"], true),
    ("net_power_l3", "76.7.0", ["61.7.0", "62.7.0"], true),
    ("net_reactive_power", "", ["3.7.0", "4.7.0"], true),
];

/// Reads one telegram. `checked`: it must bear its checksum.
pub(super) fn parse(payload: &[u8], checked: bool) -> Result<Document<'static>, Refusal> {
    let telegram = frame::parse(payload, checked).map_err(|error| {
        let reason = if error.is_limit() { DeadReason::TooLarge } else { DeadReason::Syntax };
        Refusal::new(reason, error.to_string())
    })?;
    let meter = METER_NAMES.iter().find_map(|quantity| value::name(single(&telegram, "0-0", quantity)?));
    let time = single(&telegram, "0-0", "1.0.0");
    let mut writer = Writer { builder: Builder::new(LIMITS), meter: meter.as_deref(), time };
    writer.root(&telegram)?;
    writer.builder.finish()
}

/// The one value of an object that the telegram holds once.
fn single<'p>(telegram: &Telegram<'p>, channel: &str, quantity: &str) -> Option<&'p str> {
    let mut found = telegram.objects.iter().filter(|object| object.channel == channel && object.quantity == quantity);
    match (found.next(), found.next()) {
        (Some(Object { groups, .. }), None) if groups.len() == 1 => groups.first().copied(),
        _ => None,
    }
}

struct Writer<'a> {
    builder: Builder,
    meter: Option<&'a str>,
    time: Option<&'a str>,
}

impl Writer<'_> {
    fn root(&mut self, telegram: &Telegram<'_>) -> Result<(), Refusal> {
        self.builder.object()?;
        self.text("identification", Some(telegram.identification))?;
        self.speaker(self.meter, self.time)?;
        self.builder.key("readings")?;
        self.builder.list()?;
        self.own(telegram)?;
        let passed_over = self.bound(telegram)?;
        self.failures(telegram)?;
        self.builder.end()?;
        self.builder.key("passed_over")?;
        self.builder.number(&passed_over.to_string())?;
        self.builder.end()
    }

    fn text(&mut self, key: &str, text: Option<&str>) -> Result<(), Refusal> {
        match text {
            Some(text) => {
                self.builder.key(key)?;
                self.builder.text(text)
            }
            None => Ok(()),
        }
    }

    fn speaker(&mut self, meter: Option<&str>, time: Option<&str>) -> Result<(), Refusal> {
        self.text("meter", meter)?;
        self.text("time", time)
    }

    fn measured(&mut self, key: &str, measured: &Measured<'_>) -> Result<(), Refusal> {
        self.builder.key(key)?;
        self.unit_and_number(measured)
    }

    fn unit_and_number(&mut self, measured: &Measured<'_>) -> Result<(), Refusal> {
        self.builder.object()?;
        self.builder.key(measured.unit)?;
        self.builder.number(&measured.text())?;
        self.builder.end()
    }

    fn group(&mut self, group: &str) -> Result<(), Refusal> {
        match Measured::parse(group) {
            Some(measured) => self.unit_and_number(&measured),
            None if group.is_empty() => self.builder.null(),
            None => self.builder.text(group),
        }
    }

    /// The reading of the meter itself.
    fn own(&mut self, telegram: &Telegram<'_>) -> Result<(), Refusal> {
        self.builder.object()?;
        self.speaker(self.meter, self.time)?;
        for object in telegram.objects.iter().filter(|object| bound_to(object).is_none()) {
            self.builder.key(&format!("{}:{}", object.channel, object.quantity))?;
            match object.groups.as_slice() {
                [] => self.builder.null()?,
                [group] => self.group(group)?,
                groups => {
                    self.builder.list()?;
                    groups.iter().try_for_each(|group| self.group(group))?;
                    self.builder.end()?;
                }
            }
        }
        for (name, whole, [one, two], minus) in DERIVED {
            let part = |quantity| single(telegram, "1-0", quantity).and_then(Measured::parse);
            if part(whole).is_some() {
                continue;
            }
            if let (Some(one), Some(two)) = (part(one), part(two))
                && let Some(sum) = one.plus(&two, minus)
            {
                self.measured(name, &sum)?;
            }
        }
        self.builder.end()
    }

    /// The readings of meters that are bound to it; how many were passed over.
    fn bound(&mut self, telegram: &Telegram<'_>) -> Result<u32, Refusal> {
        let mut passed_over = 0;
        let mut channels: Vec<_> = telegram.objects.iter().filter_map(bound_to).collect();
        channels.dedup();
        channels.sort_unstable();
        channels.dedup();
        for channel in channels {
            let device_type = single(telegram, channel, "24.1.0").and_then(|text| text.trim().parse::<u8>().ok());
            let name = BOUND_NAMES.iter().find_map(|quantity| value::name(single(telegram, channel, quantity)?));
            let mut values = telegram.objects.iter().filter(|o| o.channel == channel && o.quantity == "24.2.1");
            let reading = match (values.next().map(|object| object.groups.as_slice()), values.next()) {
                (Some([time, group]), None) if value::is_time(time) => {
                    Measured::parse(group).map(|value| (*time, value))
                }
                _ => None,
            };
            match (device_type, name, reading) {
                (Some(device_type), Some(name), Some((time, value))) if BOUND_TYPES.contains(&device_type) => {
                    self.builder.object()?;
                    self.speaker(Some(&name), Some(time))?;
                    self.builder.key("device_type")?;
                    self.builder.number(&device_type.to_string())?;
                    self.measured("24.2.1", &value)?;
                    self.builder.end()?;
                }
                _ => passed_over += 1,
            }
        }
        Ok(passed_over)
    }

    /// The log of long power failures: when the supply came back, and how long it was away.
    fn failures(&mut self, telegram: &Telegram<'_>) -> Result<(), Refusal> {
        let logs = telegram.objects.iter().filter(|object| (object.channel, object.quantity) == FAILURE_LOG);
        for pair in logs.flat_map(|log| log.groups.get(2..).unwrap_or_default().chunks_exact(2)) {
            let [time, length] = pair else { continue };
            let length = Measured::parse(length).filter(|length| length.unit == "s" && length.decimals == 0);
            let Some(length) = length.filter(|length| (0..=MOST_FAILURE_S).contains(&length.digits)) else { continue };
            if value::is_time(time) {
                self.builder.object()?;
                self.speaker(self.meter, Some(time))?;
                self.text("power_failure", Some(&format!("restored after {} s", length.digits)))?;
                self.builder.end()?;
            }
        }
        Ok(())
    }
}

/// The channel of a meter that is bound to this one.
fn bound_to<'p>(object: &Object<'p>) -> Option<&'p str> {
    let (medium, number) = object.channel.split_once('-')?;
    (medium == "0" && number.parse::<u8>().is_ok_and(|number| (1..=9).contains(&number))).then_some(object.channel)
}

#[cfg(test)]
mod tests;
