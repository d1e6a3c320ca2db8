//! `doctor`: looks at lake and journal before harm is done, and mends what can be mended.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use meterlake_config::LakeRoot;
use meterlake_store::Lake;
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
    let findings = match root {
        LakeRoot::Folder(folder) => {
            if args.mend {
                for done in doctor::mend(folder, journal).await? {
                    println!("mended {}: {}", done.subject, done.action);
                }
            }
            doctor::examine(folder, journal, Depth::Whole).await
        }
        LakeRoot::S3(_) if args.mend => bail!(
            "{root} is on an object store, where no power cut leaves half a commit: there is nothing to set aside. Run \
             `meterlake doctor` for what is wrong; what was removed comes back from the bucket's older object versions"
        ),
        LakeRoot::S3(_) => doctor::examine_lake(&setup::connect(&config)?, journal, Depth::Whole).await,
    };
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{root} and {} are sound", journal.display());
    }
    let unsafe_left = findings.iter().any(|finding| finding.severity == Severity::Unsafe);
    Ok(if unsafe_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks before the collector writes.
///
/// # Errors
/// What makes it unsafe to go on, with the way to mend it.
pub async fn refuse_if_unsafe(lake: &Lake, journal: &Path) -> anyhow::Result<()> {
    let findings = doctor::examine_lake(lake, journal, Depth::Start).await;
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
