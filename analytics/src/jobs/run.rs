//! One run: what it is pinned to at its start, what it hands over at its end, and its line in `job_runs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col, lit};
use futures::TryStreamExt;
use meterlake_model::registry::Registry;
use meterlake_model::{CivilDay, Commodity, Timestamp, UsagePointId, month_key};
use meterlake_store::life::Erasure;
use meterlake_store::query::{LakeSession, ReadOptions};
use meterlake_store::schema::readings_name;
use meterlake_store::{Lake, PartitionKey, StoreError, TableSpec};
use sha2::{Digest, Sha256};

use super::derive::UsageDerivePlanner;
use super::{Job, JobError, JobOptions, JobReport};
use crate::alerts::hex;
use crate::book::BookError;
use crate::rules::Rules;
use crate::tables::write::Columns;
use crate::tables::{self, ONLY_BUCKET};

/// Readings that are not in the tables, and whose bills are computed as if they were.
#[derive(Debug, Clone, Default)]
pub struct WhatIf {
    /// Rows by table, in its columns and order, with a `commit_seq` that the run's pin lets pass.
    pub rows: BTreeMap<String, RecordBatch>,
    /// The usage points that are looked at; `None`: all.
    pub points: Option<BTreeSet<UsagePointId>>,
}

/// A run that has begun: its inputs no longer change.
pub(super) struct Run<'a> {
    pub(super) lake: &'a Lake,
    pub(super) job: Job,
    pub(super) options: &'a JobOptions,
    pub(super) rules: Arc<Rules>,
    pub(super) registry: Arc<Registry>,
    /// Only rows of this commit and earlier ones are read.
    pub(super) commit_seq: i64,
    /// The only usage points that are looked at.
    pub(super) points: Option<BTreeSet<UsagePointId>>,
    /// Committed rows up to the pin, over the table versions of the start.
    session: LakeSession,
    started: Instant,
    started_at: Timestamp,
}

/// What a job derived, already in its tables.
#[derive(Default)]
pub(super) struct Output {
    /// Input tables with the version that was read.
    pub(super) inputs: BTreeMap<String, i64>,
    pub(super) rows_read: u64,
    /// Rows derived by table.
    pub(super) tables: BTreeMap<&'static str, u64>,
    pub(super) partitions: usize,
    pub(super) partitions_changed: usize,
    pub(super) spans: u64,
    pub(super) findings: u64,
    pub(super) summary: String,
    /// The first day derived, where that is before the asked ones.
    pub(super) first_day: Option<CivilDay>,
    /// The last event of people that it went by.
    pub(super) events: Option<i64>,
    /// Hash of its rows, where a rerun is compared with it.
    pub(super) output_hash: Option<String>,
}

impl<'a> Run<'a> {
    pub(super) async fn begin(lake: &'a Lake, job: Job, options: &'a JobOptions) -> Result<Self, JobError> {
        Self::begin_if(lake, job, options, WhatIf::default()).await
    }

    /// As [`Self::begin`], as if the tables held more rows.
    pub(super) async fn begin_if(
        lake: &'a Lake,
        job: Job,
        options: &'a JobOptions,
        what_if: WhatIf,
    ) -> Result<Self, JobError> {
        let (started, started_at) = (Instant::now(), Timestamp::now());
        if options.from >= options.to {
            return Err(JobError::NoDays { from: options.from, to: options.to });
        }
        let registry = match lake.read_registry(options.registry_revision).await {
            Ok(registry) if registry.revision > 0 => registry,
            Ok(_) | Err(StoreError::NoTable(_)) => return Err(JobError::NoRegistry),
            Err(e) => return Err(e.into()),
        };
        let commit_seq = match options.commit_seq {
            Some(pin) => pin,
            None => newest_commit(lake).await?,
        };
        let read = ReadOptions {
            commit_seq: Some(commit_seq),
            what_if: what_if.rows,
            planners: vec![Arc::new(UsageDerivePlanner)],
            calendars: Arc::new(options.rules.calendars.clone()),
            ..ReadOptions::default()
        };
        let session = lake.open_session(read).await?;
        let (rules, registry) = (Arc::new(options.rules.clone()), Arc::new(registry));
        let points = what_if.points;
        Ok(Self { lake, job, options, rules, registry, commit_seq, points, session, started, started_at })
    }

    /// The session over what the run is pinned to.
    pub(super) fn session(&self) -> &SessionContext {
        &self.session.context
    }

    /// Whether it goes by all that is there: a run that is pinned to what was adds nothing to the ledger.
    pub(super) fn is_fresh(&self) -> bool {
        let JobOptions { commit_seq, registry_revision, events, .. } = self.options;
        commit_seq.is_none() && registry_revision.is_none() && events.is_none()
    }

    /// Whether a usage point is looked at.
    pub(super) fn looks_at(&self, point: &UsagePointId) -> bool {
        self.points.as_ref().is_none_or(|points| points.contains(point))
    }

    /// Whether a table was there at the start.
    pub(super) fn has(&self, table: &str) -> bool {
        self.session.versions.contains_key(table)
    }

    /// Notes a table as an input; `None` when it is not there.
    pub(super) fn reads(&self, table: &str, output: &mut Output) -> Option<i64> {
        let version = *self.session.versions.get(table)?;
        output.inputs.insert(table.to_owned(), version);
        Some(version)
    }

    /// The instants that the asked days span in the zones of all usage points.
    pub(super) fn instants(&self) -> (Timestamp, Timestamp) {
        let mut zones: Vec<_> = self.registry.usage_points.values().map(|p| &p.zone).collect();
        zones.sort_by_key(|z| z.name());
        zones.dedup();
        let utc = meterlake_model::Zone::utc();
        let zones = || zones.iter().copied().chain(zones.is_empty().then_some(&utc));
        let from = zones().map(|z| z.start_of_day(self.options.from)).min();
        let to = zones().map(|z| z.start_of_day(self.options.to)).max();
        // There is at least one zone.
        (from.unwrap_or(self.started_at), to.unwrap_or(self.started_at))
    }

    /// The UTC months that the asked days touch, each with its first instant and that of the next.
    pub(super) fn months(&self) -> Vec<Month> {
        self.months_from(self.instants().0)
    }

    /// As [`Self::months`], from the month of an earlier time on.
    pub(super) fn months_from(&self, earlier: Timestamp) -> Vec<Month> {
        let (from, to) = self.instants();
        let from = from.min(earlier);
        let utc = meterlake_model::Zone::utc();
        let mut day = utc.day_of(from).first_of_month();
        let mut months = Vec::new();
        while utc.start_of_day(day) < to {
            let next = day.plus_months(1);
            if next <= day {
                break;
            }
            let (start, end) = (utc.start_of_day(day), utc.start_of_day(next));
            months.push(Month { key: month_key(start), start, end });
            day = next;
        }
        months
    }

    /// Notes a table that an earlier job makes as an input.
    pub(super) fn needs(&self, table: &'static str, first: Job, output: &mut Output) -> Result<(), JobError> {
        match self.reads(table, output) {
            Some(_) => Ok(()),
            None => Err(JobError::NoInput { job: self.job.as_str(), table, first: first.as_str() }),
        }
    }

    pub(super) fn failed(&self, source: DataFusionError) -> JobError {
        JobError::Query { job: self.job.as_str(), source: Box::new(source) }
    }

    pub(super) fn failed_book(&self, source: BookError) -> JobError {
        match source {
            BookError::Store(e) => e.into(),
            BookError::Read(e) => e.into(),
            BookError::Query(e) => self.failed(e),
            other => self.failed(tables::read::other(other.to_string())),
        }
    }

    /// Runs a query of `sql/` and gives its rows as they come.
    pub(super) async fn stream(&self, sql: &str) -> Result<SendableRecordBatchStream, JobError> {
        let frame = self.session().sql(sql).await.map_err(|e| self.failed(e))?;
        frame.execute_stream().await.map_err(|e| self.failed(e))
    }

    /// As [`Self::stream`], for a query about the time `from` up to `to`.
    pub(super) async fn stream_between(
        &self,
        sql: &str,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<SendableRecordBatchStream, JobError> {
        let instant = |t: Timestamp| ScalarValue::TimestampMicrosecond(Some(t.micros()), Some("UTC".into()));
        let parameters = ParamValues::from(vec![("from", instant(from)), ("to", instant(to))]);
        let frame =
            self.session().sql(sql).await.and_then(|f| f.with_param_values(parameters)).map_err(|e| self.failed(e))?;
        frame.execute_stream().await.map_err(|e| self.failed(e))
    }

    /// The next rows of a query.
    pub(super) async fn next(&self, rows: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>, JobError> {
        rows.try_next().await.map_err(|e| self.failed(e))
    }

    /// Replaces the partitions of a table, those of `months` without rows too, and counts.
    pub(super) async fn replace(
        &self,
        output: &mut Output,
        spec: &TableSpec,
        partitions: Vec<(PartitionKey, Vec<RecordBatch>)>,
    ) -> Result<(), JobError> {
        output.partitions += partitions.len();
        let done = self.lake.replace(spec, partitions).await?;
        output.partitions_changed += done.changed;
        *output.tables.entry(spec.name).or_default() += done.rows;
        Ok(())
    }

    /// Takes the run down in `job_runs` and reports.
    pub(super) async fn finish(self, mut output: Output) -> Result<JobReport, JobError> {
        output.summary.push_str(&self.erased().await?);
        let spec = tables::job_runs();
        let inputs = object(output.inputs.iter().map(|(table, version)| (table.as_str(), *version)));
        let outputs = object(output.tables.iter().map(|(table, rows)| (*table, *rows)));
        let rules_hash = self.rules_hash();
        let run_id = self.run_id(&output).await?;
        let rows: u64 = output.tables.values().sum();
        let duration = self.started.elapsed();

        let mut columns = Columns::default();
        columns.text("run_id", [run_id.as_str()].into_iter());
        columns.text("job", [self.job.as_str()].into_iter());
        columns.day("from_day", [self.options.from].into_iter());
        columns.day("to_day", [self.options.to].into_iter());
        columns.long("commit_seq", [self.commit_seq].into_iter());
        columns.long("registry_revision", [self.registry.revision].into_iter());
        columns.text("rules_hash", [rules_hash.as_str()].into_iter());
        columns.text("program", [PROGRAM].into_iter());
        columns.text("inputs", [inputs.as_str()].into_iter());
        columns.text("outputs", [outputs.as_str()].into_iter());
        columns.long("rows_read", [whole(output.rows_read)].into_iter());
        columns.long("rows", [whole(rows)].into_iter());
        columns.int("partitions", [i32::try_from(output.partitions).ok().or(Some(i32::MAX))].into_iter());
        let changed = i32::try_from(output.partitions_changed).unwrap_or(i32::MAX);
        columns.int("partitions_changed", [Some(changed)].into_iter());
        columns.time("started_at", [Some(self.started_at)].into_iter());
        columns.long("duration_ms", [i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)].into_iter());
        columns.text("summary", [output.summary.as_str()].into_iter());
        columns.maybe_day("today", [self.options.today].into_iter());
        columns.maybe_long("events", [output.events].into_iter());
        columns.maybe_text("output_hash", [output.output_hash.as_ref()].into_iter());
        columns.text("month", [month_key(self.started_at)].into_iter());
        let batch = columns.batch(&spec).map_err(|e| self.failed(e.into()))?;
        self.lake.append(&spec, vec![batch]).await?;

        tracing::info!(job = self.job.as_str(), run_id, rows, changed, ?duration, "job done");
        Ok(JobReport {
            job: self.job,
            run_id,
            commit_seq: self.commit_seq,
            registry_revision: self.registry.revision,
            rows_read: output.rows_read,
            rows,
            tables: output.tables.into_iter().collect(),
            partitions_changed: output.partitions_changed,
            partitions: output.partitions,
            spans: output.spans,
            findings: output.findings,
            duration,
            first_day: output.first_day.map_or(self.options.from, |day| day.min(self.options.from)),
            summary: output.summary,
        })
    }

    /// Says that rows of these days were erased since, so that a rerun may differ.
    async fn erased(&self) -> Result<String, JobError> {
        let (from, to) = self.instants();
        let touches = |e: &Erasure| e.from.is_none_or(|f| f < to) && e.to.is_none_or(|t| t >= from);
        let erased = self.lake.erasures().await?.iter().filter(|e| touches(e)).count();
        Ok(match erased {
            0 => String::new(),
            1 => "; erased: readings of 1 subject of these days".to_owned(),
            n => format!("; erased: readings of {n} subjects of these days"),
        })
    }

    /// The name of the run with these inputs.
    pub(super) async fn run_id(&self, output: &Output) -> Result<String, JobError> {
        let inputs = object(output.inputs.iter().map(|(table, version)| (table.as_str(), *version)));
        let mut base = self.identity(&inputs, &self.rules_hash());
        if let Some(events) = output.events {
            let today = self.options.today.map_or_else(String::new, |day| day.to_string());
            base = hex(&Sha256::digest(format!("{base}|{today}|{events}"))[..6]);
        }
        Ok(format!("{base}-{}", self.runs_of(&base).await? + 1))
    }

    /// Hash of the rules that its job goes by.
    fn rules_hash(&self) -> String {
        if self.job == Job::Checks { self.rules.checks_hash() } else { self.rules.hash() }
    }

    /// Hash of all that the run depends on.
    fn identity(&self, inputs: &str, rules_hash: &str) -> String {
        let text = format!(
            "{}|{}|{}|{}|{}|{rules_hash}|{PROGRAM}|{inputs}",
            self.job.as_str(),
            self.options.from,
            self.options.to,
            self.commit_seq,
            self.registry.revision,
        );
        hex(&Sha256::digest(text)[..6])
    }

    /// How often the same run was done before.
    async fn runs_of(&self, base: &str) -> Result<usize, JobError> {
        if !self.session.versions.contains_key("job_runs") {
            return Ok(0);
        }
        let frame = self.session().table("job_runs").await.map_err(|e| self.failed(e))?;
        let same = col("run_id").like(lit(format!("{base}-%")));
        let frame = frame.filter(same).map_err(|e| self.failed(e))?;
        frame.count().await.map_err(|e| self.failed(e))
    }
}

/// A UTC month: a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Month {
    /// Such as `2026-11`.
    pub(super) key: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Month {
    /// The partition of this month and a bucket of usage points.
    pub(super) fn partition(&self, bucket: u16) -> PartitionKey {
        PartitionKey::new([self.key.clone(), bucket.to_string()])
    }
}

/// The partition of a month that holds every usage point.
pub(super) fn month_partition(month: &str) -> PartitionKey {
    PartitionKey::new([month.to_owned(), ONLY_BUCKET.to_string()])
}

/// What program derived it.
pub(super) const PROGRAM: &str = concat!("meterlake ", env!("CARGO_PKG_VERSION"));

/// The newest commit that every table of readings and events holds, so that a run pinned to it can be repeated.
pub(super) async fn newest_commit(lake: &Lake) -> Result<i64, JobError> {
    let positions = positions(lake).await?;
    Ok(positions.into_iter().min().map_or(0, |p| i64::try_from(p).unwrap_or(i64::MAX)))
}

/// The newest commit that any table of readings or events holds.
pub(super) async fn furthest_commit(lake: &Lake) -> Result<i64, JobError> {
    let positions = positions(lake).await?;
    Ok(positions.into_iter().max().map_or(0, |p| i64::try_from(p).unwrap_or(i64::MAX)))
}

async fn positions(lake: &Lake) -> Result<Vec<u64>, JobError> {
    let mut positions = Vec::new();
    for table in Commodity::ALL.map(readings_name).into_iter().chain(["meter_events"]) {
        match lake.snapshot(table).await {
            Ok(snapshot) => positions.push(snapshot.journal_position()),
            Err(StoreError::NoTable(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(positions)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A JSON object of numbers, in order of name.
fn object<N: serde::Serialize>(entries: impl Iterator<Item = (impl AsRef<str>, N)>) -> String {
    let map: BTreeMap<String, N> = entries.map(|(k, v)| (k.as_ref().to_owned(), v)).collect();
    // Names and numbers are always JSON.
    serde_json::to_string(&map).unwrap_or_default()
}
