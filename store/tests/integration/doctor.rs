//! What the doctor finds in a damaged lake, and what a mend brings back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use meterlake_model::{Channel, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp};
use meterlake_store::doctor::{Depth, Finding, MendError, Severity, examine, mend, refusal};
use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
use meterlake_store::{Committer, Lake, PartitionKey, TableSpec, schema};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    /// A lake of `commits` commits of ten records each, all in the journal.
    async fn new(commits: i64) -> Self {
        let place = Self(TempDir::new().unwrap());
        let mut writer = place.writer();
        let mut committer = Committer::open(&place.lake()).await.unwrap();
        for commit in 0..commits {
            for record in 0..10 {
                writer.append(&batch(commit * 10 + record)).unwrap();
            }
            writer.sync().unwrap();
            place.replay(&mut committer).await;
        }
        place
    }

    fn lake_dir(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    fn journal_dir(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn lake(&self) -> Lake {
        Lake::open(&self.lake_dir()).unwrap()
    }

    fn writer(&self) -> JournalWriter {
        let options = JournalOptions { segment_bytes: 2048, ..JournalOptions::new(self.journal_dir()) };
        JournalWriter::open(options).unwrap().0
    }

    async fn replay(&self, committer: &mut Committer) {
        for record in JournalReader::open(&self.journal_dir()).read_from(committer.position() + 1).unwrap() {
            let (position, batch) = record.unwrap();
            committer.push(position, Arc::new(batch));
        }
        committer.flush().await.unwrap();
    }

    fn table(&self) -> PathBuf {
        self.lake_dir().join("electricity_readings")
    }

    fn commit(&self, version: u32) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    async fn examine(&self) -> Vec<Finding> {
        let found = examine(&self.lake_dir(), &self.journal_dir(), Depth::Start).await;
        let whole = examine(&self.lake_dir(), &self.journal_dir(), Depth::Whole).await;
        assert!(found.iter().all(|f| whole.contains(f)), "a whole examination finds what a short one does");
        whole
    }

    async fn rows(&self) -> u64 {
        self.lake().snapshot("electricity_readings").await.unwrap().rows()
    }
}

fn batch(number: i64) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let header = RowHeader {
        meter_id: MeterId::new(&format!("meter-{}", number % 3)).unwrap(),
        ts: Timestamp::from_unix_seconds(1_793_404_800 + number * 60).unwrap(),
        received_at_s: 1_793_404_800 + number * 60,
        source: "test".into(),
        profile: "test@1".into(),
        flags: ReadingFlags::NONE,
    };
    batch.electricity.push(header, &[(Channel::by_name("energy_import_kwh").unwrap(), number)]);
    batch
}

fn check_unsafe(findings: &[Finding], subject: &str, message: &str) {
    let first = refusal(findings).unwrap_or_else(|| panic!("{findings:?}"));
    assert_eq!(first.subject.rsplit('/').next().unwrap(), subject, "{first}");
    assert!(first.message.contains(message), "{first}");
    assert!(!first.repair.is_empty(), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_lake_has_no_findings_and_nothing_to_mend() {
    let place = Place::new(3).await;
    assert_eq!(place.examine().await, []);
    assert_eq!(mend(&place.lake_dir(), &place.journal_dir()).await.unwrap(), []);
    let nowhere = Path::new("/nonexistent/meterlake");
    assert_eq!(examine(&nowhere.join("lake"), &nowhere.join("journal"), Depth::Whole).await, []);
    assert!(!nowhere.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_bad_end_of_a_log_is_refused_and_mended_from_the_journal() {
    type Damage = fn(&Place);
    let damages: [(&str, Damage); 4] = [
        ("is empty", |p| fs::write(p.commit(3), b"").unwrap()),
        ("cannot be read", |p| {
            let bytes = fs::read(p.commit(3)).unwrap();
            fs::write(p.commit(3), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("is empty", |p| fs::write(p.commit(2), b"").unwrap()),
        ("commit 2 is missing", |p| fs::remove_file(p.commit(2)).unwrap()),
    ];
    for (message, damage) in damages {
        let place = Place::new(3).await;
        damage(&place);
        check_unsafe(&place.examine().await, "electricity_readings", message);
        let mended = mend(&place.lake_dir(), &place.journal_dir()).await.unwrap();
        assert_eq!(mended.len(), 1, "{mended:?}");
        assert!(place.rows().await < 30);
        assert_eq!(refusal(&place.examine().await), None);
        let mut committer = Committer::open(&place.lake()).await.unwrap();
        place.replay(&mut committer).await;
        assert_eq!(place.rows().await, 30, "every row is back, once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_mend_that_would_lose_rows_is_refused_and_changes_nothing() {
    let place = Place::new(3).await;
    let mut writer = place.writer();
    assert!(writer.release(30, SystemTime::now() + Duration::from_secs(48 * 3600)).unwrap() > 0);
    drop(writer);
    fs::write(place.commit(1), b"").unwrap();
    let refused = mend(&place.lake_dir(), &place.journal_dir()).await.unwrap_err();
    assert!(matches!(&refused, MendError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("ends at position 0"), "{refused}");
    assert!(place.commit(1).exists() && place.commit(3).exists());
    assert!(refusal(&place.examine().await).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_files_that_are_missing_or_cut_are_named() {
    let place = Place::new(2).await;
    let files = place.lake().snapshot("electricity_readings").await.unwrap().files;
    let first = place.table().join(&files[0].path);
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[1..]).unwrap();
    check_unsafe(&place.examine().await, "electricity_readings", "bytes, the log says");
    fs::remove_file(&first).unwrap();
    check_unsafe(&place.examine().await, "electricity_readings", &files[0].path);
}

/// A table that a job made: three partitions, one file each.
async fn derived(lake: &Lake) -> TableSpec {
    let fields = vec![schema::text("id"), schema::text("month")];
    let spec = schema::spec("derived", fields, &["month"], &["id"]);
    let partition = |month: &str| {
        let column = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let batch = RecordBatch::try_new(spec.schema.clone(), vec![column("a"), column(month)]).unwrap();
        (PartitionKey::new([month]), vec![batch])
    };
    lake.replace(&spec, ["2026-01", "2026-02", "2026-03"].map(partition).into()).await.unwrap();
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_lost_files_of_a_derived_table_are_taken_out_and_made_again_by_their_job() {
    let place = Place::new(1).await;
    derived(&place.lake()).await;
    let before = place.lake().snapshot("derived").await.unwrap();
    let at = |n: usize| place.lake_dir().join("derived").join(&before.files[n].path);
    fs::remove_file(at(0)).unwrap();
    fs::write(at(1), b"PAR1").unwrap();
    check_unsafe(&place.examine().await, "derived", &before.files[0].path);
    let mended = mend(&place.lake_dir(), &place.journal_dir()).await.unwrap();
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert!(mended[0].action.contains("1 set aside; run its job again"), "{mended:?}");
    let aside: Vec<_> = fs::read_dir(place.lake_dir().join("derived/_delta_log_aside")).unwrap().collect();
    assert_eq!(aside.len(), 1, "nothing is deleted");
    assert_eq!(place.examine().await, []);
    assert_eq!(place.lake().snapshot("derived").await.unwrap().files, before.files[2..]);
    derived(&place.lake()).await;
    assert_eq!(place.lake().snapshot("derived").await.unwrap().files, before.files);
    assert_eq!(place.examine().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_mend_leaves_lost_readings_for_a_copy_to_be_put_in_their_place() {
    let place = Place::new(2).await;
    let files = place.lake().snapshot("electricity_readings").await.unwrap().files;
    let first = place.table().join(&files[0].path);
    let bytes = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    assert_eq!(mend(&place.lake_dir(), &place.journal_dir()).await.unwrap(), []);
    check_unsafe(&place.examine().await, "electricity_readings", &files[0].path);
    fs::write(&first, bytes).unwrap();
    assert_eq!(place.examine().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_log_names_are_a_note() {
    let place = Place::new(1).await;
    fs::write(place.table().join("month=2026-10/fresh-left.parquet"), b"left").unwrap();
    let findings = place.examine_whole().await;
    assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Note]);
    assert!(findings[0].message.contains("1 files of 4 bytes"), "{}", findings[0]);
}

impl Place {
    async fn examine_whole(&self) -> Vec<Finding> {
        examine(&self.lake_dir(), &self.journal_dir(), Depth::Whole).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_lost_journal_is_refused_and_begun_anew_behind_the_tables() {
    let place = Place::new(2).await;
    fs::remove_dir_all(place.journal_dir()).unwrap();
    check_unsafe(&place.examine().await, "dead_letters", "the journal ends at 0");
    let mended = mend(&place.lake_dir(), &place.journal_dir()).await.unwrap();
    assert!(mended[0].action.contains("position 21"), "{mended:?}");
    assert_eq!(place.examine().await, []);
    let mut writer = place.writer();
    assert_eq!(writer.append(&batch(20)).unwrap(), 21);
    writer.sync().unwrap();
    let mut committer = Committer::open(&place.lake()).await.unwrap();
    place.replay(&mut committer).await;
    assert_eq!(place.rows().await, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_journal_that_no_longer_keeps_what_a_table_lacks_is_refused() {
    let place = Place::new(3).await;
    let mut writer = place.writer();
    assert!(writer.release(30, SystemTime::now() + Duration::from_secs(48 * 3600)).unwrap() > 0);
    drop(writer);
    // The table goes back to its first commits, as from an old copy.
    for version in 1..=3 {
        fs::remove_file(place.commit(version)).unwrap();
    }
    check_unsafe(&place.examine().await, "electricity_readings", "the journal keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_11_a_damaged_journal_is_refused_with_file_and_offset() {
    let place = Place::new(3).await;
    let segment = place.journal_dir().join(format!("segment-{:020}.mlj", 1));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[60] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let findings = examine(&place.lake_dir(), &place.journal_dir(), Depth::Whole).await;
    check_unsafe(&findings, "journal", "segment-00000000000000000001.mlj at byte 32");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mend_waits_for_no_writer_and_disturbs_none() {
    let place = Place::new(1).await;
    let _writer = place.writer();
    assert!(matches!(mend(&place.lake_dir(), &place.journal_dir()).await, Err(MendError::Journal(_))));
}
