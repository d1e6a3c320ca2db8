//! What a simulated meter sends: an MQTT message together with what it says, for the ledger and the counts.

use std::sync::Arc;

use bytes::Bytes;
use meterlake_model::{Channel, MeterId, Timestamp};

/// Readings of one meter, the same channels in each: row-major integers of 10^-[`Channel::scale`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The meter.
    pub meter_id: MeterId,
    /// What each row says, in this order.
    pub channels: Arc<[Channel]>,
    /// The meter's own time of each row.
    pub times: Vec<Timestamp>,
    /// `times.len() × channels.len()` values.
    pub values: Vec<i64>,
}

impl Rows {
    /// No rows yet.
    pub fn new(meter_id: MeterId, channels: Arc<[Channel]>) -> Self {
        Self { meter_id, channels, times: Vec::new(), values: Vec::new() }
    }

    /// Adds a row; `values` are as many as there are channels.
    pub fn push(&mut self, ts: Timestamp, values: &[i64]) {
        debug_assert_eq!(values.len(), self.channels.len());
        self.times.push(ts);
        self.values.extend_from_slice(values);
    }

    /// The values of one row.
    pub fn row(&self, index: usize) -> &[i64] {
        let width = self.channels.len();
        &self.values[index * width..(index + 1) * width]
    }

    /// Rows with their times.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, &[i64])> {
        self.times.iter().copied().enumerate().map(|(i, ts)| (ts, self.row(i)))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// Why a message is sent, as far as the truth is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Readings that no message before it said.
    Fresh,
    /// Readings that were sent before, equal.
    Repeat,
    /// A reading that was sent before, with another value.
    Conflict,
    /// Readings under field names that the map does not know; it can be mended and the message replayed.
    OldFirmware,
    /// Not readable, of the given kind.
    Malformed(Malformed),
}

/// How a message is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The payload ends in the middle.
    Truncated,
    /// The register is a word.
    NotANumber,
    /// No time.
    NoTime,
    /// A time that is none.
    BadTime,
    /// The year 1970.
    LongAgo,
    /// A register with more decimals than the meter has.
    TooFine,
}

impl Malformed {
    /// All of them, in the order in which they are sent.
    pub const ALL: [Self; 6] =
        [Self::Truncated, Self::NotANumber, Self::NoTime, Self::BadTime, Self::LongAgo, Self::TooFine];
}

/// One MQTT message. What it says lies beside the bytes, so that nobody needs to decode it to keep a ledger.
#[derive(Debug, Clone)]
pub struct Message {
    /// Topic.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Bytes,
    /// Fresh, repeated, contradicting or broken.
    pub kind: MessageKind,
    /// What it says; for a broken message nothing, for old firmware what it would say.
    pub rows: Rows,
}

impl Message {
    /// Readings that a collector should read out of it.
    pub fn readings(&self) -> usize {
        match self.kind {
            MessageKind::Fresh | MessageKind::Repeat | MessageKind::Conflict => self.rows.len(),
            MessageKind::OldFirmware | MessageKind::Malformed(_) => 0,
        }
    }
}

/// One reading a message, or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageForm {
    /// All readings of a meter's UTC day in one message: `{"readings":[…]}`.
    #[default]
    Frames,
    /// One reading a message: `{"ts":…}`.
    Singles,
}
