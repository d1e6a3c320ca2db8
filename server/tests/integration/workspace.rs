//! The way of a reading goes one way: a test refuses every other edge between the crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn manifest(path: &Path) -> toml::Table {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// Every kind of dependency counts: an edge of the tests is an edge too.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

fn members() -> BTreeMap<String, BTreeSet<String>> {
    let root = root();
    let workspace = manifest(&root.join("Cargo.toml"));
    workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| {
            let folder = member.as_str().unwrap();
            (folder.to_owned(), dependencies(&manifest(&root.join(folder).join("Cargo.toml"))))
        })
        .collect()
}

fn allowed(from: &str) -> &'static [&'static str] {
    match from {
        "model" => &[],
        "config" => &["model"],
        "ingest" | "store" | "device-sim" => &["model", "config"],
        "analytics" => &["model", "config", "store"],
        "server" => &["model", "config", "ingest", "store", "analytics", "device-sim"],
        "benches" => &["model", "config", "ingest", "store", "analytics", "device-sim", "server"],
        other => panic!("`{other}` is new: say here what it may depend on"),
    }
}

#[test]
fn crates_depend_only_down_the_way_of_a_reading() {
    for (from, dependencies) in members() {
        for to in dependencies.iter().filter_map(|name| name.strip_prefix("meterlake-")) {
            assert!(allowed(&from).contains(&to), "`{from}` must not depend on `{to}` (docs/ARCHITECTURE.md)");
        }
    }
}

#[test]
fn only_store_analytics_server_and_benches_compile_datafusion() {
    for (from, dependencies) in members() {
        if !["store", "analytics", "server", "benches"].contains(&from.as_str()) {
            for heavy in ["datafusion", "deltalake-core", "arrow", "parquet", "object_store"] {
                assert!(!dependencies.contains(heavy), "`{from}` must not depend on `{heavy}`");
            }
        }
    }
}

#[test]
fn model_knows_no_runtime_and_no_format() {
    let model = members().remove("model").unwrap();
    for barred in ["tokio", "serde_json", "toml", "csv", "rumqttc", "tokio-modbus"] {
        assert!(!model.contains(barred), "model must not depend on `{barred}`");
    }
}

#[test]
fn versions_and_lints_stand_in_one_table() {
    let root = root();
    for folder in members().keys() {
        let path = root.join(folder).join("Cargo.toml");
        let manifest = manifest(&path);
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{}", path.display());
        for section in ["dependencies", "dev-dependencies"] {
            let Some(table) = manifest.get(section).and_then(|s| s.as_table()) else { continue };
            for (name, value) in table {
                let from_workspace = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(from_workspace, "{}: `{name}` states its own version", path.display());
            }
        }
    }
}
