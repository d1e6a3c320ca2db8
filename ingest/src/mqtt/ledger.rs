//! Which messages wait for their acknowledgement: in order of receipt, by connection.
//!
//! Acknowledgements are sent in the order of receipt (MQTT-4.6.0-2) whatever the order in which messages become durable,
//! and only on the connection that brought them: each connection is an epoch, and what belongs to an older epoch is
//! dropped under the same lock that opens the next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::source::{MqttSender, Packet};
use super::stats::MqttStats;

/// Acknowledgements that are sent between two looks at the ledger.
const BUNCH: usize = 256;

pub(super) struct Ledger<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    stats: Arc<MqttStats>,
}

struct State<T> {
    epoch: u64,
    /// Of the connection that is open, if any.
    sender: Option<T>,
    /// Number of the entry at the front.
    first: u64,
    entries: VecDeque<Entry>,
}

struct Entry {
    packet: Packet,
    received: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not decoded yet.
    Queued,
    /// With the receiver.
    HandedOver,
    /// To be acknowledged.
    Durable,
    /// The receiver dropped it: it is not durable and comes again.
    Dropped,
}

impl<T: MqttSender> Ledger<T> {
    pub(super) fn new(stats: Arc<MqttStats>) -> Self {
        let state = State { epoch: 0, sender: None, first: 0, entries: VecDeque::new() };
        Self { state: Mutex::new(state), changed: Notify::new(), stats }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the epoch of a new connection and forgets all of older ones.
    pub(super) fn open(&self, sender: T) -> u64 {
        let mut state = self.lock();
        self.forget(&mut state);
        state.sender = Some(sender);
        state.epoch
    }

    /// Ends the epoch: nothing of it is acknowledged any more.
    pub(super) fn close(&self) {
        self.forget(&mut self.lock());
    }

    fn forget(&self, state: &mut State<T>) {
        state.epoch += 1;
        state.sender = None;
        state.first += state.entries.len() as u64;
        state.entries.clear();
        MqttStats::set(&self.stats.unacknowledged, 0);
        self.changed.notify_waiters();
    }

    /// Enters a message in order of receipt and gives its number.
    pub(super) fn received(&self, packet: Packet) -> u64 {
        let mut state = self.lock();
        state.entries.push_back(Entry { packet, received: Instant::now(), stage: Stage::Queued });
        MqttStats::set(&self.stats.unacknowledged, state.entries.len());
        state.first + state.entries.len() as u64 - 1
    }

    /// Marks messages; `false` where their connection is gone.
    fn mark(&self, epoch: u64, numbers: &Range<u64>, stage: Stage) -> bool {
        let mut state = self.lock();
        if state.epoch != epoch {
            return false;
        }
        let first = state.first;
        let place = |number: u64| usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        let end = place(numbers.end).min(state.entries.len());
        let start = place(numbers.start).min(end);
        for entry in state.entries.range_mut(start..end) {
            entry.stage = stage;
        }
        if stage == Stage::Durable {
            let now = Instant::now();
            let received = state.entries.range(start..end).map(|entry| entry.received);
            self.stats.durable_after.add(received.map(|received| now.saturating_duration_since(received)));
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Messages leave for the receiver; the receipt tells what becomes of them.
    pub(super) fn hand_over(self: &Arc<Self>, epoch: u64, numbers: Range<u64>) -> Receipt<T> {
        self.mark(epoch, &numbers, Stage::HandedOver);
        Receipt { ledger: Arc::clone(self), epoch, numbers, told: false }
    }

    /// How long the oldest message has waited.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.lock().entries.front().map(|entry| entry.received.elapsed())
    }

    /// The next messages to acknowledge, from the front up to the first that is not durable.
    fn due(&self) -> Option<(u64, T, Vec<Packet>)> {
        let state = self.lock();
        let durable = state.entries.iter().take_while(|entry| entry.stage == Stage::Durable);
        let packets: Vec<_> = durable.take(BUNCH).map(|entry| entry.packet).collect();
        if packets.is_empty() {
            return None;
        }
        Some((state.epoch, state.sender.clone()?, packets))
    }

    fn acknowledged(&self, epoch: u64, count: usize) {
        let mut state = self.lock();
        if state.epoch != epoch {
            return;
        }
        state.entries.drain(..count);
        state.first += count as u64;
        MqttStats::set(&self.stats.unacknowledged, state.entries.len());
        MqttStats::add(&self.stats.acknowledged, count);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The connection is gone; its session will say so too, and another epoch begins.
    fn sender_gone(&self, epoch: u64) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.sender = None;
        }
    }

    /// Sends acknowledgements as they become due. Never ends by itself.
    pub(super) async fn acknowledge(self: Arc<Self>) {
        loop {
            // Registered before the look, so that no change between the two is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let Some((epoch, sender, packets)) = self.due() else {
                changed.await;
                continue;
            };
            let mut sent = 0;
            while sent < packets.len() && sender.acknowledge(packets[sent]).await.is_ok() {
                sent += 1;
            }
            self.acknowledged(epoch, sent);
            if sent < packets.len() {
                self.sender_gone(epoch);
            }
        }
    }

    /// Waits until nothing is left that is, or may become, due: all acknowledged, dropped or never handed over.
    pub(super) async fn settled(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                let front = state.entries.front().map(|entry| entry.stage);
                if state.sender.is_none() || !matches!(front, Some(Stage::HandedOver | Stage::Durable)) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// The sender of the open connection.
    pub(super) fn sender(&self) -> Option<T> {
        self.lock().sender.clone()
    }
}

/// What the receiver holds for some messages. Dropped without a word it says that they are not durable.
pub(super) struct Receipt<T: MqttSender> {
    ledger: Arc<Ledger<T>>,
    epoch: u64,
    numbers: Range<u64>,
    told: bool,
}

impl<T: MqttSender> Receipt<T> {
    /// The messages are durable.
    pub(super) fn durable(mut self) {
        self.told = true;
        if !self.ledger.mark(self.epoch, &self.numbers, Stage::Durable) && !self.numbers.is_empty() {
            let count = self.numbers.end - self.numbers.start;
            self.ledger.stats.stale_acknowledgements.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl<T: MqttSender> Drop for Receipt<T> {
    fn drop(&mut self) {
        if !self.told {
            self.ledger.mark(self.epoch, &self.numbers, Stage::Dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Quality, SourceError, Subject};
    use super::*;
    use tokio::sync::mpsc;

    #[derive(Clone)]
    struct Recorder(mpsc::UnboundedSender<u16>);

    impl MqttSender for Recorder {
        async fn unsubscribe(&self, _: &[String]) -> Result<(), SourceError> {
            Ok(())
        }

        async fn subscribe(&self, _: Subject, _: &[String]) -> Result<(), SourceError> {
            Ok(())
        }
        async fn acknowledge(&self, packet: Packet) -> Result<(), SourceError> {
            self.0.send(packet.id).map_err(|_| SourceError::Lost("gone".to_owned()))
        }
        async fn publish(&self, _: &str, _: Vec<u8>, _: Quality) -> Result<(), SourceError> {
            Ok(())
        }
        async fn disconnect(&self) -> Result<(), SourceError> {
            Ok(())
        }
    }

    fn ledger() -> (Arc<Ledger<Recorder>>, tokio::task::JoinHandle<()>) {
        let ledger = Arc::new(Ledger::new(Arc::default()));
        let task = tokio::spawn(Arc::clone(&ledger).acknowledge());
        (ledger, task)
    }

    fn packet(id: u16) -> Packet {
        Packet { id, exactly_once: false }
    }

    async fn next(acks: &mut mpsc::UnboundedReceiver<u16>, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(acks.recv().await.unwrap());
        }
        ids
    }

    #[tokio::test]
    async fn acknowledgements_go_out_in_order_of_receipt_whatever_becomes_durable_first() {
        let (ledger, _task) = ledger();
        let (sender, mut acks) = mpsc::unbounded_channel();
        let epoch = ledger.open(Recorder(sender));
        for id in [7, 3, 9] {
            ledger.received(packet(id));
        }
        let (a, b, c) = (ledger.hand_over(epoch, 0..1), ledger.hand_over(epoch, 1..2), ledger.hand_over(epoch, 2..3));
        c.durable();
        b.durable();
        tokio::task::yield_now().await;
        assert!(acks.try_recv().is_err(), "the first is not durable yet");
        a.durable();
        assert_eq!(next(&mut acks, 3).await, [7, 3, 9]);
        ledger.settled().await;
        assert_eq!(ledger.oldest(), None);
    }

    #[tokio::test]
    async fn what_an_older_connection_brought_is_never_acknowledged_on_a_newer_one() {
        let (ledger, _task) = ledger();
        let (old, mut old_acks) = mpsc::unbounded_channel();
        let epoch = ledger.open(Recorder(old));
        let number = ledger.received(packet(1));
        let stale = ledger.hand_over(epoch, number..number + 1);
        let (new, mut acks) = mpsc::unbounded_channel();
        let epoch = ledger.open(Recorder(new));
        let number = ledger.received(packet(1));
        let fresh = ledger.hand_over(epoch, number..number + 1);
        stale.durable();
        tokio::task::yield_now().await;
        assert!(old_acks.try_recv().is_err() && acks.try_recv().is_err());
        assert_eq!(ledger.stats.stale_acknowledgements.load(Ordering::Relaxed), 1);
        fresh.durable();
        assert_eq!(next(&mut acks, 1).await, [1]);
    }

    #[tokio::test]
    async fn what_is_dropped_stays_unacknowledged_and_holds_back_what_came_later() {
        let (ledger, _task) = ledger();
        let (sender, mut acks) = mpsc::unbounded_channel();
        let epoch = ledger.open(Recorder(sender));
        let (a, b) = (ledger.received(packet(1)), ledger.received(packet(2)));
        drop(ledger.hand_over(epoch, a..a + 1));
        ledger.hand_over(epoch, b..b + 1).durable();
        ledger.settled().await;
        assert!(acks.try_recv().is_err());
        assert!(ledger.oldest().is_some());
    }
}
