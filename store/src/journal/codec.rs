//! A [`ReadingBatch`] as the body of a record, and back.
//!
//! Columns, not rows: texts in one dictionary, times and values as differences of neighbours, a column of equal values
//! as one. Channels, events and reasons go by name, so that the catalogue may grow. Bodies that shrink are compressed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use meterlake_model::{
    Channel, Commodity, DeadLetter, DeadReason, EventKind, MeterEvent, MeterId, RawMessage, ReadingBatch, ReadingFlags,
    ReadingRows, RowHeader, Timestamp,
};

use super::error::JournalError;
use super::wire::{Cursor, Reason, put_bytes, put_column, put_i64, put_len};

/// The largest body before compression, in bytes.
pub(super) const MAX_RAW: usize = 32 << 20;
/// The most rows of one commodity in a record.
const MAX_ROWS: usize = 1 << 18;
/// Below this a body is not worth compressing, in bytes.
const COMPRESS_FROM: usize = 512;
const COMPRESSION_LEVEL: i32 = 1;

thread_local! {
    /// The compressor's tables are large; one for each thread that encodes.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// A batch as bytes, ready to be appended. Encoding is done on the caller's thread, appending on the journal's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The bytes as they are stored.
    pub(super) body: Vec<u8>,
    /// The size before compression; 0 when it is not compressed.
    pub(super) raw_len: u32,
}

impl EncodedBatch {
    /// Encodes a batch.
    ///
    /// # Errors
    /// `TooLarge` above 262,144 rows of a commodity or 32 MiB.
    pub fn new(batch: &ReadingBatch) -> Result<Self, JournalError> {
        for commodity in Commodity::ALL {
            limit(batch.rows(commodity).len(), MAX_ROWS)?;
        }
        let raw = encode(batch);
        limit(raw.len(), MAX_RAW)?;
        Ok(Self::compressed(&raw).unwrap_or(Self { body: raw, raw_len: 0 }))
    }

    /// `None` when it does not pay.
    fn compressed(raw: &[u8]) -> Option<Self> {
        if raw.len() < COMPRESS_FROM {
            return None;
        }
        let body = COMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).ok();
            }
            slot.as_mut().and_then(|compressor| compressor.compress(raw).ok())
        })?;
        // A tenth saved is worth the time that reading it back takes.
        let pays = body.len() < raw.len() - raw.len() / 10;
        pays.then_some(Self { body, raw_len: u32::try_from(raw.len()).ok()? })
    }

    /// Bytes as stored, without the record's header.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Never: even an empty batch takes some bytes.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

fn limit(bytes: usize, limit: usize) -> Result<(), JournalError> {
    if bytes > limit { Err(JournalError::TooLarge { bytes: bytes as u64, limit: limit as u64 }) } else { Ok(()) }
}

/// Reads a body back. `raw_len` is 0 when the body is not compressed.
pub(super) fn decode(body: &[u8], raw_len: u32) -> Result<ReadingBatch, Reason> {
    if raw_len == 0 {
        return decode_raw(body);
    }
    let capacity = usize::try_from(raw_len).map_err(|e| e.to_string())?;
    if capacity > MAX_RAW {
        return Err(format!("it states {raw_len} bytes before compression"));
    }
    let raw = zstd::bulk::decompress(body, capacity).map_err(|e| format!("it does not decompress: {e}"))?;
    if raw.len() != capacity {
        return Err(format!("it has {} bytes before compression and states {raw_len}", raw.len()));
    }
    decode_raw(&raw)
}

/// Texts of a record, each once, in order of first use.
#[derive(Default)]
struct Dictionary<'a> {
    texts: Vec<&'a str>,
    index: HashMap<&'a str, i64>,
    /// Rows in sequence mostly repeat the text of the row before.
    last: Option<(&'a str, i64)>,
}

impl<'a> Dictionary<'a> {
    fn id(&mut self, text: &'a str) -> i64 {
        if let Some((last, id)) = self.last
            && last == text
        {
            return id;
        }
        let next = i64::try_from(self.texts.len()).unwrap_or(i64::MAX);
        let id = *self.index.entry(text).or_insert(next);
        if id == next {
            self.texts.push(text);
        }
        self.last = Some((text, id));
        id
    }

    fn column(&mut self, out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
        let ids: Vec<i64> = texts.map(|text| self.id(text)).collect();
        put_column(out, ids.into_iter());
    }
}

fn encode(batch: &ReadingBatch) -> Vec<u8> {
    let mut dictionary = Dictionary::default();
    let mut rest = Vec::new();
    for commodity in Commodity::ALL {
        encode_rows(batch.rows(commodity), &mut dictionary, &mut rest);
    }
    encode_events(&batch.events, &mut dictionary, &mut rest);
    encode_dead_letters(&batch.dead_letters, &mut dictionary, &mut rest);
    encode_raw_messages(batch.raw.iter(), &mut dictionary, &mut rest);

    let mut out = Vec::with_capacity(rest.len() + 64);
    put_len(&mut out, dictionary.texts.len());
    for text in &dictionary.texts {
        put_bytes(&mut out, text.as_bytes());
    }
    out.extend_from_slice(&rest);
    out
}

fn encode_rows<'a>(rows: &'a ReadingRows, dictionary: &mut Dictionary<'a>, out: &mut Vec<u8>) {
    put_len(out, rows.len());
    if rows.is_empty() {
        return;
    }
    let headers = rows.headers();
    dictionary.column(out, headers.iter().map(|h| h.meter_id.as_str()));
    put_column(out, headers.iter().map(|h| h.ts.micros()));
    put_column(out, headers.iter().map(|h| h.received_at_s));
    dictionary.column(out, headers.iter().map(|h| &*h.source));
    dictionary.column(out, headers.iter().map(|h| &*h.profile));
    put_column(out, headers.iter().map(|h| i64::from(h.flags.bits())));

    put_len(out, rows.columns().count());
    for (channel, values) in rows.columns() {
        put_i64(out, dictionary.id(channel.name()));
        let all = values.iter().all(Option::is_some);
        out.push(u8::from(!all));
        if !all {
            out.extend(values.chunks(8).map(|chunk| {
                chunk.iter().enumerate().fold(0_u8, |bits, (i, value)| bits | (u8::from(value.is_some()) << i))
            }));
        }
        put_column(out, values.iter().filter_map(|v| *v));
    }
}

fn encode_events<'a>(events: &'a [MeterEvent], dictionary: &mut Dictionary<'a>, out: &mut Vec<u8>) {
    put_len(out, events.len());
    for event in events {
        put_i64(out, dictionary.id(event.meter_id.as_str()));
        put_i64(out, event.ts.micros());
        put_i64(out, dictionary.id(event.kind.as_str()));
        put_i64(out, dictionary.id(&event.detail));
        put_i64(out, event.received_at_s);
        put_i64(out, dictionary.id(&event.source));
    }
}

fn encode_dead_letters<'a>(letters: &'a [DeadLetter], dictionary: &mut Dictionary<'a>, out: &mut Vec<u8>) {
    put_len(out, letters.len());
    for letter in letters {
        put_i64(out, dictionary.id(letter.reason.as_str()));
        put_i64(out, dictionary.id(&letter.decoder));
        put_bytes(out, letter.detail.as_bytes());
    }
    // The same number of messages follows, in the same order.
    encode_raw_messages(letters.iter().map(|letter| &letter.message), dictionary, out);
}

fn encode_raw_messages<'a>(
    messages: impl ExactSizeIterator<Item = &'a RawMessage>,
    dictionary: &mut Dictionary<'a>,
    out: &mut Vec<u8>,
) {
    put_len(out, messages.len());
    for message in messages {
        put_i64(out, dictionary.id(&message.source));
        put_i64(out, dictionary.id(&message.topic));
        put_i64(out, message.received_at_s);
        put_bytes(out, &message.payload);
    }
}

/// Texts of a record that is read; shared values are made once.
struct Texts<'a> {
    texts: Vec<&'a str>,
    shared: Vec<Option<Arc<str>>>,
    meters: Vec<Option<MeterId>>,
}

impl<'a> Texts<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Reason> {
        let count = cursor.count()?;
        let texts = (0..count).map(|_| cursor.text()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared: vec![None; count], meters: vec![None; count], texts })
    }

    fn at(&self, id: i64) -> Result<(usize, &'a str), Reason> {
        let index = usize::try_from(id).ok().filter(|i| *i < self.texts.len());
        index.map(|i| (i, self.texts[i])).ok_or_else(|| format!("text {id} of {} is asked for", self.texts.len()))
    }

    fn shared(&mut self, id: i64) -> Result<Arc<str>, Reason> {
        let (index, text) = self.at(id)?;
        Ok(self.shared[index].get_or_insert_with(|| text.into()).clone())
    }

    fn meter(&mut self, id: i64) -> Result<MeterId, Reason> {
        let (index, text) = self.at(id)?;
        if let Some(meter) = &self.meters[index] {
            return Ok(meter.clone());
        }
        let meter = MeterId::new(text).map_err(|e| e.to_string())?;
        self.meters[index] = Some(meter.clone());
        Ok(meter)
    }
}

fn decode_raw(raw: &[u8]) -> Result<ReadingBatch, Reason> {
    let mut cursor = Cursor::new(raw);
    let mut texts = Texts::read(&mut cursor)?;
    let mut batch = ReadingBatch::default();
    for commodity in Commodity::ALL {
        *batch.rows_mut(commodity) = decode_rows(commodity, &mut cursor, &mut texts)?;
    }
    batch.events = decode_events(&mut cursor, &mut texts)?;
    batch.dead_letters = decode_dead_letters(&mut cursor, &mut texts)?;
    batch.raw = decode_raw_messages(&mut cursor, &mut texts)?;
    cursor.finish()?;
    Ok(batch)
}

fn decode_rows(commodity: Commodity, cursor: &mut Cursor<'_>, texts: &mut Texts<'_>) -> Result<ReadingRows, Reason> {
    let count = cursor.u64()?;
    let rows =
        usize::try_from(count).ok().filter(|n| *n <= MAX_ROWS).ok_or_else(|| format!("it states {count} rows"))?;
    if rows == 0 {
        return Ok(ReadingRows::new(commodity));
    }
    let meters = cursor.column(rows)?;
    let times = cursor.column(rows)?;
    let received = cursor.column(rows)?;
    let sources = cursor.column(rows)?;
    let profiles = cursor.column(rows)?;
    let flags = cursor.column(rows)?;
    let mut headers = Vec::with_capacity(rows);
    for row in 0..rows {
        headers.push(RowHeader {
            meter_id: texts.meter(meters[row])?,
            ts: Timestamp::from_micros(times[row]).map_err(|e| e.to_string())?,
            received_at_s: received[row],
            source: texts.shared(sources[row])?,
            profile: texts.shared(profiles[row])?,
            flags: ReadingFlags::from_bits(u32::try_from(flags[row]).map_err(|_| "flags are out of range")?),
        });
    }
    let mut columns = Vec::new();
    for _ in 0..cursor.count()? {
        let (_, name) = texts.at(cursor.i64()?)?;
        let channel = Channel::by_name(name).ok_or_else(|| format!("channel `{name}` is unknown"))?;
        columns.push((channel, decode_values(channel, rows, cursor)?));
    }
    ReadingRows::from_columns(commodity, headers, columns).ok_or_else(|| "its columns do not fit its rows".into())
}

fn decode_values(channel: Channel, rows: usize, cursor: &mut Cursor<'_>) -> Result<Vec<Option<i64>>, Reason> {
    let present: Option<&[u8]> = match cursor.byte()? {
        0 => None,
        1 => Some(cursor.take(rows.div_ceil(8))?),
        other => return Err(format!("column presence {other} is unknown")),
    };
    let is_present = |row: usize| present.is_none_or(|bits| bits[row / 8] >> (row % 8) & 1 == 1);
    let count = (0..rows).filter(|row| is_present(*row)).count();
    let packed = cursor.column(count)?;
    if let Some(value) = packed.iter().find(|value| !channel.fits(**value)) {
        return Err(format!("{value} does not fit `{channel}`"));
    }
    let mut packed = packed.into_iter();
    Ok((0..rows).map(|row| if is_present(row) { packed.next() } else { None }).collect())
}

fn decode_events(cursor: &mut Cursor<'_>, texts: &mut Texts<'_>) -> Result<Vec<MeterEvent>, Reason> {
    let count = cursor.count()?;
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(MeterEvent {
            meter_id: texts.meter(cursor.i64()?)?,
            ts: Timestamp::from_micros(cursor.i64()?).map_err(|e| e.to_string())?,
            kind: {
                let (_, name) = texts.at(cursor.i64()?)?;
                EventKind::parse(name).ok_or_else(|| format!("event `{name}` is unknown"))?
            },
            detail: texts.shared(cursor.i64()?)?,
            received_at_s: cursor.i64()?,
            source: texts.shared(cursor.i64()?)?,
        });
    }
    Ok(events)
}

fn decode_dead_letters(cursor: &mut Cursor<'_>, texts: &mut Texts<'_>) -> Result<Vec<DeadLetter>, Reason> {
    let count = cursor.count()?;
    let mut heads = Vec::new();
    for _ in 0..count {
        let (_, name) = texts.at(cursor.i64()?)?;
        let reason = DeadReason::parse(name).ok_or_else(|| format!("reason `{name}` is unknown"))?;
        heads.push((reason, texts.shared(cursor.i64()?)?, cursor.text()?.to_owned()));
    }
    let messages = decode_raw_messages(cursor, texts)?;
    if messages.len() != count {
        return Err(format!("{count} dead letters have {} messages", messages.len()));
    }
    let letters = heads.into_iter().zip(messages);
    Ok(letters.map(|((reason, decoder, detail), message)| DeadLetter { reason, detail, message, decoder }).collect())
}

fn decode_raw_messages(cursor: &mut Cursor<'_>, texts: &mut Texts<'_>) -> Result<Vec<RawMessage>, Reason> {
    let count = cursor.count()?;
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(RawMessage {
            source: texts.shared(cursor.i64()?)?,
            topic: texts.shared(cursor.i64()?)?,
            received_at_s: cursor.i64()?,
            payload: cursor.bytes()?.to_vec(),
        });
    }
    Ok(messages)
}

#[cfg(test)]
pub(super) mod tests;
