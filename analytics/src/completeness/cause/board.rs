//! Who was silent when: one UTC day in ticks of five minutes, by gateway, source and collector.

use std::collections::HashMap;

use super::super::{CompletenessRules, MeterDay};

/// Seconds of a UTC day.
pub(super) const CHUNK_S: i64 = 86_400;
const TICK_S: i64 = 300;
const TICKS: usize = 288;
/// A missing reading is silence for half a quarter of an hour to both sides: what falls silent within 15 minutes is one.
const REACH_S: i64 = 450;

/// How many were expected and how many of them were silent, by tick.
struct Counts {
    expected: [u32; TICKS],
    silent: [u32; TICKS],
}

impl Default for Counts {
    fn default() -> Self {
        Self { expected: [0; TICKS], silent: [0; TICKS] }
    }
}

/// One source, by tick: its units, its meters, and what follows.
struct Source {
    units: Counts,
    silent_meters: [u32; TICKS],
}

/// The tallies of one UTC day.
pub(super) struct Board {
    from_s: i64,
    gateways: HashMap<(Option<u32>, u32), Counts>,
    sources: HashMap<u32, Source>,
    percent: u32,
    least: u32,
}

impl Board {
    /// Adds up the days that reach into the UTC day that begins at `from_s`.
    pub(super) fn of<'d>(days: impl Iterator<Item = &'d MeterDay>, from_s: i64, rules: &CompletenessRules) -> Self {
        let mut direct: HashMap<Option<u32>, Counts> = HashMap::new();
        let mut gateways: HashMap<(Option<u32>, u32), Counts> = HashMap::new();
        for day in days {
            let counts = match day.gateway {
                Some(gateway) => gateways.entry((day.source, gateway)).or_default(),
                None => direct.entry(day.source).or_default(),
            };
            add(counts, day, from_s);
        }
        let mut board = Self {
            from_s,
            gateways,
            sources: HashMap::new(),
            percent: rules.common_percent,
            least: rules.common_min_meters,
        };
        for (source, counts) in direct {
            if let Some(source) = source {
                board.sources.insert(source, Source { silent_meters: counts.silent, units: counts });
            }
        }
        for ((source, _), counts) in &board.gateways {
            let Some(source) = source else { continue };
            let empty = || Source { units: Counts::default(), silent_meters: [0; TICKS] };
            let source = board.sources.entry(*source).or_insert_with(empty);
            for tick in 0..TICKS {
                let (expected, silent) = (counts.expected[tick], counts.silent[tick]);
                source.units.expected[tick] += u32::from(expected > 0);
                source.units.silent[tick] += u32::from(expected > 0 && is_share(silent, expected, board.percent));
                source.silent_meters[tick] += silent;
            }
        }
        board
    }

    fn tick(&self, at_s: i64) -> usize {
        usize::try_from((at_s - self.from_s).div_euclid(TICK_S)).unwrap_or(0).min(TICKS - 1)
    }

    /// Whether every source that was expected to speak is silent, and there are at least two of them.
    pub(super) fn all_silent(&self, at_s: i64) -> bool {
        let tick = self.tick(at_s);
        let due = || self.sources.values().filter(move |s| s.units.expected[tick] > 0);
        let meters: u32 = due().map(|s| s.silent_meters[tick]).sum();
        due().count() >= 2
            && meters >= self.least
            && due().all(|s| is_share(s.units.silent[tick], s.units.expected[tick], self.percent))
    }

    /// Whether a source is to blame.
    pub(super) fn source_down(&self, source: u32, at_s: i64) -> bool {
        let tick = self.tick(at_s);
        self.sources.get(&source).is_some_and(|s| {
            let (silent, expected) = (s.units.silent[tick], s.units.expected[tick]);
            silent >= 2 && is_share(silent, expected, self.percent) && s.silent_meters[tick] >= self.least
        })
    }

    /// Whether a gateway is to blame.
    pub(super) fn gateway_down(&self, source: Option<u32>, gateway: u32, at_s: i64) -> bool {
        let tick = self.tick(at_s);
        self.gateways.get(&(source, gateway)).is_some_and(|counts| {
            let (silent, expected) = (counts.silent[tick], counts.expected[tick]);
            silent >= self.least && is_share(silent, expected, self.percent)
        })
    }
}

fn is_share(part: u32, whole: u32, percent: u32) -> bool {
    u64::from(part) * 100 >= u64::from(whole) * u64::from(percent)
}

/// One meter: silent in a tick when most of what was expected around it is missing.
fn add(counts: &mut Counts, day: &MeterDay, from_s: i64) {
    let mut expected = [0_u16; TICKS];
    let mut missing = [0_u16; TICKS];
    let reach_s = (day.interval_s / 2).min(REACH_S);
    // A meter's day says nothing about the day beside it, which has its own.
    let (low, high) = (from_s.max(day.start.unix_seconds()), (from_s + CHUNK_S).min(day.end.unix_seconds()));
    for slot in day.count.expected.iter() {
        let at = day.count.slots.time(slot).unix_seconds();
        let own = at.div_euclid(TICK_S);
        let first = (at - reach_s + TICK_S - 1).div_euclid(TICK_S).min(own);
        let last = (at + reach_s - 1).div_euclid(TICK_S).max(own);
        for tick in first..=last {
            if (low..high).contains(&(tick * TICK_S))
                && let Ok(index) = usize::try_from(tick - from_s / TICK_S)
            {
                expected[index] = expected[index].saturating_add(1);
                missing[index] = missing[index].saturating_add(u16::from(day.count.missing.contains(slot)));
            }
        }
    }
    for (tick, (expected, missing)) in expected.into_iter().zip(missing).enumerate() {
        counts.expected[tick] += u32::from(expected > 0);
        counts.silent[tick] += u32::from(u32::from(missing) * 2 > u32::from(expected));
    }
}
