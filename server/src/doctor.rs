//! `doctor`: looks at lake and journal before harm is done, and mends what can be mended.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use meterlake_store::doctor::{self, Depth, Severity};

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
/// When something cannot be mended; what it says is the reason.
pub async fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = setup::load_config(global)?;
    let (root, journal) = (&config.lake.root, &config.collect.journal);
    if args.mend {
        for done in doctor::mend(root, journal).await? {
            println!("mended {}: {}", done.subject, done.action);
        }
    }
    let findings = doctor::examine(root, journal, Depth::Whole).await;
    for finding in &findings {
        println!("{finding}");
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
    let findings = doctor::examine(root, journal, Depth::Start).await;
    let (grave, others): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Unsafe);
    for finding in others {
        tracing::warn!(severity = %finding.severity, subject = finding.subject, repair = finding.repair, "{}", finding.message);
    }
    if !grave.is_empty() {
        let lines: Vec<_> = grave.iter().map(ToString::to_string).collect();
        bail!("not safe to collect, see `meterlake doctor`:\n  {}", lines.join("\n  "));
    }
    Ok(())
}
