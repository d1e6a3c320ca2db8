//! Golden vectors against their profile.

use std::path::Path;

use meterlake_config::Problem;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::golden::{Case, parse, record, run};

use super::{Refused, Tested, find};

/// Tests the vector of the profile beside it.
pub(super) fn test_file(text: &str, file: &str, path: &Path) -> Result<Tested, Refused> {
    let owner = find::owner(path).ok_or_else(|| {
        Problem::of_file(file, "has no profile of the same name (.toml) beside it or in the folder above")
    })?;
    let name = owner.display().to_string();
    let profile = std::fs::read_to_string(&owner)
        .map_err(|error| Problem::of_file(name.clone(), format!("cannot be read: {error}")))?;
    test(text, file, &DeviceProfile::parse(&profile, &name)?)
}

/// Tests a vector.
pub(super) fn test(text: &str, file: &str, profile: &DeviceProfile) -> Result<Tested, Refused> {
    let cases = parse(text, file)?;
    let mut differing = Vec::new();
    let mut accepted: Vec<&str> = text.lines().collect();
    let mut recorded = Vec::new();
    // From the last to the first, so that lines keep their numbers.
    for (at, case) in cases.iter().enumerate().rev() {
        let Err(mismatch) = run(profile, case) else { continue };
        let mut shown = format!("{file}:{}: \"{}\" differs:\n", case.line, case.title);
        mismatch.missing.iter().for_each(|row| shown += &format!("  - {row}\n"));
        mismatch.unexpected.iter().for_each(|row| shown += &format!("  + {row}\n"));
        differing.insert(0, shown);
        let end = cases.get(at + 1).map_or(accepted.len(), |next| next.line - 1);
        recorded.push((case.line, end, rows(profile, case)));
    }
    let owned: Vec<Vec<String>> = recorded.iter().map(|(.., rows)| rows.clone()).collect();
    for ((first, end, _), rows) in recorded.iter().zip(&owned) {
        replace(&mut accepted, (*first, *end), rows);
    }
    let accepted = accepted.iter().flat_map(|line| [line, "\n"]).collect();
    Ok(Tested { cases: cases.len(), differing, accepted: Some(accepted) })
}

/// What the profile reads now, as rows; none when it lacks registers.
fn rows(profile: &DeviceProfile, case: &Case) -> Vec<String> {
    let text = record(profile, &case.title, &case.image).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("->")).map(str::to_owned).collect()
}

/// Puts rows in the place of those between two lines; behind the registers where there were none.
fn replace<'t>(lines: &mut Vec<&'t str>, (first, end): (usize, usize), rows: &'t [String]) {
    let case: Vec<&str> = lines.get(first..end).unwrap_or_default().to_vec();
    let kept: Vec<&str> = case.iter().copied().filter(|line| !line.starts_with("->")).collect();
    let behind = kept.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |at| at + 1);
    let (before, after) = kept.split_at(behind);
    let new = before.iter().copied().chain(rows.iter().map(String::as_str)).chain(after.iter().copied());
    let new: Vec<&str> = new.collect();
    lines.splice(first..end, new);
}
