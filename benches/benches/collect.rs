//! Whole collectors beside each other, each a process on one core: messages from a replay broker through to files of
//! columns, and Modbus polls. What counts is the work done for a second of that core.
//!
//! The systems take turns. Before a figure counts, the rows that a system wrote are counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use meterlake_benches::input::SEED;
use meterlake_benches::register_bank::RegisterBank;
use meterlake_benches::replay_broker::{Flow, Outgoing, ReplayBroker, Seen};
use meterlake_benches::system::{Cost, System, our_program, peer};
use meterlake_config::registry::write_dir;
use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::{CivilDay, Zone};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PATIENCE: Duration = Duration::from_secs(120);
const PAHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/paho_parquet.py");
const PYMODBUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/pymodbus_poll.py");
const COUNT_ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/count_rows.py");

/// How large and how often.
struct Size {
    single_meters: usize,
    frame_meters: usize,
    days: i32,
    devices: usize,
    poll_seconds: u64,
    repeats: usize,
    rate: f64,
}

const FULL: Size = Size {
    single_meters: 100,
    frame_meters: 300,
    days: 31,
    devices: 200,
    poll_seconds: 20,
    repeats: 3,
    rate: 20_000.0,
};
/// For a first look.
const MEDIUM: Size =
    Size { single_meters: 30, frame_meters: 100, days: 31, devices: 100, poll_seconds: 8, repeats: 1, rate: 10_000.0 };
/// A check that the bench works, whose times say nothing.
const SMALL: Size =
    Size { single_meters: 3, frame_meters: 3, days: 2, devices: 4, poll_seconds: 3, repeats: 1, rate: 500.0 };

/// The systems that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Ours,
    Telegraf,
    Python,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Ours, Self::Telegraf, Self::Python];

    fn program(self) -> anyhow::Result<Option<PathBuf>> {
        Ok(match self {
            Self::Ours => Some(our_program()?),
            Self::Telegraf => peer("METERLAKE_TELEGRAF", "telegraf"),
            Self::Python => peer("METERLAKE_PYTHON", "python3").filter(|python| has_modules(python)),
        })
    }
}

/// Whether the Python has all that the scripts need.
fn has_modules(python: &Path) -> bool {
    let words = ["-c", "import paho.mqtt.client, pyarrow.parquet, pymodbus"];
    Command::new(python).args(words).output().is_ok_and(|output| output.status.success())
}

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let size = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => FULL,
        ["--medium"] => MEDIUM,
        ["--small"] => SMALL,
        _ => bail!("unknown arguments {words:?}: --medium and --small are known"),
    };
    let present: Vec<_> = Subject::ALL.into_iter().filter_map(|s| Some((s, s.program().transpose()?))).collect();
    let mut subjects = Vec::new();
    for (subject, program) in present {
        subjects.push((subject, program?));
    }
    for missing in Subject::ALL.iter().filter(|s| !subjects.iter().any(|(present, _)| present == *s)) {
        println!("{missing:?} is not here: its rows are left out (benches/README.md tells how to get it)");
    }
    messages(&size, &subjects)?;
    latency(&size, &subjects[0].1)?;
    polls(&size, &subjects)
}

/// One run of one system.
struct Run {
    seen: Seen,
    cost: Cost,
}

/// Singles with three windows, and frames of 96 (workloads W1 and W2).
fn messages(size: &Size, subjects: &[(Subject, PathBuf)]) -> anyhow::Result<()> {
    let heading = "messages through to durable columns, each system on one core";
    println!("\n{heading}\n");
    println!(
        "{:<10} {:<26} {:>7} {:>9} {:>8} {:>8} {:>13} {:>7} {:>13}",
        "input", "system", "window", "readings", "wall s", "CPU s", "readings/CPU s", "MB", "ours / its"
    );
    let singles = Input::make(size.single_meters, size.days, MessageForm::Singles)?;
    for window in [20, 1_000, 65_535] {
        compare("singles", &singles, window, size.repeats, subjects)?;
    }
    let frames = Input::make(size.frame_meters, size.days, MessageForm::Frames)?;
    compare("frames", &frames, 1_000, size.repeats, subjects)
}

fn compare(
    what: &str,
    input: &Input,
    window: u16,
    repeats: usize,
    subjects: &[(Subject, PathBuf)],
) -> anyhow::Result<()> {
    let flow = Flow { window, rate: None };
    let mut runs: Vec<Vec<Run>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..repeats {
        for (runs, (subject, program)) in runs.iter_mut().zip(subjects) {
            runs.push(once(*subject, program, input, flow).with_context(|| format!("{subject:?}, window {window}"))?);
        }
    }
    let mut ours = None;
    for ((subject, _), runs) in subjects.iter().zip(&runs) {
        let cpu = middle(runs.iter().map(|run| run.cost.cpu).collect());
        let wall = middle(runs.iter().map(|run| run.seen.wall).collect());
        let memory = runs.iter().map(|run| run.cost.memory).max().unwrap_or(0);
        let rate = input.readings as f64 / cpu.as_secs_f64();
        let ratio = *ours.get_or_insert(rate) / rate;
        println!(
            "{what:<10} {:<26} {window:>7} {:>9} {:>8.2} {:>8.2} {rate:>13.0} {:>7} {ratio:>13.1}",
            described(*subject),
            input.readings,
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            memory >> 20,
        );
    }
    Ok(())
}

fn described(subject: Subject) -> &'static str {
    match subject {
        Subject::Ours => "meterlake collect (D2)",
        Subject::Telegraf => "Telegraf to parquet (D0)",
        Subject::Python => "paho + pyarrow (D0)",
    }
}

fn middle(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Messages made beforehand.
struct Input {
    simulation: Arc<Simulation>,
    messages: Vec<Outgoing>,
    readings: u64,
}

impl Input {
    fn make(meters: usize, days: i32, form: MessageForm) -> anyhow::Result<Self> {
        let (zone, first) = (Zone::utc(), CivilDay::new(2026, 1, 1)?);
        let mut plan = FleetPlan::new(SEED, zone.start_of_day(first), zone.start_of_day(first.plus_days(days)));
        plan.electricity_mqtt = meters;
        let simulation = Arc::new(Simulation::new(plan, Scenario::none())?);
        let mut readings = 0;
        let messages = History::new(Arc::clone(&simulation), form)
            .map(|sent| {
                readings += sent.readings() as u64;
                Outgoing { topic: sent.topic.to_string(), payload: sent.payload.to_vec() }
            })
            .collect();
        Ok(Self { simulation, messages, readings })
    }
}

fn scratch() -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(SCRATCH)?;
    Ok(tempfile::tempdir_in(SCRATCH)?)
}

fn once(subject: Subject, program: &Path, input: &Input, flow: Flow) -> anyhow::Result<Run> {
    let folder = scratch()?;
    let broker = ReplayBroker::bind()?;
    let port = broker.address()?.port();
    let mut system = match subject {
        Subject::Ours => {
            our_site(program, folder.path(), &our_broker(port, flow.window), input)?;
            System::start("ours", program, &["--config", "meterlake.toml", "--log", "error", "collect"], folder.path())?
        }
        Subject::Telegraf => {
            let is_frames = input.readings > input.messages.len() as u64;
            std::fs::write(folder.path().join("telegraf.conf"), telegraf_mqtt(port, flow.window, is_frames))?;
            System::start("telegraf", program, &["--quiet", "--config", "telegraf.conf"], folder.path())?
        }
        Subject::Python => {
            let (port, window) = (port.to_string(), flow.window.to_string());
            System::start("paho", program, &[PAHO, &port, &window], folder.path())?
        }
    };
    let seen = broker.serve(&input.messages, flow, PATIENCE).with_context(|| system.log())?;
    system.must_run()?;
    let cost = system.finish()?;
    let rows = match subject {
        Subject::Ours => our_rows(program, folder.path())?,
        Subject::Telegraf | Subject::Python => parquet_rows(folder.path())?,
    };
    ensure!(rows == input.readings, "{rows} rows were written, {} readings were sent", input.readings);
    Ok(Run { seen, cost })
}

fn our_broker(port: u16, window: u16) -> String {
    format!(
        "[[mqtt]]\nname = \"replay\"\nhost = \"127.0.0.1\"\nport = {port}\ntopics = [\"meterlake/v1/+/readings\"]\n\
         maps = [\"meterlake-json\"]\nreceive_maximum = {window}\nbroker_stats = false\n"
    )
}

/// Configuration and registry.
fn our_site(program: &Path, folder: &Path, sources: &str, input: &Input) -> anyhow::Result<()> {
    std::fs::write(folder.join("meterlake.toml"), sources)?;
    write_dir(&input.simulation.registry()?, &folder.join("registry"))?;
    let words = ["--config", "meterlake.toml", "registry", "import", "registry"];
    let output = Command::new(program).args(words).current_dir(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn our_rows(program: &Path, folder: &Path) -> anyhow::Result<u64> {
    let words = ["--config", "meterlake.toml", "query", "--committed", "--format", "csv"];
    let mut command = Command::new(program);
    command.args(words).arg("SELECT count(*) FROM electricity_readings").current_dir(folder);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().nth(1).context("no count")?.trim().parse().context("no number")
}

/// Of every Parquet file in a folder.
fn parquet_rows(folder: &Path) -> anyhow::Result<u64> {
    let python = peer("METERLAKE_PYTHON", "python3").context("counting rows needs python3 with pyarrow")?;
    let output = Command::new(python).arg(COUNT_ROWS).arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("no number")
}

/// As its users set it up for lasting sessions; batches as large as the window lets them become.
fn telegraf_mqtt(port: u16, window: u16, is_frames: bool) -> String {
    let batch = usize::from(window).clamp(20, 10_000);
    let query = if is_frames { "json_query = \"readings\"\n" } else { "" };
    format!(
        "[agent]\ninterval = \"1s\"\nflush_interval = \"1s\"\nmetric_batch_size = {batch}\nmetric_buffer_limit = 2000000\n\
         omit_hostname = true\nquiet = true\n\
         [[inputs.mqtt_consumer]]\nservers = [\"tcp://127.0.0.1:{port}\"]\ntopics = [\"meterlake/v1/+/readings\"]\n\
         qos = 1\npersistent_session = true\nclient_id = \"telegraf\"\nmax_undelivered_messages = {window}\n\
         topic_tag = \"topic\"\nname_override = \"readings\"\ndata_format = \"json\"\n{query}json_time_key = \"ts\"\n\
         json_time_format = \"2006-01-02T15:04:05Z07:00\"\n\
         [[outputs.parquet]]\ndirectory = \".\"\n"
    )
}

/// From sending to acknowledgement at a steady rate (goal G3): what a meter waits for.
fn latency(size: &Size, program: &Path) -> anyhow::Result<()> {
    let input = Input::make(size.single_meters, size.days, MessageForm::Singles)?;
    let folder = scratch()?;
    let broker = ReplayBroker::bind()?;
    our_site(program, folder.path(), &our_broker(broker.address()?.port(), u16::MAX), &input)?;
    let words = ["--config", "meterlake.toml", "--log", "error", "collect"];
    let system = System::start("ours", program, &words, folder.path())?;
    let flow = Flow { window: u16::MAX, rate: Some(size.rate) };
    let mut latencies = broker.serve(&input.messages, flow, PATIENCE)?.latencies;
    system.finish()?;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "\nfrom sending to the acknowledgement after the sync, {} messages/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        size.rate,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(())
}

/// Where the 60 fields of a device lie: seven ranges with holes between them.
fn addresses() -> impl Iterator<Item = u16> {
    [0, 40, 80, 200, 240, 400, 600]
        .into_iter()
        .zip([10, 10, 10, 10, 8, 6, 6])
        .flat_map(|(start, fields)| (0..fields).map(move |f| start + 2 * f))
}

/// The columns of a profile, each given once; further fields of the map are those of a second device on the same unit.
fn polls(size: &Size, subjects: &[(Subject, PathBuf)]) -> anyhow::Result<()> {
    println!("\n{} devices of 60 registers in 7 ranges polled each second for {} s\n", size.devices, size.poll_seconds);
    println!(
        "{:<26} {:>9} {:>11} {:>8} {:>16} {:>13}",
        "system", "requests", "registers", "CPU s", "requests/CPU s", "CPU a poll us"
    );
    for (subject, program) in subjects {
        let mut costs = Vec::new();
        for _ in 0..size.repeats {
            costs.push(poll_once(*subject, program, size)?);
        }
        costs.sort_by_key(|cost| cost.cpu);
        let Some(cost) = costs.get(costs.len() / 2) else { continue };
        let name = match subject {
            Subject::Ours => "meterlake collect (D2)",
            Subject::Telegraf => "Telegraf to discard (D0)",
            Subject::Python => "pymodbus, decoded (D0)",
        };
        let seconds = cost.cpu.as_secs_f64();
        println!(
            "{name:<26} {:>9} {:>11} {seconds:>8.2} {:>16.0} {:>13.1}",
            cost.requests,
            cost.registers,
            cost.requests as f64 / seconds,
            seconds * 1e6 / cost.polls
        );
    }
    Ok(())
}

struct PollCost {
    cpu: Duration,
    requests: u64,
    registers: u64,
    /// Devices times rounds.
    polls: f64,
}

fn poll_once(subject: Subject, program: &Path, size: &Size) -> anyhow::Result<PollCost> {
    let folder = scratch()?;
    let bank = RegisterBank::start()?;
    let (port, devices) = (bank.address().port(), size.devices);
    let system = match subject {
        Subject::Ours => {
            std::fs::write(folder.path().join("bench.toml"), our_profile())?;
            std::fs::write(folder.path().join("meterlake.toml"), our_lines(port, devices))?;
            System::start("ours", program, &["--config", "meterlake.toml", "--log", "error", "collect"], folder.path())?
        }
        Subject::Telegraf => {
            std::fs::write(folder.path().join("telegraf.conf"), telegraf_modbus(port, devices))?;
            System::start("telegraf", program, &["--quiet", "--config", "telegraf.conf"], folder.path())?
        }
        Subject::Python => {
            let (port, devices) = (port.to_string(), devices.to_string());
            System::start("pymodbus", program, &[PYMODBUS, &port, &devices], folder.path())?
        }
    };
    // The start is not what is measured: from the first request on, a while later.
    let requests = || bank.counters().requests.load(Ordering::Relaxed);
    let registers = || bank.counters().registers.load(Ordering::Relaxed);
    let begun = Instant::now();
    while requests() < devices as u64 {
        ensure!(begun.elapsed() < PATIENCE, "no polls:\n{}", system.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, asked, words, started) = (system.cpu()?, requests(), registers(), Instant::now());
    std::thread::sleep(Duration::from_secs(size.poll_seconds));
    let rounds = started.elapsed().as_secs_f64();
    let cost = PollCost {
        cpu: system.cpu()?.saturating_sub(cpu),
        requests: requests() - asked,
        registers: registers() - words,
        polls: rounds * devices as f64,
    };
    system.finish()?;
    ensure!(cost.requests > 0, "nothing was polled");
    Ok(cost)
}

/// Our profile knows 24 columns of electricity; the map's other registers are asked for as parts of sums.
fn our_profile() -> String {
    let mut text = "name = \"bench\"\nversion = 1\nmaker = \"none\"\nmodel = \"bench\"\nsource = \"benches/benches/collect.rs\"\n\
                    commodity = \"electricity\"\n[read]\nmax_hole = 8\n[defaults]\naddress_base = 0\nfunction = 3\ntype = \"u32\"\n"
        .to_owned();
    let channels: Vec<_> = meterlake_model::Channel::of(meterlake_model::Commodity::Electricity).collect();
    let addresses: Vec<_> = addresses().collect();
    let share = addresses.len().div_ceil(channels.len());
    for (channel, parts) in channels.iter().zip(addresses.chunks(share)) {
        let unit = match channel.name().rsplit('_').next() {
            _ if channel.name() == "power_factor" => "1",
            Some("kwh") => "Wh",
            Some("kvarh") => "varh",
            Some("v") => "mV",
            Some("a") => "mA",
            Some("kw") => "W",
            Some("kvar") => "var",
            Some("kva") => "VA",
            Some("hz") => "Hz",
            _ => continue,
        };
        let parts: Vec<_> = parts.iter().map(|address| format!("{{ address = {address} }}")).collect();
        text += &format!("[[field]]\nchannel = \"{channel}\"\nunit = \"{unit}\"\nparts = [{}]\n", parts.join(", "));
    }
    text
}

/// Ten devices a line.
fn our_lines(port: u16, devices: usize) -> String {
    let mut text = "[collect]\ncommit_interval = \"5s\"\n".to_owned();
    for (line, first) in (0..devices).step_by(10).enumerate() {
        // Lines may not share an address: the loopback has many.
        text += &format!("[[modbus]]\nname = \"line-{line}\"\nhost = \"127.0.0.{}\"\nport = {port}\n", line + 1);
        for device in first..(first + 10).min(devices) {
            text += &format!(
                "[[modbus.device]]\nunit = {}\nmeter_id = \"M{device}\"\nprofile = \"bench.toml\"\ninterval = \"1s\"\n",
                device - first + 1
            );
        }
    }
    text
}

fn telegraf_modbus(port: u16, devices: usize) -> String {
    let mut text = "[agent]\ninterval = \"1s\"\nflush_interval = \"1s\"\nmetric_batch_size = 10000\nquiet = true\n\
                    omit_hostname = true\n[[outputs.discard]]\n"
        .to_owned();
    let fields: Vec<_> = addresses()
        .enumerate()
        .map(|(n, address)| format!("{{ address = {address}, name = \"f{n}\", type = \"UINT32\", scale = 0.001 }}"))
        .collect();
    let fields = fields.join(",\n");
    for first in (0..devices).step_by(10) {
        text += &format!(
            "[[inputs.modbus]]\nname = \"line-{first}\"\ncontroller = \"tcp://127.0.0.1:{port}\"\nconfiguration_type = \"request\"\n"
        );
        for device in first..(first + 10).min(devices) {
            text += &format!(
                "[[inputs.modbus.request]]\nslave_id = {}\nbyte_order = \"ABCD\"\nregister = \"holding\"\n\
                 optimization = \"max_insert\"\noptimization_max_register_fill = 8\nfields = [\n{fields}\n]\n",
                device - first + 1
            );
        }
    }
    text
}
