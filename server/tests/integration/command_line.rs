//! The command line as a person meets it: kind refusals, the same answer in every form, and three processes that come
//! and go in order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meterlake_device_sim::ledger::Ledger;
use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::Timestamp;
use meterlake_model::registry::Registry;

use crate::mosquitto::free_address;
use crate::process::until;
use crate::site::{Answer, PATIENCE, Site, program, rows};

fn simulation() -> Arc<Simulation> {
    let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(1, from, from.plus_seconds(86_400));
    (plan.electricity_mqtt, plan.water_mqtt) = (4, 3);
    Arc::new(Simulation::new(plan, Scenario::none()).unwrap())
}

fn registry() -> Registry {
    simulation().registry().unwrap()
}

/// Runs the program without a configuration.
fn ask(words: &[&str]) -> Answer {
    Answer::of(&program().args(words).output().unwrap())
}

#[test]
fn every_command_explains_itself() {
    for words in [
        &["run"][..],
        &["collect"],
        &["jobs"],
        &["serve"],
        &["demo"],
        &["query"],
        &["tables"],
        &["job", "run"],
        &["job", "list"],
        &["registry", "import"],
        &["registry", "show"],
        &["alerts"],
        &["dead-letters", "list"],
        &["dead-letters", "replay"],
        &["redecode", "preview"],
        &["redecode", "apply"],
        &["redecode", "approve"],
        &["redecode", "list"],
        &["doctor"],
        &["tap"],
        &["test"],
        &["modbus", "read"],
        &["modbus", "scan"],
        &["modbus", "doctor"],
        &["maps", "list"],
        &["maps", "show"],
        &["profiles", "list"],
        &["profiles", "show"],
        &["simulate", "fleet"],
        &["simulate", "replay"],
        &["simulate", "gateways"],
        &["simulate", "check-ledger"],
        &["retention", "plan"],
        &["retention", "apply"],
        &["hold", "add"],
        &["hold", "list"],
        &["hold", "release"],
        &["erase", "meter"],
        &["erase", "customer"],
        &["erase", "verify"],
        &["erase", "list"],
        &["backup"],
        &["restore"],
        &["check-config"],
        &["config", "default"],
    ] {
        let answer = ask(&[words, &["--help"]].concat());
        assert!(answer.good && answer.out.contains("Usage: meterlake"), "{words:?}: {}{}", answer.out, answer.err);
    }
}

#[test]
fn check_config_names_every_problem_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    let text = "[lake]\nroot = \"lake\"\nrooot = 1\n\n[collect]\ncommit_interval = \"soon\"\n\n[[mqtt]]\nname = \"yard\"\n\
                host = \"localhost\"\nport = 99999\ntopics = [\"a/#/b\"]\nmaps = [\"no-such-map\"]\n";
    std::fs::write(&file, text).unwrap();
    let answer = ask(&["check-config", file.to_str().unwrap()]);
    assert!(!answer.good);
    for (line, word) in [(3, "rooot"), (6, "commit_interval"), (11, "port"), (12, "topics"), (13, "no-such-map")] {
        let at = format!("site.toml:{line}:");
        let named = answer.err.lines().any(|problem| problem.contains(&at) && problem.contains(word));
        assert!(named, "line {line} ({word}) is not named:\n{}", answer.err);
    }
}

#[test]
fn the_printed_defaults_are_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meterlake.toml");
    let answer = ask(&["config", "default"]);
    assert!(answer.good);
    std::fs::write(&file, answer.out).unwrap();
    let checked = ask(&["check-config", file.to_str().unwrap()]);
    assert!(checked.good, "{}", checked.err);
}

#[test]
fn a_registry_imported_twice_changes_nothing() {
    let site = Site::new("");
    site.import(&registry());
    let words = ["registry", "import", &site.path("registry").display().to_string()];
    let logs = || {
        let mut names: Vec<_> = walk(&site.path("lake"));
        names.sort();
        names
    };
    let before = logs();
    assert!(!before.is_empty());
    let said = site.tell(&words);
    assert!(said.starts_with("the registry was already revision 1: 7 usage points"), "{said}");
    assert_eq!(logs(), before, "no file came or went");
    assert_eq!(site.number("SELECT count(*) FROM usage_points"), 7);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_wrong_registry_is_refused_whole_with_file_and_line() {
    let site = Site::new("");
    site.import(&registry());
    let folder = site.path("registry");
    let meters = folder.join("meters.csv");
    let text = std::fs::read_to_string(&meters).unwrap();
    std::fs::write(&meters, text + "E-BAD,gas,,\n").unwrap();
    let installations = folder.join("installations.csv");
    let text = std::fs::read_to_string(&installations).unwrap();
    std::fs::write(&installations, text + "E-NOBODY,UP-NOWHERE,2026-11-01T00:00:00Z,\n").unwrap();
    let answer = site.ask(&["registry", "import", folder.to_str().unwrap()]);
    assert!(!answer.good);
    for place in ["meters.csv:9:", "installations.csv:9:"] {
        assert!(answer.err.contains(place), "{place} is not named:\n{}", answer.err);
    }
    assert!(site.tell(&["registry", "show"]).starts_with("revision 1: 7 usage points"));
}

#[test]
fn a_query_gives_the_same_rows_in_every_form() {
    let site = Site::new("");
    site.import(&registry());
    let sql = "SELECT usage_point_id, commodity FROM usage_points ORDER BY 1";
    let csv = site.query(sql);
    assert_eq!(csv.len(), 7);
    let json = site.tell(&["query", "--format", "json", sql]);
    let from_json: Vec<Vec<String>> = json
        .lines()
        .map(|line| {
            let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            row.values().map(|value| value.as_str().unwrap().to_owned()).collect()
        })
        .collect();
    // JSON objects have no order of their own.
    let sorted = |mut rows: Vec<Vec<String>>| {
        rows.iter_mut().for_each(|row| row.sort());
        rows
    };
    assert_eq!(sorted(from_json), sorted(csv.clone()));
    let table = site.tell(&["query", "--format", "table", sql]);
    assert!(table.trim_end().ends_with("7 rows") && table.contains(&csv[0][0]), "{table}");
    let parquet = site.path("points.parquet");
    site.tell(&["query", "--output", parquet.to_str().unwrap(), sql]);
    let bytes = std::fs::read(&parquet).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert_eq!(site.tell(&["query", sql]), site.tell(&["query", "--format", "csv", sql]), "CSV in a pipe");
}

#[test]
fn what_can_be_asked_is_listed_with_its_columns() {
    let site = Site::new("");
    site.import(&registry());
    let listed = site.tell(&["tables"]);
    assert!(listed.starts_with("name,kind,about\n"), "{listed}");
    assert!(listed.contains("\nmeters,table,\"registry: "), "{listed}");
    let columns = site.tell(&["tables", "meters"]);
    assert!(columns.contains("meter_id,Utf8,NO"), "{columns}");
    let unknown = site.ask(&["tables", "metres"]);
    assert!(!unknown.good && unknown.err.contains("no table `metres`"), "{}", unknown.err);
    let vague = site.ask(&["query", "--as-of", "2026-11-20 08:00", "SELECT 1"]);
    assert!(!vague.good && vague.err.contains("civil time with its zone"), "{}", vague.err);
}

#[test]
fn rule_11_sql_neither_writes_nor_reads_files() {
    let site = Site::new("");
    site.import(&registry());
    let before = walk(&site.path("lake")).len();
    for sql in [
        "INSERT INTO usage_points SELECT * FROM usage_points",
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE usage_points",
        "COPY (SELECT 1) TO 'out.csv'",
        "COPY usage_points TO '/tmp/out.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'registry/meters.csv'",
        "SELECT 1; SELECT 2",
        "EXPLAIN ANALYZE INSERT INTO usage_points SELECT * FROM usage_points",
        "",
    ] {
        let answer = site.ask(&["query", sql]);
        assert!(!answer.good && answer.out.is_empty(), "`{sql}` is answered: {}", answer.out);
        assert!(answer.err.starts_with("error: "), "`{sql}`: {}", answer.err);
    }
    assert_eq!(walk(&site.path("lake")).len(), before);
    assert!(!Path::new("/tmp/out.parquet").exists());
}

#[test]
fn a_lake_that_is_not_there_is_named_with_what_to_do() {
    let site = Site::new("");
    let answer = site.ask(&["query", "SELECT 1"]);
    assert!(!answer.good);
    assert!(answer.err.contains("there is no lake at") && answer.err.contains("registry"), "{}", answer.err);
}

/// One request over HTTP: status code and body.
fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Processes that this one started, by the last word of their command line.
fn children(of: u32) -> Vec<(String, i32)> {
    let list = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for thread in list {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for id in text.split_whitespace() {
            let words = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let last = words.trim_end_matches('\0').rsplit('\0').next().unwrap_or_default().to_owned();
            found.push((last, id.parse().unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn run_keeps_three_processes_and_stops_them_in_order() {
    let address = free_address();
    let site = Site::new(&format!("[serve]\nbind = \"{address}\"\n"));
    site.import(&registry());
    let mut run = site.start(&["run"]);
    until("healthy", PATIENCE, || {
        run.must_run();
        get(address, "/health").filter(|(code, _)| *code == 200)
    });
    let parts = children(run.id());
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["collect", "jobs", "serve"]);

    let (code, metrics) = get(address, "/metrics").unwrap();
    assert_eq!(code, 200);
    assert!(metrics.lines().any(|line| line.starts_with("meterlake_")) && metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(get(address, "/etc/passwd").unwrap().0, 404);

    // The end of one touches no other.
    let of = |parts: &[(String, i32)], name: &str| parts.iter().find(|(part, _)| part == name).map(|(_, id)| *id);
    let serve = rustix::process::Pid::from_raw(of(&parts, "serve").unwrap()).unwrap();
    rustix::process::kill_process(serve, rustix::process::Signal::KILL).unwrap();
    let now = until("serve again", PATIENCE, || {
        let now = children(run.id());
        of(&now, "serve").filter(|id| *id != serve.as_raw_nonzero().get()).map(|_| now)
    });
    assert_eq!((of(&now, "collect"), of(&now, "jobs")), (of(&parts, "collect"), of(&parts, "jobs")));
    until("serve answers again", PATIENCE, || get(address, "/health").filter(|(code, _)| *code == 200));

    let (status, log) = run.stop(PATIENCE);
    assert!(status.success(), "{status}:\n{log}");
    let stopped: Vec<_> = log.lines().filter(|line| line.contains(" stopped ") || line.ends_with(" stopped")).collect();
    let order: Vec<_> = ["collect", "jobs", "serve"]
        .iter()
        .map(|part| {
            stopped
                .iter()
                .position(|line| line.contains(&format!("part=\"{part}\"")))
                .unwrap_or_else(|| panic!("{part}:\n{log}"))
        })
        .collect();
    assert!(order.is_sorted(), "{stopped:#?}");
    for (name, id) in now {
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{name} is left behind");
    }
    assert!(get(address, "/health").is_none());
}

#[test]
fn a_second_collector_or_job_on_the_same_lake_is_refused() {
    let site = Site::new("");
    site.import(&registry());
    let first = site.collect();
    let second = site.ask(&["collect"]);
    assert!(!second.good && second.err.contains("journal"), "{}", second.err);
    site.stop(first);
}

#[test]
fn a_fleet_writes_the_registry_that_the_import_takes() {
    let site = Site::new("");
    let folder = site.path("fleet");
    let folder = folder.to_str().unwrap();
    site.tell(&["simulate", "fleet", "--registry", folder, "--registry-only", "--electricity", "5", "--water", "2"]);
    let said = site.tell(&["registry", "import", folder]);
    assert!(said.starts_with("the registry is now revision 1: 7 usage points, 7 meters"), "{said}");
    let listed = rows(&site.tell(&["query", "--format", "csv", "SELECT count(*) FROM meters"]));
    assert_eq!(listed, [["7"]]);
}

#[test]
fn check_ledger_fails_for_what_was_acknowledged_and_is_not_in_the_lake() {
    let site = Site::new("");
    site.import(&registry());
    let collector = site.collect();
    site.stop(collector);
    let path = site.path("ledger");
    let mut ledger = Ledger::create(&path).unwrap();
    let message = History::new(simulation(), MessageForm::Singles).next().unwrap();
    let number = ledger.sent(&message).unwrap();
    let words = ["simulate", "check-ledger", path.to_str().unwrap()];
    let said = site.tell(&words);
    assert!(said.starts_with("0 values acknowledged, 0 in the table, 0 lost"), "sent, not acknowledged: {said}");
    ledger.acknowledged(&[number]).unwrap();
    let answer = site.ask(&words);
    let values = message.rows.values.len();
    assert!(!answer.good && answer.out.contains(&format!(", {values} lost (first: E-000001 ")), "{}", answer.out);
}
