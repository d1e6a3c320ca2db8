//! Readings from another process to the collector, which alone writes the journal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meterlake_config::Config;
use meterlake_model::{ReadingBatch, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::status::{self, CollectStatus};
use crate::{pipeline, progress, replay_spool};

/// How long the collector may take to make batches durable.
const DURABLE_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// Gives batches to the collector, or to one that this process runs for as long as it takes.
///
/// # Errors
/// When the collector does not make them durable in time; it still does when it can.
pub(crate) async fn hand_over(config: &Config, name: &str, batches: &[ReadingBatch]) -> anyhow::Result<()> {
    let journal = &config.collect.journal;
    let spooled = replay_spool::submit(journal, name, batches)?;
    let spinner = progress::spinner("waiting until the collector has made them durable");
    let outcome = if collector_runs(journal) {
        wait_until_taken(&spooled).await
    } else {
        take_with_own_collector(config, &spooled).await
    };
    spinner.finish_and_clear();
    outcome
}

fn collector_runs(journal: &Path) -> bool {
    let now_s = Timestamp::now().unix_seconds();
    status::read_report(journal).ok().flatten().is_some_and(|report| report.is_fresh(now_s) && lives(report.pid))
}

/// A collector that was killed leaves a fresh report behind.
fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn wait_until_taken(spooled: &Path) -> anyhow::Result<()> {
    let taken = async {
        while spooled.exists() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(DURABLE_LIMIT, taken).await.with_context(|| {
        format!(
            "the collector has not taken {} within {} s; it will when it can",
            spooled.display(),
            DURABLE_LIMIT.as_secs()
        )
    })
}

/// A collector without sources, just for the spool. The usual lock keeps any other away meanwhile.
async fn take_with_own_collector(config: &Config, spooled: &Path) -> anyhow::Result<()> {
    let alone = Config { mqtt: Vec::new(), modbus: Vec::new(), ..config.clone() };
    let stop = CancellationToken::new();
    let status = Arc::new(CollectStatus::default());
    let collector = pipeline::collect(&alone, None, status, stop.clone());
    let wait = async {
        let outcome = wait_until_taken(spooled).await;
        stop.cancel();
        outcome
    };
    let (collected, waited) = tokio::join!(collector, wait);
    collected.and(waited)
}
