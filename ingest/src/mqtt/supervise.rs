//! Connects again, watches, and stops in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meterlake_config::{MqttBroker, Takeover};
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
use super::{Limits, Memory, batch, outbox};
use crate::{Delivery, Directory, IngestError};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// MQTT 3.1.1 has no word for a session that another client took, and that of MQTT 5 did not always arrive from mosquitto under
/// load. A broker that closes so many connections in a row, each granted and none older than this, most likely means that;
/// a network that fails again and again must not be taken for it, since whoever stands by collects nothing.
const CLOSED_IN_A_ROW: u32 = 10;
const CLOSED_SOON: Duration = Duration::from_secs(2);
/// How long the broker may take to close the connection after we took leave.
const LEAVE: Duration = Duration::from_secs(3);

pub(super) async fn run<S: MqttSource>(
    broker: MqttBroker,
    limits: Limits,
    directory: Directory,
    memory: Memory,
    out: mpsc::Sender<Delivery>,
    stats: Arc<MqttStats>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    // With room for a whole window the poll task waits for nothing but bytes.
    let (queue, queued) = mpsc::channel(usize::from(broker.receive_maximum).max(64));
    let (requests, requested) = mpsc::channel(outbox::REQUESTS);
    let shared = Arc::new(Shared::<S>::new(broker, limits, memory.filters, stats, queue, requests));
    let _outbox = AbortOnDropHandle::new(tokio::spawn(outbox::run(Arc::clone(&shared), requested)));
    let acknowledger = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared.ledger).acknowledge()));
    let mut decoder =
        AbortOnDropHandle::new(tokio::spawn(batch::run(Arc::clone(&shared), queued, directory, memory.births, out)));
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
    let (mut lost, mut standby) = (Backoff::of_connections(), Backoff::of_standby());
    let mut suspicion = Suspicion::default();
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
        let lasted = begun.elapsed();
        let end = suspicion.judge(end, shared.is_subscribed(), lasted);
        shared.end();
        let useful = shared.stats.acknowledged.load(Ordering::Relaxed) > acknowledged;
        let wait = match end {
            End::Fatal(error) => return Err(error),
            End::Refused(reason) if first => {
                return Err(IngestError::ConnectionRefused { broker: broker.clone(), reason });
            }
            End::Refused(reason) => {
                MqttStats::add(&shared.stats.connections_refused, 1);
                warn!(broker, reason, "the broker refuses the connection");
                lost.after(lasted, useful)
            }
            End::Lost(reason) => {
                MqttStats::add(&shared.stats.connections_lost, 1);
                warn!(broker, reason, "connection lost");
                lost.after(lasted, useful)
            }
            End::Closed => {
                MqttStats::add(&shared.stats.connections_lost, 1);
                warn!(broker, reason = "the broker closed the connection", "connection lost");
                lost.after(lasted, useful)
            }
            End::TakenOver => {
                MqttStats::add(&shared.stats.taken_over, 1);
                match shared.broker.takeover {
                    Takeover::Fight => {
                        warn!(broker, "another client took our session; it is taken back");
                        lost.after(lasted, false)
                    }
                    Takeover::Yield => {
                        let wait = standby.after(lasted, false);
                        let (client_id, seconds) = (&shared.broker.client_id, wait.as_secs());
                        warn!(broker, client_id, seconds, "another client took our session; standing by");
                        shared.stats.standing_by.store(true, Ordering::Relaxed);
                        wait
                    }
                }
            }
        };
        first = false;
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(wait) => {}
        }
        if shared.stats.standing_by.swap(false, Ordering::Relaxed) {
            warn!(broker, "stood by long enough; taking the session");
        }
    }
}

/// Takes connections that a broker closes without a word for takeovers, where they follow each other closely.
#[derive(Default)]
struct Suspicion {
    in_a_row: u32,
}

impl Suspicion {
    fn judge(&mut self, end: End, subscribed: bool, lasted: Duration) -> End {
        if !matches!(end, End::Closed) || !subscribed || lasted > CLOSED_SOON {
            self.in_a_row = 0;
            return end;
        }
        self.in_a_row += 1;
        if self.in_a_row < CLOSED_IN_A_ROW {
            return end;
        }
        self.in_a_row = 0;
        End::TakenOver
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
