//! Golden messages: recorded input beside the rows that it must become, in a text file that people write.
//!
//! ```text
//! map tasmota                                a shipped map, or a file; several are tried in order
//! meter plug-1 electricity Europe/Madrid     what the registry knows, with `serial=…` where it has one
//! received 2026-11-21T12:00:00Z              when messages arrive, if not then
//!
//! # one phase                                a case, by its title
//! topic tele/plug-1/SENSOR                   a message; a case has one or more, read in order
//! payload {"Time":"2026-11-21T12:00:10","ENERGY":{"Total":7}}
//! -> electricity plug-1 2026-11-21T11:00:10Z energy_import_kwh=7.000
//! ```
//!
//! A message may say more before its rows: `retained`, and its own `received TIME`. Its bytes are `payload` lines joined
//! by line feeds, or `payload_crlf` lines that each end with CR LF, or `payload_hex`. Rows begin with `->`: readings with
//! their values in catalogue order and `!flag`s, then events, then dead letters;
//! `-> nothing` where the message is understood and holds nothing to store. Lines that begin with `//` are remarks.
//!
//! Opens no file: who runs it finds the maps.

mod parse;

use std::fmt::Write;

use meterlake_config::Problem;
use meterlake_config::payload_map::PayloadMap;
use meterlake_model::{Commodity, MeterDirectory, RawMessage, ReadingBatch};

use super::Decoder;

/// Messages of one file.
#[derive(Debug)]
pub struct Golden {
    /// The maps that read them, in order; none when the file names none.
    pub maps: Vec<Named>,
    /// The meters that the file's registry knows.
    pub directory: MeterDirectory,
    /// Its cases, at least one.
    pub cases: Vec<Case>,
}

/// A name and the line, counted from 1, where the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The line.
    pub line: usize,
}

/// Messages that are read one after the other.
#[derive(Debug)]
pub struct Case {
    /// What it shows.
    pub title: String,
    /// The title's line, counted from 1.
    pub line: usize,
    /// The messages, at least one.
    pub messages: Vec<Recorded>,
}

/// A message and what it must become.
#[derive(Debug)]
pub struct Recorded {
    /// As it came.
    pub message: RawMessage,
    /// Whether the broker had retained it.
    pub retained: bool,
    /// The last line, counted from 1, of what comes before its rows.
    pub rows_after: usize,
    /// Its rows, each beginning with `->`, and the line of each.
    pub expected: Vec<(usize, String)>,
}

impl Recorded {
    /// Whether these rows are the expected ones.
    pub fn is(&self, rows: &[String]) -> bool {
        self.expected.iter().map(|(_, row)| row).eq(rows)
    }
}

impl Golden {
    /// Reads a file's text. `file` names it in problems.
    ///
    /// # Errors
    /// All problems, each with its line.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        parse::golden(text, file)
    }

    /// What each message of each case becomes by these maps, as rows of text.
    pub fn run(&self, maps: &[PayloadMap]) -> Vec<Vec<Vec<String>>> {
        self.cases.iter().map(|case| self.run_case(maps, case)).collect()
    }

    fn run_case(&self, maps: &[PayloadMap], case: &Case) -> Vec<Vec<String>> {
        // What one message says may tell how the next is read.
        let mut decoder = Decoder::default();
        let read = |recorded: &Recorded| {
            let mut batch = ReadingBatch::default();
            let outcome = decoder.decode(maps, &recorded.message, recorded.retained, &self.directory, &mut batch);
            let mut rows = rows(&batch);
            rows.extend(outcome.ignored.then(|| "-> nothing".to_owned()));
            rows
        };
        case.messages.iter().map(read).collect()
    }

    /// The file's text with these rows, as [`Self::run`] gives them, in the place of the expected ones.
    pub fn accept(&self, text: &str, rows: &[Vec<Vec<String>>]) -> String {
        let messages = || self.cases.iter().flat_map(|case| &case.messages).zip(rows.iter().flatten());
        let mut accepted = String::with_capacity(text.len());
        for (line, at) in text.lines().zip(1_usize..) {
            if !messages().any(|(recorded, _)| recorded.expected.iter().any(|(row, _)| *row == at)) {
                accepted.push_str(line);
                accepted.push('\n');
            }
            if let Some((_, rows)) = messages().find(|(recorded, _)| recorded.rows_after == at) {
                rows.iter().for_each(|row| accepted.extend([row.as_str(), "\n"]));
            }
        }
        accepted
    }
}

/// What a batch holds, a row of text each: readings, events, dead letters.
pub fn rows(batch: &ReadingBatch) -> Vec<String> {
    let mut all = Vec::new();
    for commodity in Commodity::ALL {
        let rows = batch.rows(commodity);
        for (row, header) in rows.headers().iter().enumerate() {
            let mut text = format!("-> {commodity} {} {}", header.meter_id, header.ts);
            for (channel, value) in rows.values(row) {
                // Writing to a text does not fail.
                let _ = write!(text, " {channel}={}", decimal(value, channel.scale()));
            }
            header.flags.names().for_each(|flag| text.extend([" !", flag]));
            all.push(text);
        }
    }
    let events = batch.events.iter();
    all.extend(
        events.map(|event| format!("-> event {} {} {} \"{}\"", event.meter_id, event.ts, event.kind, event.detail)),
    );
    all.extend(batch.dead_letters.iter().map(|dead| format!("-> dead {} {}", dead.reason, dead.detail)));
    all
}

/// An integer of 10^-`scale` with all its decimals: 7000 of 10^-3 is `7.000`.
pub fn decimal(value: i64, scale: u8) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let width = usize::from(scale);
    let digits = format!("{:0>1$}", value.unsigned_abs(), width + 1);
    let (whole, fraction) = digits.split_at(digits.len() - width);
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

const SHIPPED: &[(&str, &str)] = &[
    ("meterlake-json", include_str!("../../tests/integration/golden/meterlake-json.txt")),
    ("meterlake-protobuf", include_str!("../../tests/integration/golden/meterlake-protobuf.txt")),
    ("wmbusmeters", include_str!("../../tests/integration/golden/wmbusmeters.txt")),
    ("tasmota", include_str!("../../tests/integration/golden/tasmota.txt")),
    ("litres-local-json", include_str!("../../tests/integration/golden/litres-local-json.txt")),
    ("sparkplug-b", include_str!("../../tests/integration/golden/sparkplug-b.txt")),
    ("dsmr-p1", include_str!("../../tests/integration/golden/dsmr-p1.txt")),
    ("shelly-gen1", include_str!("../../tests/integration/golden/shelly-gen1.txt")),
    ("shelly-gen2-status", include_str!("../../tests/integration/golden/shelly-gen2-status.txt")),
    ("shelly-gen2-events", include_str!("../../tests/integration/golden/shelly-gen2-events.txt")),
    ("zigbee2mqtt", include_str!("../../tests/integration/golden/zigbee2mqtt.txt")),
    ("chirpstack", include_str!("../../tests/integration/golden/chirpstack.txt")),
    ("ttn", include_str!("../../tests/integration/golden/ttn.txt")),
    ("csv-readings", include_str!("../../tests/integration/golden/csv-readings.txt")),
    ("senml", include_str!("../../tests/integration/golden/senml.txt")),
];

/// The golden messages of the maps that come with the program: each file's name, which is its map's, and its text.
pub fn shipped() -> impl Iterator<Item = (&'static str, &'static str)> {
    SHIPPED.iter().copied()
}

#[cfg(test)]
mod tests;
