//! What one device may send: a bucket of tokens for each, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use meterlake_config::DeviceRate;
use meterlake_config::payload_map::PayloadMap;
use tokio::time::Instant;

/// Buckets that are kept. Full ones are forgotten first; with so many that are not full, others are not limited.
const MOST: usize = 65_536;
/// What piled up while we were away counts for at most so much.
const MOST_AWAY: Duration = Duration::from_secs(3600);
/// Tokens are counted in thousandths, so that a rate in messages a second is one in thousandths a millisecond.
const MESSAGE: u64 = 1000;

/// The buckets of one broker's devices.
pub(super) struct Limiter {
    rate: u64,
    burst: u64,
    begun: Instant,
    /// Which connection's backlog the credit is for.
    epoch: u64,
    credit: u64,
    /// By the hash of the device.
    buckets: HashMap<u64, Bucket>,
    hasher: RandomState,
    most: usize,
}

struct Bucket {
    tokens: u64,
    /// For what piled up before the connection.
    credit: u64,
    epoch: u64,
    /// When the tokens were counted, in milliseconds since the limiter began.
    counted_ms: u64,
}

impl Limiter {
    pub(super) fn new(rate: DeviceRate) -> Self {
        Self {
            rate: u64::from(rate.messages_per_s),
            burst: u64::from(rate.burst) * MESSAGE,
            begun: Instant::now(),
            epoch: 0,
            credit: 0,
            buckets: HashMap::new(),
            hasher: RandomState::new(),
            most: MOST,
        }
    }

    /// A connection brings, besides what is sent now, what piled up in the time that we were away.
    pub(super) fn connected(&mut self, epoch: u64, away: Duration) {
        let away_ms = u64::try_from(away.min(MOST_AWAY).as_millis()).unwrap_or(u64::MAX);
        self.epoch = epoch;
        self.credit = self.rate * away_ms;
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the device may send this message.
    pub(super) fn allows(&mut self, device: &str) -> bool {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.buckets.len() >= self.most {
            self.forget_full(now_ms);
        }
        let full = self.buckets.len() >= self.most;
        let bucket = match self.buckets.entry(self.hasher.hash_one(device)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if full => return true,
            Entry::Vacant(entry) => {
                entry.insert(Bucket { tokens: self.burst, credit: self.credit, epoch: self.epoch, counted_ms: now_ms })
            }
        };
        if bucket.epoch != self.epoch {
            bucket.epoch = self.epoch;
            bucket.credit = self.credit;
        }
        bucket.tokens = refilled(bucket, now_ms, self.rate, self.burst);
        bucket.counted_ms = now_ms;
        for purse in [&mut bucket.tokens, &mut bucket.credit] {
            if *purse >= MESSAGE {
                *purse -= MESSAGE;
                return true;
            }
        }
        false
    }

    fn forget_full(&mut self, now_ms: u64) {
        let (rate, burst) = (self.rate, self.burst);
        self.buckets.retain(|_, bucket| refilled(bucket, now_ms, rate, burst) < burst);
    }
}

fn refilled(bucket: &Bucket, now_ms: u64, rate: u64, burst: u64) -> u64 {
    bucket.tokens.saturating_add(now_ms.saturating_sub(bucket.counted_ms).saturating_mul(rate)).min(burst)
}

/// Who sends on a topic: the gateway or else the meter that it names, or else the topic itself.
pub(super) fn device<'t>(maps: &'t [PayloadMap], topic: &'t str) -> &'t str {
    let parts = maps.iter().find_map(|map| map.topic.matches(topic));
    parts.and_then(|parts| parts.gateway().or_else(|| parts.meter())).unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(messages_per_s: u32, burst: u32) -> Limiter {
        Limiter::new(DeviceRate { messages_per_s, burst })
    }

    fn taken(limiter: &mut Limiter, device: &str, count: u32) -> usize {
        (0..count).filter(|_| limiter.allows(device)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_floods_is_held_to_its_rate_and_hinders_no_other() {
        let mut limiter = limiter(10, 100);
        assert_eq!(taken(&mut limiter, "loud", 1000), 100);
        assert_eq!(taken(&mut limiter, "quiet", 5), 5);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(2)).await;
            assert_eq!(taken(&mut limiter, "loud", 1000), 20);
        }
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(taken(&mut limiter, "loud", 1000), 100, "no more than a burst is saved");
    }

    #[tokio::test(start_paused = true)]
    async fn what_piled_up_while_we_were_away_is_not_held_against_a_device() {
        let mut limiter = limiter(10, 100);
        assert_eq!(taken(&mut limiter, "m", 200), 100);
        limiter.connected(1, Duration::from_secs(60));
        assert_eq!(taken(&mut limiter, "m", 10_000), 600);
        assert_eq!(taken(&mut limiter, "n", 10_000), 700, "and its burst");
        limiter.connected(2, Duration::from_secs(86_400));
        assert_eq!(taken(&mut limiter, "m", 100_000), 36_000, "an hour's worth at most");
        limiter.connected(3, Duration::ZERO);
        assert_eq!(taken(&mut limiter, "m", 10), 0, "the credit was for that connection alone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_buckets_are_bounded_and_the_full_ones_go_first() {
        let mut limiter = limiter(1, 10);
        limiter.most = 100;
        assert_eq!(taken(&mut limiter, "loud", 50), 10);
        for device in 0..1000 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(limiter.allows(&format!("d{device}")));
            assert!(limiter.buckets.len() <= 100);
            taken(&mut limiter, "loud", 10);
        }
        assert_eq!(taken(&mut limiter, "loud", 10), 0, "one that is not full is remembered");
    }

    #[test]
    fn a_device_is_what_the_map_names_or_the_topic() {
        let maps = [PayloadMap::shipped("meterlake-json").unwrap()];
        assert_eq!(device(&maps, "meterlake/v1/e1/readings"), "e1");
        assert_eq!(device(&maps, "something/else"), "something/else");
    }
}
