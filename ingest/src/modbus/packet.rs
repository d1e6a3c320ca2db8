//! Bytes against the pattern of a registration or heartbeat packet. Pure.

use std::fmt::Write as _;

use meterlake_config::{IdForm, PacketPart, PacketPattern};

/// The longest id.
const MOST_ID: usize = 64;

/// What bytes are to a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Something else.
    No,
    /// Its beginning.
    More,
    /// A whole packet of so many bytes, and who it says that it comes from.
    Whole { length: usize, id: Option<String> },
}

/// Reads a packet at the beginning of `bytes`. `ended` says that nothing more is to be expected: an id without a length
/// goes up to there.
pub(super) fn read_packet(pattern: &PacketPattern, bytes: &[u8], ended: bool) -> Packet {
    let (mut at, mut id) = (0, None);
    let mut parts = pattern.parts.iter().peekable();
    while let Some(part) = parts.next() {
        let rest = bytes.get(at..).unwrap_or_default();
        match part {
            PacketPart::Bytes(wanted) => {
                let there = wanted.len().min(rest.len());
                if rest[..there] != wanted[..there] {
                    return Packet::No;
                }
                if there < wanted.len() {
                    return Packet::More;
                }
                at += there;
            }
            PacketPart::Any(length) => {
                if rest.len() < *length {
                    return Packet::More;
                }
                at += length;
            }
            PacketPart::Id { form, length } => {
                let follower = match parts.peek() {
                    Some(PacketPart::Bytes(follower)) => Some(follower.as_slice()),
                    _ => None,
                };
                let length = match length {
                    Some(length) if rest.len() < *length => {
                        return if id_of(rest, *form).is_some() { Packet::More } else { Packet::No };
                    }
                    Some(length) => *length,
                    None => match open_length(rest, follower, ended) {
                        Ok(length) => length,
                        Err(packet) => return packet,
                    },
                };
                let Some(read) = id_of(&rest[..length], *form).filter(|id| !id.is_empty()) else { return Packet::No };
                id = Some(read);
                at += length;
            }
        }
    }
    Packet::Whole { length: at, id }
}

/// The length of an id that goes up to `follower`, or to the end.
fn open_length(rest: &[u8], follower: Option<&[u8]>, ended: bool) -> Result<usize, Packet> {
    let found = match follower {
        Some(follower) => rest.windows(follower.len()).position(|window| window == follower),
        None if ended => Some(rest.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1)),
        None => None,
    };
    match found {
        Some(length) if length <= MOST_ID => Ok(length),
        None if rest.len() <= MOST_ID + follower.map_or(2, <[u8]>::len) => Err(Packet::More),
        _ => Err(Packet::No),
    }
}

/// The id that bytes are; `None` where they cannot be one.
fn id_of(bytes: &[u8], form: IdForm) -> Option<String> {
    match form {
        IdForm::Text => {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            bytes.iter().all(plain).then(|| String::from_utf8_lossy(bytes).into_owned())
        }
        IdForm::Hex => Some(bytes.iter().fold(String::new(), |mut id, byte| {
            // Writing to a text never fails.
            write!(id, "{byte:02X}").ok();
            id
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(length: usize, id: &str) -> Packet {
        Packet::Whole { length, id: Some(id.to_owned()) }
    }

    #[test]
    fn packets_are_told_from_their_beginnings_and_from_others() {
        for (pattern, bytes, ended, expected) in [
            ("{id:15}", &b"861234567890123"[..], false, whole(15, "861234567890123")),
            ("{id:15}", b"861234567890123\x01\x03", false, whole(15, "861234567890123")),
            ("{id:15}", b"8612345", false, Packet::More),
            ("{id:15}", b"86123\x00", false, Packet::No),
            ("REG,{id},", b"REG,a-7,rest", false, whole(8, "a-7")),
            ("REG,{id},", b"REG,a-7", false, Packet::More),
            ("REG,{id},", b"REG,,", false, Packet::No),
            ("REG,{id},", b"RED", false, Packet::No),
            ("{id}", b"861234\r\n", false, Packet::More),
            ("{id}", b"861234\r\n", true, whole(6, "861234")),
            ("{id}", b"", true, Packet::No),
            ("hex: 7E {id:hex:3} {any:1} 7E", &[0x7E, 1, 0xAB, 0, 9, 0x7E], false, whole(6, "01AB00")),
            ("hex: 7E {id:hex:3} {any:1} 7E", &[0x7E, 1, 0xAB, 0, 9, 0x7F], false, Packet::No),
            ("hex: 7E {id:hex:3} {any:1} 7E", &[0x7E, 1], false, Packet::More),
            ("ping", b"ping", false, Packet::Whole { length: 4, id: None }),
        ] {
            let pattern = PacketPattern::parse(pattern).unwrap();
            assert_eq!(read_packet(&pattern, bytes, ended), expected, "{pattern:?} {bytes:02X?}");
        }
        let open = PacketPattern::parse("{id},").unwrap();
        assert_eq!(read_packet(&open, &[b'1'; 70], false), Packet::No, "longer than any id");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..80), which in 0_usize..4, ended: bool) {
            let pattern = ["{id}", "a{id}b", "{any:3}{id:4}x", "hex: 00 {id:hex:2}"][which];
            if let Packet::Whole { length, .. } = read_packet(&PacketPattern::parse(pattern).unwrap(), &bytes, ended) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
