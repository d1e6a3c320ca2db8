//! A utility's site for one test: a folder with a configuration, a lake and a journal, and the real binary on it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use meterlake_config::registry::write_dir;
use meterlake_model::registry::Registry;
use meterlake_server::status::{StatusReport, read_report};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, until};

/// Room for slow machines; no test waits so long unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Commits come soon, so that a test sees many of them.
const COLLECT: &str = "[collect]\nname = \"test\"\ncommit_interval = \"1s\"\nsync_delay = \"1ms\"\n";

pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    /// A site whose configuration goes on with `tables`.
    pub(crate) fn new(tables: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.configure(tables);
        site
    }

    /// Replaces the configuration after `[collect]`.
    pub(crate) fn configure(&self, tables: &str) {
        std::fs::write(self.path("meterlake.toml"), format!("{COLLECT}\n{tables}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.path("meterlake.toml")).args(words);
        command
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn ask(&self, words: &[&str]) -> Answer {
        Answer::of(&self.command(words).output().unwrap())
    }

    /// Runs a command that must succeed; gives what it printed.
    pub(crate) fn tell(&self, words: &[&str]) -> String {
        let answer = self.ask(words);
        assert!(answer.good, "meterlake {}:\n{}{}", words.join(" "), answer.out, answer.err);
        answer.out
    }

    /// Rows of a query, without the header.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&self.tell(&["query", "--format", "csv", sql]))
    }

    /// The one number that a query answers with.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.query(sql)[0][0].parse().unwrap()
    }

    pub(crate) fn import(&self, registry: &Registry) {
        let folder = self.path("registry");
        write_dir(registry, &folder).unwrap();
        self.tell(&["registry", "import", folder.to_str().unwrap()]);
    }

    /// Starts a command that goes on until it is stopped.
    pub(crate) fn start(&self, words: &[&str]) -> Process {
        Process::start(&words.join(" "), self.command(words), &self.path(&format!("{}.log", words[0])))
    }

    /// The report of the collector with this process id; `None` until it has written one.
    pub(crate) fn report(&self, collector: &Process) -> Option<StatusReport> {
        let report = read_report(&self.path("journal")).ok().flatten();
        report.filter(|report| report.pid == collector.id())
    }

    /// Starts `collect` and waits until it is connected to every broker.
    pub(crate) fn collect(&self) -> Process {
        let mut collector = self.start(&["collect"]);
        until("collector connected", PATIENCE, || {
            collector.must_run();
            let report = self.report(&collector)?;
            let connected = |figures: &[(String, u64)]| figures.iter().any(|f| *f == ("connected".to_owned(), 1));
            report.brokers.iter().all(|(_, figures)| connected(figures)).then_some(())
        });
        collector
    }

    /// Stops a collector, which commits what it holds.
    pub(crate) fn stop(&self, collector: Process) {
        let (status, log) = collector.stop(PATIENCE);
        assert!(status.success(), "collect ended with {status}:\n{log}");
    }
}

/// What a command said.
pub(crate) struct Answer {
    pub good: bool,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            good: output.status.success(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }
}

/// The program as it is built for this test; nothing of the surroundings reaches it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterlake"));
    command.env_remove("METERLAKE_CONFIG").env_remove("METERLAKE_LOG");
    command
}

/// CSV without its header.
pub(crate) fn rows(csv: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(ToOwned::to_owned).collect()).collect()
}

/// Runs the program without a configuration.
pub(crate) fn ask(words: &[&str]) -> Answer {
    Answer::of(&program().args(words).output().unwrap())
}

/// The rest of the row that begins with this value.
pub(crate) fn row<'r>(rows: &'r [Vec<String>], first: &str) -> Vec<&'r str> {
    let row = rows.iter().find(|row| row[0] == first).unwrap_or_else(|| panic!("{first}: {rows:?}"));
    row[1..].iter().map(String::as_str).collect()
}

/// One JSON value a line.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}
