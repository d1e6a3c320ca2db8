//! The collectors' view of the registry, kept current while they run.

use std::sync::Arc;
use std::time::Duration;

use meterlake_ingest::Directory;
use meterlake_model::MeterDirectory;
use meterlake_store::Lake;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Between two looks at the registry's revision.
const LOOK: Duration = Duration::from_secs(2);

/// Reads the registry and follows its revisions until stopped.
///
/// # Errors
/// When the registry cannot be read at the start. Later failures are logged, and the newest view stays.
pub async fn follow(
    lake: &Lake,
    stop: CancellationToken,
) -> anyhow::Result<(Directory, JoinHandle<anyhow::Result<()>>)> {
    let registry = lake.read_registry(None).await?;
    let mut revision = registry.revision;
    let (publish, directory) = watch::channel(Arc::new(registry.directory()));
    tracing::info!(revision, meters = directory.borrow().len(), "registry read");
    let lake = lake.clone();
    let task = tokio::spawn(async move {
        while shutdown::until_stopped(&stop, tokio::time::sleep(LOOK)).await.is_some() {
            match changed(&lake, revision).await {
                Ok(None) => {}
                Ok(Some((newest, view))) => {
                    tracing::info!(revision = newest, meters = view.len(), "registry changed");
                    revision = newest;
                    publish.send_replace(Arc::new(view));
                }
                Err(error) => tracing::warn!(%error, "cannot read the registry, going on with the last"),
            }
        }
        Ok(())
    });
    Ok((directory, task))
}

async fn changed(lake: &Lake, known: i64) -> anyhow::Result<Option<(i64, MeterDirectory)>> {
    if lake.registry_revision().await? == known {
        return Ok(None);
    }
    let registry = lake.read_registry(None).await?;
    Ok(Some((registry.revision, registry.directory())))
}
