//! The one connection of a line: one request at a time, each with its deadline.
//!
//! The guard: a connection is kept only after a proper answer to the very request that was sent. Timeout, error,
//! cancellation and anything unexpected drop it, since an answer that comes late would be taken for the next one's. Only
//! function codes 3 and 4 are ever sent.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use meterlake_config::device_profile::Function;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::Context as ModbusContext;
use tokio_modbus::prelude::{Client, Slave, SlaveContext, tcp};
use tokio_modbus::{Error, ExceptionCode, ProtocolError, Request, Response};

use super::failure::{Failure, FailureKind};
use super::planner::BlockRequest;

/// A byte stream to a line.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Transport for T {}

/// Makes connections. Tests make them in memory.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// A new connection.
    async fn dial(&self) -> io::Result<Box<dyn Transport>>;
}

/// Connects by TCP.
#[derive(Debug)]
pub(super) struct TcpDial {
    pub(super) host: String,
    pub(super) port: u16,
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A request is twelve bytes and waits for its answer: there is nothing to collect.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// A connection that is there or not.
pub(super) struct Connection {
    dial: Box<dyn Dial>,
    connect_timeout: Duration,
    open: Option<Open>,
    /// Connections made.
    made: u64,
}

struct Open {
    context: ModbusContext,
    heard: Heard,
}

impl Connection {
    pub(super) fn new(dial: Box<dyn Dial>, connect_timeout: Duration) -> Self {
        Self { dial, connect_timeout, open: None, made: 0 }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Connections made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Ends the connection.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Connects unless connected.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        let dialled = timeout(self.connect_timeout, self.dial.dial()).await;
        let stream = dialled
            .map_err(|_| Failure::connect(format_args!("no connection within {:?}", self.connect_timeout)))?
            .map_err(Failure::connect)?;
        let heard = Heard::default();
        let context = tcp::attach(Tap { stream, heard: heard.clone() });
        self.open = Some(Open { context, heard });
        self.made += 1;
        Ok(())
    }

    /// Asks one device for registers. Returns exactly as many as were asked for.
    ///
    /// Cancelled, it drops the connection.
    pub(super) async fn read(
        &mut self,
        unit: u8,
        request: BlockRequest,
        answer_within: Duration,
    ) -> Result<Vec<u16>, Failure> {
        self.open().await?;
        // Taken out for as long as the answer is owed: whatever happens before it is put back drops it.
        let Some(mut open) = self.open.take() else { return Err(Failure::connect("not connected")) };
        open.heard.forget();
        open.context.set_slave(Slave(unit));
        let (first, registers) = (request.range.first, request.registers());
        let call = match request.function {
            Function::HoldingRegisters => Request::ReadHoldingRegisters(first, registers),
            Function::InputRegisters => Request::ReadInputRegisters(first, registers),
        };
        let answer = timeout(answer_within, open.context.call(call)).await;
        let words = match answer {
            Err(_) => {
                let detail = format!("no answer within {answer_within:?}");
                return Err(Failure::without_answer(FailureKind::Timeout, detail));
            }
            Ok(Err(error)) => return Err(misunderstood(&error, &open.heard)),
            Ok(Ok(Err(code))) => {
                let failure = Failure::exception(code_of(code), open.heard.bytes());
                self.open = Some(open);
                return Err(failure);
            }
            Ok(Ok(Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)))) => words,
            Ok(Ok(Ok(other))) => {
                let detail = format!("function code {} in the answer", other.function_code());
                return Err(Failure::answered(FailureKind::BadAnswer, detail, open.heard.bytes()));
            }
        };
        if words.len() != usize::from(registers) {
            let detail = format!("{} registers in the answer, {registers} asked for", words.len());
            return Err(Failure::answered(FailureKind::BadLength, detail, open.heard.bytes()));
        }
        self.open = Some(open);
        Ok(words)
    }
}

fn code_of(code: ExceptionCode) -> u8 {
    code.into()
}

/// What an error of the protocol library means.
fn misunderstood(error: &Error, heard: &Heard) -> Failure {
    let answer = heard.bytes();
    match error {
        Error::Protocol(ProtocolError::HeaderMismatch { .. }) => {
            let detail = "the answer belongs to another request".to_owned();
            Failure::answered(FailureKind::BadAnswer, detail, answer)
        }
        Error::Protocol(ProtocolError::FunctionCodeMismatch { request, .. }) => {
            let detail = format!("the answer has another function code than {request}");
            Failure::answered(FailureKind::BadAnswer, detail, answer)
        }
        Error::Transport(io) => match io.kind() {
            // What the library says of bytes that are no answer; a socket never says these.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Failure::answered(FailureKind::BadAnswer, io.to_string(), answer)
            }
            _ if answer.is_empty() => {
                Failure::without_answer(FailureKind::Disconnected, "the other side closed the connection".to_owned())
            }
            _ => Failure::without_answer(FailureKind::Disconnected, "the connection ended within an answer".to_owned()),
        },
    }
}

/// The bytes heard since the last request, for dead letters. An answer has at most 260.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    const MOST: usize = 512;

    fn forget(&self) {
        self.with(Vec::clear);
    }

    fn bytes(&self) -> Vec<u8> {
        self.with(|bytes| bytes.clone())
    }

    fn note(&self, more: &[u8]) {
        self.with(|bytes| {
            let room = Self::MOST.saturating_sub(bytes.len());
            bytes.extend(more.iter().take(room));
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A stream whose incoming bytes are noted.
#[derive(Debug)]
struct Tap {
    stream: Box<dyn Transport>,
    heard: Heard,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(more) = buf.filled().get(before..) {
            self.heard.note(more);
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
