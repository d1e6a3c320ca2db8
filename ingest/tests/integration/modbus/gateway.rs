//! A gateway on a real socket that says what a test tells it to, byte by byte. It shares no code with the collector.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::modbus::telling;

/// A request as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    /// Number of the request on this gateway, from 0.
    pub(crate) nth: usize,
    pub(crate) transaction: u16,
    pub(crate) unit: u8,
    pub(crate) function: u8,
    pub(crate) first: u16,
    pub(crate) registers: u16,
}

/// What the gateway does next on the connection.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    /// One byte a segment.
    Trickle(Vec<u8>),
    Close,
}

impl Asked {
    /// A frame with this header and this content behind the unit.
    pub(crate) fn frame(&self, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 1).unwrap();
        let mut frame = self.transaction.to_be_bytes().to_vec();
        frame.extend([0, 0]);
        frame.extend(length.to_be_bytes());
        frame.push(self.unit);
        frame.extend(content);
        frame
    }

    /// The proper answer with these registers, however many.
    pub(crate) fn answer(&self, words: &[u16]) -> Vec<u8> {
        let mut content = vec![self.function, u8::try_from(words.len() * 2).unwrap()];
        content.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self.frame(&content)
    }

    /// The registers of a device whose every register tells unit and address.
    pub(crate) fn words(&self) -> Vec<u16> {
        telling::words(self.unit, self.first, self.registers)
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        self.frame(&[self.function | 0x80, code])
    }
}

type Behaviour = Box<dyn FnMut(&Asked) -> Vec<Act> + Send>;

struct Shared {
    behave: Behaviour,
    asked: Vec<Asked>,
}

/// The gateway; it goes when dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Listens on a free port of this machine; `behave` answers each request.
    pub(crate) async fn start(behave: impl FnMut(&Asked) -> Vec<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared { behave: Box::new(behave), asked: Vec::new() }));
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().asked.clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        tasks.spawn(serve(stream, connection, Arc::clone(&shared)));
    }
}

/// Ends with the connection.
async fn serve(mut stream: TcpStream, connection: usize, shared: Arc<Mutex<Shared>>) -> Option<()> {
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await.ok()?;
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let acts = {
            let mut shared = shared.lock().unwrap();
            let asked = Asked {
                connection,
                nth: shared.asked.len(),
                transaction: word(0),
                unit: request[6],
                function: request[7],
                first: word(8),
                registers: word(10),
            };
            shared.asked.push(asked);
            (shared.behave)(&asked)
        };
        for act in acts {
            match act {
                Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
                Act::Trickle(bytes) => {
                    for byte in bytes {
                        stream.write_all(&[byte]).await.ok()?;
                        tokio::task::yield_now().await;
                    }
                }
                Act::Close => return None,
            }
        }
    }
}
