//! Connects again, watches, and stops in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meterlake_config::MqttBroker;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::session::{self, End, Shared};
use super::source::{MqttSender, MqttSource};
use super::stats::MqttStats;
use super::{Limits, batch};
use crate::{Delivery, Directory, IngestError};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take to close the connection after we took leave.
const LEAVE: Duration = Duration::from_secs(3);

pub(super) async fn run<S: MqttSource>(
    broker: MqttBroker,
    limits: Limits,
    directory: Directory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    // With room for a whole window the poll task waits for nothing but bytes.
    let (queue, queued) = mpsc::channel(usize::from(broker.receive_maximum).max(64));
    let shared = Arc::new(Shared::<S>::new(broker, limits, stats, queue));
    let acknowledger = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared.ledger).acknowledge()));
    let mut decoder = AbortOnDropHandle::new(tokio::spawn(batch::run(Arc::clone(&shared), queued, directory, out)));
    let result = tokio::select! {
        ended = connections(&shared, &stop) => ended,
        ended = &mut decoder => return Err(decoder_ended(&shared, ended)),
    };
    let connection = result?;
    shut_down(&shared, connection, decoder).await;
    drop(acknowledger);
    Ok(())
}

type Connection = AbortOnDropHandle<End>;

/// One connection after the other until the stop, which leaves the last one open.
async fn connections<S: MqttSource>(
    shared: &Arc<Shared<S>>,
    stop: &CancellationToken,
) -> Result<Option<Connection>, IngestError> {
    let broker = &shared.broker.name;
    let mut backoff = Backoff::new();
    let mut first = true;
    loop {
        let (begun, acknowledged) = (Instant::now(), shared.stats.acknowledged.load(Ordering::Relaxed));
        shared.begin();
        let mut connection = AbortOnDropHandle::new(tokio::spawn(session::run(Arc::clone(shared))));
        let end = tokio::select! {
            () = stop.cancelled() => return Ok(Some(connection)),
            reason = overdue(shared) => {
                MqttStats::add(&shared.stats.watchdog_drops, 1);
                // Everything of the connection is dropped with its task: nothing is polled again after a cancellation.
                connection.abort();
                let _ = (&mut connection).await;
                End::Lost(reason)
            }
            ended = &mut connection => match ended {
                Ok(end) => end,
                Err(error) => return Err(internal(broker, &error)),
            },
        };
        shared.end();
        match end {
            End::Fatal(error) => return Err(error),
            End::Refused(reason) if first => {
                return Err(IngestError::ConnectionRefused { broker: broker.clone(), reason });
            }
            End::Refused(reason) => warn!(broker, reason, "the broker refuses the connection"),
            End::Lost(reason) => warn!(broker, reason, "connection lost"),
        }
        first = false;
        let useful = shared.stats.acknowledged.load(Ordering::Relaxed) > acknowledged;
        let wait = backoff.after(begun.elapsed(), useful);
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(wait) => {}
        }
    }
}

/// Waits until the connection must be dropped, and says why.
async fn overdue<S: MqttSource>(shared: &Shared<S>) -> String {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Some(reason) = shared.overdue() {
            return reason;
        }
    }
}

/// Hands over what was received, waits for its acknowledgements, takes leave. Each wait is bounded and says who is late.
async fn shut_down<S: MqttSource>(
    shared: &Arc<Shared<S>>,
    connection: Option<Connection>,
    decoder: AbortOnDropHandle<Result<(), IngestError>>,
) {
    let broker = &shared.broker.name;
    shared.draining.cancel();
    let deadline = Instant::now() + shared.limits.drain;
    if tokio::time::timeout_at(deadline, decoder).await.is_err() {
        warn!(broker, "the receiver did not take all messages in time: the broker sends them again");
    }
    if let Some(mut connection) = connection {
        tokio::select! {
            // Without the connection nothing can be acknowledged.
            _ = &mut connection => {}
            settled = tokio::time::timeout_at(deadline, shared.ledger.settled()) => {
                if settled.is_err() {
                    warn!(broker, "messages were not durable in time: the broker sends them again");
                }
                if let Some(sender) = shared.ledger.sender() {
                    let _ = timeout(LEAVE, sender.disconnect()).await;
                    let _ = timeout(LEAVE, &mut connection).await;
                }
            }
        }
    }
    shared.end();
    info!(broker, "stopped");
}

fn decoder_ended<S: MqttSource>(shared: &Shared<S>, ended: Result<Result<(), IngestError>, JoinError>) -> IngestError {
    shared.end();
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => IngestError::ReceiverGone { source_name: shared.broker.name.clone() },
        Err(error) => internal(&shared.broker.name, &error),
    }
}

fn internal(broker: &str, error: &JoinError) -> IngestError {
    IngestError::Internal { source_name: broker.to_owned(), detail: error.to_string() }
}
