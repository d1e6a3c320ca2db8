//! Takes the messages that wait, decodes them and hands them over, many at once where many wait.

use std::ops::Range;
use std::sync::Arc;

use meterlake_model::{DeadReason, MeterDirectory, ReadingBatch};
use tokio::sync::mpsc;

use super::session::{Queued, Shared};
use super::source::MqttSource;
use super::stats::MqttStats;
use crate::{Ack, Delivery, Directory, IngestError, decode};

/// Decodes until the collector stops and nothing waits any more.
pub(super) async fn run<S: MqttSource>(
    shared: Arc<Shared<S>>,
    mut queue: mpsc::Receiver<Queued>,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
) -> Result<(), IngestError> {
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
        let mut gathering = Gathering::new(&shared, &snapshot, first.epoch);
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
    epoch: u64,
    batch: ReadingBatch,
    numbers: Option<Range<u64>>,
    messages: usize,
    bytes: usize,
}

impl<'a, S: MqttSource> Gathering<'a, S> {
    fn new(shared: &'a Arc<Shared<S>>, directory: &'a MeterDirectory, epoch: u64) -> Self {
        Self { shared, directory, epoch, batch: ReadingBatch::default(), numbers: None, messages: 0, bytes: 0 }
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
        match queued.cut_from {
            Some(size) => {
                let kept = queued.message.payload.len();
                let detail = format!("the payload has {size} bytes, of which the first {kept} are kept");
                decode::refuse(queued.message, DeadReason::TooLarge, detail, &mut self.batch);
            }
            None => {
                let maps = &self.shared.broker.maps;
                decode::decode(maps, &queued.message, queued.retained, self.directory, &mut self.batch);
            }
        }
    }

    fn finish(self) -> Delivery {
        let stats = &self.shared.stats;
        MqttStats::add(&stats.readings, self.batch.reading_count());
        MqttStats::add(&stats.events, self.batch.events.len());
        MqttStats::add(&stats.dead_letters, self.batch.dead_letters.len());
        let ack = match self.numbers {
            Some(numbers) => {
                let receipt = self.shared.ledger.hand_over(self.epoch, numbers);
                Ack::new(move || receipt.durable())
            }
            None => Ack::none(),
        };
        Delivery { batch: self.batch, ack }
    }
}
