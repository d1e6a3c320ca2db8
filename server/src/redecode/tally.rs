//! What a re-decode changes, summed up by meter and channel. Pure.

use std::collections::BTreeMap;

use meterlake_model::{Channel, MeterId, Timestamp};

use super::compare::Cell;

/// One value before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) ts: Timestamp,
    pub(crate) old: i64,
    pub(crate) new: i64,
}

/// Of one meter and channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Times whose value is the same.
    pub(crate) equal: u64,
    /// Times that have another value.
    pub(crate) changed: u64,
    /// Times that had none.
    pub(crate) new: u64,
    /// Times that have none any more.
    pub(crate) gone: u64,
    /// The first change and the last.
    pub(crate) steps: Option<(Step, Step)>,
}

impl Tally {
    fn add(&mut self, ts: Timestamp, cell: &Cell) {
        match (cell.old, cell.new) {
            (Some(old), Some(new)) if old == new => self.equal += 1,
            (Some(old), Some(new)) => {
                self.changed += 1;
                let step = Step { ts, old, new };
                // Times come in order.
                self.steps = Some((self.steps.map_or(step, |(first, _)| first), step));
            }
            (None, Some(_)) => self.new += 1,
            (Some(_), None) => self.gone += 1,
            (None, None) => {}
        }
    }

    /// Whether anything is not as it was.
    pub(crate) fn differs(&self) -> bool {
        self.changed + self.new + self.gone > 0
    }
}

/// New over old, in thousandths rounded half up, as people read it: `0.1`, `1000`. `None`: nothing can be told.
pub(crate) fn ratio(step: &Step) -> Option<String> {
    let (old, new) = (i128::from(step.old), i128::from(step.new));
    if old == 0 {
        return None;
    }
    let sign = if (old < 0) == (new < 0) || new == 0 { "" } else { "-" };
    let (old, new) = (old.abs(), new.abs());
    // What is far below one has so many digits that three of them say something.
    let mut digits = 3_u32;
    while digits < 9 && new > 0 && new * 10_i128.pow(digits) < old * 100 {
        digits += 1;
    }
    let scale = 10_i128.pow(digits);
    let scaled = (2 * new * scale + old) / (2 * old);
    let text =
        format!("{sign}{}.{:0width$}", scaled / scale, scaled % scale, width = usize::try_from(digits).unwrap_or(3));
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// Sums by meter and channel. It grows with the meters that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tallies(pub(crate) BTreeMap<(MeterId, Channel), Tally>);

impl Tallies {
    /// Adds what became of one meter and time. Times of one meter come in order.
    pub(crate) fn add(&mut self, meter: &MeterId, ts: Timestamp, cells: &[Cell]) {
        for cell in cells {
            self.0.entry((meter.clone(), cell.channel)).or_default().add(ts, cell);
        }
    }

    /// Of all meters together.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in self.0.values() {
            total.equal += tally.equal;
            total.changed += tally.changed;
            total.new += tally.new;
            total.gone += tally.gone;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_as_long_as_it_says_something() {
        let at = Timestamp::from_unix_seconds(0).unwrap();
        for (old, new, expected) in [
            (1000, 100, Some("0.1")),
            (100, 1000, Some("10")),
            (1, 1_000_000, Some("1000000")),
            (3, 1, Some("0.333")),
            (1_000_000, 1, Some("0.000001")),
            (10, -5, Some("-0.5")),
            (-10, -5, Some("0.5")),
            (10, 0, Some("0")),
            (0, 5, None),
        ] {
            assert_eq!(ratio(&Step { ts: at, old, new }).as_deref(), expected, "{old} → {new}");
        }
    }

    #[test]
    fn times_are_counted_by_what_became_of_them() {
        let (mut tallies, meter) = (Tallies::default(), MeterId::new("m").unwrap());
        let channel = Channel::by_name("volume_m3").unwrap();
        let at = |n| Timestamp::from_unix_seconds(n).unwrap();
        for (n, old, new) in [
            (1, Some(5), Some(5)),
            (2, Some(50), Some(5)),
            (3, None, Some(6)),
            (4, Some(70), Some(7)),
            (5, Some(8), None),
        ] {
            tallies.add(&meter, at(n), &[Cell { channel, old, new }]);
        }
        let steps = Some((Step { ts: at(2), old: 50, new: 5 }, Step { ts: at(4), old: 70, new: 7 }));
        assert_eq!(tallies.total(), Tally { steps: None, equal: 1, changed: 2, new: 1, gone: 1 });
        assert_eq!(tallies.0[&(meter, channel)].steps, steps);
    }
}
