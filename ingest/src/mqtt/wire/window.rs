//! Which messages of our own the broker has not answered yet: at most as many as it allows at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Below are the ids of requests.
const FIRST_ID: u16 = 16;
/// We say little, and less than most brokers allow.
const MOST: u16 = 100;

pub(super) struct Window {
    room: Semaphore,
    ids: Mutex<Ids>,
}

struct Ids {
    next: u16,
    unanswered: HashSet<u16>,
}

impl Window {
    /// For a broker that allows so many.
    pub(super) fn new(allowed: u16) -> Self {
        let ids = Ids { next: FIRST_ID, unanswered: HashSet::new() };
        Self { room: Semaphore::new(usize::from(allowed.clamp(1, MOST))), ids: Mutex::new(ids) }
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and takes an id. Dropped while it waits, it takes none.
    pub(super) async fn take(&self) -> u16 {
        // The semaphore is never closed; were it, a broker would be asked for more than it allows, and say so.
        if let Ok(room) = self.room.acquire().await {
            room.forget();
        }
        let mut ids = self.ids();
        loop {
            let id = ids.next;
            ids.next = id.checked_add(1).unwrap_or(FIRST_ID);
            // There are many more ids than messages.
            if ids.unanswered.insert(id) {
                return id;
            }
        }
    }

    /// The broker answered. An answer to what was never asked makes no room.
    pub(super) fn answered(&self, id: u16) {
        if self.ids().unanswered.remove(&id) {
            self.room.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn no_more_wait_for_an_answer_than_the_broker_allows() {
        let window = Window::new(2);
        assert_eq!((now(window.take()), now(window.take())), (Some(16), Some(17)));
        assert_eq!(now(window.take()), None);
        window.answered(99);
        assert_eq!(now(window.take()), None, "nobody asked that");
        window.answered(16);
        window.answered(16);
        assert_eq!(now(window.take()), Some(18));
        assert_eq!(now(window.take()), None);
    }

    #[test]
    fn an_id_is_used_again_once_it_is_answered() {
        let window = Window::new(1000);
        assert_eq!(now(window.take()), Some(FIRST_ID), "stays unanswered");
        for _ in 0..70_000_u32 {
            let id = now(window.take()).unwrap();
            assert!(id > FIRST_ID);
            window.answered(id);
        }
    }
}
