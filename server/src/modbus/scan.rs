//! `modbus scan`: who is there.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt8Array, UInt64Array};
use clap::Args;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::guess::{self, Evidence};
use meterlake_ingest::modbus::{Block, BlockRequest, Failure, FailureKind, identify};

use super::line::{Line, LineArgs};
use super::range::{Registers, Units, place, words};
use super::survey::{image, survey};
use crate::cli::Global;
use crate::output::{self, Format};
use crate::progress;

/// Which units are asked, and how.
#[derive(Debug, Args)]
pub struct ScanArgs {
    #[command(flatten)]
    line: LineArgs,
    /// Units to ask, such as 1-32,100
    #[arg(long, short, default_value = "1-247", value_parser = Units::parse)]
    units: Units,
    /// What each unit is asked for until it answers: FUNCTION:FIRST+COUNT [default: 3:0+1, then 4:0+2]
    #[arg(long, short, value_name = "RANGE", value_parser = Registers::parse)]
    registers: Vec<Registers>,
    /// Do not read further registers of those that answer, to see which shipped profile fits
    #[arg(long)]
    no_identify: bool,
    /// Form of the result [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// How long a unit may take when nothing else is said: most of them are not there.
const TIMEOUT: Duration = Duration::from_millis(300);
/// Times in a row that a line may refuse the connection before the scan gives up.
const MAX_REFUSED: u32 = 3;

/// A unit that answered.
pub(super) struct Found {
    pub(super) unit: u8,
    request: BlockRequest,
    answer: String,
    took: Duration,
    /// The shipped profiles that fit best, and what the nameplate of the first says.
    fits: String,
    nameplate: String,
}

/// Profiles that are named for each unit.
const FITS: usize = 2;

/// Asks every unit.
pub(super) async fn run(global: &Global, args: &ScanArgs) -> anyhow::Result<ExitCode> {
    let mut line = args.line.open(global)?;
    if !args.line.states_timeout() {
        line.timeout = TIMEOUT;
    }
    let probes: Vec<BlockRequest> = if args.registers.is_empty() {
        // Two lengths, so that an answer that comes late is not taken for the next one's.
        ["3:0+1", "4:0+2"].iter().filter_map(|text| Registers::parse(text).ok()).flat_map(|r| r.requests(2)).collect()
    } else {
        args.registers.iter().flat_map(|registers| registers.requests(125)).collect()
    };
    let mut found = scan(&mut line, &args.units, &probes).await?;
    if !args.no_identify {
        for found in &mut found {
            recognise(found, &mut line).await;
        }
    }
    if found.is_empty() {
        bail!(
            "no unit of {} answered on {} within {:?}; try a longer --timeout, and on a serial line other --baud and \
             --parity",
            listed(&args.units),
            line.place,
            line.timeout
        );
    }
    let texts = |values: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let milliseconds = |found: &Found| u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX);
    let batch = RecordBatch::try_from_iter([
        ("unit", Arc::new(UInt8Array::from_iter_values(found.iter().map(|found| found.unit))) as ArrayRef),
        ("asked", texts(found.iter().map(|f| place(f.request.function, f.request.range.first)).collect())),
        ("answer", texts(found.iter().map(|found| found.answer.clone()).collect())),
        ("fits", texts(found.iter().map(|found| found.fits.clone()).collect())),
        ("nameplate", texts(found.iter().map(|found| found.nameplate.clone()).collect())),
        ("took_ms", Arc::new(UInt64Array::from_iter_values(found.iter().map(milliseconds)))),
    ])?;
    output::write_batch(batch, args.format.unwrap_or_else(Format::for_stdout)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Which shipped profiles read the device as a meter that could exist.
async fn recognise(found: &mut Found, line: &mut Line) {
    let profiles: Vec<DeviceProfile> = DeviceProfile::shipped_names().filter_map(DeviceProfile::shipped).collect();
    let asked = survey(line, found.unit, &guess::wanted(&profiles)).await;
    let evidence = Evidence { first: &image(&asked), again: None, hints: &[] };
    let mut fits = guess::fits(&evidence, &profiles);
    fits.retain(|fit| fit.score > 0);
    found.fits =
        fits.iter().take(FITS).map(|fit| format!("{} ({})", fit.profile, fit.score)).collect::<Vec<_>>().join(", ");
    let best = fits.first().and_then(|fit| profiles.iter().find(|profile| profile.name == fit.profile));
    let blocks: Vec<&Block> = asked.blocks.iter().collect();
    if let Some(Ok(plate)) = best.map(|profile| identify(profile, None, &blocks)) {
        found.nameplate = plate.model.into_iter().chain(plate.serial).collect::<Vec<_>>().join(" ");
    }
}

fn listed(units: &Units) -> String {
    match &units.0[..] {
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last} ({} units)", units.0.len()),
        [] => String::new(),
    }
}

async fn scan(line: &mut Line, units: &Units, probes: &[BlockRequest]) -> anyhow::Result<Vec<Found>> {
    let bar = progress::bar(u64::try_from(units.0.len()).unwrap_or(0), &format!("units of {}", line.place));
    let mut found = Vec::new();
    let mut refused = 0;
    for &unit in &units.0 {
        match ask(line, unit, probes).await {
            Ok(answered) => {
                refused = 0;
                if let Some(answered) = answered {
                    let (at, answer) =
                        (place(answered.request.function, answered.request.range.first), &answered.answer);
                    bar.println(format!("unit {unit} answers {at}: {answer}"));
                    found.push(answered);
                }
            }
            Err(failure) => {
                refused += 1;
                if refused >= MAX_REFUSED {
                    bar.finish_and_clear();
                    bail!("{} cannot be connected: {failure}", line.place);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found)
}

/// Asks one unit until it gives registers; failing that, what else it answered first.
///
/// # Errors
/// When the line cannot be connected: that says nothing of the unit.
async fn ask(line: &mut Line, unit: u8, probes: &[BlockRequest]) -> Result<Option<Found>, Failure> {
    let mut other = None;
    for &request in probes {
        let started = Instant::now();
        let answer = line.client.read(unit, request, line.timeout).await;
        let took = started.elapsed();
        let found = |answer| Some(Found { unit, request, answer, took, fits: String::new(), nameplate: String::new() });
        match answer {
            Ok(registers) => return Ok(found(words(&registers))),
            Err(failure) if failure.kind == FailureKind::Connect => return Err(failure),
            Err(failure) => other = other.or(said(&failure).and_then(found)),
        }
    }
    Ok(other)
}

/// What a failure tells of a unit that is there; `None` when nobody may be.
fn said(failure: &Failure) -> Option<String> {
    match failure.kind {
        // A gateway's word that it did not reach the unit.
        FailureKind::Exception if failure.detail.contains("gateway") => None,
        FailureKind::Exception => Some(failure.detail.clone()),
        FailureKind::Connect | FailureKind::Timeout | FailureKind::Disconnected => None,
        _ => Some(format!("disturbed ({failure}): two devices may have this unit, or the speed is wrong")),
    }
}
