//! The journal as a whole: readers beside a writer, release, group sync, the format; damage and faults in files of
//! their own.

mod faulty;
mod recovery;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meterlake_model::{Channel, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp};
use tempfile::TempDir;

use super::faults::{Fault, FaultyDisk};
use super::segment::{self, RECORD_HEADER, SEGMENT_HEADER};
use super::*;

fn batch(number: i64) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let header = RowHeader {
        meter_id: MeterId::new(&format!("meter-{number}")).unwrap(),
        ts: Timestamp::from_unix_seconds(1_700_000_000 + number).unwrap(),
        received_at_s: 1_700_000_001 + number,
        source: "test".into(),
        profile: "test@1".into(),
        flags: ReadingFlags::NONE,
    };
    batch.electricity.push(header, &[(Channel::by_name("energy_import_kwh").unwrap(), number)]);
    batch
}

/// The number that [`batch`] was made with.
fn number_of(batch: &ReadingBatch) -> i64 {
    batch.electricity.values(0).next().unwrap().1
}

fn options(dir: &Path) -> JournalOptions {
    JournalOptions { segment_bytes: 4096, ..JournalOptions::new(dir) }
}

fn open(dir: &Path) -> (JournalWriter, Recovery) {
    JournalWriter::open(options(dir)).unwrap()
}

/// As [`open`], without waiting for the device: for tests that open thousands of times.
fn open_unsynced(dir: &Path) -> (JournalWriter, Recovery) {
    JournalWriter::open_on(Box::new(FaultyDisk::sound()), options(dir)).unwrap()
}

/// Numbers of all records that a reader sees.
fn numbers(dir: &Path) -> Vec<i64> {
    let records = JournalReader::open(dir).read_from(1).unwrap();
    let records: Vec<_> = records.map(Result::unwrap).collect();
    for (i, (position, _)) in records.iter().enumerate() {
        assert_eq!(*position, i as u64 + 1, "positions are dense");
    }
    records.iter().map(|(_, batch)| number_of(batch)).collect()
}

/// A journal of `count` synced records, closed.
fn written(count: i64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    for i in 1..=count {
        assert_eq!(writer.append(&batch(i)).unwrap(), i.cast_unsigned());
    }
    writer.sync().unwrap();
    dir
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    segment::path_of(dir, *segment::list(dir).unwrap().last().unwrap())
}

#[test]
fn records_come_back_in_order_over_many_segments() {
    let dir = written(200);
    assert!(segment::list(dir.path()).unwrap().len() > 2);
    assert_eq!(numbers(dir.path()), (1..=200).collect::<Vec<_>>());
    let (mut writer, recovery) = open(dir.path());
    assert_eq!((recovery.first, recovery.last, recovery.cut), (1, 200, None));
    assert_eq!(writer.append(&batch(201)).unwrap(), 201);
    writer.sync().unwrap();
    assert_eq!(JournalReader::open(dir.path()).verify().unwrap().last, 201);
}

#[test]
fn an_empty_folder_is_an_empty_journal() {
    let dir = TempDir::new().unwrap();
    assert_eq!(numbers(&dir.path().join("absent")), Vec::<i64>::new());
    let (_writer, recovery) = open(dir.path());
    assert_eq!((recovery.first, recovery.last, recovery.segments), (1, 0, 0));
    assert_eq!(numbers(dir.path()), Vec::<i64>::new());
}

#[test]
fn rule_5_a_second_writer_is_refused() {
    let dir = written(1);
    let (writer, _) = open(dir.path());
    assert!(matches!(JournalWriter::open(options(dir.path())), Err(JournalError::Locked { .. })));
    drop(writer);
    open(dir.path());
}

#[test]
fn rule_1_nobody_reads_what_is_not_synced() {
    let dir = written(2);
    let (mut writer, _) = open(dir.path());
    writer.append(&batch(3)).unwrap();
    assert_eq!(numbers(dir.path()), [1, 2]);
    let mut tail = JournalReader::open(dir.path()).tail(2);
    assert_eq!(tail.next_record().unwrap().unwrap().0, 2);
    assert!(tail.next_record().unwrap().is_none());
    writer.sync().unwrap();
    assert_eq!(tail.next_record().unwrap().unwrap().0, 3);
    for i in 4..=150 {
        writer.append(&batch(i)).unwrap();
        writer.sync().unwrap();
        let (position, found) = tail.next_record().unwrap().unwrap();
        assert_eq!((position, number_of(&found)), (i.cast_unsigned(), i), "the tail follows over segments");
    }
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    let mut large = batch(1);
    for i in 2..2000_i64 {
        large.append(batch(i * 7_919));
    }
    writer.append(&large).unwrap();
    writer.append(&batch(5)).unwrap();
    writer.sync().unwrap();
    let found: Vec<_> = JournalReader::open(dir.path()).read_from(1).unwrap().map(Result::unwrap).collect();
    assert_eq!(found[0].1, large);
    assert_eq!(number_of(&found[1].1), 5);
}

#[test]
fn rule_1_no_segment_goes_before_it_is_committed_and_old_or_many() {
    let dir = written(200);
    let firsts = segment::list(dir.path()).unwrap();
    let (mut writer, _) = open(dir.path());
    let now = SystemTime::now();
    let day = now + Duration::from_secs(25 * 3600);
    assert_eq!(writer.release(200, now).unwrap(), 0, "young");
    assert_eq!(writer.release(0, day).unwrap(), 0, "not committed");
    assert_eq!(writer.release(firsts[1] - 2, day).unwrap(), 0, "its last record is not committed");
    assert_eq!(writer.release(firsts[1] - 1, day).unwrap(), 1);
    assert_eq!(writer.oldest(), firsts[1]);
    drop(writer);

    let small = JournalOptions { keep_bytes: 4096, ..options(dir.path()) };
    let (mut writer, recovery) = JournalWriter::open(small).unwrap();
    assert_eq!(recovery.first, firsts[1]);
    assert_eq!(writer.release(200, now).unwrap(), firsts.len() - 3, "all but the newest and 4096 bytes");
    let reader = JournalReader::open(dir.path());
    let mut tail = reader.tail(1);
    assert!(matches!(tail.next_record(), Err(JournalError::Released { position: 1, .. })));
    assert_eq!(writer.release(200, now - Duration::from_secs(3600)).unwrap(), 0, "a clock set back keeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_appends_resolve_after_their_sync_and_in_order() {
    let dir = TempDir::new().unwrap();
    let (writer, _) = open(dir.path());
    let handle = JournalHandle::spawn(writer, GroupSync::default()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 1..=300 {
        let handle = handle.clone();
        let dir = dir.path().to_owned();
        tasks.spawn(async move {
            let position = handle.append(Arc::new(batch(i))).await.unwrap();
            assert!(JournalReader::open(&dir).synced().unwrap() >= position, "durable before it is told");
            (position, i)
        });
    }
    let mut told: Vec<_> = tasks.join_all().await;
    told.sort_unstable();
    assert_eq!(*handle.synced().borrow(), 300);
    handle.close().await;
    assert_eq!(numbers(dir.path()), told.iter().map(|(_, i)| *i).collect::<Vec<_>>());
    open(dir.path());
}

#[tokio::test]
async fn a_closed_handle_refuses_and_frees_the_lock() {
    let dir = TempDir::new().unwrap();
    let handle = JournalHandle::spawn(open(dir.path()).0, GroupSync::default()).unwrap();
    let other = handle.clone();
    assert_eq!(handle.append(Arc::new(batch(1))).await.unwrap(), 1);
    handle.close().await;
    assert!(matches!(other.append(Arc::new(batch(2))).await, Err(JournalError::Stopped)));
    open(dir.path());
}

/// Version 1 as it was released. When the format changes, a new fixture is added and this one must still be read.
#[test]
fn a_journal_of_format_version_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1");
    let (expected, made) = fixture_journal();
    if std::env::var_os("METERLAKE_MAKE_FIXTURES").is_some() {
        fs::create_dir_all(&fixture).unwrap();
        for name in ["segment-00000000000000000001.mlj", "synced"] {
            fs::copy(made.path().join(name), fixture.join(name)).unwrap();
        }
    }
    let reader = JournalReader::open(&fixture);
    let found: Vec<_> = reader.read_from(1).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.into_iter().map(|(_, b)| b).collect::<Vec<_>>(), expected);
    // Today's writer gives the same bytes, given the time of making: framing, bodies, zeros behind them.
    let then = fs::read(fixture.join("segment-00000000000000000001.mlj")).unwrap();
    let created_s = i64::from_le_bytes(then[20..28].try_into().unwrap());
    let header = segment::segment_header(1, created_s);
    let mut now = header.to_vec();
    let mut chain = segment::chain_of_header(&header);
    for (position, batch) in (1..).zip(&expected) {
        chain = segment::put_record(&mut now, position, &EncodedBatch::new(batch).unwrap(), chain);
    }
    now.resize(then.len(), 0);
    assert!(then == now, "the format differs; if that is meant, it is a further version with a fixture of its own");
    let synced = |dir: &Path| fs::read(dir.join("synced")).unwrap();
    assert_eq!(synced(&fixture), synced(made.path()));
}

fn fixture_journal() -> (Vec<ReadingBatch>, TempDir) {
    use meterlake_model::{DeadLetter, DeadReason, EventKind, MeterEvent, RawMessage};
    let mut frame = ReadingBatch::default();
    for i in 0..96 {
        frame.append(batch(i));
    }
    let mut header = batch(1).electricity.headers()[0].clone();
    header.flags = ReadingFlags::CLOCK_SUSPECT;
    frame.water.push(header.clone(), &[(Channel::by_name("volume_m3").unwrap(), -5)]);
    let message = RawMessage {
        source: "test".into(),
        topic: "a/b".into(),
        payload: vec![0, 255, 10],
        received_at_s: 1_700_000_000,
    };
    let other = ReadingBatch {
        events: vec![MeterEvent {
            meter_id: header.meter_id,
            ts: header.ts,
            kind: EventKind::Tamper,
            detail: "0x40".into(),
            received_at_s: 1,
            source: "test".into(),
        }],
        dead_letters: vec![DeadLetter {
            reason: DeadReason::BadTime,
            detail: "`ts` is missing".into(),
            message: message.clone(),
            decoder: "map@3".into(),
        }],
        raw: vec![message],
        ..ReadingBatch::default()
    };
    let batches = vec![batch(1), frame, other, ReadingBatch::default()];
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    for batch in &batches {
        writer.append(batch).unwrap();
    }
    writer.sync().unwrap();
    (batches, dir)
}
