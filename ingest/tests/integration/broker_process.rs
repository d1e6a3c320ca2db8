//! mosquitto, where `METERLAKE_PEERS=1` says that it is installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::{TcpListener, TcpStream};

use crate::harness::PATIENCE;

/// mosquitto on a free port; killed when dropped.
pub(crate) struct Mosquitto {
    process: Child,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

/// Room for everything that a test sends.
pub(crate) const ROOMY: &str = "max_inflight_messages 1000\nmax_queued_messages 100000\n";

/// Whether peers are to be tried; their absence is a failure then.
fn peers_wanted() -> bool {
    let wanted = std::env::var_os("METERLAKE_PEERS").is_some_and(|value| value == "1");
    if !wanted {
        eprintln!("skipped: set METERLAKE_PEERS=1 to run against mosquitto and paho");
    }
    wanted
}

impl Mosquitto {
    /// Lets everybody in.
    pub(crate) async fn start() -> Option<Self> {
        Self::open(ROOMY).await
    }

    /// Lets everybody in, with settings of choice.
    pub(crate) async fn open(settings: &str) -> Option<Self> {
        Self::with(|_| format!("allow_anonymous true\n{settings}")).await
    }

    /// With the settings of one listener, which may put files into the folder that they are given.
    pub(crate) async fn with(settings: impl FnOnce(&Path) -> String) -> Option<Self> {
        if !peers_wanted() {
            return None;
        }
        let program = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(|program| {
            Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        });
        let program = program.expect("METERLAKE_PEERS=1 needs mosquitto");
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("mosquitto.conf");
        let text = format!("persistence false\nlistener {port} 127.0.0.1\n{}", settings(folder.path()));
        std::fs::write(&configuration, text).unwrap();
        let process = Command::new(program)
            .args(["-c".as_ref(), configuration.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        let up = async { while TcpStream::connect(("127.0.0.1", port)).await.is_err() {} };
        tokio::time::timeout(PATIENCE, up).await.expect("mosquitto listens");
        Some(Self { process, port, folder })
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
