//! Bills out of the lake as files.

use std::path::Path;
use std::sync::Arc;

use meterlake_analytics::book::issue;
use meterlake_analytics::exports::{BillsError, BillsWanted, ExportOptions, Exported, Folder, Format, export_bills};
use meterlake_analytics::ledger::Materiality;
use meterlake_analytics::runs::GateRules;
use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_model::ReadingBatch;
use meterlake_store::durable::SystemSync;

use crate::fixture::{TestLake, at, day, lake_with_usage, push};

async fn export(lake: &TestLake, to: &Path, format: Format, only: Option<&str>) -> Result<Exported, BillsError> {
    export_list(lake, to, format, None, only).await
}

async fn export_list(
    lake: &TestLake,
    to: &Path,
    format: Format,
    list: Option<i64>,
    only: Option<&str>,
) -> Result<Exported, BillsError> {
    let wanted = BillsWanted { run: "2026-03".into(), list, usage_point_id: only.map(str::to_owned) };
    let folder = Folder { path: to.to_owned(), sync: Arc::new(SystemSync) };
    export_bills(&lake.lake, &wanted, format, &ExportOptions::default(), &folder).await
}

#[tokio::test]
async fn rule_6_what_is_ready_goes_out_and_the_same_again_is_the_same_bytes() {
    let lake = lake_with_usage().await;
    let to = tempfile::tempdir().unwrap();
    let early = export(&lake, to.path(), Format::Csv, None).await.unwrap_err().to_string();
    assert!(early.contains("has never been computed"), "{early}");
    lake.run(Job::Billing, "2026-03-01", "2026-04-01").await;
    let mut first = Vec::new();
    for format in Format::ALL {
        first.push(export(&lake, to.path(), format, None).await.unwrap());
    }
    // A run of the job is another run, with the same outcome.
    lake.run(Job::Billing, "2026-03-01", "2026-04-01").await;
    for (format, first) in Format::ALL.into_iter().zip(first) {
        let again = export(&lake, to.path(), format, None).await.unwrap();
        assert!(!first.was_there && again.was_there && again.manifest == first.manifest, "{format:?}");
    }
    let csv = export(&lake, to.path(), Format::Csv, None).await.unwrap();
    let text = std::fs::read_to_string(&csv.path).unwrap();
    let uses: Vec<&str> = text.lines().filter(|l| l.contains(",use,")).collect();
    let ready = lake
        .rows(
            "SELECT usage_point_id, use_amount FROM billing_reads WHERE run = '2026-03' AND state = 'ready' ORDER BY 1",
        )
        .await;
    assert_eq!(uses.len(), ready.len());
    for (line, row) in uses.iter().zip(&ready) {
        let (point, amount) = row.split_once(',').unwrap();
        assert!(
            line.starts_with(&format!("{point}/use/")) && line.contains(&format!(",{amount},,{amount},")),
            "{line} {row}"
        );
    }
    let held = lake.rows("SELECT count(*) FROM billing_reads WHERE run = '2026-03' AND state = 'held'").await;
    assert_eq!(csv.manifest.held.len().to_string(), held[0]);
    assert_eq!(csv.manifest.pins.commit_seq, 1);
    let nem12 = export(&lake, to.path(), Format::Nem12, None).await.unwrap();
    let why: Vec<_> = nem12.manifest.left_out.iter().map(|l| l.why.as_str()).collect();
    assert_eq!(why, ["NEM12 is for electricity", "the id is no NMI of 10 capital letters and digits"]);
}

#[tokio::test]
async fn rule_8_a_curve_that_goes_out_adds_up_to_the_use_of_its_bill() {
    let lake = lake_with_usage().await;
    lake.run(Job::Billing, "2026-03-01", "2026-04-01").await;
    let to = tempfile::tempdir().unwrap();
    let exported = export(&lake, to.path(), Format::Espi, Some("E1")).await.unwrap();
    assert!(exported.path.ends_with("billing-2026-03-at-1-E1.espi.xml"), "{:?}", exported.path);
    let text = std::fs::read_to_string(&exported.path).unwrap();
    let value = |line: &str| line.trim().strip_prefix("<espi:value>")?.strip_suffix("</espi:value>")?.parse().ok();
    let values: Vec<i64> = text.lines().filter_map(value).collect();
    let (summary, slots) = values.split_last().unwrap();
    assert_eq!(slots.len(), 31 * 96 - 4, "the clock is put forward in March");
    assert_eq!(slots.iter().sum::<i64>(), *summary);
    assert!(!text.contains(">E2<"), "a customer's file holds no other customer");
}

#[tokio::test]
async fn rule_6_a_list_that_went_out_is_the_same_file_for_ever() {
    let mut lake = lake_with_usage().await;
    let today = day("2026-04-05");
    let options = JobOptions { today: Some(today), ..JobOptions::new(day("2026-03-01"), day("2026-04-01")) };
    run_job(&lake.lake, Job::Billing, &options).await.unwrap();
    let by = (&GateRules::default(), &Materiality::default());
    let list = issue(&lake.lake, "2026-03", "anna", by, today, None).await.unwrap().unwrap();
    let to = tempfile::tempdir().unwrap();
    let (lake_now, folder) = (&lake, to.path());
    let first = export_list(lake_now, folder, Format::Csv, Some(list.number), None).await.unwrap();
    assert_eq!(first.manifest.file.items, list.items.len() as u64);
    let text = std::fs::read_to_string(&first.path).unwrap();
    for item in &list.items {
        let id =
            format!("{}/{}/{}/{}", item.key.usage_point_id, item.key.determinant, item.key.part, item.key.first_day);
        let line = text.lines().find(|l| l.starts_with(&format!("{id},"))).unwrap_or_else(|| panic!("no {id}"));
        assert!(line.contains(&format!(",{},,{},", item.value, item.delta)), "{line}");
    }
    let uses = text.lines().filter(|l| l.contains(",use,")).collect::<Vec<_>>();
    assert!(uses.iter().all(|l| l.ends_with(",valid,issue")), "with the registers at both ends: {uses:?}");
    let unknown = export_list(lake_now, folder, Format::Csv, Some(4711), None).await.unwrap_err().to_string();
    assert!(unknown.contains("list 4711"), "{unknown}");
    // Later readings and runs change what is known, and not what was said.
    let mut late = ReadingBatch::default();
    push(&mut late, "e1", at("2026-03-10T10:07:00Z"), &[("energy_import_kwh", 1_800_000)]);
    lake.commit(late).await;
    lake.run(Job::Usage, "2026-03-01", "2026-04-01").await;
    run_job(&lake.lake, Job::Billing, &options).await.unwrap();
    let again = export_list(&lake, to.path(), Format::Csv, Some(list.number), None).await.unwrap();
    assert!(again.was_there && again.manifest == first.manifest);
}
