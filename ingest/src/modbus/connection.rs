//! The one connection of a line: one request at a time, each with its deadline.
//!
//! The guard: after a timeout, an error or anything unexpected an answer may still be on its way, and it would be taken
//! for the next one's. So the connection is dropped; where it is dear (a serial line, a device server that called us) it
//! is kept. Where a shared line is behind it, what comes is thrown away until that is quiet. A cancelled request drops it.
//! Before each request whatever nobody asked for is thrown away, or ends the connection. Only function codes 3 and 4 are
//! ever sent.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use meterlake_config::{ModbusLine, ModbusTransport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::dial::{Idle, Setting, Transport, Way};
use super::failure::{Failure, FailureKind};
use super::frame::{Asked, Look};
use super::heartbeat::Heartbeats;
use super::planner::BlockRequest;

/// A connection that has nothing to do for longer is given back, where that is the habit.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes of an answer that are kept. The longest has 260; heartbeats may lie between.
const MOST_HEARD: usize = 600;
/// A line that is not quiet after so many times what it is drained for is no line.
const NEVER_QUIET: u32 = 4;

/// A connection that is there or not.
pub(super) struct Connection {
    way: Way,
    transport: ModbusTransport,
    connect_timeout: Duration,
    open: Option<Open>,
    /// Since when an answer may be on its way that nobody waits for, also on the next connection. Of a request that was
    /// given up: its deadline, since it may be answered in time.
    owed_since: Option<Instant>,
    /// Connections made.
    made: u64,
    /// Of the newest request.
    transaction: u16,
}

struct Open {
    stream: Box<dyn Transport>,
    last_heard: Instant,
}

impl Connection {
    /// That of a line which is reached in this way.
    pub(super) fn new(line: &ModbusLine, way: Way) -> Self {
        Self {
            way,
            transport: line.transport.clone(),
            connect_timeout: line.connect_timeout,
            open: None,
            owed_since: None,
            made: 0,
            transaction: 0,
        }
    }

    /// Takes another setting. What is open stays so, unless the line is reached in another way now: then it is ended.
    /// Returns whether it is.
    pub(super) fn follow(&mut self, Setting { line, way }: &Setting) -> bool {
        self.connect_timeout = line.connect_timeout;
        if self.transport == line.transport {
            (self.way.habits, self.way.heartbeats) = (way.habits, way.heartbeats.clone());
            return false;
        }
        (self.transport, self.way, self.open) = (line.transport.clone(), way.clone(), None);
        true
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the line is one that connects to us.
    pub(super) fn is_listened_to(&self) -> bool {
        matches!(self.way.habits.idle, Idle::Listen(_))
    }

    /// How much longer than its time-out a request without an answer occupies the line.
    pub(super) fn rest_after_failure(&self) -> Duration {
        self.way.habits.after_failure.rest()
    }

    /// Connections made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Connects unless connected.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        let dialled = timeout(self.connect_timeout, self.way.dial.dial()).await;
        let stream = dialled
            .map_err(|_| Failure::connect(format_args!("no connection within {:?}", self.connect_timeout)))?
            .map_err(Failure::connect)?;
        let now = Instant::now();
        // What a serial line brings now may belong to a request of whoever had it before.
        if self.way.habits.idle == Idle::Keep {
            self.owed_since = self.owed_since.max(Some(now));
        }
        self.open = Some(Open { stream, last_heard: now });
        self.made += 1;
        Ok(())
    }

    /// Lets time pass, less when there is news of the connection. What comes meanwhile is thrown away.
    pub(super) async fn rest(&mut self, rest: Duration) {
        let until = Instant::now() + rest;
        let Idle::Listen(idle_timeout) = self.way.habits.idle else {
            if rest > IDLE && self.way.habits.idle == Idle::GiveBack {
                self.open = None;
            }
            return sleep(rest).await;
        };
        loop {
            let Some(open) = &mut self.open else {
                if timeout_at(until, self.way.dial.ready()).await.is_ok() {
                    // When it is gone again meanwhile there will be another.
                    self.open().await.ok();
                }
                return;
            };
            let ends = open.last_heard + idle_timeout;
            let mut heard = [0; 64];
            match timeout_at(until.min(ends), open.stream.read(&mut heard)).await {
                Ok(Ok(1..)) => open.last_heard = Instant::now(),
                Ok(Ok(0) | Err(_)) => {
                    self.open = None;
                    return;
                }
                Err(_) => {
                    if Instant::now() >= ends {
                        self.open = None;
                    }
                    return;
                }
            }
        }
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
        self.transaction = self.transaction.wrapping_add(1);
        let asked = Asked { framing: self.transport.framing(), transaction: self.transaction, unit, request };
        // Taken out for as long as the answer is owed: whatever happens before it is put back drops it.
        let mut open = self.ready().await?;
        let mut heard = Vec::new();
        let characters = u32::from(request.registers()) * 2 + 16;
        let deadline = Instant::now() + answer_within + self.way.habits.character * characters;
        // Owed until it is there, also to a request that is cancelled.
        self.owed_since = Some(deadline);
        let outcome = timeout_at(deadline, exchange(&mut open, &asked, &self.way.heartbeats, &mut heard)).await;
        let failure = match outcome {
            Ok(Ok(Answer::Words { words, clean })) => {
                if clean || self.way.habits.after_failure.keep {
                    self.open = Some(open);
                }
                self.owed_since = None;
                return Ok(words);
            }
            Ok(Ok(Answer::Exception(code))) => {
                self.open = Some(open);
                self.owed_since = None;
                return Err(Failure::exception(code, heard));
            }
            Ok(Ok(Answer::Wrong(kind, detail))) => Failure::answered(kind, detail, heard),
            Ok(Err(error)) => return Err(ended(&error, &heard)),
            Err(_) if self.way.heartbeats.without_leading(&heard).is_empty() => {
                Failure::without_answer(FailureKind::Timeout, format!("no answer within {answer_within:?}"))
            }
            Err(_) => {
                let detail = format!("no whole answer within {answer_within:?}");
                Failure::answered(FailureKind::BadAnswer, detail, heard)
            }
        };
        self.owed_since = Some(Instant::now());
        if self.way.habits.after_failure.keep {
            self.open = Some(open);
        }
        Err(failure)
    }

    /// A connection on which nothing is on its way.
    async fn ready(&mut self) -> Result<Open, Failure> {
        let mut open = self.taken().await?;
        match throw_away(&mut open).await {
            // It has ended, or somebody answers whom nobody asked: once more from the beginning.
            Ok(true) | Err(_) if !self.way.habits.after_failure.keep => {
                drop(open);
                open = self.taken().await?;
            }
            Err(error) => return Err(ended(&error, &[])),
            Ok(_) => {}
        }
        if let (Some(since), Some((at_least, quiet))) = (self.owed_since, self.way.habits.after_failure.drain) {
            drain(&mut open, since + at_least, quiet, at_least).await.map_err(|error| ended(&error, &[]))?;
        }
        self.owed_since = None;
        if !self.way.habits.gap.is_zero() {
            sleep(self.way.habits.gap).await;
        }
        Ok(open)
    }

    /// The connection, made if need be.
    async fn taken(&mut self) -> Result<Open, Failure> {
        self.open().await?;
        self.open.take().ok_or_else(|| Failure::connect("not connected"))
    }
}

/// What came of a request.
enum Answer {
    /// The registers, and whether nothing came behind them.
    Words {
        words: Vec<u16>,
        clean: bool,
    },
    Exception(u8),
    Wrong(FailureKind, String),
}

/// Sends a request and listens until what came is an answer or cannot be one.
async fn exchange(open: &mut Open, asked: &Asked, heartbeats: &Heartbeats, heard: &mut Vec<u8>) -> io::Result<Answer> {
    open.stream.write_all(&asked.bytes()).await?;
    open.stream.flush().await?;
    loop {
        let mut more = [0; 300];
        let count = open.stream.read(&mut more).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        open.last_heard = Instant::now();
        heard.extend(more.iter().take(count));
        match heartbeats.look(asked, heard) {
            Look::Words(words, used) => return Ok(Answer::Words { words, clean: used == heard.len() }),
            Look::Exception(code, _) => return Ok(Answer::Exception(code)),
            Look::Wrong(kind, detail) => return Ok(Answer::Wrong(kind, detail)),
            Look::More if heard.len() >= MOST_HEARD => {
                return Ok(Answer::Wrong(FailureKind::BadAnswer, "more bytes than any answer has".to_owned()));
            }
            Look::More => {}
        }
    }
}

/// Takes what is there without waiting. Says whether there was something.
async fn throw_away(open: &mut Open) -> io::Result<bool> {
    let mut any = false;
    loop {
        let mut room = [0; 256];
        let mut heard = ReadBuf::new(&mut room);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut open.stream).poll_read(cx, &mut heard))).await;
        match polled {
            Poll::Pending => return Ok(any),
            Poll::Ready(Ok(())) if heard.filled().is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(())) => {
                open.last_heard = Instant::now();
                // A chatterer is not listened to for ever: the drain, or the answer's check, ends it.
                if any && heard.remaining() == 0 {
                    return Ok(true);
                }
                any = true;
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
}

/// Throws away what comes until `earliest`, and from then on until nothing came for `quiet`.
async fn drain(open: &mut Open, earliest: Instant, quiet: Duration, at_least: Duration) -> io::Result<()> {
    let limit = earliest.max(Instant::now()) + (at_least + quiet) * NEVER_QUIET;
    loop {
        let mut heard = [0; 256];
        let wait = earliest.saturating_duration_since(Instant::now()).max(quiet);
        match timeout(wait, open.stream.read(&mut heard)).await {
            Err(_) => return Ok(()),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => open.last_heard = Instant::now(),
            Ok(Err(error)) => return Err(error),
        }
        if Instant::now() > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is never quiet"));
        }
    }
}

fn ended(error: &io::Error, heard: &[u8]) -> Failure {
    let within = if heard.is_empty() { "" } else { " within an answer" };
    let detail = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("the other side closed the connection{within}"),
        _ => format!("the connection ended{within}: {error}"),
    };
    Failure::without_answer(FailureKind::Disconnected, detail)
}

#[cfg(test)]
mod tests;
