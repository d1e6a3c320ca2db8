//! A table gains columns without being rewritten, and every reader sees them: null where they were not yet.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use meterlake_model::{Commodity, Timestamp};
use meterlake_store::journal::{JournalOptions, JournalWriter};
use meterlake_store::query::{ReadOptions, SqlLimits, sql};
use meterlake_store::{Committer, CompactOptions, Lake, StoreError, TableSpec, schema};

use crate::faults::{quick_lake, record};

fn spec(more: &[(&str, DataType, bool)]) -> TableSpec {
    let mut fields = vec![Field::new("id", DataType::Utf8, false)];
    // In the middle, as the catalogue's own order may have it.
    fields.extend(more.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable)));
    fields.push(Field::new("n", DataType::Int64, false));
    fields.push(Field::new("month", DataType::Utf8, false));
    let schema = Arc::new(Schema::new(fields));
    TableSpec { name: "derived", schema, partition_by: &["month"], sort_by: &["id"] }
}

fn old() -> TableSpec {
    spec(&[])
}

fn new() -> TableSpec {
    spec(&[("note", DataType::Utf8, true)])
}

fn rows(spec: &TableSpec, rows: &[(&str, i64)]) -> RecordBatch {
    let columns = spec.schema.fields().iter().map(|f| -> ArrayRef {
        match f.name().as_str() {
            "n" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
            "month" => Arc::new(StringArray::from(vec!["2026-10"; rows.len()])),
            _ => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
        }
    });
    RecordBatch::try_new(spec.schema.clone(), columns.collect()).unwrap()
}

async fn ask(lake: &Lake, journal: Option<&Path>, question: &str) -> Vec<Vec<String>> {
    let options = ReadOptions { journal: journal.map(Path::to_owned), ..ReadOptions::default() };
    let session = lake.session(options).await.unwrap();
    let answer = sql(&session, question, SqlLimits::default()).await.unwrap();
    let batches: Vec<RecordBatch> = futures::TryStreamExt::try_collect(answer.stream().unwrap()).await.unwrap();
    let mut lines = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cell = |c: &ArrayRef| arrow::util::display::array_value_to_string(c, row).unwrap();
            lines.push(batch.columns().iter().map(cell).collect());
        }
    }
    lines
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name().as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_reaches_an_old_table_by_one_commit_that_touches_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    lake.append(&old(), vec![rows(&old(), &[("a", 1), ("c", 3)])]).await.unwrap();
    // Another process that has it open, and one that is no newer than the table.
    let (open, older) = (quick_lake(dir.path()), quick_lake(dir.path()));
    let before = open.snapshot("derived").await.unwrap();
    older.snapshot("derived").await.unwrap();

    lake.ensure(&new()).await.unwrap();
    lake.ensure(&new()).await.unwrap();
    let grown = lake.snapshot("derived").await.unwrap();
    assert_eq!(grown.version, before.version + 1);
    assert_eq!(grown.files, before.files);
    assert_eq!(names(&grown.schema), ["id", "n", "note", "month"], "at the end, before the partition");
    for other in [&open, &quick_lake(dir.path())] {
        let found = other.snapshot("derived").await.unwrap();
        assert_eq!((&found.schema, &found.sort_by), (&grown.schema, &grown.sort_by));
    }

    lake.append(&new(), vec![rows(&new(), &[("b", 2)])]).await.unwrap();
    let expected = [["a", "1", ""], ["b", "2", "b"], ["c", "3", ""]];
    let question = "SELECT id, n, note FROM derived ORDER BY id";
    assert_eq!(ask(&open, None, question).await, expected);
    assert_eq!(ask(&open, None, "SELECT id FROM derived WHERE note IS NULL ORDER BY id").await, [["a"], ["c"]]);
    assert_eq!(ask(&open, None, "SELECT id FROM derived WHERE note = 'b'").await, [["b"]]);

    // An older program is told which column it does not know, and writes nothing.
    let refusal = older.append(&old(), vec![rows(&old(), &[("z", 9)])]).await.unwrap_err();
    let StoreError::Foreign { reason, .. } = &refusal else { panic!("{refusal}") };
    assert!(reason.contains("(note): a newer program wrote it; start that program"), "{reason}");

    let close = CompactOptions { min_files: 2, ..CompactOptions::default() };
    assert_eq!(open.compact("derived", &close).await.unwrap().rows, 3);
    assert_eq!(ask(&lake, None, question).await, expected);
    assert_eq!(lake.snapshot("derived").await.unwrap().files.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_growth_is_refused_and_the_table_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    lake.append(&old(), vec![rows(&old(), &[("a", 1)])]).await.unwrap();
    let before = lake.snapshot("derived").await.unwrap().version;
    for (asked, reason) in [
        (spec(&[("strict", DataType::Utf8, false)]), "lacks columns that may not be null (strict)"),
        (TableSpec { sort_by: &["id", "n"], ..old() }, "sorted by"),
        (TableSpec { partition_by: &[], ..old() }, "partitioned by"),
    ] {
        let refusal = lake.ensure(&asked).await.unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    let mut twisted = old();
    twisted.schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("n", DataType::Utf8, false),
        Field::new("month", DataType::Utf8, false),
    ]));
    let refusal = lake.ensure(&twisted).await.unwrap_err().to_string();
    assert!(refusal.contains("column n is Int64 and should be Utf8"), "{refusal}");
    assert_eq!(lake.snapshot("derived").await.unwrap().version, before);

    // A column that is taken away while a process has the table open is no growth either.
    let open = quick_lake(dir.path());
    open.ensure(&new()).await.unwrap();
    let path = dir.path().join("derived/_delta_log");
    let first = std::fs::read_to_string(path.join(format!("{:020}.json", 0))).unwrap();
    let metadata = first.lines().find(|line| line.contains("metaData")).unwrap();
    std::fs::write(path.join(format!("{:020}.json", before + 2)), metadata).unwrap();
    let refusal = open.snapshot("derived").await.unwrap_err().to_string();
    assert!(refusal.contains("column note was taken away; start this program again"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_two_programs_add_at_once_are_both_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (quick_lake(dir.path()), quick_lake(dir.path()));
    one.ensure(&old()).await.unwrap();
    two.snapshot("derived").await.unwrap();
    let (note, both) = (new(), spec(&[("note", DataType::Utf8, true), ("word", DataType::Utf8, true)]));
    let (first, second) = tokio::join!(one.ensure(&note), two.ensure(&both));
    second.unwrap();
    // The program that knows one of the two is done, or is told of the other.
    assert!(first.is_ok() || first.unwrap_err().to_string().contains("(word)"));
    let found = quick_lake(dir.path()).snapshot("derived").await.unwrap();
    assert_eq!(names(&found.schema), ["id", "n", "note", "word", "month"]);
}

const E: &str = "energy_import_kwh";
const F: &str = "frequency_hz";
const AT: i64 = 1_793_491_200;

/// Readings as a program knew them that had no frequency yet.
fn older_readings() -> TableSpec {
    let spec = schema::readings(Commodity::Electricity);
    let fields = spec.schema.fields().iter().filter(|f| f.name() != F).cloned();
    TableSpec { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), ..spec }
}

/// A lake that an older program wrote into, then this one.
async fn grown_lake(dir: &Path) -> Lake {
    let scratch = tempfile::tempdir().unwrap();
    let source = quick_lake(scratch.path());
    let mut committer = Committer::open(&source).await.unwrap();
    committer.push(1, record(&[("a", AT, &[(E, 5)]), ("b", AT, &[(E, 7)])]));
    committer.flush().await.unwrap();
    let state = source.snapshot("electricity_readings").await.unwrap();
    let spec = older_readings();
    let known: Vec<RecordBatch> = crate::faults::batches(&source, &state)
        .iter()
        .map(|batch| {
            let month = Arc::new(StringArray::from(vec!["2026-11"; batch.num_rows()])) as ArrayRef;
            let column = |f: &Arc<Field>| batch.column_by_name(f.name()).cloned().unwrap_or_else(|| month.clone());
            RecordBatch::try_new(spec.schema.clone(), spec.schema.fields().iter().map(column).collect()).unwrap()
        })
        .collect();
    let lake = quick_lake(dir);
    lake.append(&spec, known).await.unwrap();
    assert!(lake.snapshot("electricity_readings").await.unwrap().schema.index_of(F).is_err());

    let mut committer = Committer::open(&lake).await.unwrap();
    committer.push(1, record(&[("a", AT, &[(E, 5)]), ("a", AT + 900, &[(E, 6), (F, 4998)])]));
    committer.push(2, record(&[("b", AT, &[(E, 7), (F, 5001)])]));
    let report = committer.flush().await.unwrap();
    assert_eq!((report.stored, report.duplicates), (2, 1), "a repeat in an old file is found");
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_readings_of_an_older_program_are_completed_compacted_and_read_beside_hot_ones() {
    let dir = tempfile::tempdir().unwrap();
    let lake = grown_lake(&dir.path().join("lake")).await;
    let journal = dir.path().join("journal");
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(&journal)).unwrap();
    // The tables hold the first two records of the journal already.
    for at in [AT, AT + 900, AT + 1800] {
        writer.append(&record(&[("c", at, &[(F, 5000)])])).unwrap();
    }
    writer.sync().unwrap();
    let question = format!("SELECT meter_id, count(*), sum({E}), sum({F}) FROM electricity GROUP BY 1 ORDER BY 1");
    let expected = [["a", "2", "0.011", "49.98"], ["b", "1", "0.007", "50.01"], ["c", "1", "", "50.00"]];
    assert_eq!(ask(&lake, Some(&journal), &question).await, expected);
    let before = lake.snapshot("electricity_readings").await.unwrap().rows();
    let now = Some(Timestamp::parse_rfc3339("2026-12-20T00:00:00Z").unwrap());
    let report = lake
        .compact("electricity_readings", &CompactOptions { now, min_files: 2, ..CompactOptions::default() })
        .await
        .unwrap();
    assert_eq!((report.rows, report.repeats, before), (4, 0, 4));
    assert_eq!(ask(&lake, Some(&journal), &question).await, expected);
    assert_eq!(lake.snapshot("electricity_readings").await.unwrap().files.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deltalake_and_duckdb_read_a_grown_table_as_we_do() {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        println!("skipped: set METERLAKE_PEERS=1 to run against the Python peers");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lake = grown_lake(dir.path()).await;
    let ours =
        ask(&lake, None, &format!("SELECT count(*), count({F}), sum({F}), sum({E}) FROM electricity_readings")).await;
    assert_eq!(ours, [["4", "2", "99.99", "0.025"]]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/read_tables.py");
    let answer = Command::new("python3").arg(script).arg(dir.path()).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let said: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    for (peer, tables) in said {
        let table = &tables["electricity_readings"];
        assert_eq!(table["rows"], 4, "{peer}");
        assert_eq!(table["columns"][F]["figures"], serde_json::json!(["2", "99.99"]), "{peer}");
        assert_eq!(table["columns"][E]["figures"], serde_json::json!(["4", "0.025"]), "{peer}");
    }
}
