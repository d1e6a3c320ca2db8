//! Stopping: on a signal, or when the supervisor goes away; in order, with the name of who is late.

use std::future::Future;
use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Set for the processes that `run` starts: their standard input closes when the supervisor is gone.
pub const SUPERVISED: &str = "METERLAKE_SUPERVISED";

/// How long a part may take to stop before it is named, and again after each such time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A token that is cancelled by SIGINT, SIGTERM, or the end of the supervisor.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        let reason = tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "termination signal",
            () = supervisor_gone() => "end of the supervisor",
        };
        tracing::info!(reason, "stopping");
        token.cancel();
        // A second signal does not wait for anybody.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::warn!("second signal, leaving at once; what was acknowledged is in the journal");
        std::process::exit(130);
    });
    Ok(stop)
}

async fn supervisor_gone() {
    if std::env::var_os(SUPERVISED).is_none() {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel();
    // A thread of its own: a read of standard input cannot be cancelled.
    std::thread::spawn(move || {
        let (mut stdin, mut buffer) = (std::io::stdin().lock(), [0_u8; 64]);
        while !matches!(stdin.read(&mut buffer), Ok(0) | Err(_)) {}
        let _ = gone.send(());
    });
    let _ = told.await;
}

/// Waits for a part to end, naming it each time its patience runs out. Ends it by force after `limit`.
///
/// # Errors
/// What the part returned, its panic, or that it had to be ended by force.
pub async fn finish<T>(name: &str, mut part: JoinHandle<anyhow::Result<T>>, limit: Duration) -> anyhow::Result<T> {
    let started = tokio::time::Instant::now();
    loop {
        match tokio::time::timeout(PATIENCE, &mut part).await {
            Ok(Ok(result)) => return result.map_err(|error| error.context(format!("{name} failed"))),
            Ok(Err(join)) => anyhow::bail!("{name} ended abruptly: {join}"),
            Err(_) if started.elapsed() < limit => {
                tracing::warn!(part = name, waited_s = started.elapsed().as_secs(), "late in stopping");
            }
            Err(_) => {
                part.abort();
                anyhow::bail!("{name} did not stop within {} s and was ended", limit.as_secs());
            }
        }
    }
}

/// Runs until `work` ends or `stop` is cancelled; `None` when it was stopped.
pub async fn until_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        result = work => Some(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_stops_is_ended_by_force_and_named() {
        let stuck = tokio::spawn(std::future::pending::<anyhow::Result<()>>());
        let error = finish("modbus line 7", stuck, Duration::from_secs(12)).await.unwrap_err();
        assert!(error.to_string().contains("modbus line 7 did not stop"), "{error}");
    }

    #[tokio::test]
    async fn the_error_of_a_part_carries_its_name() {
        let failing = tokio::spawn(async { anyhow::Result::<()>::Err(anyhow::anyhow!("disk full")) });
        let error = finish("journal", failing, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "journal failed: disk full");
    }
}
