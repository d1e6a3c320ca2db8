//! Holds a publisher back to what others can take: an embedded broker drops what exceeds its memory, so a demonstration
//! sends no faster than the collector makes durable.

use std::future::Future;

use tokio::sync::watch;

use super::Progress;

/// Decides when the next message may go.
pub trait Pace: Send {
    /// Resolves when the next message may be sent. May be dropped before that and asked again.
    fn ready(&mut self, progress: Progress) -> impl Future<Output = ()> + Send;
}

/// Never holds back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpaced;

impl Pace for Unpaced {
    async fn ready(&mut self, _progress: Progress) {}
}

/// At most so many messages ahead of a count of messages that someone else has dealt with.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// Messages that are dealt with: durable at the collector, dead letters too. When its sender is gone, nothing is
    /// held back any more.
    pub durable: watch::Receiver<u64>,
    /// How many messages more may be sent.
    pub messages: u64,
}

impl Pace for Ahead {
    async fn ready(&mut self, progress: Progress) {
        let allowed = self.messages;
        // An error means that the sender is gone.
        let _ = self.durable.wait_for(|done| progress.messages < done.saturating_add(allowed)).await;
    }
}

impl<F, W> Pace for F
where
    F: FnMut(Progress) -> W + Send,
    W: Future<Output = ()> + Send,
{
    async fn ready(&mut self, progress: Progress) {
        self(progress).await;
    }
}
