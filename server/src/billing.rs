//! `billing`: bills of a month from readings to the billing system, and what changed afterwards.
//!
//! What is exported is what `issue` lists: numbered, never changed, in the table `billing_items`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use meterlake_analytics::book::{BillLine, Scope, answer, bill_step, issue, pinned_run};
use meterlake_analytics::runs::{BillState, Step};
use meterlake_analytics::{Job, JobOptions, Rules, run_job};
use meterlake_config::Config;
use meterlake_model::CivilDay;
use meterlake_store::Lake;

use crate::cli::Global;
use crate::output::Format;
use crate::{jobs, progress, setup};

mod diff;
mod explain;
mod export;
mod show;

use show::{LedgerArgs, ListsArgs, StatusArgs};

/// What can be done with bills.
#[derive(Debug, Subcommand)]
pub enum BillingCommand {
    /// Compute the bills of a month, post what changed of issued ones; or compute an old run again
    Run(RunArgs),
    /// Show bills with where each stands, and why
    Status(StatusArgs),
    /// Show every reading, day, finding, edit and ledger row behind one bill
    Explain(explain::ExplainArgs),
    /// Stop bills until somebody releases them
    Hold(ReasonArgs),
    /// Let held bills go, in spite of the reasons that they are held for now
    Release(StepArgs),
    /// Say that bills will never go out
    Cancel(ReasonArgs),
    /// List what is ready, and corrections that are to be told, under a new number
    Issue(IssueArgs),
    /// Show the lists that went out, or what one of them says
    Lists(ListsArgs),
    /// Write a list as a file for a billing system, once, with a manifest
    Export(export::ExportArgs),
    /// Say that the billing system has taken a list
    Ack(AnswerArgs),
    /// Say that the billing system has refused a list: it can go out again
    Reject {
        /// Which
        #[command(flatten)]
        answer: AnswerArgs,
        /// Why, as the billing system says
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show the ledger: what was issued, each change with its cause, and whether it was told
    Ledger(LedgerArgs),
    /// Compare two runs, or a run with what is known now, item by item
    Diff(diff::DiffArgs),
}

/// Which bills are computed.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, value_parser = month, required_unless_present = "again", conflicts_with = "again")]
    month: Option<CivilDay>,
    /// The day for which bills are made: from a cycle's deadline on, what is missing at its end is projected
    /// [default: today]
    #[arg(long, value_name = "DAY", value_parser = jobs::day, conflicts_with = "again")]
    on: Option<CivilDay>,
    /// Compute this old run again from the readings that it was pinned to, and compare; nothing is written
    #[arg(long, value_name = "RUN_ID")]
    again: Option<String>,
    /// Form of the items of a run that is computed again [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// A step of a person.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, value_parser = month)]
    month: CivilDay,
    /// Which usage point
    #[arg(long, value_name = "USAGE_POINT", required_unless_present = "all", conflicts_with = "all")]
    point: Option<String>,
    /// Every bill of the month to which it applies
    #[arg(long)]
    all: bool,
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// A step with its reason.
#[derive(Debug, Args)]
pub struct ReasonArgs {
    /// Which bills, and who
    #[command(flatten)]
    step: StepArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What is issued.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, value_parser = month)]
    month: CivilDay,
    /// Only this usage point
    #[arg(long, value_name = "USAGE_POINT")]
    point: Option<String>,
    /// Who issues it
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// An answer of the billing system.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// Number of the list
    number: i64,
    /// Only for this usage point
    #[arg(long, value_name = "USAGE_POINT")]
    point: Option<String>,
    /// Who says so
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// A month of the command line, as its first day.
pub(crate) fn month(text: &str) -> Result<CivilDay, String> {
    CivilDay::parse(&format!("{text}-01")).map_err(|_| format!("`{text}` is no month such as 2026-03"))
}

/// A month as runs are named.
pub(crate) fn run_of(month: CivilDay) -> String {
    format!("{:04}-{:02}", month.year(), month.month())
}

/// Runs one of the commands.
///
/// # Errors
/// When what is named is not there, the step is not allowed, or the lake cannot be read or written.
pub async fn run(global: &Global, command: &BillingCommand) -> anyhow::Result<ExitCode> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let rules = setup::rules(&config);
    match command {
        BillingCommand::Run(args) => return compute(&config, &lake, &rules, args).await,
        BillingCommand::Status(args) => show::status(&lake, &rules.gates, args).await?,
        BillingCommand::Explain(args) => explain::run(&lake, &rules, args).await?,
        BillingCommand::Hold(ReasonArgs { step, reason }) => {
            take(&lake, &rules, step, &Step::Hold { reason: reason.clone() }, "held").await?;
        }
        BillingCommand::Cancel(ReasonArgs { step, reason }) => {
            take(&lake, &rules, step, &Step::Cancel { reason: reason.clone() }, "cancelled").await?;
        }
        BillingCommand::Release(args) => release(&lake, &rules, args).await?,
        BillingCommand::Issue(args) => {
            let (run, today) = (run_of(args.month), jobs::today());
            let by = (&rules.gates, &rules.notices);
            match issue(&lake, &run, &args.by, by, today, args.point.as_deref()).await? {
                None => println!("nothing of run {run} is to be issued: billing status shows why"),
                Some(list) => {
                    eprintln!("list {} of run {run}: {} bills, {} items", list.number, list.bills, list.items.len());
                    show::show_items(&list.items.iter().collect::<Vec<_>>(), args.format).await?;
                }
            }
        }
        BillingCommand::Lists(args) => show::lists(&lake, args).await?,
        BillingCommand::Ack(args) => {
            let count = answer(&lake, args.number, args.point.as_deref(), &args.by, None).await?;
            println!("list {}: {}", args.number, said(count, "acknowledged"));
        }
        BillingCommand::Reject { answer: args, reason } => {
            let count = answer(&lake, args.number, args.point.as_deref(), &args.by, Some(reason)).await?;
            println!("list {}: {}", args.number, said(count, "rejected"));
        }
        BillingCommand::Ledger(args) => show::ledger(&lake, &rules.notices, args).await?,
        BillingCommand::Export(args) => export::run(&config, &lake, args).await?,
        BillingCommand::Diff(args) => diff::run(&lake, &rules, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn said(count: usize, what: &str) -> String {
    match count {
        0 => format!("{what} before; nothing changed"),
        1 => format!("1 usage point {what}"),
        n => format!("{n} usage points {what}"),
    }
}

async fn compute(config: &Config, lake: &Lake, rules: &Rules, args: &RunArgs) -> anyhow::Result<ExitCode> {
    if let Some(run_id) = &args.again {
        return again(lake, rules, run_id, args.format).await;
    }
    let Some(month) = args.month else { bail!("--month or --again is wanted") };
    let ownership = jobs::own(lake)
        .await
        .context("while `meterlake jobs` runs it computes bills itself whenever readings or edits come")?;
    let today = args.on.unwrap_or_else(jobs::today);
    let longest = config.billing.cycles.iter().map(|c| i32::from(c.months)).max().unwrap_or(1);
    let end = month.plus_months(1);
    // A cycle that begins late in the month ends in the next one.
    let usage = JobOptions { rules: rules.clone(), ..JobOptions::new(month.plus_months(-longest), end.plus_months(1)) };
    let billing = JobOptions { today: Some(today), rules: rules.clone(), ..JobOptions::new(month, end) };
    let checks = billing.clone();
    for (job, options) in [(Job::Usage, usage), (Job::Billing, billing), (Job::Checks, checks)] {
        let spinner = progress::spinner(&format!("{} from {} to {}", job.as_str(), options.from, options.to));
        let report = run_job(lake, job, &options).await;
        spinner.finish_and_clear();
        println!("{}", jobs::line(&report?));
    }
    ownership.release().await?;
    Ok(ExitCode::SUCCESS)
}

/// Computes an old run again. Items on standard output, the verdict on standard error and as exit code.
async fn again(lake: &Lake, rules: &Rules, run_id: &str, format: Option<Format>) -> anyhow::Result<ExitCode> {
    let pinned = pinned_run(lake, run_id).await?;
    if let Some(why) = pinned.differs(rules) {
        bail!(why);
    }
    let spinner = progress::spinner(&format!("run {run_id} from readings up to commit {}", pinned.commit_seq));
    let bills = pinned.again(lake, rules).await;
    spinner.finish_and_clear();
    let bills = bills?;
    show::show(&bills.items, format).await?;
    if bills.is(&pinned.output_hash) {
        eprintln!("run {run_id} again: the same {} items, byte for byte", bills.items.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("run {run_id} again: not the same; it was made by {}", pinned.program);
    if !lake.erasures().await?.is_empty() {
        eprintln!("readings have been erased since: `erase list` shows whose");
    }
    Ok(ExitCode::FAILURE)
}

async fn take(lake: &Lake, rules: &Rules, args: &StepArgs, step: &Step, done: &str) -> anyhow::Result<()> {
    let scope = Scope { run: run_of(args.month), usage_point_id: args.point.clone() };
    let count = bill_step(lake, &scope, &args.by, step, (&rules.gates, jobs::today())).await?;
    println!("run {}: {}", scope.run, said(count, done));
    Ok(())
}

/// Releases the reasons that are there now, bill by bill: what comes up later holds again.
async fn release(lake: &Lake, rules: &Rules, args: &StepArgs) -> anyhow::Result<()> {
    let (_, bills) = show::lines(lake, &rules.gates, args.month, jobs::today()).await?;
    let mut count = 0;
    let named = |b: &&BillLine| args.point.as_ref().is_none_or(|p| *p == b.usage_point_id);
    let mut found = false;
    for bill in bills.iter().filter(named) {
        found = true;
        let BillState::Held(reasons) = &bill.state else { continue };
        // Without a use there is nothing to let go.
        let covers = reasons.iter().map(|r| r.key.clone()).filter(|key| args.point.is_some() || key != "nothing");
        let step = Step::Release { covers: covers.collect() };
        let scope = Scope { run: bill.run.clone(), usage_point_id: Some(bill.usage_point_id.clone()) };
        count += bill_step(lake, &scope, &args.by, &step, (&rules.gates, jobs::today())).await?;
    }
    match (&args.point, found, count) {
        (Some(point), false, _) => bail!("run {} has no bill of usage point {point}", run_of(args.month)),
        (Some(point), true, 0) => bail!("the bill of usage point {point} is not held"),
        _ => println!("run {}: {}", run_of(args.month), said(count, "released")),
    }
    Ok(())
}
