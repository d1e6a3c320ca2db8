//! Retention, holds, erasure and backup. What is erased is looked for in all bytes on disk, as they are and decoded, by a
//! search of this test's own besides the program's; before the erasure both must find it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use meterlake_model::registry::{Customer, Installation, Meter, Registry, UsagePoint};
use meterlake_model::{
    Commodity, CustomerId, DeadLetter, DeadReason, EventKind, MeterEvent, MeterId, RawMessage, ReadingBatch, Timestamp,
    UsagePointId, Zone,
};
use meterlake_store::doctor::{Depth, examine, refusal};
use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
use meterlake_store::life::{
    BackupOptions, EraseOptions, ErasureLink, Hold, Manifest, RetentionRule, SubjectKind, Words, restore, search,
};
use meterlake_store::schema::{instant, maybe, required, spec, text, time};
use meterlake_store::{Committer, CompactOptions, Lake, PartitionKey, StoreError, TableSpec};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use crate::faults::{electricity, quick_lake, record};

const E: &str = "energy_import_kwh";
/// 2026-10-31T22:00:00Z: readings fall into two months.
pub(crate) const AT: i64 = 1_793_484_000;
pub(crate) const GONE: &str = "ZQ77-GONE";
pub(crate) const STAYS: &str = "ZQ77-GONE-2";
pub(crate) const CUSTOMER: &str = "cust-0815";
pub(crate) const NAME: &str = "Ada Q. Lovelace";

fn now() -> Timestamp {
    Timestamp::now()
}

fn table(name: &'static str) -> TableSpec {
    let fields = vec![
        text("id"),
        maybe("usage_point_id", DataType::Utf8),
        maybe("customer_id", DataType::Utf8),
        time("start"),
        maybe("end", instant()),
        text("evidence"),
        text("month"),
        required("bucket", DataType::Int32),
    ];
    spec(name, fields, &["month", "bucket"], &["id"])
}

/// id, usage point, customer, evidence
type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

async fn derive(lake: &Lake, name: &'static str, rows: &[Row<'_>]) {
    let spec = table(name);
    let texts = |of: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    };
    let instants = || -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![AT * 1_000_000; rows.len()]).with_timezone("UTC"))
    };
    let columns = vec![
        texts(&|r| Some(r.0.into())),
        texts(&|r| Some(r.1.into())),
        texts(&|r| r.2.map(str::to_owned)),
        instants(),
        instants(),
        texts(&|r| Some(r.3.into())),
        texts(&|_| Some("2026-10".into())),
        Arc::new(Int32Array::from(vec![0; rows.len()])),
    ];
    let batch = RecordBatch::try_new(spec.schema.clone(), columns).unwrap();
    lake.replace(&spec, vec![(PartitionKey::new(["2026-10", "0"]), vec![batch])]).await.unwrap();
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    let customers = [(CUSTOMER, NAME), ("cust-9", "Somebody Else")];
    for (id, name) in customers {
        let id = CustomerId::new(id).unwrap();
        registry.customers.insert(id.clone(), Customer { id, name: name.into() });
    }
    for (meter, point, customer) in [(GONE, "point-1", CUSTOMER), (STAYS, "point-2", "cust-9")] {
        let (meter, point) = (MeterId::new(meter).unwrap(), UsagePointId::new(point).unwrap());
        registry.usage_points.insert(
            point.clone(),
            UsagePoint {
                id: point.clone(),
                commodity: Commodity::Electricity,
                zone: Zone::utc(),
                customer_id: CustomerId::new(customer).ok(),
                node_id: None,
                class: "residential".into(),
                place: "Mill Lane".into(),
                billing_day: 1,
                active: true,
                continuous_use: false,
                nominal_voltage_dv: None,
                customer_since: None,
                parent_id: None,
            },
        );
        let made = Meter {
            id: meter.clone(),
            commodity: Commodity::Electricity,
            serial: Some(format!("serial-{meter}")),
            model: "X".into(),
            gateway_id: None,
        };
        registry.meters.insert(meter.clone(), made);
        registry.installations.push(Installation {
            meter_id: meter,
            usage_point_id: point,
            installed_at: None,
            removed_at: None,
            is_check: false,
            channels: Vec::new(),
        });
    }
    registry
}

/// Readings, events, messages and dead letters of two meters, one of them in the same message.
fn said(number: i64) -> ReadingBatch {
    let at = AT + number * 900;
    let values = [(E, 1000 + number)];
    let mut batch = ReadingBatch::clone(&record(&[(GONE, at, &values), (STAYS, at, &values)]));
    let message = |topic: String, payload: String| RawMessage {
        source: "mqtt/yard".into(),
        topic: topic.into(),
        payload: payload.into_bytes(),
        received_at_s: at,
    };
    for meter in [GONE, STAYS] {
        batch.raw.push(message(format!("meters/{meter}/readings"), format!(r#"{{"v":{number}}}"#)));
        batch.events.push(MeterEvent {
            meter_id: MeterId::new(meter).unwrap(),
            ts: Timestamp::from_unix_seconds(at).unwrap(),
            kind: EventKind::LastGasp,
            detail: "".into(),
            received_at_s: at,
            source: "mqtt/yard".into(),
        });
        batch.dead_letters.push(DeadLetter {
            reason: DeadReason::NoMap,
            detail: format!("no map for {meter}"),
            message: message("frames".into(), format!(r#"[{{"meter":"{meter}"}},{number}]"#)),
            decoder: "map@1".into(),
        });
    }
    batch.raw.push(message("modbus".into(), "\u{1}\u{2}".into()));
    batch
}

/// A lake with two of everything.
pub(crate) async fn fill(lake: &Lake, journal: &Path) {
    lake.write_registry(&registry()).await.unwrap();
    let mut other = registry();
    other.usage_points.values_mut().for_each(|p| p.billing_day = 2);
    lake.write_registry(&other).await.unwrap();
    for part in [0..8, 8..16] {
        collect(lake, journal, part).await;
    }
    let point = |n| format!("point-{n}");
    derive(lake, "billing_reads", &[("b1", &point(1), Some(CUSTOMER), ""), ("b2", &point(2), Some("cust-9"), "")])
        .await;
    derive(
        lake,
        "alerts",
        &[
            ("alert-1", &point(1), None, "leak"),
            ("alert-2", &point(2), None, "leak"),
            ("alert-3", "", None, &format!("2 meters: {GONE}, {STAYS}")),
        ],
    )
    .await;
    // A step names the alert in its `usage_point_id` column's stead.
    derive(lake, "steps", &[("s1", "", Some("alert-1"), "called"), ("s2", "", Some("alert-2"), "called")]).await;
    // An older version of the files is there too, and a commit's statistics name the meter.
    let merge = CompactOptions { min_files: 2, ..CompactOptions::default() };
    lake.compact("electricity_readings", &merge).await.unwrap();
}

pub(crate) async fn collect(lake: &Lake, journal: &Path, numbers: std::ops::Range<i64>) {
    let options = JournalOptions { segment_bytes: 4096, ..JournalOptions::new(journal) };
    let (mut writer, _) = JournalWriter::open(options).unwrap();
    for number in numbers {
        writer.append(&said(number)).unwrap();
    }
    writer.sync().unwrap();
    catch_up(lake, journal).await;
}

struct Place(TempDir);

impl Place {
    async fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fill(&place.lake(), &place.journal_dir()).await;
        place
    }

    fn lake_dir(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    fn journal_dir(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn lake(&self) -> Lake {
        quick_lake(&self.lake_dir())
    }

    async fn collect(&self, numbers: std::ops::Range<i64>) {
        collect(&self.lake(), &self.journal_dir(), numbers).await;
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.lake_dir(), self.journal_dir()]
    }
}

pub(crate) async fn catch_up(lake: &Lake, journal: &Path) {
    let mut committer = Committer::open(lake).await.unwrap();
    for record in JournalReader::open(journal).read_from(committer.position() + 1).unwrap() {
        let (position, batch) = record.unwrap();
        committer.push(position, Arc::new(batch));
    }
    committer.flush().await.unwrap();
}

/// All files in which a text is, as they are and decoded, by nothing that the program uses for it.
pub(crate) fn files_with(folders: &[PathBuf], needle: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = folders.to_vec();
    // `GONE` begins the name of the meter that stays.
    let is_in = |bytes: &[u8]| {
        bytes
            .windows(needle.len())
            .enumerate()
            .any(|(at, w)| w == needle.as_bytes() && !bytes[at + needle.len()..].starts_with(b"-2"))
    };
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let mut there = is_in(&bytes) || is_in(path.as_os_str().as_encoded_bytes());
        if bytes.starts_with(b"PAR1") {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            for batch in reader.map(|b| b.unwrap()) {
                for column in batch.columns() {
                    there |= if let Some(texts) = column.as_string_opt::<i32>() {
                        texts.iter().flatten().any(|t| is_in(t.as_bytes()))
                    } else if let Some(bytes) = column.as_binary_opt::<i32>() {
                        bytes.iter().flatten().any(is_in)
                    } else {
                        let text =
                            arrow::util::pretty::pretty_format_columns("c", std::slice::from_ref(column)).unwrap();
                        is_in(text.to_string().as_bytes())
                    };
                }
            }
        } else if path.extension().is_some_and(|e| e == "mlj") {
            // zstd frames behind each record's header.
            let magic = 0xFD2F_B528_u32.to_le_bytes();
            for at in 0..bytes.len().saturating_sub(4) {
                if bytes[at..at + 4] == magic {
                    let mut decoder = zstd::stream::read::Decoder::new(&bytes[at..]).unwrap().single_frame();
                    let mut raw = Vec::new();
                    let _ = std::io::Read::read_to_end(&mut decoder, &mut raw);
                    there |= is_in(&raw);
                }
            }
        }
        if there {
            found.insert(path);
        }
    }
    found
}

pub(crate) fn options() -> EraseOptions {
    EraseOptions {
        reason: "asked for".into(),
        who: "clerk".into(),
        now: now(),
        holds: Vec::new(),
        links: vec![ErasureLink { from_table: "alerts", id: "id", to_table: "steps", reference: "customer_id" }],
        dry: false,
    }
}

pub(crate) async fn counts(lake: &Lake) -> Vec<(String, u64)> {
    let mut counts = Vec::new();
    for name in lake.tables().await.unwrap() {
        counts.push((name.clone(), lake.snapshot(&name).await.unwrap().rows()));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_meter_is_in_no_byte_on_disk_once_its_remains_are_cut() {
    let place = Place::new().await;
    let lake = place.lake();
    let words = Words::new([GONE]);
    let before = counts(&lake).await;
    let others: Vec<_> = electricity(&lake).await.into_iter().filter(|r| r.0 == STAYS).collect();
    assert_eq!(others.len(), 16);
    let kinds = |files: &BTreeSet<PathBuf>| -> BTreeSet<String> {
        files.iter().map(|f| f.extension().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let there = files_with(&place.folders(), GONE);
    assert_eq!(kinds(&there), ["json", "mlj", "parquet"].map(str::to_owned).into(), "data, log and journal name it");
    let searched = search(&place.folders(), &words).unwrap();
    assert!(searched.found.iter().any(|f| f.place.starts_with("record ")), "{searched:?}");
    assert!(searched.found.iter().any(|f| f.place == "column payload"), "{searched:?}");

    let subject = lake.subject(SubjectKind::Meter, GONE).await.unwrap();
    let dry = lake.erase(&subject, &EraseOptions { dry: true, ..options() }).await.unwrap();
    assert_eq!(counts(&lake).await, before, "a dry run changes nothing");
    let done = lake.erase(&subject, &options()).await.unwrap();
    assert_eq!((&done.tables, done.span), (&dry.tables, dry.span));
    let gone: Vec<_> = done.tables.iter().map(|t| (t.table.as_str(), t.rows)).collect();
    let expected = [
        ("alerts", 2),
        ("billing_reads", 1),
        ("dead_letters", 16),
        ("electricity_readings", 16),
        ("meter_events", 16),
        ("raw_messages", 16),
        ("steps", 1),
        ("installations", 2),
        ("meters", 2),
    ];
    assert_eq!(gone, expected);
    assert_eq!(done.span.unwrap().0, Timestamp::from_unix_seconds(AT).unwrap());
    let mine: Vec<_> = electricity(&lake).await;
    assert_eq!(mine, others, "every row of the other meter, and nothing else");
    assert!(lake.read_registry(None).await.unwrap().meters.contains_key(&MeterId::new(STAYS).unwrap()));
    assert_eq!(lake.read_registry(None).await.unwrap().installations.len(), 1);

    // Gone from the tables, and still on disk: the proof says so.
    let searched = search(&place.folders(), &words).unwrap();
    assert!(!searched.found.is_empty() && !files_with(&place.folders(), GONE).is_empty());
    for name in lake.tables().await.unwrap() {
        lake.cut_history(&name).await.unwrap();
    }
    let open = place.lake();
    assert!(lake.cut_journal(&place.journal_dir()).await.unwrap().unwrap().segments > 1);
    let searched = search(&place.folders(), &words).unwrap();
    assert_eq!((searched.found, searched.unreadable), (vec![], vec![]));
    assert_eq!(files_with(&place.folders(), GONE), BTreeSet::new());
    assert!(!files_with(&place.folders(), STAYS).is_empty());

    // Everything goes on: readers, the journal at its next position, the doctor.
    assert_eq!(electricity(&open).await, others);
    place.collect(16..17).await;
    assert_eq!(electricity(&place.lake()).await.len(), others.len() + 2);
    let findings = examine(&place.lake_dir(), &place.journal_dir(), Depth::Whole).await;
    assert_eq!(refusal(&findings), None);

    // The tombstone knows it again and names nobody.
    let tombs = lake.erasures().await.unwrap();
    assert_eq!((tombs.len(), tombs[0].rows, tombs[0].id.as_str()), (1, 72, done.id.as_str()));
    assert!(tombs[0].is_of(SubjectKind::Meter, GONE));
    assert!(!tombs[0].is_of(SubjectKind::Meter, STAYS) && !tombs[0].is_of(SubjectKind::Customer, GONE));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_customer_takes_the_meters_along_and_the_place_stays() {
    let place = Place::new().await;
    let lake = place.lake();
    for needle in [CUSTOMER, NAME, GONE] {
        assert!(!files_with(&place.folders(), needle).is_empty(), "{needle}");
    }
    let subject = lake.subject(SubjectKind::Customer, CUSTOMER).await.unwrap();
    assert_eq!(subject.meters, [GONE.to_owned()].into());
    let done = lake.erase(&subject, &options()).await.unwrap();
    assert!(done.tables.iter().any(|t| t.table == "usage_points" && (t.rows, t.edited) == (0, 2)), "{done:?}");
    let found = lake.read_registry(None).await.unwrap();
    assert_eq!(found.usage_points[&UsagePointId::new("point-1").unwrap()].customer_id, None);
    assert_eq!((found.customers.len(), found.usage_points.len(), found.meters.len()), (1, 2, 2));
    assert_eq!(electricity(&lake).await.len(), 16);
    for name in lake.tables().await.unwrap() {
        lake.cut_history(&name).await.unwrap();
    }
    lake.cut_journal(&place.journal_dir()).await.unwrap().unwrap();
    for needle in [CUSTOMER, NAME] {
        assert_eq!(files_with(&place.folders(), needle), BTreeSet::new(), "{needle}");
    }
    let unknown = lake.subject(SubjectKind::Customer, CUSTOMER).await.unwrap();
    let refusal = lake.erase(&unknown, &options()).await.unwrap_err().to_string();
    assert!(refusal.contains("no table has anything of the customer"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_erasure_leaves_in_a_log_goes_with_the_logs_own_time() {
    let place = Place::new().await;
    let lake = place.lake();
    let log = place.lake_dir().join("meters/_delta_log");
    assert!(!files_with(std::slice::from_ref(&log), GONE).is_empty());
    let subject = lake.subject(SubjectKind::Meter, GONE).await.unwrap();
    lake.erase(&subject, &options()).await.unwrap();
    let later = |days: i64| now().plus_seconds(days * 86_400);
    lake.checkpoint_as_of("meters", later(29)).await.unwrap();
    assert!(!files_with(std::slice::from_ref(&log), GONE).is_empty(), "30 days are not over");
    lake.checkpoint_as_of("meters", later(31)).await.unwrap();
    assert_eq!(files_with(std::slice::from_ref(&log), GONE), BTreeSet::new());
    assert_eq!(place.lake().snapshot("meters").await.unwrap().rows(), 2);
}

pub(crate) fn hold(subject: Option<(SubjectKind, &str)>) -> Hold {
    Hold {
        id: String::new(),
        table: None,
        commodity: None,
        subject: subject.map(|(kind, id)| (kind, id.to_owned())),
        from: None,
        to: None,
        reason: "billing dispute 12".into(),
        who: "clerk".into(),
        placed_at: now(),
        released: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_blocks_an_erasure_until_it_is_released() {
    let place = Place::new().await;
    let lake = place.lake();
    let subject = lake.subject(SubjectKind::Meter, GONE).await.unwrap();
    lake.place_hold(&hold(Some((SubjectKind::Meter, STAYS))), now()).await.unwrap();
    let id = lake.place_hold(&hold(Some((SubjectKind::Customer, CUSTOMER))), now()).await.unwrap();
    let with = |holds| EraseOptions { holds, ..options() };
    let refused = lake.erase(&subject, &with(lake.holds().await.unwrap())).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("hold {id} keeps")) && refused.contains("billing dispute 12"), "{refused}");
    assert_eq!(electricity(&lake).await.len(), 32, "nothing was taken out");

    lake.release_hold(&id, "boss", now()).await.unwrap();
    assert!(lake.release_hold(&id, "boss", now()).await.unwrap_err().to_string().contains("was released by boss"));
    assert!(lake.release_hold("h-0", "boss", now()).await.is_err());
    let holds = lake.holds().await.unwrap();
    assert_eq!(holds.iter().filter(|h| h.is_active()).count(), 1, "{holds:?}");
    lake.erase(&subject, &with(holds)).await.unwrap();
    let nameless = Hold { reason: " ".into(), ..hold(None) };
    assert!(matches!(lake.place_hold(&nameless, now()).await, Err(StoreError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_months_leave_whole_and_what_a_hold_keeps_stays_row_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let lake = quick_lake(dir.path());
    let month = |text: &str| Timestamp::parse_rfc3339(&format!("{text}-10T00:00:00Z")).unwrap().unix_seconds();
    let mut committer = Committer::open(&lake).await.unwrap();
    let times = [month("2010-01"), month("2010-02"), month("2010-03"), now().unix_seconds() - 3600];
    for (position, at) in (1..).zip(times) {
        committer.push(position, record(&[("a", at, &[(E, 1)]), ("b", at, &[(E, 2)])]));
        committer.flush().await.unwrap();
    }
    let keep = |days: u64| RetentionRule {
        table: "electricity_readings".into(),
        commodity: None,
        keep: Duration::from_secs(days * 86_400),
    };
    let rules = [keep(400), RetentionRule { table: "absent".into(), ..keep(1) }];
    let january =
        Hold { to: Timestamp::parse_rfc3339("2010-02-01T00:00:00Z").ok(), ..hold(Some((SubjectKind::Meter, "a"))) };
    let id = lake.place_hold(&january, now()).await.unwrap();
    let holds = lake.holds().await.unwrap();
    let plan = lake.retain(&rules, &holds, now(), true).await.unwrap();
    assert_eq!(electricity(&lake).await.len(), 8, "a plan changes nothing");
    assert_eq!(plan.len(), 1);
    let found = (plan[0].whole_files, plan[0].rewritten_files, plan[0].rows, plan[0].held_rows);
    assert_eq!((found, plan[0].held_by.as_slice()), ((2, 1, 5, 1), std::slice::from_ref(&id)));
    assert_eq!(lake.retain(&rules, &holds, now(), false).await.unwrap(), plan);
    let rows: Vec<_> = electricity(&lake).await.into_iter().map(|r| (r.0, r.1)).collect();
    let expected = [("a".to_owned(), times[0]), ("a".to_owned(), times[3]), ("b".to_owned(), times[3])];
    assert_eq!(rows, expected);
    assert_eq!(
        lake.retain(&rules, &holds, now(), false).await.unwrap()[0].rows,
        0,
        "a second time there is nothing to do"
    );

    lake.release_hold(&id, "boss", now()).await.unwrap();
    let holds = lake.holds().await.unwrap();
    assert_eq!(lake.retain(&rules, &holds, now(), false).await.unwrap()[0].rows, 1);
    let everything = lake.place_hold(&hold(None), now()).await.unwrap();
    let tomorrow_year =
        lake.retain(&[keep(31)], &lake.holds().await.unwrap(), now().plus_seconds(90 * 86_400), true).await;
    assert_eq!(tomorrow_year.unwrap()[0].held_by, [everything]);
    // A clock that jumped takes nothing away.
    let refusal = lake.retain(&[keep(31)], &[], now().plus_seconds(90 * 86_400), false).await.unwrap_err().to_string();
    assert!(refusal.contains("the clock jumped"), "{refusal}");
    assert_eq!(electricity(&lake).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_a_backup_of_a_running_lake_has_everything_that_was_durable_when_it_ended() {
    let dir = TempDir::new().unwrap();
    let (lake_dir, journal) = (dir.path().join("lake"), dir.path().join("journal"));
    let lake = quick_lake(&lake_dir);
    lake.write_registry(&registry()).await.unwrap();
    let (mut writer, _) =
        JournalWriter::open(JournalOptions { segment_bytes: 8192, ..JournalOptions::new(&journal) }).unwrap();
    let mut committer = Committer::open(&lake).await.unwrap();
    let backups = BackupOptions {
        to: dir.path().join("backups"),
        journal: journal.clone(),
        config: Vec::new(),
        now: now(),
        link: false,
    };
    let (collecting, backing) = (lake.clone(), quick_lake(&lake_dir));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    // Collects, commits and compacts as fast as it can.
    let load = tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) || number < 30 {
            let batch = record(&[("m", AT + number, &[(E, number)])]);
            let position = writer.append(&batch).unwrap();
            writer.sync().unwrap();
            committer.push(position, batch);
            number += 1;
            if number % 5 == 0 {
                committer.flush().await.unwrap();
            }
            if number % 25 == 0 {
                let merge = CompactOptions { min_files: 2, ..CompactOptions::default() };
                collecting.compact("electricity_readings", &merge).await.unwrap();
            }
        }
        number
    });
    let mut reports = Vec::new();
    for wanted in [10, 20, 30] {
        while backing.snapshot("electricity_readings").await.map_or(0, |s| s.version) < wanted {
            tokio::task::yield_now().await;
        }
        reports.push(backing.backup(&backups).await.unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let total = load.await.unwrap();
    assert!(reports[1].kept_files > 0 && reports[2].kept_files > 0, "what an earlier one has is not copied again");
    assert_eq!(Manifest::names(&backups.to).unwrap().len(), 3);
    for report in &reports {
        let manifest = &report.manifest;
        let place = TempDir::new().unwrap();
        let (to, tail) = (place.path().join("lake"), place.path().join("journal"));
        let restored = restore(&backups.to, Some(&manifest.name), &to, &tail).await.unwrap();
        assert_eq!(restored.manifest, *manifest);
        let back = quick_lake(&to);
        assert_eq!(back.read_registry(None).await.unwrap().meters.len(), 2);
        catch_up(&back, &tail).await;
        let rows: Vec<_> = electricity(&back).await.into_iter().map(|r| r.1 - AT).collect();
        let durable = i64::try_from(manifest.journal_to).unwrap();
        assert_eq!(rows, (0..durable).collect::<Vec<_>>(), "each row once, up to what was durable");
        assert!(durable <= total && durable >= 10);
        let again = restore(&backups.to, None, &to, &tail).await.unwrap_err().to_string();
        assert!(again.contains("is not empty"), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_whole_and_a_linked_one_outlives_the_lake() {
    let place = Place::new().await;
    let lake = place.lake();
    let to = place.0.path().join("backups");
    let options =
        BackupOptions { to: to.clone(), journal: place.journal_dir(), config: b"c".to_vec(), now: now(), link: true };
    let report = lake.backup(&options).await.unwrap();
    assert!(report.copied_files > 0);
    let before = counts(&lake).await;
    let (new_lake, new_journal) = (place.0.path().join("a"), place.0.path().join("b"));
    let files: Vec<_> = files_with(std::slice::from_ref(&to), GONE).into_iter().collect();
    let victim = files.iter().find(|f| f.extension().is_some_and(|e| e == "parquet")).unwrap();
    let bytes = fs::read(victim).unwrap();
    fs::remove_dir_all(place.lake_dir()).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(victim, &damaged).unwrap();
    let refusal = restore(&to, None, &new_lake, &new_journal).await.unwrap_err().to_string();
    assert!(refusal.contains("1 files are damaged") && refusal.contains("does not match its checksum"), "{refusal}");
    assert!(!new_lake.exists() && !new_journal.exists());
    fs::write(victim, &bytes).unwrap();
    let report = restore(&to, None, &new_lake, &new_journal).await.unwrap();
    assert_eq!(counts(&quick_lake(&new_lake)).await, before);
    assert_eq!(report.rows, before.iter().map(|c| c.1).sum::<u64>());
}
