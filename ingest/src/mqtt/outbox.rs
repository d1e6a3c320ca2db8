//! What we have to say on our own: receipts to gateways, and requests to be born again.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::session::Shared;
use super::source::{MqttSender, MqttSource, Quality};
use super::stats::MqttStats;
use crate::decode::Rebirth;

/// Requests that wait. More are forgotten: the decoder asks again.
pub(super) const REQUESTS: usize = 256;

/// Speaks as there is something to say and somebody to say it to. Never ends by itself.
pub(super) async fn run<S: MqttSource>(shared: Arc<Shared<S>>, mut requests: mpsc::Receiver<Rebirth>) {
    let mut tick = interval(shared.limits.receipt_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(request) = requests.recv() => ask(&shared, request).await,
            _ = tick.tick(), if shared.receipts.is_some() => tell(&shared).await,
        }
    }
}

async fn ask<S: MqttSource>(shared: &Shared<S>, request: Rebirth) {
    let Some(sender) = shared.ledger.sender() else { return };
    if sender.publish(&request.topic, request.payload, Quality::AtMostOnce).await.is_ok() {
        MqttStats::add(&shared.stats.rebirths, 1);
    }
}

async fn tell<S: MqttSource>(shared: &Shared<S>) {
    // Without a connection they wait, and grow together.
    let (Some(receipts), Some(sender)) = (&shared.receipts, shared.ledger.sender()) else { return };
    for telling in receipts.due() {
        // With its connection goes what was to be told; whoever misses it sends again.
        if sender.publish(&telling.topic, telling.payload, Quality::AtLeastOnce).await.is_err() {
            return;
        }
        MqttStats::add(&shared.stats.receipts, 1);
    }
}
