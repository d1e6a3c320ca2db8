//! Questions that take the plan of an earlier one of their shape: the answer is the planner's, of the session's own snapshot.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SessionContext;
use futures::TryStreamExt;
use meterlake_model::ReadingBatch;
use meterlake_store::journal::{JournalOptions, JournalWriter};
use meterlake_store::query::{AsOf, ReadOptions, SqlLimits, SqlResult, sql};
use meterlake_store::{Committer, CompactOptions, Lake};

use crate::faults::{quick_lake, record};

const E: &str = "energy_import_kwh";
const V: &str = "voltage_l1_v";
/// 2026-10-28T00:00:00Z: a week that falls into two months.
const AT: i64 = 1_793_145_600;
const METERS: [&str; 4] = ["a", "b", "it's", "z"];
const OCTOBER: [&str; 2] = ["2026-10-28T00:00:00Z", "2026-11-01T00:00:00Z"];
const NOVEMBER: [&str; 2] = ["2026-11-01", "2026-11-04 00:00:00+01:00"];
/// How long it may take until a shape is known: it is learned behind the answer.
const PATIENCE: usize = 2000;

/// Four readings a day of each meter.
fn week(first: i64) -> Arc<ReadingBatch> {
    let mut said = Vec::new();
    for slot in first..first + 28 {
        for (number, meter) in (0..).zip(METERS) {
            said.push((meter, AT + slot * 21_600, [(E, 1000 * number + slot), (V, 2300 + number)]));
        }
    }
    let rows: Vec<_> = said.iter().map(|(meter, at, values)| (*meter, *at, values.as_slice())).collect();
    record(&rows)
}

async fn committed(lake: &Lake, position: u64, batch: Arc<ReadingBatch>) {
    let mut committer = Committer::open(lake).await.unwrap();
    committer.push(position, batch);
    committer.flush().await.unwrap();
}

async fn asked(context: &SessionContext, text: &str) -> (SqlResult, Result<String, String>) {
    let result = sql(context, text, SqlLimits::default()).await.unwrap();
    let batches: Result<Vec<_>, _> = result.stream().unwrap().try_collect().await;
    let schema = result.schema();
    let told = batches.map_err(|e| e.to_string()).map(|mut batches| {
        batches.push(arrow::array::RecordBatch::new_empty(schema));
        pretty_format_batches(&batches).unwrap().to_string()
    });
    (result, told)
}

async fn told(context: &SessionContext, text: &str) -> String {
    asked(context, text).await.1.unwrap()
}

/// The answer of the engine without our door.
async fn planned(context: &SessionContext, text: &str) -> String {
    let frame = context.sql(text).await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let mut batches = frame.collect().await.unwrap();
    batches.push(arrow::array::RecordBatch::new_empty(schema));
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Asks until the shape is known.
async fn learn(context: &SessionContext, text: &str) {
    for _ in 0..PATIENCE {
        if asked(context, text).await.0.is_reused() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not learned: {text}");
}

fn one(meter: &str, [from, to]: [&str; 2]) -> String {
    let meter = meter.replace('\'', "''");
    format!(
        "SELECT count(*), sum({E}), min(ts), max(ts) FROM electricity_readings \
         WHERE meter_id = '{meter}' AND ts >= '{from}' AND ts < '{to}'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_shape_answers_other_values_as_the_planner_does() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    committed(&lake, 1, week(0)).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    let quoted = |meter: &str| meter.replace('\'', "''");
    type Words<'a> = &'a dyn Fn(&str, [&str; 2]) -> String;
    let shapes: [(&str, Words<'_>); 7] = [
        ("sums", &one),
        ("rows in order", &|m, [from, to]| {
            format!(
                "select ts, {E} / 2 as half, 'it''s' as word from electricity_readings r \
                 where r.meter_id = '{}' and r.ts >= '{from}' and r.ts < '{to}' order by ts desc limit 5;",
                quoted(m)
            )
        }),
        ("between, with a value of the shape", &|m, [from, to]| {
            format!(
                "SELECT ts, {V} FROM electricity_readings WHERE ts BETWEEN '{from}' AND '{to}' \
                 AND {E} > 1002 AND source <> 'x' AND meter_id = '{}' ORDER BY ts",
                quoted(m)
            )
        }),
        ("groups", &|m, [from, to]| {
            format!(
                "SELECT month, avg({V}), count(*) FROM electricity_readings WHERE meter_id = '{}' AND ts >= '{from}' \
                 AND ts < '{to}' GROUP BY month ORDER BY month",
                quoted(m)
            )
        }),
        ("groups of some size", &|m, [from, to]| {
            format!(
                "SELECT month, count(*) FROM electricity_readings WHERE meter_id = '{}' AND ts >= '{from}' \
                 AND ts < '{to}' GROUP BY month HAVING count(*) > 1 ORDER BY month",
                quoted(m)
            )
        }),
        ("the view", &|m, [from, to]| {
            format!(
                "SELECT meter_id, ts, {E} FROM electricity WHERE meter_id = '{}' AND ts >= '{from}' AND ts < '{to}' ORDER BY ts",
                quoted(m)
            )
        }),
        ("all columns", &|m, [from, to]| {
            format!(
                "SELECT * FROM electricity_readings WHERE meter_id = '{}' AND ts >= '{from}' AND ts < '{to}' ORDER BY ts",
                quoted(m)
            )
        }),
    ];
    let mut reused = Vec::new();
    for (name, words) in shapes {
        let first = words("a", OCTOBER);
        assert_eq!(told(&context, &first).await, planned(&context, &first).await, "{name}, first");
        // Learned behind the answer, if at all.
        for _ in 0..50 {
            if asked(&context, &first).await.0.is_reused() {
                reused.push(name);
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for meter in METERS.into_iter().chain(["absent", ""]) {
            for span in
                [OCTOBER, NOVEMBER, [OCTOBER[0], NOVEMBER[1]], ["1999-01-01", "1999-01-02"], [OCTOBER[1], OCTOBER[0]]]
            {
                let text = words(meter, span);
                assert_eq!(told(&context, &text).await, planned(&context, &text).await, "{name}: {text}");
            }
        }
    }
    println!("known: {reused:?}");
    assert!(reused.contains(&"sums") && reused.len() > 2, "{reused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_time_fails_as_ever_and_more_files_than_one_are_planned() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    committed(&lake, 1, week(0)).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    learn(&context, &one("a", OCTOBER)).await;
    assert!(asked(&context, &one("z", NOVEMBER)).await.0.is_reused());
    let both = one("b", [OCTOBER[0], NOVEMBER[1]]);
    let (result, answer) = asked(&context, &both).await;
    assert!(!result.is_reused(), "two files, each of all meters");
    assert_eq!(answer.unwrap(), planned(&context, &both).await);
    let text = one("a", ["yesterday", "2026-11-01"]);
    let door = match sql(&context, &text, SqlLimits::default()).await {
        Ok(result) => result.stream().unwrap().try_collect::<Vec<_>>().await.unwrap_err().to_string(),
        Err(e) => e.to_string(),
    };
    assert!(door.contains("yesterday"), "{door}");
}

/// The question is the same, the lake is not: a session shows its own snapshot, whatever another has learned.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_shape_shows_no_rows_of_another_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, journal) = (quick_lake(&dir.path().join("lake")), dir.path().join("journal"));
    let text = one("a", ["2026-10-28", "2027-01-01"]);
    let november = one("a", NOVEMBER);
    committed(&lake, 1, week(0)).await;
    let old = lake.session(ReadOptions::default()).await.unwrap();
    learn(&old, &one("b", OCTOBER)).await;
    let (before, before_november) = (told(&old, &text).await, told(&old, &november).await);

    committed(&lake, 2, week(28)).await;
    let new = lake.session(ReadOptions::default()).await.unwrap();
    learn(&new, &one("b", OCTOBER)).await;
    let after = told(&new, &text).await;
    assert_ne!(after, before);
    assert_eq!(after, planned(&new, &text).await);
    assert_eq!(told(&old, &text).await, before);
    assert_eq!(told(&old, &november).await, before_november);

    let options = CompactOptions { min_files: 2, ..CompactOptions::default() };
    assert!(lake.compact("electricity_readings", &options).await.unwrap().removed_files > 0);
    let compacted = lake.session(ReadOptions::default()).await.unwrap();
    learn(&compacted, &one("b", OCTOBER)).await;
    for (context, expected) in [(&old, &before), (&new, &after), (&compacted, &after)] {
        assert_eq!(&told(context, &text).await, expected);
    }

    // As of the first commit, and pinned to it.
    for options in [
        ReadOptions { commit_seq: Some(1), ..ReadOptions::default() },
        ReadOptions { as_of: Some(AsOf::Commit(1)), ..ReadOptions::default() },
    ] {
        let then = lake.session(options).await.unwrap();
        for _ in 0..20 {
            assert_eq!(told(&then, &text).await, before);
            assert_eq!(told(&then, &november).await, before_november);
        }
    }

    // Hot rows are in the answer.
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(&journal)).unwrap();
    for number in 1..=2 {
        writer.append(&week(28 * (number - 1))).unwrap();
    }
    writer.append(&week(56)).unwrap();
    writer.sync().unwrap();
    let hot = lake.session(ReadOptions { journal: Some(journal), ..ReadOptions::default() }).await.unwrap();
    for _ in 0..20 {
        let shown = told(&hot, &text).await;
        assert_eq!(shown, planned(&hot, &text).await);
        assert!(shown != after && told(&compacted, &text).await == after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_shape_at_once_and_over_again_shares_nothing_that_grows() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    committed(&lake, 1, week(0)).await;
    let context = lake.session(ReadOptions::default()).await.unwrap();
    learn(&context, &one("a", OCTOBER)).await;
    let mut expected = Vec::new();
    for meter in METERS {
        for span in [OCTOBER, NOVEMBER] {
            let text = one(meter, span);
            expected.push((text.clone(), planned(&context, &text).await));
        }
    }
    let asking = (0..16).map(|task| {
        let (context, expected) = (context.clone(), expected.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let (text, answer) = &expected[(task + round) % expected.len()];
                let (result, told) = asked(&context, text).await;
                assert!(result.is_reused());
                assert_eq!(told.as_ref(), Ok(answer));
            }
        })
    });
    futures::future::try_join_all(asking).await.unwrap();
    // What is counted of one question is not added to the next.
    let counted = async || {
        let (result, _) = asked(&context, &expected[0].0).await;
        let mut leaf = result.plan().clone();
        loop {
            let child = leaf.children().first().copied().cloned();
            let Some(child) = child else { break };
            leaf = child;
        }
        leaf.metrics().unwrap().iter().count()
    };
    let first = counted().await;
    for _ in 0..50 {
        counted().await;
    }
    assert_eq!(counted().await, first);
}
