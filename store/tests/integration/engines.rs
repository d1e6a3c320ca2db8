//! Other engines read a table while it is written and rewritten: at every look they find the rows of its version.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use meterlake_model::Timestamp;
use meterlake_store::{Committer, CompactOptions, Lake};

use crate::faults::record;

const TABLE: &str = "electricity_readings";
const E: &str = "energy_import_kwh";
const NOVEMBER: i64 = 1_793_491_200;
/// Each engine looks at least so often.
const LOOKS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_5_deltalake_duckdb_and_polars_read_the_same_rows_in_the_middle_of_compaction() {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        println!("skipped: set METERLAKE_PEERS=1 to run against the Python peers");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    let mut committer = Committer::open(&lake).await.unwrap();
    // What the table holds by version: rows and the sum of the register.
    let mut truth: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let (mut rows, mut sum) = (0, 0);
    let mut position = 0;
    let stop = dir.path().join("stop");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/watch_table.py");
    let mut peer: Option<std::process::Child> = None;
    let mut compactions = 0;
    let began = Instant::now();
    loop {
        position += 1;
        let at = NOVEMBER + i64::try_from(position).unwrap() * 900;
        let meters: Vec<String> = (0..60).map(|m| format!("m{m:02}")).collect();
        let values = [(E, at % 100_000)];
        let said: Vec<_> = meters.iter().map(|m| (m.as_str(), at, values.as_slice())).collect();
        committer.push(position, record(&said));
        committer.flush().await.unwrap();
        (rows, sum) = (rows + 60, sum + 60 * (at % 100_000));
        let mut version = lake.snapshot(TABLE).await.unwrap().version;
        truth.insert(version, (rows, sum));
        if position % 3 == 0 {
            // In the middle of the month while it is open, as a whole when it is over.
            let now = if position % 12 == 0 { "2027-01-20T00:00:00Z" } else { "2026-11-20T00:00:00Z" };
            let now = Some(Timestamp::parse_rfc3339(now).unwrap());
            let options = CompactOptions { now, min_files: 2, target_bytes: 8 << 10, ..CompactOptions::default() };
            compactions += lake.compact(TABLE, &options).await.unwrap().removed_files;
            lake.checkpoint(TABLE).await.unwrap();
            // Each commit of it leaves the rows as they were.
            let last = lake.snapshot(TABLE).await.unwrap().version;
            while version < last {
                version += 1;
                truth.insert(version, (rows, sum));
            }
        }
        if let Some(child) = &mut peer {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            let mut command = Command::new("python3");
            command.arg(&script).arg(dir.path().join(TABLE)).arg(&stop).arg(LOOKS.to_string());
            peer = Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        }
        // Long enough for any machine: the peer ends by itself before.
        if began.elapsed() > Duration::from_secs(120) {
            std::fs::write(&stop, b"").unwrap();
        }
    }
    let output = peer.take().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut looks: BTreeMap<String, usize> = BTreeMap::new();
    let mut versions = std::collections::BTreeSet::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [engine, version, rows, sum] = fields[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<i64>().unwrap();
        assert_eq!((number(rows), number(sum)), truth[&number(version)], "{line}");
        *looks.entry(engine.to_owned()).or_default() += 1;
        versions.insert(number(version));
    }
    println!("looks {looks:?} at {} versions of {}; {compactions} files merged", versions.len(), truth.len());
    assert_eq!(looks.keys().collect::<Vec<_>>(), ["deltalake", "duckdb", "polars"]);
    assert!(looks.values().all(|n| *n >= LOOKS) && versions.len() > 2 && compactions > 10);
}
