//! Messages to readings by payload maps: pure, so that dead letters are replayed with the same code.
//!
//! A message is taken whole or not at all: one row of a frame that cannot be read makes the message one dead letter and
//! none of its rows are taken. So a replay after the mend brings each row once, and nobody bills half a frame.
//!
//! Every format becomes a document of values, which the map's paths read; frames of the published schema become rows at
//! once. Numbers never pass through a float. Whether
//! a value is plausible is not judged here, but for the meter's time, which decides where a row is stored.

mod csv;
mod document;
mod dsmr;
mod event;
mod field;
mod find;
pub mod golden;
mod json;
mod multiplier;
mod number;
mod protobuf;
mod reading;
mod senml;
mod shape;
mod sparkplug;
mod speaker;
mod text;
mod time;
mod unpack;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use meterlake_config::payload_map::{Format, PayloadMap};
use meterlake_model::{DeadLetter, DeadReason, MeterDirectory, RawMessage, ReadingBatch};

use document::{Document, Kind, Limits};
use find::Places;
use json::JsonError;
use reading::Gathered;
use sparkplug::Hearing;
pub use sparkplug::{BirthCounts, Births, BirthsError, MAX_NAMES, MAX_NODES};
pub use unpack::{MAX_RATIO, MAX_UNPACKED_BYTES};

/// The largest payload that is read, in bytes, as it came.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 16;
/// The most values of one message that are read.
pub const MAX_VALUES: usize = 10_000;

const LIMITS: Limits = Limits { depth: MAX_DEPTH, values: MAX_VALUES };

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

/// What the births of one broker's edge nodes said, shared by all who decode for it.
pub type SharedBirths = Arc<Mutex<Births>>;

/// What a message asks for beside the rows that it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// To be published once the message is durable, where its map has a receipt.
    pub receipt: Option<Receipt>,
    /// To be published at once.
    pub rebirth: Option<Rebirth>,
    /// The message was understood and holds nothing to store: it left no row and no dead letter.
    pub ignored: bool,
}

/// Names a message to its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who sent it.
    pub gateway: Arc<str>,
    /// The sender's own count.
    pub sequence: u64,
}

/// Asks an edge node to be born again, since its data cannot be read. At QoS 0, not retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebirth {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Decodes the messages of one broker: [`decode`] with what earlier messages said, where a format leans on them.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    births: SharedBirths,
    replays: bool,
}

impl Decoder {
    /// With what is known of the broker's edge nodes.
    pub fn new(births: SharedBirths) -> Self {
        Self { births, replays: false }
    }

    /// For dead letters, which change nothing of what is known and ask for nothing.
    pub fn of_dead_letters(births: SharedBirths) -> Self {
        Self { births, replays: true }
    }

    /// Messages may have been lost, as the connection was: a birth may be among them.
    pub fn interrupted(&self) {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).interrupted();
    }

    /// What was seen of edge nodes.
    pub fn birth_counts(&self) -> BirthCounts {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).counts()
    }

    /// Decodes one message by the first map whose topic and conditions it meets, and adds its rows and events, or one
    /// dead letter, to `out`. Messages are to be handed over in order of receipt.
    pub fn decode(
        &mut self,
        maps: &[PayloadMap],
        message: &RawMessage,
        retained: bool,
        directory: &MeterDirectory,
        out: &mut ReadingBatch,
    ) -> Outcome {
        let births = Some(&self.births);
        Task { maps, message, retained, directory, births, replays: self.replays }.run(out)
    }
}

/// Decodes one message by itself: by the first map whose topic and conditions it meets. Adds its rows and events, or one
/// dead letter, to `out`; nothing where the message is known to hold nothing.
///
/// The result depends on the arguments alone: the present is the message's arrival. A message that leans on earlier ones
/// is a dead letter here; see [`Decoder`].
pub fn decode(
    maps: &[PayloadMap],
    message: &RawMessage,
    retained: bool,
    directory: &MeterDirectory,
    out: &mut ReadingBatch,
) {
    Task { maps, message, retained, directory, births: None, replays: true }.run(out);
}

/// A message that is refused before it is read, such as one that is too large to be held.
pub(crate) fn refuse(message: RawMessage, reason: DeadReason, detail: String, out: &mut ReadingBatch) {
    out.dead_letters.push(DeadLetter { reason, detail, message, decoder: DECODER.into() });
}

/// One message and all that decides what it means.
struct Task<'a> {
    maps: &'a [PayloadMap],
    message: &'a RawMessage,
    retained: bool,
    directory: &'a MeterDirectory,
    births: Option<&'a SharedBirths>,
    /// The message came before, and was refused.
    replays: bool,
}

/// A message that was read.
struct Read {
    gathered: Gathered,
    keep_raw: bool,
}

impl<'a> Task<'a> {
    fn run(&self, out: &mut ReadingBatch) -> Outcome {
        let mut outcome = Outcome::default();
        let mut decoder = None;
        match self.read(&mut decoder, &mut outcome) {
            Ok(Some(read)) => {
                read.gathered.hand_over(out);
                if read.keep_raw {
                    out.raw.push(self.message.clone());
                }
            }
            Ok(None) => outcome.ignored = true,
            Err(refusal) => out.dead_letters.push(DeadLetter {
                reason: refusal.reason,
                detail: refusal.detail,
                message: self.message.clone(),
                decoder: decoder.unwrap_or_else(|| DECODER.into()),
            }),
        }
        outcome
    }

    /// `None`: understood, and nothing to store.
    fn read(&self, decoder: &mut Option<Arc<str>>, outcome: &mut Outcome) -> Result<Option<Read>, Refusal> {
        let message = self.message;
        let size = message.payload.len();
        if size > MAX_PAYLOAD_BYTES {
            let detail = format!("the payload has {size} bytes, at most {MAX_PAYLOAD_BYTES} are read");
            return Err(Refusal::new(DeadReason::TooLarge, detail));
        }
        if sparkplug::speaks(&message.topic)
            && let Some(first) = self.sparkplug_maps().next()
        {
            return self.read_sparkplug(first, decoder, outcome);
        }
        // What the payload is by the format of the map before, where that could read it.
        let mut opened: Option<(&PayloadMap, Option<Opened<'a>>)> = None;
        let mut refused: Option<(&PayloadMap, Refusal)> = None;
        let mut tried = Vec::new();
        for map in self.maps {
            let Some(parts) = map.topic.matches(&message.topic) else { continue };
            if !opened.as_ref().is_some_and(|(other, _)| is_same(other, map)) {
                let payload = match self.open(map) {
                    Ok(payload) => Some(payload),
                    Err(refusal) => {
                        refused.get_or_insert((map, refusal));
                        None
                    }
                };
                opened = Some((map, payload));
            }
            let Some((_, Some(payload))) = &opened else { continue };
            let taken = match payload {
                Opened::Frame(frame) => {
                    protobuf::read(&self.context(map), &parts, frame, &mut outcome.receipt).map(Taken::by(map))
                }
                Opened::Document(document) => {
                    self.take(map, &Places::of_message(document.root(), &parts), &mut outcome.receipt)
                }
            };
            match taken.inspect_err(|_| *decoder = Some(Arc::clone(&map.label)))? {
                Taken::Not => tried.push(&*map.label),
                Taken::Nothing => return Ok(None),
                Taken::Read(read) => return Ok(Some(read)),
            }
        }
        if let Some((map, refusal)) = refused {
            *decoder = Some(Arc::clone(&map.label));
            return Err(refusal);
        }
        if tried.is_empty() {
            let detail = format!("no payload map reads the topic `{}`", document::shortened(&message.topic));
            return Err(Refusal::new(DeadReason::NoMap, detail));
        }
        let detail = format!("the topic is read by {}, but the message does not meet the conditions", tried.join(", "));
        Err(Refusal::new(DeadReason::NoMap, detail))
    }

    /// Reads a document by a map whose topic it meets.
    fn take(&self, map: &'a PayloadMap, places: &Places<'_>, wanted: &mut Option<Receipt>) -> Result<Taken, Refusal> {
        if !places.meet_all(&map.conditions)? {
            return Ok(Taken::Not);
        }
        *wanted = receipt(map, places)?;
        if places.meet_any(&map.ignore)? {
            return Ok(Taken::Nothing);
        }
        self.context(map).gather(places).map(Taken::by(map))
    }

    fn context(&self, map: &'a PayloadMap) -> reading::Context<'a> {
        reading::Context { map, message: self.message, retained: self.retained, directory: self.directory }
    }

    fn sparkplug_maps(&self) -> impl Iterator<Item = &'a PayloadMap> {
        self.maps.iter().filter(|map| map.format == Format::SparkplugB)
    }

    /// A message of Sparkplug is heard whether a map reads it or not: births of edge nodes explain data of devices.
    fn read_sparkplug(
        &self,
        first: &PayloadMap,
        decoder: &mut Option<Arc<str>>,
        outcome: &mut Outcome,
    ) -> Result<Option<Read>, Refusal> {
        let topic = &self.message.topic;
        let reader = self.sparkplug_maps().find(|map| map.topic.matches(topic).is_some());
        *decoder = reader.map(|map| Arc::clone(&map.label));
        let payload = unpack::unpacked(first.compression, &self.message.payload)?;
        let hearing = if self.replays || self.retained { Hearing::Old } else { Hearing::Live };
        let rebirth = &mut outcome.rebirth;
        let document = match self.births {
            Some(births) => {
                let mut births = births.lock().unwrap_or_else(PoisonError::into_inner);
                sparkplug::parse(self.message, &payload, &mut births, hearing, rebirth)?
            }
            None => sparkplug::parse(self.message, &payload, &mut Births::new(), hearing, rebirth)?,
        };
        let Some(document) = document else { return Ok(None) };
        for map in self.sparkplug_maps() {
            let Some(parts) = map.topic.matches(topic) else { continue };
            let places = Places::of_message(document.root(), &parts);
            match self
                .take(map, &places, &mut outcome.receipt)
                .inspect_err(|_| *decoder = Some(Arc::clone(&map.label)))?
            {
                Taken::Not => {}
                Taken::Nothing => return Ok(None),
                Taken::Read(read) => return Ok(Some(read)),
            }
        }
        // What an edge node says of itself is read only where somebody wants it.
        if !sparkplug::is_of_device(topic) {
            return Ok(None);
        }
        let detail = format!("no payload map reads the device of the topic `{}`", document::shortened(topic));
        Err(Refusal::new(DeadReason::NoMap, detail))
    }

    /// The payload as a map's format says.
    fn open(&self, map: &PayloadMap) -> Result<Opened<'a>, Refusal> {
        let payload = unpack::unpacked(map.compression, &self.message.payload)?;
        let document = match &map.format {
            Format::Protobuf => return Ok(Opened::Frame(payload)),
            Format::Json => match payload {
                Cow::Borrowed(bytes) => json(bytes)?,
                Cow::Owned(bytes) => json_owned(bytes)?,
            },
            Format::Text => text::parse(&payload)?,
            Format::Csv(format) => csv::parse(&payload, format)?,
            Format::Senml => senml::parse(&payload, self.message.received_at_s)?,
            Format::DsmrP1(dsmr) => dsmr::parse(&payload, dsmr.checksum)?,
            Format::SparkplugB => {
                let detail = "the topic is none of Sparkplug B, which begin with `spBv1.0/`";
                return Err(Refusal::new(DeadReason::Syntax, detail));
            }
        };
        Ok(Opened::Document(document))
    }
}

/// What a map makes of a message whose topic it reads.
enum Taken {
    /// The message does not meet its conditions.
    Not,
    /// Understood, and nothing to store.
    Nothing,
    /// Rows or events.
    Read(Read),
}

impl Taken {
    fn by(map: &PayloadMap) -> impl FnOnce(Gathered) -> Self {
        let keep_raw = map.keep_raw;
        // All of it may bear no time of its own and be retained.
        move |gathered| if gathered.is_empty() { Self::Nothing } else { Self::Read(Read { gathered, keep_raw }) }
    }
}

/// Whether two maps read the same bytes into the same document.
fn is_same(a: &PayloadMap, b: &PayloadMap) -> bool {
    a.format == b.format && a.compression == b.compression
}

/// Whom to tell once the message is durable, where the message says it.
fn receipt(map: &PayloadMap, places: &Places<'_>) -> Result<Option<Receipt>, Refusal> {
    let Some(rule) = &map.receipt else { return Ok(None) };
    let (Some(gateway), Some(sequence)) = (places.find(&rule.gateway)?, places.find(&rule.sequence)?) else {
        return Ok(None);
    };
    let is_name = matches!(gateway.kind(), Kind::Text { .. });
    let sequence = sequence.unescaped().parse().ok().filter(|_| is_name);
    Ok(sequence.map(|sequence| Receipt { gateway: Arc::from(&*gateway.unescaped()), sequence }))
}

/// A payload by its format.
enum Opened<'p> {
    /// What the map's paths read.
    Document(Document<'p>),
    /// A frame of the published schema.
    Frame(Cow<'p, [u8]>),
}

fn json(payload: &[u8]) -> Result<Document<'_>, Refusal> {
    json::parse(payload, LIMITS).map_err(refused_json)
}

/// JSON that was packed: the text is held by the document.
fn json_owned(payload: Vec<u8>) -> Result<Document<'static>, Refusal> {
    let text = String::from_utf8(payload)
        .map_err(|error| refused_json(JsonError::NotUtf8(error.utf8_error().valid_up_to())))?;
    json::parse_owned(text, LIMITS).map_err(refused_json)
}

fn refused_json(error: JsonError) -> Refusal {
    let reason = match error {
        JsonError::TooDeep(_) | JsonError::TooMany(_) => DeadReason::TooLarge,
        JsonError::NotUtf8(_) | JsonError::Syntax { .. } => DeadReason::Syntax,
    };
    Refusal::new(reason, error.to_string())
}

#[cfg(test)]
mod tests;
