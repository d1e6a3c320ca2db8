//! What passes from the collectors to the store: rows of readings as plain column vectors, events and dead letters.

use std::fmt;
use std::sync::Arc;

use crate::channel::{Channel, Commodity};
use crate::event::MeterEvent;
use crate::id::MeterId;
use crate::time::Timestamp;

/// What is known about a reading beside its values. A small set, stored as an integer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReadingFlags(u32);

impl ReadingFlags {
    /// Nothing to remark.
    pub const NONE: Self = Self(0);
    /// The meter's clock is more than 3 minutes off, or its time more than 5 minutes ahead of arrival.
    pub const CLOCK_SUSPECT: Self = Self(1);
    /// Another value came for the same meter and time; both are kept.
    pub const CONFLICT: Self = Self(1 << 1);
    /// Local time without offset in the repeated hour; stored as the earlier instant.
    pub const AMBIGUOUS_LOCAL_TIME: Self = Self(1 << 2);
    /// The broker had retained the message.
    pub const RETAINED: Self = Self(1 << 3);
    /// The registry does not know the meter.
    pub const UNKNOWN_METER: Self = Self(1 << 4);
    /// The device has no clock: the time is that of the poll's slot or answer.
    pub const COLLECTOR_TIME: Self = Self(1 << 5);
    /// History was decoded again: this row begins what stands of its meter and time, in the stead of all that was stored
    /// before. See [`crate::revision`].
    pub const RE_DECODED: Self = Self(1 << 6);
    /// The meter says that the value is more than it can count.
    pub const OVERFLOW: Self = Self(1 << 7);
    /// The meter says that it is being tested.
    pub const TEST_MODE: Self = Self(1 << 8);
    /// The meter says that its memory, or what it measures with, is at fault.
    pub const MEMORY_FAULT: Self = Self(1 << 9);
    /// The meter says that its clock is not set.
    pub const CLOCK_INVALID: Self = Self(1 << 10);
    /// Marks of the meter itself: a value that bears one is no use and no boundary.
    pub const UNTRUSTED: Self = Self::OVERFLOW.with(Self::TEST_MODE).with(Self::MEMORY_FAULT).with(Self::CLOCK_INVALID);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::CLOCK_SUSPECT, "clock_suspect"),
        (Self::CONFLICT, "conflict"),
        (Self::AMBIGUOUS_LOCAL_TIME, "ambiguous_local_time"),
        (Self::RETAINED, "retained"),
        (Self::UNKNOWN_METER, "unknown_meter"),
        (Self::COLLECTOR_TIME, "collector_time"),
        (Self::RE_DECODED, "re_decoded"),
        (Self::OVERFLOW, "overflow"),
        (Self::TEST_MODE, "test_mode"),
        (Self::MEMORY_FAULT, "memory_fault"),
        (Self::CLOCK_INVALID, "clock_invalid"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in both sets.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// A mark of the meter itself, one of [`Self::UNTRUSTED`], by its name.
    pub fn of_meter(name: &str) -> Option<Self> {
        let named = Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(flag, _)| flag);
        named.filter(|flag| flag.intersects(Self::UNTRUSTED))
    }

    /// As stored.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From what was stored.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl fmt::Debug for ReadingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// All of a reading's row but its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHeader {
    /// The meter, by its own name.
    pub meter_id: MeterId,
    /// The meter's own time; for interval use the end of the interval.
    pub ts: Timestamp,
    /// When it reached the collector, in seconds since 1970.
    pub received_at_s: i64,
    /// Collector and line.
    pub source: Arc<str>,
    /// Device profile or payload map, with its version.
    pub profile: Arc<str>,
    /// Remarks.
    pub flags: ReadingFlags,
}

/// Readings of one commodity as columns. Row `i` is what one message said at one meter time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRows {
    commodity: Commodity,
    headers: Vec<RowHeader>,
    /// By channel, only those that occur; each as long as `headers`.
    columns: Vec<(Channel, Vec<Option<i64>>)>,
}

impl ReadingRows {
    /// No rows yet.
    pub fn new(commodity: Commodity) -> Self {
        Self { commodity, headers: Vec::new(), columns: Vec::new() }
    }

    /// From whole columns, each as long as `headers`. `None` when one is not, when a channel comes twice or belongs to
    /// the other commodity. Values must fit their channels.
    pub fn from_columns(
        commodity: Commodity,
        headers: Vec<RowHeader>,
        mut columns: Vec<(Channel, Vec<Option<i64>>)>,
    ) -> Option<Self> {
        columns.sort_by_key(|(channel, _)| *channel);
        let fit = columns.iter().all(|(c, values)| c.commodity() == commodity && values.len() == headers.len());
        let twice = columns.windows(2).any(|pair| pair[0].0 == pair[1].0);
        (fit && !twice).then_some(Self { commodity, headers, columns })
    }

    /// Adds a row. Values are integers of 10^-[`Channel::scale`]; a channel named twice keeps its last value.
    ///
    /// # Panics
    /// In debug builds, when a channel belongs to the other commodity or a value does not fit it: decoders check both.
    pub fn push(&mut self, header: RowHeader, values: &[(Channel, i64)]) {
        self.headers.push(header);
        let rows = self.headers.len();
        for &(channel, value) in values {
            debug_assert_eq!(channel.commodity(), self.commodity);
            debug_assert!(channel.fits(value));
            let column = self.column_mut(channel);
            column.resize(rows, None);
            column[rows - 1] = Some(value);
        }
        for (_, column) in &mut self.columns {
            column.resize(rows, None);
        }
    }

    fn column_mut(&mut self, channel: Channel) -> &mut Vec<Option<i64>> {
        let at = match self.columns.binary_search_by_key(&channel, |(c, _)| *c) {
            Ok(at) => at,
            Err(at) => {
                self.columns.insert(at, (channel, Vec::new()));
                at
            }
        };
        &mut self.columns[at].1
    }

    /// Moves all rows of `other`, of the same commodity, behind these.
    pub fn append(&mut self, other: Self) {
        debug_assert_eq!(self.commodity, other.commodity);
        let before = self.headers.len();
        self.headers.extend(other.headers);
        let rows = self.headers.len();
        for (channel, values) in other.columns {
            let column = self.column_mut(channel);
            column.resize(before, None);
            column.extend(values);
        }
        for (_, column) in &mut self.columns {
            column.resize(rows, None);
        }
    }

    /// Electricity or water.
    pub fn commodity(&self) -> Commodity {
        self.commodity
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Headers in order of arrival.
    pub fn headers(&self) -> &[RowHeader] {
        &self.headers
    }

    /// Headers, to set flags.
    pub fn headers_mut(&mut self) -> &mut [RowHeader] {
        &mut self.headers
    }

    /// The channels that occur with their values, in catalogue order.
    pub fn columns(&self) -> impl Iterator<Item = (Channel, &[Option<i64>])> {
        self.columns.iter().map(|(channel, values)| (*channel, values.as_slice()))
    }

    /// One value.
    pub fn value(&self, row: usize, channel: Channel) -> Option<i64> {
        let at = self.columns.binary_search_by_key(&channel, |(c, _)| *c).ok()?;
        self.columns[at].1.get(row).copied().flatten()
    }

    /// The values of one row, in catalogue order.
    pub fn values(&self, row: usize) -> impl Iterator<Item = (Channel, i64)> {
        self.columns.iter().filter_map(move |(channel, values)| Some((*channel, values.get(row).copied().flatten()?)))
    }
}

/// Why input became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// No map matches the topic.
    NoMap,
    /// The payload is not of the format that the map names.
    Syntax,
    /// A field that must be there is absent.
    MissingField,
    /// A field has another type or unit than the map says.
    BadValue,
    /// A register or use has more digits or decimals than its column.
    Overflow,
    /// No time, or one that cannot be read.
    BadTime,
    /// Before 2000, or more than a day ahead.
    ImplausibleTime,
    /// The meter's name cannot be an identifier.
    BadMeterId,
    /// Topic, payload and registry disagree about who speaks.
    Identity,
    /// The message states another multiplier than the registry has of the installation.
    Multiplier,
    /// Larger, deeper or longer than the limits allow.
    TooLarge,
    /// A device answered with an exception or with other than it was asked for.
    BadAnswer,
    /// The message leans on an earlier one, such as the birth that names its values, which is not known.
    NoBirth,
    /// The device sends more than one may.
    Rate,
}

impl DeadReason {
    const NAMES: [(Self, &'static str); 14] = [
        (Self::NoMap, "no_map"),
        (Self::Syntax, "syntax"),
        (Self::MissingField, "missing_field"),
        (Self::BadValue, "bad_value"),
        (Self::Overflow, "overflow"),
        (Self::BadTime, "bad_time"),
        (Self::ImplausibleTime, "implausible_time"),
        (Self::BadMeterId, "bad_meter_id"),
        (Self::Identity, "identity"),
        (Self::Multiplier, "multiplier"),
        (Self::TooLarge, "too_large"),
        (Self::BadAnswer, "bad_answer"),
        (Self::NoBirth, "no_birth"),
        (Self::Rate, "rate"),
    ];

    /// Every reason.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        Self::NAMES.iter().map(|(reason, _)| *reason)
    }

    /// The code in tables.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(r, _)| *r == self).map_or("", |(_, name)| name)
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(r, _)| *r)
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Input that could not be read, whole, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: DeadReason,
    /// What exactly, for a person: names the field and the value.
    pub detail: String,
    /// The input: its topic or register block, its bytes, its arrival.
    pub message: RawMessage,
    /// Version of the decoder or map that refused it.
    pub decoder: Arc<str>,
}

/// Input as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Collector and line.
    pub source: Arc<str>,
    /// MQTT topic, or unit and register range.
    pub topic: Arc<str>,
    /// The bytes.
    pub payload: Vec<u8>,
    /// When it reached the collector, in seconds since 1970.
    pub received_at_s: i64,
}

/// What some messages said: the unit of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingBatch {
    /// Electricity readings.
    pub electricity: ReadingRows,
    /// Water readings.
    pub water: ReadingRows,
    /// Events.
    pub events: Vec<MeterEvent>,
    /// What could not be read.
    pub dead_letters: Vec<DeadLetter>,
    /// The messages that were read, where their map keeps them.
    pub raw: Vec<RawMessage>,
}

impl Default for ReadingBatch {
    fn default() -> Self {
        Self {
            electricity: ReadingRows::new(Commodity::Electricity),
            water: ReadingRows::new(Commodity::Water),
            events: Vec::new(),
            dead_letters: Vec::new(),
            raw: Vec::new(),
        }
    }
}

impl ReadingBatch {
    /// Rows of one commodity.
    pub fn rows(&self, commodity: Commodity) -> &ReadingRows {
        match commodity {
            Commodity::Electricity => &self.electricity,
            Commodity::Water => &self.water,
        }
    }

    /// Rows of one commodity, to add to.
    pub fn rows_mut(&mut self, commodity: Commodity) -> &mut ReadingRows {
        match commodity {
            Commodity::Electricity => &mut self.electricity,
            Commodity::Water => &mut self.water,
        }
    }

    /// Moves all of `other` behind this.
    pub fn append(&mut self, other: Self) {
        self.electricity.append(other.electricity);
        self.water.append(other.water);
        self.events.extend(other.events);
        self.dead_letters.extend(other.dead_letters);
        self.raw.extend(other.raw);
    }

    /// Number of reading rows of both commodities.
    pub fn reading_count(&self) -> usize {
        self.electricity.len() + self.water.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.reading_count() == 0 && self.events.is_empty() && self.dead_letters.is_empty() && self.raw.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(meter: &str, seconds: i64) -> RowHeader {
        RowHeader {
            meter_id: MeterId::new(meter).unwrap(),
            ts: Timestamp::from_unix_seconds(seconds).unwrap(),
            received_at_s: seconds,
            source: "test".into(),
            profile: "test@1".into(),
            flags: ReadingFlags::NONE,
        }
    }

    #[test]
    fn columns_stay_as_long_as_the_rows() {
        let energy = Channel::by_name("energy_import_kwh").unwrap();
        let voltage = Channel::by_name("voltage_l1_v").unwrap();
        let mut rows = ReadingRows::new(Commodity::Electricity);
        rows.push(header("a", 1), &[(energy, 5)]);
        rows.push(header("b", 2), &[(voltage, 2301)]);
        let mut more = ReadingRows::new(Commodity::Electricity);
        more.push(header("c", 3), &[(voltage, 2302), (energy, 7)]);
        rows.append(more);

        assert_eq!(rows.len(), 3);
        assert!(rows.columns().all(|(_, values)| values.len() == 3));
        assert_eq!(rows.value(0, energy), Some(5));
        assert_eq!(rows.value(1, energy), None);
        assert_eq!(rows.values(2).collect::<Vec<_>>(), vec![(energy, 7), (voltage, 2302)]);
    }

    #[test]
    fn flags_name_themselves() {
        let flags = ReadingFlags::CONFLICT.with(ReadingFlags::RETAINED);
        assert_eq!(flags.names().collect::<Vec<_>>(), ["conflict", "retained"]);
        assert_eq!(ReadingFlags::from_bits(flags.bits()), flags);
    }

    #[test]
    fn reasons_are_read_back() {
        for (reason, name) in DeadReason::NAMES {
            assert_eq!(reason.as_str(), name);
            assert_eq!(DeadReason::parse(name), Some(reason));
        }
    }
}
