//! `modbus doctor`: what an unknown device says, by trying. Reads registers, never writes any.

mod hint;
mod profile;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use clap::Args;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::BlockRequest;
use meterlake_ingest::modbus::guess::{self, Candidate, Evidence, Fit, Hint};

use super::line::{Line, LineArgs, duration};
use super::range::{Registers, place};
use super::survey::{image, survey};
use crate::cli::Global;
use crate::output::{self, Format};
use crate::progress;

/// Which device, what is known of it, and what is written.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    line: LineArgs,
    /// The device's address on the line
    #[arg(long, short)]
    unit: u8,
    /// Registers to look at: FUNCTION:FIRST+COUNT, addresses as on the wire. May be given several times [default: those
    /// that the shipped profiles read]
    #[arg(long, short, value_name = "RANGE", value_parser = Registers::parse)]
    registers: Vec<Registers>,
    /// Registers that one request may ask for, of --registers; many devices take fewer than 125
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=125))]
    max_registers: u16,
    /// What the meter shows now, by column: voltage_l1_v=230 or energy_import_kwh=1234.5; with the register of its manual
    /// voltage_l1_v=230@0x1000. May be given several times
    #[arg(long, short, value_name = "COLUMN=VALUE[@REGISTER]", value_parser = hint::parse)]
    expect: Vec<Hint>,
    /// How far the register may be from what was expected, in thousandths
    #[arg(long, default_value_t = 20, value_name = "PERMILLE", value_parser = clap::value_parser!(u16).range(0..=500))]
    tolerance: u16,
    /// A text or number of the nameplate, such as the serial number. May be given several times
    #[arg(long, value_name = "TEXT")]
    nameplate: Vec<String>,
    /// Look a second time after so long: what counts up is told from what moves; 0s looks once
    #[arg(long, default_value = "5s", value_parser = duration)]
    again: Duration,
    /// Candidates that are shown of each column
    #[arg(long, default_value_t = 3)]
    most: usize,
    /// Write the profile of the best candidates to this file, and a golden vector of what was read beside it
    ///
    /// With --expect only the expected columns go in, else the best candidate of every column whose registers no better
    /// one has. Compare it with the maker's document before bills depend on it.
    #[arg(long, value_name = "FILE.toml", value_parser = toml_file)]
    write: Option<PathBuf>,
    /// Replace the files if they are there
    #[arg(long, requires = "write")]
    force: bool,
    /// Form of the candidates [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

fn toml_file(text: &str) -> Result<PathBuf, String> {
    if text.ends_with(".toml") { Ok(text.into()) } else { Err("a profile's file ends in .toml".to_owned()) }
}

/// Looks, thinks, shows and writes.
pub(super) async fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.write {
        profile::must_be_free(file, args.force)?;
    }
    let shipped: Vec<DeviceProfile> = DeviceProfile::shipped_names().filter_map(DeviceProfile::shipped).collect();
    let mut line = args.line.open(global)?;
    let requests = match &args.registers[..] {
        [] => guess::wanted(&shipped),
        ranges => ranges.iter().flat_map(|range| range.requests(args.max_registers)).collect(),
    };
    let first = survey(&mut line, args.unit, &requests).await.answered(&line, args.unit)?;
    let answered: Vec<BlockRequest> = first.blocks.iter().map(|block| block.request).collect();
    let again = if args.again.is_zero() {
        None
    } else {
        let spinner = progress::spinner("waiting for the second look");
        tokio::time::sleep(args.again).await;
        spinner.finish_and_clear();
        Some(image(&survey(&mut line, args.unit, &answered).await))
    };
    let first = image(&first);
    let mut hints: Vec<Hint> = args.expect.iter().map(|hint| hint::within(hint, args.tolerance)).collect();
    hints.extend(args.nameplate.iter().cloned().map(Hint::Text));
    let evidence = Evidence { first: &first, again: again.as_ref(), hints: &hints };

    let mut fits = guess::fits(&evidence, &shipped);
    fits.retain(|fit| fit.score > 0);
    tell_fits(&fits, &line, args);
    let candidates = guess::candidates(&evidence);
    show(&candidates, args).await?;
    if candidates.is_empty() && fits.is_empty() {
        bail!(
            "nothing in {} answered blocks looks like a meter; say more with --expect and --registers",
            answered.len()
        );
    }
    if let Some(file) = &args.write {
        let expected: Vec<_> = args.expect.iter().filter_map(hint::channel).collect();
        let source = format!("unit {} on {}", args.unit, line.place);
        let chosen = profile::choose(&candidates, &expected)?;
        profile::write(file, &chosen, &first, &source, args.max_registers)?;
        let name = file.display();
        eprintln!("{name} reads {} columns; its golden vector is beside it (`meterlake test {name}`)", chosen.len());
        eprintln!("compare it with the maker's document, then see all of it:");
        eprintln!("  meterlake modbus read {} --unit {} --profile {name}", args.line.words(), args.unit);
    }
    Ok(ExitCode::SUCCESS)
}

/// Which shipped profiles fit, on standard error: the candidates are the result.
fn tell_fits(fits: &[Fit], line: &Line, args: &DoctorArgs) {
    const SHOWN: usize = 3;
    for fit in fits.iter().take(SHOWN) {
        eprintln!("profile {} fits, {} points: {}", fit.profile, fit.score, fit.reasons.join("; "));
        let values: Vec<_> = fit.values.iter().map(|(channel, value)| format!("{channel} {value}")).collect();
        eprintln!("  {}", values.join(", "));
    }
    if let [best, next, ..] = fits
        && best.score == next.score
    {
        eprintln!("they read it alike: the model on the meter's nameplate decides");
    }
    match fits.first() {
        Some(best) => eprintln!(
            "see all of it: meterlake modbus read {} --unit {} --profile {}",
            args.line.words(),
            args.unit,
            best.profile
        ),
        None => eprintln!("no shipped profile fits unit {} on {}", args.unit, line.place),
    }
}

async fn show(candidates: &[Candidate], args: &DoctorArgs) -> anyhow::Result<()> {
    let mut shown: Vec<&Candidate> = Vec::new();
    for candidate in candidates {
        let same = shown.iter().filter(|other| other.field.channel == candidate.field.channel).count();
        if same < args.most {
            shown.push(candidate);
        }
    }
    // The best of each column stand together, in the order of the catalogue.
    shown.sort_by_key(|candidate| candidate.field.channel);
    let texts = |of: &dyn Fn(&Candidate) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(shown.iter().map(|candidate| of(candidate))))
    };
    let batch = RecordBatch::try_from_iter([
        ("channel", texts(&|c| c.field.channel.name().to_owned())),
        ("value", texts(&|c| c.value.clone())),
        ("points", Arc::new(UInt32Array::from_iter_values(shown.iter().map(|c| c.score))) as ArrayRef),
        ("address", texts(&address)),
        ("type", texts(&kind)),
        ("why", texts(&|c| c.reasons.join("; "))),
    ])?;
    output::write_batch(batch, args.format.unwrap_or_else(Format::for_stdout)).await
}

fn address(candidate: &Candidate) -> String {
    let places: Vec<_> = candidate.field.registers().map(|r| place(r.function, r.address)).collect();
    places.join(", ")
}

/// The keys of the candidate's own text that say how the bits are read.
fn kind(candidate: &Candidate) -> String {
    let wanted = ["type", "order", "scale", "unit"];
    let of = |key: &str| {
        let line = candidate.toml.lines().find(|line| line.split('=').next().is_some_and(|word| word.trim() == key))?;
        Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
    };
    wanted.iter().filter_map(|key| of(key)).collect::<Vec<_>>().join(" ")
}
