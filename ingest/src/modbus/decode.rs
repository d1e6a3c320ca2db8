//! Register blocks into rows, events and dead letters. Pure: used for live polls and for replay alike.
//!
//! A block is decoded by itself. Where a value needs registers of several blocks, such as a scale factor elsewhere,
//! those are decoded together and kept together.

mod message;

use std::sync::Arc;

use meterlake_config::device_profile::{DeviceProfile, Register};
use meterlake_model::{
    Channel, DeadLetter, DeadReason, EventKind, MeterDirectory, MeterEvent, MeterId, RawMessage, ReadingBatch,
    ReadingFlags, RowHeader, Timestamp,
};

use super::number::{self, NumberError};
use super::planner::BlockRequest;
pub(super) use message::{Kept, read_message};

/// Registers as a device sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What was asked for.
    pub request: BlockRequest,
    /// As many words as were asked for; what has another number is refused when decoded.
    pub words: Vec<u16>,
}

impl Block {
    /// The words of a register within the block; `None` when it does not hold all of them.
    pub fn words(&self, register: &Register) -> Option<&[u16]> {
        if register.function != self.request.function {
            return None;
        }
        let from = usize::from(register.address.checked_sub(self.request.range.first)?);
        self.words.get(from..from + usize::from(register.kind.registers()))
    }
}

/// The words of a register in any of some blocks.
pub(super) fn words_in<'b>(blocks: &[&'b Block], register: &Register) -> Option<&'b [u16]> {
    blocks.iter().find_map(|block| block.words(register))
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

/// Decodes every field of the profile of which all registers lie in the block.
///
/// # Errors
/// When the block has another length than its request, or one value does not fit its column: then none is taken.
pub fn decode_block(profile: &DeviceProfile, block: &Block) -> Result<BlockValues, BlockError> {
    decode_blocks(profile, &[block])
}

/// Decodes every field of the profile of which all registers lie in the blocks.
///
/// # Errors
/// When a block has another length than its request, or one value does not fit its column: then none is taken.
pub fn decode_blocks(profile: &DeviceProfile, blocks: &[&Block]) -> Result<BlockValues, BlockError> {
    for block in blocks {
        let wanted = usize::from(block.request.registers());
        if block.words.len() != wanted {
            let detail = format!("{} registers came, {wanted} belong to {}", block.words.len(), block.request);
            return Err(BlockError { reason: DeadReason::BadAnswer, detail });
        }
    }
    let find = |register: &Register| words_in(blocks, register);
    let mut decoded = BlockValues::default();
    for field in &profile.fields {
        let value = number::value(field, find).map_err(|error| {
            let words = field.registers().filter_map(find).flatten();
            refused(field.channel.name(), words, error)
        })?;
        decoded.values.extend(value.map(|value| (field.channel, value)));
    }
    for (at, field) in profile.status.iter().enumerate() {
        let Some(words) = find(&field.register) else { continue };
        let bits = number::bits(words, field.register.kind, field.register.order)
            .map_err(|error| refused("status", words.iter(), error))?;
        decoded.status.push((at, u32::try_from(bits).unwrap_or(u32::MAX)));
    }
    Ok(decoded)
}

fn refused<'w>(field: &str, words: impl Iterator<Item = &'w u16>, error: NumberError) -> BlockError {
    let reason = match error {
        NumberError::NotFinite
        | NumberError::NotDecimal(_)
        | NumberError::NotDigits(_)
        | NumberError::Scale(_)
        | NumberError::DividedByZero => DeadReason::BadValue,
        NumberError::Inexact(_) | NumberError::Overflow => DeadReason::Overflow,
        NumberError::Width(_) => DeadReason::BadAnswer,
    };
    let hex: Vec<_> = words.map(|word| format!("{word:04X}")).collect();
    BlockError { reason, detail: format!("{field} of registers {}: {error}", hex.join(" ")) }
}

/// The blocks that have to be decoded together, in the order of the first of each group.
fn groups<'b>(profile: &DeviceProfile, blocks: &'b [Block]) -> Vec<Vec<&'b Block>> {
    let mut group_of: Vec<usize> = (0..blocks.len()).collect();
    // A plain field lies in one block: no profile without others pays for this.
    for field in profile.fields.iter().filter(|field| blocks.len() > 1 && !field.is_plain()) {
        let held = |register: &Register| blocks.iter().position(|block| block.words(register).is_some());
        let joined: Vec<usize> = field.registers().filter_map(held).map(|at| group_of[at]).collect();
        let Some(first) = joined.iter().min().copied() else { continue };
        for group in group_of.iter_mut().filter(|group| joined.contains(group)) {
            *group = first;
        }
    }
    let members = |group| (0..blocks.len()).filter(|&at| group_of[at] == group).map(|at| &blocks[at]).collect();
    (0..blocks.len()).map(members).filter(|group: &Vec<_>| !group.is_empty()).collect()
}

/// One device at one time, and where its answers go.
pub(super) struct Answered<'a> {
    pub(super) unit: u8,
    pub(super) meter_id: &'a MeterId,
    pub(super) profile: &'a DeviceProfile,
    pub(super) label: &'a Arc<str>,
    pub(super) source: &'a Arc<str>,
    pub(super) directory: &'a MeterDirectory,
    /// What it said about itself: kept with what is refused for it.
    pub(super) plate: &'a [Block],
    /// Why its readings are not the meter's.
    pub(super) stranger: Option<&'a str>,
    /// The time that the reading bears.
    pub(super) ts: Timestamp,
    pub(super) received_at_s: i64,
}

impl Answered<'_> {
    /// Adds what the blocks say: one row for all of them, an event for each status bit that was not set in `known`
    /// (which is brought up to date), a dead letter for each block that cannot be read. Returns whether a row came.
    pub(super) fn add_blocks(&self, blocks: &[Block], known: &mut [u32], out: &mut ReadingBatch) -> bool {
        let entry = self.directory.get(self.meter_id.as_str());
        let other = entry.filter(|entry| entry.commodity != self.profile.commodity).map(|entry| {
            format!(
                "{} is a meter for {} in the registry, its profile {} reads {}",
                self.meter_id, entry.commodity, self.label, self.profile.commodity
            )
        });
        if let Some(detail) = other.or_else(|| self.stranger.map(str::to_owned)) {
            for group in groups(self.profile, blocks) {
                let with_plate: Vec<&Block> = self.plate.iter().chain(group).collect();
                self.add_dead(DeadReason::Identity, detail.clone(), self.raw(&with_plate), out);
            }
            return false;
        }
        let mut values: Vec<(Channel, i64)> = Vec::new();
        for group in groups(self.profile, blocks) {
            match decode_blocks(self.profile, &group) {
                Ok(decoded) => {
                    // Requests may overlap; what both bring was read within one poll.
                    let known_already = |channel| values.iter().any(|(other, _)| *other == channel);
                    let new: Vec<_> = decoded.values.into_iter().filter(|(c, _)| !known_already(*c)).collect();
                    values.extend(new);
                    self.add_events(&decoded.status, known, out);
                    if self.profile.keep_raw {
                        out.raw.push(self.raw(&group));
                    }
                }
                Err(BlockError { reason, detail }) => self.add_dead(reason, detail, self.raw(&group), out),
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
        let topic = message::answer_topic(self.unit, request);
        self.add_dead(DeadReason::BadAnswer, detail, self.message(topic, answer), out);
    }

    fn add_events(&self, status: &[(usize, u32)], known: &mut [u32], out: &mut ReadingBatch) {
        for &(at, now) in status {
            let before = known.get(at).copied().unwrap_or_default();
            if let Some(known) = known.get_mut(at) {
                *known = now;
            }
            let Some(field) = self.profile.status.get(at) else { continue };
            for &(number, kind) in &field.events {
                let begins = if field.is_code {
                    now != before && now == u32::from(number)
                } else {
                    (now & !before) >> number & 1 == 1
                };
                if begins {
                    let word = if field.is_code { "code" } else { "bit" };
                    out.events.push(self.event(kind, format!("{word} {number} of status 0x{now:04X}")));
                }
            }
        }
    }

    fn event(&self, kind: EventKind, detail: String) -> MeterEvent {
        MeterEvent {
            meter_id: self.meter_id.clone(),
            ts: self.ts,
            kind,
            detail: detail.into(),
            received_at_s: self.received_at_s,
            source: Arc::clone(self.source),
        }
    }

    fn raw(&self, blocks: &[&Block]) -> RawMessage {
        let (topic, payload) = message::written(self.unit, blocks, self.profile.layout_found());
        self.message(topic, payload)
    }

    fn message(&self, topic: String, payload: Vec<u8>) -> RawMessage {
        RawMessage { source: Arc::clone(self.source), topic: topic.into(), payload, received_at_s: self.received_at_s }
    }

    fn add_dead(&self, reason: DeadReason, detail: String, message: RawMessage, out: &mut ReadingBatch) {
        out.dead_letters.push(DeadLetter { reason, detail, message, decoder: Arc::clone(self.label) });
    }
}

#[cfg(test)]
mod tests;
