//! One reading, event, dead letter or message as a line.

use std::io::{self, Write};

use meterlake_ingest::decode::golden::decimal;
use meterlake_model::{Channel, Commodity, DeadLetter, MeterEvent, RawMessage, ReadingBatch, RowHeader, Timestamp};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::units;

/// Something to show.
pub(super) struct Item<'b> {
    /// The topic that it came by, where that is known.
    pub(super) topic: Option<&'b str>,
    pub(super) kind: Kind<'b>,
}

pub(super) enum Kind<'b> {
    Reading { commodity: Commodity, header: &'b RowHeader, values: Vec<(Channel, i64)> },
    Event(&'b MeterEvent),
    Dead(&'b DeadLetter),
    Message(&'b RawMessage),
}

impl Item<'_> {
    pub(super) fn source(&self) -> &str {
        match self.kind {
            Kind::Reading { header, .. } => &header.source,
            Kind::Event(event) => &event.source,
            Kind::Dead(dead) => &dead.message.source,
            Kind::Message(message) => &message.source,
        }
    }

    fn received_at_s(&self) -> i64 {
        match self.kind {
            Kind::Reading { header, .. } => header.received_at_s,
            Kind::Event(event) => event.received_at_s,
            Kind::Dead(dead) => dead.message.received_at_s,
            Kind::Message(message) => message.received_at_s,
        }
    }

    fn received_at(&self) -> String {
        // A clock beyond the calendar is shown as it stands.
        let seconds = self.received_at_s();
        Timestamp::from_unix_seconds(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
    }
}

/// Hands over all of a batch but its messages: readings, events, dead letters.
pub(super) fn items<'b>(batch: &'b ReadingBatch, topic: Option<&'b str>, emit: &mut impl FnMut(Item<'b>)) {
    for commodity in Commodity::ALL {
        let rows = batch.rows(commodity);
        for (row, header) in rows.headers().iter().enumerate() {
            let values = rows.values(row).collect();
            emit(Item { topic, kind: Kind::Reading { commodity, header, values } });
        }
    }
    batch.events.iter().for_each(|event| emit(Item { topic, kind: Kind::Event(event) }));
    batch.dead_letters.iter().for_each(|dead| emit(Item { topic: Some(&dead.message.topic), kind: Kind::Dead(dead) }));
}

/// Characters of a payload that a line for people shows.
const SHOWN: usize = 160;

/// Writes a line for people.
///
/// # Errors
/// When the output cannot be written.
pub(super) fn text(item: &Item<'_>, out: &mut impl Write) -> io::Result<()> {
    let received = item.received_at();
    let clock = received.split('T').nth(1).map_or(received.as_str(), |clock| clock.trim_end_matches('Z'));
    write!(out, "{clock} {:<10} ", units::printable(item.source()))?;
    match &item.kind {
        Kind::Reading { header, values, .. } => {
            write!(out, "{} {}", header.meter_id, header.ts)?;
            for (channel, value) in values {
                write!(out, "  {} {}", units::split(*channel).0, units::value(*channel, *value))?;
            }
            for flag in header.flags.names() {
                write!(out, "  !{flag}")?;
            }
        }
        Kind::Event(event) => {
            write!(out, "{} {}  EVENT {} {}", event.meter_id, event.ts, event.kind, units::printable(&event.detail))?;
        }
        Kind::Dead(dead) => {
            let (topic, payload) = (units::printable(&dead.message.topic), readable(&dead.message.payload));
            write!(out, "{topic}  DEAD LETTER {}: {}: {payload}", dead.reason, units::printable(&dead.detail))?;
        }
        Kind::Message(message) => {
            write!(out, "{}  {}", units::printable(&message.topic), readable(&message.payload))?;
        }
    }
    writeln!(out)
}

/// The beginning of a payload: its text, or its bytes in hexadecimal where it is none.
fn readable(payload: &[u8]) -> String {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => units::printable(text),
        Err(_) => format!("0x{}", hex(payload.get(..SHOWN).unwrap_or(payload))),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], payload.len()),
        None => text,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a line of JSON. A payload stands in `payload` as text, or in `payload_hex`.
///
/// # Errors
/// When the output cannot be written.
pub(super) fn json(position: u64, item: &Item<'_>, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Line { position, item })?;
    writeln!(out)
}

struct Line<'i, 'b> {
    position: u64,
    item: &'i Item<'b>,
}

impl Serialize for Line<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let kind = match self.item.kind {
            Kind::Reading { .. } => "reading",
            Kind::Event(_) => "event",
            Kind::Dead(_) => "dead_letter",
            Kind::Message(_) => "message",
        };
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("position", &self.position)?;
        map.serialize_entry("received_at", &self.item.received_at())?;
        map.serialize_entry("source", self.item.source())?;
        if let Some(topic) = self.item.topic {
            map.serialize_entry("topic", topic)?;
        }
        match &self.item.kind {
            Kind::Reading { commodity, header, values } => {
                map.serialize_entry("commodity", commodity.as_str())?;
                map.serialize_entry("meter_id", header.meter_id.as_str())?;
                map.serialize_entry("ts", &header.ts.to_string())?;
                map.serialize_entry("profile", &*header.profile)?;
                map.serialize_entry("flags", &header.flags.names().collect::<Vec<_>>())?;
                map.serialize_entry("values", &Values(values))?;
            }
            Kind::Event(event) => {
                map.serialize_entry("meter_id", event.meter_id.as_str())?;
                map.serialize_entry("ts", &event.ts.to_string())?;
                map.serialize_entry("event", event.kind.as_str())?;
                map.serialize_entry("detail", &*event.detail)?;
            }
            Kind::Dead(dead) => {
                map.serialize_entry("reason", dead.reason.as_str())?;
                map.serialize_entry("detail", &dead.detail)?;
                map.serialize_entry("decoder", &*dead.decoder)?;
                payload(&mut map, &dead.message.payload)?;
            }
            Kind::Message(message) => payload(&mut map, &message.payload)?,
        }
        map.end()
    }
}

fn payload<M: SerializeMap>(map: &mut M, bytes: &[u8]) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry("payload", text),
        Err(_) => map.serialize_entry("payload_hex", &hex(bytes)),
    }
}

/// Values as JSON numbers with all their decimals; no float on the way.
struct Values<'v>(&'v [(Channel, i64)]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (channel, value) in self.0 {
            let number = RawValue::from_string(decimal(*value, channel.scale())).map_err(serde::ser::Error::custom)?;
            map.serialize_entry(channel.name(), &number)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use meterlake_model::{DeadReason, MeterId, ReadingFlags};

    use super::*;

    fn lines(item: &Item<'_>) -> (String, String) {
        let (mut people, mut machines) = (Vec::new(), Vec::new());
        text(item, &mut people).unwrap();
        json(7, item, &mut machines).unwrap();
        (String::from_utf8(people).unwrap(), String::from_utf8(machines).unwrap())
    }

    #[test]
    fn a_reading_keeps_all_its_digits_in_both_forms() {
        let header = RowHeader {
            meter_id: MeterId::new("E-1").unwrap(),
            ts: Timestamp::parse_rfc3339("2026-11-21T10:15:00Z").unwrap(),
            received_at_s: Timestamp::parse_rfc3339("2026-11-21T10:15:02Z").unwrap().unix_seconds(),
            source: "yard".into(),
            profile: "tasmota@1".into(),
            flags: ReadingFlags::CLOCK_SUSPECT,
        };
        let values = ["energy_import_kwh", "voltage_l1_v"].map(|name| Channel::by_name(name).unwrap());
        let values = vec![(values[0], 123_456_789_012_345), (values[1], 2300)];
        let kind = Kind::Reading { commodity: Commodity::Electricity, header: &header, values };
        let (people, machines) = lines(&Item { topic: None, kind });
        assert_eq!(
            people,
            "10:15:02 yard       E-1 2026-11-21T10:15:00Z  energy_import 123456789012.345 kWh  voltage_l1 230.0 V  \
             !clock_suspect\n"
        );
        assert_eq!(
            machines,
            "{\"kind\":\"reading\",\"position\":7,\"received_at\":\"2026-11-21T10:15:02Z\",\"source\":\"yard\",\
             \"commodity\":\"electricity\",\"meter_id\":\"E-1\",\"ts\":\"2026-11-21T10:15:00Z\",\"profile\":\"tasmota@1\",\
             \"flags\":[\"clock_suspect\"],\"values\":{\"energy_import_kwh\":123456789012.345,\"voltage_l1_v\":230.0}}\n"
        );
    }

    #[test]
    fn a_dead_letter_shows_what_came_and_never_steers_the_terminal() {
        let message = |payload: &[u8]| RawMessage {
            source: "yard".into(),
            topic: "a/\u{1b}[2J".into(),
            payload: payload.to_vec(),
            received_at_s: 0,
        };
        let letter = |payload: &[u8]| DeadLetter {
            reason: DeadReason::Syntax,
            detail: "at byte 1".to_owned(),
            message: message(payload),
            decoder: "x@1".into(),
        };
        let long = [b'x'; 500];
        for (payload, shown, kept) in [
            (&b"{\n"[..], "at byte 1: {\\n\n", "\"payload\":\"{\\n\""),
            (&[0xff, 0x00], "at byte 1: 0xff00\n", "\"payload_hex\":\"ff00\""),
            (&long, "x… (500 bytes)\n", "xxx\"}"),
        ] {
            let letter = letter(payload);
            let (people, machines) = lines(&Item { topic: Some(&letter.message.topic), kind: Kind::Dead(&letter) });
            assert!(people.ends_with(shown) && !people.contains('\u{1b}'), "{people}");
            assert!(machines.contains(kept), "{machines}");
        }
    }
}
