//! Reads a ledger back.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use meterlake_model::ledger::{Checked, Ledger, TableValue};
use meterlake_model::{Channel, MeterId, Timestamp};

use super::HEADER;
use crate::error::SimError;

/// Key of a value.
type Key = (MeterId, Timestamp, Channel);

/// What a ledger says, by meter, time and channel.
#[derive(Debug, Default, Clone)]
pub struct LedgerContents {
    said: Ledger,
    meters: HashSet<MeterId>,
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
        self.said.values()
    }

    /// Compares with what the tables hold, see [`Ledger::check`].
    pub fn check(&self, table: impl IntoIterator<Item = TableValue>) -> Checked {
        self.said.check(table)
    }

    fn take(&mut self, fact: &str, open: &mut Open) -> Result<(), String> {
        let mut fields = fact.split('\t');
        match fields.next() {
            Some("sent") => self.sent(fields, open),
            Some("acked") => {
                // Messages that nobody can read have no lines of their own.
                let Some(values) = open.remove(&number(fields.next())?) else { return Ok(()) };
                self.acknowledged += 1;
                for ((meter, ts, channel), value) in values {
                    self.said.note(&meter, ts, channel, value, true);
                }
                Ok(())
            }
            other => Err(format!("`{}` is no fact of a ledger", other.unwrap_or_default())),
        }
    }

    fn sent<'t>(&mut self, mut fields: impl Iterator<Item = &'t str>, open: &mut Open) -> Result<(), String> {
        let message = number(fields.next())?;
        let meter = fields.next().ok_or("no meter")?;
        let meter = self.meter(meter)?;
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
            keys.push(((meter.clone(), ts, channel), value));
        }
        entry.extend_from_slice(&keys);
        for ((meter, ts, channel), value) in keys {
            self.said.note(&meter, ts, channel, value, false);
        }
        Ok(())
    }

    /// The identifier, one shared text for each meter.
    fn meter(&mut self, text: &str) -> Result<MeterId, String> {
        if let Some(known) = self.meters.get(text) {
            return Ok(known.clone());
        }
        let meter = MeterId::new(text).map_err(|e| e.to_string())?;
        self.meters.insert(meter.clone());
        Ok(meter)
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
