//! Wrong files and all of their problems, in the folders beside this file: what is expected of `X` stands in
//! `X.problems`, one a line, with paths that begin at the folder.

use std::path::{Path, PathBuf};

use meterlake_config::{Config, Problem, registry};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Compares the problems with the file that lists them.
fn check(problems: &[Problem], base: &Path, expected: &Path) {
    let base = format!("{}/", base.display());
    let found: String =
        problems.iter().map(|problem| format!("{}\n", problem.to_string().replace(&base, ""))).collect();
    let listed = std::fs::read_to_string(expected).unwrap_or_default();
    assert_eq!(found, listed, "\n{} should be\n{found}", expected.display());
}

fn cases(folder: &Path, is_case: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of cases");
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).filter(|path| is_case(path)).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    cases
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_with_its_line() {
    let folder = folder("wrong-configurations");
    for file in cases(&folder, |path| path.extension().is_some_and(|extension| extension == "toml")) {
        let errors = Config::load(&file).expect_err("is to be refused");
        check(errors.problems(), &folder, &file.with_extension("problems"));
    }
}

#[test]
fn every_problem_of_a_registry_is_told_at_once_with_its_file_and_line() {
    let folder = folder("wrong-registries");
    for dir in cases(&folder, |path| path.is_dir() && path.file_name().is_some_and(|name| name != "sound")) {
        let problems = registry::read_dir(&dir).expect_err("is to be refused");
        check(&problems, &dir, &dir.with_extension("problems"));
    }
}

#[test]
fn the_sound_registry_that_the_wrong_ones_are_made_of_is_read() {
    let registry = registry::read_dir(&folder("wrong-registries").join("sound")).unwrap();
    assert_eq!((registry.usage_points.len(), registry.meters.len(), registry.installations.len()), (3, 3, 3));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let problems = registry::read_dir(Path::new("no/such/folder")).unwrap_err();
    assert_eq!(problems[0].to_string(), "no/such/folder: is not a folder");
}
