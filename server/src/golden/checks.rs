//! Cases of checks: given rows and expected findings, each run as the check is.

use std::path::{Path, PathBuf};

use meterlake_analytics::checks::cases::{CaseInput, CaseOutcome, run_case};
use meterlake_config::Problem;
use meterlake_config::check::{Cases, read_file, shipped, shipped_cases};
use meterlake_model::check::Check;

use super::{Refused, Tested};

/// One line of the table: check, case, and what became of it.
pub(super) type Line = [String; 3];

/// The ending of files of cases.
pub(super) const ENDING: &str = ".cases.toml";

/// Runs the cases of a text.
pub(super) async fn test(check: &Check, text: &str, file: &str, lines: &mut Vec<Line>) -> Result<Tested, Refused> {
    let cases = Cases::parse(text, file)?;
    let mut tested = Tested { cases: cases.cases.len(), differing: Vec::new(), accepted: None };
    for case in &cases.cases {
        let input = CaseInput { month: &case.month, params: &case.params, rows: &case.rows, expect: &case.expect };
        let outcome = run_case(check, &input).await;
        let verdict = match &outcome {
            Ok(outcome) if outcome.holds() => "as expected",
            Ok(_) => "differs",
            Err(_) => "cannot be run",
        };
        lines.push([check.id.clone(), case.name.clone(), verdict.to_owned()]);
        let differs = match outcome {
            Ok(outcome) if outcome.holds() => continue,
            Ok(outcome) => difference(&outcome),
            Err(complaint) => format!("         {complaint}\n"),
        };
        tested.differing.push(format!("{file}:{}: \"{}\" differs:\n{differs}", case.line, case.name));
    }
    Ok(tested)
}

/// `-` for expected findings that did not come, `+` for findings that were not expected.
fn difference(outcome: &CaseOutcome) -> String {
    let line = |mark: &str, row: &Vec<String>| {
        let cells: Vec<String> = outcome.columns.iter().zip(row).map(|(name, cell)| format!("{name}={cell}")).collect();
        format!("       {mark} {}\n", cells.join(" "))
    };
    let only = |rows: &[Vec<String>], other: &[Vec<String>], mark: &str| -> String {
        let mut left = other.to_vec();
        let mut text = String::new();
        for row in rows {
            match left.iter().position(|o| o == row) {
                Some(at) => drop(left.swap_remove(at)),
                None => text += &line(mark, row),
            }
        }
        text
    };
    only(&outcome.expected, &outcome.found, "-") + &only(&outcome.found, &outcome.expected, "+")
}

/// Runs the cases of a file, against the check beside it or the one of its name that comes with the program.
pub(super) async fn test_file(text: &str, path: &Path, lines: &mut Vec<Line>) -> Result<Tested, Refused> {
    let file = path.display().to_string();
    let beside = check_of(path);
    let check = match beside.is_file() {
        true => read_file(&beside)?,
        false => {
            let id = beside.file_stem().unwrap_or_default().to_string_lossy();
            let known = shipped().get(&id).cloned();
            known.ok_or_else(|| Problem::of_file(&*file, format!("has no check {} beside it", beside.display())))?
        }
    };
    test(&check, text, &file, lines).await
}

/// The check that a file of cases is for.
fn check_of(cases: &Path) -> PathBuf {
    let name = cases.file_name().unwrap_or_default().to_string_lossy();
    cases.with_file_name(format!("{}.sql", name.strip_suffix(ENDING).unwrap_or(&name)))
}

/// The cases of checks that come with the program: of all, or of one by its id or number.
pub(super) fn of_program(id: Option<&str>) -> Vec<(Check, &'static str)> {
    let catalogue = shipped();
    let cases = shipped_cases().filter_map(|(name, text)| Some((catalogue.get(name)?.clone(), text)));
    cases.filter(|(check, _)| id.is_none_or(|id| check.is_called(id))).collect()
}
