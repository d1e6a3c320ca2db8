//! Status words, bits and flags as events, and as marks of their reading.

use std::sync::Arc;

use meterlake_config::payload_map::{EventTest, PayloadMap, Said};
use meterlake_model::{
    DeadReason, EventKind, MeterEvent, MeterId, RawMessage, ReadingFlags, Timestamp, parse_scaled_rounding,
};

use super::Refusal;
use super::document::{Kind, Value};
use super::find::Places;

/// The longest detail of an event, in characters; a status word is far shorter.
const MAX_EVENT_DETAIL: usize = 256;
/// Decimals of the limits.
const LIMIT_SCALE: u8 = 6;

/// The events of one reading in the making.
pub(super) struct Events<'e> {
    pub(super) meter_id: &'e MeterId,
    pub(super) ts: Timestamp,
    pub(super) message: &'e RawMessage,
    /// Of all readings so far; this one's begin at `from`.
    pub(super) events: &'e mut Vec<MeterEvent>,
    pub(super) from: usize,
}

impl Events<'_> {
    /// Adds what the map finds in a reading, and gives its marks.
    pub(super) fn read(&mut self, map: &PayloadMap, places: &Places<'_>) -> Result<ReadingFlags, Refusal> {
        let mut marks = ReadingFlags::NONE;
        for rule in &map.events {
            if !rule.when.is_empty() && !places.meet_all(&rule.when)? {
                continue;
            }
            let Some(value) = places.find_first(&rule.paths)? else { continue };
            for (test, said) in &rule.tests {
                if is_event(test, value)? {
                    match *said {
                        Said::Event(kind) => self.add(kind, &value.unescaped()),
                        Said::Mark(mark) => marks = marks.with(mark),
                    }
                }
            }
        }
        let Some(list) = map.event_list.as_ref().map(|path| places.find(path)).transpose()?.flatten() else {
            return Ok(marks);
        };
        if list.kind() != Kind::List {
            let detail = format!("the list of events is {}", list.described());
            return Err(Refusal::new(DeadReason::BadValue, detail));
        }
        for item in list.items() {
            match Said::parse(&item.unescaped()) {
                Some(Said::Event(kind)) => self.add(kind, ""),
                Some(Said::Mark(mark)) => marks = marks.with(mark),
                None => {
                    let detail = format!("the event is {}, which is none", item.described());
                    return Err(Refusal::new(DeadReason::BadValue, detail));
                }
            }
        }
        Ok(marks)
    }

    /// Adds one, unless the reading has it already: two words of a status may say the same.
    pub(super) fn add(&mut self, kind: EventKind, detail: &str) {
        if self.events[self.from..].iter().all(|event| event.kind != kind) {
            self.events.push(MeterEvent {
                meter_id: self.meter_id.clone(),
                ts: self.ts,
                kind,
                detail: detail.chars().take(MAX_EVENT_DETAIL).collect::<String>().into(),
                received_at_s: self.message.received_at_s,
                source: Arc::clone(&self.message.source),
            });
        }
    }
}

fn is_event(test: &EventTest, value: Value<'_>) -> Result<bool, Refusal> {
    let is_text = matches!(value.kind(), Kind::Text { .. });
    let scalar = !matches!(value.kind(), Kind::List | Kind::Object);
    let refused = |wanted: &str| {
        let detail = format!("a status is {}; {wanted} is wanted", value.described());
        Err(Refusal::new(DeadReason::BadValue, detail))
    };
    match test {
        EventTest::Word(word) if is_text => {
            let text = value.unescaped();
            Ok(text.split([' ', '\t', '\n', '\r', ',', ';', '|']).any(|found| found == word))
        }
        EventTest::Word(_) => refused("text"),
        EventTest::Equals(text) if scalar => Ok(value.unescaped() == text.as_str()),
        EventTest::Equals(_) => refused("text or a number"),
        EventTest::Bit(bit) => match whole(value) {
            Some(word) => Ok(word >> bit & 1 == 1),
            None => refused("a whole number"),
        },
        EventTest::Flag => match (value.kind(), &*value.unescaped()) {
            (Kind::True, _) => Ok(true),
            (Kind::False, _) => Ok(false),
            (Kind::Number, digits) => Ok(digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'))),
            (Kind::Text { .. }, "true" | "on" | "ON" | "1") => Ok(true),
            (Kind::Text { .. }, "false" | "off" | "OFF" | "0") => Ok(false),
            _ => refused("true, false or a number"),
        },
        EventTest::Below(limit) | EventTest::Above(limit) => {
            let text = value.unescaped();
            let number = if is_text || value.kind() == Kind::Number {
                parse_scaled_rounding(text.trim(), LIMIT_SCALE).ok()
            } else {
                None
            };
            match (number, test) {
                (Some(number), EventTest::Below(_)) => Ok(number < *limit),
                (Some(number), _) => Ok(number > *limit),
                (None, _) => refused("a number"),
            }
        }
    }
}

/// A status word of bits: a number, or text of digits or with `0x`.
fn whole(value: Value<'_>) -> Option<i64> {
    let text = value.unescaped();
    match value.kind() {
        Kind::Number => text.parse().ok(),
        Kind::Text { .. } => match text.trim().strip_prefix("0x").or(text.trim().strip_prefix("0X")) {
            Some(digits) => i64::from_str_radix(digits, 16).ok().filter(|word| *word >= 0),
            None => text.trim().parse().ok(),
        },
        _ => None,
    }
}
