//! How long to wait before the next connection.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 0.2 to 30 seconds. Half of each wait is chance, so that collectors do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after a connection that lasted so long, and brought messages that were acknowledged or did not.
    pub(super) fn after(&mut self, lasted: Duration, useful: bool) -> Duration {
        // A useful connection, or one that outlives the wait for it, was a good one; one that fails at once was not.
        if useful || lasted >= self.next {
            self.next = FIRST;
        }
        let wait = jittered(self.next, RandomState::new().build_hasher().finish());
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

/// Between half of `wait` and all of it.
fn jittered(wait: Duration, chance: u64) -> Duration {
    let half = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX);
    Duration::from_micros(half + chance % (half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_fifth_of_a_second_to_half_a_minute_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let first = backoff.after(Duration::ZERO, false);
        assert!((Duration::from_millis(200)..=Duration::from_millis(400)).contains(&first), "{first:?}");
        for _ in 0..20 {
            assert!(backoff.after(Duration::ZERO, false) <= LONGEST);
        }
        assert!(backoff.after(Duration::ZERO, false) >= LONGEST / 2);
        assert!(backoff.after(LONGEST, false) <= FIRST);
        let second = backoff.after(Duration::ZERO, false);
        assert!(second >= FIRST && backoff.after(Duration::ZERO, true) <= FIRST);
    }

    #[test]
    fn chance_decides_half_of_a_wait() {
        let wait = Duration::from_secs(2);
        assert_eq!(jittered(wait, 0), Duration::from_secs(1));
        assert_eq!(jittered(wait, 1_000_000), wait);
    }
}
