//! Register blocks as the messages that are kept of them.
//!
//! The topic is `unit/function/start+count`. Blocks that belong together are joined, as in `7/3/0+10&3/96+2`, and what
//! a device's own directory said stands behind, as in `7/3/40071+55@203:40069:40002`: model, its register, and that of
//! the nameplate.

use meterlake_config::device_profile::{Found, Function, RegisterRange};
use meterlake_model::{DeadReason, RawMessage};

use super::super::planner::BlockRequest;
use super::{Block, BlockError};

/// What follows the topic of an answer that is no register block.
const ANSWER: &str = "/answer";

/// Register blocks that were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::modbus) struct Kept {
    pub(in crate::modbus) unit: u8,
    /// At least one.
    pub(in crate::modbus) blocks: Vec<Block>,
    pub(in crate::modbus) found: Option<Found>,
}

/// Topic and payload of blocks.
pub(super) fn written(unit: u8, blocks: &[&Block], found: Option<Found>) -> (String, Vec<u8>) {
    let requests: Vec<_> = blocks.iter().map(|block| block.request.to_string()).collect();
    let mut topic = format!("{unit}/{}", requests.join("&"));
    if let Some(Found { model, address, common }) = found {
        topic.push_str(&format!("@{model}:{address}"));
        topic.extend(common.map(|common| format!(":{common}")));
    }
    let words = blocks.iter().flat_map(|block| &block.words);
    (topic, words.flat_map(|word| word.to_be_bytes()).collect())
}

/// The topic of an answer that is no register block.
pub(super) fn answer_topic(unit: u8, request: BlockRequest) -> String {
    format!("{unit}/{request}{ANSWER}")
}

/// Reads a raw message of register blocks back.
///
/// # Errors
/// When its topic names no register blocks, or the bytes are not as many as it says.
pub(in crate::modbus) fn read_message(message: &RawMessage) -> Result<Kept, BlockError> {
    let bad = |detail| BlockError { reason: DeadReason::BadAnswer, detail };
    let (unit, requests, found) =
        parse_topic(&message.topic).ok_or_else(|| bad(format!("`{}` is no register block", message.topic)))?;
    let words: Vec<u16> =
        message.payload.chunks(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(u16::from_be_bytes).collect();
    let wanted: usize = requests.iter().map(|request| usize::from(request.registers())).sum();
    if message.payload.len() != wanted * 2 {
        let detail = format!("{} bytes came, {} has two for each register", message.payload.len(), message.topic);
        return Err(bad(detail));
    }
    let mut rest = words.as_slice();
    let mut blocks = Vec::new();
    for request in requests {
        let (words, behind) = rest.split_at_checked(usize::from(request.registers())).unwrap_or((rest, &[]));
        blocks.push(Block { request, words: words.to_vec() });
        rest = behind;
    }
    Ok(Kept { unit, blocks, found })
}

fn parse_topic(topic: &str) -> Option<(u8, Vec<BlockRequest>, Option<Found>)> {
    let (unit, rest) = topic.split_once('/')?;
    let (requests, found) = match rest.split_once('@') {
        Some((requests, found)) => (requests, Some(parse_found(found)?)),
        None => (rest, None),
    };
    let requests: Option<Vec<_>> = requests.split('&').map(parse_request).collect();
    Some((unit.parse().ok()?, requests?, found))
}

fn parse_request(text: &str) -> Option<BlockRequest> {
    let (function, range) = text.split_once('/')?;
    let function = Function::from_code(function.parse().ok()?)?;
    let (first, registers) = range.split_once('+')?;
    let (first, registers): (u16, u16) = (first.parse().ok()?, registers.parse().ok()?);
    let last = first.checked_add(registers.checked_sub(1)?)?;
    Some(BlockRequest { function, range: RegisterRange { first, last } })
}

fn parse_found(text: &str) -> Option<Found> {
    let numbers: Option<Vec<u16>> = text.split(':').map(|number| number.parse().ok()).collect();
    match numbers?.as_slice() {
        [model, address] => Some(Found { model: *model, address: *address, common: None }),
        [model, address, common] => Some(Found { model: *model, address: *address, common: Some(*common) }),
        _ => None,
    }
}
