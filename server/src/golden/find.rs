//! Golden files by path: told from other texts by their lines, and by the map or profile beside them; cases of checks by their
//! names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::checks;

/// Which kind of golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Messages of payload maps.
    Messages,
    /// Registers of device profiles.
    Vectors,
    /// Cases of checks.
    Cases,
}

impl What {
    /// By its lines; `None`: another text.
    fn of(text: &str) -> Option<Self> {
        let begins = |word: &str| text.lines().any(|line| line.starts_with(word));
        match begins("# ") {
            true if begins("topic ") => Some(Self::Messages),
            true if begins("3/") || begins("4/") => Some(Self::Vectors),
            _ => None,
        }
    }
}

/// A golden file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) what: What,
}

/// What some paths hold.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) files: Vec<Found>,
    /// Maps, profiles and checks without a golden file.
    pub(super) untested: Vec<PathBuf>,
}

/// The deepest folder that is looked into.
const MAX_DEPTH: usize = 8;
/// The most files that are looked at: whoever names the folder of a lake by mistake is told.
const MAX_FILES: usize = 10_000;
/// The largest golden file.
const MAX_BYTES: u64 = 16 << 20;

/// Looks for golden files.
///
/// # Errors
/// When a path that was named is not there, cannot be read, or is no golden file and has none beside it.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Files> {
    let mut found = Files::default();
    for path in paths {
        let there = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        if there.is_dir() {
            let mut all = Vec::new();
            walk(path, 0, &mut all)?;
            all.sort();
            all.iter().try_for_each(|file| found.take(file))?;
        } else if is_check(path) {
            let cases = cases_beside(path);
            ensure!(cases.is_file(), "{} has no cases beside it: write {}", path.display(), cases.display());
            found.take(&cases)?;
        } else if is_toml(path) && !is_cases(path) {
            let goldens = beside(path);
            let places = "beside it or in `golden/`";
            ensure!(!goldens.is_empty(), "{} has no golden file of the same name {places}", path.display());
            goldens.iter().try_for_each(|golden| found.take(golden))?;
        } else {
            let before = found.files.len();
            found.take(path)?;
            if found.files.len() == before {
                bail!("{} is no golden file: it has no case, which begins with `# title`", path.display());
            }
        }
    }
    found.files.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

impl Files {
    fn take(&mut self, path: &Path) -> anyhow::Result<()> {
        if is_cases(path) {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.files.push(Found { path: path.to_owned(), text, what: What::Cases });
            return Ok(());
        }
        if is_check(path) {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text.starts_with("-- check:") && !cases_beside(path).is_file() {
                self.untested.push(path.to_owned());
            }
            return Ok(());
        }
        if is_toml(path) {
            if is_map_or_profile(path) && beside(path).is_empty() {
                self.untested.push(path.to_owned());
            }
            return Ok(());
        }
        let size = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        if size > MAX_BYTES {
            return Ok(());
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(text) = String::from_utf8(bytes)
            && let Some(what) = What::of(&text)
        {
            self.files.push(Found { path: path.to_owned(), text, what });
        }
        Ok(())
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(cannot)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "txt" || end == "toml" || end == "sql") {
            found.push(path);
        }
        ensure!(found.len() <= MAX_FILES, "{} holds more than {MAX_FILES} files: name a closer one", folder.display());
    }
    Ok(())
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "toml")
}

fn is_check(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "sql")
}

fn is_cases(path: &Path) -> bool {
    path.to_string_lossy().ends_with(checks::ENDING)
}

/// Where the cases of a check are.
fn cases_beside(check: &Path) -> PathBuf {
    let stem = check.file_stem().unwrap_or_default().to_string_lossy();
    check.with_file_name(format!("{stem}{}", checks::ENDING))
}

/// By the keys before its first table: other files, such as a configuration, need no golden file.
fn is_map_or_profile(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let head = text.lines().take_while(|line| !line.starts_with('['));
    head.filter_map(|line| line.split_once('=')).any(|(key, _)| key.trim() == "topic" || key.trim() == "maker")
}

/// The golden files of a map or profile.
fn beside(path: &Path) -> Vec<PathBuf> {
    let (folder, Some(stem)) = (path.parent().unwrap_or(Path::new("")), path.file_stem()) else { return Vec::new() };
    let stem = stem.to_string_lossy();
    let names = [format!("{stem}.txt"), format!("{stem}.golden.txt"), format!("golden/{stem}.txt")];
    names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// The map or profile of a golden file: of the same name, beside it or in the folder above.
pub(super) fn owner(golden: &Path) -> Option<PathBuf> {
    let stem = golden.file_stem()?.to_string_lossy();
    let name = format!("{}.toml", stem.strip_suffix(".golden").unwrap_or(&stem));
    let folder = golden.parent().unwrap_or(Path::new(""));
    [folder.join(&name), folder.join("..").join(&name)].into_iter().find(|path| path.is_file())
}
