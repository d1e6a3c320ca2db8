//! What a document says of the source tree is so. It stands in this crate because this one is built in seconds.
//!
//! `docs/MDM.md` compares each rule with other systems and names the test that shows it: a rule without a row, a row
//! without a test that does not say so, and a test that is not there are found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every check, fill and determinant.
fn ids() -> Vec<String> {
    let checks = (1..=29).map(|n| format!("V{n:02}"));
    checks.chain((0..=9).map(|n| format!("E{n}"))).chain((1..=11).map(|n| format!("D{n}"))).collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// Rows of the tables with the number of their line, without heads.
fn rows(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut head = 0;
    for (n, line) in text.lines().enumerate() {
        head = if line.starts_with('|') { head + 1 } else { 0 };
        if head > 2 {
            rows.push((n + 1, cells(line)));
        }
    }
    rows
}

/// The names between `[` and `]` of a text that look like those of sources: `O12`, `2743168.1`.
fn sources(text: &str) -> BTreeSet<&str> {
    let inside = text.split('[').skip(1).filter_map(|rest| rest.split_once(']').map(|(name, _)| name));
    let is_source = |name: &&str| {
        let number = name.trim_start_matches(['O', 'I', 'S']);
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    inside.filter(is_source).collect()
}

/// Tests by name and file, as they are linked: ``[`name`](../path)``.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    let links = cell.split("[`").skip(1);
    links
        .filter_map(|link| link.split_once("`](../").and_then(|(name, rest)| Some((name, rest.split_once(')')?.0))))
        .collect()
}

/// Files of the tree that a cell links, cases of a test among them.
fn links(cell: &str) -> Vec<&str> {
    cell.split("](../").skip(1).filter_map(|link| Some(link.split_once(')')?.0)).collect()
}

/// Whether a source has a test of this name: a function whose attributes say so.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &&str| {
        line.trim_start_matches("async ")
            .strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    };
    lines.iter().enumerate().filter(|(_, line)| begins(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// All that a comparison says wrongly, with its line.
fn problems(text: &str, root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    let mut width = 0;
    let mut before = 0;
    for (line, cells) in rows(text) {
        if line != before + 1 {
            width = cells.len();
        }
        before = line;
        let name = cells[0].trim_start_matches("**").split("**").next().unwrap_or_default();
        found.push(name.to_owned());
        if cells.len() != width || cells.iter().any(|cell| cell.is_empty()) {
            problems.push(format!("line {line}: `{name}` has another number of cells than its table, or an empty one"));
        }
        let last = cells.last().copied().unwrap_or_default();
        let named = tests(last);
        if named.is_empty() == (last != "not yet") {
            problems.push(format!("line {line}: `{name}` names no test and does not say `not yet`, or both"));
        }
        for path in cells.iter().flat_map(|cell| links(cell)).filter(|path| !root.join(path).is_file()) {
            problems.push(format!("line {line}: {path} is not there"));
        }
        for (test, path) in named {
            let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            if !has_test(&source, test) {
                problems.push(format!("line {line}: {path} has no test `{test}`"));
            }
        }
    }
    for id in ids() {
        let rows = found.iter().filter(|name| **name == id).count();
        if rows != 1 {
            problems.push(format!("{id} has {rows} rows"));
        }
    }
    let is_definition = |line: &&str| line.starts_with('[') && line.contains("]: ");
    let defined: String = text.lines().filter(is_definition).collect();
    let tables: String = text.lines().filter(|line| line.starts_with('|')).collect();
    for source in sources(&tables).symmetric_difference(&sources(&defined)) {
        problems.push(format!("source {source} is named and not given, or given and not named"));
    }
    problems
}

#[test]
fn what_the_comparison_says_of_rules_and_tests_is_so() {
    let text = std::fs::read_to_string(root().join("docs/MDM.md")).expect("the comparison");
    let problems = problems(&text, &root());
    assert!(problems.is_empty(), "docs/MDM.md:\n{}", problems.join("\n"));
}

#[test]
fn what_a_comparison_says_wrongly_is_found() {
    let sound: String = ids().iter().map(|id| format!("| **{id}** | none found [O1] | not yet |\n")).collect();
    let sound = format!("| rule | theirs | test |\n|---|---|---|\n{sound}\n[O1]: address\n");
    assert_eq!(problems(&sound, &root()), Vec::<String>::new());
    let here = "[`what_a_comparison_says_wrongly_is_found`](../config/tests/documents.rs)";
    let row = "| **V07** | none found [O1] | not yet |";
    assert_eq!(problems(&sound.replace(row, &row.replace("not yet", here)), &root()), Vec::<String>::new());
    for (wrong, told) in [
        ("", "V07 has 0 rows"),
        ("| **V07** | none found [O1] | not yet |\n| **V07** | none found | not yet |", "V07 has 2 rows"),
        ("| **V07** | | not yet |", "an empty one"),
        ("| **V07** | not yet |", "another number of cells"),
        ("| **V07** | none found | `a_name_without_its_file` |", "names no test"),
        ("| **V07** | none found | [`gone`](../config/tests/documents.rs) |", "has no test `gone`"),
        ("| **V07** | none found | [`problems`](../config/tests/documents.rs) |", "has no test `problems`"),
        ("| **V07** | none found | [`x`](../config/tests/gone.rs) |", "config/tests/gone.rs is not there"),
        ("| **V07** | see [cases](../config/gone.toml) | not yet |", "config/gone.toml is not there"),
        ("| **V07** | a rule [O2] | not yet |", "source O2"),
    ] {
        let found = problems(&sound.replace(&format!("{row}\n"), &format!("{wrong}\n")), &root()).join("\n");
        assert!(found.contains(told), "{wrong}: {found}");
    }
    assert!(
        problems(&sound.replace("[O1]: address", "[O1]: address\n[S1]: address"), &root())[0].contains("source S1")
    );
}
