//! What the fuzz targets share: shipped maps by format, with the topics of their golden messages.
//!
//! A target fails by a panic, by a message that leaves nothing, by one that leaves rows and a dead letter, or by what
//! libFuzzer itself limits: time and memory of one input.

use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::{Decoder, SharedBirths, golden};
use meterlake_model::{MeterDirectory, RawMessage, ReadingBatch};

/// A map, the meters that its golden messages know, and their topics.
pub struct Reader {
    maps: Vec<PayloadMap>,
    directory: MeterDirectory,
    topics: Vec<String>,
}

/// The shipped maps of one format, as its key in a map's file.
pub fn readers(format: &str) -> Vec<Reader> {
    let line = format!("format = \"{format}\"");
    let read = |(name, text): (&str, &str)| {
        let map = PayloadMap::shipped_text(name).filter(|map| map.lines().any(|l| l.trim() == line))?;
        let golden = golden::Golden::parse(text, name).ok()?;
        let topics = golden.cases.iter().flat_map(|case| &case.messages).map(|m| m.message.topic.to_string()).collect();
        Some(Reader { maps: vec![PayloadMap::parse(map, name).ok()?], directory: golden.directory, topics })
    };
    golden::shipped().filter_map(read).collect()
}

/// Reads one message by each reader: the first byte chooses a topic, the rest is the payload.
pub fn read_once(readers: &[Reader], input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    for reader in readers {
        read(reader, &SharedBirths::default(), *choice, payload);
    }
}

/// Reads messages one after the other, so that one says how the next is read: each is a choice of topic, a length and
/// that many bytes.
pub fn read_in_order(readers: &[Reader], mut input: &[u8]) {
    for reader in readers {
        let births = SharedBirths::default();
        while let [choice, length, rest @ ..] = input {
            let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
            read(reader, &births, *choice, payload);
            input = rest;
        }
    }
}

fn read(reader: &Reader, births: &SharedBirths, choice: u8, payload: &[u8]) {
    let Some(topic) = reader.topics.get(usize::from(choice) % reader.topics.len().max(1)) else { return };
    let message = RawMessage {
        source: "fuzz".into(),
        topic: topic.as_str().into(),
        payload: payload.to_vec(),
        received_at_s: 1_790_000_000,
    };
    let mut batch = ReadingBatch::default();
    let mut decoder = Decoder::new(births.clone());
    let outcome = decoder.decode(&reader.maps, &message, false, &reader.directory, &mut batch);
    let rows = batch.reading_count() + batch.events.len();
    match batch.dead_letters.as_slice() {
        [] => assert!(rows > 0 || outcome.ignored, "a message left nothing"),
        [letter] => {
            assert_eq!(rows, 0, "half a message");
            assert_eq!(letter.message, message, "a dead letter is the message whole");
            assert!(!letter.detail.is_empty());
        }
        more => panic!("{} dead letters of one message", more.len()),
    }
}
