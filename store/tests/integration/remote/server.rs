//! A server process that speaks S3 (moto), over HTTP and a line that fails as it is told. Runs where `METERLAKE_PEERS=1`;
//! there its absence is a failure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meterlake_store::doctor::{Depth, Severity, examine_lake};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Credentials, Holder, Lake, Location, Role, S3Location, StoreError};
use object_store::ObjectStoreExt as _;

use super::ledger::{Ledger, Process, TABLE};
use super::share;

pub(super) struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// With an empty bucket; nothing where peers are not asked for.
    pub(super) fn start() -> Option<Self> {
        if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
            println!("skipped: set METERLAKE_PEERS=1 to run against an S3 server");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/s3_server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg("bucket")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("METERLAKE_PEERS=1 needs python3 with tests/peers/requirements.txt");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
        Some(Self { port: port.unwrap_or_else(|| panic!("the server says {line:?}")), child })
    }

    /// What fails from here on, as JSON.
    pub(super) fn fail(&self, faults: &str) {
        let head = format!("POST /_faults HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", faults.len());
        self.ask(&format!("{head}Connection: close\r\n\r\n{faults}"));
    }

    /// How many requests there were, and of each fault.
    pub(super) fn counts(&self) -> serde_json::Value {
        let answer = self.ask("GET /_faults HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn ask(&self, request: &str) -> String {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        line.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    fn location(&self) -> Location {
        Location::S3(Box::new(S3Location {
            bucket: "bucket".into(),
            prefix: "some/lake".into(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: "us-east-1".into(),
            credentials: Credentials::Keys { access_key_id: "me".into(), secret_access_key: "hunter2".into() },
            allow_http: true,
            bucket_in_host: false,
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(1),
            retry_for: Duration::from_secs(20),
            lease: Duration::from_secs(60),
        }))
    }

    pub(super) fn lake(&self) -> Lake {
        Lake::connect(&self.location()).unwrap()
    }
}

/// Reliability R8 over HTTP. Of five requests one fails: not done, done and cut off, done and never answered.
#[tokio::test(flavor = "multi_thread")]
async fn rule_2_commits_to_a_server_are_exactly_once_at_one_fault_in_five_requests() {
    let Some(server) = Server::start() else { return };
    let (mut ledger, holder) = (Ledger::new(3), Holder::of_process("collector"));
    let mut process = Process::start(&server.lake(), &holder).await.unwrap();
    server.fail(r#"{"seed": 3, "permille": {"error": 95, "after": 95, "late": 10}, "delay_s": 1.3}"#);
    let (mut failures, mut lake) = (0, server.lake());
    for round in 0..share(8, 200) {
        ledger.hear();
        // Now and then the collector dies and starts again.
        if round % 5 == 4 {
            lake = server.lake();
            process = loop {
                match Process::start(&lake, &holder).await {
                    Ok(started) => break started,
                    Err(_) => failures += 1,
                }
            };
        }
        while let Err(e) = process.commit(&ledger).await {
            assert!(!matches!(e, StoreError::Lost { .. } | StoreError::Refused { .. }), "{e}");
            failures += 1;
        }
    }
    let counts = server.counts();
    server.fail("{}");
    ledger.check(&server.lake()).await;
    let versions = lake.snapshot(TABLE).await.unwrap().version;
    println!("{versions} versions, {} readings, {failures} failures, {counts}", ledger.readings());
    assert!(counts["after"].as_u64() > Some(10) && counts["error"].as_u64() > Some(10), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_store_that_ignores_conditions_is_refused_before_anything_is_written() {
    let Some(server) = Server::start() else { return };
    server.fail(r#"{"ignore": true}"#);
    let lake = server.lake();
    let refusals = [
        lake.own(Role::Collector, &Holder::of_process("collector")).await.unwrap_err(),
        lake.ensure(&meterlake_store::registry::usage_points()).await.unwrap_err(),
    ];
    for refusal in refusals {
        let told = "s3://bucket/some/lake cannot be used: it ignores the condition that an object must not be there";
        assert!(refusal.to_string().starts_with(told), "{refusal}");
        assert!(refusal.to_string().contains("MinIO"), "what to do: {refusal}");
    }
    assert!(lake.tables().await.unwrap().is_empty());
    server.fail("{}");
    lake.own(Role::Collector, &Holder::of_process("collector")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_a_server_is_read_by_others_queried_kept_and_examined() {
    let Some(server) = Server::start() else { return };
    let (lake, mut ledger) = (server.lake(), Ledger::new(5));
    let mut process = Process::start(&lake, &Holder::of_process("collector")).await.unwrap();
    for _ in 0..12 {
        ledger.hear();
        process.commit(&ledger).await.unwrap();
    }
    let owned = lake.own(Role::Maintenance, &Holder::of_process("jobs")).await.unwrap();
    assert!(lake.compact(TABLE, &super::reads::compaction()).await.unwrap().removed_files > 0);
    for _ in 0..12 {
        ledger.hear();
        process.commit(&ledger).await.unwrap();
    }
    assert!(lake.checkpoint(TABLE).await.unwrap());
    assert_eq!(lake.vacuum(TABLE).await.unwrap(), 0, "all is young");
    owned.release().await.unwrap();
    let fresh = server.lake();
    ledger.check(&fresh).await;

    let session = fresh.session(ReadOptions::default()).await.unwrap();
    let found = session.sql("SELECT count(*) FROM electricity").await.unwrap().collect().await.unwrap();
    let counts = found[0].column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
    assert_eq!(usize::try_from(counts.value(0)).unwrap(), ledger.readings());

    // Python's deltalake reads it over the same line.
    let script = "import sys, deltalake\n\
                  options = {'AWS_ENDPOINT_URL': sys.argv[1], 'AWS_ALLOW_HTTP': 'true', 'AWS_REGION': 'us-east-1',\n\
                  'AWS_ACCESS_KEY_ID': 'me', 'AWS_SECRET_ACCESS_KEY': 'hunter2'}\n\
                  table = deltalake.DeltaTable(sys.argv[2], storage_options=options)\n\
                  print(table.version(), table.to_pyarrow_table().num_rows)";
    let told = tokio::task::spawn_blocking(move || {
        let endpoint = format!("http://127.0.0.1:{}", server.port);
        let arguments = ["-c", script, &endpoint, "s3://bucket/some/lake/electricity_readings"];
        (server, Command::new("python3").args(arguments).output().unwrap())
    });
    let (server, told) = told.await.unwrap();
    let version = fresh.snapshot(TABLE).await.unwrap().version;
    let errors = String::from_utf8_lossy(&told.stderr);
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), format!("{version} {}", ledger.readings()), "{errors}");

    // What other hands remove is found, with its table.
    let journal = tempfile::tempdir().unwrap();
    let unsafe_ones = async |lake: &Lake| {
        let findings = examine_lake(lake, journal.path(), Depth::Whole).await;
        let found = findings.into_iter().filter(|f| f.severity == Severity::Unsafe && f.message.contains("file "));
        found.map(|f| f.message).collect::<Vec<_>>()
    };
    assert!(unsafe_ones(&fresh).await.is_empty());
    let file = fresh.snapshot(TABLE).await.unwrap().files[0].path.clone();
    let key = file.split('/').fold(fresh.table_key(TABLE).unwrap(), |key, part| key.join(part));
    fresh.object_store().delete(&key).await.unwrap();
    let found = unsafe_ones(&server.lake()).await;
    assert!(found.len() == 1 && found[0].contains(&file) && found[0].ends_with("is not there"), "{found:?}");
}
