//! What a collector hands over: readings, and the promise to tell the sender when they are durable.

use std::fmt;

use meterlake_model::ReadingBatch;

/// Some decoded messages and their acknowledgement.
#[derive(Debug)]
pub struct Delivery {
    /// What the messages said, dead letters included.
    pub batch: ReadingBatch,
    /// To be told when `batch` is durable.
    pub ack: Ack,
}

/// Tells the sender that its messages are durable. Call [`Ack::durable`] after the journal's sync, in order of receipt.
///
/// Dropped without it, the messages count as not durable: they are never acknowledged and come again.
#[must_use = "a message that is never acknowledged comes again"]
pub struct Ack(Option<Box<dyn FnOnce() + Send>>);

impl Ack {
    /// Calls `done` once the batch is durable. It must not block; dropped uncalled, the batch is not durable.
    pub fn new(done: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    /// For input that nobody repeats, such as a poll: nothing to tell.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The batch is on disk. Returns at once.
    pub fn durable(self) {
        if let Some(done) = self.0 {
            done();
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ack" } else { "Ack::none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_what_is_durable_is_acknowledged() {
        let told = Arc::new(AtomicU32::new(0));
        let tell = |told: &Arc<AtomicU32>| {
            let told = Arc::clone(told);
            Ack::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            })
        };
        drop(tell(&told));
        assert_eq!(told.load(Ordering::Relaxed), 0);
        tell(&told).durable();
        Ack::none().durable();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
