//! `modbus read`: one device, once.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use clap::Args;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::decode::golden::decimal;
use meterlake_ingest::modbus::sunspec::{Discovery, located};
use meterlake_ingest::modbus::{Block, BlockRequest, FailureKind, decode_blocks, identify, plan, plan_identity};

use super::line::{Line, LineArgs};
use super::range::{self, Registers, place};
use super::values;
use crate::cli::Global;
use crate::output::{self, Format};
use crate::units;

/// Which device, and what of it.
#[derive(Debug, Args)]
pub struct ReadArgs {
    #[command(flatten)]
    line: LineArgs,
    /// The device's address on the line
    #[arg(long, short)]
    unit: u8,
    /// How to read it: a profile that comes with the program (see `meterlake profiles list`) or a file .toml [default:
    /// the configured device's, with --line]
    #[arg(long, short, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Bare registers instead: FUNCTION:FIRST+COUNT, such as 4:0x0000+20, addresses as on the wire (from 0). May be given
    /// several times
    #[arg(long, short, value_name = "RANGE", value_parser = Registers::parse, conflicts_with = "profile")]
    registers: Vec<Registers>,
    /// Registers that one request may ask for, of --registers
    #[arg(long, default_value_t = 125, value_parser = clap::value_parser!(u16).range(1..=125))]
    max_registers: u16,
    /// Form of the result [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Reads and shows.
pub(super) async fn run(global: &Global, args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let mut line = args.line.open(global)?;
    let table = if args.registers.is_empty() {
        let profile = profile(args, &line)?;
        let profile = found(&mut line, args.unit, profile).await?;
        let plate = ask(&mut line, args.unit, &plan_identity(&profile)).await;
        let asked = ask(&mut line, args.unit, &plan(&profile)).await.answered(&line, args.unit)?;
        table_of_values(&profile, &plate, &asked)?
    } else {
        let requests: Vec<_> = args.registers.iter().flat_map(|range| range.requests(args.max_registers)).collect();
        table_of_registers(&ask(&mut line, args.unit, &requests).await.answered(&line, args.unit)?)?
    };
    output::write_batch(table.batch, args.format.unwrap_or_else(Format::for_stdout)).await?;
    Ok(if table.problems { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The profile with the addresses that the device's own directory names, where it is read by one.
///
/// # Errors
/// When the device does not answer, or has none of the profile's models.
async fn found(line: &mut Line, unit: u8, profile: DeviceProfile) -> anyhow::Result<DeviceProfile> {
    let Some(mut walk) = Discovery::of(&profile) else { return Ok(profile) };
    while let Some(request) = walk.next() {
        match line.client.read(unit, request, line.timeout).await {
            Ok(words) => walk.take(Some(&words)),
            Err(failure) if failure.kind == FailureKind::Exception && !failure.silent => walk.take(None),
            Err(failure) => bail!("unit {unit} on {} did not answer {request}: {failure}", line.place),
        }
    }
    match walk.result() {
        Some(Ok(found)) => Ok(located(&profile, found)),
        Some(Err(why)) => bail!("unit {unit} on {} cannot be read by {}: {why}", line.place, profile.name),
        None => bail!("the directory of unit {unit} on {} has no end", line.place),
    }
}

/// What to try next, by what went wrong.
fn hint(why: &str) -> &'static str {
    if why.starts_with("timeout") {
        "; is the unit right (`meterlake modbus scan` finds those that answer), are baud rate and parity those of the \
         device?"
    } else if why.contains("illegal") {
        "; the device is there: another function code or address may be (registers count from 0 on the wire)"
    } else {
        ""
    }
}

fn profile(args: &ReadArgs, line: &Line) -> anyhow::Result<DeviceProfile> {
    match &args.profile {
        Some(name) => named(name),
        // A line that the arguments describe has a device that is not meant.
        None if line.is_configured => {
            let device = line.config.devices.iter().find(|device| device.unit == args.unit);
            let device = device.with_context(|| {
                format!("no device with unit {} is configured on {}: name a --profile", args.unit, line.place)
            })?;
            Ok(device.profile.clone())
        }
        None => {
            bail!("name a --profile (`meterlake profiles list` shows those that come with the program) or --registers")
        }
    }
}

/// A profile by its name, or from a file.
///
/// # Errors
/// When there is none, or every problem of the file.
pub(super) fn named(name: &str) -> anyhow::Result<DeviceProfile> {
    if name.ends_with(".toml") {
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        return DeviceProfile::parse(&text, name).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{name} is refused:\n{}", problems.join("\n"))
        });
    }
    DeviceProfile::shipped(name).with_context(|| {
        let names: Vec<_> = DeviceProfile::shipped_names().collect();
        format!("no device profile `{name}` comes with the program; there are {}, and files .toml", names.join(", "))
    })
}

/// What came of some requests.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) blocks: Vec<Block>,
    /// Requests that brought no registers, and why.
    pub(super) failed: Vec<(BlockRequest, String)>,
    /// Whether the last one was not answered at all.
    pub(super) silent: bool,
}

impl Asked {
    /// Adds an answer.
    pub(super) fn take(&mut self, request: BlockRequest, words: Vec<u16>) {
        self.blocks.push(Block { request, words });
    }

    /// This, if the device answered anything.
    ///
    /// # Errors
    /// Why it did not, and what to try.
    pub(super) fn answered(self, line: &Line, unit: u8) -> anyhow::Result<Self> {
        if self.blocks.is_empty() {
            let why = self.failed.first().map(|(_, why)| why.as_str()).unwrap_or("nothing was asked for");
            bail!("unit {unit} on {} gave no register: {why}{}", line.place, hint(why));
        }
        Ok(self)
    }
}

/// Asks for each; what was disturbed is asked for once more. When the device falls silent the rest is not asked for.
pub(super) async fn ask(line: &mut Line, unit: u8, requests: &[BlockRequest]) -> Asked {
    let mut asked = Asked::default();
    for &request in requests {
        if asked.silent {
            asked.failed.push((request, "not asked for: the device fell silent".to_owned()));
            continue;
        }
        let mut answer = line.client.read(unit, request, line.timeout).await;
        if answer.as_ref().is_err_and(|failure| failure.kind != FailureKind::Exception) {
            answer = line.client.read(unit, request, line.timeout).await;
        }
        match answer {
            Ok(words) => asked.take(request, words),
            Err(failure) => {
                asked.silent = failure.silent;
                asked.failed.push((request, failure.to_string()));
            }
        }
    }
    asked
}

struct Table {
    batch: RecordBatch,
    problems: bool,
}

fn texts(name: &str, values: Vec<String>) -> (&str, ArrayRef) {
    (name, Arc::new(StringArray::from_iter_values(values)))
}

fn table_of_values(profile: &DeviceProfile, plate: &Asked, asked: &Asked) -> anyhow::Result<Table> {
    let [mut names, mut shown, mut unit, mut hex, mut places, mut problems] = [const { Vec::new() }; 6];
    let mut add = |cells: [String; 6]| {
        let columns = [&mut names, &mut shown, &mut unit, &mut hex, &mut places, &mut problems];
        columns.into_iter().zip(cells).for_each(|(column, cell)| column.push(cell));
    };
    let own = |what: &str, value: String, problem: String| {
        [what.to_owned(), value, String::new(), String::new(), String::new(), problem]
    };
    let said: Vec<&Block> = plate.blocks.iter().collect();
    match identify(profile, None, &said) {
        Ok(nameplate) => {
            nameplate.model.into_iter().for_each(|model| add(own("model", model, String::new())));
            nameplate.serial.into_iter().for_each(|serial| add(own("serial", serial, String::new())));
        }
        Err(why) => add(own("identity", String::new(), why)),
    }
    for (request, why) in &plate.failed {
        add(own("identity", String::new(), format!("{request}: {why}")));
    }
    for field in &profile.fields {
        let within = |request: &BlockRequest| {
            let mut registers = field.registers();
            registers.any(|r| r.function == request.function && request.range.overlaps(r.range()))
        };
        let failed = asked.failed.iter().find(|(request, _)| within(request));
        let (value, problem) = match (values::value_of(profile, field, &asked.blocks), failed) {
            (_, Some((_, why))) => (String::new(), why.clone()),
            (Ok(Some(value)), None) => (decimal(value, field.channel.scale()), String::new()),
            (Ok(None), None) => ("-".to_owned(), String::new()),
            (Err(why), None) => (String::new(), why),
        };
        let (places, words) = values::shown(field, &asked.blocks);
        let unit = units::split(field.channel).1.to_owned();
        add([field.channel.name().to_owned(), value, unit, words, places, problem]);
    }
    for (at, status) in profile.status.iter().enumerate() {
        let blocks: Vec<&Block> = asked.blocks.iter().collect();
        let only = DeviceProfile { fields: Vec::new(), ..profile.clone() };
        let word =
            decode_blocks(&only, &blocks).ok().and_then(|read| read.status.iter().find(|s| s.0 == at).map(|s| s.1));
        let Some(word) = word else { continue };
        let is_set = |number: u8| if status.is_code { word == u32::from(number) } else { word >> number & 1 == 1 };
        let events: Vec<_> = status.events.iter().filter(|(n, _)| is_set(*n)).map(|(_, kind)| kind.as_str()).collect();
        let events = if events.is_empty() { "-".to_owned() } else { events.join(" ") };
        let register = &status.register;
        let words = asked.blocks.iter().find_map(|block| block.words(register)).unwrap_or_default();
        let place = place(register.function, register.address);
        add(["status".to_owned(), events, String::new(), range::words(words), place, String::new()]);
    }
    let any = problems.iter().any(|problem| !problem.is_empty());
    let batch = RecordBatch::try_from_iter([
        texts("channel", names),
        texts("value", shown),
        texts("unit", unit),
        texts("registers", hex),
        texts("address", places),
        texts("problem", problems),
    ])?;
    Ok(Table { batch, problems: any })
}

fn table_of_registers(asked: &Asked) -> anyhow::Result<Table> {
    let [mut places, mut decimal, mut hex, mut unsigned, mut signed, mut text, mut problems] =
        [const { Vec::new() }; 7];
    for block in &asked.blocks {
        for (address, word) in (u32::from(block.request.range.first)..).zip(&block.words) {
            places.push(format!("{}:0x{address:04X}", block.request.function.code()));
            decimal.push(address.to_string());
            hex.push(format!("{word:04X}"));
            unsigned.push(word.to_string());
            signed.push(word.cast_signed().to_string());
            let letter = |byte: u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' };
            text.push(word.to_be_bytes().map(letter).iter().collect());
            problems.push(String::new());
        }
    }
    for (request, why) in &asked.failed {
        places.push(place(request.function, request.range.first));
        decimal.push(format!("{} to {}", request.range.first, request.range.last));
        [&mut hex, &mut unsigned, &mut signed, &mut text].into_iter().for_each(|column| column.push(String::new()));
        problems.push(why.clone());
    }
    let batch = RecordBatch::try_from_iter([
        texts("address", places),
        texts("decimal", decimal),
        texts("hex", hex),
        texts("unsigned", unsigned),
        texts("signed", signed),
        texts("text", text),
        texts("problem", problems),
    ])?;
    Ok(Table { batch, problems: !asked.failed.is_empty() })
}
