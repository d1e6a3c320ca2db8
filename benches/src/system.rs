//! A system under test: a program of its own, on a core of its own, whose processor time and memory are read when it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// The kernel counts in hundredths of a second for whoever reads `/proc`.
const TICK: Duration = Duration::from_millis(10);
/// How long a program may take to end after it is told to.
const LEAVE: Duration = Duration::from_secs(120);

/// The core that systems under test run on; everything else is to stay off it.
pub const CORE: &str = "1";

/// What a program took from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most memory that was resident, in bytes, shortly before its end.
    pub memory: u64,
}

/// A running program.
pub struct System {
    name: String,
    child: Child,
    log: PathBuf,
    before: Duration,
}

impl System {
    /// Starts it on its core. What it says goes to `NAME.log` in the folder. One at a time: the kernel sums up children.
    ///
    /// # Errors
    /// When `taskset` or the program is not there.
    pub fn start(name: &str, program: &Path, words: &[&str], folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log)?;
        let before = children()?;
        let mut command = Command::new("taskset");
        command.arg("-c").arg(CORE).arg(program).args(words).current_dir(folder);
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.context("cannot start `taskset`, which puts a program on a core (package util-linux)")?;
        Ok(Self { name: name.to_owned(), child, log, before })
    }

    /// Whether it still runs; if not, the end of its log.
    ///
    /// # Errors
    /// When it has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended early with {status}:\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        times(&format!("/proc/{}/stat", self.child.id()), 11)
    }

    /// Asks it to end (SIGTERM), waits, and gives what it took in all.
    ///
    /// # Errors
    /// When it does not end, or ends with an error.
    pub fn finish(mut self) -> anyhow::Result<Cost> {
        self.must_run()?;
        let memory = resident(self.child.id()).unwrap_or(0);
        let told = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(told.success(), "cannot signal {}", self.name);
        let deadline = Instant::now() + LEAVE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "{} did not end within {} s", self.name, LEAVE.as_secs());
            std::thread::sleep(TICK);
        };
        // Scripts end by the signal; what they wrote is checked afterwards.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
        ensure!(status.success() || by_signal, "{} ended with {status}:\n{}", self.name, self.log());
        Ok(Cost { cpu: children()?.saturating_sub(self.before), memory })
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Harmless when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of all children that were waited for (and of `kill`, which is below one tick).
fn children() -> anyhow::Result<Duration> {
    times("/proc/self/stat", 13)
}

/// Two neighbouring times of a stat file, by their place behind the program's name.
fn times(path: &str, place: usize) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(path).with_context(|| format!("{path} tells processor times on Linux only"))?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(place).map(str::parse::<u32>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(TICK * (user + system)),
        _ => bail!("{path} does not tell processor times"),
    }
}

fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// The program beside this bench: the same profile, the same build.
///
/// # Errors
/// When it was not built.
pub fn our_program() -> anyhow::Result<PathBuf> {
    let bench = std::env::current_exe()?;
    // target/PROFILE/deps/BENCH
    let folder = bench.parent().and_then(Path::parent).context("a bench outside a build's folder")?;
    let program = folder.join("meterlake");
    ensure!(
        program.is_file(),
        "{} is missing: build it with the profile of this bench (`cargo build --workspace --release` for `cargo bench`)",
        program.display()
    );
    Ok(program)
}

/// A peer by the environment variable that names it, or by its name on the path; `None` where it is absent.
pub fn peer(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let found = Command::new("which").arg(name).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?;
    found.status.success().then(|| path.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_works_costs_what_it_worked() {
        let folder = tempfile::tempdir().unwrap();
        let words = [
            "-c",
            "trap 'exit 0' TERM; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; while :; do sleep 0.05; done",
        ];
        let mut system = System::start("busy", Path::new("sh"), &words, folder.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !system.log().contains("done") {
            system.must_run().unwrap();
            assert!(Instant::now() < deadline);
            std::thread::sleep(TICK);
        }
        let cost = system.finish().unwrap();
        assert!(cost.cpu >= TICK && cost.memory > 0, "{cost:?}");
    }

    #[test]
    fn a_program_that_ends_early_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let mut system =
            System::start("short", Path::new("sh"), &["-c", "echo no config; exit 3"], folder.path()).unwrap();
        while system.must_run().is_ok() {
            std::thread::sleep(TICK);
        }
        assert!(system.must_run().unwrap_err().to_string().contains("no config"));
    }
}
