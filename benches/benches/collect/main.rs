//! Whole collectors beside each other, each a process on one core: messages from a replay broker through to files of
//! columns, and Modbus polls. What counts is the work done for a second of that core.
//!
//! The systems take turns. Before a figure counts, the rows that a system wrote are counted.

mod loads;
mod messages;
mod polls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;
use meterlake_benches::system::{our_program, peer};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PATIENCE: Duration = Duration::from_secs(120);

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
    messages::compare_all(&size, &subjects)?;
    messages::latency(&size, &subjects[0].1)?;
    polls::compare(&size, &subjects)
}

fn scratch() -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(SCRATCH)?;
    Ok(tempfile::tempdir_in(SCRATCH)?)
}
