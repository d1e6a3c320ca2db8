//! Who calls: the first packet of a connection.

use std::io;
use std::time::Duration;

use meterlake_config::PacketPattern;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::modbus::packet::{Packet, read_packet};

/// A packet whose end cannot be told from its bytes ends when nothing comes for so long.
const QUIET: Duration = Duration::from_millis(500);

/// Why nobody is recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unrecognised {
    #[error("it ended before it said who it is")]
    Ended,
    #[error("no registration packet came in time")]
    Late,
    #[error("{0} bytes came that are no registration packet")]
    Garbage(usize),
}

/// Reads until a registration packet is there, which may stand behind heartbeats. `most` bytes are listened to.
pub(super) async fn register(
    stream: &mut (impl AsyncRead + Unpin),
    registration: &[PacketPattern],
    heartbeats: &[PacketPattern],
    most: usize,
    within: Duration,
) -> Result<String, Unrecognised> {
    let reading = async {
        let mut heard = Vec::new();
        loop {
            let mut more = [0; 128];
            let room = most.saturating_sub(heard.len()).clamp(1, more.len());
            let read = stream.read(&mut more[..room]);
            let (count, ended) = match heard.is_empty() {
                true => (read.await, false),
                false => match timeout(QUIET, read).await {
                    Ok(count) => (count, false),
                    Err(_) => (Ok(0), true),
                },
            };
            match count {
                Ok(0) if !ended => return Err(Unrecognised::Ended),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(Unrecognised::Ended),
                Ok(count) => heard.extend(more.iter().take(count)),
                Err(_) => {}
            }
            match recognise(registration, heartbeats, &heard, ended) {
                Some(Packet::Whole { id: Some(id), .. }) => return Ok(id),
                Some(Packet::More) if heard.len() < most => {}
                _ => return Err(Unrecognised::Garbage(heard.len())),
            }
        }
    };
    timeout(within, reading).await.unwrap_or(Err(Unrecognised::Late))
}

/// The first registration pattern that fits; [`Packet::More`] where one may yet. `None` for what is neither.
fn recognise(
    registration: &[PacketPattern],
    heartbeats: &[PacketPattern],
    heard: &[u8],
    ended: bool,
) -> Option<Packet> {
    let mut rest = heard;
    loop {
        let read = |pattern: &PacketPattern| read_packet(pattern, rest, ended);
        let packets: Vec<Packet> = registration.iter().map(read).collect();
        if let Some(whole) = packets.iter().find(|packet| matches!(packet, Packet::Whole { .. })) {
            return Some(whole.clone());
        }
        // A heartbeat without an id, before the packet that has one.
        let beats = || heartbeats.iter().map(|pattern| read_packet(pattern, rest, false));
        let beat = beats().find_map(|packet| match packet {
            Packet::Whole { length, .. } if length > 0 => Some(length),
            _ => None,
        });
        match beat {
            Some(length) => rest = &rest[length..],
            None => {
                let may_be = packets.contains(&Packet::More) || beats().any(|packet| packet == Packet::More);
                return may_be.then_some(Packet::More);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    fn patterns(texts: &[&str]) -> Vec<PacketPattern> {
        texts.iter().map(|text| PacketPattern::parse(text).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_calls_is_told_from_the_first_packets() {
        let (late, garbage) = (Err(Unrecognised::Late), |bytes| Err(Unrecognised::Garbage(bytes)));
        let imei = || Ok("861234567890123".to_owned());
        for (registration, heartbeats, sent, ends, expected) in [
            (&["{id:15}"][..], &[][..], &[&b"861234567890123"[..]][..], false, imei()),
            (&["{id:15}"], &[], &[b"8612345", b"67890123", b"\x00"], false, imei()),
            (&["{id:15}"], &[], &[b"8612345"], false, late.clone()),
            (&["{id:15}"], &[], &[], false, late.clone()),
            (&["{id:15}"], &[], &[b"8612345"], true, Err(Unrecognised::Ended)),
            (&["{id:15}"], &[], &[b"GET / HTTP/1.1"], false, garbage(14)),
            (&["{id}"], &[], &[b"dtu-7\r\n"], false, Ok("dtu-7".to_owned())),
            (&["{id}"], &[], &[&[b'7'; 300]], false, garbage(100)),
            (&["#{id},"], &[r"\0"], &[b"\0\0", b"\0#dt", b"u-7,"], false, Ok("dtu-7".to_owned())),
            (&["#{id},"], &[r"\0"], &[&[0; 100]], false, garbage(100)),
            (
                &["hex: 7E 01 {id:hex:2} 7E"],
                &["ping"],
                &[b"pi", b"ng\x7E\x01\x0A", b"\xBC\x7E"],
                false,
                Ok("0ABC".to_owned()),
            ),
            (&["{id:3}!", "{id:3}?"], &[], &[b"abc?"], false, Ok("abc".to_owned())),
        ] {
            let (mut ours, mut theirs) = duplex(1000);
            let sender = async {
                for piece in sent {
                    theirs.write_all(piece).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if ends {
                    theirs.shutdown().await.unwrap();
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
            };
            let (registration, heartbeats) = (patterns(registration), patterns(heartbeats));
            let called = register(&mut ours, &registration, &heartbeats, 100, Duration::from_secs(10));
            let recognised = tokio::select! { id = called => id, () = sender => panic!("the sender waits longer") };
            assert_eq!(recognised, expected, "{registration:?} {sent:?}");
        }
    }
}
