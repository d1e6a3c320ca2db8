//! The ledger of what was said and acknowledged, and the one check of what was kept: nothing acknowledged is lost, nothing
//! is there twice, nothing is invented, every value is as it was said.
//!
//! Pure: who writes it down durably (`device-sim`) or simulates (`store`) brings the facts, and what the tables hold.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::channel::Channel;
use crate::id::MeterId;
use crate::time::Timestamp;

/// Examples of each kind of fault that are kept; all are counted.
const EXAMPLES: usize = 20;

/// One value that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    /// In units of 10^-scale of its channel.
    value: i64,
    /// Whether a message that said it was acknowledged.
    acknowledged: bool,
}

/// Key of a value: number of the meter in the ledger, time, channel.
type Key = (u32, Timestamp, Channel);

/// What was said, by meter, time and channel.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    meters: HashMap<MeterId, u32>,
    /// The first value under a key.
    values: HashMap<Key, Said>,
    /// Other values under the same keys: few.
    others: HashMap<Key, Vec<Said>>,
    /// How many different rows a meter said for one time, where there are several.
    rows: HashMap<(u32, Timestamp), u64>,
}

impl Ledger {
    /// Notes a value that was handed to the network, or that it was acknowledged. Either may be told several times.
    pub fn note(&mut self, meter: &MeterId, ts: Timestamp, channel: Channel, value: i64, acknowledged: bool) {
        let next = u32::try_from(self.meters.len()).unwrap_or(u32::MAX);
        let number = match self.meters.get(meter) {
            Some(known) => *known,
            None => *self.meters.entry(meter.clone()).or_insert(next),
        };
        let (key, said) = ((number, ts, channel), Said { value, acknowledged });
        let first = self.values.entry(key).or_insert(said);
        if first.value == value {
            first.acknowledged |= acknowledged;
            return;
        }
        let others = self.others.entry(key).or_default();
        match others.iter_mut().find(|o| o.value == value) {
            Some(known) => known.acknowledged |= acknowledged,
            None => {
                others.push(said);
                let rows = self.rows.entry((number, ts)).or_insert(1);
                *rows = (*rows).max(1 + others.len() as u64);
            }
        }
    }

    /// Different values that were said: conflicting ones under one key count each.
    pub fn values(&self) -> usize {
        self.values.len() + self.others.values().map(Vec::len).sum::<usize>()
    }

    /// How many different rows a meter said for one time.
    fn rows_at(&self, meter: u32, ts: Timestamp) -> u64 {
        self.rows.get(&(meter, ts)).copied().unwrap_or(1)
    }

    /// Compares every value of a table with the ledger: acknowledged \ table = ∅, no value twice, table \ sent = ∅, values
    /// equal. Of a reading that was contradicted the table holds both rows whole, so each of its values once a row.
    pub fn check(&self, table: impl IntoIterator<Item = TableValue>) -> Checked {
        let mut checked = Checked::default();
        let mut met = Met::default();
        for value in table {
            checked.in_table += 1;
            let key = self.meters.get(&value.meter_id).map(|meter| (*meter, value.ts, value.channel));
            let Some((key, sent)) = key.and_then(|key| Some((key, self.values.get(&key)?))) else {
                checked.invented.add(value);
                continue;
            };
            let others = self.others.get(&key).map_or(&[][..], Vec::as_slice);
            if sent.value != value.value && others.iter().all(|o| o.value != value.value) {
                checked.differing.add(value);
            } else if met.count(key, value.value, !others.is_empty()) > self.rows_at(key.0, key.1) {
                checked.doubled.add(value);
            }
        }
        let names: HashMap<u32, &MeterId> = self.meters.iter().map(|(id, number)| (*number, id)).collect();
        let others = self.others.iter().flat_map(|(key, others)| others.iter().map(move |o| (key, o)));
        for (key, sent) in self.values.iter().chain(others).filter(|(_, sent)| sent.acknowledged) {
            checked.acknowledged += 1;
            if !met.has(*key, sent.value, self.others.contains_key(key))
                && let Some(meter_id) = names.get(&key.0)
            {
                let (meter_id, ts, channel) = ((*meter_id).clone(), key.1, key.2);
                checked.lost.add(TableValue { meter_id, ts, channel, value: sent.value });
            }
        }
        for faults in [&mut checked.lost, &mut checked.doubled, &mut checked.invented, &mut checked.differing] {
            faults.examples.sort();
            faults.examples.truncate(EXAMPLES);
        }
        checked
    }
}

/// One value of one row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableValue {
    /// The meter.
    pub meter_id: MeterId,
    /// The meter's own time.
    pub ts: Timestamp,
    /// The column.
    pub channel: Channel,
    /// In units of 10^-scale of its channel.
    pub value: i64,
}

/// A value by its key, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyValue {
    /// The meter.
    pub meter_id: MeterId,
    /// The meter's own time.
    pub ts: Timestamp,
    /// The column.
    pub channel: Channel,
    /// The value in question, in units of 10^-scale of its channel.
    pub value: i64,
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} of 10^-{}", self.meter_id, self.ts, self.channel, self.value, self.channel.scale())
    }
}

/// Faults of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first of them in order of meter and time, at most 20.
    pub examples: Vec<KeyValue>,
}

/// What the comparison found. Values that were sent but not acknowledged may be in the table or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Values in the table.
    pub in_table: u64,
    /// Values that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged, but not in the table.
    pub lost: Faults,
    /// In the table more than once.
    pub doubled: Faults,
    /// In the table under a meter, time and channel that were never sent.
    pub invented: Faults,
    /// In the table with a value that was never sent under its meter, time and channel.
    pub differing: Faults,
}

impl Checked {
    /// Whether the table holds what it should.
    pub fn is_good(&self) -> bool {
        [&self.lost, &self.doubled, &self.invented, &self.differing].into_iter().all(|f| f.count == 0)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values acknowledged, {} in the table", self.acknowledged, self.in_table)?;
        for (name, faults) in [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("invented", &self.invented),
            ("differing", &self.differing),
        ] {
            write!(f, ", {} {name}", faults.count)?;
            if let Some(first) = faults.examples.first() {
                write!(f, " (first: {first})")?;
            }
        }
        Ok(())
    }
}

impl Faults {
    fn add(&mut self, value: TableValue) {
        self.count += 1;
        let TableValue { meter_id, ts, channel, value } = value;
        self.examples.push(KeyValue { meter_id, ts, channel, value });
        // The first in order are kept without holding all: a table that lost everything must not fill the memory.
        if self.examples.len() >= EXAMPLES * 64 {
            self.examples.sort();
            self.examples.truncate(EXAMPLES);
        }
    }
}

/// Values of the table that were met.
#[derive(Default)]
struct Met {
    /// How often anything under a key.
    times: HashMap<Key, u64>,
    /// Which values, where there are several.
    values: HashSet<(Key, i64)>,
}

impl Met {
    /// Counts a value and says how often its key was met by now.
    fn count(&mut self, key: Key, value: i64, several: bool) -> u64 {
        if several {
            self.values.insert((key, value));
        }
        let times = self.times.entry(key).or_insert(0);
        *times += 1;
        *times
    }

    fn has(&self, key: Key, value: i64, several: bool) -> bool {
        if several { self.values.contains(&(key, value)) } else { self.times.contains_key(&key) }
    }
}
