//! Golden vectors: registers of a device beside the values that they must become, in a text file that people write.
//!
//! ```text
//! # 230 V, importing                          a case, by its title
//! // of a device on the bench                 a remark
//! serial 12345678                             what the registry has, where it matters
//! 4/0x0000: 4366 3333 0000*4                  function/first register, counted from 0; words; WORD*N repeats
//! -> voltage_l1_v=230.2 current_l1_a=0.000    all columns that come out, in any order, on as many lines as wanted
//! -> event leak                               each event; every bit that is set is one
//! -> dead bad_value not a finite number       a dead letter: its reason, and a part of what it says
//! -> identity SDM630 12345678                 may be left out: model and serial number as read, `-` for none
//! ```
//!
//! Every register that the profile needs must be there; others, such as those in holes, count as 0.

mod parse;

use std::fmt;

use meterlake_config::Problem;
use meterlake_config::device_profile::{DeviceProfile, Function, Register};
use meterlake_model::{Channel, DeadReason, EventKind, MeterDirectory, MeterId, ReadingBatch, Timestamp};

use super::decode::{Answered, Block};
use super::identity::{Nameplate, identify};
use super::image::Image;
use super::planner::{plan, plan_identity};
use super::sunspec::{Discovery, located};
use crate::decode::golden::decimal;

/// One case of a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub title: String,
    /// The title's line, counted from 1.
    pub line: usize,
    /// The serial number that the registry has.
    pub serial: Option<String>,
    /// The device.
    pub image: Image,
    expected: Said,
}

/// What a device's registers became, or are to become.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Said {
    values: Vec<(Channel, String)>,
    events: Vec<EventKind>,
    dead: Vec<(DeadReason, String)>,
    identity: Option<Nameplate>,
}

/// Where a profile reads a device otherwise than its vector says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The case's title.
    pub title: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// What was expected and did not come.
    pub missing: Vec<String>,
    /// What came and was not expected.
    pub unexpected: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.title)?;
        let missing = self.missing.iter().map(|text| ('-', text));
        for (mark, text) in missing.chain(self.unexpected.iter().map(|text| ('+', text))) {
            write!(f, "\n  {mark} {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

/// Reads the cases of a file. `file` names it in problems.
///
/// # Errors
/// Everything that is wrong with it, with lines; a file without a case is wrong.
pub fn parse(text: &str, file: &str) -> Result<Vec<Case>, Vec<Problem>> {
    parse::cases(text, file)
}

/// Reads a case's device by a profile and compares.
///
/// # Errors
/// What is missing and what came besides.
pub fn run(profile: &DeviceProfile, case: &Case) -> Result<(), Mismatch> {
    let said = said(profile, &case.image, case.serial.as_deref());
    let mut mismatch =
        Mismatch { title: case.title.clone(), line: case.line, missing: Vec::new(), unexpected: Vec::new() };
    match said {
        Err(why) => mismatch.missing.push(why),
        Ok(said) => compare(&case.expected, &said, &mut mismatch),
    }
    if mismatch.missing.is_empty() && mismatch.unexpected.is_empty() { Ok(()) } else { Err(mismatch) }
}

/// The text of a case as a profile reads the device now, for a vector that did not exist yet.
///
/// # Errors
/// The registers that the profile needs and the image lacks.
pub fn record(profile: &DeviceProfile, title: &str, image: &Image) -> Result<String, String> {
    const WORDS: usize = 16;
    let said = said(profile, image, None)?;
    let mut text = format!("# {}\n", title.replace(['\n', '\r'], " "));
    for (function, first, words) in image.runs() {
        for (row, words) in words.chunks(WORDS).enumerate() {
            let hex: Vec<_> = words.iter().map(|word| format!("{word:04X}")).collect();
            text.push_str(&format!(
                "{}/0x{:04X}: {}\n",
                function.code(),
                usize::from(first) + row * WORDS,
                hex.join(" ")
            ));
        }
    }
    for line in said.lines() {
        text.push_str(&format!("-> {line}\n"));
    }
    Ok(text)
}

impl Said {
    fn lines(&self) -> Vec<String> {
        let values = self.values.iter().map(|(channel, value)| format!("{channel}={value}"));
        let events = self.events.iter().map(|kind| format!("event {kind}"));
        let dead = self.dead.iter().map(|(reason, detail)| format!("dead {reason} {detail}"));
        let identity = self.identity.iter().map(|plate| {
            let [model, serial] = [&plate.model, &plate.serial].map(|text| text.as_deref().unwrap_or("-"));
            format!("identity {model} {serial}")
        });
        values.chain(events).chain(dead).chain(identity).collect()
    }
}

/// What a profile makes of a device.
///
/// # Errors
/// When the image lacks registers.
fn said(profile: &DeviceProfile, image: &Image, serial: Option<&str>) -> Result<Said, String> {
    let mut profile = profile.clone();
    if let Some(mut walk) = Discovery::of(&profile) {
        while let Some(request) = walk.next() {
            walk.take(image.block(request).as_ref().map(|block| block.words.as_slice()));
        }
        match walk.result() {
            Some(Ok(found)) => profile = located(&profile, found),
            Some(Err(why)) => {
                return Ok(Said { dead: vec![(DeadReason::Identity, why.to_owned())], ..Said::default() });
            }
            None => return Err("the walk through the device's models has no end".to_owned()),
        }
    }
    let needed = profile.fields.iter().flat_map(|field| field.registers());
    let needed = needed.chain(profile.status.iter().map(|status| &status.register)).chain(profile.identify.registers());
    if let Some((function, address)) = lacking(needed, image) {
        return Err(format!("the vector lacks register {}/0x{address:04X}", function.code()));
    }
    let blocks =
        |requests: Vec<_>| requests.into_iter().map(|request| image.block_or_zero(request)).collect::<Vec<_>>();
    let (plate, blocks) = (blocks(plan_identity(&profile)), blocks(plan(&profile)));
    let identity = identify(&profile, serial, &plate.iter().collect::<Vec<_>>());
    let batch = decoded(&profile, &plate, identity.as_ref().err().map(String::as_str), &blocks)?;
    let rows = batch.rows(profile.commodity);
    let values = (0..rows.headers().len()).flat_map(|row| rows.values(row));
    let mut dead: Vec<_> = batch.dead_letters.iter().map(|dead| (dead.reason, dead.detail.clone())).collect();
    // Every group of blocks is refused for the same reason.
    dead.dedup();
    Ok(Said {
        values: values.map(|(channel, value)| (channel, decimal(value, channel.scale()))).collect(),
        events: batch.events.iter().map(|event| event.kind).collect(),
        dead,
        identity: identity.ok().filter(|_| !profile.identify.is_empty()),
    })
}

fn lacking<'p>(needed: impl Iterator<Item = &'p Register>, image: &Image) -> Option<(Function, u16)> {
    needed
        .flat_map(|register| (register.range().first..=register.range().last).map(|at| (register.function, at)))
        .find(|(function, address)| image.get(*function, *address).is_none())
}

fn decoded(
    profile: &DeviceProfile,
    plate: &[Block],
    stranger: Option<&str>,
    blocks: &[Block],
) -> Result<ReadingBatch, String> {
    let meter_id = MeterId::new("vector").map_err(|error| error.to_string())?;
    let ts = Timestamp::from_unix_seconds(0).map_err(|error| error.to_string())?;
    let answered = Answered {
        unit: 1,
        meter_id: &meter_id,
        profile,
        label: &profile.label().into(),
        source: &"vector".into(),
        directory: &MeterDirectory::default(),
        plate,
        stranger,
        ts,
        received_at_s: 0,
    };
    let mut batch = ReadingBatch::default();
    answered.add_blocks(blocks, &mut vec![0; profile.status.len()], &mut batch);
    Ok(batch)
}

fn compare(expected: &Said, said: &Said, mismatch: &mut Mismatch) {
    let mut came = said.clone();
    let mut missing = expected.clone();
    take_out(&mut missing.values, &mut came.values, |one, other| one == other);
    take_out(&mut missing.events, &mut came.events, |one, other| one == other);
    take_out(&mut missing.dead, &mut came.dead, |(reason, part), (other, detail)| {
        reason == other && detail.contains(part.as_str())
    });
    if expected.identity.is_none() || expected.identity == said.identity {
        (missing.identity, came.identity) = (None, None);
    }
    mismatch.missing = missing.lines();
    mismatch.unexpected = came.lines();
}

/// Takes pairs that fit out of both.
fn take_out<T>(expected: &mut Vec<T>, came: &mut Vec<T>, fits: impl Fn(&T, &T) -> bool) {
    expected.retain(|wanted| match came.iter().position(|one| fits(wanted, one)) {
        Some(at) => {
            came.remove(at);
            false
        }
        None => true,
    });
}

#[cfg(test)]
mod tests;
