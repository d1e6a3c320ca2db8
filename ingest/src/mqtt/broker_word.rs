//! What the broker says of itself: how many messages it dropped. They are lost, and nobody else tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::{debug, info, warn};

use super::source::Message;
use super::stats::MqttStats;

/// Where mosquitto says it: a whole number since its start, retained, repeated when it changes.
pub(super) const DROPPED: &str = "$SYS/broker/publish/messages/dropped";

pub(super) struct BrokerWord {
    broker: String,
    stats: Arc<MqttStats>,
    wanted: AtomicBool,
    /// Asked and not answered.
    asked: AtomicBool,
    /// The newest count and one, or 0 before the first.
    known: AtomicU64,
}

impl BrokerWord {
    pub(super) fn new(broker: String, wanted: bool, stats: Arc<MqttStats>) -> Self {
        let (wanted, asked) = (AtomicBool::new(wanted), AtomicBool::new(false));
        Self { broker, stats, wanted, asked, known: AtomicU64::new(0) }
    }

    /// Whether to ask now. To be called once a connection.
    pub(super) fn asks(&self) -> bool {
        let asks = self.wanted.load(Ordering::Relaxed);
        self.asked.store(asks, Ordering::Relaxed);
        asks
    }

    /// The broker answered, and not everything is refused for asking.
    pub(super) fn answered(&self, answers: &[Result<u8, String>]) {
        self.asked.store(false, Ordering::Relaxed);
        if let Some(Err(reason)) = answers.first() {
            self.wanted.store(false, Ordering::Relaxed);
            info!(broker = self.broker, reason, "the broker does not say how many messages it drops");
        }
    }

    /// The connection ended. Some brokers end it instead of refusing the question: they are not asked again.
    pub(super) fn ended(&self) {
        if self.asked.swap(false, Ordering::Relaxed) {
            self.wanted.store(false, Ordering::Relaxed);
            info!(broker = self.broker, "not asked any more how many messages the broker drops: it did not answer");
        }
    }

    /// Whether a message is the broker's word, which nobody else is to read.
    pub(super) fn is(&self, message: &Message) -> bool {
        message.topic.as_ref() == DROPPED.as_bytes()
    }

    pub(super) fn take(&self, message: &Message) {
        let count = std::str::from_utf8(&message.payload).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let Some(count) = count.filter(|count| *count < u64::MAX) else {
            debug!(broker = self.broker, "the broker's count of dropped messages is not a number");
            return;
        };
        self.stats.broker_dropped.store(count, Ordering::Relaxed);
        let known = self.known.swap(count + 1, Ordering::Relaxed);
        // Before the first count nothing rose; a smaller one is of a broker that began anew.
        if known > 0 && count + 1 > known {
            let more = count + 1 - known;
            warn!(
                broker = self.broker,
                more,
                since_its_start = count,
                "the broker dropped messages, of ours or of others: they are lost; raise its limits of queued messages"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn word() -> BrokerWord {
        BrokerWord::new("b".to_owned(), true, Arc::default())
    }

    fn say(word: &BrokerWord, payload: &'static str) -> u64 {
        let payload = Bytes::from_static(payload.as_bytes());
        let topic = Bytes::from_static(DROPPED.as_bytes());
        let message = Message { topic, size: payload.len(), payload, packet: None, retained: true };
        assert!(word.is(&message));
        word.take(&message);
        word.stats.broker_dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn the_newest_count_holds_and_what_is_no_number_changes_nothing() {
        let word = word();
        for (payload, expected) in [("7", 7), (" 9\n", 9), ("", 9), ("-1", 9), ("18446744073709551615", 9), ("0", 0)] {
            assert_eq!(say(&word, payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_broker_that_refuses_or_does_not_answer_is_not_asked_again() {
        let word = word();
        assert!(word.asks());
        word.answered(&[Ok(0)]);
        word.ended();
        assert!(word.asks());
        word.answered(&[Err("not authorized".to_owned())]);
        assert!(!word.asks());
        word.ended();

        let word = self::word();
        assert!(word.asks());
        word.ended();
        assert!(!word.asks());
    }
}
