//! `[collect]`: when readings become durable and visible.

use std::path::PathBuf;
use std::time::Duration;

use super::Surroundings;
use crate::document::Section;
use crate::quantity::{DAY, GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND};

/// The collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectConfig {
    /// Names the collector in the `source` of its rows and in its client ids.
    pub name: String,
    /// Folder of the journal, on a local disk.
    pub journal: PathBuf,
    /// Bytes reserved for one file of the journal.
    pub segment_bytes: u64,
    /// How long a file of the journal stays after its rows are durable in every table (design.md §5, rule 1).
    pub journal_keep: Duration,
    /// The most bytes of such files; the oldest go first.
    pub journal_keep_bytes: u64,
    /// A sync waits so long for company; zero: it takes what has queued up.
    pub sync_delay: Duration,
    /// A sync takes place at the latest at so many bytes.
    pub sync_bytes: u64,
    /// Rows are committed to the tables at the latest after this.
    pub commit_interval: Duration,
    /// … or at so many rows.
    pub commit_rows: u64,
    /// … or at so many bytes.
    pub commit_bytes: u64,
    /// Deliveries that wait between the collectors and the journal.
    pub queue: usize,
}

impl Default for CollectConfig {
    fn default() -> Self {
        Self {
            name: "collector".to_owned(),
            journal: "journal".into(),
            segment_bytes: 64 * MIB,
            journal_keep: 24 * HOUR,
            journal_keep_bytes: 8 * GIB,
            sync_delay: MILLISECOND,
            sync_bytes: MIB,
            commit_interval: 15 * SECOND,
            commit_rows: 1_000_000,
            commit_bytes: 64 * MIB,
            queue: 1024,
        }
    }
}

impl CollectConfig {
    pub(super) fn read(mut section: Section<'_>, around: &Surroundings<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        Self {
            name: s.parsed("name", plain_name).unwrap_or(default.name),
            journal: around.base_dir.join(s.text("journal").map_or(default.journal, PathBuf::from)),
            segment_bytes: s.bytes("segment_bytes", MIB..=GIB).unwrap_or(default.segment_bytes),
            journal_keep: s.duration("journal_keep", HOUR..=400 * DAY).unwrap_or(default.journal_keep),
            journal_keep_bytes: s
                .bytes("journal_keep_bytes", 64 * MIB..=1024 * GIB)
                .unwrap_or(default.journal_keep_bytes),
            sync_delay: s.duration("sync_delay", Duration::ZERO..=SECOND).unwrap_or(default.sync_delay),
            sync_bytes: s.bytes("sync_bytes", 4 * KIB..=64 * MIB).unwrap_or(default.sync_bytes),
            commit_interval: s.duration("commit_interval", SECOND..=15 * MINUTE).unwrap_or(default.commit_interval),
            commit_rows: s.integer("commit_rows", 1_000..=100_000_000_u64).unwrap_or(default.commit_rows),
            commit_bytes: s.bytes("commit_bytes", MIB..=4 * GIB).unwrap_or(default.commit_bytes),
            queue: s.integer("queue", 1..=1_000_000_usize).unwrap_or(default.queue),
        }
    }
}

/// Names that go into topics, client ids and rows.
pub(super) fn plain_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(format!("is \"{text}\"; 1 to 64 letters, digits, `-`, `_` or `.` are wanted"));
    }
    Ok(text.to_owned())
}
