//! How much each usage point uses in each slot, and its voltage: integers only, so that every machine agrees.
//!
//! Homes have a morning and an evening, shops and offices have opening hours, a hospital never sleeps. Each day of each
//! place comes from its own stream of random numbers: any day can be had without those before it.

use meterlake_model::{Commodity, Timestamp, Zone};
use rand::Rng;

use crate::plan::Class;
use crate::random::{self, Purpose};

/// Seconds of a day.
pub(crate) const DAY_S: i64 = 86_400;

/// Mean power by local hour in W, before the place's own scale: weekday of a home.
const HOME_W: [u32; 24] = [
    110, 95, 90, 90, 95, 120, 230, 380, 340, 240, 210, 230, 310, 330, 250, 220, 240, 320, 460, 560, 590, 510, 340, 190,
];
/// Weekend of a home.
const HOME_WEEKEND_W: [u32; 24] = [
    130, 105, 95, 90, 90, 100, 140, 210, 320, 400, 420, 440, 500, 520, 420, 340, 330, 370, 470, 560, 570, 500, 370, 230,
];
/// Weekday of a shop or an office.
const SHOP_W: [u32; 24] = [
    500, 480, 470, 470, 480, 560, 900, 1900, 4200, 5600, 6000, 6200, 5900, 5500, 5900, 6000, 5800, 5000, 3600, 2100,
    1200, 800, 650, 550,
];
/// Share of hours with water drawn in a home, in 1/1000, by local hour.
const HOME_DRAW: [u32; 24] =
    [60, 30, 20, 20, 30, 150, 520, 760, 640, 450, 380, 380, 480, 560, 400, 330, 330, 400, 520, 620, 620, 520, 350, 160];
/// The same in a shop or an office.
const SHOP_DRAW: [u32; 24] =
    [0, 0, 0, 0, 0, 20, 150, 500, 800, 850, 850, 850, 850, 850, 850, 850, 800, 600, 300, 100, 20, 0, 0, 0];

/// What sets one usage point apart from the others of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    seed: u64,
    index: usize,
    class: Class,
    commodity: Commodity,
    interval_s: i64,
    /// Own size, in percent.
    scale: u32,
    /// What runs always, in W.
    base_w: u32,
    /// How far below its transformer's voltage it lies, in 0.1 V.
    drop_dv: i64,
}

impl Traits {
    pub(crate) fn new(seed: u64, index: usize, class: Class, commodity: Commodity, interval_s: i64) -> Self {
        let mut rng = random::of_place(seed, Purpose::Place, index);
        let scale = rng.random_range(60..=190);
        let base_w = match class {
            Class::Residential => rng.random_range(40..=140),
            Class::Commercial | Class::Hospital => rng.random_range(300..=1200),
        };
        let drop_dv = rng.random_range(0..=30);
        Self { seed, index, class, commodity, interval_s, scale, base_w, drop_dv }
    }

    /// Use of each slot of a UTC day, counted from 1970, in Wh or litres.
    pub(crate) fn use_of_day(&self, day: i64, zone: &Zone) -> Vec<i64> {
        let mut rng = random::of_day(self.seed, Purpose::Use, self.index, day);
        let slots = DAY_S / self.interval_s;
        let day_scale: u32 = rng.random_range(80..=125);
        let mut clock = LocalClock::new(zone);
        let mut owed = 0_i64;
        let mut all = Vec::with_capacity(usize::try_from(slots).unwrap_or(0));
        for slot in 0..slots {
            let (hour, weekend) = clock.at(day * DAY_S + slot * self.interval_s);
            let amount = match self.commodity {
                Commodity::Electricity => {
                    let watts = self.watts(&mut rng, hour, weekend, day_scale);
                    // What is below a whole Wh is owed to the next slot, so that short slots do not lose it.
                    owed += i64::from(watts) * self.interval_s;
                    let whole = owed / 3600;
                    owed %= 3600;
                    whole
                }
                Commodity::Water => i64::from(self.litres(&mut rng, hour, weekend)),
            };
            all.push(amount);
        }
        all
    }

    fn watts(&self, rng: &mut impl Rng, hour: usize, weekend: bool, day_scale: u32) -> u32 {
        let shape = match (self.class, weekend) {
            (Class::Residential, false) => HOME_W[hour],
            (Class::Residential, true) => HOME_WEEKEND_W[hour],
            (Class::Hospital, _) => 6000,
            (Class::Commercial, false) => SHOP_W[hour],
            (Class::Commercial, true) => SHOP_W[hour] / 6,
        };
        let noise: u32 = rng.random_range(55..=145);
        let burst = rng.random_range(0..1000_u32);
        let burst_w = match self.class {
            // A kettle, an oven, a washing machine.
            Class::Residential if burst < shape / 6 => 400 + burst * 14 % 1900,
            _ => 0,
        };
        self.base_w + shape * self.scale / 100 * day_scale / 100 * noise / 100 + burst_w
    }

    fn litres(&self, rng: &mut impl Rng, hour: usize, weekend: bool) -> u32 {
        let chance: u32 = rng.random_range(0..1000);
        let size: u32 = rng.random_range(3..=40);
        let per_mille = match (self.class, weekend) {
            (Class::Residential, _) => HOME_DRAW[hour],
            (Class::Commercial, false) => SHOP_DRAW[hour],
            (Class::Commercial, true) => SHOP_DRAW[hour] / 20,
            (Class::Hospital, _) => {
                let hourly = 60 + size * 6 + HOME_DRAW[hour] / 4;
                return u32::try_from(i64::from(hourly) * self.interval_s / 3600).unwrap_or(hourly).max(1);
            }
        };
        let per_slot = i64::from(per_mille) * self.interval_s.min(3600) / 3600;
        if i64::from(chance) >= per_slot {
            return 0;
        }
        // One draw in nine is a shower or a bath.
        let litres = if chance.is_multiple_of(9) { size + 40 } else { size };
        (litres * self.scale / 100).max(1)
    }

    /// Voltage of each phase at each slot of a UTC day, in 0.1 V, always within 218 to 237 V: the transformer's, less a
    /// drop of the place's own and some noise.
    pub(crate) fn voltage_of_day(&self, transformer: usize, day: i64, phases: usize) -> Vec<[i64; 3]> {
        let mut shared = random::of_day(self.seed, Purpose::Transformer, transformer, day);
        let mut own = random::of_day(self.seed, Purpose::Voltage, self.index, day);
        let slots = DAY_S / self.interval_s;
        let mut level = 2300 + shared.random_range(-15..=15);
        (0..slots)
            .map(|_| {
                // It wanders, drawn back to the middle.
                level += shared.random_range(-6..=6) + (2300 - level) / 12;
                level = level.clamp(2240, 2350);
                let mut volts = [0; 3];
                for phase in volts.iter_mut().take(phases) {
                    *phase = level - self.drop_dv + own.random_range(-15..=15);
                }
                volts
            })
            .collect()
    }
}

/// Local hour and day type of instants that follow each other; asks the zone once a quarter of an hour.
struct LocalClock<'a> {
    zone: &'a Zone,
    quarter: i64,
    now: (usize, bool),
}

impl<'a> LocalClock<'a> {
    fn new(zone: &'a Zone) -> Self {
        Self { zone, quarter: i64::MIN, now: (0, false) }
    }

    fn at(&mut self, unix_s: i64) -> (usize, bool) {
        let quarter = unix_s.div_euclid(900);
        if quarter != self.quarter {
            self.quarter = quarter;
            if let Ok(ts) = Timestamp::from_unix_seconds(quarter * 900) {
                self.now = (usize::from(self.zone.hour_of(ts)) % 24, self.zone.day_of(ts).is_weekend());
            }
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(class: Class, commodity: Commodity, interval_s: i64) -> Traits {
        Traits::new(7, 3, class, commodity, interval_s)
    }

    #[test]
    fn a_day_is_the_same_whenever_it_is_asked_for() {
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let home = traits(Class::Residential, Commodity::Electricity, 900);
        let day = home.use_of_day(20_000, &zone);
        home.use_of_day(20_001, &zone);
        assert_eq!(home.use_of_day(20_000, &zone), day);
        assert_eq!(day.len(), 96);
        assert_ne!(home.use_of_day(20_001, &zone), day);
    }

    #[test]
    fn a_home_uses_some_kilowatt_hours_and_litres_a_day() {
        let zone = Zone::parse("Europe/Madrid").unwrap();
        for index in 0..50 {
            let home = Traits::new(1, index, Class::Residential, Commodity::Electricity, 900);
            let day: i64 = home.use_of_day(20_000, &zone).iter().sum();
            assert!((3_000..40_000).contains(&day), "{day} Wh");
            let water = Traits::new(1, index, Class::Residential, Commodity::Water, 3600);
            let hours = water.use_of_day(20_000, &zone);
            assert!((20..1500).contains(&hours.iter().sum::<i64>()), "{hours:?}");
        }
    }

    #[test]
    fn a_home_is_quiet_at_some_hour_of_each_day_and_a_hospital_never() {
        let zone = Zone::parse("Europe/Madrid").unwrap();
        for day in 20_000..20_060 {
            let home = traits(Class::Residential, Commodity::Water, 3600).use_of_day(day, &zone);
            assert!(home.contains(&0));
            let hospital = traits(Class::Hospital, Commodity::Water, 3600).use_of_day(day, &zone);
            assert!(hospital.iter().all(|l| *l > 2));
        }
    }

    #[test]
    fn voltage_without_faults_is_far_from_the_limits() {
        for index in 0..40 {
            let home = Traits::new(1, index, Class::Residential, Commodity::Electricity, 900);
            for volts in home.voltage_of_day(2, 20_000, 1) {
                assert!((2180..=2370).contains(&volts[0]), "{volts:?}");
                assert_eq!(volts[1..], [0, 0]);
            }
        }
    }

    #[test]
    fn shorter_slots_use_about_as_much() {
        let zone = Zone::utc();
        let quarter: i64 =
            traits(Class::Commercial, Commodity::Electricity, 900).use_of_day(20_000, &zone).iter().sum();
        let minute: i64 = traits(Class::Commercial, Commodity::Electricity, 60).use_of_day(20_000, &zone).iter().sum();
        assert!((quarter - minute).abs() < quarter / 10, "{quarter} {minute}");
    }
}
