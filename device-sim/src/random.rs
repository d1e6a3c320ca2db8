//! Random numbers that can be had for any usage point and day without those before it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of numbers is for; streams never overlap.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Place = 0,
    Use = 1,
    Voltage = 2,
    Transformer = 3,
    Messages = 4,
}

/// Words of one day of one stream; a day of seconds takes fewer.
const WORDS_PER_DAY: u128 = 1 << 20;

/// The numbers of one usage point (or transformer) for one purpose on one day, counted from 1970.
pub(crate) fn of_day(seed: u64, purpose: Purpose, index: usize, day: i64) -> ChaCha8Rng {
    let mut rng = of_place(seed, purpose, index);
    rng.set_word_pos(u128::from(day.rem_euclid(1 << 30).unsigned_abs()) * WORDS_PER_DAY);
    rng
}

/// The numbers of one usage point (or transformer) for one purpose.
pub(crate) fn of_place(seed: u64, purpose: Purpose, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((index as u64) << 3 | purpose as u64);
    rng
}

/// The numbers that place a scenario's faults.
pub(crate) fn of_scenario(seed: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX);
    rng
}
