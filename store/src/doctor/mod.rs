//! What is wrong with a lake and its journal, in words, with the repair. Called before a collector starts.
//!
//! It reads and judges; only [`mend`] changes something, and never by deleting: what it takes away lies beside.
//!
//! | found | meaning |
//! |---|---|
//! | an empty, torn or missing commit, an unreadable checkpoint | the log's tail was lost with the power |
//! | a file that the log names is missing or has another size | rows are lost |
//! | a table that is ahead of the journal, or behind what the journal keeps | records are lost |
//! | a segment that does not verify | the journal is damaged |
//! | files that no log names | left behind by an interrupted write or by a rewrite |

mod log;
mod mend;
mod remote;

use std::fmt;
use std::path::Path;

use crate::journal::{JournalError, JournalReader};
use crate::lake::Lake;
use crate::schema;
use crate::table::TableSnapshot;

pub use mend::{MendError, Mended, mend};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing to do.
    Note,
    /// Something to look at; nothing is lost by going on.
    Warning,
    /// Going on would lose or double rows.
    Unsafe,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unsafe => "unsafe",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Table, file or folder.
    pub subject: String,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub repair: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.subject, self.message)?;
        if self.repair.is_empty() { Ok(()) } else { write!(f, "; {}", self.repair) }
    }
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What a start depends on: logs, sizes of files, positions, the newest segment.
    Start,
    /// Every record of the journal and every file in the folders besides.
    Whole,
}

/// Looks at every table and the journal. The worst comes first; nothing found is a healthy lake.
pub async fn examine(lake: &Path, journal: &Path, depth: Depth) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut snapshots = Vec::new();
    if lake.is_dir() {
        match Lake::open(lake) {
            Ok(lake) => snapshots = log::examine_tables(&lake, depth, &mut findings).await,
            Err(e) => findings.push(unsafe_(lake.display(), e, "see that the folder can be read and written")),
        }
    }
    examine_journal(journal, &snapshots, depth, &mut findings);
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.subject.cmp(&b.subject)));
    findings
}

/// As [`examine`], of a lake that may be on an object store.
pub async fn examine_lake(lake: &Lake, journal: &Path, depth: Depth) -> Vec<Finding> {
    if let Some(root) = lake.local_root() {
        return examine(root, journal, depth).await;
    }
    let mut findings = Vec::new();
    let snapshots = remote::examine_tables(lake, depth, &mut findings).await;
    examine_journal(journal, &snapshots, depth, &mut findings);
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.subject.cmp(&b.subject)));
    findings
}

/// The first finding that forbids a start.
pub fn refusal(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|f| f.severity == Severity::Unsafe)
}

fn unsafe_(subject: impl ToString, message: impl ToString, repair: impl ToString) -> Finding {
    finding(Severity::Unsafe, subject, message, repair)
}

fn finding(severity: Severity, subject: impl ToString, message: impl ToString, repair: impl ToString) -> Finding {
    Finding { severity, subject: subject.to_string(), message: message.to_string(), repair: repair.to_string() }
}

fn examine_journal(dir: &Path, snapshots: &[TableSnapshot], depth: Depth, findings: &mut Vec<Finding>) {
    let reader = JournalReader::open(dir);
    let damaged = |error: JournalError| {
        let repair =
            "restore the segment from a copy, or set the journal's folder aside once every table is at its end";
        unsafe_(dir.display(), error, repair)
    };
    let (oldest, written, synced) = match (reader.oldest(), reader.written(), reader.synced()) {
        (Ok(oldest), Ok(written), Ok(synced)) => (oldest, written, synced),
        (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => return findings.push(damaged(e)),
    };
    if synced > written {
        let message = format!("position {synced} was synced and the newest readable record is {written}");
        findings.push(unsafe_(dir.display(), message, "restore the newest segment from a copy"));
    }
    if depth == Depth::Whole
        && let Err(e) = reader.verify()
    {
        findings.push(damaged(e));
    }
    let collected = schema::collected();
    for table in snapshots.iter().filter(|s| collected.iter().any(|spec| spec.name == s.name)) {
        let position = table.journal_position();
        if position > written {
            let message = format!("it holds the journal up to {position}, and the journal ends at {written}");
            let repair = "the journal was lost or is another one's: put the right one back, or run `doctor --mend` to \
                          start a new one behind the tables";
            findings.push(unsafe_(&table.name, message, repair));
        }
        if let Some(oldest) = oldest.filter(|oldest| *oldest > position + 1 && *oldest <= written) {
            let message = format!("it holds the journal up to {position}, and the journal keeps {oldest} onwards");
            let repair = "bring the missing segments back from a copy; without them the rows between are lost";
            findings.push(unsafe_(&table.name, message, repair));
        }
    }
}
