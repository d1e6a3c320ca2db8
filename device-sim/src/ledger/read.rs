//! Reads a ledger back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use meterlake_model::{Channel, MeterId, Timestamp};

use super::HEADER;
use crate::error::SimError;

/// One value that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentValue {
    /// In units of 10^-scale of its channel.
    pub value: i64,
    /// Whether the broker acknowledged a message that said it.
    pub acknowledged: bool,
}

/// Key of a value: number of the meter in the ledger, time, channel.
pub(super) type Key = (u32, Timestamp, Channel);

/// What a ledger says, by meter, time and channel.
#[derive(Debug, Default, Clone)]
pub struct LedgerContents {
    pub(super) meters: HashMap<MeterId, u32>,
    /// The first value under a key.
    pub(super) values: HashMap<Key, SentValue>,
    /// Other values under the same keys: few.
    pub(super) others: HashMap<Key, Vec<SentValue>>,
    /// How many different rows a meter sent for one time, where there are several.
    rows: HashMap<(u32, Timestamp), u64>,
    messages: u64,
    acknowledged: u64,
}

/// A message of the file: its number and the values under it, kept until it is acknowledged.
type Open = HashMap<u64, Vec<(Key, i64)>>;

impl LedgerContents {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be opened, is no ledger of this version, or a line but the last cannot be read.
    pub fn read(path: &Path) -> Result<Self, SimError> {
        let file = File::open(path).map_err(|e| SimError::io(format!("ledger {}", path.display()), e))?;
        let mut reader = BufReader::new(file);
        let mut contents = Self::default();
        let mut open = Open::new();
        let mut text = String::new();
        let mut line = 0;
        loop {
            text.clear();
            let length =
                reader.read_line(&mut text).map_err(|e| SimError::io(format!("ledger {}", path.display()), e))?;
            line += 1;
            // A line without its end was being written when the simulator died.
            let Some(fact) = text.strip_suffix('\n').filter(|_| length > 0) else { break };
            let taken = if line == 1 { header(fact) } else { contents.take(fact, &mut open) };
            taken.map_err(|message| SimError::BadLine { path: path.to_owned(), line, message })?;
        }
        if line == 1 {
            let message = "the file is empty".to_owned();
            return Err(SimError::BadLine { path: path.to_owned(), line, message });
        }
        Ok(contents)
    }

    /// Messages with readings that were handed to the network.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Of those, messages that the broker acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Different values that were sent: conflicting ones under one key count each.
    pub fn values(&self) -> usize {
        self.values.len() + self.others.values().map(Vec::len).sum::<usize>()
    }

    /// How many different rows a meter sent for one time.
    pub(super) fn rows_at(&self, meter: u32, ts: Timestamp) -> u64 {
        self.rows.get(&(meter, ts)).copied().unwrap_or(1)
    }

    fn take(&mut self, fact: &str, open: &mut Open) -> Result<(), String> {
        let mut fields = fact.split('\t');
        match fields.next() {
            Some("sent") => self.sent(fields, open),
            Some("acked") => {
                // Messages that nobody can read have no lines of their own.
                let Some(values) = open.remove(&number(fields.next())?) else { return Ok(()) };
                self.acknowledged += 1;
                for (key, value) in values {
                    self.note(key, SentValue { value, acknowledged: true });
                }
                Ok(())
            }
            other => Err(format!("`{}` is no fact of a ledger", other.unwrap_or_default())),
        }
    }

    fn sent<'t>(&mut self, mut fields: impl Iterator<Item = &'t str>, open: &mut Open) -> Result<(), String> {
        let message = number(fields.next())?;
        let meter = fields.next().ok_or("no meter")?;
        let next = u32::try_from(self.meters.len()).map_err(|_| "too many meters")?;
        let meter = match self.meters.get(meter) {
            Some(known) => *known,
            None => {
                self.meters.insert(MeterId::new(meter).map_err(|e| e.to_string())?, next);
                next
            }
        };
        let micros = fields.next().and_then(|f| f.parse().ok()).ok_or("no time")?;
        let ts = Timestamp::from_micros(micros).map_err(|e| e.to_string())?;
        let messages = &mut self.messages;
        let entry = open.entry(message).or_insert_with(|| {
            *messages += 1;
            Vec::new()
        });
        let mut keys = Vec::new();
        for field in fields {
            let (name, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is no value"))?;
            let channel = Channel::by_name(name).ok_or_else(|| format!("`{name}` is no channel"))?;
            let value = value.parse().map_err(|_| format!("`{value}` is no value of {name}"))?;
            keys.push(((meter, ts, channel), value));
        }
        entry.extend_from_slice(&keys);
        for (key, value) in keys {
            self.note(key, SentValue { value, acknowledged: false });
        }
        Ok(())
    }

    /// Adds a value under a key, or what is new about it.
    fn note(&mut self, key: Key, said: SentValue) {
        let first = self.values.entry(key).or_insert(said);
        if first.value == said.value {
            first.acknowledged |= said.acknowledged;
            return;
        }
        let others = self.others.entry(key).or_default();
        match others.iter_mut().find(|o| o.value == said.value) {
            Some(known) => known.acknowledged |= said.acknowledged,
            None => {
                others.push(said);
                let rows = self.rows.entry((key.0, key.1)).or_insert(1);
                *rows = (*rows).max(1 + others.len() as u64);
            }
        }
    }
}

fn header(fact: &str) -> Result<(), String> {
    if fact == HEADER { Ok(()) } else { Err(format!("`{fact}` does not begin a ledger of version 1")) }
}

fn number(field: Option<&str>) -> Result<u64, String> {
    field
        .and_then(|f| f.parse().ok())
        .ok_or_else(|| format!("`{}` is no number of a message", field.unwrap_or_default()))
}
