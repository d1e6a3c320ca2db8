//! A TCP proxy on loopback that cuts, stalls and restores connections on command: a network that fails when a test says
//! so.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use meterlake_device_sim::FaultProxy;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let proxy = FaultProxy::start(upstream.local_addr().unwrap()).await.unwrap();
//! let mut client = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
//! let (mut server, _) = upstream.accept().await.unwrap();
//! client.write_all(b"hello").await.unwrap();
//! let mut heard = [0; 5];
//! server.read_exact(&mut heard).await.unwrap();
//!
//! proxy.cut();
//! assert!(matches!(client.read(&mut heard).await, Ok(0) | Err(_)));
//! proxy.restore();
//! # });
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::SimError;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Bytes that one direction of one connection holds.
const BUFFER: usize = 16 * 1024;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections stand, nothing moves.
    Stalled,
    /// New connections are reset.
    Cut,
}

/// How the network is, and how often it was cut: a cut that is over before a task looks must still end its connection.
#[derive(Debug, Clone, Copy)]
struct Network {
    mode: Mode,
    cuts: u64,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    connections: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and connects each client to `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self, SimError> {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = listening.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|e| SimError::io("fault proxy on 127.0.0.1", e))?;
        let network = watch::Sender::new(Network { mode: Mode::Open, cuts: 0 });
        let stop = CancellationToken::new();
        let connections = Arc::new(AtomicU64::new(0));
        let relay = Relay { upstream, network: network.subscribe(), connections: Arc::clone(&connections) };
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = relay.accept(listener) => {}
            }
        });
        Ok(Self { address, network, connections, _stop: stop.drop_guard() })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were carried through to the other side until now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Resets every connection, and new ones until [`FaultProxy::restore`].
    pub fn cut(&self) {
        self.network.send_modify(|n| {
            n.mode = Mode::Cut;
            n.cuts += 1;
        });
    }

    /// Stops all bytes while connections stand: a half-open network. New connections wait too.
    pub fn stall(&self) {
        self.network.send_modify(|n| n.mode = Mode::Stalled);
    }

    /// Ends a cut or a stall; what a stall held back goes on.
    pub fn restore(&self) {
        self.network.send_modify(|n| n.mode = Mode::Open);
    }
}

#[derive(Clone)]
struct Relay {
    upstream: SocketAddr,
    network: watch::Receiver<Network>,
    connections: Arc<AtomicU64>,
}

impl Relay {
    async fn accept(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let client = match listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    tracing::warn!(%error, "fault proxy cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            };
            let relay = self.clone();
            let cuts = self.network.borrow().cuts;
            tasks.spawn(async move {
                relay.connection(client, cuts).await;
                drop(permit);
            });
        }
    }

    /// Carries a connection that began after so many cuts.
    async fn connection(mut self, client: TcpStream, cuts: u64) {
        let mut cut = self.network.clone();
        let carried = async {
            // A stalled network carries no new connection either. An error means that the proxy ends.
            self.network.wait_for(|n| n.mode == Mode::Open).await.map_err(|_| io::ErrorKind::Other)?;
            let server = TcpStream::connect(self.upstream).await?;
            self.connections.fetch_add(1, Ordering::Relaxed);
            server.set_nodelay(true)?;
            client.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::try_join!(
                copy(from_client, to_server, self.network.clone()),
                copy(from_server, to_client, self.network.clone())
            )?;
            io::Result::Ok(())
        };
        // What is still under way when the cut comes is lost with the sockets.
        tokio::select! {
            biased;
            _ = cut.wait_for(|n| n.mode == Mode::Cut || n.cuts != cuts) => {}
            _ = carried => {}
        }
    }
}

/// Carries bytes one way while the network is open.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if network.wait_for(|n| n.mode == Mode::Open).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn pair(proxy: &FaultProxy, upstream: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        (client, upstream.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_stall_holds_bytes_back_and_a_restore_lets_them_go() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(upstream.local_addr().unwrap()).await.unwrap();
        let (mut client, mut server) = pair(&proxy, &upstream).await;
        proxy.stall();
        client.write_all(b"late").await.unwrap();
        let mut heard = [0; 4];
        assert!(timeout(Duration::from_millis(50), server.read(&mut heard)).await.is_err());
        proxy.restore();
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"late");
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_refuses_new_ones_until_restored() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(upstream.local_addr().unwrap()).await.unwrap();
        let (mut client, mut server) = pair(&proxy, &upstream).await;
        let mut byte = [0];
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        proxy.cut();
        assert!(matches!(client.read(&mut byte).await, Ok(0) | Err(_)));
        assert!(matches!(server.read(&mut byte).await, Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(matches!(refused.read(&mut byte).await, Ok(0) | Err(_)));
        assert_eq!(proxy.connections(), 1);
        proxy.restore();
        let (mut client, mut server) = pair(&proxy, &upstream).await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        assert_eq!(proxy.connections(), 2);
    }
}
