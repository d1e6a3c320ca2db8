//! The same frames loaded from a file by databases of another kind (workload W2): the load alone, which is less than the way from a
//! broker to a synced table.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use meterlake_benches::system::{CORE, peer};

use super::messages::Input;
use super::scratch;

const LOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/frames_load.py");
const DATABASES: [&str; 2] = ["duckdb", "victoria-metrics"];

/// Prints a line for each database that is here; `ours` is what the collector does for a second of a core.
pub(crate) fn compare(frames: &Input, ours: f64, repeats: usize) -> anyhow::Result<()> {
    let Some(python) = peer("METERLAKE_PYTHON", "python3") else { return Ok(()) };
    let folder = scratch()?;
    let file = folder.path().join("frames.ndjson");
    write(frames, &file)?;
    for database in DATABASES {
        let mut runs = Vec::new();
        for run in 0..repeats {
            let place = folder.path().join(format!("{database}-{run}"));
            std::fs::create_dir(&place)?;
            let mut command = Command::new("taskset");
            command.args(["-c", CORE]).arg(&python).arg(LOAD).arg(database).arg(&place).arg(&file);
            let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output()?;
            match answer(&output, frames.readings)? {
                Some(run) => runs.push(run),
                None => break,
            }
        }
        runs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some((seconds, name)) = runs.get(runs.len() / 2) else {
            println!("{database} is not here: its row is left out");
            continue;
        };
        let rate = frames.readings as f64 / seconds;
        println!(
            "{:<10} {name:<34} {:>9} {:>8} {seconds:>8.2} {rate:>13.0} {:>7} {:>13.1}",
            "frames",
            frames.readings,
            "-",
            "-",
            ours / rate
        );
    }
    Ok(())
}

/// One document a line: the payload with its topic in front.
fn write(frames: &Input, path: &Path) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for message in &frames.messages {
        let body = message.payload.strip_prefix(b"{").context("a frame is a JSON object")?;
        write!(file, "{{\"topic\":\"{}\",", message.topic)?;
        file.write_all(body)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// Seconds of processor time and the name; `None` where the database or the script's modules are absent.
fn answer(output: &Output, readings: u64) -> anyhow::Result<Option<(f64, String)>> {
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        ensure!(said.contains("no program") || said.contains("ModuleNotFoundError"), "{said}");
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let mut words = line.trim().splitn(3, ' ');
    let mut next = || words.next().with_context(|| format!("the load says `{line}`"));
    let (rows, seconds, name): (u64, f64, String) = (next()?.parse()?, next()?.parse()?, next()?.to_owned());
    ensure!(rows == readings, "{name} holds {rows} rows of {readings}");
    Ok(Some((seconds, name)))
}
