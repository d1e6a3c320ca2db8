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

/// The table that is written last by an import and tells its revision.
const REGISTRY_TABLE: &str = "usage_points";
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
    let mut known = version(lake).await?;
    let registry = lake.read_registry(None).await?;
    let (publish, directory) = watch::channel(Arc::new(registry.directory()));
    tracing::info!(revision = registry.revision, meters = directory.borrow().len(), "registry read");
    let lake = lake.clone();
    let task = tokio::spawn(async move {
        while shutdown::until_stopped(&stop, tokio::time::sleep(LOOK)).await.is_some() {
            match changed(&lake, known).await {
                Ok(None) => {}
                Ok(Some((version, view))) => {
                    tracing::info!(meters = view.len(), "registry changed");
                    known = version;
                    publish.send_replace(Arc::new(view));
                }
                Err(error) => tracing::warn!(%error, "cannot read the registry, going on with the last"),
            }
        }
        Ok(())
    });
    Ok((directory, task))
}

/// The newest view, if the registry's table has moved on from a version.
async fn changed(lake: &Lake, known: Option<i64>) -> anyhow::Result<Option<(Option<i64>, MeterDirectory)>> {
    let version = version(lake).await?;
    if version == known {
        return Ok(None);
    }
    let registry = lake.read_registry(None).await?;
    Ok(Some((version, registry.directory())))
}

/// Version of the table that every import writes; `None` before the first import.
async fn version(lake: &Lake) -> anyhow::Result<Option<i64>> {
    if !lake.tables().await?.iter().any(|table| table == REGISTRY_TABLE) {
        return Ok(None);
    }
    Ok(Some(lake.snapshot(REGISTRY_TABLE).await?.version))
}
