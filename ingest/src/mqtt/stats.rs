//! What a collector tells of itself: counters and gauges that anyone may read at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters since the start, and gauges, of one broker's collector.
#[derive(Debug, Default)]
pub struct MqttStats {
    /// Messages received.
    pub messages: AtomicU64,
    /// Their payload bytes.
    pub bytes: AtomicU64,
    /// Readings decoded.
    pub readings: AtomicU64,
    /// Meter events decoded.
    pub events: AtomicU64,
    /// Messages that could not be read.
    pub dead_letters: AtomicU64,
    /// Messages acknowledged to the broker.
    pub acknowledged: AtomicU64,
    /// Acknowledgements that came after their connection was gone; the broker sends those messages again.
    pub stale_acknowledgements: AtomicU64,
    /// Connections made after the first.
    pub reconnects: AtomicU64,
    /// Sessions that the broker forgot, with whatever it held for us.
    pub sessions_lost: AtomicU64,
    /// Connections that a watchdog dropped.
    pub watchdog_drops: AtomicU64,
    /// Whether there is a connection whose subscription was granted.
    pub connected: AtomicBool,
    /// Messages that wait for their acknowledgement.
    pub unacknowledged: AtomicU64,
    /// How long the oldest of them has waited, in milliseconds, as of the last look (each second).
    pub oldest_unacknowledged_ms: AtomicU64,
}

impl MqttStats {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set(gauge: &AtomicU64, value: usize) {
        gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
