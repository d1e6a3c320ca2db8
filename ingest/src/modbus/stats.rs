//! Counters of one line, read by metrics while it runs.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meterlake_model::MeterId;

use super::failure::FailureKind;

/// What one line did since it started.
#[derive(Debug, Default)]
pub struct LineStats {
    /// Requests sent.
    pub requests: AtomicU64,
    /// Readings handed over.
    pub readings: AtomicU64,
    /// Dead letters handed over.
    pub dead_letters: AtomicU64,
    /// Readings that came more than 10 s after they were due; they bear their own time.
    pub late: AtomicU64,
    /// Slots that passed without a reading.
    pub slots_missed: AtomicU64,
    /// Deliveries that had to wait because the receiver was full.
    pub waits: AtomicU64,
    /// Deliveries given up because the receiver stayed full.
    pub dropped: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Whether there is a connection now. One that has nothing to do may be given back.
    pub connected: AtomicBool,
    /// How long answers took.
    pub latency: Latency,
    failures: [AtomicU64; FailureKind::ALL.len()],
    devices: Mutex<Arc<[Arc<DeviceStats>]>>,
}

/// What one device did since it is polled on its line.
#[derive(Debug)]
pub struct DeviceStats {
    /// Its address on the line.
    pub unit: u8,
    /// The meter.
    pub meter_id: MeterId,
    /// Requests sent.
    pub requests: AtomicU64,
    /// Readings handed over.
    pub readings: AtomicU64,
    /// How long answers took.
    pub latency: Latency,
    /// When it was last read, in seconds since 1970; 0 for not yet.
    pub last_success_s: AtomicI64,
    /// Whether it does not answer and is tried at a slower pace.
    pub backed_off: AtomicBool,
    /// Slots that passed without a reading.
    pub slots_missed: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
}

impl DeviceStats {
    pub(super) fn new(unit: u8, meter_id: MeterId) -> Self {
        Self {
            unit,
            meter_id,
            requests: AtomicU64::new(0),
            readings: AtomicU64::new(0),
            latency: Latency::default(),
            last_success_s: AtomicI64::new(0),
            backed_off: AtomicBool::new(false),
            slots_missed: AtomicU64::new(0),
            failures: Default::default(),
        }
    }

    /// Failed requests by kind; a line that cannot be connected is no failure of its devices.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Seconds since the last reading; `None` where there was none yet.
    pub fn age_s(&self, now_s: i64) -> Option<u64> {
        let last = self.last_success_s.load(Ordering::Relaxed);
        (last > 0).then(|| u64::try_from(now_s - last).unwrap_or(0))
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        count(&self.failures[kind as usize]);
    }
}

/// How long answers took, exceptions included.
#[derive(Debug, Default)]
pub struct Latency {
    total_us: AtomicU64,
    longest_us: AtomicU64,
    /// Answers by the first of [`Latency::BOUNDS_MS`] that they did not exceed, and those beyond the last.
    buckets: [AtomicU64; Latency::BOUNDS_MS.len() + 1],
}

impl Latency {
    /// The upper bounds of the counted classes, in milliseconds.
    pub const BOUNDS_MS: [u64; 8] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000];

    pub(super) fn note(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(us, Ordering::Relaxed);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
        count(&self.buckets[Self::BOUNDS_MS.partition_point(|bound| bound * 1_000 < us)]);
    }

    /// Answers.
    pub fn answers(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The time of all answers, in microseconds.
    pub fn total_us(&self) -> u64 {
        self.total_us.load(Ordering::Relaxed)
    }

    /// The longest, in microseconds.
    pub fn longest_us(&self) -> u64 {
        self.longest_us.load(Ordering::Relaxed)
    }

    /// Answers that took up to each of [`Latency::BOUNDS_MS`], and all: each class holds those before it.
    pub fn up_to(&self) -> [u64; Self::BOUNDS_MS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|at| {
            sum += self.buckets[at].load(Ordering::Relaxed);
            sum
        })
    }
}

impl LineStats {
    /// By device, in the order of the configuration that holds now; none before the line is polled.
    pub fn devices(&self) -> Arc<[Arc<DeviceStats>]> {
        Arc::clone(&self.devices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_devices(&self, devices: Arc<[Arc<DeviceStats>]>) {
        *self.devices.lock().unwrap_or_else(PoisonError::into_inner) = devices;
    }

    /// Failed requests by kind.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Devices that do not answer.
    pub fn backed_off(&self) -> usize {
        self.devices().iter().filter(|device| device.backed_off.load(Ordering::Relaxed)).count()
    }

    /// Seconds since the last reading of the device that has waited longest, of those that were ever read; `None` where
    /// none was.
    pub fn oldest_reading_age_s(&self, now_s: i64) -> Option<u64> {
        self.devices().iter().filter_map(|device| device.age_s(now_s)).max()
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        count(&self.failures[kind as usize]);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_counted_by_class() {
        let latency = Latency::default();
        for ms in [0, 10, 11, 999, 60_000] {
            latency.note(Duration::from_millis(ms));
        }
        assert_eq!(latency.up_to(), [2, 3, 3, 3, 4, 4, 4, 4, 5]);
        assert_eq!((latency.answers(), latency.total_us(), latency.longest_us()), (5, 61_020_000, 60_000_000));
    }

    #[test]
    fn the_age_of_a_line_is_that_of_its_oldest_reading() {
        let stats = LineStats::default();
        stats.set_devices((1..=3).map(|unit| Arc::new(DeviceStats::new(unit, MeterId::new("M").unwrap()))).collect());
        assert_eq!(stats.oldest_reading_age_s(1000), None);
        for (device, last) in stats.devices().iter().zip([400, 900]) {
            device.last_success_s.store(last, Ordering::Relaxed);
        }
        assert_eq!(stats.oldest_reading_age_s(1000), Some(600));
    }
}
