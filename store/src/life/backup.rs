//! A copy of tables and journal at a consistent state, while everything goes on.
//!
//! The tables' versions are pinned first, then their immutable files are copied, then the journal's records behind the
//! least of the tables' positions, up to what is synced at the end. Whatever was acknowledged before the backup ended is
//! in it: in a table, or in the journal, from which the first start after a restore brings it. Data files that an
//! earlier backup of the folder has are not copied again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use futures::TryStreamExt;
use meterlake_model::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest, Sha256};

use super::manifest::{FORMAT, FileManifest, Manifest, TableManifest, data_dir, own_dir, path_of};
use crate::error::StoreError;
use crate::journal::{JournalOptions, JournalReader, JournalWriter};
use crate::lake::Lake;
use crate::schema;
use crate::table::TableSnapshot;

/// A log that is tidied while it is copied is copied again, so often at most.
const ATTEMPTS: usize = 5;

/// Segments are reserved whole: small ones make small backups.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What to back up, and where to.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The folder of the backups; made when it is not there.
    pub to: PathBuf,
    /// The journal's folder.
    pub journal: PathBuf,
    /// The configuration's text; its hash is kept with the backup.
    pub config: Vec<u8>,
    /// The present, which names it.
    pub now: Timestamp,
    /// Link data files of a local lake instead of copying them, where both are on one file system. Links survive the
    /// lake's deletion, not the disk's.
    pub link: bool,
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// What it consists of.
    pub manifest: Manifest,
    /// Data files copied or linked.
    pub copied_files: usize,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Data files that an earlier backup had.
    pub kept_files: usize,
}

impl Lake {
    /// Makes a backup. It is there once its manifest is: what an interrupted one leaves is used by the next.
    ///
    /// # Errors
    /// When something cannot be read or written, or the journal no longer keeps what a table lacks.
    pub async fn backup(&self, options: &BackupOptions) -> Result<BackupReport, StoreError> {
        let dir = &options.to;
        fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
        let name = free_name(dir, options.now)?;
        let known = known_files(dir)?;
        let own = own_dir(dir, &name);
        let mut report = BackupReport {
            manifest: Manifest {
                format: FORMAT,
                name: name.clone(),
                program: concat!("meterlake ", env!("CARGO_PKG_VERSION")).to_owned(),
                config_sha256: sha256(&options.config),
                tables: BTreeMap::new(),
                journal_from: 0,
                journal_to: 0,
                journal: Vec::new(),
            },
            copied_files: 0,
            copied_bytes: 0,
            kept_files: 0,
        };
        // All pins first: the less time lies between them, the better what is derived fits to what it is derived from.
        let mut pinned = Vec::new();
        for table in self.tables().await? {
            pinned.push(self.snapshot(&table).await?);
        }
        for state in pinned {
            let (state, log) = self.copy_log(state, &own).await?;
            let mut files = Vec::new();
            for file in &state.files {
                let place = data_dir(dir).join(&state.name).join(&file.path);
                let key = (state.name.clone(), file.path.clone());
                let there = fs::metadata(&place).is_ok_and(|m| m.len() == file.size);
                if let Some(known) = known.get(&key).filter(|known| there && known.size == file.size) {
                    report.kept_files += 1;
                    files.push(known.clone());
                    continue;
                }
                let copied = self.copy_data(&state.name, &file.path, &place, options.link).await?;
                if copied.size != file.size {
                    let reason = format!("file {} has {} bytes, the log says {}", file.path, copied.size, file.size);
                    return Err(StoreError::refused(&state.name, reason));
                }
                report.copied_files += 1;
                report.copied_bytes += copied.size;
                files.push(copied);
            }
            let (version, journal_position, rows) = (state.version, state.journal_position(), state.rows());
            report
                .manifest
                .tables
                .insert(state.name.clone(), TableManifest { version, journal_position, rows, files, log });
        }
        self.copy_journal(options, &own.join("journal"), &mut report.manifest)?;
        let text = serde_json::to_vec_pretty(&report.manifest)
            .map_err(|e| StoreError::refused(&name, format!("its manifest cannot be written: {e}")))?;
        write(&path_of(dir, &name), &text)?;
        Ok(report)
    }

    /// Copies the log up to the version of a snapshot. Should it be tidied meanwhile: of a newer snapshot.
    async fn copy_log(
        &self,
        mut state: TableSnapshot,
        own: &FilePath,
    ) -> Result<(TableSnapshot, Vec<FileManifest>), StoreError> {
        let table = state.name.clone();
        let store = self.locked(&table).await?.store().clone();
        for attempt in 1.. {
            match copy_log_of(&store, &state, &own.join(&table)).await {
                Ok(log) => return Ok((state, log)),
                Err(object_store::Error::NotFound { .. }) if attempt < ATTEMPTS => {
                    state = self.snapshot(&table).await?;
                }
                Err(source) => return Err(StoreError::storage(format!("copy the log of {table}"), source)),
            }
        }
        Ok((state, Vec::new()))
    }

    async fn copy_data(
        &self,
        table: &str,
        path: &str,
        place: &FilePath,
        link: bool,
    ) -> Result<FileManifest, StoreError> {
        let local = self.table_path(table).join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        }
        if link && local.is_file() {
            match fs::remove_file(place) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(place, e)),
                _ => {}
            }
            if fs::hard_link(&local, place).is_ok() {
                return checksum(place, path);
            }
        }
        let store = self.locked(table).await?.store().clone();
        let wrap = |source| StoreError::storage(format!("copy {table}/{path}"), source);
        let found = store.get(&Path::from(path)).await.map_err(wrap)?;
        let bytes = found.bytes().await.map_err(wrap)?;
        write(place, &bytes)?;
        Ok(FileManifest { path: path.to_owned(), size: bytes.len() as u64, sha256: sha256(&bytes) })
    }

    /// The journal's records that not every table holds, as a journal of their own.
    fn copy_journal(&self, options: &BackupOptions, to: &FilePath, manifest: &mut Manifest) -> Result<(), StoreError> {
        let journal = |e: crate::journal::JournalError| StoreError::refused("journal", e.line());
        let collected: Vec<_> = schema::collected().iter().map(|spec| spec.name).collect();
        let positions = manifest.tables.iter().filter(|(name, _)| collected.contains(&name.as_str()));
        let held = positions.map(|(_, table)| table.journal_position).min().unwrap_or(0);
        let reader = JournalReader::open(&options.journal);
        let synced = reader.synced().map_err(journal)?.max(held);
        (manifest.journal_from, manifest.journal_to) = (held + 1, synced);
        if synced == 0 {
            return Ok(());
        }
        fs::create_dir_all(to).map_err(|source| failed(to, source))?;
        JournalWriter::restart(to, held + 1).map_err(journal)?;
        let writing = JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::new(to) };
        let (mut writer, _) = JournalWriter::open(writing).map_err(journal)?;
        if synced > held {
            for record in reader.read_from(held + 1).map_err(journal)? {
                let (position, batch) = record.map_err(journal)?;
                if position > synced {
                    break;
                }
                let written = writer.append(&batch).map_err(journal)?;
                if written != position {
                    return Err(StoreError::refused("journal", format!("record {position} would become {written}")));
                }
            }
        }
        let last = writer.sync().map_err(journal)?;
        if last != synced {
            return Err(StoreError::refused("journal", format!("it ends at {last}, though {synced} was synced")));
        }
        drop(writer);
        for file in JournalReader::open(to).files().map_err(journal)? {
            let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            manifest.journal.push(checksum(&file, &name)?);
        }
        Ok(())
    }
}

/// Commits and checkpoints up to the snapshot's version.
async fn copy_log_of(
    store: &std::sync::Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    to: &FilePath,
) -> object_store::Result<Vec<FileManifest>> {
    let prefix = Path::from("_delta_log");
    let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
    let mut paths: Vec<Path> = objects.into_iter().map(|o| o.location).collect();
    paths.retain(|path| {
        let version = path.filename().and_then(|name| name.split_once('.')).filter(|(v, _)| v.len() == 20);
        version.and_then(|(v, _)| v.parse::<i64>().ok()).is_some_and(|v| v <= state.version)
    });
    paths.sort();
    let mut log = Vec::new();
    for path in paths {
        let bytes = store.get(&path).await?.bytes().await?;
        let place = to.join(path.as_ref());
        write(&place, &bytes).map_err(|e| object_store::Error::Generic { store: "backup", source: Box::new(e) })?;
        log.push(FileManifest { path: path.to_string(), size: bytes.len() as u64, sha256: sha256(&bytes) });
    }
    Ok(log)
}

/// What earlier backups of the folder have, by table and path.
fn known_files(dir: &FilePath) -> Result<HashMap<(String, String), FileManifest>, StoreError> {
    let mut known = HashMap::new();
    for name in Manifest::names(dir).map_err(|source| failed(dir, source))? {
        for (table, manifest) in Manifest::read(dir, Some(&name))?.tables {
            known.extend(manifest.files.into_iter().map(|f| ((table.clone(), f.path.clone()), f)));
        }
    }
    Ok(known)
}

/// A name that no backup has, whole or interrupted.
fn free_name(dir: &FilePath, now: Timestamp) -> Result<String, StoreError> {
    let stamp: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    for number in 0_u32.. {
        let name = if number == 0 { stamp.clone() } else { format!("{stamp}-{number}") };
        if !path_of(dir, &name).exists() && !own_dir(dir, &name).exists() {
            return Ok(name);
        }
    }
    Err(failed(dir, io::ErrorKind::AlreadyExists.into()))
}

pub(super) fn failed(path: &FilePath, source: io::Error) -> StoreError {
    StoreError::Directory { path: path.to_owned(), source }
}

/// Writes a file for good: beside its place, synced, then moved there.
pub(super) fn write(path: &FilePath, bytes: &[u8]) -> Result<(), StoreError> {
    let written = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(FilePath::new("."));
        fs::create_dir_all(parent)?;
        let mut staging = path.as_os_str().to_owned();
        staging.push(".part");
        let mut file = File::create(&staging)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staging, path)?;
        File::open(parent)?.sync_all()
    };
    written().map_err(|source| failed(path, source))
}

/// Size and hash of a file as it lies on disk.
pub(super) fn checksum(file: &FilePath, path: &str) -> Result<FileManifest, StoreError> {
    let hashed = || -> io::Result<(u64, String)> {
        let mut hasher = Sha256::new();
        let size = io::copy(&mut File::open(file)?, &mut hasher)?;
        Ok((size, hex(&hasher.finalize())))
    };
    let (size, sha256) = hashed().map_err(|source| failed(file, source))?;
    Ok(FileManifest { path: path.to_owned(), size, sha256 })
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
