//! `run`: supervises collect, jobs and serve as processes of their own, so that none of them can take another down.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{Global, LogFormat};
use crate::{setup, shutdown};

const PARTS: [&str; 3] = ["collect", "jobs", "serve"];
/// Those that take a changed configuration while they run.
const RELOADING: [&str; 2] = ["collect", "jobs"];
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A process that ran this long starts over with the shortest pause.
const SETTLED: Duration = Duration::from_secs(60);
/// Room for the collector to commit what it holds.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// Starts the three processes and keeps each running until a signal comes; then stops them in order. SIGHUP is passed on
/// to those that can take a changed configuration.
///
/// # Errors
/// When the configuration is wrong, the program cannot find itself, or a part had to be ended by force.
pub async fn run(global: &Global) -> anyhow::Result<()> {
    // A wrong file is refused here once, not three times in three logs.
    setup::load_config(global)?;
    let stop = shutdown::on_signal()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (hangups, _) = watch::channel(());
    let mut supervisors = Vec::new();
    for part in PARTS {
        let (global, stop_part) = (global.clone(), CancellationToken::new());
        let supervisor = tokio::spawn(supervise(part, global, hangups.subscribe(), stop_part.clone()));
        supervisors.push((part, stop_part, supervisor));
    }
    while shutdown::until_stopped(&stop, hangup.recv()).await.flatten().is_some() {
        hangups.send_replace(());
    }
    let mut outcome = Ok(());
    for (part, stop_part, supervisor) in supervisors {
        stop_part.cancel();
        if let Err(error) = shutdown::finish(part, supervisor, STOP_LIMIT).await {
            tracing::error!(part, error = format!("{error:#}"), "did not stop well");
            outcome = Err(error);
        }
    }
    outcome
}

async fn supervise(
    part: &'static str,
    global: Global,
    mut hangups: watch::Receiver<()>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let mut child = start(part, &global)?;
        tracing::info!(part, pid = child.id(), "started");
        // Waiting closes a standard input that the child still owns, which is the request to stop.
        let request = child.stdin.take();
        let ended = wait_passing_hangups(part, &mut child, &mut hangups);
        let Some(status) = shutdown::until_stopped(&stop, ended).await else {
            drop(request);
            return stopped(part, child).await;
        };
        let status = status.with_context(|| format!("cannot wait for {part}"))?;
        if started.elapsed() >= SETTLED {
            pause = FIRST_PAUSE;
        }
        tracing::error!(part, %status, restart_in_ms = pause.as_millis(), "ended; the others go on");
        shutdown::until_stopped(&stop, tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Waits for the end of a child, passing on each request to reload meanwhile.
async fn wait_passing_hangups(
    part: &str,
    child: &mut Child,
    hangups: &mut watch::Receiver<()>,
) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Ok(()) = hangups.changed() => {
                let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                // `serve` holds its address and its folders from start to end.
                if let (Some(pid), true) = (pid, RELOADING.contains(&part))
                    && let Err(error) = kill_process(pid, Signal::HUP)
                {
                    tracing::warn!(part, %error, "cannot pass on the request to reload");
                }
            }
        }
    }
}

fn start(part: &str, global: &Global) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    if let Some(log) = &global.log {
        command.arg("--log").arg(log);
    }
    command.args(["--log-format", if global.log_format == LogFormat::Json { "json" } else { "text" }]);
    command.arg(part).env(shutdown::SUPERVISED, "1").stdin(Stdio::piped());
    command.spawn().with_context(|| format!("cannot start {part}"))
}

/// Waits for a child that was asked to stop.
async fn stopped(part: &str, mut child: Child) -> anyhow::Result<()> {
    let status = child.wait().await.with_context(|| format!("cannot wait for {part}"))?;
    anyhow::ensure!(status.success(), "{part} ended with {status}");
    tracing::info!(part, "stopped");
    Ok(())
}
