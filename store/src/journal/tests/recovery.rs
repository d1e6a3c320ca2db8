//! Every damage: cut at each byte, each bit flipped, segments missing or half made.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;

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

/// Every n-th of a number of cases: a few in a usual run, all with `METERLAKE_LONG=1`.
fn every(usual: usize) -> usize {
    if std::env::var_os("METERLAKE_LONG").is_some() { 1 } else { usual }
}

/// A journal of one segment whose records take more than 64 KiB, and where each ends.
fn long_log() -> (TempDir, std::path::PathBuf, Vec<u64>) {
    let dir = TempDir::new().unwrap();
    let options = JournalOptions { segment_bytes: 128 << 10, ..JournalOptions::new(dir.path()) };
    let (mut writer, _) = JournalWriter::open_on(Box::new(FaultyDisk::sound()), options).unwrap();
    for i in 0..1_000 {
        writer.append(&batch(i)).unwrap();
    }
    writer.sync().unwrap();
    let file = newest_segment(dir.path());
    let ends = record_ends(&file);
    assert!(ends.last().unwrap() - SEGMENT_HEADER as u64 > 65_536);
    (dir, file, ends)
}

/// Whole records that a scan finds before the end or the damage.
fn whole_records(dir: &Path) -> usize {
    let mut scanner = segment::Scanner::open(dir, 1).unwrap();
    let mut count = 0;
    while matches!(scanner.step().unwrap(), segment::Step::Record { .. }) {
        count += 1;
    }
    count
}

#[test]
fn rule_1_a_log_cut_at_any_of_its_last_65536_bytes_keeps_every_whole_record() {
    let (dir, file, ends) = long_log();
    let last = *ends.last().unwrap();
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    // From the end backwards, so that the file is only ever cut further.
    for cut in (last - 65_536..=last).rev().step_by(every(61)) {
        handle.set_len(cut).unwrap();
        let whole = ends.partition_point(|end| *end <= cut);
        assert_eq!(whole_records(dir.path()), whole, "cut at {cut}");
    }
}

#[test]
fn rule_1_each_flipped_bit_of_the_last_4_kib_is_noticed() {
    let (dir, file, ends) = long_log();
    let bytes = fs::read(&file).unwrap();
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    let last = usize::try_from(*ends.last().unwrap()).unwrap();
    for bit in ((last - 4096) * 8..last * 8).step_by(every(37)) {
        let at = bit / 8;
        handle.write_all_at(&[bytes[at] ^ (1 << (bit % 8))], at as u64).unwrap();
        let whole = ends.partition_point(|end| *end <= at as u64);
        assert_eq!(whole_records(dir.path()), whole, "bit {bit}");
        handle.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert_eq!(whole_records(dir.path()), ends.len());
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
