//! `backup` and `restore`: a copy of lake and journal at a consistent state, and the way back.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use meterlake_config::{LakeRoot, bytes_text};
use meterlake_model::Timestamp;
use meterlake_store::life::{self, BackupOptions};

use crate::cli::Global;
use crate::{progress, setup};

/// Where the backup goes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Folder of the backups; files that an earlier backup there has are not copied again
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Link files instead of copying them where folder and lake are on one file system: quick and small, and no help
    /// against a broken disk
    #[arg(long)]
    link: bool,
}

/// What is restored.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Folder of the backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Which backup, as `backup` named it [default: the newest]
    #[arg(long)]
    name: Option<String>,
}

/// Makes a backup, while everything runs.
///
/// # Errors
/// When something cannot be read or written; an earlier backup stays whole.
pub async fn backup(global: &Global, args: &BackupArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    if args.link && matches!(config.lake.root, LakeRoot::S3(_)) {
        bail!("{} is on an object store, whose files cannot be linked: call this without --link", config.lake.root);
    }
    let lake = setup::open_lake(&config)?;
    let config_text = match &global.config {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => Vec::new(),
    };
    let options = BackupOptions {
        to: args.to.clone(),
        journal: config.collect.journal.clone(),
        config: config_text,
        now: Timestamp::now(),
        link: args.link,
    };
    let spinner = progress::spinner("copying tables and journal");
    let report = lake.backup(&options).await;
    spinner.finish_and_clear();
    let report = report?;
    let manifest = &report.manifest;
    println!(
        "backup {} in {}: {} tables of {} rows, journal up to {}; {} files of {} copied, {} were there",
        manifest.name,
        args.to.display(),
        manifest.tables.len(),
        manifest.tables.values().map(|t| t.rows).sum::<u64>(),
        manifest.journal_to,
        report.copied_files,
        bytes_text(report.copied_bytes),
        report.kept_files
    );
    println!("configuration, maps and secrets are not in it: keep them beside it");
    Ok(())
}

/// Restores a backup to where the configuration says, which must be empty.
///
/// # Errors
/// When a file is damaged, the places are not empty, or the lake is to be on an object store: nothing was written then.
pub async fn restore(global: &Global, args: &RestoreArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let LakeRoot::Folder(lake) = &config.lake.root else {
        bail!(
            "`lake.root` is {}: a backup is restored to a local folder only; name one, restore, and copy it to the \
             bucket as it is",
            config.lake.root
        );
    };
    let journal = &config.collect.journal;
    let spinner = progress::spinner("comparing checksums, then copying");
    let report = life::restore(&args.from, args.name.as_deref(), lake, journal).await;
    spinner.finish_and_clear();
    let report = report?;
    println!(
        "backup {} is restored to {} and {}: {} files of {}, {} rows; the doctor finds it sound",
        report.manifest.name,
        lake.display(),
        journal.display(),
        report.files,
        bytes_text(report.bytes),
        report.rows
    );
    println!("what was erased after it was made is in it again: see `meterlake erase list` of the lake that was lost");
    Ok(())
}
