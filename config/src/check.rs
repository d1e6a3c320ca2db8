//! Checks as files: a query under a header that says what it is called, what follows from a finding, of whom it asks and with
//! which parameters. Those that come with the program stand in `config/checks/`, one's own in a folder that `[checks]` names.
//!
//! ```sql
//! -- check: V25_inactive_use
//! -- about: use where nobody is billed
//! -- severity: issue
//! -- on_fail: work_item
//! -- scope: commodity = 'electricity'
//! -- param: limit = 1.0   -- so much a month is let pass
//! -- valid_from: 2026-01-01
//! SELECT usage_point_id, channel, min(start) AS start, max("end") AS "end", sum(value) AS measured, $limit AS "limit" …
//! ```

mod body;
mod cases;
mod header;
mod operators;
mod shipped;
#[cfg(test)]
mod tests;

use std::path::Path;

use meterlake_model::check::{Catalogue, Check, Source};

pub use cases::{Case, Cases};

use crate::problem::Problem;

/// The largest file.
const MAX_BYTES: usize = 64 << 10;
/// The most files of a folder.
const MAX_FILES: usize = 500;
/// What the runner gives to every query beside its parameters.
pub const GIVEN: [&str; 3] = ["from", "to", "month"];

/// Reads and checks the file of a check. `file` names it in problems; the check is called as the file is.
///
/// # Errors
/// Everything that is wrong with it, with lines.
pub fn parse(text: &str, file: &str) -> Result<Check, Vec<Problem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![Problem::of_file(file, format!("is larger than {} KiB", MAX_BYTES >> 10))]);
    }
    let mut problems = Vec::new();
    let check = header::read(text, file, &mut problems);
    if let Source::Sql(sql) = &check.source {
        body::check(sql, &check.params, file, &mut problems);
    }
    let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    if !check.id.is_empty() && check.id != stem {
        problems.push(Problem::of_file(file, format!("is check `{}`; name the file {0}.sql", check.id)));
    }
    problems.sort();
    if problems.is_empty() { Ok(check) } else { Err(problems) }
}

/// The checks that come with the program, by id: queries, and what the program itself answers.
pub fn shipped() -> Catalogue {
    // A test parses all of them, so that none is missing for its mistakes.
    let queries = shipped::SHIPPED.iter().filter_map(|(name, text, _)| parse(text, &format!("{name}.sql")).ok());
    let mut checks: Vec<Check> = queries.chain(operators::all()).collect();
    checks.sort_by(|a, b| a.id.cmp(&b.id));
    Catalogue { checks, settings: Vec::new(), most: None }
}

/// The file of a check that comes with the program: a start for one's own.
pub fn shipped_text(id: &str) -> Option<&'static str> {
    shipped::SHIPPED.iter().find(|(name, ..)| *name == id).map(|(_, text, _)| *text)
}

/// The cases of the checks that come with the program, by id of the check.
pub fn shipped_cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_queries = shipped::SHIPPED.iter().map(|(name, _, cases)| (*name, *cases));
    of_queries.chain(shipped::OPERATOR_CASES.iter().copied())
}

/// The checks of a folder, in order of their ids: every file that ends in `.sql`.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_folder(folder: &Path) -> Result<Vec<Check>, Vec<Problem>> {
    let name = folder.display().to_string();
    let cannot = |error: std::io::Error| vec![Problem::of_file(&*name, format!("cannot be read: {error}"))];
    let entries = std::fs::read_dir(folder).map_err(cannot)?.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "sql"));
    files.sort();
    if files.len() > MAX_FILES {
        return Err(vec![Problem::of_file(name, format!("holds more than {MAX_FILES} checks"))]);
    }
    let (mut checks, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        match read_file(&path) {
            Ok(check) => checks.push(check),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(checks) } else { Err(problems) }
}

/// Reads the file of a check.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_file(path: &Path) -> Result<Check, Vec<Problem>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &name),
        Err(error) => Err(vec![Problem::of_file(name, format!("cannot be read: {error}"))]),
    }
}
