//! What gateways are told: which of their messages are durable.
//!
//! A receipt names a range of the gateway's own sequence numbers without a gap, and is true by itself: it says nothing of
//! numbers before or after. Each gateway gets at most one for each tick, for the newest range that has grown; what it was
//! told last is told again as the beginning of the next, so that a lost receipt does little harm.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meterlake_config::ReceiptTopic;
use meterlake_model::Timestamp;
use tokio::time::Instant;

use super::stats::MqttStats;
use crate::decode::Receipt;

/// Gateways that are kept in mind.
const GATEWAYS: usize = 10_000;
/// Ranges of one gateway that wait to be told.
const RANGES: usize = 64;
/// A gateway that was silent for so long is forgotten when others need the room.
const SILENT: Duration = Duration::from_secs(600);

/// What is durable and not told yet, by gateway.
pub(super) struct Receipts {
    topic: ReceiptTopic,
    gateways: Mutex<HashMap<Arc<str>, Gateway>>,
    stats: Arc<MqttStats>,
}

struct Gateway {
    /// First to last number of each range without a gap, and whether it is to be told.
    ranges: BTreeMap<u64, Range>,
    heard: Instant,
}

struct Range {
    last: u64,
    untold: bool,
}

/// A message to a gateway.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

impl Receipts {
    pub(super) fn new(topic: ReceiptTopic, stats: Arc<MqttStats>) -> Self {
        Self { topic, gateways: Mutex::default(), stats }
    }

    fn gateways(&self) -> MutexGuard<'_, HashMap<Arc<str>, Gateway>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These messages are durable.
    pub(super) fn durable(&self, receipts: Vec<Receipt>) {
        let mut gateways = self.gateways();
        let mut dropped = 0;
        for receipt in receipts {
            if !gateways.contains_key(&receipt.gateway) {
                if gateways.len() >= GATEWAYS {
                    gateways.retain(|_, gateway| gateway.heard.elapsed() < SILENT);
                }
                if gateways.len() >= GATEWAYS || self.topic.of(&receipt.gateway).is_none() {
                    dropped += 1;
                    continue;
                }
            }
            let new = || Gateway { ranges: BTreeMap::new(), heard: Instant::now() };
            let gateway = gateways.entry(receipt.gateway).or_insert_with(new);
            gateway.heard = Instant::now();
            dropped += gateway.add(receipt.sequence);
        }
        MqttStats::add(&self.stats.receipts_dropped, dropped);
    }

    /// What is to be told now, at most one message to each gateway. It counts as told.
    pub(super) fn due(&self) -> Vec<Telling> {
        let ts = Timestamp::now();
        let mut gateways = self.gateways();
        let due = gateways.iter_mut().filter_map(|(name, gateway)| {
            let (first, last) = gateway.tell()?;
            let payload =
                format!("{{\"gateway\":{},\"from\":{first},\"sequence\":{last},\"ts\":\"{ts}\"}}", quoted(name));
            Some(Telling { topic: self.topic.of(name)?, payload: payload.into_bytes() })
        });
        due.collect()
    }
}

impl Gateway {
    /// Adds one number to the range that it extends, and gives how many were given up for it.
    fn add(&mut self, sequence: u64) -> usize {
        let before = self.ranges.range(..=sequence).next_back().map(|(first, range)| (*first, range.last));
        let (first, mut last) = match before {
            // Sent again, since the receipt was lost or is late: told again.
            Some((first, last)) if sequence <= last => (first, last),
            Some((first, last)) if last + 1 == sequence => (first, sequence),
            _ => (sequence, sequence),
        };
        if let Some(next) = last.checked_add(1).and_then(|next| self.ranges.remove(&next)) {
            last = next.last;
        }
        self.ranges.insert(first, Range { last, untold: true });
        if self.ranges.len() <= RANGES {
            return 0;
        }
        // The one that begins first: a gateway that misses a receipt sends again.
        let oldest = self.ranges.keys().find(|other| **other != first).copied();
        usize::from(oldest.and_then(|oldest| self.ranges.remove(&oldest)).is_some_and(|range| range.untold))
    }

    /// The newest range to tell. Of those that were told only the newest is kept, to be the beginning of the next.
    fn tell(&mut self) -> Option<(u64, u64)> {
        let (first, range) = self.ranges.iter_mut().rev().find(|(_, range)| range.untold)?;
        range.untold = false;
        let told = (*first, range.last);
        let newest = self.ranges.keys().next_back().copied();
        self.ranges.retain(|first, range| range.untold || Some(*first) == newest);
        Some(told)
    }
}

/// As a text of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            // The topic admits no control characters.
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn receipts() -> Receipts {
        Receipts::new(ReceiptTopic::parse("r/{gateway}").unwrap(), Arc::default())
    }

    fn durable(receipts: &Receipts, gateway: &str, sequences: impl IntoIterator<Item = u64>) {
        let all = sequences.into_iter().map(|sequence| Receipt { gateway: gateway.into(), sequence });
        receipts.durable(all.collect());
    }

    /// Topic, first and last number of each message, by topic.
    fn told(receipts: &Receipts) -> Vec<(String, u64, u64)> {
        let mut told: Vec<_> = receipts
            .due()
            .into_iter()
            .map(|telling| {
                let json: serde_json::Value = serde_json::from_slice(&telling.payload).unwrap();
                assert_eq!(telling.topic, format!("r/{}", json["gateway"].as_str().unwrap()));
                assert!(Timestamp::parse_rfc3339(json["ts"].as_str().unwrap()).is_ok());
                (telling.topic, json["from"].as_u64().unwrap(), json["sequence"].as_u64().unwrap())
            })
            .collect();
        told.sort();
        told
    }

    fn one(first: u64, last: u64) -> Vec<(String, u64, u64)> {
        vec![("r/g".to_owned(), first, last)]
    }

    #[test]
    fn a_gateway_is_told_the_newest_number_up_to_which_nothing_is_missing() {
        let receipts = receipts();
        durable(&receipts, "g", 5..=90);
        durable(&receipts, "\"quoted\\", [1]);
        assert_eq!(told(&receipts), [("r/\"quoted\\".to_owned(), 1, 1), ("r/g".to_owned(), 5, 90)]);
        assert_eq!(told(&receipts), [], "once");
        durable(&receipts, "g", [91]);
        assert_eq!(told(&receipts), one(5, 91), "with what it was told before");
    }

    #[test]
    fn a_gap_is_never_spanned() {
        let receipts = receipts();
        durable(&receipts, "g", [1, 2, 4, 5]);
        assert_eq!(told(&receipts), one(4, 5));
        assert_eq!(told(&receipts), one(1, 2), "one message at a time, the newest first");
        durable(&receipts, "g", [6, u64::MAX]);
        assert_eq!(told(&receipts), one(u64::MAX, u64::MAX));
        assert_eq!(told(&receipts), one(4, 6));
    }

    #[test]
    fn numbers_may_come_in_any_order_and_more_than_once() {
        let receipts = receipts();
        durable(&receipts, "g", [3, 1, 2, 2, 0]);
        assert_eq!(told(&receipts), one(0, 3));
        durable(&receipts, "g", [2]);
        assert_eq!(told(&receipts), one(0, 3), "who asks again is told again");
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let receipts = receipts();
        durable(&receipts, "g", (0..200).map(|n| 2 * n));
        assert_eq!(receipts.gateways()["g"].ranges.len(), RANGES);
        assert_eq!(receipts.stats.receipts_dropped.load(Ordering::Relaxed), 200 - RANGES as u64);
        for number in 0..GATEWAYS + 50 {
            durable(&receipts, &format!("g{number}"), [1]);
        }
        assert_eq!(receipts.gateways().len(), GATEWAYS);
        durable(&receipts, "no/topic", [1]);
        assert_eq!(receipts.stats.receipts_dropped.load(Ordering::Relaxed), 200 - RANGES as u64 + 52);
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_make_room_for_others() {
        let receipts = receipts();
        for number in 0..GATEWAYS {
            durable(&receipts, &format!("g{number}"), [1]);
        }
        tokio::time::advance(SILENT).await;
        durable(&receipts, "new", [1]);
        assert_eq!(receipts.gateways().len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn receipts_name_exactly_what_is_durable(sequences in proptest::collection::vec(0_u64..60, 1..60)) {
            let receipts = receipts();
            durable(&receipts, "g", sequences.iter().copied());
            let mut named = std::collections::BTreeSet::new();
            loop {
                let told = told(&receipts);
                let [(_, first, last)] = &told[..] else { break };
                named.extend(*first..=*last);
            }
            let expected: std::collections::BTreeSet<_> = sequences.into_iter().collect();
            proptest::prop_assert_eq!(named, expected);
        }
    }
}
