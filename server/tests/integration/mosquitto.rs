//! mosquitto on a free port of this machine, with limits that make it drop nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Process, until};
use crate::site::PATIENCE;

pub(crate) struct Mosquitto {
    _process: Process,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Mosquitto {
    pub(crate) fn start() -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("mosquitto.conf");
        // Unlimited queues: a broker that drops what it acknowledged would make the ledger blame the collector.
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_inflight_messages 1000\nmax_queued_messages 0\nmax_queued_bytes 0\nlog_type error\nlog_type warning\n",
            address.port()
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = Command::new(program());
        command.arg("-c").arg(&settings);
        let mut process = Process::start("mosquitto", command, &folder.path().join("mosquitto.log"));
        until("mosquitto listens", PATIENCE, || {
            process.must_run();
            TcpStream::connect(address).ok()
        });
        Self { _process: process, address, _folder: folder }
    }
}

fn program() -> &'static str {
    let there =
        |program: &&str| Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(there).expect("METERLAKE_PEERS=1 needs mosquitto")
}

/// An address of this machine that nobody listens at.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The `[[mqtt]]` table of a broker.
pub(crate) fn broker_table(address: SocketAddr, topic: &str, map: &str) -> String {
    format!(
        "[[mqtt]]\nname = \"yard\"\nhost = \"{}\"\nport = {}\ntopics = [\"{topic}\"]\nmaps = [\"{map}\"]\n\n",
        address.ip(),
        address.port()
    )
}
