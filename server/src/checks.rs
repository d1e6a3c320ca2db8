//! `checks`: what is looked for, what would be found, and what was found.

use anyhow::{Context, bail};
use arrow::compute::concat_batches;
use clap::{Args, Subcommand};
use meterlake_analytics::JobOptions;
use meterlake_analytics::jobs::{CheckedMonth, check_now};
use meterlake_config::Config;
use meterlake_config::check::shipped_text;
use meterlake_model::CivilDay;
use meterlake_model::check::{Catalogue, Check, Days, OnFail, Params, Source};
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{progress, rows, setup};

/// What can be asked of checks.
#[derive(Debug, Subcommand)]
pub enum ChecksCommand {
    /// List them: what each looks for, what follows, and with which parameters
    List(ListArgs),
    /// Print one: its query, and what the configuration says of it
    Show(ShowArgs),
    /// Run them now over some months and print what they find; nothing is written (`job run checks` does)
    Run(RunArgs),
    /// Print what the job found: for the field, for whoever verifies, or all
    Findings(FindingsArgs),
}

/// How a list is written.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Which one.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id, or its number
    id: String,
}

/// Which checks, over what.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A month such as 2026-04, or months such as 2026-01..2026-04, the last one included
    #[arg(long, value_name = "MONTH[..MONTH]", value_parser = period)]
    period: (CivilDay, CivilDay),
    /// Only these, by id or number; one that is off is run, too
    #[arg(long = "check", value_name = "ID")]
    checks: Vec<String>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Which findings.
#[derive(Debug, Args)]
pub struct FindingsArgs {
    /// A month such as 2026-04, or months such as 2026-01..2026-04, the last one included
    #[arg(long, value_name = "MONTH[..MONTH]", value_parser = period)]
    period: (CivilDay, CivilDay),
    /// Only of these checks, by id or number
    #[arg(long = "check", value_name = "ID")]
    checks: Vec<String>,
    /// Only those of which this follows: keep, work_item, verify, hold
    #[arg(long, value_parser = policy)]
    on_fail: Option<OnFail>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// From the first day of the first month to the first day behind the last.
fn period(text: &str) -> Result<(CivilDay, CivilDay), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let month = |text: &str| {
        let day = CivilDay::parse(&format!("{text}-01"));
        day.map_err(|_| format!("`{text}` is no month such as 2026-04"))
    };
    let (first, last) = (month(first)?, month(last)?);
    if last < first {
        return Err("the last month lies before the first".to_owned());
    }
    Ok((first, last.plus_months(1)))
}

fn policy(text: &str) -> Result<OnFail, String> {
    OnFail::parse(text).ok_or_else(|| "keep, work_item, verify or hold is wanted".to_owned())
}

/// Runs one of the commands.
///
/// # Errors
/// When a check is not known or cannot be run, or the lake cannot be read.
pub async fn run(global: &Global, command: &ChecksCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let catalogue = &config.checks.catalogue;
    match command {
        ChecksCommand::List(args) => list(catalogue, args).await,
        ChecksCommand::Show(args) => show(&config, &args.id),
        ChecksCommand::Run(args) => run_now(&config, &setup::open_lake(&config)?, args).await,
        ChecksCommand::Findings(args) => findings(catalogue, &setup::open_lake(&config)?, args).await,
    }
}

async fn list(catalogue: &Catalogue, args: &ListArgs) -> anyhow::Result<()> {
    let rows: Vec<_> = catalogue
        .checks
        .iter()
        .map(|check| {
            let settings = catalogue.settings.iter().filter(|setting| setting.check == check.id).count();
            [
                check.id.clone(),
                check.about.clone(),
                check.severity.as_str().to_owned(),
                check.on_fail.as_str().to_owned(),
                check.scope.as_str().to_owned(),
                params(&check.params),
                match &check.source {
                    Source::Sql(_) => "query".to_owned(),
                    Source::Operator(operator) => operator.as_str().to_owned(),
                },
                if settings == 0 { String::new() } else { settings.to_string() },
            ]
        })
        .collect();
    let headings = ["id", "about", "severity", "on_fail", "scope", "params", "by", "settings"];
    output::write_texts(headings, &rows, args.format).await
}

fn params(params: &Params) -> String {
    params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn show(config: &Config, name: &str) -> anyhow::Result<()> {
    let catalogue = &config.checks.catalogue;
    for check in called(catalogue, name)? {
        match &check.source {
            Source::Sql(sql) => println!("{}", sql.trim_end()),
            Source::Operator(_) => {
                println!("-- check: {}\n-- about: {}", check.id, check.about);
                println!("-- severity: {}\n-- on_fail: {}", check.severity.as_str(), check.on_fail.as_str());
                check.params.iter().for_each(|(name, value)| println!("-- param: {name} = {value}"));
            }
        }
        if matches!(&check.source, Source::Sql(sql) if shipped_text(&check.id).is_some_and(|text| text != sql)) {
            println!("\n-- in the place of the one that comes with the program");
        }
        for setting in catalogue.settings.iter().filter(|setting| setting.check == check.id) {
            let mut words = vec![days(setting.days)];
            words.extend(setting.scope.as_ref().map(|scope| format!("where {}", scope.as_str())));
            words.extend(setting.severity.map(|severity| severity.as_str().to_owned()));
            words.extend(setting.on_fail.map(|policy| policy.as_str().to_owned()));
            words.push(params(&setting.params));
            words.retain(|word| !word.is_empty());
            println!("-- configured: {}", words.join(", "));
        }
    }
    Ok(())
}

fn days(days: Days) -> String {
    match (days.from, days.to) {
        (None, None) => String::new(),
        (Some(from), None) => format!("from {from} on"),
        (None, Some(to)) => format!("before {to}"),
        (Some(from), Some(to)) => format!("from {from} to {}", to.plus_days(-1)),
    }
}

/// The checks of a name, at least one.
fn called<'c>(catalogue: &'c Catalogue, name: &str) -> anyhow::Result<Vec<&'c Check>> {
    let found = catalogue.called(name);
    if found.is_empty() {
        bail!("there is no check {name}; `meterlake checks list` shows them");
    }
    Ok(found)
}

/// The ids of the checks of these names; `None` where none is named.
fn ids(catalogue: &Catalogue, names: &[String]) -> anyhow::Result<Option<Vec<String>>> {
    let mut ids = Vec::new();
    for name in names {
        ids.extend(called(catalogue, name)?.into_iter().map(|check| check.id.clone()));
    }
    Ok((!names.is_empty()).then_some(ids))
}

async fn run_now(config: &Config, lake: &Lake, args: &RunArgs) -> anyhow::Result<()> {
    let mut rules = setup::rules(config);
    let only = ids(&rules.checks, &args.checks)?;
    for check in &mut rules.checks.checks {
        if only.as_ref().is_some_and(|only| only.contains(&check.id)) {
            if !check.runs() {
                bail!("{} is answered where it acts, not by a run: {}", check.id, check.about);
            }
            if check.on_fail == OnFail::Off {
                check.on_fail = OnFail::Keep;
            }
        }
    }
    let options = JobOptions { rules, ..JobOptions::new(args.period.0, args.period.1) };
    let spinner = progress::spinner("checks");
    let months = check_now(lake, &options, only.as_deref()).await;
    spinner.finish_and_clear();
    let months = months?;
    let batches: Vec<_> = months.iter().map(|month| month.rows.clone()).collect();
    let schema = batches.first().context("there is no month")?.schema();
    output::write_batch(concat_batches(&schema, &batches)?, args.format.unwrap_or_else(Format::for_stdout)).await?;
    for (check, count) in months.iter().flat_map(|month: &CheckedMonth| &month.cut) {
        eprintln!("{check}: {count} more; see [checks] most_findings");
    }
    let failed: Vec<_> =
        months.iter().flat_map(|month| &month.failed).map(|(check, why)| format!("{check}: {why}")).collect();
    if !failed.is_empty() {
        bail!("{} could not be run: {}", if failed.len() == 1 { "a check" } else { "some checks" }, failed.join("; "));
    }
    Ok(())
}

async fn findings(catalogue: &Catalogue, lake: &Lake, args: &FindingsArgs) -> anyhow::Result<()> {
    let session = lake.session(ReadOptions::default()).await?;
    let month = |day: CivilDay| day.to_string()[..7].to_owned();
    let (first, last) = (month(args.period.0), month(args.period.1.plus_days(-1)));
    let mut sql =
        format!("SELECT * EXCLUDE (bucket) FROM check_findings WHERE month >= '{first}' AND month <= '{last}'");
    if let Some(ids) = ids(catalogue, &args.checks)? {
        // Ids have letters, digits and `_`.
        sql += &format!(" AND rule IN ({})", ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", "));
    }
    if let Some(policy) = args.on_fail {
        sql += &format!(" AND on_fail = '{}'", policy.as_str());
    }
    sql += " ORDER BY month, usage_point_id, channel, start, rule";
    let stream =
        rows::stream(&session, &sql).await.context("job checks has not run yet, or its findings cannot be read")?;
    output::write_stream(stream, args.format.unwrap_or_else(Format::for_stdout), None).await?;
    Ok(())
}
