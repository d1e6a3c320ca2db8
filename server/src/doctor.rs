//! `doctor`: looks at lake and journal before harm is done, and mends what can be mended.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use meterlake_store::doctor::{self, Severity};

use crate::cli::Global;
use crate::setup;

/// What the doctor may do.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Set aside what is damaged, so that the journal can restore it; run it while nothing collects
    #[arg(long)]
    mend: bool,
}

/// Examines, says what it found, and mends if asked. Fails when something unsafe is left.
///
/// # Errors
/// When lake or journal cannot be looked at.
pub async fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = setup::load_config(global)?;
    let (root, journal) = (&config.lake.root, &config.collect.journal);
    if args.mend {
        for done in doctor::mend(root, journal).await? {
            println!("mended: {done}");
        }
    }
    let findings = doctor::examine(root, journal).await?;
    for finding in &findings {
        println!("{}: {}: {}", finding.severity, finding.subject, finding.message);
        println!("    {}", finding.repair);
    }
    if findings.is_empty() {
        println!("{} and {} are sound", root.display(), journal.display());
    }
    let unsafe_left = findings.iter().any(|finding| finding.severity == Severity::Unsafe);
    Ok(if unsafe_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks before the collector writes.
///
/// # Errors
/// What makes it unsafe to go on, with the way to mend it.
pub async fn refuse_if_unsafe(root: &Path, journal: &Path) -> anyhow::Result<()> {
    let mut grave = Vec::new();
    for finding in doctor::examine(root, journal).await? {
        let (subject, message, repair) = (&finding.subject, &finding.message, &finding.repair);
        if finding.severity == Severity::Unsafe {
            grave.push(format!("{subject}: {message}; {repair}"));
        } else {
            tracing::warn!(%subject, %message, %repair, "doctor");
        }
    }
    if !grave.is_empty() {
        bail!("not safe to collect:\n  {}", grave.join("\n  "));
    }
    Ok(())
}
