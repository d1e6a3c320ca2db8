//! What a backup consists of: its tables at their versions, every file with its checksum, the journal behind them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// The form of backups that this program writes.
pub(super) const FORMAT: u32 = 1;

/// One backup. Its files lie beside it: data files shared with other backups of the folder, logs and journal its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this description.
    pub format: u32,
    /// Its name, the time at which it was begun, such as `20261122T031500Z`.
    pub name: String,
    /// What wrote it.
    pub program: String,
    /// SHA-256 of the configuration of then.
    pub config_sha256: String,
    /// By name.
    pub tables: BTreeMap<String, TableManifest>,
    /// The first record of the journal that is here; one more than `journal_to` when the tables held all.
    pub journal_from: u64,
    /// The last record that was durable when the backup ended.
    pub journal_to: u64,
    /// Checksums of the journal's files.
    pub journal: Vec<FileManifest>,
}

/// One table of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableManifest {
    /// Of its log.
    pub version: i64,
    /// Up to where it holds the journal.
    pub journal_position: u64,
    /// Of all files.
    pub rows: u64,
    /// Live data files.
    pub files: Vec<FileManifest>,
    /// Commits and checkpoints.
    pub log: Vec<FileManifest>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileManifest {
    /// Relative to its table or journal.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads the manifest of a backup in a folder, or of the newest.
    ///
    /// # Errors
    /// `Refused` when there is none, or a newer program wrote it.
    pub fn read(dir: &Path, name: Option<&str>) -> Result<Self, StoreError> {
        let names = Self::names(dir).map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let name = match name {
            Some(name) if names.iter().any(|n| n == name) => name.to_owned(),
            Some(name) => {
                let reason = format!("there is no backup {name}; there are {}", names.join(", "));
                return Err(StoreError::refused(&dir.display().to_string(), reason));
            }
            None => match names.last() {
                Some(name) => name.clone(),
                None => return Err(StoreError::refused(&dir.display().to_string(), "no backup is there")),
            },
        };
        let path = path_of(dir, &name);
        let bytes = fs::read(&path).map_err(|source| StoreError::Directory { path: path.clone(), source })?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::refused(&path.display().to_string(), format!("it cannot be read: {e}")))?;
        if manifest.format > FORMAT {
            let reason =
                format!("it has format {}, this program knows {FORMAT}: restore with the newer one", manifest.format);
            return Err(StoreError::refused(&path.display().to_string(), reason));
        }
        Ok(manifest)
    }

    /// The names of the backups in a folder, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn names(dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            names.extend(name.to_str().and_then(|n| n.strip_suffix(".manifest.json")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// All data and log files with their places below the backup's folder, and below a lake.
    pub(super) fn places(&self, dir: &Path) -> Vec<(PathBuf, PathBuf, &FileManifest)> {
        let mut places = Vec::new();
        for (name, table) in &self.tables {
            let data = table
                .files
                .iter()
                .map(|f| (data_dir(dir).join(name).join(&f.path), PathBuf::from(name).join(&f.path), f));
            places.extend(data);
            let own = own_dir(dir, &self.name).join(name);
            places.extend(table.log.iter().map(|f| (own.join(&f.path), PathBuf::from(name).join(&f.path), f)));
        }
        places
    }
}

pub(super) fn path_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.manifest.json"))
}

/// Data files of all backups: their names say what is in them.
pub(super) fn data_dir(dir: &Path) -> PathBuf {
    dir.join("files")
}

/// What one backup has for itself.
pub(super) fn own_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join("backups").join(name)
}
