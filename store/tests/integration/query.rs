//! Reading the lake: order without sorts, pruning, hot rows, pins, and the door for SQL.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp, month_key};
use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
use meterlake_store::query::{QueryError, ReadOptions, SqlLimits, sql};
use meterlake_store::{Committer, Lake, schema};
use tempfile::TempDir;

/// 2026-10-31T00:00:00Z.
const START: i64 = 1_793_404_800;
const HOUR: i64 = 3600;

/// meter, hours after the start, revision, energy, voltage, commit
type Row<'a> = (&'a str, i64, i32, Option<i64>, Option<i64>, i64);

fn readings(rows: &[Row<'_>]) -> RecordBatch {
    let spec = schema::readings(Commodity::Electricity);
    let ts = |hours: i64| Timestamp::from_unix_seconds(START + hours * HOUR).unwrap();
    let texts = |value: &dyn Fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
    };
    let instants = || -> ArrayRef {
        let micros = rows.iter().map(|r| ts(r.1).micros());
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let columns = spec.schema.fields().iter().map(|field| -> ArrayRef {
        if let Some(channel) = Channel::by_name(field.name()) {
            let value = |r: &Row<'_>| match channel.name() {
                "energy_import_kwh" => r.3.map(i128::from),
                "voltage_l1_v" => r.4.map(i128::from),
                _ => None,
            };
            let array: Decimal128Array = rows.iter().map(value).collect();
            let scale = i8::try_from(channel.scale()).unwrap();
            return Arc::new(array.with_precision_and_scale(channel.precision(), scale).unwrap());
        }
        match field.name().as_str() {
            "meter_id" => texts(&|r| r.0.to_owned()),
            "ts" | "received_at" => instants(),
            "revision" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.2))),
            "flags" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| 0))),
            "commit_seq" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.5))),
            "month" => texts(&|r| month_key(ts(r.1))),
            _ => texts(&|_| "test".to_owned()),
        }
    });
    RecordBatch::try_new(spec.schema.clone(), columns.collect()).unwrap()
}

/// Three files: two of October that overlap, one of November.
async fn committed(root: &Path) -> Lake {
    let lake = Lake::open(root).unwrap();
    let spec = schema::readings(Commodity::Electricity);
    let first =
        [("a", 0, 0, Some(1000), None, 1), ("a", 1, 0, Some(1100), None, 1), ("b", 0, 0, Some(7), Some(2300), 1)];
    let second = [
        ("a", 1, 0, None, Some(2310), 2),
        ("a", 2, 0, Some(1250), None, 2),
        ("b", 0, 1, Some(8), None, 2),
        ("c", 30, 0, Some(50), None, 2),
    ];
    lake.append(&spec, vec![readings(&first)]).await.unwrap();
    lake.append(&spec, vec![readings(&second)]).await.unwrap();
    lake
}

fn batch(meter: &str, hours: i64, energy: i64) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let header = RowHeader {
        meter_id: MeterId::new(meter).unwrap(),
        ts: Timestamp::from_unix_seconds(START + hours * HOUR).unwrap(),
        received_at_s: START,
        source: "test".into(),
        profile: "test@1".into(),
        flags: ReadingFlags::NONE,
    };
    batch.electricity.push(header, &[(Channel::by_name("energy_import_kwh").unwrap(), energy)]);
    batch
}

/// A journal with two readings, one of them twice, and a repeat of a committed one.
fn journal(dir: &Path) -> JournalWriter {
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(dir)).unwrap();
    for record in [batch("a", 3, 1300), batch("d", 40, 9), batch("a", 3, 1300), batch("a", 2, 1250)] {
        writer.append(&record).unwrap();
    }
    writer.sync().unwrap();
    writer
}

async fn rows(context: &SessionContext, query: &str) -> Vec<RecordBatch> {
    let result = sql(context, query, SqlLimits::default()).await.unwrap_or_else(|e| panic!("{query}: {e}"));
    result.stream().unwrap().try_collect().await.unwrap()
}

async fn text(context: &SessionContext, query: &str) -> String {
    pretty_format_batches(&rows(context, query).await).unwrap().to_string()
}

/// First column of each row.
pub(crate) async fn list(context: &SessionContext, query: &str) -> Vec<String> {
    let batches = rows(context, query).await;
    let cell = |b: &RecordBatch, row| arrow::util::display::array_value_to_string(b.column(0), row).unwrap();
    batches.iter().flat_map(|b| (0..b.num_rows()).map(move |row| cell(b, row))).collect()
}

pub(crate) async fn plan(context: &SessionContext, query: &str) -> String {
    let result = sql(context, query, SqlLimits::default()).await.unwrap();
    datafusion::physical_plan::displayable(result.plan().as_ref()).indent(true).to_string()
}

const ORDERED: &str = "SELECT meter_id || ' ' || energy_import_kwh FROM electricity_readings \
                       WHERE energy_import_kwh IS NOT NULL ORDER BY meter_id, ts, revision";

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_order_of_meter_and_time_without_a_sort() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let _writer = journal(&dir.path().join("journal"));
    for journal in [None, Some(dir.path().join("journal"))] {
        let hot = journal.is_some();
        let context = lake.session(ReadOptions { journal, ..ReadOptions::default() }).await.unwrap();
        let query = "SELECT * FROM electricity_readings ORDER BY meter_id, ts, revision";
        let plan = plan(&context, query).await;
        assert!(!plan.contains("SortExec"), "{plan}");
        assert!(plan.contains("SortPreservingMergeExec"), "{plan}");
        let mut expected = vec!["a 1.000", "a 1.100", "a 1.250", "b 0.007", "b 0.008", "c 0.050"];
        if hot {
            expected =
                vec!["a 1.000", "a 1.100", "a 1.250", "a 1.250", "a 1.300", "b 0.007", "b 0.008", "c 0.050", "d 0.009"];
        }
        assert_eq!(list(&context, ORDERED).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_has_one_row_a_meter_and_time() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let _writer = journal(&dir.path().join("journal"));
    let options = ReadOptions { journal: Some(dir.path().join("journal")), ..ReadOptions::default() };
    let context = lake.session(options).await.unwrap();
    let found = text(
        &context,
        "SELECT meter_id, ts, revision, energy_import_kwh AS kwh, voltage_l1_v AS v, flags, commit_seq \
         FROM electricity ORDER BY meter_id, ts",
    )
    .await;
    let expected = "\
+----------+----------------------+----------+-------+-------+-------+------------+
| meter_id | ts                   | revision | kwh   | v     | flags | commit_seq |
+----------+----------------------+----------+-------+-------+-------+------------+
| a        | 2026-10-31T00:00:00Z | 0        | 1.000 |       | 0     | 1          |
| a        | 2026-10-31T01:00:00Z | 0        | 1.100 | 231.0 | 0     | 2          |
| a        | 2026-10-31T02:00:00Z | 0        | 1.250 |       | 0     | 2          |
| a        | 2026-10-31T03:00:00Z | 0        | 1.300 |       | 0     |            |
| b        | 2026-10-31T00:00:00Z | 1        | 0.008 | 230.0 | 2     | 2          |
| c        | 2026-11-01T06:00:00Z | 0        | 0.050 |       | 0     | 2          |
| d        | 2026-11-01T16:00:00Z | 0        | 0.009 |       | 0     |            |
+----------+----------------------+----------+-------+-------+-------+------------+";
    assert_eq!(found, expected);
    // The same, asked for less: what the walk needs is read whether or not it is asked for.
    let sums = list(&context, "SELECT sum(energy_import_kwh) FROM electricity WHERE meter_id < 'c'").await;
    assert_eq!(sums, ["4.658"]);
    assert_eq!(list(&context, "SELECT count(*) FROM electricity").await, ["7"]);
    assert_eq!(list(&context, "SELECT voltage_l1_v FROM electricity WHERE voltage_l1_v > 230.5").await, ["231.0"]);
    assert_eq!(
        list(&context, "SELECT meter_id || ' ' || ts FROM latest ORDER BY meter_id").await,
        ["a 2026-10-31T03:00:00Z", "b 2026-10-31T00:00:00Z", "c 2026-11-01T06:00:00Z", "d 2026-11-01T16:00:00Z"]
    );
    let plan = plan(&context, "SELECT * FROM electricity ORDER BY meter_id, ts").await;
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_chosen_by_meter_time_and_month() {
    let dir = TempDir::new().unwrap();
    let lake = committed(dir.path()).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    let files = |plan: &str| plan.matches(".parquet").count();
    let one = plan(&context, "SELECT energy_import_kwh FROM electricity WHERE meter_id = 'c'").await;
    assert!(one.contains("pruning_predicate"), "pages are chosen, too: {one}");
    for (filter, expected) in [
        ("true", 3),
        ("month = '2026-11'", 1),
        ("meter_id = 'c'", 1),
        ("meter_id = 'a'", 2),
        ("ts < TIMESTAMP '2026-10-31T00:30:00Z' AND voltage_l1_v IS NOT NULL", 2),
        ("ts >= TIMESTAMP '2026-11-01T00:00:00Z'", 1),
        ("meter_id = 'x'", 0),
    ] {
        for table in ["electricity_readings", "electricity"] {
            let plan = plan(&context, &format!("SELECT meter_id, energy_import_kwh FROM {table} WHERE {filter}")).await;
            // What a revision or a complement says is only known after the walk.
            let through = table == "electricity_readings" || !filter.contains("voltage") && !filter.contains("month");
            assert_eq!(files(&plan), if through { expected } else { files(&plan) }, "{table} WHERE {filter}:\n{plan}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_a_pinned_session_shows_the_rows_of_its_commits_only() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let _writer = journal(&dir.path().join("journal"));
    let pinned = |commit_seq| ReadOptions {
        journal: Some(dir.path().join("journal")),
        commit_seq: Some(commit_seq),
        ..ReadOptions::default()
    };
    for (pin, expected) in [(0, "0"), (1, "3"), (2, "7"), (9, "7")] {
        let context = lake.session(pinned(pin)).await.unwrap();
        assert_eq!(list(&context, "SELECT count(*) FROM electricity_readings").await, [expected]);
    }
    let context = lake.session(pinned(1)).await.unwrap();
    assert_eq!(list(&context, "SELECT energy_import_kwh FROM electricity WHERE meter_id = 'b'").await, ["0.007"]);
    let plan = plan(&context, "SELECT * FROM electricity ORDER BY meter_id, ts, revision").await;
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_8_sums_with_and_without_optimisation_agree() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let _writer = journal(&dir.path().join("journal"));
    let queries = [
        "SELECT count(*), sum(energy_import_kwh), min(ts), max(ts) FROM electricity_readings",
        "SELECT count(*), max(commit_seq) FROM electricity_readings WHERE meter_id = 'a' AND month = '2026-10'",
        "SELECT meter_id, sum(energy_import_kwh) FROM electricity_readings GROUP BY meter_id ORDER BY meter_id",
        "SELECT meter_id, max(energy_import_kwh) FROM electricity WHERE ts > TIMESTAMP '2026-10-31T00:30:00Z' \
         GROUP BY meter_id ORDER BY meter_id",
        "SELECT month, count(*) FROM electricity_readings GROUP BY month ORDER BY month",
        "SELECT meter_id, ts FROM electricity_readings ORDER BY ts DESC, meter_id LIMIT 3",
    ];
    for journal in [None, Some(dir.path().join("journal"))] {
        let options = |target_partitions, filter_pushdown| ReadOptions {
            journal: journal.clone(),
            target_partitions: Some(target_partitions),
            filter_pushdown,
            ..ReadOptions::default()
        };
        for query in queries {
            let plain = lake.session(options(1, false)).await.unwrap();
            // No rule of the optimizer at all: what is written is what runs.
            let state = plain.state();
            let logical = state.create_logical_plan(query).await.unwrap();
            let logical = state.analyzer().execute_and_check(logical, state.config_options(), |_, _| {}).unwrap();
            let bare = datafusion::execution::SessionStateBuilder::new_from_existing(state.clone())
                .with_config(SessionConfig::new())
                .with_optimizer_rules(vec![])
                .build();
            let physical = bare.query_planner().create_physical_plan(&logical, &bare).await.unwrap();
            let bare = datafusion::physical_plan::collect(physical, plain.task_ctx()).await.unwrap();
            let expected = pretty_format_batches(&bare).unwrap().to_string();
            for (partitions, pushdown) in [(1, false), (2, false), (2, true)] {
                let context = lake.session(options(partitions, pushdown)).await.unwrap();
                assert_eq!(text(&context, query).await, expected, "{query}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_and_committed_rows_together_are_all_rows() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let journal_dir = dir.path().join("journal");
    let options = || ReadOptions { journal: Some(journal_dir.clone()), ..ReadOptions::default() };
    let count = "SELECT count(*) FROM electricity";
    // Before there is a journal.
    assert_eq!(list(&lake.session(options()).await.unwrap(), count).await, ["5"]);
    let mut writer = journal(&journal_dir);
    let session = lake.open_session(options()).await.unwrap();
    assert_eq!(session.journal_position, Some(4));
    assert_eq!(list(&session.context, count).await, ["7"]);
    // What is not synced is not shown, and a session stays as it was.
    writer.append(&batch("e", 1, 5)).unwrap();
    assert_eq!(list(&lake.session(options()).await.unwrap(), count).await, ["7"]);
    writer.sync().unwrap();
    assert_eq!(list(&lake.session(options()).await.unwrap(), count).await, ["8"]);
    assert_eq!(list(&session.context, count).await, ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_at_every_step_from_journal_to_table_each_reading_is_shown_once() {
    let dir = TempDir::new().unwrap();
    let (lake_dir, journal_dir) = (dir.path().join("lake"), dir.path().join("journal"));
    let lake = Lake::open(&lake_dir).unwrap();
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(&journal_dir)).unwrap();
    let mut committer = Committer::open(&lake).await.unwrap();
    let reader = JournalReader::open(&journal_dir);
    let options = || ReadOptions { journal: Some(journal_dir.clone()), ..ReadOptions::default() };
    let meters = ["a", "b", "c"];
    for hour in 0..12_i64 {
        for meter in meters {
            writer.append(&batch(meter, hour * 100, hour)).unwrap();
            // What is delivered again counts once.
            writer.append(&batch(meter, hour * 100, hour)).unwrap();
        }
        writer.sync().unwrap();
        if hour % 3 == 2 {
            for record in reader.read_from(committer.position() + 1).unwrap() {
                let (position, batch) = record.unwrap();
                committer.push(position, Arc::new(batch));
            }
            committer.flush().await.unwrap();
        }
        let expected = usize::try_from((hour + 1) * 3).unwrap();
        // Another process' view of the same folder.
        for lake in [lake.clone(), Lake::open(&lake_dir).unwrap()] {
            let context = lake.session(options()).await.unwrap();
            for table in ["electricity", "electricity_readings"] {
                let found =
                    list(&context, &format!("SELECT energy_import_kwh FROM {table} ORDER BY meter_id, ts")).await;
                assert_eq!(found.len(), expected, "{table} after hour {hour}");
            }
            let sum = format!("0.{:03}", 3 * (0..=hour).sum::<i64>());
            assert_eq!(list(&context, "SELECT sum(energy_import_kwh) FROM electricity").await, [sum]);
        }
    }
    let committed = lake.session(ReadOptions::default()).await.unwrap();
    assert_eq!(list(&committed, "SELECT count(*) FROM electricity_readings WHERE commit_seq IS NULL").await, ["0"]);
}

async fn refusal(context: &SessionContext, query: &str) -> String {
    match sql(context, query, SqlLimits::default()).await {
        Err(e) => e.to_string(),
        Ok(result) => match result.stream().unwrap().try_collect::<Vec<_>>().await {
            Err(e) => e.to_string(),
            Ok(_) => panic!("{query} was answered"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_the_door_answers_questions_and_refuses_everything_else() {
    let dir = TempDir::new().unwrap();
    let lake = committed(dir.path()).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    let table_file = std::fs::read_dir(dir.path().join("electricity_readings/month=2026-10")).unwrap();
    let table_file = table_file.map(|f| f.unwrap().path()).find(|f| f.extension().is_some_and(|e| e == "parquet"));
    let outside = dir.path().join("outside.csv");
    let statements = [
        "INSERT INTO electricity_readings SELECT * FROM electricity_readings".to_owned(),
        "DELETE FROM electricity_readings".into(),
        "UPDATE electricity_readings SET flags = 0".into(),
        "DROP TABLE electricity_readings".into(),
        "CREATE TABLE x AS SELECT 1".into(),
        "CREATE VIEW x AS SELECT 1".into(),
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".into(),
        format!("COPY (SELECT 1) TO '{}'", outside.display()),
        format!("COPY electricity_readings TO '{}' STORED AS PARQUET", outside.display()),
        format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'", outside.display()),
        "EXPLAIN DROP TABLE electricity_readings".into(),
        "SELECT 1 INTO x".into(),
        "SET datafusion.execution.batch_size = 1".into(),
        "RESET datafusion.execution.batch_size".into(),
        "PREPARE p AS SELECT 1".into(),
        "BEGIN".into(),
        "TRUNCATE TABLE electricity_readings".into(),
        "SELECT 1; SELECT 2".into(),
        "SELECT * FROM '/etc/passwd'".into(),
        "SELECT * FROM 'file:///etc/passwd'".into(),
        "SELECT * FROM read_csv('/etc/passwd')".into(),
        "SELECT * FROM \"/etc/passwd\"".into(),
        format!("SELECT * FROM '{}'", table_file.unwrap().display()),
        String::new(),
        "SELECT * FROM nowhere".into(),
        format!("SELECT {}", vec!["1"; 700].join(" + ")),
        format!("SELECT {}1{}", "(".repeat(60), ")".repeat(60)),
        format!("SELECT '{}'", "x".repeat(20_000)),
    ];
    for statement in statements {
        let text = refusal(&context, &statement).await;
        assert!(!text.contains("root:"), "{statement}: {text}");
    }
    assert!(!outside.exists());
    for statement in [
        "SELECT 1",
        "EXPLAIN SELECT * FROM electricity",
        "EXPLAIN ANALYZE SELECT count(*) FROM electricity",
        "SHOW TABLES",
        "SHOW COLUMNS FROM electricity",
        "DESCRIBE electricity_readings",
        "WITH t AS (SELECT 1 AS x) SELECT x FROM t UNION ALL SELECT 2 ORDER BY 1",
        &format!("SELECT {}", vec!["1"; 300].join(" + ")),
        &format!("SELECT {}1{}", "(".repeat(30), ")".repeat(30)),
    ] {
        assert!(!rows(&context, statement).await.is_empty(), "{statement}");
    }
    let columns: Vec<_> = (0..240).map(|i| format!("ts - ts AS c{i}")).collect();
    let long = format!("SELECT {}", columns.join(", "));
    let hurried = SqlLimits { planning: std::time::Duration::from_micros(1), ..SqlLimits::default() };
    let late = sql(&context, &format!("{long} FROM electricity ORDER BY 1"), hurried).await;
    assert!(matches!(late, Err(QueryError::Deadline(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_asked_again_has_the_same_answer_and_the_present_stays_the_present() {
    let dir = TempDir::new().unwrap();
    let lake = committed(&dir.path().join("lake")).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    let questions = [
        "SELECT meter_id, energy_import_kwh FROM electricity WHERE meter_id = 'a' ORDER BY ts",
        "SELECT meter_id, energy_import_kwh FROM electricity_latest ORDER BY meter_id",
        "SELECT count(*) FROM electricity WHERE ts > (SELECT min(ts) FROM electricity)",
    ];
    for question in questions {
        let first = text(&context, question).await;
        for _ in 0..3 {
            assert_eq!(text(&context, question).await, first, "{question}");
        }
    }
    // Another session of the same lake has other rows, and knows nothing of the first one's plans.
    lake.append(&schema::readings(Commodity::Electricity), vec![readings(&[("e", 50, 0, Some(1), None, 3)])])
        .await
        .unwrap();
    let later = lake.session(ReadOptions::default()).await.unwrap();
    assert!(text(&later, questions[1]).await.contains("| e "));
    assert!(!text(&context, questions[1]).await.contains("| e "));
    let mut moments = Vec::new();
    for _ in 0..2 {
        moments.push(list(&context, "SELECT now()").await);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_ne!(moments[0], moments[1]);
}
