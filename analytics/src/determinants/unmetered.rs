//! D11: what no meter counts: items times a profile.

use meterlake_model::Quality;
use meterlake_model::calendar::Calendar;
use meterlake_model::determinant::{Rounding, UnmeteredItem, UnmeteredLoad, Within};
use meterlake_model::formula::Ratio;

use super::{Cycle, Figure, Note};

/// The use of all items over a cycle: daily loads by its civil days, hourly loads by its hours in the buckets, or by all.
pub fn unmetered(
    cycle: &Cycle<'_>,
    items: &[UnmeteredItem],
    calendar: Option<(&Calendar, &Within)>,
    unit: &str,
    rounding: Rounding,
) -> Figure {
    let (start, end) = cycle.span();
    let (mut burning_us, mut outside) = (0_i128, false);
    match calendar {
        None => burning_us = i128::from(end.micros_since(start)),
        Some((calendar, within)) => {
            for slice in calendar.walk(Some(cycle.point)).between(start, end) {
                let name = slice.bucket.map(|bucket| calendar.bucket_name(bucket));
                let burns =
                    |name: &str| within.buckets.is_empty() || within.buckets.iter().any(|bucket| bucket == name);
                outside |= name.is_none();
                if name.is_some_and(burns) {
                    burning_us += i128::from(slice.end.micros_since(slice.start));
                }
            }
        }
    }
    if outside {
        let note = Note::new("calendar", true, "the calendar does not hold for all of the cycle");
        return Figure::unknown("", unit, note);
    }
    let days = i128::from(cycle.end_day.days_since(cycle.start_day));
    let mut sum = Some(0_i128);
    for item in items {
        let (load, times) = match item.load {
            UnmeteredLoad::Daily(load) => (load, days * 3_600_000_000),
            UnmeteredLoad::Hourly(load) => (load, burning_us),
        };
        let used = i128::from(load.micros()) * i128::from(item.count);
        sum = sum.zip(used.checked_mul(times)).and_then(|(sum, used)| sum.checked_add(used));
    }
    let value = sum.and_then(|sum| Ratio::new(sum, 3_600_000_000 * 1_000_000)).and_then(|ratio| ratio.round(rounding));
    match value {
        None => Figure::unknown("", unit, Note::new("overflow", true, "the use has more than 18 digits")),
        value => Figure {
            part: String::new(),
            value,
            unit: unit.to_owned(),
            quality: Quality::Derived,
            estimated_ppm: 0,
            at: None,
            notes: Vec::new(),
        },
    }
}
