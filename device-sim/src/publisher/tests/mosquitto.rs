//! The publisher against mosquitto, where `METERLAKE_PEERS=1` asks for it; its absence is a failure then.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use super::*;

struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker of its own for the test, or nothing where peers are not asked for.
async fn mosquitto() -> Option<Mosquitto> {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = folder.path().join("mosquitto.conf");
    writeln!(
        std::fs::File::create(&settings).unwrap(),
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0",
        address.port()
    )
    .unwrap();
    let program = ["mosquitto", "/usr/sbin/mosquitto"];
    let child = program
        .iter()
        .find_map(|p| Command::new(p).arg("-c").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok())
        .expect("METERLAKE_PEERS=1 needs mosquitto");
    let broker = Mosquitto { child, address, _folder: folder };
    let answers = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.expect("mosquitto answers");
    Some(broker)
}

#[tokio::test]
async fn cut_connections_to_mosquitto_lose_nothing() {
    let Some(broker) = mosquitto().await else { return };
    cut_while_publishing(broker.address).await;
}

#[tokio::test]
async fn mosquitto_says_when_nobody_hears() {
    let Some(broker) = mosquitto().await else { return };
    let done = publisher(broker.address).publish(stream::iter(messages(1, 24))).await.unwrap();
    assert_eq!((done.acknowledged, done.unheard), (96, 96));
}
