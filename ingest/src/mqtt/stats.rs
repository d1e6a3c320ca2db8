//! What a collector tells of itself: counters and gauges that anyone may read at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use meterlake_model::DeadReason;

/// Counters since the start, and gauges, of one broker's collector.
#[derive(Debug, Default)]
pub struct MqttStats {
    /// Messages received.
    pub messages: AtomicU64,
    /// Their payload bytes.
    pub bytes: AtomicU64,
    /// Those of them that the broker had retained: they are old and say nothing of whether a meter speaks.
    pub retained: AtomicU64,
    /// When the last message came that was not retained, in seconds since 1970; 0 before the first.
    pub last_message_at_s: AtomicU64,
    /// Readings decoded.
    pub readings: AtomicU64,
    /// Meter events decoded.
    pub events: AtomicU64,
    /// Messages that were understood and hold nothing to store.
    pub ignored: AtomicU64,
    /// Messages that could not be read.
    pub dead_letters: AtomicU64,
    /// The same by reason.
    pub dead_letters_by_reason: ByReason,
    /// Messages acknowledged to the broker.
    pub acknowledged: AtomicU64,
    /// Acknowledgements that came after their connection was gone; the broker sends those messages again.
    pub stale_acknowledgements: AtomicU64,
    /// From a message's arrival until it was durable.
    pub durable_after: Latency,
    /// Connections made after the first.
    pub reconnects: AtomicU64,
    /// Connections, and attempts at one, that failed for reasons that pass by themselves.
    pub connections_lost: AtomicU64,
    /// Attempts that were refused for reasons that do not: name, password, rights, certificates.
    pub connections_refused: AtomicU64,
    /// Sessions that the broker forgot, with whatever it held for us.
    pub sessions_lost: AtomicU64,
    /// Topic filters that the session may hold and nobody wants; they are taken back at each connection.
    pub filters_unwanted: AtomicU64,
    /// Connections that ended because another client took the session, or that look like it.
    pub taken_over: AtomicU64,
    /// Connections that a watchdog dropped.
    pub watchdog_drops: AtomicU64,
    /// Whether there is a connection whose subscription was granted.
    pub connected: AtomicBool,
    /// Whether the session is left to another client for now.
    pub standing_by: AtomicBool,
    /// Messages that wait for their acknowledgement.
    pub unacknowledged: AtomicU64,
    /// How long the oldest of them has waited, in milliseconds, as of the last look (each second).
    pub oldest_unacknowledged_ms: AtomicU64,
    /// How long the connection was not read because the journal or the decoder was behind, in milliseconds.
    pub held_up_ms: AtomicU64,
    /// Messages that the broker says it dropped, of all its clients, since it started. Dropped messages are lost.
    pub broker_dropped: AtomicU64,
    /// Receipts sent to gateways.
    pub receipts: AtomicU64,
    /// Receipts that could not be given: more gateways or more gaps than are kept in mind, or a gateway whose name cannot
    /// stand in a topic.
    pub receipts_dropped: AtomicU64,
    /// Edge nodes that were asked to be born again.
    pub rebirths: AtomicU64,
    /// Births of Sparkplug's edge nodes and devices since the collector began.
    pub births: AtomicU64,
    /// Their deaths.
    pub deaths: AtomicU64,
    /// Messages of Sparkplug whose number did not follow the one before.
    pub sequence_gaps: AtomicU64,
    /// Messages of our own that the broker refused, or that waited in vain.
    pub publishes_refused: AtomicU64,
}

impl MqttStats {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set(gauge: &AtomicU64, value: usize) {
        gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

const REASONS: usize = 32;

/// A counter for each reason why a message could not be read.
#[derive(Debug, Default)]
pub struct ByReason([AtomicU64; REASONS]);

impl ByReason {
    pub(super) fn add(&self, reason: DeadReason) {
        // Beyond the room they would only not be counted by themselves; a test holds the room against the reasons.
        if let Some(counter) = Self::place(reason).and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every reason and its count.
    pub fn counts(&self) -> impl Iterator<Item = (DeadReason, u64)> {
        DeadReason::all().zip(&self.0).map(|(reason, counter)| (reason, counter.load(Ordering::Relaxed)))
    }

    fn place(reason: DeadReason) -> Option<usize> {
        DeadReason::all().position(|other| other == reason)
    }
}

const STEPS: usize = 13;

/// How long something took: counts by duration, in steps.
#[derive(Debug, Default)]
pub struct Latency {
    counts: [AtomicU64; STEPS + 1],
    sum_ms: AtomicU64,
    longest_ms: AtomicU64,
}

impl Latency {
    /// The upper ends of the steps, in milliseconds; the last step has none.
    pub const UP_TO_MS: [u64; STEPS] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

    pub(super) fn add(&self, took: impl Iterator<Item = Duration>) {
        let (mut counts, mut sum, mut longest) = ([0_u64; STEPS + 1], 0, 0);
        for took in took {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            // Of whole milliseconds begun: 1.2 ms are more than one.
            let over = u64::from(!took.subsec_nanos().is_multiple_of(1_000_000));
            counts[Self::UP_TO_MS.partition_point(|up_to| *up_to < ms + over)] += 1;
            sum += ms;
            longest = longest.max(ms);
        }
        for (counter, count) in self.counts.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(sum, Ordering::Relaxed);
        self.longest_ms.fetch_max(longest, Ordering::Relaxed);
    }

    /// By step, how many took at most as long, and all of them at the end.
    pub fn cumulated(&self) -> [u64; STEPS + 1] {
        let mut all = 0;
        self.counts.each_ref().map(|count| {
            all += count.load(Ordering::Relaxed);
            all
        })
    }

    /// The sum of all, in milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms.load(Ordering::Relaxed)
    }

    /// The longest, in milliseconds.
    pub fn longest_ms(&self) -> u64 {
        self.longest_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter() {
        assert!(DeadReason::all().len() <= REASONS);
        let counts = ByReason::default();
        DeadReason::all().for_each(|reason| counts.add(reason));
        assert_eq!(counts.counts().filter(|(_, count)| *count == 1).count(), DeadReason::all().len());
    }

    #[test]
    fn durations_are_counted_by_step() {
        let latency = Latency::default();
        latency.add([0, 1_000, 1_001, 20_000, 11_000_000].map(Duration::from_micros).into_iter());
        let counts = latency.cumulated();
        assert_eq!((counts[0], counts[1], counts[3], counts[4]), (2, 3, 3, 4));
        assert_eq!((counts[STEPS - 1], counts[STEPS]), (4, 5), "eleven seconds are beyond the last step");
        assert_eq!((latency.sum_ms(), latency.longest_ms()), (11_022, 11_000));
    }
}
