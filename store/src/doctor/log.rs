//! The logs of the tables, and the files that they name.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Depth, Finding, Severity, finding, unsafe_};
use crate::actions;
use crate::lake::Lake;
use crate::table::TableSnapshot;

const MEND: &str = "`doctor --mend` sets the bad end of the log aside, and the journal brings its rows again";

/// All tables: their snapshots, where the log is sound.
pub(super) async fn examine_tables(lake: &Lake, depth: Depth, findings: &mut Vec<Finding>) -> Vec<TableSnapshot> {
    let names = match lake.tables().await {
        Ok(names) => names,
        Err(e) => {
            findings.push(unsafe_(lake.root().display(), e, "see that the folder can be read"));
            return Vec::new();
        }
    };
    let mut snapshots = Vec::new();
    for name in names {
        let path = lake.table_path(&name);
        if let Some(bad) = bad_tail(&path) {
            let place = bad.first_bad.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            findings.push(unsafe_(&name, format!("commit {place} {}", bad.reason), MEND));
            continue;
        }
        match lake.snapshot(&name).await {
            Ok(snapshot) => {
                examine_files(&path, &snapshot, depth, findings);
                snapshots.push(snapshot);
            }
            Err(e) => findings.push(unsafe_(
                &name,
                e,
                "bring the table back from a copy, or start with this program's version",
            )),
        }
    }
    snapshots
}

/// The end of a log that cannot be used.
#[derive(Debug)]
pub(super) struct BadTail {
    /// The first file that is bad, or where one is missing.
    pub(super) first_bad: PathBuf,
    /// What is the matter with it.
    pub(super) reason: String,
    /// Everything that must go for the log to end before it.
    pub(super) aside: Vec<PathBuf>,
}

/// Looks at every commit after the last checkpoint, and at the checkpoint.
pub(super) fn bad_tail(table: &Path) -> Option<BadTail> {
    let log = table.join("_delta_log");
    let (commits, checkpoints) = match list(&log) {
        Ok(found) => found,
        Err(e) => return Some(BadTail { first_bad: log, reason: format!("cannot be listed: {e}"), aside: Vec::new() }),
    };
    let checkpoint = checkpoints.last_key_value();
    if let Some((version, files)) = checkpoint
        && let Some((file, e)) = files.iter().find_map(|f| read_checkpoint(f).err().map(|e| (f, e)))
    {
        // Without it the log is as good, if all commits are still there.
        let hint = log.join("_last_checkpoint");
        let whole = commits.keys().copied().eq(0..=*commits.last_key_value()?.0);
        let mut aside = if whole { files.clone() } else { Vec::new() };
        aside.extend(hint.exists().then_some(hint).filter(|_| whole));
        let reason = format!("of version {version} cannot be read: {e}");
        return Some(BadTail { first_bad: file.clone(), reason, aside });
    }
    let start = checkpoint.map_or(0, |(version, _)| version + 1);
    for (due, (version, path)) in (start..).zip(commits.range(start..)) {
        let reason = if *version == due {
            match fs::read(path) {
                Ok(bytes) => actions::decode(&bytes).err(),
                Err(e) => Some(format!("cannot be read: {e}")),
            }
        } else {
            Some(format!("follows a gap: commit {due} is missing"))
        };
        if let Some(reason) = reason {
            let aside = commits.range(version..).map(|(_, path)| path.clone()).collect();
            return Some(BadTail { first_bad: path.clone(), reason, aside });
        }
    }
    None
}

type Versions<T> = BTreeMap<i64, T>;

/// Commits and checkpoints by version.
fn list(log: &Path) -> io::Result<(Versions<PathBuf>, Versions<Vec<PathBuf>>)> {
    let mut commits = BTreeMap::new();
    let mut checkpoints: Versions<Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((version, rest)) = name.split_once('.') else { continue };
        let Some(version) = Some(version).filter(|v| v.len() == 20).and_then(|v| v.parse().ok()) else { continue };
        if rest == "json" {
            commits.insert(version, path);
        } else if rest.starts_with("checkpoint.") && rest.ends_with(".parquet") {
            checkpoints.entry(version).or_default().push(path);
        }
    }
    Ok((commits, checkpoints))
}

fn read_checkpoint(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build()).map_err(|e| e.to_string())?;
    for batch in reader {
        batch.map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn examine_files(path: &Path, snapshot: &TableSnapshot, depth: Depth, findings: &mut Vec<Finding>) {
    for file in &snapshot.files {
        let message = match fs::metadata(path.join(&file.path)) {
            Ok(found) if found.len() == file.size => continue,
            Ok(found) => format!("file {} has {} bytes, the log says {}", file.path, found.len(), file.size),
            Err(e) => format!("file {} with {} rows cannot be read: {e}", file.path, file.rows),
        };
        let whole = file.path.rsplit('/').next().is_some_and(|name| name.starts_with("whole-"));
        let repair = if whole {
            "`doctor --mend` takes it out of the table, and its job makes it again"
        } else {
            "bring the file back from a backup: nothing else has its rows"
        };
        findings.push(unsafe_(&snapshot.name, message, repair));
    }
    if depth == Depth::Start {
        return;
    }
    let live: HashSet<&str> = snapshot.files.iter().map(|f| f.path.as_str()).collect();
    let mut orphans = (0_u64, 0_u64);
    if let Err(e) = count_orphans(path, path, &live, &mut orphans) {
        findings.push(finding(Severity::Warning, &snapshot.name, format!("its folder cannot be listed: {e}"), ""));
    }
    if orphans.0 > 0 {
        let message = format!("{} files of {} bytes are not part of it now", orphans.0, orphans.1);
        let repair = "older versions may still be read; maintenance removes them in time";
        findings.push(finding(Severity::Note, &snapshot.name, message, repair));
    }
}

fn count_orphans(root: &Path, dir: &Path, live: &HashSet<&str>, orphans: &mut (u64, u64)) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let is_log = entry.file_name().to_string_lossy().starts_with("_delta_log");
            if !is_log {
                count_orphans(root, &path, live, orphans)?;
            }
            continue;
        }
        let relative = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        if !live.contains(relative) {
            orphans.0 += 1;
            orphans.1 += entry.metadata()?.len();
        }
    }
    Ok(())
}
