//! Group sync: many appends, one `fdatasync`, on a thread of its own. Answers go out in the order of the appends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

use meterlake_model::ReadingBatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::codec::EncodedBatch;
use super::error::JournalError;
use super::writer::JournalWriter;

/// When a group of appends is synced: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSync {
    /// After the group's first append. Zero: what has queued up is a group.
    pub max_delay: Duration,
    /// Bytes of the group.
    pub max_bytes: usize,
    /// Between two looks whether a full disk has room again.
    pub space_retry: Duration,
}

impl Default for GroupSync {
    fn default() -> Self {
        Self { max_delay: Duration::from_millis(1), max_bytes: 1 << 20, space_retry: Duration::from_millis(500) }
    }
}

/// What waits to be synced may take this many bytes; then callers wait.
const QUEUE_BYTES: usize = 64 << 20;

/// Counters for metrics.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Records made durable.
    pub records: AtomicU64,
    /// Bytes made durable, as stored.
    pub bytes: AtomicU64,
    /// Calls of `fdatasync`.
    pub syncs: AtomicU64,
    /// Times that the disk was found full.
    pub no_space: AtomicU64,
}

enum Request {
    Append { record: EncodedBatch, reply: oneshot::Sender<Result<u64, JournalError>>, permit: OwnedSemaphorePermit },
    Release(u64),
    Close(oneshot::Sender<()>),
}

/// The shared way to the journal's thread. Cheap to clone; the thread ends when all are dropped or one is closed.
#[derive(Clone)]
pub struct JournalHandle {
    requests: Sender<Request>,
    room: Arc<Semaphore>,
    synced: watch::Receiver<u64>,
    stats: Arc<JournalStats>,
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl JournalHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn spawn(writer: JournalWriter, group: GroupSync) -> Result<Self, JournalError> {
        let (requests, inbox) = std::sync::mpsc::channel();
        let (publish, synced) = watch::channel(writer.synced());
        let stats = Arc::new(JournalStats::default());
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker { writer, group, inbox, publish, stats: stats.clone(), stop: stop.clone(), full: false };
        let join = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || worker.run())
            .map_err(|e| JournalError::io("start the thread of", std::path::Path::new("journal"), e))?;
        let thread = join.thread().clone();
        Ok(Self { requests, room: Arc::new(Semaphore::new(QUEUE_BYTES)), synced, stats, stop, thread })
    }

    /// Appends a batch; returns its position once it is durable. While the disk is full it waits.
    ///
    /// Dropping the future does not take the batch back.
    ///
    /// # Errors
    /// `TooLarge` for this batch alone; `Poisoned` or `Stopped`, after which nothing more is taken.
    pub async fn append(&self, batch: Arc<ReadingBatch>) -> Result<u64, JournalError> {
        let record = EncodedBatch::new(&batch)?;
        drop(batch);
        let weight = u32::try_from(record.len().clamp(1, QUEUE_BYTES)).unwrap_or(u32::MAX);
        let permit = self.room.clone().acquire_many_owned(weight).await.map_err(|_| JournalError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Append { record, reply, permit };
        self.requests.send(request).map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)?
    }

    /// Tells that every table durably holds all rows up to a position.
    pub fn release(&self, committed: u64) {
        // A thread that has ended keeps its segments, which is safe.
        let _ = self.requests.send(Request::Release(committed));
    }

    /// The newest durable position, as it moves.
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// Counters.
    pub fn stats(&self) -> Arc<JournalStats> {
        self.stats.clone()
    }

    /// Syncs what was appended before and ends the thread; the lock is free afterwards.
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        self.stop.store(true, Ordering::Release);
        if self.requests.send(Request::Close(reply)).is_ok() {
            self.thread.unpark();
            // An error means that the thread has ended, too.
            let _ = done.await;
        }
    }
}

type Waiting = (oneshot::Sender<Result<u64, JournalError>>, u64, usize, OwnedSemaphorePermit);

struct Worker {
    writer: JournalWriter,
    group: GroupSync,
    inbox: Receiver<Request>,
    publish: watch::Sender<u64>,
    stats: Arc<JournalStats>,
    stop: Arc<AtomicBool>,
    full: bool,
}

impl Worker {
    fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let Ok(first) = self.inbox.recv() else { break };
            let mut waiting = Vec::new();
            closing = self.take(first, &mut waiting);
            if closing.is_none() && !waiting.is_empty() {
                closing = self.gather(&mut waiting);
            }
            self.sync_and_answer(waiting);
        }
        drop(self.writer);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Adds to the group until it is large or old enough.
    fn gather(&mut self, waiting: &mut Vec<Waiting>) -> Option<oneshot::Sender<()>> {
        let deadline = Instant::now() + self.group.max_delay;
        while self.writer.pending_bytes() < self.group.max_bytes {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = if left.is_zero() {
                match self.inbox.try_recv() {
                    Ok(request) => request,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
                }
            } else {
                match self.inbox.recv_timeout(left) {
                    Ok(request) => request,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                }
            };
            let closing = self.take(request, waiting);
            if closing.is_some() {
                return closing;
            }
        }
        None
    }

    fn take(&mut self, request: Request, waiting: &mut Vec<Waiting>) -> Option<oneshot::Sender<()>> {
        match request {
            Request::Append { record, reply, permit } => {
                let bytes = record.len();
                match self.with_space(|writer| writer.append_encoded(&record)) {
                    Ok(position) => waiting.push((reply, position, bytes, permit)),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
                None
            }
            Request::Release(committed) => {
                if let Err(error) = self.writer.release(committed, SystemTime::now()) {
                    tracing::warn!(error = %error.line(), "cannot release journal segments");
                }
                None
            }
            Request::Close(reply) => Some(reply),
        }
    }

    fn sync_and_answer(&mut self, waiting: Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let result = self.with_space(JournalWriter::sync);
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = self.writer.synced();
        self.publish.send_replace(synced);
        let reason = result.err().map(|error| error.line());
        for (reply, position, bytes, permit) in waiting {
            // A roll may have synced the group's first part although its last part failed.
            let answer = match &reason {
                Some(reason) if position > synced => Err(JournalError::Poisoned { reason: reason.clone() }),
                _ => {
                    self.stats.records.fetch_add(1, Ordering::Relaxed);
                    self.stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    Ok(position)
                }
            };
            // Nobody may be waiting any more.
            let _ = reply.send(answer);
            drop(permit);
        }
    }

    /// Tries again while the disk is full, until told to stop.
    fn with_space<T>(
        &mut self,
        mut action: impl FnMut(&mut JournalWriter) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        loop {
            let error = match action(&mut self.writer) {
                Err(error) if error.is_retryable() => error,
                other => {
                    if std::mem::take(&mut self.full) {
                        tracing::info!("the journal has space again");
                    }
                    return other;
                }
            };
            if !std::mem::replace(&mut self.full, true) {
                tracing::error!(error = %error.line(), "the journal waits for space; nothing is acknowledged");
            }
            self.stats.no_space.fetch_add(1, Ordering::Relaxed);
            if self.stop.load(Ordering::Acquire) {
                return Err(error);
            }
            std::thread::park_timeout(self.group.space_retry);
        }
    }
}
