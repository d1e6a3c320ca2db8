use std::collections::BTreeSet;
use std::path::Path;

use meterlake_model::check::{OnFail, Severity, Value};

use super::*;

const SOUND: &str = "-- check: V27_night_use
-- about: use at night
-- severity: issue
-- on_fail: verify
-- scope: commodity = 'water' and class != 'hospital'
-- param: hours = 6  -- from midnight on
-- param: most = 0.50
-- valid_from: 2026-01-01
-- valid_to: 2027-01-01

-- Words of one's own: what the query does.
SELECT '$hours' AS \"$most\", $hours, $most FROM usage_days WHERE start >= $from /* $nobody */ AND start < $to
";

#[test]
fn a_header_is_read_whole() {
    let check = parse(SOUND, "own/V27_night_use.sql").unwrap();
    assert_eq!((check.id.as_str(), check.number(), check.about.as_str()), ("V27_night_use", "V27", "use at night"));
    assert_eq!((check.severity, check.on_fail), (Severity::Issue, OnFail::Verify));
    assert_eq!(check.scope.as_str(), "commodity = 'water' and class != 'hospital'");
    assert_eq!(check.params["hours"], Value::Integer(6));
    assert_eq!(check.params["most"].to_string(), "0.5");
    assert_eq!(check.days.from.unwrap().to_string(), "2026-01-01");
    assert_eq!(check.source, Source::Sql(SOUND.to_owned()));
}

/// What a header becomes when a line is replaced; empty: taken out.
fn changed(line: &str, by: &str) -> Vec<String> {
    let with = if by.is_empty() { String::new() } else { format!("{by}\n") };
    let text = SOUND.replace(&format!("{line}\n"), &with);
    assert_ne!(text, SOUND, "{line}");
    let problems = parse(&text, "V27_night_use.sql").map(|_| ()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_of_a_header_is_told_with_file_and_line() {
    const CHECK: &str = "-- check: V27_night_use";
    const SCOPE: &str = "-- scope: commodity = 'water' and class != 'hospital'";
    const HOURS: &str = "-- param: hours = 6  -- from midnight on";
    for (line, by, problem) in [
        (CHECK, "", "V27_night_use.sql:1: `check` is missing"),
        (CHECK, "-- check: night use", "V27_night_use.sql:1: `check` is `night use`; a letter, two or three digits"),
        (CHECK, "-- check: V27_other", "V27_night_use.sql: is check `V27_other`; name the file V27_other.sql"),
        (CHECK, "-- chek: V27_night_use", "V27_night_use.sql:1: unknown key `chek`; did you mean `check`?"),
        ("-- about: use at night", "", "V27_night_use.sql:1: `about` is missing"),
        ("-- about: use at night", "-- about:", "V27_night_use.sql:2: `about` is empty"),
        (
            "-- severity: issue",
            "-- severity: high",
            "V27_night_use.sql:3: `severity` is `high`; it is one of information, issue, stop",
        ),
        (
            "-- severity: issue",
            "-- severity: issue\n-- severity: stop",
            "V27_night_use.sql:4: `severity` is given twice",
        ),
        ("-- on_fail: verify", "-- on_fail: fill", "V27_night_use.sql:4: `on_fail` is `fill`, which a query cannot do"),
        (
            "-- on_fail: verify",
            "-- on_fail: set_aside",
            "V27_night_use.sql:4: `on_fail` is `set_aside`, which a query cannot do",
        ),
        (
            "-- on_fail: verify",
            "-- on_fail: shout",
            "V27_night_use.sql:4: `on_fail` is `shout`; it is one of off, keep",
        ),
        (SCOPE, "-- scope: commodity = 'gas'", "V27_night_use.sql:5: `scope` asks for commodity 'gas'"),
        (SCOPE, "-- a word", "V27_night_use.sql:5: `a word` is no line of a header; `key: value` is wanted"),
        (HOURS, "-- param: hours", "V27_night_use.sql:6: `param` is `hours`; a name and a value is wanted"),
        (
            HOURS,
            "-- param: hours = six",
            "V27_night_use.sql:6: parameter `hours` is six; a number, true, false or 'text'",
        ),
        (HOURS, "-- param: hours = 6\n-- param: hours = 7", "V27_night_use.sql:7: parameter `hours` is given twice"),
        (
            HOURS,
            "-- param: from = 6\n-- param: hours = 6",
            "V27_night_use.sql:6: parameter `from` is given to every check",
        ),
        (
            HOURS,
            "-- param: hour = 6",
            "V27_night_use.sql:12: asks for `$hours`, which no line of the header gives; did you mean `$hour`?",
        ),
        (
            HOURS,
            "-- param: hours = 6\n-- param: idle = 1",
            "V27_night_use.sql: parameter `idle` is declared, and the query does not ask",
        ),
        (
            "-- valid_from: 2026-01-01",
            "-- valid_from: January",
            "V27_night_use.sql:8: `valid_from` is `January`; a day such as",
        ),
        (
            "-- valid_to: 2027-01-01",
            "-- valid_to: 2025-01-01",
            "V27_night_use.sql:1: `valid_from` 2026-01-01 must lie before `valid_to`",
        ),
    ] {
        let problems = changed(line, by);
        assert!(problems.iter().any(|found| found.starts_with(problem)), "{by}: {problems:#?}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let text = "-- chek: V27_x\n-- severity: high\n-- param: days\nSELECT $hours";
    let problems = parse(text, "V27_x.sql").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(1), Some(1), Some(1), Some(1), Some(2), Some(3), Some(4)], "{problems:#?}");
    let empty = parse("-- check: V27_x\n-- about: a\n-- severity: issue\n-- on_fail: keep\n", "V27_x.sql").unwrap_err();
    assert_eq!(empty[0].to_string(), "V27_x.sql: has no query under its header");
    assert!(parse(&" ".repeat(70_000), "V27_x.sql").unwrap_err()[0].message.starts_with("is larger"));
}

#[test]
fn every_shipped_check_is_sound_and_has_cases() {
    for (name, text, cases) in shipped::SHIPPED {
        parse(text, &format!("{name}.sql")).unwrap();
        Cases::parse(cases, &format!("{name}.cases.toml")).unwrap();
    }
    for (name, cases) in shipped::OPERATOR_CASES {
        Cases::parse(cases, &format!("{name}.cases.toml")).unwrap();
    }
    let catalogue = shipped();
    let ids: Vec<&str> = catalogue.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids.len(), shipped::SHIPPED.len() + 16);
    assert!(ids.is_sorted() && ids.iter().collect::<BTreeSet<_>>().len() == ids.len(), "{ids:?}");
    assert_eq!(catalogue.called("V16").len(), 2);
}

#[test]
fn the_list_of_shipped_checks_is_that_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("checks");
    let there: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let queries = shipped::SHIPPED.iter().flat_map(|(name, ..)| [format!("{name}.sql"), format!("{name}.cases.toml")]);
    let operators = shipped::OPERATOR_CASES.iter().map(|(name, _)| format!("{name}.cases.toml"));
    assert_eq!(queries.chain(operators).chain(["README.md".to_owned()]).collect::<BTreeSet<_>>(), there);
}

#[test]
fn a_folder_is_read_whole_or_refused_with_all_its_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("V27_night_use.sql", SOUND);
    write("notes.txt", "passed over");
    assert_eq!(read_folder(folder.path()).unwrap().len(), 1);
    write("V28_a.sql", "SELECT 1");
    write("V29_b.sql", "SELECT 1");
    let problems = read_folder(folder.path()).unwrap_err();
    assert_eq!(problems.iter().map(|p| p.file.as_str()).collect::<BTreeSet<_>>().len(), 2, "{problems:#?}");
    assert!(read_folder(Path::new("no/such/folder")).unwrap_err()[0].to_string().starts_with("no/such/folder: cannot"));
}

#[test]
fn no_text_makes_the_reader_fail_badly() {
    let pieces = ["--", " check:", "$", "'", "\n", "é", "/*", "param: a = 'b'", "\"", "scope: (", "valid_from: 2026"];
    for seed in 0..5000_usize {
        let text: String = (0..seed % 12).map(|n| pieces[(seed * 31 + n * 17 + seed / 7 * n) % pieces.len()]).collect();
        let _ = parse(&text, "V27_x.sql");
    }
}
