//! Growing rests between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A rest that doubles with every failure, up to a limit, spread by a quarter either way so that what failed together
/// does not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    chance: SmallRng,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        // The standard library seeds its hashers from the system: another seed for every device and run.
        let chance = SmallRng::seed_from_u64(RandomState::new().hash_one(0_u8));
        Self { first, longest, failures: 0, chance }
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failure and says how long to rest.
    pub(super) fn fail(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.longest).mul_f64(self.chance.random_range(0.75..1.25))
    }

    /// Notes a success.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_their_limit_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let rest = backoff.fail().as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&rest), "{rest} s, about {seconds} s expected");
        }
        for _ in 0..100 {
            assert!(backoff.fail() <= Duration::from_secs(75));
        }
        backoff.succeed();
        assert!(backoff.fail() <= Duration::from_millis(1250));
        assert_eq!(backoff.failures(), 1);
    }
}
