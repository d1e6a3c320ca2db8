//! The journal's synced records, through everything that may happen to it meanwhile: the next segment, a collector that
//! ends and starts again, segments released before they were read, a journal begun anew.

use std::path::Path;

use meterlake_model::ReadingBatch;
use meterlake_store::journal::{JournalError, JournalReader, Tail};

/// What following the journal brings.
pub(super) enum Next {
    /// A record and its position.
    Record(u64, Box<ReadingBatch>),
    /// Something that the person should know; following goes on.
    Told(String),
    /// Nothing now.
    Nothing,
}

/// How often a record that does not verify is looked at again: a mend may be under way.
const LOOKS: u32 = 20;

/// Follows a journal that another process writes.
pub(super) struct Follower {
    reader: JournalReader,
    tail: Tail,
    failed_looks: u32,
}

impl Follower {
    /// From a position on (0: the oldest that is kept), or from what comes next.
    ///
    /// # Errors
    /// When the journal's folder cannot be read. It may be absent yet.
    pub(super) fn open(journal: &Path, from: Option<u64>) -> Result<Self, JournalError> {
        let reader = JournalReader::open(journal);
        let next = reader.synced()? + 1;
        let oldest = reader.oldest()?.unwrap_or(next);
        let tail = reader.tail(from.map_or(next, |from| from.max(oldest)));
        Ok(Self { reader, tail, failed_looks: 0 })
    }

    /// The position that is read next.
    pub(super) fn position(&self) -> u64 {
        self.tail.position()
    }

    /// The newest position that is on disk.
    ///
    /// # Errors
    /// When the file that tells cannot be read.
    pub(super) fn synced(&self) -> Result<u64, JournalError> {
        self.reader.synced()
    }

    /// The next record, if there is one.
    ///
    /// # Errors
    /// When the journal cannot be read, or stays damaged.
    pub(super) fn next(&mut self) -> Result<Next, JournalError> {
        let position = self.tail.position();
        match self.tail.next_record() {
            Ok(Some((position, batch))) => {
                self.failed_looks = 0;
                Ok(Next::Record(position, Box::new(batch)))
            }
            Ok(None) => self.begun_anew(position),
            Err(JournalError::Undecodable { position, reason }) => {
                self.tail = self.reader.tail(position + 1);
                Ok(Next::Told(format!("record {position} is passed over: {reason}")))
            }
            Err(error) => self.resume(position, error),
        }
    }

    /// Whether there is nothing new because the journal is another one now.
    fn begun_anew(&mut self, position: u64) -> Result<Next, JournalError> {
        let synced = self.reader.synced()?;
        if synced + 1 >= position {
            return Ok(Next::Nothing);
        }
        self.tail = self.reader.tail(synced + 1);
        Ok(Next::Told(format!("the journal was begun anew: going on from position {}", synced + 1)))
    }

    /// After an error: behind what was released, or at the same place once more.
    fn resume(&mut self, position: u64, error: JournalError) -> Result<Next, JournalError> {
        let oldest = self.reader.oldest()?;
        if let Some(oldest) = oldest.filter(|oldest| *oldest > position) {
            self.tail = self.reader.tail(oldest);
            let missed = oldest - position;
            return Ok(Next::Told(format!(
                "{missed} records before position {oldest} were released before they were read"
            )));
        }
        self.failed_looks += 1;
        if self.failed_looks > LOOKS {
            return Err(error);
        }
        self.tail = self.reader.tail(position);
        Ok(Next::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use meterlake_model::{MeterEvent, MeterId, Timestamp};
    use meterlake_store::journal::{JournalOptions, JournalWriter};

    use super::*;

    fn batch(detail: &str) -> ReadingBatch {
        let event = MeterEvent {
            meter_id: MeterId::new("E-1").unwrap(),
            ts: Timestamp::from_unix_seconds(0).unwrap(),
            kind: meterlake_model::EventKind::Fault,
            detail: detail.into(),
            received_at_s: 0,
            source: "test".into(),
        };
        ReadingBatch { events: vec![event], ..ReadingBatch::default() }
    }

    fn options(dir: &Path) -> JournalOptions {
        // A segment holds a few records only.
        JournalOptions { dir: dir.to_owned(), segment_bytes: 4096, keep: Duration::ZERO, keep_bytes: 0 }
    }

    fn write(writer: &mut JournalWriter, numbers: std::ops::Range<u32>) {
        let mut state = 7_u32;
        for number in numbers {
            // Text that does not compress, so that segments fill.
            let detail = (0..700).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from_digit(state >> 27, 36).unwrap()
            });
            writer.append(&batch(&format!("{number} {}", detail.collect::<String>()))).unwrap();
            writer.sync().unwrap();
        }
    }

    /// The numbers of the records that are there, and what was told.
    fn read(follower: &mut Follower) -> (Vec<u32>, Vec<String>) {
        let (mut numbers, mut told, mut idle) = (Vec::new(), Vec::new(), 0);
        while idle < 3 {
            match follower.next().unwrap() {
                Next::Record(_, batch) => {
                    numbers.push(batch.events[0].detail.split(' ').next().unwrap().parse().unwrap());
                }
                Next::Told(what) => told.push(what),
                Next::Nothing => idle += 1,
            }
        }
        (numbers, told)
    }

    #[test]
    fn records_are_followed_across_segments_and_a_writer_that_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = Follower::open(dir.path(), None).unwrap();
        assert_eq!(read(&mut follower), (vec![], vec![]), "no journal yet");
        let (mut writer, _) = JournalWriter::open(options(dir.path())).unwrap();
        write(&mut writer, 0..20);
        assert_eq!(read(&mut follower).0, (0..20).collect::<Vec<_>>());
        assert!(std::fs::read_dir(dir.path()).unwrap().count() > 4, "several segments");
        drop(writer);
        assert_eq!(read(&mut follower).0, [0_u32; 0]);
        let (mut writer, _) = JournalWriter::open(options(dir.path())).unwrap();
        write(&mut writer, 20..40);
        assert_eq!(read(&mut follower), ((20..40).collect(), vec![]));
        let mut late = Follower::open(dir.path(), None).unwrap();
        assert_eq!(read(&mut late).0, [0_u32; 0], "what was before is not shown");
        let mut all = Follower::open(dir.path(), Some(0)).unwrap();
        assert_eq!(read(&mut all).0, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn released_records_are_named_and_following_goes_on_behind_them() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = JournalWriter::open(options(dir.path())).unwrap();
        write(&mut writer, 0..5);
        let mut follower = Follower::open(dir.path(), Some(2)).unwrap();
        assert!(matches!(follower.next().unwrap(), Next::Record(2, _)));
        write(&mut writer, 5..40);
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(writer.release(30, later).unwrap() > 0);
        let (numbers, told) = read(&mut follower);
        let first = writer.oldest();
        assert!(first > 3 && told.len() == 1 && told[0].contains(&format!("before position {first} ")), "{told:?}");
        assert!(numbers.ends_with(&(u32::try_from(first).unwrap() - 1..40).collect::<Vec<_>>()), "{numbers:?}");
    }

    #[test]
    fn a_journal_begun_anew_is_followed_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = JournalWriter::open(options(dir.path())).unwrap();
        write(&mut writer, 0..10);
        let mut follower = Follower::open(dir.path(), None).unwrap();
        drop(writer);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let (mut writer, _) = JournalWriter::open(options(dir.path())).unwrap();
        let (_, told) = read(&mut follower);
        assert!(told.iter().any(|what| what.contains("begun anew")), "{told:?}");
        write(&mut writer, 3..6);
        assert_eq!(read(&mut follower).0, [3, 4, 5]);
    }
}
