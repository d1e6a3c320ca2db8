//! Whose turn it is on a line. Pure.
//!
//! A device that answers is read when its slot is due. One that does not answer is tried alone in the gaps, where its
//! deadline fits; only when it found no gap for a long time does it get a short try between the others.

use std::time::Duration;

/// A device as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Time until its slot is due; zero when it is.
    pub(super) due_in: Duration,
    /// By how much its slot is overdue.
    pub(super) overdue: Duration,
    /// Time until it is tried again and by how much that is overdue, for a device that does not answer.
    pub(super) silent: Option<(Duration, Duration)>,
}

/// What the line does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Read this device.
    Read(usize),
    /// Try this silent device, with this deadline for each answer.
    Try(usize, Duration),
    /// Nothing to do for so long.
    Rest(Duration),
}

/// How long a silent device waits for a gap before it gets a short try.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// A short try has this part of the whole deadline.
const SHORT: u32 = 4;

/// Chooses among the devices of a line whose answers may take `timeout`, and that rests for `after` when there was none.
pub(super) fn choose(devices: &[Waiting], timeout: Duration, after: Duration) -> Turn {
    let short = timeout / SHORT;
    let silent = devices.iter().enumerate().filter_map(|(at, device)| Some((at, device.silent?)));
    let to_try = silent.clone().filter(|(_, (try_in, _))| try_in.is_zero()).max_by_key(|(_, (_, overdue))| *overdue);
    if let Some((at, (_, overdue))) = to_try
        && overdue >= PATIENCE
    {
        return Turn::Try(at, short);
    }
    let answering = || devices.iter().enumerate().filter(|(_, device)| device.silent.is_none());
    // Of those due the longest overdue, and of equals the first in the configuration.
    let due = answering().filter(|(_, device)| device.due_in.is_zero());
    if let Some((at, _)) = due.min_by_key(|(_, device)| std::cmp::Reverse(device.overdue)) {
        return Turn::Read(at);
    }
    let gap = answering().map(|(_, device)| device.due_in).min().unwrap_or(Duration::MAX);
    match to_try {
        Some((at, _)) if gap.saturating_sub(after) >= short => Turn::Try(at, gap.saturating_sub(after).min(timeout)),
        _ => {
            let next_try = silent.map(|(_, (try_in, _))| try_in).filter(|try_in| !try_in.is_zero()).min();
            Turn::Rest(gap.min(next_try.unwrap_or(Duration::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn healthy(due_in: u64, overdue: u64) -> Waiting {
        Waiting { due_in: s(due_in), overdue: s(overdue), silent: None }
    }

    fn silent(try_in: u64, overdue: u64) -> Waiting {
        Waiting { due_in: s(0), overdue: s(0), silent: Some((s(try_in), s(overdue))) }
    }

    #[test]
    fn a_silent_device_never_goes_before_one_that_is_due() {
        let timeout = s(4);
        for (devices, expected) in [
            (&[healthy(0, 0), healthy(0, 0)][..], Turn::Read(0)),
            (&[healthy(0, 1), healthy(0, 3)], Turn::Read(1)),
            (&[silent(0, 30), healthy(0, 0)], Turn::Read(1)),
            (&[silent(0, 30), healthy(100, 0)], Turn::Try(0, s(4))),
            (&[silent(0, 30), healthy(3, 0)], Turn::Try(0, s(3))),
            (
                &[silent(0, 30), Waiting { due_in: Duration::from_millis(900), ..healthy(0, 0) }],
                Turn::Rest(Duration::from_millis(900)),
            ),
            (&[silent(7, 0), healthy(100, 0)], Turn::Rest(s(7))),
            (&[silent(200, 0), healthy(100, 0)], Turn::Rest(s(100))),
            (&[silent(0, 30), silent(0, 40)], Turn::Try(1, s(4))),
            (&[silent(0, 61), healthy(0, 5)], Turn::Try(0, s(1))),
        ] {
            assert_eq!(choose(devices, timeout, Duration::ZERO), expected, "{devices:?}");
        }
    }

    #[test]
    fn the_rest_after_a_failure_is_part_of_a_try() {
        let devices = [silent(0, 30), healthy(5, 0)];
        assert_eq!(choose(&devices, s(4), s(2)), Turn::Try(0, s(3)));
        assert_eq!(choose(&devices, s(4), s(5)), Turn::Rest(s(5)));
    }
}
