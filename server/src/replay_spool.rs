//! Batches that another process hands to the running collector, which alone may write the journal.
//!
//! A batch lies in a small journal of its own, in a folder that is renamed into the spool when it is complete. The
//! collector takes it like a delivery and removes it once it is durable; after a crash in between it is taken again,
//! and its rows are dropped as the repeats that they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use meterlake_ingest::{Ack, Delivery};
use meterlake_model::ReadingBatch;
use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Between two looks at the spool.
const LOOK: Duration = Duration::from_millis(500);
/// Segment size of a spooled batch's own journal.
const SEGMENT_BYTES: u64 = 16 << 20;

fn folder(journal: &Path) -> PathBuf {
    journal.join("replay")
}

/// Hands batches to the collector that owns a journal, under a name that is used once. Returns the folder that
/// disappears when they are durable.
///
/// # Errors
/// When the spool cannot be written, or the name is still waiting there.
pub fn submit(journal: &Path, name: &str, batches: &[ReadingBatch]) -> anyhow::Result<PathBuf> {
    let spool = folder(journal);
    fs::create_dir_all(&spool).with_context(|| format!("cannot create {}", spool.display()))?;
    let (fresh, ready) = (spool.join(format!(".{name}.tmp")), spool.join(name));
    anyhow::ensure!(!ready.exists(), "{} still waits for the collector", ready.display());
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot clear {}", fresh.display()))?;
    }
    let options =
        JournalOptions { dir: fresh.clone(), segment_bytes: SEGMENT_BYTES, keep: Duration::MAX, keep_bytes: u64::MAX };
    let (mut writer, _) = JournalWriter::open(options)?;
    for batch in batches {
        writer.append(batch)?;
    }
    writer.sync()?;
    drop(writer);
    fs::rename(&fresh, &ready).with_context(|| format!("cannot move {} into the spool", fresh.display()))?;
    Ok(ready)
}

fn waiting(journal: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let spool = folder(journal);
    let entries = match fs::read_dir(&spool) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", spool.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Takes what is spooled until stopped.
///
/// # Errors
/// When the collector no longer takes deliveries. What cannot be read is set aside with a log line.
pub async fn follow(journal: PathBuf, out: mpsc::Sender<Delivery>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut taken = std::collections::BTreeSet::new();
    while !stop.is_cancelled() {
        let found = waiting(&journal)?;
        taken.retain(|path| found.contains(path));
        for path in found {
            if taken.insert(path.clone()) {
                take(&path, &out).await?;
            }
        }
        shutdown::until_stopped(&stop, tokio::time::sleep(LOOK)).await;
    }
    Ok(())
}

async fn take(path: &Path, out: &mpsc::Sender<Delivery>) -> anyhow::Result<()> {
    let batches = match read(path) {
        Ok(batches) => batches,
        Err(error) => {
            let aside = path.with_file_name(format!(".bad-{}", path.file_name().unwrap_or_default().to_string_lossy()));
            tracing::error!(path = %path.display(), error = format!("{error:#}"), "spooled batch set aside");
            fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
            return Ok(());
        }
    };
    let last = batches.len().saturating_sub(1);
    tracing::info!(path = %path.display(), batches = batches.len(), "taking a spooled batch");
    for (at, batch) in batches.into_iter().enumerate() {
        let ack = if at == last { removal(path.to_owned()) } else { Ack::none() };
        out.send(Delivery { batch, ack }).await.map_err(|_| anyhow::anyhow!("the journal takes no more"))?;
    }
    Ok(())
}

/// Deliveries are acknowledged in order, so the last one's durability is that of all.
fn removal(path: PathBuf) -> Ack {
    Ack::new(move || {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a spooled batch; it will be taken again");
        }
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<ReadingBatch>> {
    let reader = JournalReader::open(path);
    let batches = reader.read_from(1)?.map(|record| Ok(record?.1)).collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(!batches.is_empty(), "it holds no record");
    Ok(batches)
}
