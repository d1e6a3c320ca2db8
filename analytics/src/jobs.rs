//! Jobs: functions of `commit_seq`, registry revision, rules and program, whose output replaces whole partitions.
//!
//! A job walks its input up to the pin, derives the partitions that the asked days touch, and hands them to the store,
//! which leaves alone what is byte for byte the same. So a rerun changes nothing, and a late reading rewrites only the
//! partitions that it touched. Job `usage` goes on from its last run over the same registry and rules: it derives the points
//! and months that newer rows touch, and leaves the bytes that a run from nothing would leave. Each run is taken down in `job_runs`, the only table that knows a clock.

use std::time::Duration;

use meterlake_model::CivilDay;
use meterlake_store::query::QueryError;
use meterlake_store::{Lake, StoreError};

use crate::rules::Rules;

mod alerts;
pub(crate) mod billing;
mod checks;
mod completeness;
mod derive;
pub(crate) mod determinants;
mod groups;
pub(crate) mod profiles;
mod run;
mod usage;

pub use billing::{BillsAgain, billing_reads_of_spans, bills_again, bills_if};
pub use checks::{CheckedMonth, check_now};
pub use derive::{UsageDerive, UsageDeriveExec, UsageDerivePlanner};
pub use determinants::hang_together;
pub use run::WhatIf;
pub use usage::{explain_usage, forget_usage};

/// Runs one job and takes it down in `job_runs`.
///
/// The result depends on the pin, the registry revision, the rules and this program, and on nothing else. Days that a
/// partition holds beside the asked ones are derived too, since a partition is replaced whole.
///
/// # Errors
/// Nothing but whole partitions has been written when it fails; running it again mends all.
pub async fn run_job(lake: &Lake, job: Job, options: &JobOptions) -> Result<JobReport, JobError> {
    let run = run::Run::begin(lake, job, options).await?;
    let output = match job {
        Job::Usage => usage::derive(&run).await?,
        Job::Billing => billing::derive(&run).await?,
        Job::Alerts => alerts::derive(&run).await?,
        Job::Profiles => profiles::derive(&run).await?,
        Job::Completeness => completeness::derive(&run).await?,
        Job::Checks => checks::derive(&run).await?,
    };
    run.finish(output).await
}

/// Which job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// Readings to usage spans and findings.
    Usage,
    /// Usage spans to billing reads, for the cycles that end in the asked days.
    Billing,
    /// Usage spans and voltages to alerts.
    Alerts,
    /// Usage spans to profiles of whole civil months.
    Profiles,
    /// Arrivals to what was expected of each meter and day, of whole civil months.
    Completeness,
    /// All that is derived to what checks find in it, of whole UTC months.
    Checks,
}

impl Job {
    /// All jobs, in the order in which they build on each other.
    pub const ALL: [Self; 6] =
        [Self::Usage, Self::Billing, Self::Alerts, Self::Profiles, Self::Completeness, Self::Checks];

    /// The name on the command line and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Billing => "billing",
            Self::Alerts => "alerts",
            Self::Profiles => "profiles",
            Self::Completeness => "completeness",
            Self::Checks => "checks",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|j| j.as_str() == text)
    }
}

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// First civil day, in each usage point's own zone.
    pub from: CivilDay,
    /// Day after the last.
    pub to: CivilDay,
    /// Only readings of this commit and earlier ones; `None`: all that are there at the start.
    pub commit_seq: Option<i64>,
    /// The registry as of this import; `None`: the newest.
    pub registry_revision: Option<i64>,
    /// Whether months before the asked days are derived again, too, where readings that came since the last run touch
    /// them. Job `usage` alone knows of them; [`JobReport::first_day`] tells for the jobs behind it.
    pub follow: bool,
    /// The day for which bills are made: what is missing at the end of a cycle whose deadline has passed is projected.
    /// `None`: every deadline is still to come.
    pub today: Option<CivilDay>,
    /// Only what people did up to this event; `None`: all that is there at the start.
    pub events: Option<i64>,
    /// The rules.
    pub rules: Rules,
}

impl JobOptions {
    /// All readings that are there, the newest registry and the default rules, for the days from `from` up to the day
    /// before `to`.
    pub fn new(from: CivilDay, to: CivilDay) -> Self {
        Self {
            from,
            to,
            commit_seq: None,
            registry_revision: None,
            follow: false,
            today: None,
            events: None,
            rules: Rules::default(),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobReport {
    /// Which job.
    pub job: Job,
    /// Name of the run in `job_runs`.
    pub run_id: String,
    /// The pin that the run went by.
    pub commit_seq: i64,
    /// The registry revision that the run went by.
    pub registry_revision: i64,
    /// Rows of input that were read.
    pub rows_read: u64,
    /// Rows of the partitions asked for, of all output tables.
    pub rows: u64,
    /// Output tables with these rows of each, in order of name.
    pub tables: Vec<(&'static str, u64)>,
    /// Partitions whose bytes changed.
    pub partitions_changed: usize,
    /// Partitions asked for.
    pub partitions: usize,
    /// Usage spans of the asked months; 0 for other jobs.
    pub spans: u64,
    /// Findings of the asked months, of the walk or of checks; 0 for other jobs.
    pub findings: u64,
    /// How long it took, by the clock.
    pub duration: Duration,
    /// The first day derived: the asked one, or before it where the run followed what was touched.
    pub first_day: CivilDay,
    /// One line for people.
    pub summary: String,
}

/// Why a run did not happen; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// `from` must lie before `to`.
    #[error("no days from {from} to {to}: the first day must lie before the last")]
    NoDays {
        /// First day.
        from: CivilDay,
        /// Day after the last.
        to: CivilDay,
    },
    /// Without a registry nobody knows which meter serves whom.
    #[error("the registry is empty: import it first")]
    NoRegistry,
    /// A job builds on a table that is not there yet.
    #[error("job {job} reads table {table}, which is not there yet: run job {first} first")]
    NoInput {
        /// Which job was asked for.
        job: &'static str,
        /// Which table it misses.
        table: &'static str,
        /// Which job makes it.
        first: &'static str,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake could not be opened for reading.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// A plan could not be made or run.
    #[error("job {job}: {source}")]
    Query {
        /// Which job.
        job: &'static str,
        /// The cause.
        source: Box<datafusion::error::DataFusionError>,
    },
}
