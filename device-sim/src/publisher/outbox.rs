//! The outbox: every message from the moment it is taken until its PUBACK.
//!
//! A message waits, is handed to the client library, gets a packet id, and leaves with the PUBACK of that id. A broken
//! connection puts all that has not left back to waiting, in its old order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::error::SimError;

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) ledger_number: Option<u64>,
}

/// A message with its place in the order in which messages were taken.
type Placed = (u64, Entry);

#[derive(Debug, Default)]
struct State {
    connected: bool,
    taken: u64,
    /// To be handed to the library, oldest first.
    waiting: VecDeque<Placed>,
    /// Handed over, without a packet id yet; the library numbers them in this order.
    handed: VecDeque<Placed>,
    /// By packet id.
    in_flight: BTreeMap<u16, Placed>,
    acknowledged: Vec<u64>,
    fatal: Option<SimError>,
}

impl State {
    fn out(&self) -> usize {
        self.handed.len() + self.in_flight.len()
    }
}

/// Shared by the publisher and its connection.
#[derive(Debug)]
pub(super) struct Outbox {
    window: usize,
    state: Mutex<State>,
    changed: Arc<Notify>,
}

impl Outbox {
    pub(super) fn new(window: usize, changed: Arc<Notify>) -> Self {
        Self { window, state: Mutex::default(), changed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No caller leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state();
        let place = state.taken;
        state.taken += 1;
        state.waiting.push_back((place, entry));
    }

    /// Hands waiting messages to `send`, as many as the window allows; one that `send` refuses stays.
    pub(super) fn hand_over(&self, mut send: impl FnMut(&Entry) -> bool) {
        let mut state = self.state();
        while state.connected && state.out() < self.window {
            let Some(placed) = state.waiting.pop_front() else { return };
            if !send(&placed.1) {
                state.waiting.push_front(placed);
                return;
            }
            state.handed.push_back(placed);
        }
    }

    /// Whether another message may be taken.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.connected && state.out() < self.window
    }

    /// Whether every message has left.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.out() == 0
    }

    /// The ledger's numbers of what was acknowledged since the last call.
    pub(super) fn take_acknowledged(&self) -> Vec<u64> {
        std::mem::take(&mut self.state().acknowledged)
    }

    /// What ends publishing, once.
    pub(super) fn fatal(&self) -> Option<SimError> {
        self.state().fatal.take()
    }

    /// The connection stands.
    pub(super) fn connected(&self) {
        self.state().connected = true;
        self.changed.notify_one();
    }

    /// The library gave the oldest message that was handed over this packet id.
    pub(super) fn numbered(&self, id: u16) {
        let mut state = self.state();
        if let Some(placed) = state.handed.pop_front()
            && let Some(lost) = state.in_flight.insert(id, placed)
        {
            // An id that is in use cannot be given again; if it is, the older message must not vanish.
            state.waiting.push_front(lost);
        }
    }

    /// The broker acknowledged a packet id; `heard` unless it says that nobody subscribes. Returns whether the id was
    /// known.
    pub(super) fn acknowledged(&self, id: u16, heard: bool) -> bool {
        let mut state = self.state();
        let Some((_, entry)) = state.in_flight.remove(&id) else { return false };
        if heard {
            state.acknowledged.extend(entry.ledger_number);
        }
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The connection broke: `forget` throws away all that the library holds, while nobody can hand it more. Returns how
    /// many messages will be sent again.
    pub(super) fn broken(&self, forget: impl FnOnce()) -> u64 {
        let mut state = self.state();
        forget();
        state.connected = false;
        let mut again: Vec<Placed> = std::mem::take(&mut state.in_flight).into_values().collect();
        again.extend(state.handed.drain(..));
        let count = again.len() as u64;
        again.extend(state.waiting.drain(..));
        again.sort_by_key(|(place, _)| *place);
        state.waiting = again.into();
        drop(state);
        self.changed.notify_one();
        count
    }

    /// Publishing cannot go on.
    pub(super) fn fail(&self, error: SimError) {
        self.state().fatal = Some(error);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(window: usize, messages: u64) -> Outbox {
        let outbox = Outbox::new(window, Arc::default());
        for number in 0..messages {
            outbox.push(Entry { topic: "t".into(), payload: Bytes::new(), ledger_number: Some(number) });
        }
        outbox
    }

    fn hand_over(outbox: &Outbox) -> Vec<u64> {
        let mut sent = Vec::new();
        outbox.hand_over(|entry| {
            sent.extend(entry.ledger_number);
            true
        });
        sent
    }

    #[test]
    fn nothing_goes_out_before_the_connection_stands_or_beyond_the_window() {
        let outbox = outbox(2, 3);
        assert_eq!(hand_over(&outbox), [0; 0]);
        outbox.connected();
        assert_eq!(hand_over(&outbox), [0, 1]);
        assert_eq!(hand_over(&outbox), [0; 0]);
        outbox.numbered(1);
        assert!(outbox.acknowledged(1, true));
        assert_eq!(hand_over(&outbox), [2]);
        assert_eq!(outbox.take_acknowledged(), [0]);
    }

    #[test]
    fn a_broken_connection_sends_all_that_is_unacknowledged_again_in_order() {
        let outbox = outbox(10, 5);
        outbox.connected();
        assert_eq!(hand_over(&outbox), [0, 1, 2, 3, 4]);
        for id in [7, 3, 9] {
            outbox.numbered(id);
        }
        assert!(outbox.acknowledged(3, true));
        assert_eq!(outbox.broken(|| {}), 4);
        assert!(!outbox.acknowledged(7, true), "an acknowledgement of the dead connection counts for nothing");
        assert_eq!(hand_over(&outbox), [0; 0]);
        outbox.connected();
        assert_eq!(hand_over(&outbox), [0, 2, 3, 4]);
        assert!(!outbox.is_empty());
    }

    #[test]
    fn a_message_that_nobody_hears_is_done_but_not_acknowledged() {
        let outbox = outbox(10, 1);
        outbox.connected();
        hand_over(&outbox);
        outbox.numbered(1);
        assert!(outbox.acknowledged(1, false));
        assert!(outbox.is_empty());
        assert!(outbox.take_acknowledged().is_empty());
    }
}
