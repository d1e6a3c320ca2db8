//! The past of all MQTT meters as messages, day by day, with what the scenario does to them. Only one day is held, and
//! what is still to come late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use meterlake_model::Timestamp;
use rand::Rng;

use crate::json;
use crate::load::DAY_S;
use crate::malformed;
use crate::message::{Malformed, Message, MessageForm, MessageKind, Rows};
use crate::plan::Link;
use crate::point::Point;
use crate::random::{self, Purpose};
use crate::scenario::Window;
use crate::simulation::Simulation;
use crate::truth::Fate;

/// Topic of a meter's readings.
pub fn topic(meter_id: &str) -> Arc<str> {
    format!("meterlake/v1/{meter_id}/readings").into()
}

/// One message of some readings of one meter. A single takes the first row only.
pub fn message(kind: MessageKind, form: MessageForm, rows: Rows) -> Message {
    let payload = match (kind, form) {
        (MessageKind::OldFirmware, _) => json::old_firmware(&rows),
        (_, MessageForm::Frames) => json::frame(&rows),
        (_, MessageForm::Singles) => json::single(&rows),
    };
    Message { topic: topic(rows.meter_id.as_str()), payload: Bytes::from(payload), kind, rows }
}

/// History as an iterator over messages, in the order in which they are sent.
#[derive(Debug)]
pub struct History {
    simulation: Arc<Simulation>,
    form: MessageForm,
    window: Window,
    /// The next UTC day, counted from 1970, and the last.
    day: i64,
    last_day: i64,
    /// Next usage point of the day.
    point: usize,
    /// By usage point, what was used before the day.
    totals: Vec<i64>,
    ready: VecDeque<Message>,
    /// By the day on which they come.
    late: BTreeMap<i64, Vec<Message>>,
    malformed: usize,
}

impl History {
    /// All of the plan's history.
    pub fn new(simulation: Arc<Simulation>, form: MessageForm) -> Self {
        let plan = simulation.plan();
        let window = Window { from: plan.from, to: plan.to };
        Self {
            form,
            window,
            day: plan.from.unix_seconds().div_euclid(DAY_S),
            last_day: plan.to.plus_micros(-1).unix_seconds().div_euclid(DAY_S),
            point: 0,
            totals: vec![0; simulation.points().len()],
            ready: VecDeque::new(),
            late: BTreeMap::new(),
            malformed: 0,
            simulation,
        }
    }

    /// Queues the messages of one meter's day.
    fn point_day(&mut self, index: usize) {
        let simulation = Arc::clone(&self.simulation);
        let point = &simulation.points()[index];
        let mut rng = random::of_day(simulation.plan().seed, Purpose::Messages, index, self.day);
        let mut day = Day::default();
        simulation.readings_of_day(point, self.day, self.window, &mut self.totals[index], |mount, ts, values| {
            day.add(point, &mount.meter_id, ts, &values);
        });

        let mut fresh = singles_or_frames(day.fresh, self.form);
        if day.unordered {
            fresh.reverse();
            fresh.iter_mut().for_each(newest_first);
        }
        let ppm = simulation.scenario().malformed_ppm;
        for rows in fresh {
            if ppm > 0 && rng.random_range(0..1_000_000) < ppm {
                let kind = Malformed::ALL[self.malformed % Malformed::ALL.len()];
                self.malformed += 1;
                self.ready.push_back(malformed::message(kind, &rows));
            }
            self.ready.push_back(message(MessageKind::Fresh, self.form, rows));
        }
        for (kind, rows) in [(MessageKind::Repeat, day.repeated), (MessageKind::Conflict, day.conflicting)] {
            for rows in singles_or_frames(rows, self.form) {
                self.ready.push_back(message(kind, self.form, rows));
            }
        }
        for rows in singles_or_frames(day.old_firmware, MessageForm::Singles) {
            self.ready.push_back(message(MessageKind::OldFirmware, MessageForm::Singles, rows));
        }
        for (days, rows) in day.late {
            let due = self.late.entry(self.day + i64::from(days)).or_default();
            for rows in singles_or_frames(rows, self.form) {
                due.push(message(MessageKind::Fresh, self.form, rows));
            }
        }
    }
}

impl Iterator for History {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.day > self.last_day {
                // What was to come after the end comes now.
                let (_, messages) = self.late.pop_first()?;
                self.ready.extend(messages);
                continue;
            }
            if self.point >= self.simulation.points().len() {
                self.ready.extend(self.late.remove(&self.day).unwrap_or_default());
                self.point = 0;
                self.day += 1;
                continue;
            }
            let index = self.point;
            self.point += 1;
            if self.simulation.points()[index].place.link == Link::Mqtt {
                self.point_day(index);
            }
        }
    }
}

/// The readings of one meter's day by what becomes of them.
#[derive(Default)]
struct Day {
    fresh: Vec<Rows>,
    repeated: Vec<Rows>,
    conflicting: Vec<Rows>,
    old_firmware: Vec<Rows>,
    late: BTreeMap<u16, Vec<Rows>>,
    unordered: bool,
}

impl Day {
    fn add(&mut self, point: &Point, meter_id: &meterlake_model::MeterId, ts: Timestamp, values: &[i64]) {
        let push = |all: &mut Vec<Rows>, values: &[i64]| match all.last_mut() {
            Some(rows) if rows.meter_id == *meter_id => rows.push(ts, values),
            _ => {
                let mut rows = Rows::new(meter_id.clone(), Arc::clone(&point.channels));
                rows.push(ts, values);
                all.push(rows);
            }
        };
        let (twice, days_late, unordered, conflict) = match Fate::of(point, ts) {
            Fate::Never => return,
            Fate::OldFirmware => return push(&mut self.old_firmware, values),
            Fate::Sent { twice, days_late, unordered, conflict } => (twice, days_late, unordered, conflict),
        };
        self.unordered |= unordered;
        match days_late {
            0 => push(&mut self.fresh, values),
            days => push(self.late.entry(days).or_default(), values),
        }
        if twice {
            push(&mut self.repeated, values);
        }
        if let Some(add) = conflict {
            let mut other = values.to_vec();
            other[0] += add;
            push(&mut self.conflicting, &other);
        }
    }
}

fn singles_or_frames(frames: Vec<Rows>, form: MessageForm) -> Vec<Rows> {
    match form {
        MessageForm::Frames => frames,
        MessageForm::Singles => frames.iter().flat_map(split).collect(),
    }
}

/// One row each.
pub(crate) fn split(rows: &Rows) -> impl Iterator<Item = Rows> {
    rows.iter().map(|(ts, values)| Rows {
        meter_id: rows.meter_id.clone(),
        channels: Arc::clone(&rows.channels),
        times: vec![ts],
        values: values.to_vec(),
    })
}

fn newest_first(rows: &mut Rows) {
    let width = rows.channels.len();
    rows.times.reverse();
    rows.values = rows.values.chunks(width).rev().flatten().copied().collect();
}

#[cfg(test)]
mod tests;
