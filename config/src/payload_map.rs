//! Payload maps: how the messages of one kind of sender become readings, as data.
//!
//! A map says which topics it reads, where the meter, the time and each value stand, and in which unit. It is a TOML
//! file; [`PayloadMap::parse`] reads one and tells all of its problems at once. What the maps mean for a message is
//! decided where messages are decoded, not here.

mod conversion;
mod format;
mod path;
mod read;
mod topic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use meterlake_model::{Channel, Commodity, EventKind, Zone};

use crate::problem::Problem;

pub use conversion::{Conversion, Rounding};
pub use format::{Compression, CsvFormat, DsmrFormat, Format};
pub use path::{JsonPath, Step};
pub use topic::TopicPattern;

/// How the messages of one kind of sender become readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadMap {
    /// Its name.
    pub name: String,
    /// Raised whenever it reads the same bytes differently.
    pub version: u32,
    /// `name@version`, as rows and dead letters bear it.
    pub label: Arc<str>,
    /// The topics that it reads.
    pub topic: TopicPattern,
    /// How its payloads are written.
    pub format: Format,
    /// How its payloads are packed.
    pub compression: Compression,
    /// All must hold, or the map does not apply to the message.
    pub conditions: Vec<Condition>,
    /// Where the readings are: the first of these that the message has. A list is many readings, an object is one.
    pub samples: Vec<JsonPath>,
    /// Who speaks.
    pub meter: MeterRule,
    /// What the meter must measure; `None`: what its values say.
    pub commodity: Option<Commodity>,
    /// When it was.
    pub time: TimeRule,
    /// Values by column.
    pub fields: Vec<Field>,
    /// Besides `fields`, every column is read under its own name and unit.
    pub by_name: bool,
    /// Status fields that become events.
    pub events: Vec<EventRule>,
    /// A list of event names.
    pub event_list: Option<JsonPath>,
    /// Whether the messages are kept as they came.
    pub keep_raw: bool,
}

/// A condition on the message; its path starts at the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Where to look.
    pub path: JsonPath,
    /// What must be found.
    pub test: ConditionTest,
}

/// What a condition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionTest {
    /// Something other than null is there (`true`), or is not (`false`).
    Exists(bool),
    /// A text, number or truth value that reads as one of these.
    AnyOf(Vec<String>),
}

/// Who speaks. Where topic and payload both name the meter they must agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterRule {
    /// The meter's name in the payload; needed where the topic does not name it.
    pub path: Option<JsonPath>,
    /// Besides the meter's name, the topic may bear what stands at one of these.
    pub topic_may_be: Vec<JsonPath>,
    /// A serial number that must be the registry's, where both have one.
    pub serial: Option<JsonPath>,
}

/// When a reading was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRule {
    /// Where the time stands: the first of these that is there. Empty for [`TimeFormat::Arrival`].
    pub paths: Vec<JsonPath>,
    /// How it is written.
    pub format: TimeFormat,
    /// Added to what is written, in microseconds: the interval's length where the sender stamps its start.
    pub add_micros: i64,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// Text with an offset.
    Rfc3339,
    /// Seconds since 1970, decimals allowed.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// Civil time without an offset.
    Local {
        /// strftime codes.
        pattern: String,
        /// Whose civil time; `None`: the meter's own by the registry.
        zone: Option<Zone>,
    },
    /// Civil time of a P1 port, `YYMMDDhhmmss` with `S` for summer or `W` for winter: one instant even in the repeated hour.
    Dsmr {
        /// Whose civil time; `None`: the meter's own by the registry.
        zone: Option<Zone>,
    },
    /// The message bears no time: that of its arrival.
    Arrival,
}

/// One value of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column.
    pub channel: Channel,
    /// Where the value stands: the first of these that is there.
    pub paths: Vec<JsonPath>,
    /// From the sender's number to the column's.
    pub conversion: Conversion,
    /// The number is written as text.
    pub text: bool,
    /// The reading may lack it.
    pub optional: bool,
    /// A list or object in its place counts as absent.
    pub scalar_only: bool,
}

/// A status field that becomes an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRule {
    /// Where the status stands: the first of these that is there.
    pub paths: Vec<JsonPath>,
    /// When it is an event.
    pub test: EventTest,
    /// Which.
    pub kind: EventKind,
}

/// When a status is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTest {
    /// One of the blank-separated words of a text.
    Word(String),
    /// The text, number or truth value reads so.
    Equals(String),
    /// The bit, counted from 0, of a whole number.
    Bit(u8),
    /// True, or a number other than zero.
    Flag,
}

const SHIPPED: [(&str, &str); 6] = [
    ("meterlake-json", include_str!("../maps/meterlake-json.toml")),
    ("wmbusmeters", include_str!("../maps/wmbusmeters.toml")),
    ("tasmota", include_str!("../maps/tasmota.toml")),
    ("litres-local-json", include_str!("../maps/litres-local-json.toml")),
    ("sparkplug-b", include_str!("../maps/sparkplug-b.toml")),
    ("dsmr-p1", include_str!("../maps/dsmr-p1.toml")),
];

impl PayloadMap {
    /// Reads a map. `file` names it in problems.
    ///
    /// # Errors
    /// All problems, each with its line.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        read::read(text, file)
    }

    /// A map that comes with the program.
    pub fn shipped(name: &str) -> Option<Self> {
        Self::parse(Self::shipped_text(name)?, name).ok()
    }

    /// The file of a map that comes with the program: a start for one's own.
    pub fn shipped_text(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
    }

    /// The names of the maps that come with the program.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }
}
