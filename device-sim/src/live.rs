//! The present: every MQTT meter sends one reading a message at each tick of the wall clock, faults included.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream;
use meterlake_model::{Commodity, Timestamp};

use crate::error::SimError;
use crate::history::message;
use crate::malformed;
use crate::message::{Malformed, Message, MessageForm, MessageKind, Rows};
use crate::plan::Link;
use crate::random::{self, Purpose};
use crate::simulation::{Cursor, Simulation};
use crate::truth::Fate;

/// How the present goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePlan {
    /// Time of the first readings; on the grid of `step_s`. What lies in the past is sent at once.
    pub from: Timestamp,
    /// Seconds between readings of every meter; `None`: each meter's own interval.
    pub step_s: Option<i64>,
}

/// Messages of every MQTT meter from `plan.from` on, for ever, each batch when its time has come.
///
/// # Errors
/// When the step does not divide a day.
pub fn live(
    simulation: Arc<Simulation>,
    plan: LivePlan,
) -> Result<impl Stream<Item = Message> + Send + use<>, SimError> {
    let steps = Commodity::ALL.map(|c| plan.step_s.unwrap_or(simulation.plan().interval_s(c)));
    if let Some(step) = steps.iter().find(|s| **s < 1 || 86_400 % **s != 0) {
        return Err(SimError::Plan(format!("a step of {step} s does not divide a day")));
    }
    let cursors = vec![Cursor::default(); simulation.points().len()];
    let state = Live { simulation, steps, at: plan.from, cursors, malformed: 0, ready: Vec::new() };
    Ok(stream::unfold(state, |mut live| async move {
        loop {
            if let Some(message) = live.ready.pop() {
                return Some((message, live));
            }
            let wait = live.at.micros_since(Timestamp::now());
            if let Ok(micros @ 1..) = u64::try_from(wait) {
                tokio::time::sleep(Duration::from_micros(micros)).await;
                // The timer may come early by the clock's own measure.
                continue;
            }
            live.tick();
        }
    }))
}

struct Live {
    simulation: Arc<Simulation>,
    /// Of electricity and water.
    steps: [i64; 2],
    /// Time of the next readings.
    at: Timestamp,
    cursors: Vec<Cursor>,
    malformed: usize,
    /// Last first.
    ready: Vec<Message>,
}

impl Live {
    /// All messages of one time, and moves on to the next.
    fn tick(&mut self) {
        let simulation = Arc::clone(&self.simulation);
        let second = self.at.unix_seconds();
        for point in simulation.points().iter().filter(|p| p.place.link == Link::Mqtt) {
            let step = self.steps[usize::from(point.place.commodity == Commodity::Water)];
            if second.rem_euclid(step) != 0 {
                continue;
            }
            let cursor = &mut self.cursors[point.index];
            let Some((mount, values)) = simulation.values_with(cursor, point, self.at) else { continue };
            let mut rows = Rows::new(mount.meter_id.clone(), Arc::clone(&point.channels));
            rows.push(self.at, &values);
            self.send(Fate::of(point, self.at), point.index, rows);
        }
        self.ready.reverse();
        let step = self.steps.iter().map(|s| s - second.rem_euclid(*s)).min().unwrap_or(1);
        self.at = self.at.plus_seconds(step);
    }

    fn send(&mut self, fate: Fate, index: usize, rows: Rows) {
        use rand::Rng;
        let plan = self.simulation.plan();
        let single = |kind, rows| message(kind, MessageForm::Singles, rows);
        let (twice, conflict) = match fate {
            Fate::Never => return,
            Fate::OldFirmware => return self.ready.push(single(MessageKind::OldFirmware, rows)),
            Fate::Sent { twice, conflict, .. } => (twice, conflict),
        };
        let mut rng = random::of_day(plan.seed, Purpose::Messages, index, self.at.unix_seconds());
        let ppm = self.simulation.scenario().malformed_ppm;
        if ppm > 0 && rng.random_range(0..1_000_000) < ppm {
            let kind = Malformed::ALL[self.malformed % Malformed::ALL.len()];
            self.malformed += 1;
            self.ready.push(malformed::message(kind, &rows));
        }
        if twice {
            self.ready.push(single(MessageKind::Repeat, rows.clone()));
        }
        if let Some(add) = conflict {
            let mut other = rows.clone();
            other.values[0] += add;
            self.ready.push(single(MessageKind::Conflict, other));
        }
        self.ready.push(single(MessageKind::Fresh, rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FleetPlan;
    use crate::scenario::Scenario;
    use futures::StreamExt;

    #[tokio::test]
    async fn what_is_past_comes_at_once_and_goes_on_where_history_ends() {
        let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
        let mut plan = FleetPlan::new(3, from, from.plus_seconds(3600));
        (plan.electricity_mqtt, plan.water_mqtt) = (2, 1);
        let to = plan.to;
        let simulation = Arc::new(Simulation::new(plan, Scenario::none()).unwrap());
        let stream = live(Arc::clone(&simulation), LivePlan { from: to, step_s: None }).unwrap();
        let messages: Vec<_> = stream.take(5 + 6).collect().await;
        let seen: Vec<_> =
            messages.iter().map(|m| (m.rows.meter_id.as_str(), m.rows.times[0].micros_since(to) / 1_000_000)).collect();
        assert_eq!(
            seen[..5],
            [("E-000001", 0), ("E-000002", 0), ("W-000001", 0), ("E-000001", 900), ("E-000002", 900)]
        );
        for message in &messages {
            let point = simulation.points().iter().find(|p| p.mounts[0].meter_id == message.rows.meter_id).unwrap();
            let (_, register) = simulation.register_milli(point, message.rows.times[0]).unwrap();
            assert_eq!(message.rows.values[0], register);
        }
    }

    #[test]
    fn a_step_that_does_not_divide_a_day_is_refused() {
        let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
        let simulation = Arc::new(Simulation::new(FleetPlan::new(3, from, from), Scenario::none()).unwrap());
        assert!(live(simulation, LivePlan { from, step_s: Some(7000) }).is_err());
    }
}
