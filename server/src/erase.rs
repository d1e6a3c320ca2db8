//! `erase`: a meter or a customer taken out of everything, with proof.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arrow::array::{Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use clap::{Args, Subcommand};
use meterlake_config::{Config, duration_text};
use meterlake_model::Timestamp;
use meterlake_store::journal::{JournalError, JournalReader};
use meterlake_store::life::{
    EraseOptions, EraseReport, ErasureLink, Remains, Searched, Subject, SubjectKind, Words, aside_of, search,
};
use meterlake_store::{Lake, StoreError, schema};

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{jobs, progress, retention, setup};

/// What can be asked of erasure.
#[derive(Debug, Subcommand)]
pub enum EraseCommand {
    /// Erase one meter: its readings, events, messages, dead letters, registry rows, and what was derived of them
    Meter(SubjectArgs),
    /// Erase one customer: name, bills, and all that the meters of places that were theirs alone ever said
    Customer(SubjectArgs),
    /// Look at every byte of lake and journal for a meter's or customer's id and other words; fails when any is found
    Verify(VerifyArgs),
    /// List what was erased; whom, nobody can tell from it
    List(ListArgs),
}

/// Who is erased, and how.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The id in the registry
    id: String,
    /// Why: the request, the law
    #[arg(long)]
    reason: String,
    /// Who says so
    #[arg(long)]
    who: String,
    /// Say what would go and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also when billing reads of it wait for a person, who can then never decide; holds forbid it all the same
    #[arg(long)]
    unbilled: bool,
    /// Do not wait for files, logs and journal to go with their time: remove every older version of every table now, and
    /// the journal, for which the collector must be stopped
    #[arg(long)]
    now: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// What is looked for.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The id that must be nowhere
    id: String,
    /// Further words that must be nowhere, such as a name or a serial number
    #[arg(long)]
    word: Vec<String>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// How the list is written.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// People's steps on an alert name it and not the meter.
const LINKS: [ErasureLink; 1] =
    [ErasureLink { from_table: "alerts", id: "id", to_table: "alert_events", reference: "alert_id" }];
/// How long the collector may take to bring what is durable into the tables.
const CATCH_UP: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// Runs one of them.
///
/// # Errors
/// When a hold keeps something, another process runs jobs, or the lake cannot be read or written.
pub async fn run(global: &Global, command: &EraseCommand) -> anyhow::Result<ExitCode> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        EraseCommand::Meter(args) => own_and_erase(&config, &lake, SubjectKind::Meter, args).await?,
        EraseCommand::Customer(args) => own_and_erase(&config, &lake, SubjectKind::Customer, args).await?,
        EraseCommand::Verify(args) => return verify(&config, &lake, args).await,
        EraseCommand::List(args) => list(&lake, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn own_and_erase(config: &Config, lake: &Lake, kind: SubjectKind, args: &SubjectArgs) -> anyhow::Result<()> {
    let ownership = jobs::own(lake).await?;
    let done = erase(config, lake, kind, args).await;
    let released = ownership.release().await;
    done?;
    Ok(released?)
}

async fn erase(config: &Config, lake: &Lake, kind: SubjectKind, args: &SubjectArgs) -> anyhow::Result<()> {
    wait_for_tables(config, lake).await?;
    let subject = with_addresses(config, lake.subject(kind, &args.id).await?);
    let now = Timestamp::now();
    let mut holds = lake.holds().await?;
    // What is merely not billed yet does not stand against an erasure.
    if !args.unbilled {
        holds.extend(retention::waiting(lake, now, now).await?);
    }
    let options = EraseOptions {
        reason: args.reason.clone(),
        who: args.who.clone(),
        now,
        holds,
        links: LINKS.to_vec(),
        dry: args.dry_run,
    };
    if !args.dry_run {
        // Before: when this ends in the middle, no run may go on from what the erased readings left behind.
        meterlake_analytics::jobs::forget_usage(lake).await?;
    }
    let spinner = progress::spinner("taking rows out of every table");
    let report = lake.erase(&subject, &options).await;
    spinner.finish_and_clear();
    let report = report?;
    output::write_batch(tables_batch(&report)?, args.format.unwrap_or_else(Format::for_stdout)).await?;
    tell(&report, args);
    if args.dry_run {
        return Ok(());
    }
    if args.now {
        cut(config, lake).await.context("the rows are gone; what is left of them on disk is not")?;
    } else {
        tell_remains(config, now);
    }
    if lake.local_root().is_none() {
        eprintln!("older object versions, should the bucket keep them, are yours to delete");
    }
    Ok(())
}

/// What is durable and not in the tables yet would come back.
async fn wait_for_tables(config: &Config, lake: &Lake) -> anyhow::Result<()> {
    let synced = JournalReader::open(&config.collect.journal).synced().context("cannot read the journal")?;
    let behind = async {
        loop {
            let mut least = u64::MAX;
            for spec in schema::collected() {
                match lake.snapshot(spec.name).await {
                    Ok(state) => least = least.min(state.journal_position()),
                    Err(StoreError::NoTable(_)) => least = 0,
                    Err(e) => return Err(anyhow::Error::from(e)),
                }
            }
            if least >= synced {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let spinner = progress::spinner("waiting until the tables hold all that is durable");
    let outcome = tokio::time::timeout(CATCH_UP, behind).await;
    spinner.finish_and_clear();
    outcome.with_context(|| {
        format!("the journal has {synced} records and the tables do not hold them all: let `meterlake collect` bring them in")
    })?
}

/// Devices of Modbus lines are known by line and unit, not by name.
fn with_addresses(config: &Config, mut subject: Subject) -> Subject {
    let mut addresses = Vec::new();
    for line in config.modbus_lines() {
        let own = line.devices.iter().filter(|d| subject.meters.contains(d.meter_id.as_str()));
        addresses.extend(own.map(|device| (format!("modbus/{}", line.name), format!("{}/", device.unit))));
    }
    for (source, topic) in addresses {
        subject = subject.reached_at(source, topic);
    }
    subject
}

fn tell(report: &EraseReport, args: &SubjectArgs) {
    let verb = if args.dry_run { "would be" } else { "are" };
    eprintln!("{} rows {verb} erased, of {} meters", report.rows(), report.meters.len());
    if !report.shared_points.is_empty() {
        let points: Vec<_> = report.shared_points.iter().map(String::as_str).collect();
        eprintln!("the data of {} stay: these places were other customers' too", points.join(", "));
    }
    if !args.dry_run {
        eprintln!("tombstone {}: a registry that names them again is refused", report.id);
    }
}

fn tell_remains(config: &Config, now: Timestamp) {
    let until = |days: i64| now.plus_seconds(days * 86_400);
    let keep = duration_text(config.collect.journal_keep);
    eprintln!("what is left of them on disk goes by itself while jobs and collector run:");
    eprintln!("  files of older versions until {}", until(8));
    eprintln!("  statistics in the tables' logs until {}", until(31));
    eprintln!("  records of the journal {keep} after they were committed, with their whole file");
    eprintln!("  backups are yours to delete");
    eprintln!("`meterlake erase verify` tells; with --now all but backups goes at once");
}

async fn cut(config: &Config, lake: &Lake) -> anyhow::Result<()> {
    let mut done = Remains::default();
    for table in lake.tables().await? {
        let cut = lake.cut_history(&table).await?;
        done.files += cut.files;
        done.log_files += cut.log_files;
    }
    match lake.cut_journal(&config.collect.journal).await? {
        Ok(cut) => done.segments = cut.segments,
        Err(JournalError::Locked { dir }) => {
            bail!("the journal {} is in use: stop the collector and call this again", dir.display())
        }
        Err(e) => return Err(e.into()),
    }
    eprintln!(
        "removed {} files and {} log files of older versions, and {} files of the journal; backups are yours to delete",
        done.files, done.log_files, done.segments
    );
    Ok(())
}

async fn verify(config: &Config, lake: &Lake, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let journal = &config.collect.journal;
    let mut folders = vec![journal.clone(), aside_of(journal)];
    folders.extend(lake.local_root().map(Path::to_owned));
    folders.extend(spills());
    let words = Words::new(args.word.iter().chain([&args.id]));
    let spinner = progress::spinner("looking at every byte");
    let in_bucket = match lake.local_root() {
        Some(_) => Searched::default(),
        None => lake.search(&words).await?,
    };
    let searched = tokio::task::spawn_blocking(move || search(&folders, &words)).await?;
    spinner.finish_and_clear();
    let searched = in_bucket.with(searched.context("cannot look at every file")?);
    output::write_batch(found_batch(&searched)?, args.format.unwrap_or_else(Format::for_stdout)).await?;
    eprintln!(
        "{} in {} files of {} bytes",
        if searched.found.is_empty() {
            "not found".to_owned()
        } else {
            format!("found in {} places", searched.found.len())
        },
        searched.files,
        searched.bytes
    );
    for path in &searched.unreadable {
        eprintln!("{} cannot be decoded: only its bytes as they are were looked at", path.display());
    }
    if lake.local_root().is_none() {
        eprintln!("older object versions, should the bucket keep them, were not looked at");
    }
    let clean = searched.found.is_empty() && searched.unreadable.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What queries that were killed left behind.
fn spills() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"datafusion-")))
        .collect()
}

async fn list(lake: &Lake, args: &ListArgs) -> anyhow::Result<()> {
    let erasures = lake.erasures().await?;
    let texts = |of: &dyn Fn(&meterlake_store::life::Erasure) -> Option<String>| -> Arc<dyn Array> {
        Arc::new(erasures.iter().map(of).collect::<StringArray>())
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("erasure_id", texts(&|e| Some(e.id.clone())), false),
        ("kind", texts(&|e| Some(e.kind.to_string())), false),
        ("erased_at", texts(&|e| Some(e.erased_at.to_string())), false),
        ("from", texts(&|e| e.from.map(|t| t.to_string())), true),
        ("to", texts(&|e| e.to.map(|t| t.to_string())), true),
        ("rows", Arc::new(erasures.iter().map(|e| Some(e.rows)).collect::<UInt64Array>()), false),
        ("reason", texts(&|e| Some(e.reason.clone())), false),
        ("who", texts(&|e| Some(e.who.clone())), false),
    ])?;
    output::write_batch(batch, args.format.unwrap_or_else(Format::for_stdout)).await
}

fn tables_batch(report: &EraseReport) -> anyhow::Result<RecordBatch> {
    let tables = &report.tables;
    Ok(RecordBatch::try_from_iter([
        ("table", Arc::new(tables.iter().map(|t| Some(t.table.as_str())).collect::<StringArray>()) as Arc<dyn Array>),
        ("rows", Arc::new(tables.iter().map(|t| Some(t.rows)).collect::<UInt64Array>())),
        ("rows_edited", Arc::new(tables.iter().map(|t| Some(t.edited)).collect::<UInt64Array>())),
        ("files", Arc::new(tables.iter().map(|t| i64::try_from(t.files).ok()).collect::<Int64Array>())),
        ("bytes", Arc::new(tables.iter().map(|t| Some(t.bytes)).collect::<UInt64Array>())),
    ])?)
}

fn found_batch(searched: &Searched) -> anyhow::Result<RecordBatch> {
    let texts = |of: &dyn Fn(&meterlake_store::life::Found) -> String| -> Arc<dyn Array> {
        Arc::new(searched.found.iter().map(|f| Some(of(f))).collect::<StringArray>())
    };
    Ok(RecordBatch::try_from_iter([
        ("file", texts(&|f| f.path.display().to_string())),
        ("place", texts(&|f| f.place.clone())),
    ])?)
}
