//! Whether other programs are asked for, and the Python ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};

/// Whether the test is to run against peers; says so where not.
pub(crate) fn asked_for() -> bool {
    let asked = std::env::var("METERLAKE_PEERS").as_deref() == Ok("1");
    if !asked {
        println!("skipped: set METERLAKE_PEERS=1 to run against mosquitto and the Python peers");
    }
    asked
}

static MACHINE: Mutex<()> = Mutex::const_new(());

/// Holds other tests that load the machine back: what is shown at a rate needs the cores.
pub async fn whole_machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().await
}

/// A file of `tests/peers`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers").join(name)
}

/// Runs a Python peer to its end and gives what it printed.
pub(crate) fn python(name: &str, arguments: &[&Path]) -> String {
    let answer =
        Command::new("python3").arg(script(name)).args(arguments).output().expect("METERLAKE_PEERS=1 needs python3");
    assert!(
        answer.status.success(),
        "{name} failed; its needs are in tests/peers/requirements.txt:\n{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    String::from_utf8(answer.stdout).unwrap()
}
