//! A program that runs beside a test: its log in a file, stopped or killed by its own id, never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at a condition of another process, which nobody can signal to us.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until the condition gives something, and fails naming it after `limit`.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. What it says on standard error is appended to `log`, which a restart goes on with.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        Self { name: name.to_owned(), child: child.unwrap_or_else(|e| panic!("{name}: {e}")), log: log.to_owned() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails with its log when it has ended by itself.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.name, self.log());
        }
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.must_run();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let id = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(id, Signal::HUP).unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self, limit: Duration) -> (ExitStatus, String) {
        self.must_run();
        let id = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        let status = until(&format!("end of {}", self.name), limit, || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Harmless when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("--- last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
