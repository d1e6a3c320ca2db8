//! Tables are created, appended to, replaced by partition and read back with exact statistics.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use meterlake_store::{Lake, PartitionKey, StoreError, TableSpec};

fn spec() -> TableSpec {
    let field = |name: &str, kind| Field::new(name, kind, false);
    let fields = vec![
        field("id", DataType::Utf8),
        field("n", DataType::Int64),
        Field::new("amount", DataType::Decimal128(18, 6), true),
        field("month", DataType::Utf8),
    ];
    TableSpec {
        name: "derived",
        schema: Arc::new(Schema::new(fields)),
        partition_by: &["month"],
        sort_by: &["id", "n"],
    }
}

fn rows(month: &str, rows: &[(&str, i64, Option<i128>)]) -> RecordBatch {
    let amounts: Decimal128Array = rows.iter().map(|r| r.2).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Int64Array>()),
        Arc::new(amounts.with_precision_and_scale(18, 6).unwrap()),
        Arc::new(rows.iter().map(|_| Some(month)).collect::<StringArray>()),
    ];
    RecordBatch::try_new(spec().schema, columns).unwrap()
}

fn lake(dir: &tempfile::TempDir) -> Lake {
    Lake::open(dir.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_lie_in_their_partitions_with_exact_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let ours = lake(&dir);
    let big = 999_999_999_999_999_999;
    let batches = vec![rows("2026-10", &[("b", 2, Some(big)), ("a", 1, None)]), rows("2026-11", &[("c", 3, Some(-1))])];
    assert_eq!(ours.append(&spec(), batches).await.unwrap(), 3);

    for lake in [ours.clone(), lake(&dir)] {
        let found = lake.snapshot("derived").await.unwrap();
        assert_eq!((found.version, found.rows(), found.files.len()), (1, 3, 2));
        assert_eq!(found.sort_by, ["id", "n"]);
        assert_eq!(found.schema, spec().schema);
        let october = &found.files[0];
        assert_eq!(october.partition_value("month"), Some("2026-10"));
        assert_eq!(october.max("amount"), Some(&ScalarValue::Decimal128(Some(big), 18, 6)));
        assert_eq!(october.min("id"), Some(&ScalarValue::from("a")));
        assert_eq!(october.columns["amount"].nulls, Some(1));
    }
    assert_eq!(ours.tables().await.unwrap(), ["derived"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_touches_only_what_differs_and_an_equal_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(&dir);
    let key = |month: &str| PartitionKey::new([month]);
    let october = || (key("2026-10"), vec![rows("2026-10", &[("b", 2, None), ("a", 1, None)])]);
    let november = |n| (key("2026-11"), vec![rows("2026-11", &[("a", n, None)])]);

    assert_eq!(lake.replace(&spec(), vec![october(), november(1)]).await.unwrap().changed, 2);
    let first = lake.snapshot("derived").await.unwrap();
    // The same rows in another order are the same bytes.
    let turned = (key("2026-10"), vec![rows("2026-10", &[("a", 1, None)]), rows("2026-10", &[("b", 2, None)])]);
    assert_eq!(lake.replace(&spec(), vec![turned, november(1)]).await.unwrap().changed, 0);
    assert_eq!(lake.snapshot("derived").await.unwrap().version, first.version);

    assert_eq!(lake.replace(&spec(), vec![october(), november(2)]).await.unwrap().changed, 1);
    let second = lake.snapshot("derived").await.unwrap();
    assert_eq!(second.version, first.version + 1);
    assert_eq!((second.files[0].clone(), second.rows()), (first.files[0].clone(), 3));
    assert_ne!(second.files[1], first.files[1]);

    // Back to what was: its file is live again.
    lake.replace(&spec(), vec![november(1)]).await.unwrap();
    assert_eq!(lake.snapshot("derived").await.unwrap().files, first.files);
    lake.replace(&spec(), vec![(key("2026-10"), vec![])]).await.unwrap();
    assert_eq!(lake.snapshot("derived").await.unwrap().rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replacements_of_one_state_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (lake(&dir), lake(&dir));
    let november = |n| vec![(PartitionKey::new(["2026-11"]), vec![rows("2026-11", &[("a", n, None)])])];
    one.replace(&spec(), november(1)).await.unwrap();
    two.replace(&spec(), november(2)).await.unwrap();
    one.replace(&spec(), november(3)).await.unwrap();
    let found = two.snapshot("derived").await.unwrap();
    assert_eq!((found.files.len(), found.rows()), (1, 1));
    assert_eq!(found.files[0].min("n"), Some(&ScalarValue::from(3_i64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_schema_or_protocol_or_with_an_empty_commit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    lake(&dir).ensure(&spec()).await.unwrap();
    let mut other = spec();
    other.schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    other.sort_by = &["id"];
    let refusal = lake(&dir).ensure(&other).await.unwrap_err();
    assert!(refusal.to_string().contains("newer program wrote it"), "{refusal}");
    assert!(matches!(lake(&dir).snapshot("absent").await, Err(StoreError::NoTable(_))));
    assert!(matches!(lake(&dir).snapshot("../derived").await, Err(StoreError::NoTable(_))));

    let log = dir.path().join("derived/_delta_log");
    std::fs::write(log.join("00000000000000000001.json"), b"").unwrap();
    let refusal = lake(&dir).snapshot("derived").await.unwrap_err();
    assert!(refusal.to_string().contains("is empty"), "{refusal}");

    let newer = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
    std::fs::write(log.join("00000000000000000001.json"), newer).unwrap();
    let refusal = lake(&dir).snapshot("derived").await.unwrap_err();
    assert!(refusal.to_string().contains("reader 3 and writer 7"), "{refusal}");
}
