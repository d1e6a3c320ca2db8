//! Messages from a replay broker through to files of columns: single readings and frames of 96 (workloads W1 and W2).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use meterlake_benches::input::SEED;
use meterlake_benches::replay_broker::{Flow, Outgoing, ReplayBroker, Seen};
use meterlake_benches::system::{Cost, System, peer};
use meterlake_config::registry::write_dir;
use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::{CivilDay, Zone};

use super::{PATIENCE, Size, Subject, loads, scratch};

const PAHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/paho_parquet.py");
const COUNT_ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/count_rows.py");

/// One run of one system.
struct Run {
    seen: Seen,
    cost: Cost,
}

/// Singles with three windows, and frames of 96 (workloads W1 and W2).
pub(crate) fn compare_all(size: &Size, subjects: &[(Subject, PathBuf)]) -> anyhow::Result<()> {
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
    let ours = compare("frames", &frames, 1_000, size.repeats, subjects)?;
    loads::compare(&frames, ours, size.repeats)
}

/// Prints a line for each system; gives our readings for a second of a core.
fn compare(
    what: &str,
    input: &Input,
    window: u16,
    repeats: usize,
    subjects: &[(Subject, PathBuf)],
) -> anyhow::Result<f64> {
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
    ours.context("our own program was not measured")
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
pub(crate) struct Input {
    simulation: Arc<Simulation>,
    pub(crate) messages: Vec<Outgoing>,
    pub(crate) readings: u64,
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
pub(crate) fn latency(size: &Size, program: &Path) -> anyhow::Result<()> {
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
