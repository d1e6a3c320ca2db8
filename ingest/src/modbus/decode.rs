//! Register blocks into rows, events and dead letters. Pure: used for live polls and for replay alike.

use std::sync::Arc;

use meterlake_config::device_profile::{DeviceProfile, Function, RegisterRange, RegisterType};
use meterlake_model::{
    Channel, DeadLetter, DeadReason, EventKind, MeterDirectory, MeterEvent, MeterId, RawMessage, ReadingBatch,
    ReadingFlags, RowHeader, Timestamp,
};

use super::number::{self, NumberError};
use super::planner::BlockRequest;

/// Registers as a device sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What was asked for.
    pub request: BlockRequest,
    /// As many words as were asked for; what has another number is refused when decoded.
    pub words: Vec<u16>,
}

impl Block {
    /// The words of some registers within the block; `None` when it does not hold all of them.
    fn words(&self, function: Function, address: u16, kind: RegisterType) -> Option<&[u16]> {
        if function != self.request.function {
            return None;
        }
        let from = usize::from(address.checked_sub(self.request.range.first)?);
        self.words.get(from..from + usize::from(kind.registers()))
    }

    fn payload(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }
}

/// Why a block cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BlockError {
    /// The code of the dead letter.
    pub reason: DeadReason,
    /// What exactly, for a person.
    pub detail: String,
}

/// What a block says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockValues {
    /// Columns with integers of their last decimal.
    pub values: Vec<(Channel, i64)>,
    /// Status registers by their index in the profile.
    pub status: Vec<(usize, u32)>,
}

/// Decodes every field of the profile that lies in the block.
///
/// # Errors
/// When the block has another length than its request, or one value does not fit its column: then none is taken.
pub fn decode_block(profile: &DeviceProfile, block: &Block) -> Result<BlockValues, BlockError> {
    let wanted = usize::from(block.request.registers());
    if block.words.len() != wanted {
        let detail = format!("{} registers came, {wanted} belong to {}", block.words.len(), block.request);
        return Err(BlockError { reason: DeadReason::BadAnswer, detail });
    }
    let mut decoded = BlockValues::default();
    for field in &profile.fields {
        let Some(words) = block.words(field.function, field.address, field.kind) else { continue };
        let value = number::value(field, words).map_err(|error| refused(field.channel.name(), words, error))?;
        decoded.values.extend(value.map(|value| (field.channel, value)));
    }
    for (at, field) in profile.status.iter().enumerate() {
        let Some(words) = block.words(field.function, field.address, field.kind) else { continue };
        let bits = number::bits(words, field.kind, field.order).map_err(|error| refused("status", words, error))?;
        decoded.status.push((at, u32::try_from(bits).unwrap_or(u32::MAX)));
    }
    Ok(decoded)
}

fn refused(field: &str, words: &[u16], error: NumberError) -> BlockError {
    let reason = match error {
        NumberError::NotFinite | NumberError::NotDecimal(_) => DeadReason::BadValue,
        NumberError::Inexact(_) | NumberError::Overflow => DeadReason::Overflow,
        NumberError::Width(_) => DeadReason::BadAnswer,
    };
    let hex: Vec<_> = words.iter().map(|word| format!("{word:04X}")).collect();
    BlockError { reason, detail: format!("{field} of registers {}: {error}", hex.join(" ")) }
}

/// One device at one time, and where its answers go.
pub(super) struct Answered<'a> {
    pub(super) unit: u8,
    pub(super) meter_id: &'a MeterId,
    pub(super) profile: &'a DeviceProfile,
    pub(super) label: &'a Arc<str>,
    pub(super) source: &'a Arc<str>,
    pub(super) directory: &'a MeterDirectory,
    /// The time that the reading bears.
    pub(super) ts: Timestamp,
    pub(super) received_at_s: i64,
}

impl Answered<'_> {
    /// Adds what the blocks say: one row for all of them, an event for each status bit that was not set in `known`
    /// (which is brought up to date), a dead letter for each block that cannot be read. Returns whether a row came.
    pub(super) fn add_blocks(&self, blocks: &[Block], known: &mut [u32], out: &mut ReadingBatch) -> bool {
        let entry = self.directory.get(self.meter_id.as_str());
        if let Some(entry) = entry.filter(|entry| entry.commodity != self.profile.commodity) {
            let detail = format!(
                "{} is a meter for {} in the registry, its profile {} reads {}",
                self.meter_id, entry.commodity, self.label, self.profile.commodity
            );
            for block in blocks {
                self.add_dead(DeadReason::Identity, detail.clone(), self.raw(block), out);
            }
            return false;
        }
        let mut values = Vec::new();
        for block in blocks {
            match decode_block(self.profile, block) {
                Ok(decoded) => {
                    values.extend(decoded.values);
                    self.add_events(&decoded.status, known, out);
                    if self.profile.keep_raw {
                        out.raw.push(self.raw(block));
                    }
                }
                Err(BlockError { reason, detail }) => self.add_dead(reason, detail, self.raw(block), out),
            }
        }
        if values.is_empty() {
            return false;
        }
        let flags = match entry {
            Some(_) => ReadingFlags::COLLECTOR_TIME,
            None => ReadingFlags::COLLECTOR_TIME.with(ReadingFlags::UNKNOWN_METER),
        };
        let header = RowHeader {
            meter_id: self.meter_id.clone(),
            ts: self.ts,
            received_at_s: self.received_at_s,
            source: Arc::clone(self.source),
            profile: Arc::clone(self.label),
            flags,
        };
        out.rows_mut(self.profile.commodity).push(header, &values);
        true
    }

    /// Adds an answer that is no register block, as it came.
    pub(super) fn add_answer(&self, request: BlockRequest, detail: String, answer: Vec<u8>, out: &mut ReadingBatch) {
        let topic = format!("{}{ANSWER}", topic(self.unit, request));
        self.add_dead(DeadReason::BadAnswer, detail, self.message(topic, answer), out);
    }

    fn add_events(&self, status: &[(usize, u32)], known: &mut [u32], out: &mut ReadingBatch) {
        for &(at, now) in status {
            let before = known.get(at).copied().unwrap_or_default();
            if let Some(known) = known.get_mut(at) {
                *known = now;
            }
            let bits = self.profile.status.get(at).into_iter().flat_map(|field| &field.bits);
            let risen = bits.filter(|(bit, _)| (now & !before) >> bit & 1 == 1);
            out.events.extend(risen.map(|&(bit, kind)| self.event(kind, bit, now)));
        }
    }

    fn event(&self, kind: EventKind, bit: u8, status: u32) -> MeterEvent {
        MeterEvent {
            meter_id: self.meter_id.clone(),
            ts: self.ts,
            kind,
            detail: format!("bit {bit} of status 0x{status:04X}").into(),
            received_at_s: self.received_at_s,
            source: Arc::clone(self.source),
        }
    }

    fn raw(&self, block: &Block) -> RawMessage {
        self.message(topic(self.unit, block.request), block.payload())
    }

    fn message(&self, topic: String, payload: Vec<u8>) -> RawMessage {
        RawMessage { source: Arc::clone(self.source), topic: topic.into(), payload, received_at_s: self.received_at_s }
    }

    fn add_dead(&self, reason: DeadReason, detail: String, message: RawMessage, out: &mut ReadingBatch) {
        out.dead_letters.push(DeadLetter { reason, detail, message, decoder: Arc::clone(self.label) });
    }
}

/// What follows the topic of an answer that is no register block.
const ANSWER: &str = "/answer";

/// `unit/function/start+count`.
fn topic(unit: u8, request: BlockRequest) -> String {
    format!("{unit}/{request}")
}

/// Reads a raw message of a register block back: its unit and the block.
///
/// # Errors
/// When its topic names no register block, or the bytes are not as many as it says.
pub(super) fn read_message(message: &RawMessage) -> Result<(u8, Block), BlockError> {
    let bad = |detail| BlockError { reason: DeadReason::BadAnswer, detail };
    let (unit, request) =
        parse_topic(&message.topic).ok_or_else(|| bad(format!("`{}` is no register block", message.topic)))?;
    let words: Vec<u16> =
        message.payload.chunks(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(u16::from_be_bytes).collect();
    if message.payload.len() != usize::from(request.registers()) * 2 {
        return Err(bad(format!("{} bytes came, {request} has two for each register", message.payload.len())));
    }
    Ok((unit, Block { request, words }))
}

fn parse_topic(topic: &str) -> Option<(u8, BlockRequest)> {
    let mut parts = topic.split('/');
    let unit = parts.next()?.parse().ok()?;
    let function = Function::from_code(parts.next()?.parse().ok()?)?;
    let (first, registers) = parts.next()?.split_once('+')?;
    let (first, registers): (u16, u16) = (first.parse().ok()?, registers.parse().ok()?);
    let last = first.checked_add(registers.checked_sub(1)?)?;
    parts.next().is_none().then_some((unit, BlockRequest { function, range: RegisterRange { first, last } }))
}

#[cfg(test)]
mod tests;
