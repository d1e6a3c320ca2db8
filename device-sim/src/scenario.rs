//! What goes wrong, where and when: placed by hand or, from the seed, as a default mix on places of their own.

use std::time::Duration;

use meterlake_model::{Commodity, Timestamp};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::error::SimError;
use crate::plan::{FleetPlan, Link, METERS_PER_TRANSFORMER, PointRef};
use crate::random;

/// A half-open time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
}

impl Window {
    /// From `from`, for some hours.
    pub fn hours(from: Timestamp, hours: i64) -> Self {
        Self { from, to: from.plus_seconds(hours * 3600) }
    }

    /// Whether the instant lies in it.
    pub fn contains(self, ts: Timestamp) -> bool {
        self.from <= ts && ts < self.to
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Water runs all the time. An alert is due when it lasts.
    Leak {
        /// Where.
        point: PointRef,
        /// Litres an hour.
        litres_per_hour: u32,
        /// When.
        window: Window,
    },
    /// The voltage of every meter of a transformer falls.
    TransformerSag {
        /// Number of the transformer, from 0.
        transformer: usize,
        /// How far, in 0.1 V.
        drop_dv: i64,
        /// When.
        window: Window,
    },
    /// The voltage of one meter falls.
    MeterSag {
        /// Where.
        point: PointRef,
        /// How far, in 0.1 V.
        drop_dv: i64,
        /// When.
        window: Window,
    },
    /// The readings of these times are never sent.
    Gap {
        /// Where.
        point: PointRef,
        /// Times of the readings.
        window: Window,
    },
    /// The readings of these times are sent twice.
    Duplicate {
        /// Where.
        point: PointRef,
        /// Times of the readings.
        window: Window,
    },
    /// The readings of these times are sent some days late, or at the end of history.
    Late {
        /// Where.
        point: PointRef,
        /// Times of the readings.
        window: Window,
        /// How late.
        days: u16,
    },
    /// The readings of these times are sent newest first, day by day.
    OutOfOrder {
        /// Where.
        point: PointRef,
        /// Times of the readings.
        window: Window,
    },
    /// The reading of one time is sent again with a register that differs.
    Conflict {
        /// Where.
        point: PointRef,
        /// Time of the reading, on the grid.
        at: Timestamp,
        /// What is added to the register, in 0.001 of its unit.
        add_milli: i64,
    },
    /// The readings of these times come under field names that nobody knows yet, one a message.
    OldFirmware {
        /// Where.
        point: PointRef,
        /// Times of the readings.
        window: Window,
    },
    /// The meter is replaced by another one.
    Exchange {
        /// Where.
        point: PointRef,
        /// When, on the grid.
        at: Timestamp,
        /// Register of the new meter, in 0.001 of its unit.
        new_register_milli: i64,
    },
    /// The register begins so near its end that it wraps.
    Rollover {
        /// Where.
        point: PointRef,
        /// What is left until it wraps, in 0.001 of its unit.
        left_milli: i64,
    },
    /// A Modbus device never answers.
    Dead {
        /// Which.
        point: PointRef,
    },
    /// A Modbus device answers late.
    Slow {
        /// Which.
        point: PointRef,
        /// How late.
        delay: Duration,
    },
}

impl Fault {
    /// The usage point that it strikes, if it is one.
    pub fn point(&self) -> Option<PointRef> {
        match self {
            Self::TransformerSag { .. } => None,
            Self::Leak { point, .. }
            | Self::MeterSag { point, .. }
            | Self::Gap { point, .. }
            | Self::Duplicate { point, .. }
            | Self::Late { point, .. }
            | Self::OutOfOrder { point, .. }
            | Self::Conflict { point, .. }
            | Self::OldFirmware { point, .. }
            | Self::Exchange { point, .. }
            | Self::Rollover { point, .. }
            | Self::Dead { point }
            | Self::Slow { point, .. } => Some(*point),
        }
    }
}

/// All that goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scenario {
    /// One by one.
    pub faults: Vec<Fault>,
    /// Broken messages that are sent besides, per million messages of the good ones.
    pub malformed_ppm: u32,
}

impl Scenario {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// A mix from the plan's seed: each fault on a usage point of its own, as many as the fleet has room for, and 1 % of
    /// broken messages. Leaks last five days or longer and sags two hours or longer, so that the rules' dwell passes;
    /// nothing is missing or contradicted where one billing cycle turns to the next, so that billed registers can be
    /// compared to the last digit.
    pub fn defaults(plan: &FleetPlan) -> Self {
        let mut rng = random::of_scenario(plan.seed);
        let history_h = plan.to.micros_since(plan.from) / 3_600_000_000;
        let mut faults = Vec::new();
        let mut electricity = shuffled(plan, Commodity::Electricity, Link::Mqtt, &mut rng);
        let mut water = shuffled(plan, Commodity::Water, Link::Mqtt, &mut rng);
        // A window of so many hours somewhere in the middle of history, on the hour.
        let mut window = |hours: i64| {
            let room = (history_h - hours - 48).max(0);
            Window::hours(plan.from.plus_seconds((24 + rng.random_range(0..=room)) * 3600), hours)
        };

        let scale = |share: usize, n: usize| n.div_ceil(share).min(n / 8);
        for nth in 0..scale(25, water.len()) {
            let Some(point) = water.pop() else { break };
            let litres_per_hour = [4, 7, 12, 25, 60][nth % 5];
            let hours = (120 + 24 * i64::try_from(nth % 6).unwrap_or(0)).min(history_h / 2);
            faults.push(Fault::Leak { point, litres_per_hour, window: window(hours) });
        }
        let transformers = plan.electricity_mqtt / METERS_PER_TRANSFORMER;
        if transformers >= 4 {
            faults.push(Fault::TransformerSag { transformer: 1, drop_dv: 420, window: window(3) });
        }
        // The sagging transformer's own meters take no second sag.
        let apart = |p: &PointRef| transformers < 4 || p.number / METERS_PER_TRANSFORMER != 1;
        for nth in 0..scale(60, electricity.len()) {
            let Some(at) = electricity.iter().rposition(apart) else { break };
            let point = electricity.remove(at);
            faults.push(Fault::MeterSag { point, drop_dv: [380, 450, 600][nth % 3], window: window(2) });
        }
        for points in [&mut electricity, &mut water] {
            for nth in 0..scale(60, points.len()) {
                let mut take = || points.pop();
                let (Some(gap), Some(duplicate), Some(late), Some(unordered), Some(conflict)) =
                    (take(), take(), take(), take(), take())
                else {
                    break;
                };
                let absent = inside_a_cycle(plan, window([6, 30, 75][nth % 3]));
                faults.push(Fault::Gap { point: gap, window: absent });
                faults.push(Fault::Duplicate { point: duplicate, window: window(48) });
                faults.push(Fault::Late { point: late, window: window(30), days: 3 });
                faults.push(Fault::OutOfOrder { point: unordered, window: window(48) });
                let at = inside_a_cycle(plan, window(1)).from;
                faults.push(Fault::Conflict { point: conflict, at, add_milli: 7 });
            }
            if let Some(point) = points.pop() {
                faults.push(Fault::Exchange { point, at: window(1).from, new_register_milli: 3_000 });
            }
            if let Some(point) = points.pop() {
                // About a week's use.
                let left_milli = if point.commodity == Commodity::Electricity { 70_000 } else { 1_500 };
                faults.push(Fault::Rollover { point, left_milli });
            }
        }
        if let Some(point) = electricity.pop() {
            faults.push(Fault::OldFirmware { point, window: inside_a_cycle(plan, window(3)) });
        }
        if plan.electricity_modbus > 1 {
            let point = PointRef::electricity_modbus(plan.electricity_modbus - 1);
            faults.push(Fault::Dead { point });
        }
        Self { faults, malformed_ppm: 10_000 }
    }

    /// Whether the scenario fits the plan.
    ///
    /// # Errors
    /// When a fault names a usage point or transformer that is not there, a leak is not at a water meter, a sag not at an
    /// electricity meter, a message fault at a Modbus meter, or an exchange or conflict off the grid.
    pub fn check(&self, plan: &FleetPlan) -> Result<(), SimError> {
        for fault in &self.faults {
            check_fault(fault, plan).map_err(|why| SimError::Plan(format!("{why}: {fault:?}")))?;
        }
        if self.malformed_ppm > 1_000_000 {
            return Err(SimError::Plan(format!("{} of a million messages cannot be broken", self.malformed_ppm)));
        }
        Ok(())
    }
}

/// The window, moved behind the turn of a billing cycle that it touches, or before it where history ends too soon.
fn inside_a_cycle(plan: &FleetPlan, window: Window) -> Window {
    let length = window.to.micros_since(window.from) / 1_000_000;
    let day = plan.zone.day_of(window.from.plus_seconds(-3600));
    let turn = day.first_of_month().plus_days(i32::from(plan.billing_day) - 1);
    let next = if turn > day { turn } else { turn.plus_months(1) };
    let turn = plan.zone.start_of_day(next);
    if turn >= window.to.plus_seconds(3600) {
        return window;
    }
    // On the hour, as all windows are.
    let behind = turn.plus_seconds(7200);
    let from = if behind.plus_seconds(length) <= plan.to { behind } else { turn.plus_seconds(-7200 - length) };
    Window { from, to: from.plus_seconds(length) }
}

fn check_fault(fault: &Fault, plan: &FleetPlan) -> Result<(), &'static str> {
    let Some(point) = fault.point() else {
        let Fault::TransformerSag { transformer, .. } = fault else { return Ok(()) };
        let electricity = plan.electricity_mqtt + plan.electricity_modbus;
        let there = transformer * METERS_PER_TRANSFORMER < electricity;
        return if there { Ok(()) } else { Err("no such transformer") };
    };
    if point.number >= plan.count(point.commodity, point.link) {
        return Err("no such usage point");
    }
    let on_grid = |ts: Timestamp| ts.micros().rem_euclid(plan.interval_s(point.commodity) * 1_000_000) == 0;
    match fault {
        Fault::Leak { .. } if point.commodity != Commodity::Water => Err("a leak needs water"),
        Fault::MeterSag { .. } if point.commodity != Commodity::Electricity => Err("a sag needs electricity"),
        Fault::Dead { .. } | Fault::Slow { .. } if point.link != Link::Modbus => Err("only a Modbus device is asked"),
        Fault::Leak { .. } | Fault::MeterSag { .. } | Fault::Dead { .. } | Fault::Slow { .. } => Ok(()),
        _ if point.link != Link::Mqtt => Err("only an MQTT meter sends messages"),
        Fault::Exchange { at, .. } | Fault::Conflict { at, .. } if !on_grid(*at) => Err("not a time of a reading"),
        Fault::Exchange { at, .. } if *at <= plan.from => Err("the exchange comes before the first reading"),
        _ => Ok(()),
    }
}

fn shuffled(plan: &FleetPlan, commodity: Commodity, link: Link, rng: &mut impl Rng) -> Vec<PointRef> {
    let mut points: Vec<_> =
        (0..plan.count(commodity, link)).map(|number| PointRef { commodity, link, number }).collect();
    // The first water meter is the hospital's, which uses water at all hours: no faults there.
    points.retain(|p| !(p.commodity == Commodity::Water && p.number == 0));
    points.shuffle(rng);
    points
}
