//! The upkeep of a table: small files merged in order, checkpoints of its log, removal of what nobody refers to.
//!
//! While a month is open its small files are merged in steps; once it is over it is rewritten as a whole with stronger
//! compression. A rewrite keeps the order, never splits a meter between two files, merges exact repeats and nothing
//! else, and is refused when the sums of its rows do not agree with those that it replaces. It is one commit under a
//! transaction of its own: of two overlapping rewrites the second conflicts and leaves nothing.

mod merge;
mod tally;
pub(crate) mod upkeep;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meterlake_model::{CivilDay, Timestamp, Zone};

use crate::compact::merge::merge;
use crate::error::StoreError;
use crate::lake::Lake;
use crate::log::{AppStep, Change};
use crate::parquet_file::Effort;
use crate::table::{DataFile, maintenance_app};

/// Files are of like size when their sizes differ by less than this factor.
const TIER: u64 = 4;
/// A closed month is closed again when what came late is at least this part of it: one eighth.
const LATE_SHARE: u64 = 8;
/// And in any case so many times [`CompactOptions::close_after`] after its end.
const LAST_CLOSE: i64 = 10;
/// Between two merges.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// When to merge what.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    /// The present; `None`: by the machine's clock. Tells which months are over.
    pub now: Option<Timestamp>,
    /// Fewer files of like size than this, of one partition, stay as they are.
    pub min_files: usize,
    /// No more files than this are merged at once: each takes memory.
    pub max_inputs: usize,
    /// A file of at least this many bytes is not small, and a merged file ends at the first meter beyond it.
    pub target_bytes: usize,
    /// So long after its end a month is rewritten as a whole. Late readings are merged in again when they come.
    pub close_after: Duration,
    /// While readings come in, so many times as long as a merge took it rests before the next one; at most a minute.
    pub rest: u32,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            now: None,
            min_files: 4,
            max_inputs: 64,
            target_bytes: 128 << 20,
            close_after: Duration::from_secs(3 * 86_400),
            rest: 1,
        }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Files that are no longer in the table.
    pub removed_files: usize,
    /// Files in their stead.
    pub added_files: usize,
    /// Rows of the added files.
    pub rows: u64,
    /// Exact repeats that were merged.
    pub repeats: u64,
    /// Bytes of the removed files.
    pub bytes_before: u64,
    /// Bytes of the added files.
    pub bytes_after: u64,
}

/// Files of one partition that become fewer.
struct Step {
    files: Vec<DataFile>,
    effort: Effort,
}

impl Lake {
    /// Merges small files of a table, one commit for each partition that has some.
    ///
    /// # Errors
    /// `Refused` when the sums do not agree; `Conflict` when another process rewrote the table meanwhile. In both cases
    /// the table is as it was before the partition concerned.
    pub async fn compact(&self, table: &str, options: &CompactOptions) -> Result<CompactReport, StoreError> {
        let state = self.snapshot(table).await?;
        let store = self.locked(table).await?.store().clone();
        let app = maintenance_app(table);
        let mut before = state.transactions.get(&app).copied();
        let mut position = state.journal_position();
        let mut report = CompactReport::default();
        for step in steps(&state.files, options) {
            let began = Instant::now();
            // Reading and writing go on without the log, which others need meanwhile.
            let merged = merge(&store, &state, &step.files, step.effort, options.target_bytes).await?;
            let mut change = Change { operation: "OPTIMIZE", data_change: false, ..Change::default() };
            change.add = merged.files;
            let mut log = self.locked(table).await?;
            change.remove = step.files.iter().map(|f| f.path.clone()).collect();
            let after = before.unwrap_or(0) + 1;
            change.transaction = Some(AppStep { app: app.clone(), before, after });
            log.commit(&change).await?;
            let is_fed = log.state().journal_position() > position;
            position = log.state().journal_position();
            drop(log);
            before = Some(after);
            report.removed_files += change.remove.len();
            report.added_files += change.add.len();
            report.rows += change.add.iter().map(|f| f.rows).sum::<u64>();
            report.repeats += merged.repeats;
            report.bytes_before += step.files.iter().map(|f| f.size).sum::<u64>();
            report.bytes_after += change.add.iter().map(|f| f.size).sum::<u64>();
            if is_fed {
                // Whoever collects on this machine has the cores for as long.
                tokio::time::sleep(began.elapsed().saturating_mul(options.rest).min(LONGEST_REST)).await;
            }
        }
        Ok(report)
    }
}

fn steps(files: &[DataFile], options: &CompactOptions) -> Vec<Step> {
    let now = options.now.unwrap_or_else(Timestamp::now);
    let mut partitions: BTreeMap<&str, Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        partitions.entry(directory).or_default().push(file);
    }
    partitions.into_values().flat_map(|files| partition_steps(&files, options, now)).collect()
}

fn partition_steps(files: &[&DataFile], options: &CompactOptions, now: Timestamp) -> Vec<Step> {
    // A derived partition is one file that its owner replaces.
    if files.iter().any(|f| is_named(f, "whole-")) {
        return Vec::new();
    }
    let (closed, open): (Vec<&DataFile>, Vec<&DataFile>) = files.iter().partition(|f| is_named(f, "closed-"));
    if open.is_empty() {
        return Vec::new();
    }
    let all_may_be_closed = files.len() <= options.max_inputs.max(2);
    if all_may_be_closed && is_to_be_closed(&closed, &open, options, now) {
        return vec![Step { files: files.iter().map(|f| (*f).clone()).collect(), effort: Effort::Closed }];
    }
    merge_tiers(&open, options)
}

/// A month that is over is rewritten as a whole, and again once it is worth it for what came late.
fn is_to_be_closed(closed: &[&DataFile], open: &[&DataFile], options: &CompactOptions, now: Timestamp) -> bool {
    let Some(end) = open.first().and_then(|f| f.partition_value("month")).and_then(end_of_month) else { return false };
    let close_after = i64::try_from(options.close_after.as_secs()).unwrap_or(i64::MAX);
    let over_since = |times: i64| end.plus_seconds(close_after.saturating_mul(times)) <= now;
    let bytes = |files: &[&DataFile]| files.iter().map(|f| f.size).sum::<u64>();
    let worth_it = bytes(open).saturating_mul(LATE_SHARE) >= bytes(closed);
    over_since(1) && (worth_it || over_since(LAST_CLOSE))
}

/// Files of like size are merged with each other, so that a row is rewritten once for each step in size and not with
/// every new file.
fn merge_tiers(open: &[&DataFile], options: &CompactOptions) -> Vec<Step> {
    let mut tiers: BTreeMap<u32, Vec<DataFile>> = BTreeMap::new();
    for file in open {
        if usize::try_from(file.size).is_ok_and(|size| size < options.target_bytes) {
            tiers.entry(file.size.checked_ilog(TIER).unwrap_or(0)).or_default().push((*file).clone());
        }
    }
    let chunks = tiers.into_values().flat_map(|files| {
        let chunks: Vec<_> = files.chunks(options.max_inputs.max(2)).map(<[DataFile]>::to_vec).collect();
        chunks
    });
    let enough = chunks.filter(|files| files.len() >= options.min_files.max(2));
    enough.map(|files| Step { files, effort: Effort::Open }).collect()
}

fn is_named(file: &DataFile, prefix: &str) -> bool {
    file.path.rsplit('/').next().is_some_and(|name| name.starts_with(prefix))
}

fn end_of_month(month: &str) -> Option<Timestamp> {
    let first = CivilDay::parse(&format!("{month}-01")).ok()?;
    Some(Zone::utc().start_of_day(first.plus_months(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> DataFile {
        let month = path.strip_prefix("month=").and_then(|p| p.split_once('/')).map(|(m, _)| m.to_owned());
        DataFile {
            path: path.into(),
            size,
            rows: 1,
            partition: vec![("month".into(), month)],
            columns: BTreeMap::new(),
        }
    }

    fn check(files: &[(&str, u64)], now: &str, expected: &[(&[&str], Effort)]) {
        let files: Vec<_> = files.iter().map(|(path, size)| file(path, *size)).collect();
        let options = CompactOptions {
            now: Some(Timestamp::parse_rfc3339(now).unwrap()),
            min_files: 2,
            max_inputs: 3,
            target_bytes: 100,
            ..CompactOptions::default()
        };
        let found: Vec<_> = steps(&files, &options)
            .into_iter()
            .map(|s| (s.files.into_iter().map(|f| f.path).collect::<Vec<_>>(), s.effort))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(f, e)| (f.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), *e)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn files_of_like_size_are_merged_while_a_month_is_open() {
        let now = "2026-11-20T00:00:00Z";
        let path = |name: &str| format!("month=2026-11/{name}");
        let [a, b, c, d, e] = ["fresh-a", "fresh-b", "merged-c", "fresh-d", "merged-e"].map(path);
        check(&[(&a, 1)], now, &[]);
        check(&[(&a, 1), (&c, 200)], now, &[]);
        check(&[(&a, 1), (&b, 2), (&c, 90), (&d, 3)], now, &[(&[&a, &b, &d], Effort::Open)]);
        check(&[(&a, 1), (&b, 2), (&c, 70), (&e, 90)], now, &[(&[&a, &b], Effort::Open), (&[&c, &e], Effort::Open)]);
        check(
            &[(&a, 1), (&b, 1), (&c, 1), (&d, 1), (&e, 1)],
            now,
            &[(&[&a, &b, &c], Effort::Open), (&[&d, &e], Effort::Open)],
        );
    }

    #[test]
    fn a_month_is_closed_once_and_again_when_it_is_worth_it_or_at_last() {
        let (a, b, closed) = ("month=2026-10/fresh-a", "month=2026-10/fresh-b", "month=2026-10/closed-c");
        check(&[(a, 1)], "2026-11-03T23:59:59Z", &[]);
        check(&[(a, 1)], "2026-11-04T00:00:00Z", &[(&[a], Effort::Closed)]);
        check(&[(closed, 1)], "2026-12-04T00:00:00Z", &[]);
        check(&[(a, 10), (closed, 80)], "2026-11-05T00:00:00Z", &[(&[a, closed], Effort::Closed)]);
        check(&[(a, 4), (b, 5), (closed, 80)], "2026-11-05T00:00:00Z", &[(&[a, b], Effort::Open)]);
        check(&[(a, 1), (closed, 80)], "2026-11-05T00:00:00Z", &[]);
        check(&[(a, 1), (closed, 80)], "2026-12-01T00:00:00Z", &[(&[a, closed], Effort::Closed)]);
    }

    #[test]
    fn derived_partitions_are_left_to_their_owner() {
        check(&[("month=2026-10/whole-a", 1), ("month=2026-10/whole-b", 1)], "2026-12-04T00:00:00Z", &[]);
    }
}
