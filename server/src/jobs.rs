//! `job` and `jobs`: what is derived from readings, now or on schedule; and the upkeep of the tables.
//!
//! One process at a time owns everything that rewrites a table (design.md §5, rule 5): it holds `jobs.lock` in a folder, or a
//! lease on an object store.

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use meterlake_analytics::book::{Runs, What, load_book};
use meterlake_analytics::{Job, JobOptions, JobReport, run_job};
use meterlake_config::Config;
use meterlake_model::{CivilDay, Timestamp, Zone};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Holder, Lake, Ownership, Role};

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{maintenance, progress, reload, rows, setup, shutdown};

/// What can be asked of jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Run one job, or all of them in order, for some days
    Run(JobRunArgs),
    /// List the runs so far, newest first
    List,
}

/// Which job, for which days.
#[derive(Debug, Args)]
pub struct JobRunArgs {
    /// usage: readings to usage spans · billing: spans to the billing reads of cycles that end in these days ·
    /// alerts: leaks and undervoltage · profiles: shapes and key figures · completeness: expected against received ·
    /// checks: findings in all of these · all: these six in order
    #[arg(value_enum)]
    name: JobName,
    /// First civil day, by each usage point's zone [default: 40 days before --to]
    #[arg(long, value_parser = day)]
    from: Option<CivilDay>,
    /// Day after the last [default: tomorrow]
    #[arg(long, value_parser = day)]
    to: Option<CivilDay>,
    /// Go by readings of this commit sequence number and earlier ones [default: all]
    #[arg(long, value_name = "COMMIT_SEQ")]
    as_of: Option<i64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum JobName {
    Usage,
    Billing,
    Alerts,
    Profiles,
    Completeness,
    Checks,
    All,
}

impl JobName {
    fn jobs(self) -> Vec<Job> {
        match self {
            Self::Usage => vec![Job::Usage],
            Self::Billing => vec![Job::Billing],
            Self::Alerts => vec![Job::Alerts],
            Self::Profiles => vec![Job::Profiles],
            Self::Completeness => vec![Job::Completeness],
            Self::Checks => vec![Job::Checks],
            Self::All => Job::ALL.to_vec(),
        }
    }
}

/// A civil day of the command line.
pub(crate) fn day(text: &str) -> Result<CivilDay, String> {
    CivilDay::parse(text).map_err(|error| error.to_string())
}

/// Days that a run looks back by default: a month and its edges.
const DEFAULT_DAYS: i32 = 40;
/// An alert that a new reading changes or ends may have begun so many days before.
const ALERT_DAYS: i32 = 35;

/// Runs one of the commands.
///
/// # Errors
/// When another process runs jobs, or a job fails; nothing but whole partitions was written.
pub async fn run(global: &Global, command: &JobCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        JobCommand::Run(args) => run_now(&config, &lake, args).await,
        JobCommand::List => list(&lake).await,
    }
}

async fn run_now(config: &Config, lake: &Lake, args: &JobRunArgs) -> anyhow::Result<()> {
    let ownership = own(lake).await?;
    let to = args.to.unwrap_or_else(|| today().plus_days(1));
    let options = JobOptions {
        commit_seq: args.as_of,
        rules: setup::rules(config),
        today: Some(today()),
        ..JobOptions::new(args.from.unwrap_or_else(|| to.plus_days(-DEFAULT_DAYS)), to)
    };
    for job in args.name.jobs() {
        let spinner = progress::spinner(&format!("{} from {} to {}", job.as_str(), options.from, options.to));
        let report = run_job(lake, job, &options).await;
        spinner.finish_and_clear();
        println!("{}", line(&report?));
    }
    ownership.release().await?;
    Ok(())
}

pub(crate) fn line(report: &JobReport) -> String {
    format!(
        "{:12} {}, {:.1} s, run {}",
        report.job.as_str(),
        report.summary,
        report.duration.as_secs_f64(),
        report.run_id
    )
}

async fn list(lake: &Lake) -> anyhow::Result<()> {
    let session = lake.session(ReadOptions::default()).await?;
    let runs = "SELECT * FROM job_runs ORDER BY started_at DESC LIMIT 200";
    let stream = rows::stream(&session, runs).await.context("no job has run yet, or job_runs cannot be read")?;
    output::write_stream(stream, Format::for_stdout(), None).await?;
    Ok(())
}

/// The day by the clock, in UTC.
pub(crate) fn today() -> CivilDay {
    Zone::utc().day_of(Timestamp::now())
}

/// Takes the ownership of everything that rewrites a table.
///
/// # Errors
/// When another process has it.
pub async fn own(lake: &Lake) -> anyhow::Result<Ownership> {
    let owned = lake.own(Role::Maintenance, &Holder::of_process("jobs")).await;
    owned.context("jobs have one process at a time")
}

/// Runs the jobs on schedule until a signal comes: whenever readings came in, the days that they touch are derived
/// again; between the runs the tables are kept small.
///
/// # Errors
/// When another process runs jobs on this lake. A job that fails is logged and tried again at the next turn.
pub async fn schedule(global: &Global) -> anyhow::Result<()> {
    let mut config = setup::load_config(global)?;
    let stop = shutdown::on_signal()?;
    let mut reloads = reload::on_hangup(global)?;
    let lake = setup::connect(&config)?;
    let ownership = own(&lake).await?;
    let mut maintenance = maintenance::Maintenance::default();
    let mut turns = tokio::time::interval(config.jobs.interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut done, mut done_events): (Option<i64>, Option<i64>) = (None, None);
    let work = async {
        while shutdown::until_stopped(&stop, turns.tick()).await.is_some() {
            while let Ok(request) = reloads.try_recv() {
                config = follow(config, request);
            }
            match turn(&config, &lake, done, done_events).await {
                Ok((newest, events)) => (done, done_events) = (newest.or(done), Some(events)),
                Err(error) => tracing::error!(error = format!("{error:#}"), "jobs failed; next turn tries again"),
            }
            maintenance.run(&config, &lake).await;
        }
    };
    // Whatever is under way when another takes over leaves nothing, as after a crash.
    tokio::select! {
        () = work => Ok(ownership.release().await?),
        lost = ownership.lost() => Err(lost.into()),
    }
}

/// Rules hold from the next turn on; where the lake is and how often the jobs run, only after a restart.
fn follow(config: Config, request: reload::Request) -> Config {
    match request {
        Ok(new) => {
            tracing::info!("configuration reloaded: its rules hold from this turn on");
            Config { lake: config.lake, ..new }
        }
        Err(refused) => {
            tracing::error!(refused, "configuration not reloaded; the old one holds");
            config
        }
    }
}

/// Derives what new readings and edits touch; returns the newest commit and the last event that were taken in.
async fn turn(
    config: &Config,
    lake: &Lake,
    done: Option<i64>,
    done_events: Option<i64>,
) -> anyhow::Result<(Option<i64>, i64)> {
    let touched = touched_since(lake, done.unwrap_or(0)).await?;
    let (edited, events) = edited_since(lake, done_events).await?;
    // How far back a reading changes what was used, job `usage` finds out; the others follow it.
    let read = touched.map(|(oldest, _)| Zone::utc().day_of(oldest).plus_days(-ALERT_DAYS));
    let Some(from) = read.into_iter().chain(edited).min() else { return Ok((None, events)) };
    let rules = setup::rules(config);
    let mut options =
        JobOptions { rules, follow: true, today: Some(today()), ..JobOptions::new(from, today().plus_days(2)) };
    for job in Job::ALL {
        let report = run_job(lake, job, &options).await?;
        options.from = options.from.min(report.first_day);
        tracing::info!(
            job = job.as_str(),
            run = report.run_id,
            rows = report.rows,
            partitions_changed = report.partitions_changed,
            took_ms = report.duration.as_millis(),
            "{}",
            report.summary
        );
    }
    Ok((touched.map(|(_, newest)| newest), events))
}

/// The first day of an edit that people touched after an event, and the last event; without one, after that which the last
/// billing run went by.
async fn edited_since(lake: &Lake, done: Option<i64>) -> anyhow::Result<(Option<CivilDay>, i64)> {
    let book = load_book(lake, &Runs::None).await?;
    if book.last_event == 0 || done == Some(book.last_event) {
        return Ok((None, book.last_event));
    }
    let done = match done {
        Some(done) => done,
        None => {
            let session = lake.session(ReadOptions::default()).await?;
            let last = "SELECT coalesce(max(events), 0) FROM job_runs WHERE job = 'billing'";
            i64::try_from(rows::count(&session, last).await.unwrap_or(0)).unwrap_or(0)
        }
    };
    let touched = book.events.iter().filter(|event| event.seq > done).filter_map(|event| match &event.what {
        What::Edit { id, .. } => book.edits.all().find(|edit| edit.id == *id).map(|edit| edit.target.first_day),
        _ => None,
    });
    Ok((touched.min(), book.last_event))
}

/// The oldest reading time and the newest commit of what came after a commit; `None` when nothing came.
async fn touched_since(lake: &Lake, commit_seq: i64) -> anyhow::Result<Option<(Timestamp, i64)>> {
    let session = lake.session(ReadOptions::default()).await?;
    let text = format!(
        "SELECT CAST(min(ts) AS BIGINT) AS oldest, max(commit_seq) AS newest FROM (
           SELECT ts, commit_seq FROM electricity_readings WHERE commit_seq > {commit_seq}
           UNION ALL SELECT ts, commit_seq FROM water_readings WHERE commit_seq > {commit_seq})"
    );
    let batches = rows::batches(&session, &text).await?;
    let value = |column: usize| {
        let array = batches.first()?.column(column).clone();
        let numbers = array.as_any().downcast_ref::<arrow::array::Int64Array>()?.clone();
        arrow::array::Array::is_valid(&numbers, 0).then(|| numbers.value(0))
    };
    match (value(0), value(1)) {
        (Some(oldest), Some(newest)) => Ok(Some((Timestamp::from_micros(oldest)?, newest))),
        _ => Ok(None),
    }
}
