//! An RTU device that says what a test tells it to, over any byte stream. It shares no code with the collector.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_serial::{SerialPort as _, SerialStream};

use crate::modbus::telling;

/// A request as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Number of the request at this device, from 0.
    pub(crate) nth: usize,
    pub(crate) unit: u8,
    pub(crate) function: u8,
    pub(crate) first: u16,
    pub(crate) registers: u16,
}

/// What the device does next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    Wait(Duration),
}

/// The checksum, bit by bit as the protocol's document has it.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0xFFFF_u16;
    for byte in bytes {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 };
        }
    }
    sum.to_le_bytes()
}

pub(crate) fn summed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &checksum(bytes)].concat()
}

impl Asked {
    /// The proper answer with these registers, however many.
    pub(crate) fn answer(&self, words: &[u16]) -> Vec<u8> {
        let mut answer = vec![self.unit, self.function, u8::try_from(words.len() * 2).unwrap()];
        answer.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        summed(&answer)
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        summed(&[self.unit, self.function | 0x80, code])
    }

    /// The registers of a device whose every register tells unit and address.
    pub(crate) fn words(&self) -> Vec<u16> {
        telling::words(self.unit, self.first, self.registers)
    }
}

pub(crate) type Behaviour = Arc<Mutex<dyn FnMut(&Asked) -> Vec<Act> + Send>>;

pub(crate) fn behaviour(behave: impl FnMut(&Asked) -> Vec<Act> + Send + 'static) -> Behaviour {
    Arc::new(Mutex::new(behave))
}

/// Answers until the stream ends. `nth` counts over all streams of the device.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    nth: Arc<Mutex<usize>>,
    behave: Behaviour,
) -> io::Result<()> {
    loop {
        let mut request = [0; 8];
        stream.read_exact(&mut request).await?;
        assert_eq!(checksum(&request[..6]), request[6..], "a request with its checksum");
        let asked = {
            let mut nth = nth.lock().unwrap();
            *nth += 1;
            let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
            Asked { nth: *nth - 1, unit: request[0], function: request[1], first: word(2), registers: word(4) }
        };
        assert!(matches!(asked.function, 3 | 4), "nothing is ever written: {asked:?}");
        let acts = (behave.lock().unwrap())(&asked);
        for act in acts {
            match act {
                Act::Say(bytes) => stream.write_all(&bytes).await?,
                Act::Wait(time) => tokio::time::sleep(time).await,
            }
        }
    }
}

/// A pseudo-terminal whose one side is the device's, the other to be opened by its name.
pub(crate) fn terminal() -> (SerialStream, String) {
    let (device, ours) = SerialStream::pair().expect("a pseudo-terminal");
    let name = ours.name().expect("a terminal with a name");
    (device, name)
}

/// Two pseudo-terminals to be opened by their names: what is written to one is read from the other.
pub(crate) fn joined_terminals() -> [String; 2] {
    let ((first, first_name), (second, second_name)) = (terminal(), terminal());
    let (from_first, to_first) = tokio::io::split(first);
    let (from_second, to_second) = tokio::io::split(second);
    async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut bytes = [0; 300];
        loop {
            match from.read(&mut bytes).await {
                Ok(count @ 1..) => to.write_all(&bytes[..count]).await.unwrap(),
                // Nobody has the other end.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
    tokio::spawn(pass(from_first, to_second));
    tokio::spawn(pass(from_second, to_first));
    [first_name, second_name]
}

/// A device at the end of a serial line. Returns the name of the line's other end.
pub(crate) fn on_serial_line(behave: Behaviour) -> String {
    let (mut device, name) = terminal();
    tokio::spawn(async move {
        let nth = Arc::default();
        loop {
            // While nobody has the other end, reading is an error.
            serve(&mut device, Arc::clone(&nth), Arc::clone(&behave)).await.ok();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    name
}

/// A device behind a serial device server: all connections share the one line, and what it says goes to the newest.
pub(crate) async fn behind_device_server(behave: Behaviour) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (line, server) = tokio::io::duplex(1024);
    let (mut from_line, mut to_line) = tokio::io::split(server);
    tokio::spawn(serve(line, Arc::default(), behave));
    tokio::spawn(async move {
        let mut newest: Option<tokio::net::TcpStream> = None;
        let (mut said, mut asked) = ([0; 512], [0; 512]);
        loop {
            tokio::select! {
                accepted = listener.accept() => newest = accepted.ok().map(|(stream, _)| stream),
                count = from_line.read(&mut said) => {
                    let Ok(count @ 1..) = count else { return };
                    if let Some(stream) = &mut newest {
                        stream.write_all(&said[..count]).await.ok();
                    }
                }
                count = async { newest.as_mut().unwrap().read(&mut asked).await }, if newest.is_some() => match count {
                    Ok(count @ 1..) => to_line.write_all(&asked[..count]).await.unwrap(),
                    _ => newest = None,
                },
            }
        }
    });
    address
}
