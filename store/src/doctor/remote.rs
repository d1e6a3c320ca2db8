//! Tables on an object store: their logs, and the files that they name by one listing each.
//!
//! A put there is whole or not at all, so no log has a torn end; what can be wrong is what was removed by other hands.

use std::collections::HashMap;

use super::{Depth, Finding, Severity, finding, unsafe_};
use crate::error::StoreError;
use crate::lake::{Lake, list_data};
use crate::table::TableSnapshot;

/// All tables: their snapshots, where the log can be read.
pub(super) async fn examine_tables(lake: &Lake, depth: Depth, findings: &mut Vec<Finding>) -> Vec<TableSnapshot> {
    let names = match lake.tables().await {
        Ok(names) => names,
        Err(e) => {
            let repair =
                "see that the store is up, that the bucket is there, and that the keys of `[lake.s3]` may list it";
            findings.push(unsafe_(lake.root().display(), e, repair));
            return Vec::new();
        }
    };
    let mut snapshots = Vec::new();
    for name in names {
        match examine_table(lake, &name, depth, findings).await {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(e) => {
                let repair = "bring back what was removed from the bucket, such as from its older object versions";
                findings.push(unsafe_(&name, e, repair));
            }
        }
    }
    snapshots
}

async fn examine_table(
    lake: &Lake,
    name: &str,
    depth: Depth,
    findings: &mut Vec<Finding>,
) -> Result<TableSnapshot, StoreError> {
    let snapshot = lake.snapshot(name).await?;
    let objects = list_data(&*lake.locked(name).await?).await?;
    let mut sizes: HashMap<&str, u64> = objects.iter().map(|o| (o.location.as_ref(), o.size)).collect();
    for file in &snapshot.files {
        let message = match sizes.remove(file.path.as_str()) {
            Some(size) if size == file.size => continue,
            Some(size) => format!("file {} has {size} bytes, the log says {}", file.path, file.size),
            None => format!("file {} with {} rows is not there", file.path, file.rows),
        };
        let repair =
            "bring the file back from a copy or an older object version; a derived table is made again by its job";
        findings.push(unsafe_(name, message, repair));
    }
    if depth == Depth::Whole && !sizes.is_empty() {
        let message = format!("{} files of {} bytes are not part of it now", sizes.len(), sizes.values().sum::<u64>());
        let repair = "older versions may still be read; maintenance removes them in time";
        findings.push(finding(Severity::Note, name, message, repair));
    }
    Ok(snapshot)
}
