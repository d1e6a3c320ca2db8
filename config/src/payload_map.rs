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

use meterlake_model::{Channel, Commodity, EventKind, ReadingFlags, Timestamp, Zone};

use crate::problem::Problem;

pub use conversion::{Conversion, Rounding};
pub use format::{Compression, CsvFormat, DsmrFormat, Format};
pub use path::{Start, Step, ValuePath};
pub use topic::{TopicParts, TopicPattern};

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
    /// Where one of these holds, the message is known to say nothing that is to be stored.
    pub ignore: Vec<Condition>,
    /// A reading of which nothing stands where the map looks is passed over: the sender tells other things, too.
    pub may_be_empty: bool,
    /// Where the readings are: the first of these that the message has. A list is many readings, an object is one.
    pub samples: Vec<ValuePath>,
    /// How what stands there becomes readings.
    pub shape: Shape,
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
    /// Status fields that become events or marks.
    pub events: Vec<EventRule>,
    /// A list of names of events and marks.
    pub event_list: Option<ValuePath>,
    /// What the sender is told once the message is durable.
    pub receipt: Option<ReceiptRule>,
    /// Whether the messages are kept as they came.
    pub keep_raw: bool,
}

/// How what stands at `samples` becomes readings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shape {
    /// Each is an object, or a list of values by place.
    #[default]
    Plain,
    /// Each is a list of values, and these are their names.
    Columns(Vec<String>),
    /// Each is a list of values, whose names stand in a list: of the message, or of the item of the last `[*]`.
    ColumnsAt(ValuePath),
    /// An object of lists that run in parallel: the first of each is the first reading.
    Parallel,
}

/// A condition; its paths start at the root of the message, or where a field has it, at the reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Where to look: the first of these that is there.
    pub paths: Vec<ValuePath>,
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
    pub path: Option<ValuePath>,
    /// Cut off the start of the payload's name, where it stands there.
    pub strip_prefix: Option<String>,
    /// Besides the meter's name, the topic may bear what stands at one of these.
    pub topic_may_be: Vec<ValuePath>,
    /// The name that the topic gives, put together; empty: the topic's `{meter}`.
    pub template: Vec<Piece>,
    /// A serial number that must be the registry's, where both have one.
    pub serial: Option<ValuePath>,
    /// The multiplier that the message states; it must be the installation's, where the registry knows one.
    pub multiplier: Option<ValuePath>,
    /// The gateway in the payload; it must be the topic's `{gateway}`, where that has one, and the registry's.
    pub gateway: Option<ValuePath>,
}

/// A part of a name that is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The level of the topic that has this name.
    Topic(String),
}

/// What the sender is told once a message is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRule {
    /// Who sent it.
    pub gateway: ValuePath,
    /// The sender's own count of messages.
    pub sequence: ValuePath,
}

/// When a reading was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRule {
    /// Where the time stands: the first of these that is there. Empty for [`TimeFormat::Arrival`].
    pub paths: Vec<ValuePath>,
    /// The time is the texts of all `paths`, joined by blanks, such as a date and a time of day.
    pub joined: bool,
    /// How it is written.
    pub format: TimeFormat,
    /// Added to what is written, in microseconds: the interval's length where the sender stamps its start.
    pub add_micros: i64,
    /// Where no time stands, that of arrival is taken.
    pub or_arrival: bool,
    /// The sender keeps no history: what arrives late bears a wrong time.
    pub live: bool,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// Text with an offset.
    Rfc3339,
    /// A count since an epoch, decimals allowed.
    Count {
        /// Of 10^-`digits` seconds: 0, 3, 6 or 9.
        digits: u8,
        /// Where the count begins; mostly 1970.
        epoch: Timestamp,
    },
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
    /// Where its number comes from.
    pub source: Source,
    /// From the sender's number to the column's.
    pub conversion: Conversion,
    /// The unit that the message states.
    pub unit: Option<UnitRule>,
    /// The number is written as text.
    pub text: bool,
    /// Text writes it with a decimal comma, and points part thousands.
    pub decimal_comma: bool,
    /// The reading may lack it.
    pub optional: bool,
    /// A list or object in its place counts as absent.
    pub scalar_only: bool,
    /// All must hold, or the reading is none of this column.
    pub when: Vec<Condition>,
}

/// Where a number comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The first of these that is there.
    First(Vec<ValuePath>),
    /// All of these, added up.
    Sum(Vec<ValuePath>),
    /// Always the same, in units of the column's last digit.
    Constant(i64),
}

/// A unit that stands in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRule {
    /// Where.
    pub path: ValuePath,
    /// The units that are understood.
    pub conversions: Vec<(String, Conversion)>,
    /// Whether it must be there; if not, the field's own conversion holds without it.
    pub required: bool,
}

/// A status field that becomes events, or marks of the reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRule {
    /// Where the status stands: the first of these that is there.
    pub paths: Vec<ValuePath>,
    /// When it says what.
    pub tests: Vec<(EventTest, Said)>,
    /// All must hold, or what stands there is another thing.
    pub when: Vec<Condition>,
}

/// What a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Something happened.
    Event(EventKind),
    /// The meter does not vouch for the reading.
    Mark(ReadingFlags),
}

impl Said {
    /// The kind of an event, such as `leak`, or a mark, such as `test_mode`.
    pub fn parse(text: &str) -> Option<Self> {
        EventKind::parse(text).map(Self::Event).or_else(|| ReadingFlags::of_meter(text).map(Self::Mark))
    }
}

/// When a status is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTest {
    /// One of the words of a text, which blanks, commas, semicolons or bars separate.
    Word(String),
    /// The text, number or truth value reads so.
    Equals(String),
    /// The bit, counted from 0, of a whole number; text may write it with `0x`.
    Bit(u8),
    /// True, or a number other than zero.
    Flag,
    /// A number below this, in millionths.
    Below(i64),
    /// A number above this, in millionths.
    Above(i64),
}

const SHIPPED: &[(&str, &str)] = &[
    ("meterlake-json", include_str!("../maps/meterlake-json.toml")),
    ("meterlake-protobuf", include_str!("../maps/meterlake-protobuf.toml")),
    ("wmbusmeters", include_str!("../maps/wmbusmeters.toml")),
    ("tasmota", include_str!("../maps/tasmota.toml")),
    ("litres-local-json", include_str!("../maps/litres-local-json.toml")),
    ("sparkplug-b", include_str!("../maps/sparkplug-b.toml")),
    ("dsmr-p1", include_str!("../maps/dsmr-p1.toml")),
    ("shelly-gen1", include_str!("../maps/shelly-gen1.toml")),
    ("shelly-gen2-status", include_str!("../maps/shelly-gen2-status.toml")),
    ("shelly-gen2-events", include_str!("../maps/shelly-gen2-events.toml")),
    ("zigbee2mqtt", include_str!("../maps/zigbee2mqtt.toml")),
    ("chirpstack", include_str!("../maps/chirpstack.toml")),
    ("ttn", include_str!("../maps/ttn.toml")),
    ("csv-readings", include_str!("../maps/csv-readings.toml")),
    ("senml", include_str!("../maps/senml.toml")),
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
