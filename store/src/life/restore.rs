//! A backup back in place: every file is compared with its checksum before the first is copied.

use std::fs;
use std::path::Path;

use super::backup::{checksum, failed, write};
use super::manifest::{FileManifest, Manifest, own_dir};
use crate::doctor::{self, Depth};
use crate::error::StoreError;
use crate::lake::Lake;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// What was restored.
    pub manifest: Manifest,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of all tables.
    pub rows: u64,
}

/// Restores a backup, or the newest of its folder, into a lake and a journal that are not there yet, and has the doctor
/// look at them. What the journal holds beyond the tables comes into them at the collector's next start.
///
/// # Errors
/// `Refused` before anything is written: a file that is damaged or missing, a place that is not empty. After that: when
/// something cannot be written, or the doctor finds the result unsafe.
pub async fn restore(
    from: &Path,
    name: Option<&str>,
    lake: &Path,
    journal: &Path,
) -> Result<RestoreReport, StoreError> {
    let manifest = Manifest::read(from, name)?;
    for place in [lake, journal] {
        let empty = !place.exists() || fs::read_dir(place).map_err(|e| failed(place, e))?.next().is_none();
        if !empty {
            let reason = "it is not empty: restore beside it, then change the places";
            return Err(StoreError::refused(&place.display().to_string(), reason));
        }
    }
    let kept_journal = own_dir(from, &manifest.name).join("journal");
    let mut copies: Vec<_> =
        manifest.places(from).into_iter().map(|(source, to, file)| (source, lake.join(to), file)).collect();
    copies.extend(manifest.journal.iter().map(|f| (kept_journal.join(&f.path), journal.join(&f.path), f)));
    let mut bad = Vec::new();
    for (source, _, file) in &copies {
        match checksum(source, &file.path) {
            Ok(found) if same(&found, file) => {}
            Ok(_) => bad.push(format!("{} does not match its checksum", source.display())),
            Err(e) => bad.push(e.to_string()),
        }
    }
    if !bad.is_empty() {
        let reason = format!("{} files are damaged, nothing was restored:\n  {}", bad.len(), bad.join("\n  "));
        return Err(StoreError::refused(&manifest.name, reason));
    }
    let (files, mut bytes) = (copies.len(), 0);
    for (source, to, file) in copies {
        let read = fs::read(&source).map_err(|e| failed(&source, e))?;
        write(&to, &read)?;
        bytes += file.size;
    }
    // What a backup without records needs, too.
    for place in [lake, journal] {
        fs::create_dir_all(place).map_err(|e| failed(place, e))?;
    }
    let findings = doctor::examine(lake, journal, Depth::Whole).await;
    if let Some(finding) = doctor::refusal(&findings) {
        return Err(StoreError::refused(&manifest.name, format!("it was restored and is not sound: {finding}")));
    }
    let restored = Lake::open(lake)?;
    let mut rows = 0;
    for (table, expected) in &manifest.tables {
        let state = restored.snapshot(table).await?;
        if (state.rows(), state.version) != (expected.rows, expected.version) {
            let reason = format!("it has {} rows instead of {}", state.rows(), expected.rows);
            return Err(StoreError::refused(table, reason));
        }
        rows += state.rows();
    }
    Ok(RestoreReport { manifest, files, bytes, rows })
}

fn same(found: &FileManifest, expected: &FileManifest) -> bool {
    (found.size, &found.sha256) == (expected.size, &expected.sha256)
}
