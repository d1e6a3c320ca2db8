//! How long to wait before the next connection.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// No wait is shorter, so that a broker that fails at once is not hammered.
const SHORTEST: Duration = Duration::from_millis(200);

/// The longest wait doubles from the first to the last. How much of it is waited is chance, so that collectors do not come
/// back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
    /// What is waited whatever the chance.
    least: Least,
}

#[derive(Debug, Clone, Copy)]
enum Least {
    Shortest,
    Half,
}

impl Backoff {
    /// After a lost connection: from 0.4 to 30 seconds.
    pub(super) const fn of_connections() -> Self {
        let first = Duration::from_millis(400);
        Self { first, last: Duration::from_secs(30), next: first, least: Least::Shortest }
    }

    /// After the session was taken over: a minute to an hour, and never less than half of it.
    pub(super) const fn of_standby() -> Self {
        let first = Duration::from_secs(60);
        Self { first, last: Duration::from_secs(3600), next: first, least: Least::Half }
    }

    /// The wait after a connection that lasted so long, and brought messages that were acknowledged or did not.
    pub(super) fn after(&mut self, lasted: Duration, useful: bool) -> Duration {
        // A useful connection, or one that outlives the wait for it, was a good one; one that fails at once was not.
        if useful || lasted >= self.next {
            self.next = self.first;
        }
        let least = match self.least {
            Least::Shortest => SHORTEST,
            Least::Half => self.next / 2,
        };
        let wait = by_chance(least, self.next, RandomState::new().build_hasher().finish());
        self.next = (self.next * 2).min(self.last);
        wait
    }
}

/// Between the least and the most.
fn by_chance(least: Duration, most: Duration, chance: u64) -> Duration {
    let room = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX - 1);
    least + Duration::from_micros(chance % (room + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_fifth_of_a_second_to_half_a_minute_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::of_connections();
        let first = backoff.after(Duration::ZERO, false);
        assert!((SHORTEST..=Duration::from_millis(400)).contains(&first), "{first:?}");
        let waits: Vec<_> = (0..60).map(|_| backoff.after(Duration::ZERO, false)).collect();
        assert!(waits.iter().all(|wait| (SHORTEST..=backoff.last).contains(wait)), "{waits:?}");
        // Fifty waits by chance: not all are short, and not all are long.
        let (short, long) = (Duration::from_secs(10), Duration::from_secs(20));
        assert!(waits.iter().any(|wait| *wait < short) && waits.iter().any(|wait| *wait > long), "{waits:?}");
        assert!(backoff.after(Duration::from_secs(30), false) <= backoff.first);
        let second = backoff.after(Duration::ZERO, false);
        assert!(second >= SHORTEST && backoff.after(Duration::ZERO, true) <= backoff.first);
    }

    #[test]
    fn a_session_is_left_to_another_for_a_minute_and_then_ever_longer() {
        let mut standby = Backoff::of_standby();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for longest in [1, 2, 4, 8, 16, 32, 60, 60] {
            // Messages that were acknowledged do not make a session ours that another took at once.
            let wait = standby.after(Duration::from_secs(5), false);
            assert!((minutes(longest) / 2..=minutes(longest)).contains(&wait), "{longest}: {wait:?}");
        }
        assert!(standby.after(minutes(61), false) <= minutes(1));
    }

    #[test]
    fn chance_decides_all_but_the_least() {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(by_chance(least, most, 0), least);
        assert_eq!(by_chance(least, most, 1_000_000), most);
        assert_eq!(by_chance(most, least, 7), most);
    }
}
