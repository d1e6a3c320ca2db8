//! Meters and their broker: messages that come fresh, late, twice and in contradiction, until they are acknowledged.

use std::collections::VecDeque;

use meterlake_model::ledger::Ledger;
use meterlake_model::{
    Channel, Commodity, DeadLetter, DeadReason, EventKind, MeterEvent, MeterId, RawMessage, ReadingBatch, ReadingFlags,
    RowHeader, Timestamp,
};

use super::random::Random;

/// 2026-10-31T22:00:00Z, so that months change on the way.
pub(crate) const START_S: i64 = 1_793_484_000;
const METERS: usize = 6;
const SLOT_S: i64 = 900;

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Reading { meter: String, ts_s: i64, commodity: Commodity, values: Vec<(Channel, i64)> },
    Event { meter: String, ts_s: i64, detail: String },
    Unreadable(u64),
}

/// A message with its number.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) said: Said,
}

impl Message {
    /// As a collector decodes it.
    pub(crate) fn decode(&self) -> ReadingBatch {
        let mut batch = ReadingBatch::default();
        let raw = RawMessage {
            source: "mqtt/sim".into(),
            topic: "meters/x".into(),
            payload: self.number.to_le_bytes().to_vec(),
            received_at_s: START_S,
        };
        match &self.said {
            Said::Reading { meter, ts_s, commodity, values } => {
                let header = RowHeader {
                    meter_id: MeterId::new(meter).unwrap(),
                    ts: Timestamp::from_unix_seconds(*ts_s).unwrap(),
                    received_at_s: ts_s + 1,
                    source: "mqtt/sim".into(),
                    profile: "sim@1".into(),
                    flags: ReadingFlags::NONE,
                };
                batch.rows_mut(*commodity).push(header, values);
                batch.raw.push(raw);
            }
            Said::Event { meter, ts_s, detail } => batch.events.push(MeterEvent {
                meter_id: MeterId::new(meter).unwrap(),
                ts: Timestamp::from_unix_seconds(*ts_s).unwrap(),
                kind: EventKind::Tamper,
                detail: detail.as_str().into(),
                received_at_s: ts_s + 1,
                source: "mqtt/sim".into(),
            }),
            Said::Unreadable(_) => batch.dead_letters.push(DeadLetter {
                reason: DeadReason::Syntax,
                detail: "no number".into(),
                message: raw,
                decoder: "sim@1".into(),
            }),
        }
        batch
    }

    fn note(&self, ledger: &mut Ledger, acknowledged: bool) {
        if let Said::Reading { meter, ts_s, values, .. } = &self.said {
            let (meter, ts) = (MeterId::new(meter).unwrap(), Timestamp::from_unix_seconds(*ts_s).unwrap());
            for (channel, value) in values {
                ledger.note(&meter, ts, *channel, *value, acknowledged);
            }
        }
    }
}

/// The broker: keeps every message until the collector acknowledges it, and sends it again after a break.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    waiting: VecDeque<Message>,
    in_flight: Vec<Message>,
    /// Everything said and acknowledged, readings.
    pub(crate) ledger: Ledger,
    /// The others that were said, and those that were acknowledged.
    pub(crate) others: Vec<Message>,
    pub(crate) acknowledged: Vec<Message>,
    next: u64,
    slot: i64,
    history: Vec<Message>,
}

impl Broker {
    /// Meters say something.
    pub(crate) fn publish(&mut self, random: &mut Random) {
        self.slot += 1;
        for _ in 0..=random.below(METERS * 2) {
            let said = self.invent(random);
            let message = Message { number: self.next, said };
            self.next += 1;
            message.note(&mut self.ledger, false);
            if !matches!(message.said, Said::Reading { .. }) {
                self.others.push(message.clone());
            }
            self.history.push(message.clone());
            self.waiting.push_back(message);
        }
    }

    fn invent(&mut self, random: &mut Random) -> Said {
        let number = random.below(METERS);
        let meter = format!("m{number}");
        let late = if random.per_mille(150) { i64::try_from(random.below(40)).unwrap() } else { 0 };
        let ts_s = START_S + (self.slot - late) * SLOT_S;
        match random.below(100) {
            0..=3 => Said::Unreadable(self.next),
            4..=7 => Said::Event { meter, ts_s, detail: random.below(2).to_string() },
            // The same again.
            8..=17 if !self.history.is_empty() => self.history[random.below(self.history.len())].said.clone(),
            // In contradiction: the first value differs, the others are equal.
            18..=22 if !self.history.is_empty() => {
                let mut said = self.history[random.below(self.history.len())].said.clone();
                if let Said::Reading { ts_s, values, .. } = &mut said {
                    values[0].1 = *ts_s % 10_007 + 1;
                }
                said
            }
            _ => reading(meter, ts_s, number, random),
        }
    }

    /// The next messages of the session.
    pub(crate) fn receive(&mut self, most: usize) -> Vec<Message> {
        let count = most.min(self.waiting.len());
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.in_flight.extend(taken.iter().cloned());
        taken
    }

    /// The collector has made it durable.
    pub(crate) fn acknowledge(&mut self, number: u64) {
        if let Some(at) = self.in_flight.iter().position(|m| m.number == number) {
            let message = self.in_flight.remove(at);
            message.note(&mut self.ledger, true);
            self.acknowledged.push(message);
        }
    }

    /// The session breaks: what was not acknowledged comes again, before the rest.
    pub(crate) fn reconnect(&mut self) {
        for message in self.in_flight.drain(..).rev() {
            self.waiting.push_front(message);
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

/// A reading: the same meter and time always say the same. Some meters send registers and the rest apart.
fn reading(meter: String, ts_s: i64, number: usize, random: &mut Random) -> Said {
    let channel = |name| Channel::by_name(name).unwrap();
    let register = ts_s % 10_007;
    if number == METERS - 1 {
        return Said::Reading {
            meter,
            ts_s,
            commodity: Commodity::Water,
            values: vec![(channel("volume_m3"), register)],
        };
    }
    let energy = (channel("energy_import_kwh"), register);
    let voltage = (channel("voltage_l1_v"), 2300 + ts_s % 17);
    let values = if number.is_multiple_of(2) {
        vec![energy, voltage]
    } else if random.per_mille(500) {
        vec![energy]
    } else {
        vec![voltage]
    };
    Said::Reading { meter, ts_s, commodity: Commodity::Electricity, values }
}
