//! A fleet and what befalls it: every meter with its true use, register and voltage at any time.

use std::collections::HashMap;

use meterlake_model::{Commodity, Timestamp, UsagePointId};

use crate::error::SimError;
use crate::load::DAY_S;
use crate::plan::{FleetPlan, PointRef};
use crate::point::{Mount, Point, phases};
use crate::scenario::{Fault, Scenario, Window};

/// A UTC day and what a place had used before it, in 0.001 of the unit, so that the present need not be summed up from
/// the beginning each time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor(Option<(i64, i64)>);

/// A fleet under a scenario.
#[derive(Debug, Clone)]
pub struct Simulation {
    plan: FleetPlan,
    scenario: Scenario,
    points: Vec<Point>,
    by_id: HashMap<UsagePointId, usize>,
}

impl Simulation {
    /// Builds all meters.
    ///
    /// # Errors
    /// When the plan or the scenario contradicts itself.
    pub fn new(plan: FleetPlan, scenario: Scenario) -> Result<Self, SimError> {
        plan.check()?;
        scenario.check(&plan)?;
        let mut points = Vec::new();
        for (index, place) in plan.points().enumerate() {
            points.push(Point::new(&plan, &scenario, index, place)?);
        }
        let by_id = points.iter().map(|p| (p.usage_point_id.clone(), p.index)).collect();
        let mut simulation = Self { plan, scenario, points, by_id };
        simulation.exchange_meters()?;
        Ok(simulation)
    }

    /// What it was made from.
    pub fn plan(&self) -> &FleetPlan {
        &self.plan
    }

    /// What goes wrong.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Every usage point.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The usage point of a place in the plan.
    pub fn point(&self, place: PointRef) -> Option<&Point> {
        self.points.iter().find(|p| p.place == place)
    }

    /// The usage point of a name.
    pub fn point_by_id(&self, id: &UsagePointId) -> Option<&Point> {
        self.points.get(*self.by_id.get(id)?)
    }

    /// Seconds between the readings of a usage point.
    pub fn interval_s(&self, point: &Point) -> i64 {
        self.plan.interval_s(point.place.commodity)
    }

    /// True use of each slot of a UTC day counted from 1970, leaks included, in 0.001 of the unit. Nothing before the
    /// place begins.
    pub(crate) fn use_of_day(&self, point: &Point, day: i64) -> Vec<i64> {
        let mut slots = point.traits.use_of_day(day, &self.plan.zone);
        let interval = self.interval_s(point);
        let begins = point.begins().unix_seconds();
        for (at, amount) in (day * DAY_S..).step_by(step(interval)).zip(&mut slots) {
            if at < begins {
                *amount = 0;
            }
        }
        for fault in &point.faults {
            let Fault::Leak { litres_per_hour, window, .. } = fault else { continue };
            for (at, amount) in (day * DAY_S..).step_by(step(interval)).zip(&mut slots) {
                // What has leaked until the slot's end less what had until its beginning: nothing is lost to rounding.
                let leaked = |until: i64| {
                    let inside = until.clamp(window.from.unix_seconds(), window.to.unix_seconds());
                    (inside - window.from.unix_seconds()) * i64::from(*litres_per_hour) / 3600
                };
                *amount += leaked(at + interval) - leaked(at);
            }
        }
        slots
    }

    /// Voltages of each slot of a UTC day, sags included, in 0.1 V.
    pub(crate) fn voltage_of_day(&self, point: &Point, day: i64) -> Vec<[i64; 3]> {
        let phases = phases(point.class);
        let mut slots = point.traits.voltage_of_day(point.transformer, day, phases);
        if point.faults.iter().any(|f| matches!(f, Fault::MeterSag { .. } | Fault::TransformerSag { .. })) {
            let times = (day * DAY_S..).step_by(step(self.interval_s(point)));
            for (at, volts) in times.zip(&mut slots) {
                let Ok(ts) = Timestamp::from_unix_seconds(at) else { continue };
                let sag = point.sag_dv(ts);
                volts[..phases].iter_mut().for_each(|v| *v -= sag);
            }
        }
        slots
    }

    /// What a place has used from its beginning to an instant, in millionths of the unit. Use is spread evenly over its
    /// slot, cut to a millionth.
    pub fn total_micros(&self, point: &Point, until: Timestamp) -> i64 {
        self.total_with(&mut Cursor::default(), point, until)
    }

    /// As [`Self::total_micros`], going on from the day that `cursor` remembers.
    fn total_with(&self, cursor: &mut Cursor, point: &Point, until: Timestamp) -> i64 {
        let begins = point.begins();
        if until <= begins {
            return 0;
        }
        let day = until.unix_seconds().div_euclid(DAY_S);
        if cursor.0.is_none_or(|(known, _)| known > day) {
            cursor.0 = Some((begins.unix_seconds().div_euclid(DAY_S), 0));
        }
        let (mut known, mut total) = cursor.0.unwrap_or((day, 0));
        while known < day {
            total += self.use_of_day(point, known).iter().sum::<i64>();
            known += 1;
        }
        cursor.0 = Some((known, total));
        let interval = self.interval_s(point) * 1_000_000;
        let into_day = until.micros().rem_euclid(DAY_S * 1_000_000);
        let slots = self.use_of_day(point, day);
        let slot = usize::try_from(into_day / interval).unwrap_or(0).min(slots.len() - 1);
        let before: i64 = slots[..slot].iter().sum();
        let part = i128::from(slots[slot]) * 1000 * i128::from(into_day % interval) / i128::from(interval);
        (total + before) * 1000 + i64::try_from(part).unwrap_or(0)
    }

    /// The true register at an instant, in 0.001 of the unit, with the meter that shows it.
    pub fn register_milli<'p>(&self, point: &'p Point, at: Timestamp) -> Option<(&'p Mount, i64)> {
        let mount = point.mount_at(at)?;
        Some((mount, mount.register_milli(self.total_micros(point, at) / 1000)))
    }

    /// All values at an instant as [`Point::channels`] names them, with the meter that shows them.
    pub fn values_at<'p>(&self, point: &'p Point, at: Timestamp) -> Option<(&'p Mount, Vec<i64>)> {
        self.values_with(&mut Cursor::default(), point, at)
    }

    /// As [`Self::values_at`], going on from the day that `cursor` remembers.
    pub(crate) fn values_with<'p>(
        &self,
        cursor: &mut Cursor,
        point: &'p Point,
        at: Timestamp,
    ) -> Option<(&'p Mount, Vec<i64>)> {
        let mount = point.mount_at(at)?;
        let register = mount.register_milli(self.total_with(cursor, point, at) / 1000);
        let day = at.unix_seconds().div_euclid(DAY_S);
        let slot = usize::try_from(at.unix_seconds().rem_euclid(DAY_S) / self.interval_s(point)).unwrap_or(0);
        let used = self.use_of_day(point, day)[slot];
        let volts = if point.place.commodity == Commodity::Electricity {
            self.voltage_of_day(point, day)[slot]
        } else {
            [0; 3]
        };
        Some((mount, self.values(point, register, used, volts)))
    }

    /// The reading of a slot: register, then what else the class shows.
    pub(crate) fn values(&self, point: &Point, register: i64, used: i64, volts: [i64; 3]) -> Vec<i64> {
        let mut values = Vec::with_capacity(point.channels.len());
        values.push(register);
        if point.place.commodity == Commodity::Electricity {
            values.extend_from_slice(&volts[..phases(point.class)]);
            // Wh in a slot to W, which is 0.001 kW.
            values.push(used * 3600 / self.interval_s(point));
        }
        values
    }

    /// The readings of a UTC day whose time lies in `[from, to)`, in order of time: meter, time, values. `total_milli`
    /// is what the place had used before the day, and is moved on by the day's use.
    pub(crate) fn readings_of_day(
        &self,
        point: &Point,
        day: i64,
        within: Window,
        total_milli: &mut i64,
        mut take: impl FnMut(&Mount, Timestamp, Vec<i64>),
    ) {
        let used = self.use_of_day(point, day);
        let volts = match point.place.commodity {
            Commodity::Electricity => self.voltage_of_day(point, day),
            Commodity::Water => Vec::new(),
        };
        let times = (day * DAY_S..).step_by(step(self.interval_s(point)));
        for (slot, (at, used)) in times.zip(used).enumerate() {
            if let Ok(ts) = Timestamp::from_unix_seconds(at)
                && within.contains(ts)
                && let Some(mount) = point.mount_at(ts)
            {
                let volts = volts.get(slot).copied().unwrap_or_default();
                take(mount, ts, self.values(point, mount.register_milli(*total_milli), used, volts));
            }
            *total_milli += used;
        }
    }

    /// Hangs the new meters of exchanges, whose registers need the use before them.
    fn exchange_meters(&mut self) -> Result<(), SimError> {
        for index in 0..self.points.len() {
            let mut exchanges: Vec<_> = self.points[index]
                .faults
                .iter()
                .filter_map(|fault| match fault {
                    Fault::Exchange { at, new_register_milli, .. } => Some((*at, *new_register_milli)),
                    _ => None,
                })
                .collect();
            exchanges.sort_unstable();
            for (at, register) in exchanges {
                let total = self.total_micros(&self.points[index], at) / 1000;
                self.points[index].exchange(at, register, total)?;
            }
        }
        Ok(())
    }
}

/// Seconds of a slot as a step.
fn step(interval_s: i64) -> usize {
    usize::try_from(interval_s).unwrap_or(1).max(1)
}
