//! The time of day as a value that can be handed over, so that tests hold it.

use std::fmt;
use std::sync::Arc;

use meterlake_model::Timestamp;

/// Tells the time of day.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub(super) fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// Any other, for tests.
    #[cfg(test)]
    pub(super) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present.
    pub(super) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
