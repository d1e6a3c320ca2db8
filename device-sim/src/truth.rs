//! What is true of a simulation: use, registers, alerts and counts, for comparison with what the product says.

use meterlake_model::{Amount, Channel, NodeId, Timestamp, UsagePointId};

use crate::plan::Link;
use crate::point::Point;
use crate::scenario::{Fault, Window};
use crate::simulation::Simulation;

/// What kind of alert is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// Water runs at all hours.
    Leak,
    /// The voltage is below the limit.
    Undervoltage,
}

/// An alert that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrueAlert {
    /// What.
    pub kind: AlertKind,
    /// Where.
    pub usage_point_id: UsagePointId,
    /// The transformer, where it strikes all that hangs there.
    pub cause: Option<NodeId>,
    /// When it truly began and ended.
    pub window: Window,
    /// Litres an hour, or how far the voltage fell in 0.1 V.
    pub magnitude: i64,
}

/// An alert that the product raised, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAlert {
    /// What.
    pub kind: AlertKind,
    /// Where.
    pub usage_point_id: UsagePointId,
    /// First to last evidence; of an alert that is still open, to now.
    pub window: Window,
}

/// What the product raised beside what was due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Due, and raised.
    pub hits: usize,
    /// Due, but not raised.
    pub missed: usize,
    /// Raised, but not due.
    pub false_alarms: usize,
}

impl Score {
    /// Compares alerts: one that is due is hit when an alert of its kind and place overlaps it; one that was raised is
    /// false when it overlaps none that is due.
    pub fn of(due: &[TrueAlert], found: &[FoundAlert]) -> Self {
        let meets = |d: &TrueAlert, f: &FoundAlert| {
            d.kind == f.kind
                && d.usage_point_id == f.usage_point_id
                && d.window.from < f.window.to
                && f.window.from < d.window.to
        };
        let hits = due.iter().filter(|d| found.iter().any(|f| meets(d, f))).count();
        let false_alarms = found.iter().filter(|f| !due.iter().any(|d| meets(d, f))).count();
        Self { hits, missed: due.len() - hits, false_alarms }
    }

    /// Share of what was due that was raised, 0 to 1; 1 when nothing was due.
    pub fn recall(self) -> f64 {
        share(self.hits, self.missed)
    }

    /// Share of what was raised that was due, 0 to 1; 1 when nothing was raised.
    pub fn precision(self) -> f64 {
        share(self.hits, self.false_alarms)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(hits: usize, others: usize) -> f64 {
    if hits + others == 0 { 1.0 } else { hits as f64 / (hits + others) as f64 }
}

/// How many readings history holds, by what becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Readings, each counted once: what the tables should hold, conflicting ones apart.
    pub distinct: u64,
    /// Readings that are sent a second time, equal.
    pub repeated: u64,
    /// Readings that are sent a second time with another value; each is one more revision.
    pub conflicting: u64,
    /// Readings that are never sent.
    pub missing: u64,
    /// Readings under field names that nobody knows: each comes in a message of its own and is a dead letter.
    pub old_firmware: u64,
}

/// The truth of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct Truth<'s> {
    simulation: &'s Simulation,
}

impl Simulation {
    /// What is true of it.
    pub fn truth(&self) -> Truth<'_> {
        Truth { simulation: self }
    }
}

impl<'s> Truth<'s> {
    /// The usage point of a name.
    pub fn point(&self, id: &UsagePointId) -> Option<&'s Point> {
        self.simulation.point_by_id(id)
    }

    /// The true use of a usage point over `[from, to)` in the unit of its register channel. `None` for a usage point or
    /// channel that is not there. Nothing is used before the place begins.
    pub fn usage(&self, id: &UsagePointId, channel: Channel, from: Timestamp, to: Timestamp) -> Option<Amount> {
        let point = self.point(id).filter(|p| p.register_channel() == channel)?;
        let used = self.simulation.total_micros(point, to) - self.simulation.total_micros(point, from);
        Amount::from_micros(used)
    }

    /// The true register at an instant as the meter that hangs there shows it, cut to its resolution.
    pub fn register(&self, id: &UsagePointId, channel: Channel, at: Timestamp) -> Option<Amount> {
        let point = self.point(id).filter(|p| p.register_channel() == channel)?;
        let (_, register) = self.simulation.register_milli(point, at)?;
        Amount::from_scaled(register, 3).ok()
    }

    /// All alerts that are due, by kind, place and time.
    pub fn alerts(&self) -> Vec<TrueAlert> {
        let mut alerts: Vec<_> = self.simulation.points().iter().flat_map(due).collect();
        alerts.sort_by(|a, b| {
            (a.kind, &a.usage_point_id, a.window.from).cmp(&(b.kind, &b.usage_point_id, b.window.from))
        });
        alerts
    }

    /// What the history of all MQTT meters holds.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        for point in self.simulation.points().iter().filter(|p| p.place.link == Link::Mqtt) {
            self.count(point, &mut expected);
        }
        expected
    }

    fn count(&self, point: &Point, expected: &mut Expected) {
        let plan = self.simulation.plan();
        let (from, to) = (plan.from.unix_seconds(), plan.to.unix_seconds());
        let step = usize::try_from(self.simulation.interval_s(point)).unwrap_or(1);
        for at in (from..to).step_by(step) {
            let Ok(ts) = Timestamp::from_unix_seconds(at) else { continue };
            match Fate::of(point, ts) {
                Fate::Never => expected.missing += 1,
                Fate::OldFirmware => expected.old_firmware += 1,
                Fate::Sent { twice, conflict, .. } => {
                    expected.distinct += 1;
                    expected.repeated += u64::from(twice);
                    expected.conflicting += u64::from(conflict.is_some());
                }
            }
        }
    }
}

/// What becomes of one reading on its way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is never sent.
    Never,
    /// It goes out under field names that nobody knows.
    OldFirmware,
    /// It is sent.
    Sent {
        /// Once more besides.
        twice: bool,
        /// Whole days later than it should; 0 in time.
        days_late: u16,
        /// Behind the younger ones of its day.
        unordered: bool,
        /// Once more, with this added to the register.
        conflict: Option<i64>,
    },
}

impl Fate {
    pub(crate) fn of(point: &Point, ts: Timestamp) -> Self {
        let (mut twice, mut days_late, mut unordered, mut conflict, mut old) = (false, 0, false, None, false);
        for fault in &point.faults {
            match fault {
                Fault::Gap { window, .. } if window.contains(ts) => return Self::Never,
                Fault::OldFirmware { window, .. } => old |= window.contains(ts),
                Fault::Duplicate { window, .. } => twice |= window.contains(ts),
                Fault::OutOfOrder { window, .. } => unordered |= window.contains(ts),
                Fault::Late { window, days, .. } if window.contains(ts) => days_late = days_late.max(*days),
                Fault::Conflict { at, add_milli, .. } if *at == ts => conflict = Some(*add_milli),
                _ => {}
            }
        }
        if old { Self::OldFirmware } else { Self::Sent { twice, days_late, unordered, conflict } }
    }
}

fn due(point: &Point) -> impl Iterator<Item = TrueAlert> {
    point.faults.iter().filter_map(|fault| {
        let (kind, window, magnitude) = match fault {
            Fault::Leak { litres_per_hour, window, .. } => (AlertKind::Leak, *window, i64::from(*litres_per_hour)),
            Fault::MeterSag { drop_dv, window, .. } | Fault::TransformerSag { drop_dv, window, .. } => {
                (AlertKind::Undervoltage, *window, *drop_dv)
            }
            _ => return None,
        };
        let cause = matches!(fault, Fault::TransformerSag { .. }).then(|| point.node_id.clone());
        Some(TrueAlert { kind, usage_point_id: point.usage_point_id.clone(), cause, window, magnitude })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_matched_by_kind_place_and_time() {
        let hour = |h: i64| Timestamp::from_unix_seconds(h * 3600).unwrap();
        let window = |from, to| Window { from: hour(from), to: hour(to) };
        let id = |name: &str| UsagePointId::new(name).unwrap();
        let due = |kind, point: &str, window| TrueAlert {
            kind,
            usage_point_id: id(point),
            cause: None,
            window,
            magnitude: 1,
        };
        let found = |kind, point: &str, window| FoundAlert { kind, usage_point_id: id(point), window };
        let all = [
            due(AlertKind::Leak, "a", window(10, 100)),
            due(AlertKind::Leak, "b", window(10, 100)),
            due(AlertKind::Undervoltage, "a", window(10, 12)),
        ];
        let raised = [
            found(AlertKind::Leak, "a", window(34, 101)),
            found(AlertKind::Leak, "a", window(90, 99)),
            found(AlertKind::Leak, "b", window(100, 120)),
            found(AlertKind::Undervoltage, "b", window(10, 12)),
        ];
        let score = Score::of(&all, &raised);
        assert_eq!(score, Score { hits: 1, missed: 2, false_alarms: 2 });
        assert!((score.recall() - 1.0 / 3.0).abs() < 1e-9 && (score.precision() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(Score::of(&[], &[]).precision().to_bits(), 1_f64.to_bits());
    }
}
