//! Open tables: deltalake for Python and DuckDB read every table, and find what `meterlake query` finds.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

use crate::peers;
use crate::site::{Answer, program, rows};

/// What a peer says of one column: its kind, how many values it has, and figures that all of them enter into.
#[derive(Debug, Deserialize)]
struct Column {
    kind: String,
    figures: Vec<Option<String>>,
}

#[derive(Debug, Deserialize)]
struct Table {
    rows: i64,
    columns: BTreeMap<String, Column>,
}

type Tables = BTreeMap<String, Table>;

/// The figures of a column of this kind in our SQL, in the order of the peers'.
fn figures_sql(kind: &str, name: &str) -> Vec<String> {
    let name = format!("\"{name}\"");
    let of = |texts: &[&str]| texts.iter().map(|text| text.replace("{}", &name)).collect();
    match kind {
        "number" | "float" => of(&["count({})", "sum({})"]),
        "text" => of(&["count({})", "sum(octet_length({}))"]),
        "time" => of(&["count({})", "CAST(min({}) AS BIGINT)", "CAST(max({}) AS BIGINT)"]),
        "date" => of(&["count({})", "CAST(min({}) AS INT)", "CAST(max({}) AS INT)"]),
        "truth" => of(&["count({})", "sum(CAST({} AS INT))"]),
        other => panic!("{name} is of kind {other}"),
    }
}

/// Digits without trailing zeros, so that 1.500 is 1.5.
fn plain(text: &str) -> String {
    let text =
        if text.contains('.') && !text.contains('e') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    text.to_owned()
}

fn same(kind: &str, ours: &str, theirs: &str) -> bool {
    if kind != "float" {
        return plain(ours) == plain(theirs);
    }
    match (ours.parse::<f64>(), theirs.parse::<f64>()) {
        // The order of addition is the engine's own.
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        _ => ours == theirs,
    }
}

struct Lake {
    config: std::path::PathBuf,
}

impl Lake {
    fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let mut command = program();
        command.arg("--config").arg(&self.config).args(["query", "--committed", "--format", "csv", sql]);
        let answer = Answer::of(&command.output().unwrap());
        assert!(answer.good, "{sql}\n{}", answer.err);
        rows(&answer.out)
    }

    /// How many byte strings a column has, and their bytes; our SQL has no length of them, but CSV shows two digits each.
    fn bytes(&self, column: &str, from: &str) -> Vec<String> {
        let values = self.query(&format!("SELECT \"{column}\" FROM {from} WHERE \"{column}\" IS NOT NULL"));
        let bytes: usize = values.iter().map(|row| row[0].len() / 2).sum();
        let none = values.is_empty();
        vec![values.len().to_string(), if none { String::new() } else { bytes.to_string() }]
    }

    /// Our own figures of every column of a table; plain columns are asked for at once.
    fn figures(&self, name: &str, kinds: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
        let plain = kinds.iter().filter(|(_, kind)| *kind != "binary" && !kind.starts_with("list-"));
        let (mut asked, mut texts) = (Vec::new(), Vec::new());
        for (column, kind) in plain {
            for text in figures_sql(kind, column) {
                texts.push(format!("{text} AS f{}", texts.len()));
                asked.push(column);
            }
        }
        let answer = self.query(&format!("SELECT {} FROM {name}", texts.join(", "))).remove(0);
        let mut figures: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (column, figure) in asked.into_iter().zip(answer) {
            figures.entry(column.clone()).or_default().push(figure);
        }
        for (column, kind) in kinds {
            if kind == "binary" {
                figures.insert(column.clone(), self.bytes(column, name));
            } else if let Some(kind) = kind.strip_prefix("list-") {
                let items = format!("(SELECT unnest(\"{column}\") AS \"{column}\" FROM {name})");
                let sql = format!("SELECT {} FROM {items}", figures_sql(kind, column).join(", "));
                figures.insert(column.clone(), self.query(&sql).remove(0));
            }
        }
        figures
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltalake_and_duckdb_read_every_table_as_we_do() {
    if !peers::asked_for() {
        return;
    }
    let _machine = peers::whole_machine().await;
    // The demo's lake has every table: readings over MQTT and Modbus, dead letters, all that jobs derive.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let mut demo: Command = program();
    demo.arg("demo").arg("--dir").arg(&dir);
    demo.args(["--electricity", "60", "--water", "40", "--modbus", "5", "--days", "33", "--live", "3"]);
    let answer = Answer::of(&demo.output().unwrap());
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let lake = Lake { config: dir.join("meterlake.toml") };

    let said = peers::python("read_tables.py", &[&dir.join("lake")]);
    let engines: BTreeMap<String, Tables> = serde_json::from_str(&said).unwrap();
    assert_eq!(engines.keys().collect::<Vec<_>>(), ["deltalake", "duckdb"]);
    let mut names: Vec<_> = std::fs::read_dir(dir.join("lake"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("_delta_log").is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    for table in ["electricity_readings", "water_readings", "dead_letters", "usage_spans", "billing_reads", "profiles"]
    {
        assert!(names.iter().any(|name| name == table), "{table} is not among {names:?}");
    }
    for (engine, tables) in &engines {
        assert_eq!(tables.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>(), "{engine}");
        assert!(tables["electricity_readings"].rows > 0 && tables["usage_spans"].rows > 0, "{engine}");
    }
    for name in &names {
        let rows = lake.query(&format!("SELECT count(*) FROM {name}")).remove(0).remove(0);
        let columns = &engines["deltalake"][name].columns;
        let kinds = columns.iter().map(|(column, said)| (column.clone(), said.kind.clone())).collect();
        let ours = lake.figures(name, &kinds);
        for (engine, tables) in &engines {
            let table = &tables[name];
            assert_eq!(rows, table.rows.to_string(), "{name}: rows by {engine}");
            assert_eq!(table.columns.len(), ours.len(), "{name}: columns by {engine}");
            for (column, said) in &table.columns {
                let kind = said.kind.trim_start_matches("list-");
                let theirs: Vec<_> = said.figures.iter().map(|f| f.clone().unwrap_or_default()).collect();
                let ours = &ours[column];
                let equal = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| same(kind, a, b));
                assert!(equal, "{name}.{column} ({kind}): we say {ours:?}, {engine} says {theirs:?}");
            }
        }
    }
    println!("{} tables, all columns equal by {:?}", names.len(), engines.keys());
}
