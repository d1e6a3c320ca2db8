//! Packets that keep a connection alive, and the answer behind, before or around them. Pure.

use std::sync::Arc;

use meterlake_config::PacketPattern;

use super::frame::{Asked, Look};
use super::packet::{Packet, read_packet};

/// So many of the places where an answer may begin are looked at for heartbeats within it.
const BEGINNINGS: usize = 4;

/// The heartbeats of one connection; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Heartbeats {
    patterns: Arc<[PacketPattern]>,
    /// Who sends them: one that names another is none.
    id: Arc<str>,
}

impl Heartbeats {
    /// Only patterns of a fixed length are looked for: where others end could not be told.
    pub(super) fn new(patterns: Arc<[PacketPattern]>, id: Arc<str>) -> Self {
        Self { patterns, id }
    }

    /// An answer in what was heard. The bytes as they are come first; then without heartbeats in front; then also without
    /// one within, since a device server sends it between any two parts of an answer. What the answer's own checks
    /// refuse is never made one by this.
    pub(super) fn look(&self, asked: &Asked, heard: &[u8]) -> Look {
        let as_it_is = asked.look(heard);
        if self.patterns.is_empty() || matches!(as_it_is, Look::Words(..) | Look::Exception(..)) {
            return as_it_is;
        }
        let mut may_go_on = as_it_is == Look::More;
        let (mut rest, mut wrong) = (heard, as_it_is);
        let mut beginnings = vec![rest];
        while let Some(length) = self.at(rest) {
            rest = &rest[length..];
            beginnings.push(rest);
            match asked.look(rest) {
                look @ (Look::Words(..) | Look::Exception(..)) => return look,
                Look::More => may_go_on = true,
                look => wrong = look,
            }
        }
        // The answer itself may begin as a heartbeat does.
        for rest in beginnings.iter().rev().take(BEGINNINGS) {
            for at in 1..rest.len() {
                may_go_on = may_go_on || (self.begins(&rest[at..]) && asked.look(&rest[..at]) == Look::More);
                let Some(length) = self.at(&rest[at..]) else { continue };
                match asked.look(&[&rest[..at], &rest[at + length..]].concat()) {
                    look @ (Look::Words(..) | Look::Exception(..)) => return look,
                    Look::More => may_go_on = true,
                    Look::Wrong(..) => {}
                }
            }
        }
        if may_go_on || self.begins(rest) { Look::More } else { wrong }
    }

    /// What was heard, without the heartbeats at its beginning and a piece of one behind them.
    pub(super) fn without_leading<'h>(&self, heard: &'h [u8]) -> &'h [u8] {
        let mut rest = heard;
        while let Some(length) = self.at(rest) {
            rest = &rest[length..];
        }
        if self.begins(rest) { &[] } else { rest }
    }

    /// The length of the heartbeat that stands at the beginning.
    fn at(&self, bytes: &[u8]) -> Option<usize> {
        self.patterns.iter().filter(|pattern| pattern.length().is_some()).find_map(|pattern| {
            match read_packet(pattern, bytes, false) {
                Packet::Whole { id, length } if id.as_deref().is_none_or(|id| id == &*self.id) => Some(length),
                _ => None,
            }
        })
    }

    /// Whether the bytes are the beginning of a heartbeat.
    fn begins(&self, bytes: &[u8]) -> bool {
        let fixed = |pattern: &&PacketPattern| pattern.length().is_some();
        !bytes.is_empty()
            && self.patterns.iter().filter(fixed).any(|pattern| read_packet(pattern, bytes, false) == Packet::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::failure::FailureKind;
    use crate::modbus::planner::BlockRequest;
    use meterlake_config::ModbusFraming;
    use meterlake_config::device_profile::{Function, RegisterRange};
    use proptest::prelude::*;

    fn heartbeats(patterns: &[&str]) -> Heartbeats {
        let patterns = patterns.iter().map(|pattern| PacketPattern::parse(pattern).unwrap()).collect();
        Heartbeats::new(patterns, "861234567890123".into())
    }

    fn asked() -> Asked {
        let range = RegisterRange { first: 0, last: 1 };
        let request = BlockRequest { function: Function::InputRegisters, range };
        Asked { framing: ModbusFraming::Rtu, transaction: 0, unit: 1, request }
    }

    /// 230.2 V, from the maker's document.
    const ANSWER: [u8; 9] = [0x01, 0x04, 0x04, 0x43, 0x66, 0x33, 0x34, 0x1B, 0x38];
    const WORDS: [u16; 2] = [0x4366, 0x3334];

    #[test]
    fn an_answer_is_found_wherever_a_heartbeat_lies() {
        for pattern in ["ping", "hex: FE", "hex: 01", "hex: 43", r"\0", "{id:15}", "hex: 7E {any:2} 7E"] {
            let beats = heartbeats(&[pattern, "other"]);
            let beat: &[u8] = match pattern {
                "ping" => b"ping",
                "hex: FE" => &[0xFE],
                "hex: 01" => &[1],
                "hex: 43" => &[0x43],
                r"\0" => &[0],
                "{id:15}" => b"861234567890123",
                _ => &[0x7E, 1, 4, 0x7E],
            };
            assert!(matches!(beats.look(&asked(), &ANSWER), Look::Words(words, 9) if words == WORDS), "{pattern}");
            for at in 0..=ANSWER.len() {
                let heard = [&ANSWER[..at], beat, &ANSWER[at..]].concat();
                assert!(
                    matches!(beats.look(&asked(), &heard), Look::Words(words, _) if words == WORDS),
                    "{pattern} at {at}"
                );
                for end in 0..at + beat.len() {
                    let beginning = beats.look(&asked(), &heard[..end]);
                    let all_there = end >= ANSWER.len();
                    assert!(all_there || beginning == Look::More, "{pattern} at {at} up to {end}: {beginning:?}");
                }
            }
            let many = [beat, beat, beat, &ANSWER].concat();
            assert!(matches!(beats.look(&asked(), &many), Look::Words(..)), "{pattern}");
            assert!(beats.without_leading(&[beat, beat].concat()).is_empty(), "{pattern}");
        }
    }

    #[test]
    fn a_heartbeat_of_another_is_none() {
        let beats = heartbeats(&["id={id:3};"]);
        assert_eq!(beats.without_leading(b"id=123;"), b"id=123;");
        assert!(matches!(beats.look(&asked(), b"id=123;"), Look::Wrong(FailureKind::BadAnswer, _)));
    }

    proptest! {
        #[test]
        fn heartbeats_never_make_an_answer_of_what_is_none(heard in prop::collection::vec(any::<u8>(), 0..60)) {
            let beats = heartbeats(&[r"\0", "hex: 01", "ping"]);
            // Two bytes of checksum let one in 65,536 pass: then it must be one that fits.
            if let Look::Words(words, _) = beats.look(&asked(), &heard) {
                prop_assert_eq!(words.len(), 2);
            }
        }
    }
}
