//! The upkeep of a table: small files merged in order, checkpoints of its log, removal of what nobody refers to.
//!
//! While a month is open its small files are merged in steps; once it is over it is rewritten as a whole with stronger
//! compression. A rewrite keeps the order, never splits a meter between two files, merges exact repeats and nothing
//! else, and is refused when the sums of its rows do not agree with those that it replaces. It is one commit under a
//! transaction of its own: of two overlapping rewrites the second conflicts and leaves nothing.

mod merge;
mod tally;
mod upkeep;

use std::collections::BTreeMap;
use std::time::Duration;

use meterlake_model::{CivilDay, Timestamp, Zone};

use crate::compact::merge::merge;
use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::log::{AppStep, Change};
use crate::parquet_file::Effort;
use crate::table::{DataFile, maintenance_app};
use crate::write::{data_file, hash};

/// When to merge what.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    /// The present; `None`: by the machine's clock. Tells which months are over.
    pub now: Option<Timestamp>,
    /// Fewer small files than this of one partition stay as they are.
    pub min_files: usize,
    /// No more files than this are merged at once: each takes memory.
    pub max_inputs: usize,
    /// A file of at least this many bytes is not small, and a merged file ends at the first meter beyond it.
    pub target_bytes: usize,
    /// So long after its end a month is rewritten as a whole. Late readings are merged in again when they come.
    pub close_after: Duration,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            now: None,
            min_files: 4,
            max_inputs: 64,
            target_bytes: 128 << 20,
            close_after: Duration::from_secs(3 * 86_400),
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
        let mut report = CompactReport::default();
        for step in steps(&state.files, options) {
            // Reading and writing go on without the log, which others need meanwhile.
            let merged = merge(&store, &state, &step.files, step.effort, options.target_bytes).await?;
            let prefix = match step.effort {
                Effort::Open => "merged",
                Effort::Closed => "closed",
            };
            let mut change = Change { operation: "OPTIMIZE", data_change: false, ..Change::default() };
            let mut log = self.locked(table).await?;
            for file in merged.files {
                let (directory, partition) = (directory(&step.files), partition(&step.files));
                let path = format!("{directory}{prefix}-{}.parquet", hash(&file.bytes));
                put_file(&log, &path, file.bytes.clone()).await?;
                change.add.push(data_file(path, partition, file));
            }
            change.remove = step.files.iter().map(|f| f.path.clone()).collect();
            let after = before.unwrap_or(0) + 1;
            change.transaction = Some(AppStep { app: app.clone(), before, after });
            log.commit(&change).await?;
            before = Some(after);
            report.removed_files += change.remove.len();
            report.added_files += change.add.len();
            report.rows += change.add.iter().map(|f| f.rows).sum::<u64>();
            report.repeats += merged.repeats;
            report.bytes_before += step.files.iter().map(|f| f.size).sum::<u64>();
            report.bytes_after += change.add.iter().map(|f| f.size).sum::<u64>();
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
    partitions.into_values().filter_map(|files| step(&files, options, now)).collect()
}

fn step(files: &[&DataFile], options: &CompactOptions, now: Timestamp) -> Option<Step> {
    // A derived partition is one file that its owner replaces.
    if files.iter().any(|f| is_named(f, "whole-")) {
        return None;
    }
    let ended = files.first()?.partition_value("month").and_then(end_of_month);
    let close_after = i64::try_from(options.close_after.as_secs()).unwrap_or(i64::MAX);
    let over = ended.is_some_and(|end| end.plus_seconds(close_after) <= now);
    let most = options.max_inputs.max(2);
    if over && files.iter().all(|f| is_named(f, "closed-")) {
        return None;
    }
    if over && files.len() <= most {
        return Some(Step { files: files.iter().map(|f| (*f).clone()).collect(), effort: Effort::Closed });
    }
    let small = |f: &&&DataFile| usize::try_from(f.size).is_ok_and(|size| size < options.target_bytes);
    let mut small: Vec<DataFile> = files.iter().filter(small).map(|f| (**f).clone()).collect();
    if small.len() < options.min_files.max(2) {
        return None;
    }
    // The smallest first, so that a merged file is not merged again with every new one.
    small.sort_by(|a, b| (a.size, &a.path).cmp(&(b.size, &b.path)));
    small.truncate(most);
    small.sort_by(|a, b| a.path.cmp(&b.path));
    Some(Step { files: small, effort: Effort::Open })
}

fn is_named(file: &DataFile, prefix: &str) -> bool {
    file.path.rsplit('/').next().is_some_and(|name| name.starts_with(prefix))
}

fn end_of_month(month: &str) -> Option<Timestamp> {
    let first = CivilDay::parse(&format!("{month}-01")).ok()?;
    Some(Zone::utc().start_of_day(first.plus_months(1)))
}

fn directory(files: &[DataFile]) -> String {
    let path = files.first().map_or("", |f| f.path.as_str());
    path.rsplit_once('/').map_or_else(String::new, |(directory, _)| format!("{directory}/"))
}

fn partition(files: &[DataFile]) -> Vec<(String, Option<String>)> {
    files.first().map(|f| f.partition.clone()).unwrap_or_default()
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
    fn small_files_of_an_open_month_are_merged_the_smallest_first() {
        let (a, b, c, d) =
            ("month=2026-11/fresh-a", "month=2026-11/fresh-b", "month=2026-11/merged-c", "month=2026-11/fresh-d");
        check(&[(a, 1)], "2026-11-20T00:00:00Z", &[]);
        check(&[(a, 1), (c, 200)], "2026-11-20T00:00:00Z", &[]);
        check(&[(a, 1), (b, 1), (c, 90), (d, 1)], "2026-11-20T00:00:00Z", &[(&[a, b, d], Effort::Open)]);
    }

    #[test]
    fn a_month_is_closed_once_and_again_when_late_readings_come() {
        let (a, closed) = ("month=2026-10/fresh-a", "month=2026-10/closed-b");
        check(&[(a, 1)], "2026-11-03T23:59:59Z", &[]);
        check(&[(a, 1)], "2026-11-04T00:00:00Z", &[(&[a], Effort::Closed)]);
        check(&[(closed, 1)], "2026-12-04T00:00:00Z", &[]);
        check(&[(closed, 1), (a, 1)], "2026-12-04T00:00:00Z", &[(&[closed, a], Effort::Closed)]);
    }

    #[test]
    fn derived_partitions_are_left_to_their_owner() {
        check(&[("month=2026-10/whole-a", 1), ("month=2026-10/whole-b", 1)], "2026-12-04T00:00:00Z", &[]);
    }
}
