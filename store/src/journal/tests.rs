//! The journal as a whole: recovery from every damage, release, readers beside a writer, faults at every call.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
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

/// As after a power cut in which the small file was not written back.
fn forget_synced(dir: &Path) {
    fs::remove_file(synced::path_in(dir)).unwrap();
}

/// Offsets at which the records of a one-segment journal end.
fn record_ends(file: &Path) -> Vec<u64> {
    let bytes = fs::read(file).unwrap();
    let mut ends = vec![];
    let mut at = SEGMENT_HEADER;
    loop {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if len == 0 {
            return ends;
        }
        at += RECORD_HEADER + len;
        ends.push(at as u64);
    }
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
fn rule_1_a_log_cut_at_any_byte_keeps_every_whole_record() {
    let dir = written(12);
    let file = newest_segment(dir.path());
    let bytes = fs::read(&file).unwrap();
    let ends = record_ends(&file);
    forget_synced(dir.path());
    for cut in SEGMENT_HEADER as u64..=*ends.last().unwrap() {
        for filled in [false, true] {
            let mut damaged = bytes[..usize::try_from(cut).unwrap()].to_vec();
            if filled {
                damaged.resize(bytes.len(), 0);
            }
            fs::write(&file, &damaged).unwrap();
            // A cut through zeros that zeros replace is none.
            let is_whole =
                |end: u64| damaged.get(..usize::try_from(end).unwrap()) == bytes.get(..usize::try_from(end).unwrap());
            let whole = ends.iter().filter(|end| is_whole(**end)).count() as u64;
            let (mut writer, recovery) = open_unsynced(dir.path());
            assert_eq!(recovery.last, whole, "cut at {cut}");
            assert_eq!(writer.append(&batch(99)).unwrap(), whole + 1);
            writer.sync().unwrap();
            drop(writer);
            let found = numbers(dir.path());
            assert_eq!(found.len() as u64, whole + 1);
            assert_eq!(found.last(), Some(&99));
            forget_synced(dir.path());
        }
    }
}

#[test]
fn rule_11_a_log_that_lost_what_was_synced_is_refused_with_file_and_offset() {
    let dir = written(12);
    let file = newest_segment(dir.path());
    let ends = record_ends(&file);
    let bytes = fs::read(&file).unwrap();
    let mut damaged = bytes[..usize::try_from(ends[9]).unwrap() + 5].to_vec();
    for filled in [false, true] {
        if filled {
            damaged.truncate(usize::try_from(ends[9]).unwrap());
            damaged.resize(bytes.len(), 0);
        }
        fs::write(&file, &damaged).unwrap();
        match JournalWriter::open(options(dir.path())).map(|(_, r)| r) {
            Err(JournalError::Corrupt { file: named, offset, reason }) => {
                assert_eq!((named, offset), (file.clone(), ends[9]));
                assert!(reason.contains("12 was synced"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn rule_1_each_flipped_bit_of_the_tail_is_noticed() {
    let dir = written(4);
    let file = newest_segment(dir.path());
    let bytes = fs::read(&file).unwrap();
    let ends = record_ends(&file);
    forget_synced(dir.path());
    let start = usize::try_from(ends[1]).unwrap();
    let end = usize::try_from(ends[3]).unwrap();
    for bit in start * 8..(end + 16) * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &damaged).unwrap();
        let (_, recovery) = open_unsynced(dir.path());
        let whole = ends.iter().filter(|e| **e <= bit as u64 / 8).count() as u64;
        assert_eq!(recovery.last, whole, "bit {bit}");
        assert!(recovery.cut.is_some(), "bit {bit}");
        forget_synced(dir.path());
    }
}

#[test]
fn rule_11_damage_in_an_older_segment_is_corruption_with_file_and_offset() {
    let dir = written(200);
    let file = segment::path_of(dir.path(), 1);
    let at = record_ends_of_full(&file)[2];
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    handle.write_all_at(&[0xff], at + 30).unwrap();
    // The newest segment verifies, so the writer may go on; whoever reads the damaged record is told.
    open(dir.path());
    let reader = JournalReader::open(dir.path());
    let found: Vec<_> = reader.read_from(1).unwrap().collect();
    assert_eq!(found.len(), 4, "three records, one error, no more");
    match &found[3] {
        Err(JournalError::Corrupt { file: named, offset, .. }) => assert_eq!((named, *offset), (&file, at)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(reader.verify(), Err(JournalError::Corrupt { .. })));
    // A header is looked at right away.
    handle.write_all_at(&[0xff], 13).unwrap();
    assert!(matches!(JournalWriter::open(options(dir.path())), Err(JournalError::Corrupt { offset: 0, .. })));
}

fn record_ends_of_full(file: &Path) -> Vec<u64> {
    let mut bytes = fs::read(file).unwrap();
    bytes.resize(bytes.len() + RECORD_HEADER, 0);
    let copy = file.with_extension("copy");
    fs::write(&copy, bytes).unwrap();
    let ends = record_ends(&copy);
    fs::remove_file(copy).unwrap();
    ends
}

#[test]
fn rule_11_a_missing_segment_is_corruption() {
    let dir = written(200);
    let firsts = segment::list(dir.path()).unwrap();
    fs::remove_file(segment::path_of(dir.path(), firsts[1])).unwrap();
    let result: Result<Vec<_>, _> = JournalReader::open(dir.path()).read_from(1).unwrap().collect();
    assert!(matches!(result, Err(JournalError::Corrupt { .. })));
}

#[test]
fn rule_11_a_journal_that_lost_all_segments_is_refused() {
    let dir = written(3);
    fs::remove_file(newest_segment(dir.path())).unwrap();
    assert!(matches!(JournalWriter::open(options(dir.path())), Err(JournalError::Corrupt { .. })));
}

#[test]
fn a_segment_whose_making_was_interrupted_is_removed() {
    for len in [0, 10, 4096] {
        let dir = written(3);
        let unborn = segment::path_of(dir.path(), 4);
        fs::write(&unborn, vec![0; len]).unwrap();
        let (mut writer, recovery) = open(dir.path());
        assert_eq!(recovery.last, 3);
        assert_eq!(recovery.cut.unwrap().file, unborn);
        assert_eq!(writer.append(&batch(4)).unwrap(), 4);
        writer.sync().unwrap();
        drop(writer);
        assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
    }
}

#[test]
fn records_of_an_earlier_write_never_pass_for_the_continuation() {
    // Two logs differ in their first record only; the second record of one behind the first of the other is stale.
    let dir = written(2);
    let file = newest_segment(dir.path());
    let other = TempDir::new().unwrap();
    let (mut writer, _) = open(other.path());
    writer.append(&batch(7)).unwrap();
    writer.append(&batch(2)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let mut bytes = fs::read(&file).unwrap();
    let foreign = fs::read(newest_segment(other.path())).unwrap();
    let end = usize::try_from(record_ends(&file)[0]).unwrap();
    bytes[end..].copy_from_slice(&foreign[end..]);
    fs::write(&file, &bytes).unwrap();
    forget_synced(dir.path());
    let (_, recovery) = open(dir.path());
    assert_eq!(recovery.last, 1);
}

#[test]
fn a_later_format_is_refused_by_its_version() {
    let dir = written(1);
    let file = newest_segment(dir.path());
    let mut header = segment::segment_header(1, 0);
    header[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    OpenOptions::new().write(true).open(&file).unwrap().write_all_at(&header, 0).unwrap();
    let result = JournalWriter::open(options(dir.path()));
    assert!(matches!(result, Err(JournalError::NewerVersion { version: 9, .. })));
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

fn small_segments(dir: &Path) -> JournalOptions {
    JournalOptions { segment_bytes: 1024, ..JournalOptions::new(dir) }
}

/// Appends and syncs one by one on a disk that fails once, until the writer refuses or `count` are durable.
fn run_with_fault(dir: &Path, disk: &FaultyDisk, count: i64) -> (i64, Option<JournalError>) {
    let (mut writer, _) = match JournalWriter::open_on(Box::new(disk.clone()), small_segments(dir)) {
        Ok(opened) => opened,
        Err(error) => return (0, Some(error)),
    };
    let mut acknowledged = 0;
    while acknowledged < count {
        let result = loop {
            match writer.append(&batch(acknowledged + 1)) {
                Err(error) if error.is_retryable() => {}
                other => break other,
            }
        };
        let result = result.and_then(|position| {
            assert_eq!(position, (acknowledged + 1).cast_unsigned());
            loop {
                match writer.sync() {
                    Err(error) if error.is_retryable() => {}
                    other => return other,
                }
            }
        });
        match result {
            Ok(synced) => {
                assert_eq!(synced, (acknowledged + 1).cast_unsigned());
                acknowledged += 1;
            }
            Err(error) => {
                assert!(
                    matches!(writer.append(&batch(0)), Err(JournalError::Poisoned { .. })),
                    "it refuses from then on"
                );
                assert!(matches!(writer.sync(), Err(JournalError::Poisoned { .. })));
                return (acknowledged, Some(error));
            }
        }
    }
    (acknowledged, None)
}

/// Enough for several segments.
const COUNT: i64 = 40;

/// Runs with the fault at each call until it no longer comes; calls `check` with what was acknowledged and the error.
fn at_every_call(fault: Fault, check: impl Fn(i64, Option<JournalError>, u32)) {
    for nth in 0.. {
        let dir = TempDir::new().unwrap();
        let disk = FaultyDisk::new(fault, nth);
        let (acknowledged, error) = run_with_fault(dir.path(), &disk, COUNT);
        if disk.hits() == 0 {
            assert!(nth > 40, "the run is long enough to mean something");
            return;
        }
        check(acknowledged, error, nth);
        // Everything acknowledged is there, in order, with its value.
        let (_, recovery) = open_unsynced(dir.path());
        assert!(recovery.last >= acknowledged.cast_unsigned(), "{fault:?} at {nth}: an acknowledged record is lost");
        assert!(recovery.last <= acknowledged.cast_unsigned() + 1);
        let found = numbers(dir.path());
        assert_eq!(found, (1..=recovery.last.cast_signed()).collect::<Vec<_>>(), "{fault:?} at {nth}");
    }
}

#[test]
fn rule_11_after_a_failed_sync_at_any_call_nothing_more_is_acknowledged() {
    at_every_call(Fault::Sync, |acknowledged, error, nth| {
        assert!(error.is_some(), "sync {nth}");
        assert!(acknowledged < COUNT);
    });
}

#[test]
fn rule_1_a_short_write_at_any_call_is_completed() {
    at_every_call(Fault::ShortWrite, |acknowledged, error, nth| {
        assert!(error.is_none(), "write {nth}: {error:?}");
        assert_eq!(acknowledged, COUNT);
    });
}

#[test]
fn rule_11_a_failed_write_at_any_call_is_never_acknowledged() {
    at_every_call(Fault::WriteIo, |acknowledged, error, nth| {
        // Only the small file that tells others may fail without a loss.
        assert!(error.is_some() || acknowledged == COUNT, "write {nth}");
    });
}

#[test]
fn rule_1_a_full_disk_at_any_call_delays_and_loses_nothing() {
    for calls in [1, 3] {
        at_every_call(Fault::Full(calls), |acknowledged, error, nth| {
            if let Some(error) = error {
                // At the opening nobody waits yet: the caller tries again.
                assert!(acknowledged == 0 && nth == 0, "write {nth}: {error:?}");
            } else {
                assert_eq!(acknowledged, COUNT);
            }
        });
    }
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
async fn rule_11_after_a_failed_sync_every_waiting_append_is_refused() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(Fault::Sync, 6);
    let (writer, _) = JournalWriter::open_on(Box::new(disk.clone()), options(dir.path())).unwrap();
    let handle = JournalHandle::spawn(writer, GroupSync { max_delay: Duration::ZERO, max_bytes: 1 }).unwrap();
    let mut acknowledged = 0;
    for i in 1..=20 {
        match handle.append(Arc::new(batch(i))).await {
            Ok(_) => acknowledged = i,
            Err(error) => assert!(matches!(error, JournalError::Poisoned { .. }), "{error}"),
        }
    }
    assert_eq!(disk.hits(), 1);
    assert!(acknowledged < 20);
    handle.close().await;
    let (_, recovery) = open(dir.path());
    assert!(recovery.last >= acknowledged.cast_unsigned());
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
    for name in ["segment-00000000000000000001.mlj", "synced"] {
        let (mut then, mut now) = (fs::read(fixture.join(name)).unwrap(), fs::read(made.path().join(name)).unwrap());
        if name != "synced" {
            // The time of making and the checksums that follow from it differ.
            then.drain(20..SEGMENT_HEADER);
            now.drain(20..SEGMENT_HEADER);
        }
        assert_eq!(then.len(), now.len(), "{name}");
    }
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
