//! The ledger: what was sent and what the broker acknowledged, in a file of its own that outlives every crash of the
//! product. The checker in `meterlake_model::ledger` finds what was lost, doubled, invented or changed on the way.
//!
//! The file is text, one line a fact; between the fields is a tab (shown as a blank here):
//!
//! ```text
//! meterlake-ledger 1
//! sent 17 E-000001 1793491200000000 energy_import_kwh=123456 voltage_l1_v=2301
//! acked 17
//! ```
//!
//! Times are microseconds since 1970, values integers of the channel's scale. A message of many readings has one `sent`
//! line for each of them under the same number. A last line without its end was being written when the simulator died
//! and does not count: the message was not handed to the network before its lines were.

mod read;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use read::LedgerContents;

use crate::error::SimError;
use crate::message::{Message, MessageKind};

/// First line of every ledger.
const HEADER: &str = "meterlake-ledger\t1";

/// Writes a ledger. Each message's lines are handed to the system before the message may be sent, so that a kill of the
/// simulator leaves no message unrecorded; [`Ledger::sync`] makes them outlive the machine too.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    line: Vec<u8>,
    next: u64,
}

impl Ledger {
    /// Begins a new ledger; an existing file is replaced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, SimError> {
        let file = File::create(path).map_err(|e| SimError::io(format!("ledger {}", path.display()), e))?;
        let mut ledger = Self { file, path: path.to_owned(), line: Vec::new(), next: 0 };
        ledger.line.extend_from_slice(HEADER.as_bytes());
        ledger.line.push(b'\n');
        ledger.write()?;
        Ok(ledger)
    }

    /// Records a message that is about to be sent and gives it a number. A message that a collector cannot read has no
    /// lines.
    ///
    /// # Errors
    /// When the file cannot be written: the message must not be sent then.
    pub fn sent(&mut self, message: &Message) -> Result<u64, SimError> {
        let number = self.next;
        self.next += 1;
        if matches!(message.kind, MessageKind::Malformed(_) | MessageKind::OldFirmware) {
            return Ok(number);
        }
        for (ts, values) in message.rows.iter() {
            // Writing to a vector does not fail.
            let _ = write!(self.line, "sent\t{number}\t{}\t{}", message.rows.meter_id, ts.micros());
            for (channel, value) in message.rows.channels.iter().zip(values) {
                let _ = write!(self.line, "\t{}={value}", channel.name());
            }
            self.line.push(b'\n');
        }
        self.write()?;
        Ok(number)
    }

    /// Records that the broker has acknowledged messages.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn acknowledged(&mut self, numbers: &[u64]) -> Result<(), SimError> {
        for number in numbers {
            let _ = writeln!(self.line, "acked\t{number}");
        }
        self.write()
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn sync(&self) -> Result<(), SimError> {
        self.file.sync_data().map_err(|e| self.failed(e))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self) -> Result<(), SimError> {
        let written = self.file.write_all(&self.line);
        self.line.clear();
        written.map_err(|e| self.failed(e))
    }

    fn failed(&self, source: std::io::Error) -> SimError {
        SimError::io(format!("ledger {}", self.path.display()), source)
    }
}

#[cfg(test)]
mod tests;
