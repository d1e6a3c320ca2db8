//! Another configuration while the collector runs: checked whole first, then only what changed is touched.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use meterlake_config::Config;
use meterlake_model::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::Global;
use crate::{setup, status};

/// How long the command waits for the collector's answer: sources that go may take a minute to stop.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// What became of the last request to reload.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// Counts the requests since the collector's start, from 1.
    pub number: u64,
    /// Whether the new configuration holds now; if not, the old one goes on.
    pub applied: bool,
    /// What changed, or why it was refused.
    pub detail: String,
}

/// A request to reload: the new configuration, or why the file is refused.
pub type Request = Result<Config, String>;

/// Reads the configuration again at each SIGHUP. A file that is refused is a request, too, so that whoever asked is told.
///
/// # Errors
/// When the signal handler cannot be installed.
pub fn on_hangup(global: &Global) -> std::io::Result<mpsc::Receiver<Request>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (requests, receiver) = mpsc::channel(1);
    let global = global.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let request = setup::load_config(&global).map_err(|error| format!("{error:#}"));
            if requests.send(request).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Keys that hold from the start of the process to its end, and differ.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (o, n) = (&old.collect, &new.collect);
    let moved = old.lake.root.to_string() != new.lake.root.to_string();
    [
        ("[lake] root", moved),
        ("[lake.s3]", !moved && old.lake != new.lake),
        ("[collect] name", o.name != n.name),
        ("[collect] journal", o.journal != n.journal),
        ("[collect] segment_bytes", o.segment_bytes != n.segment_bytes),
        ("[collect] journal_keep", o.journal_keep != n.journal_keep),
        ("[collect] journal_keep_bytes", o.journal_keep_bytes != n.journal_keep_bytes),
        ("[collect] sync_delay", o.sync_delay != n.sync_delay),
        ("[collect] sync_bytes", o.sync_bytes != n.sync_bytes),
        ("[collect] queue", o.queue != n.queue),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// `reload`: checks the file, asks the running collector to take it, and waits for its answer.
///
/// # Errors
/// When the file is refused (the collector is not even asked), when no collector runs, or when it refuses the change.
pub async fn command(global: &Global) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let journal = &config.collect.journal;
    let (pid, before) = running_collector(journal)?;
    kill_process(pid, Signal::HUP).with_context(|| format!("cannot signal the collector, process {pid:?}"))?;
    let answer = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let report = status::read_report(journal)?;
            if let Some(outcome) = report.and_then(|report| report.reload).filter(|outcome| outcome.number > before) {
                return anyhow::Ok(outcome);
            }
        }
    };
    let outcome = tokio::time::timeout(ANSWER_LIMIT, answer).await.with_context(|| {
        format!("the collector has not answered within {} s; see its log", ANSWER_LIMIT.as_secs())
    })??;
    if !outcome.applied {
        bail!("the collector goes on with its old configuration: {}", outcome.detail);
    }
    println!("{}", outcome.detail);
    Ok(())
}

/// The process of the collector that owns the journal, and the number of its last reload.
fn running_collector(journal: &Path) -> anyhow::Result<(Pid, u64)> {
    let none = || format!("no collector runs on the journal {}: there is nothing to reload", journal.display());
    let report = status::read_report(journal)?.with_context(none)?;
    ensure!(report.is_fresh(Timestamp::now().unix_seconds()), none());
    let pid = i32::try_from(report.pid).ok().and_then(Pid::from_raw).with_context(none)?;
    Ok((pid, report.reload.map_or(0, |outcome| outcome.number)))
}

#[cfg(test)]
mod tests {
    use meterlake_config::LakeRoot;

    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = Config::default();
        let mut new = Config::default();
        assert!(needs_restart(&old, &new).is_empty());
        new.collect.commit_rows = 5;
        new.jobs.interval = Duration::from_secs(60);
        assert!(needs_restart(&old, &new).is_empty(), "limits of a commit are followed");
        new.collect.journal = "elsewhere".into();
        new.lake.root = LakeRoot::Folder("other".into());
        assert_eq!(needs_restart(&old, &new), ["[lake] root", "[collect] journal"]);
    }
}
