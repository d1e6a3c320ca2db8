//! Messages to readings by payload maps: pure, so that dead letters are replayed with the same code.
//!
//! A message is taken whole or not at all: one row of a frame that cannot be read makes the message one dead letter and
//! none of its rows are taken. So a replay after the mend brings each row once, and nobody bills half a frame.
//!
//! Numbers never pass through a float. Whether a value is plausible is not judged here, but for the meter's time, which
//! decides where a row is stored.

pub mod golden;
mod json;
mod number;
mod reading;
mod time;

use std::sync::Arc;

use meterlake_config::payload_map::{Condition, ConditionTest, PayloadMap};
use meterlake_model::{DeadLetter, DeadReason, MeterDirectory, RawMessage, ReadingBatch};

use json::{Json, JsonError, Kind, Value};
use reading::Gathered;

/// The largest payload that is read, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 16;
/// The most values of one message that are read.
pub const MAX_VALUES: usize = 10_000;

/// What refuses input that no map took.
const DECODER: &str = "decode@1";

/// Why a message is not read.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reason: DeadReason,
    detail: String,
}

impl Refusal {
    fn new(reason: DeadReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Decodes one message by the first map whose topic and conditions it meets, and adds its rows and events, or one dead
/// letter, to `out`.
///
/// The result depends on the arguments alone: the present is the message's arrival.
pub fn decode(
    maps: &[PayloadMap],
    message: &RawMessage,
    retained: bool,
    directory: &MeterDirectory,
    out: &mut ReadingBatch,
) {
    let mut decoder = None;
    match read(maps, message, retained, directory, &mut decoder) {
        Ok((gathered, keep_raw)) => {
            gathered.hand_over(out);
            if keep_raw {
                out.raw.push(message.clone());
            }
        }
        Err(refusal) => out.dead_letters.push(DeadLetter {
            reason: refusal.reason,
            detail: refusal.detail,
            message: message.clone(),
            decoder: decoder.unwrap_or_else(|| DECODER.into()),
        }),
    }
}

/// A message that is refused before it is read, such as one that is too large to be held.
pub(crate) fn refuse(message: RawMessage, reason: DeadReason, detail: String, out: &mut ReadingBatch) {
    out.dead_letters.push(DeadLetter { reason, detail, message, decoder: DECODER.into() });
}

fn read(
    maps: &[PayloadMap],
    message: &RawMessage,
    retained: bool,
    directory: &MeterDirectory,
    decoder: &mut Option<Arc<str>>,
) -> Result<(Gathered, bool), Refusal> {
    let size = message.payload.len();
    if size > MAX_PAYLOAD_BYTES {
        let detail = format!("the payload has {size} bytes, at most {MAX_PAYLOAD_BYTES} are read");
        return Err(Refusal::new(DeadReason::TooLarge, detail));
    }
    let mut candidates = maps.iter().filter_map(|map| Some((map, map.topic.matches(&message.topic)?))).peekable();
    let Some((first, _)) = candidates.peek() else {
        let detail = format!("no payload map reads the topic `{}`", json::shortened(&message.topic));
        return Err(Refusal::new(DeadReason::NoMap, detail));
    };
    *decoder = Some(Arc::clone(&first.label));
    let json = Json::parse(&message.payload, MAX_DEPTH, MAX_VALUES).map_err(|error| {
        let reason = match error {
            JsonError::TooDeep(_) | JsonError::TooMany(_) => DeadReason::TooLarge,
            JsonError::NotUtf8(_) | JsonError::Syntax { .. } => DeadReason::Syntax,
        };
        Refusal::new(reason, error.to_string())
    })?;
    let root = json.root();
    for (map, topic_meter) in candidates {
        if meets_all(&map.conditions, root)? {
            *decoder = Some(Arc::clone(&map.label));
            let context = reading::Context { map, topic_meter, root, message, retained, directory };
            return Ok((context.gather()?, map.keep_raw));
        }
    }
    let names: Vec<_> =
        maps.iter().filter(|map| map.topic.matches(&message.topic).is_some()).map(|map| &*map.label).collect();
    *decoder = None;
    let detail = format!("the topic is read by {}, but the message does not meet the conditions", names.join(", "));
    Err(Refusal::new(DeadReason::NoMap, detail))
}

fn meets_all(conditions: &[Condition], root: Value<'_>) -> Result<bool, Refusal> {
    for condition in conditions {
        let found = reading::find(&condition.path, root, root)?;
        let met = match &condition.test {
            ConditionTest::Exists(wanted) => found.is_some() == *wanted,
            ConditionTest::AnyOf(texts) => found.is_some_and(|value| {
                let scalar = !matches!(value.kind(), Kind::List | Kind::Object);
                scalar && texts.iter().any(|text| *text == value.unescaped())
            }),
        };
        if !met {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
