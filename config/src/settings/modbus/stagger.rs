//! Spreads the devices of a line over the beginning of their slots.

use std::time::Duration;

use meterlake_model::MeterId;

use crate::document::Section;
use crate::quantity::{DAY, parse_duration};

/// How devices of equal interval are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stagger {
    /// All are due at once.
    None,
    /// Over so little of the slot that each reading still bears its slot's time.
    Auto,
    /// Over this time, or the interval if that is less.
    Over(Duration),
}

/// The longest that [`Stagger::Auto`] takes: half of the ten seconds within which an answer bears its slot's time, the
/// other half being left for the answers themselves. Never more than a tenth of the interval.
const AUTO: Duration = Duration::from_secs(5);

impl Stagger {
    /// `offset` with this device's share, a whole number of milliseconds, still below the interval. It depends on the
    /// meter alone: a device that is added moves no other.
    pub(super) fn shift(self, meter_id: &MeterId, interval: Duration, offset: Duration) -> Duration {
        let over = match self {
            Self::None => return offset,
            Self::Auto => AUTO.min(interval / 10),
            Self::Over(over) => over,
        };
        let room = over.min(interval.saturating_sub(offset)).as_millis();
        let share = (room * u128::from(hash(meter_id.as_str()) >> 32)) >> 32;
        offset + Duration::from_millis(u64::try_from(share).unwrap_or_default())
    }
}

/// Reads the key `stagger` of a line or listener.
pub(super) fn read(s: &mut Section<'_>) -> Option<Stagger> {
    s.parsed("stagger", |text| match text {
        "none" => Ok(Stagger::None),
        "auto" => Ok(Stagger::Auto),
        _ => match parse_duration(text) {
            Some(over) if over <= 31 * DAY => Ok(Stagger::Over(over)),
            _ => Err(format!("is \"{text}\"; \"none\", \"auto\" or a duration such as \"5m\" is wanted")),
        },
    })
}

/// FNV-1a with a last mixing, so that ids that differ in one digit lie far apart. It must never change: slots of devices
/// hang on it.
fn hash(text: &str) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    for factor in [0xFF51_AFD7_ED55_8CCD, 0xC4CE_B9FE_1A85_EC53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_are_spread_evenly_over_the_first_seconds_of_their_slots() {
        let interval = Duration::from_secs(900);
        let mut tenths = [0_u32; 10];
        for number in 0..1000 {
            let meter_id = MeterId::new(&format!("SDM630-{number:04}")).unwrap();
            let shift = Stagger::Auto.shift(&meter_id, interval, Duration::ZERO);
            assert!(shift < AUTO);
            tenths[usize::try_from(shift.as_millis() / 500).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|devices| (60..150).contains(devices)), "{tenths:?}");
    }

    #[test]
    fn a_meter_keeps_its_place_from_version_to_version() {
        let meter_id = MeterId::new("SDM630-0001").unwrap();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (stagger, interval, offset, shifted_ms) in [
            (Stagger::None, minutes(15), minutes(1), 60_000),
            (Stagger::Auto, minutes(15), Duration::ZERO, 3_521),
            (Stagger::Auto, minutes(15), minutes(1), 63_521),
            (Stagger::Auto, Duration::from_secs(10), Duration::ZERO, 704),
            (Stagger::Over(minutes(5)), minutes(15), Duration::ZERO, 211_318),
        ] {
            let shifted = stagger.shift(&meter_id, interval, offset);
            assert_eq!(shifted.as_millis(), shifted_ms, "{stagger:?} {interval:?} {offset:?}");
        }
    }

    proptest! {
        #[test]
        fn no_device_is_moved_out_of_its_interval(id in "[a-z0-9]{1,20}", interval in 1_u64..100_000, offset in 0_u64..100_000, over in 0_u64..100_000) {
            let (interval, offset) = (Duration::from_millis(interval * 1000), Duration::from_millis(offset % (interval * 1000)));
            let meter_id = MeterId::new(&id).unwrap();
            for stagger in [Stagger::None, Stagger::Auto, Stagger::Over(Duration::from_secs(over))] {
                let shifted = stagger.shift(&meter_id, interval, offset);
                prop_assert!(offset <= shifted && shifted < interval);
            }
        }
    }
}
