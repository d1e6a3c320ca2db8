//! Bytes at rest after compaction, beside DuckDB, plain Parquet of pyarrow, InfluxDB and VictoriaMetrics.
//!
//! Every system gets the same rows; its number of rows and its sums are compared before its bytes count. What a peer is
//! given is said in `peers/layout.py`; one that is not installed is named and left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use meterlake_benches::arguments::Arguments;
use meterlake_benches::lake::{Door, at_rest, files, folder};
use meterlake_benches::sets::Set;
use meterlake_device_sim::replay::{Dataset, data_folder};
use meterlake_model::Timestamp;
use meterlake_store::{CompactOptions, Lake};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/layout.py");
/// System, and the most that ours may be of its bytes.
const PEERS: [(&str, Option<f64>); 5] = [
    ("duckdb", Some(0.30)),
    ("pyarrow", None),
    ("influxdb", Some(0.22)),
    ("influxdb-integers", None),
    ("victoria-metrics", Some(0.80)),
];
/// Rows of a recorded set in the small run.
const SMALL_ROWS: usize = 5_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::of_process()?;
    let small = arguments == Arguments::SMALL;
    let mut sets = vec![Set::sm1(arguments.meters as u64, i64::from(arguments.days))?];
    let limit = if small { SMALL_ROWS } else { usize::MAX };
    for dataset in [Dataset::Daiad, Dataset::Swiss] {
        match Set::recorded(dataset, &data_folder(), limit) {
            Ok(set) => sets.push(set),
            Err(error) => println!("{} is left out: {error:#}", dataset.as_str()),
        }
    }
    for set in sets {
        measure(&set).await?;
    }
    Ok(())
}

/// Number of rows and the sum of each column that has values.
type Answer = (u64, Vec<f64>);

async fn measure(set: &Set) -> anyhow::Result<()> {
    let dir = folder(Path::new(SCRATCH))?;
    let lake = Lake::open(&dir.path().join("lake"))?;
    let table = set.table();
    for batch in set.batches() {
        lake.append(&table, vec![batch?]).await?;
    }
    let now = Timestamp::parse_rfc3339("2030-01-01T00:00:00Z")?;
    let begin = std::time::Instant::now();
    lake.compact(table.name, &CompactOptions { now: Some(now), max_inputs: 1000, ..CompactOptions::default() }).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let (count, rows, bytes) = at_rest(&lake, table.name).await?;
    let log = bytes_of(&lake.table_path(table.name).join("_delta_log"))?;
    let values = set.rows() * set.values_a_row;
    let ours = sums(&lake, set).await?;
    ensure!(rows == set.rows() && ours.0 == rows, "{} rows are to be there, {rows} are", set.rows());
    println!(
        "\n{}: {rows} rows of {} values in {count} files, compacted in {seconds:.1} s\n",
        set.name, set.values_a_row
    );
    println!(
        "{:<34} {:>12} {:>10} {:>10} {:>12} {:>8}",
        "system", "bytes", "B a row", "B a value", "ours / its", "goal"
    );
    let line = |name: &str, bytes: u64, ratio: &str, goal: &str| {
        let (by_row, by_value) = (bytes as f64 / rows as f64, bytes as f64 / values as f64);
        println!("{name:<34} {bytes:>12} {by_row:>10.3} {by_value:>10.3} {ratio:>12} {goal:>8}");
    };
    line("meterlake, files", bytes, "", "");
    line("meterlake, its log", log, "", "");
    let files = files(&lake, table.name).await?;
    for (system, goal) in PEERS {
        match peer(system, &dir.path().join(system), &files) {
            Ok((name, its, answer)) => {
                compare(&name, &answer, &ours)?;
                let goal = goal.map_or_else(String::new, |goal| format!("{goal:.2}"));
                line(&name, its, &format!("{:.2}", (bytes + log) as f64 / its as f64), &goal);
            }
            Err(error) => println!("{system:<34} is left out: {error:#}"),
        }
    }
    println!();
    columns(&files, rows)
}

/// Bytes of each of our columns.
fn columns(files: &[PathBuf], rows: u64) -> anyhow::Result<()> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let mut sizes: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for file in files {
        let reader = SerializedFileReader::new(std::fs::File::open(file)?)?;
        for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let encodings: Vec<_> =
                column.encodings().map(|e| format!("{e}")).filter(|e| e != "RLE" && e != "PLAIN").collect();
            let entry = sizes.entry(column.column_path().string()).or_default();
            entry.0 += column.compressed_size().unsigned_abs();
            entry.1 = encodings.join(" ");
        }
    }
    for (name, (bytes, encodings)) in sizes {
        let by_row = bytes as f64 / rows as f64;
        if by_row >= 0.0005 {
            println!("  {name:<32} {bytes:>12} {by_row:>10.3}  {encodings}");
        }
    }
    Ok(())
}

async fn sums(lake: &Lake, set: &Set) -> anyhow::Result<Answer> {
    let door = Door::open(lake).await?;
    let table = set.table().name;
    let rows = door.ask(&format!("SELECT count(*) FROM {table}")).await?.parse()?;
    let mut names: Vec<_> = set.channels.iter().map(|c| c.name()).collect();
    names.sort_unstable();
    let mut sums = Vec::new();
    for name in names {
        sums.push(door.ask(&format!("SELECT sum({name}) FROM {table}")).await?.parse()?);
    }
    Ok((rows, sums))
}

/// Databases of time series keep floats: their sums agree to nine digits, and they know no second revision of a time.
fn compare(name: &str, its: &Answer, ours: &Answer) -> anyhow::Result<()> {
    let near = |a: &f64, b: &f64| (a - b).abs() <= b.abs() * 1e-9;
    let same = its.1.len() == ours.1.len() && its.1.iter().zip(&ours.1).all(|(a, b)| near(a, b));
    let keeps_all = its.0 == ours.0;
    if keeps_all {
        ensure!(same, "{name} says {its:?}, we say {ours:?}");
    } else {
        let close = its.0 < ours.0 && (ours.0 - its.0) * 1000 < ours.0;
        ensure!(close, "{name} has {} rows of {}", its.0, ours.0);
        println!("{name} keeps {} rows of {}: one value a time", its.0, ours.0);
    }
    Ok(())
}

fn peer(system: &str, folder: &Path, files: &[PathBuf]) -> anyhow::Result<(String, u64, Answer)> {
    let python = std::env::var("METERLAKE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).arg(PEER).arg(system).arg(folder).args(files).output();
    let output = output.with_context(|| format!("cannot start `{python}`"))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{}", errors.trim().lines().last().unwrap_or("it failed without a word"));
    }
    let mut lines = text.lines();
    let name = lines.next().context("no name")?.to_owned();
    let bytes = lines.next().and_then(|l| l.strip_prefix("bytes ")?.parse().ok()).context("no bytes")?;
    let answer = lines.next().and_then(|l| l.strip_prefix("answer ")).context("no answer")?;
    let mut answer = answer.split(' ');
    let rows = answer.next().context("no rows")?.parse()?;
    let sums = answer.map(str::parse).collect::<Result<Vec<_>, _>>()?;
    Ok((name, bytes, (rows, sums)))
}

fn bytes_of(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
