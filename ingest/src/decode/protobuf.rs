//! Frames of `config/schema/meterlake.proto`, straight into rows: the schema says what stands where, and every value is an
//! integer of its column already.

pub(crate) mod wire;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use meterlake_config::payload_map::TopicParts;
use meterlake_model::{Channel, DeadReason, EventKind, Timestamp};

use super::event::Events;
use super::reading::{Context, Gathered};
use super::speaker::{Claims, Speaker};
use super::time::{self, When};
use super::{LIMITS, Receipt, Refusal};
use wire::{Fields, Wire, WireError};

const GATEWAY: u32 = 1;
const SEQUENCE: u32 = 2;
const METERS: u32 = 3;
const METER: u32 = 1;
const READINGS: u32 = 2;
const SERIAL: u32 = 3;
const TS_US: u32 = 1;
const TS_S: u32 = 2;
const EVENTS: u32 = 64;

/// Columns by the numbers of their fields in `Reading`, which begin here.
const FIRST_COLUMN: u32 = 3;
const COLUMNS: [&str; 31] = [
    "energy_import_kwh",
    "energy_export_kwh",
    "voltage_l1_v",
    "voltage_l2_v",
    "voltage_l3_v",
    "current_l1_a",
    "current_l2_a",
    "current_l3_a",
    "power_kw",
    "volume_m3",
    "flow_m3h",
    "reverse_volume_m3",
    "energy_import_delta_kwh",
    "energy_export_delta_kwh",
    "volume_delta_m3",
    "reactive_import_kvarh",
    "reactive_export_kvarh",
    "energy_import_t1_kwh",
    "energy_import_t2_kwh",
    "energy_import_t3_kwh",
    "energy_import_t4_kwh",
    "power_l1_kw",
    "power_l2_kw",
    "power_l3_kw",
    "reactive_power_kvar",
    "apparent_power_kva",
    "power_factor",
    "frequency_hz",
    "pressure_kpa",
    "temperature_c",
    "battery_v",
];

/// Kinds of events by their numbers, from 1.
const KINDS: [EventKind; 12] = [
    EventKind::LastGasp,
    EventKind::Restoration,
    EventKind::Tamper,
    EventKind::CoverOpen,
    EventKind::Magnet,
    EventKind::Leak,
    EventKind::Burst,
    EventKind::Dry,
    EventKind::ReverseFlow,
    EventKind::LowBattery,
    EventKind::ClockSet,
    EventKind::Fault,
];

/// By the number of the field, from [`FIRST_COLUMN`].
static CHANNELS: LazyLock<Vec<Option<Channel>>> =
    LazyLock::new(|| COLUMNS.iter().map(|name| Channel::by_name(name)).collect());

/// Reads a frame. `receipt` is set as soon as the frame says who wants one.
pub(super) fn read(
    context: &Context<'_>,
    parts: &TopicParts<'_>,
    payload: &[u8],
    receipt: &mut Option<Receipt>,
) -> Result<Gathered, Refusal> {
    let (mut gateway, mut sequence) = ("", 0);
    for field in Fields::of(payload) {
        match field.map_err(torn)? {
            (GATEWAY, value) => gateway = text(value, "gateway")?,
            (SEQUENCE, value) => sequence = varint(value, "sequence")?,
            _ => {}
        }
    }
    let mut frame = Frame { context, parts, gateway, gathered: Gathered::default(), values: 0, readings: 0 };
    if sequence > 0
        && let Some(gateway) = frame.claims().gateway()?
    {
        *receipt = Some(Receipt { gateway: Arc::from(gateway), sequence });
    }
    for field in Fields::of(payload) {
        if let (METERS, value) = field.map_err(torn)? {
            frame.meter(bytes(value, "meters")?)?;
        }
    }
    if frame.readings == 0 {
        return Err(Refusal::new(DeadReason::MissingField, "the frame holds no reading"));
    }
    Ok(frame.gathered)
}

struct Frame<'c> {
    context: &'c Context<'c>,
    parts: &'c TopicParts<'c>,
    gateway: &'c str,
    gathered: Gathered,
    values: usize,
    readings: usize,
}

impl<'c> Frame<'c> {
    fn claims(&self) -> Claims<'c> {
        let gateway = stated(self.gateway);
        Claims { gateway, ..Claims::of_topic(self.context.map, self.parts) }
    }

    fn meter(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let (mut meter, mut serial) = ("", "");
        // Fields come in any order.
        for field in Fields::of(payload) {
            match field.map_err(torn)? {
                (METER, value) => meter = text(value, "meter")?,
                (SERIAL, value) => serial = text(value, "serial")?,
                _ => {}
            }
        }
        let claims = Claims { named: stated(meter), serial: stated(serial), ..self.claims() };
        let speaker = claims.agreed(self.context.map, self.context.directory)?;
        for field in Fields::of(payload) {
            if let (READINGS, value) = field.map_err(torn)? {
                self.readings += 1;
                let count = self.readings;
                self.reading(&speaker, bytes(value, "readings")?)
                    .map_err(|refusal| Refusal { detail: format!("reading {count}: {}", refusal.detail), ..refusal })?;
            }
        }
        Ok(())
    }

    fn reading(&mut self, speaker: &Speaker<'_>, payload: &[u8]) -> Result<(), Refusal> {
        let message = self.context.message;
        let before = self.gathered.before();
        let mut ts = None;
        let mut has_events = false;
        for field in Fields::of(payload) {
            let (number, value) = field.map_err(torn)?;
            let column = number.checked_sub(FIRST_COLUMN).and_then(|at| CHANNELS.get(at as usize).copied().flatten());
            match (number, column) {
                (_, Some(channel)) => {
                    self.values += 1;
                    if self.values > LIMITS.values {
                        return Err(LIMITS.too_many());
                    }
                    let scaled = zigzag(varint(value, channel.name())?);
                    if !channel.fits(scaled) {
                        let detail = format!("`{channel}` is {scaled}, which is too large for its column");
                        return Err(Refusal::new(DeadReason::Overflow, detail));
                    }
                    self.gathered.values.push((channel, scaled));
                }
                (TS_US, None) => ts = Some(varint(value, "ts_us")?.cast_signed()),
                (TS_S, None) => ts = varint(value, "ts_s")?.cast_signed().checked_mul(1_000_000),
                (EVENTS, None) => has_events = true,
                _ => {}
            }
        }
        let Some(micros) = ts else {
            return Err(Refusal::new(DeadReason::BadTime, "the time `ts_us` or `ts_s` is missing or too large"));
        };
        let ts = Timestamp::from_micros(micros)
            .map_err(|error| Refusal::new(DeadReason::BadTime, format!("the time is unusable: {error}")))?;
        let received = time::arrival(message.received_at_s)?;
        let flags = time::plausible(ts, received, self.context.map.time.live)?;
        if has_events {
            let (meter_id, from) = (&speaker.id, before.events);
            let mut events = Events { meter_id, ts, message, events: &mut self.gathered.events, from };
            add_events(payload, &mut events)?;
        }
        self.context.take(speaker, When { ts, flags }, &before, &mut self.gathered)
    }
}

/// The events of a reading, packed or not.
fn add_events(payload: &[u8], events: &mut Events<'_>) -> Result<(), Refusal> {
    let mut add = |number: u64| {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let kind = at.and_then(|at| KINDS.get(at)).ok_or_else(|| {
            Refusal::new(DeadReason::BadValue, format!("the event is the number {number}, which is none"))
        })?;
        events.add(*kind, "");
        Ok(())
    };
    for field in Fields::of(payload) {
        match field.map_err(torn)? {
            (EVENTS, Wire::Varint(number)) => add(number)?,
            (EVENTS, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let (number, rest) = wire::varint(packed).map_err(torn)?;
                    packed = rest;
                    add(number)?;
                }
            }
            (EVENTS, _) => return Err(mistyped("events")),
            _ => {}
        }
    }
    Ok(())
}

fn torn(error: WireError) -> Refusal {
    Refusal::new(DeadReason::Syntax, format!("the payload is no frame of meterlake.v1: {error}"))
}

/// A field of another type than the schema's.
fn mistyped(name: &str) -> Refusal {
    Refusal::new(DeadReason::Syntax, format!("the payload is no frame of meterlake.v1: `{name}` is of another type"))
}

fn stated(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn varint(value: Wire<'_>, name: &str) -> Result<u64, Refusal> {
    match value {
        Wire::Varint(value) => Ok(value),
        _ => Err(mistyped(name)),
    }
}

fn bytes<'p>(value: Wire<'p>, name: &str) -> Result<&'p [u8], Refusal> {
    match value {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(mistyped(name)),
    }
}

fn text<'p>(value: Wire<'p>, name: &str) -> Result<&'p str, Refusal> {
    std::str::from_utf8(bytes(value, name)?)
        .map_err(|_| Refusal::new(DeadReason::Syntax, format!("`{name}` of the frame is not UTF-8")))
}

#[cfg(test)]
mod tests;
