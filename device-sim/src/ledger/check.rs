//! Compares a ledger with what a table holds.

use std::collections::{HashMap, HashSet};
use std::fmt;

use meterlake_model::{Channel, MeterId, Timestamp};

use super::read::{Key, LedgerContents};

/// Examples of each kind of fault that are kept; all are counted.
const EXAMPLES: usize = 20;

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
    /// Values that the broker acknowledged.
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

/// Compares every value of a table with the ledger: acknowledged \ table = ∅, no value twice, table \ sent = ∅, values
/// equal. Of a reading that was contradicted the table holds both rows whole, so each of its values once a row.
pub fn check(ledger: &LedgerContents, table: impl IntoIterator<Item = TableValue>) -> Checked {
    let mut checked = Checked::default();
    let mut met = Met::default();
    for value in table {
        checked.in_table += 1;
        let key = ledger.meters.get(&value.meter_id).map(|meter| (*meter, value.ts, value.channel));
        let Some((key, sent)) = key.and_then(|key| Some((key, ledger.values.get(&key)?))) else {
            checked.invented.add(value);
            continue;
        };
        let others = ledger.others.get(&key).map_or(&[][..], Vec::as_slice);
        if sent.value != value.value && others.iter().all(|o| o.value != value.value) {
            checked.differing.add(value);
        } else if met.count(key, value.value, !others.is_empty()) > ledger.rows_at(key.0, key.1) {
            checked.doubled.add(value);
        }
    }
    let names: HashMap<u32, &MeterId> = ledger.meters.iter().map(|(id, number)| (*number, id)).collect();
    let others = ledger.others.iter().flat_map(|(key, others)| others.iter().map(move |o| (key, o)));
    for (key, sent) in ledger.values.iter().chain(others).filter(|(_, sent)| sent.acknowledged) {
        checked.acknowledged += 1;
        if !met.has(*key, sent.value, ledger.others.contains_key(key))
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
