//! DuckDB beside us: `peers/duckdb_month.py` in the Python that `METERLAKE_PYTHON` names, else `python3`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::measure::peak_memory_of;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/duckdb_month.py");

/// DuckDB in a process of its own, which times itself.
#[derive(Debug)]
pub struct Peer {
    /// DuckDB and its version.
    pub name: String,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Over these files as the view `electricity_readings`, on so many threads.
    ///
    /// # Errors
    /// When there is no such Python, or it has no module `duckdb`.
    pub fn start(threads: usize, files: &[PathBuf]) -> anyhow::Result<Self> {
        let python = std::env::var("METERLAKE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(&python);
        command.arg(PEER).arg(threads.to_string()).args(files);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().with_context(|| format!("cannot start `{python}`"))?;
        let input = process.stdin.take().context("the peer has no input")?;
        let output = BufReader::new(process.stdout.take().context("the peer has no output")?);
        let mut peer = Self { name: String::new(), process, input, output };
        peer.name = peer.line().with_context(|| format!("`{python}` has no working module duckdb"))?;
        Ok(peer)
    }

    /// As [`Self::start`]; `None`, and why is said, where there is none.
    pub fn if_there(threads: usize, files: &[PathBuf]) -> Option<Self> {
        match Self::start(threads, files) {
            Ok(peer) => Some(peer),
            Err(error) => {
                println!("DuckDB is left out: {error:#}");
                None
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the peer ended");
        Ok(line.trim_end().to_owned())
    }

    /// The time that a question took and the one value of its answer.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ask(&mut self, text: &str) -> anyhow::Result<(Duration, String)> {
        writeln!(self.input, "{text}")?;
        self.input.flush()?;
        let line = self.line().with_context(|| format!("{} refused: {text}", self.name))?;
        let (seconds, answer) = line.split_once('\t').with_context(|| format!("the peer said: {line}"))?;
        Ok((Duration::from_secs_f64(seconds.parse()?), answer.to_owned()))
    }

    /// The most memory that it ever held, in bytes; `None` where the system does not tell.
    pub fn peak_memory(&self) -> Option<u64> {
        peak_memory_of(&self.process.id().to_string())
    }
}

impl Drop for Peer {
    /// It ends with its input; whoever breaks off does not wait for what it still works on.
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
