//! Takes the messages that wait, decodes them and hands them over, many at once where many wait.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meterlake_model::{DeadReason, MeterDirectory, ReadingBatch};
use tokio::sync::mpsc;

use super::rate::{self, Limiter};
use super::session::{Queued, Shared};
use super::source::MqttSource;
use super::stats::MqttStats;
use crate::decode::{self, Decoder, Outcome, Receipt, SharedBirths};
use crate::{Ack, Delivery, Directory, IngestError};

/// Decodes until the collector stops and nothing waits any more.
pub(super) async fn run<S: MqttSource>(
    shared: Arc<Shared<S>>,
    mut queue: mpsc::Receiver<Queued>,
    directory: Directory,
    births: SharedBirths,
    out: mpsc::Sender<Delivery>,
) -> Result<(), IngestError> {
    let mut decoder = Decoder::new(births);
    let mut limiter = Limiter::new(shared.broker.device_rate);
    // Of another connection than the delivery that it came upon.
    let mut carried = None;
    loop {
        let first = match carried.take().or_else(|| queue.try_recv().ok()) {
            Some(first) => first,
            None => tokio::select! {
                biased;
                next = queue.recv() => match next {
                    Some(first) => first,
                    None => return Ok(()),
                },
                () = shared.draining.cancelled() => return Ok(()),
            },
        };
        let snapshot = Arc::clone(&directory.borrow());
        if first.epoch != limiter.epoch() {
            decoder.interrupted();
            limiter.connected(first.epoch, shared.away_before(first.epoch));
        }
        let mut gathering = Gathering::new(&shared, &snapshot, &mut decoder, &mut limiter, first.epoch);
        gathering.add(first);
        while gathering.has_room() {
            match queue.try_recv() {
                Ok(next) if next.epoch == gathering.epoch => gathering.add(next),
                Ok(next) => {
                    carried = Some(next);
                    break;
                }
                Err(_) => break,
            }
        }
        if out.send(gathering.finish()).await.is_err() {
            return Err(IngestError::ReceiverGone { source_name: shared.broker.name.clone() });
        }
    }
}

/// A delivery in the making: messages of one connection.
struct Gathering<'a, S: MqttSource> {
    shared: &'a Arc<Shared<S>>,
    directory: &'a MeterDirectory,
    decoder: &'a mut Decoder,
    limiter: &'a mut Limiter,
    epoch: u64,
    batch: ReadingBatch,
    numbers: Option<Range<u64>>,
    receipts: Vec<Receipt>,
    messages: usize,
    bytes: usize,
}

impl<'a, S: MqttSource> Gathering<'a, S> {
    fn new(
        shared: &'a Arc<Shared<S>>,
        directory: &'a MeterDirectory,
        decoder: &'a mut Decoder,
        limiter: &'a mut Limiter,
        epoch: u64,
    ) -> Self {
        let (batch, receipts) = (ReadingBatch::default(), Vec::new());
        Self { shared, directory, decoder, limiter, epoch, batch, numbers: None, receipts, messages: 0, bytes: 0 }
    }

    fn has_room(&self) -> bool {
        self.messages < self.shared.limits.delivery_messages && self.bytes < self.shared.limits.delivery_bytes
    }

    fn add(&mut self, queued: Queued) {
        self.messages += 1;
        self.bytes += queued.message.payload.len();
        if let Some(number) = queued.number {
            let start = self.numbers.as_ref().map_or(number, |numbers| numbers.start);
            self.numbers = Some(start..number + 1);
        }
        self.decode(queued);
    }

    fn decode(&mut self, queued: Queued) {
        let broker = &self.shared.broker;
        let (kept, size) = (queued.message.payload.len(), queued.size);
        if size > broker.max_packet_bytes as usize {
            let whole = if kept < size { format!(", of which the first {kept} are kept") } else { String::new() };
            let detail = format!("the payload has {size} bytes, at most {} are read{whole}", broker.max_packet_bytes);
            return decode::refuse(queued.message, DeadReason::TooLarge, detail, &mut self.batch);
        }
        let device = rate::device(&broker.maps, &queued.message.topic);
        if !self.limiter.allows(device) {
            let (rate, burst) = (broker.device_rate.messages_per_s, broker.device_rate.burst);
            let detail = format!("`{device}` sends more than {burst} messages at once and {rate} a second");
            return decode::refuse(queued.message, DeadReason::Rate, detail, &mut self.batch);
        }
        let (maps, message) = (&broker.maps, &queued.message);
        let refused = self.batch.dead_letters.len();
        let outcome = self.decoder.decode(maps, message, queued.retained, self.directory, &mut self.batch);
        let Outcome { receipt, rebirth, ignored } = outcome;
        MqttStats::add(&self.shared.stats.ignored, usize::from(ignored));
        // Whoever speaks in another's name must not make it drop what it holds.
        let is_another = self.batch.dead_letters[refused..].iter().any(|letter| letter.reason == DeadReason::Identity);
        if self.shared.receipts.is_some() && !is_another {
            self.receipts.extend(receipt);
        }
        if let Some(rebirth) = rebirth {
            // Where too many wait, the decoder asks again.
            let _ = self.shared.requests.try_send(rebirth);
        }
    }

    fn finish(self) -> Delivery {
        let stats = &self.shared.stats;
        MqttStats::add(&stats.readings, self.batch.reading_count());
        MqttStats::add(&stats.events, self.batch.events.len());
        MqttStats::add(&stats.dead_letters, self.batch.dead_letters.len());
        let births = self.decoder.birth_counts();
        for (counter, count) in
            [(&stats.births, births.births), (&stats.deaths, births.deaths), (&stats.sequence_gaps, births.gaps)]
        {
            counter.store(count, Ordering::Relaxed);
        }
        for letter in &self.batch.dead_letters {
            stats.dead_letters_by_reason.add(letter.reason);
        }
        let messages = self.numbers.map(|numbers| self.shared.ledger.hand_over(self.epoch, numbers));
        let told = self.receipts;
        let receipts = self.shared.receipts.clone().filter(|_| !told.is_empty());
        let ack = match (messages, receipts) {
            (None, None) => Ack::none(),
            (messages, receipts) => Ack::new(move || {
                if let Some(messages) = messages {
                    messages.durable();
                }
                if let Some(receipts) = receipts {
                    receipts.durable(told);
                }
            }),
        };
        Delivery { batch: self.batch, ack }
    }
}
