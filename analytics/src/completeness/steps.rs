//! The interval of a meter for which the registry states none: the median step between its own readings.

use meterlake_model::Timestamp;

/// Fewer steps tell nothing.
const LEAST: usize = 3;

/// In seconds, from the distinct times of a meter's readings in rising order; whole minutes where it is nearly so.
pub(crate) fn median_step_s(times: impl Iterator<Item = Timestamp>) -> Option<i64> {
    let times: Vec<Timestamp> = times.collect();
    let mut steps: Vec<i64> =
        times.windows(2).map(|pair| pair[1].micros_since(pair[0]) / 1_000_000).filter(|step| *step > 0).collect();
    if steps.len() < LEAST {
        return None;
    }
    steps.sort_unstable();
    let median = steps[steps.len() / 2];
    let minutes = (median + 30) / 60 * 60;
    // A clock that creeps does not make an interval of 899 seconds.
    let nearly = minutes > 0 && (minutes - median).abs() * 50 <= median;
    Some(if nearly { minutes } else { median })
}
