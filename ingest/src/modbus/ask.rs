//! Asks one device for all of its registers, request by request.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::decode::Block;
use super::device::Device;
use super::failure::{Failure, FailureKind};
use super::planner::BlockRequest;
use super::stats::{DeviceStats, LineStats, count};

/// How long answers may take, and the rest before each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) within: Duration,
    pub(super) pause: Duration,
}

/// What came back.
pub(super) struct Asked {
    /// The blocks that came. None when the device fell silent half-way: they would be repeated, and contradicted, by the
    /// next attempt for the same slot.
    pub(super) blocks: Vec<Block>,
    /// Answers to requests, by their place in the plan, that were no registers; a repeated request may have both.
    pub(super) odd: Vec<(usize, Failure)>,
    /// Why the device is to be tried again later.
    pub(super) silent: Option<Failure>,
}

/// # Errors
/// When the line cannot be connected: that says nothing about the device.
pub(super) async fn ask(
    connection: &mut Connection,
    device: &Device,
    pace: Pace,
    stats: &LineStats,
    counters: &DeviceStats,
) -> Result<Asked, Failure> {
    let mut asked = Asked { blocks: Vec::new(), odd: Vec::new(), silent: None };
    for (place, &request) in device.plan.iter().enumerate() {
        let mut disturbed = Vec::new();
        let answer = question(connection, device.unit, request, pace, (stats, counters), &mut disturbed).await?;
        asked.odd.extend(disturbed.into_iter().map(|failure| (place, failure)));
        match answer {
            Ok(words) => asked.blocks.push(Block { request, words }),
            Err(failure) if failure.silent => {
                asked.blocks.clear();
                asked.silent = Some(failure);
                break;
            }
            // The others may be answered: one register that a device does not have costs only its own column.
            Err(failure) => asked.odd.push((place, failure)),
        }
    }
    if asked.silent.is_none() && asked.blocks.is_empty() {
        // An exception is the device's last word. Anything else may have been a disturbance.
        let disturbed = asked.odd.iter().find(|(_, failure)| failure.kind != FailureKind::Exception);
        asked.silent = disturbed.map(|(_, failure)| failure.clone());
    }
    Ok(asked)
}

/// Asks for registers, and once more where the first answer may have been disturbed or the connection was gone.
/// `disturbed` takes an answer that was.
///
/// # Errors
/// When the line cannot be connected.
pub(super) async fn question(
    connection: &mut Connection,
    unit: u8,
    request: BlockRequest,
    pace: Pace,
    (stats, counters): (&LineStats, &DeviceStats),
    disturbed: &mut Vec<Failure>,
) -> Result<Result<Vec<u16>, Failure>, Failure> {
    let (mut may_be_stale, mut may_repeat) = (connection.is_open(), true);
    loop {
        connection.open().await.inspect_err(|failure| stats.count_failure(failure.kind))?;
        if !pace.pause.is_zero() {
            sleep(pace.pause).await;
        }
        count(&stats.requests);
        count(&counters.requests);
        let asked_at = Instant::now();
        let answer = connection.read(unit, request, pace.within).await;
        if answer.as_ref().map_or_else(|failure| failure.kind == FailureKind::Exception, |_| true) {
            stats.latency.note(asked_at.elapsed());
            counters.latency.note(asked_at.elapsed());
        }
        if let Err(failure) = &answer {
            stats.count_failure(failure.kind);
            counters.count_failure(failure.kind);
            // A connection that was idle may have ended long ago: once more on a new one.
            if failure.kind == FailureKind::Disconnected && may_be_stale {
                may_be_stale = false;
                continue;
            }
            // A disturbed answer would cost the slot these columns: once more, on a new connection.
            if !failure.silent && failure.kind != FailureKind::Exception && may_repeat {
                may_repeat = false;
                disturbed.push(failure.clone());
                continue;
            }
        }
        return Ok(answer);
    }
}
