//! The repairs that a program may make by itself: those after which the journal brings back every row.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::log::{BadTail, bad_tail};
use crate::error::StoreError;
use crate::journal::{JournalError, JournalReader, JournalWriter};
use crate::lake::Lake;
use crate::log::{AppStep, Change};
use crate::schema;
use crate::table::{DataFile, maintenance_app};

/// One repair that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Table or folder.
    pub subject: String,
    /// What was done.
    pub action: String,
}

/// Why nothing more was mended. What was done before stays done; what was moved lies beside its place.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// A table cannot be read even now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file cannot be moved.
    #[error("cannot move {}", path.display())]
    Move {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The repair would lose rows; everything is as it was.
    #[error("{subject} is left as it is: {reason}")]
    Refused {
        /// Table or folder.
        subject: String,
        /// What would be lost.
        reason: String,
    },
}

/// Sets bad ends of logs aside where the journal still has their rows, and starts a lost journal anew behind the tables
/// where every table is at the same position. No other process may write meanwhile: the journal's lock is held.
///
/// # Errors
/// `Refused` when rows would be lost; others when something cannot be read or moved.
pub async fn mend(lake: &Path, journal: &Path) -> Result<Vec<Mended>, MendError> {
    let mut done = Vec::new();
    if !lake.is_dir() {
        return Ok(done);
    }
    let _lock = JournalWriter::lock(journal)?;
    let root = Lake::open(lake)?;
    let reader = JournalReader::open(journal);
    for table in root.tables().await? {
        if let Some(bad) = bad_tail(&root.table_path(&table)) {
            done.push(mend_log(lake, &table, &bad, &reader).await?);
        }
    }
    // A lake of its own, since it must not remember what was there before.
    let root = Lake::open(lake)?;
    for table in root.tables().await? {
        done.extend(mend_files(&root, &table).await?);
    }
    done.extend(mend_journal(&root, journal, &reader).await?);
    Ok(done)
}

/// Files that a job made whole and that are missing or damaged leave the table, so that the job makes them again. Others
/// hold rows that nothing brings back: they are left for a copy to be put in their place.
async fn mend_files(lake: &Lake, table: &str) -> Result<Option<Mended>, MendError> {
    let mut log = lake.locked(table).await?;
    log.refresh().await?;
    let dir = lake.table_path(table);
    let made_again = |path: &str| path.rsplit('/').next().is_some_and(|name| name.starts_with("whole-"));
    let is_bad = |f: &&DataFile| !fs::metadata(dir.join(&f.path)).is_ok_and(|m| m.len() == f.size);
    let bad: Vec<String> =
        log.state().files.iter().filter(is_bad).filter(|f| made_again(&f.path)).map(|f| f.path.clone()).collect();
    if bad.is_empty() {
        return Ok(None);
    }
    let app = maintenance_app(table);
    let before = log.state().transactions.get(&app).copied();
    let transaction = Some(AppStep { app, before, after: before.unwrap_or(0) + 1 });
    let change = Change { operation: "FSCK", remove: bad.clone(), data_change: true, transaction, ..Change::default() };
    log.commit(&change).await?;
    // The log no longer names it; whoever wants to look at a damaged one finds it beside.
    let there: Vec<PathBuf> = bad.iter().map(|path| dir.join(path)).filter(|path| path.exists()).collect();
    for path in &there {
        let aside = dir.join("_delta_log_aside");
        let name = path.file_name().unwrap_or_default();
        let moved = fs::create_dir_all(&aside).and_then(|()| rename(path, &aside.join(name)));
        moved.map_err(|source| MendError::Move { path: path.clone(), source })?;
    }
    let action = format!("took {} out of the table, {} set aside; run its job again", bad.join(", "), there.len());
    Ok(Some(Mended { subject: table.to_owned(), action }))
}

async fn mend_log(lake: &Path, table: &str, bad: &BadTail, reader: &JournalReader) -> Result<Mended, MendError> {
    let refused = |reason: String| MendError::Refused { subject: table.to_owned(), reason };
    if bad.aside.is_empty() {
        return Err(refused(format!(
            "{} {}, and the log does not reach back without it",
            bad.first_bad.display(),
            bad.reason
        )));
    }
    let moved = set_aside(&bad.aside)?;
    // A lake of its own, since it must not remember what was there before.
    let position = match Lake::open(lake)?.snapshot(table).await {
        Ok(snapshot) => snapshot.journal_position(),
        Err(e) => {
            put_back(&moved)?;
            return Err(e.into());
        }
    };
    let is_collected = schema::collected().iter().any(|spec| spec.name == table);
    let oldest = reader.oldest()?;
    if is_collected && oldest.is_none_or(|oldest| oldest > position + 1) {
        put_back(&moved)?;
        let kept = oldest.map_or_else(|| "nothing".to_owned(), |oldest| format!("{oldest} onwards"));
        return Err(refused(format!(
            "without the bad commits it ends at position {position}, and the journal keeps {kept}"
        )));
    }
    let after = if is_collected {
        format!("; the journal goes on from {}", position + 1)
    } else {
        "; run its job again".into()
    };
    let names: Vec<_> = bad.aside.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
    Ok(Mended { subject: table.to_owned(), action: format!("set {} aside{after}", names.join(", ")) })
}

/// A journal that ends before the tables do: a new one begins behind them.
async fn mend_journal(lake: &Lake, dir: &Path, reader: &JournalReader) -> Result<Option<Mended>, MendError> {
    let mut positions = Vec::new();
    for spec in schema::collected() {
        match lake.snapshot(spec.name).await {
            Ok(snapshot) => positions.push(snapshot.journal_position()),
            Err(StoreError::NoTable(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let (Some(first), Some(last)) = (positions.iter().min().copied(), positions.iter().max().copied()) else {
        return Ok(None);
    };
    let written = reader.written()?;
    if written >= last {
        return Ok(None);
    }
    if first != last {
        let reason = format!(
            "the tables are at {first} to {last} and the journal ends at {written}; rows between are in some tables only"
        );
        return Err(MendError::Refused { subject: dir.display().to_string(), reason });
    }
    let old: Vec<PathBuf> = reader.files()?;
    set_aside(&old)?;
    JournalWriter::restart(dir, last + 1)?;
    Ok(Some(Mended {
        subject: dir.display().to_string(),
        action: format!("set {} files aside and began anew at position {}", old.len(), last + 1),
    }))
}

/// Moves files into a folder beside theirs; gives what went where.
fn set_aside(files: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>, MendError> {
    let mut moved = Vec::new();
    for path in files {
        let to = place_aside(path).and_then(|to| rename(path, &to).map(|()| to));
        let to = to.map_err(|source| MendError::Move { path: path.clone(), source })?;
        moved.push((path.clone(), to));
    }
    Ok(moved)
}

fn put_back(moved: &[(PathBuf, PathBuf)]) -> Result<(), MendError> {
    for (from, to) in moved {
        rename(to, from).map_err(|source| MendError::Move { path: to.clone(), source })?;
    }
    Ok(())
}

/// Renames for good: also after a power cut the file is in one place and not in both.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    for dir in [to.parent(), from.parent()].into_iter().flatten() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// A free name in `<folder>_aside`, beside the file's folder.
fn place_aside(path: &Path) -> io::Result<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut aside = dir.as_os_str().to_owned();
    aside.push("_aside");
    let aside = PathBuf::from(aside);
    fs::create_dir_all(&aside)?;
    for number in 0_u32.. {
        let mut name = name.to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let to = aside.join(name);
        if !to.exists() {
            return Ok(to);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
