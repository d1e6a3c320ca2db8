//! `redecode`: history decoded again from the messages as they came, after a map, profile, scale or word order was mended.
//!
//! A preview decodes the messages of some days with the present configuration, compares what they say with what stands in
//! the tables, and computes what that would do to use and bills. It ends with a name: the newest commit that it looked at
//! and a digest of every row that would be written. Who applies it names it, so that what is written is what was seen. Rows
//! go through the journal like all others and begin a new generation of revisions ([`meterlake_model::revision`]): nothing
//! is written over, and who asks for then sees then. Where issued bills change two people agree, as for edits.

mod apply;
mod compare;
mod decode;
mod effect;
mod groups;
mod kept;
mod preview;
mod rows;
mod select;
mod show;
mod tally;

use std::path::Path;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use meterlake_config::Config;
use meterlake_model::Timestamp;
use meterlake_store::Lake;

use crate::cli::Global;
use crate::output::Format;
use crate::setup;
use effect::Effect;
use kept::{Kept, Step};
use preview::{Preview, pin_of};
use select::Selection;
use show::Show;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum RedecodeCommand {
    /// Decode messages of the past with the present configuration and show what would change; changes nothing
    ///
    /// By meter and channel: values that are equal, changed (the first and the last, old and new, and their ratio), new,
    /// and no longer decoded. By month: use before and after. Of issued bills: the ledger rows that would be posted. The
    /// last line on standard error is the preview's name, which `apply` asks for. It needs room for about 30 bytes a
    /// reading in the folder for temporary files (TMPDIR).
    Preview(PreviewArgs),
    /// Write what a preview showed, as new revisions; where issued bills change it waits for somebody to approve it
    ///
    /// Nothing is written over: rows of before stay as earlier revisions. Called again after a crash it writes what is
    /// missing, and nothing where all is written. The next run of the jobs posts the corrections, with cause re_decode.
    Apply(ApplyArgs),
    /// Agree to what somebody else proposed, and write it; after a crash called again
    Approve {
        /// Name of the preview
        id: String,
        /// Who agrees: another person than the one who proposed it
        #[arg(long, value_name = "NAME")]
        by: String,
    },
    /// List what was proposed, approved and applied
    List {
        /// Form of the list [default: table on a terminal, csv elsewhere]
        #[arg(long, short, value_enum)]
        format: Option<Format>,
    },
}

/// What is previewed, and how it is shown.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// Which messages
    #[command(flatten)]
    selection: Selection,
    /// What is shown; may be given several times [default: all on a terminal, readings elsewhere]
    #[arg(long, value_enum)]
    show: Vec<Show>,
    /// Form of the lists [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// What is applied.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Name of the preview, as its last line says
    id: String,
    /// Which messages: as they were selected for the preview
    #[command(flatten)]
    selection: Selection,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// Runs one of the commands.
///
/// # Errors
/// When nothing matches, messages are gone, what is there is not what the preview saw, or rows cannot be made durable.
pub async fn run(global: &Global, command: &RedecodeCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        RedecodeCommand::Preview(args) => {
            let folder = Folder::new()?;
            let preview = preview::preview(&config, &lake, &args.selection, None, folder.path()).await?;
            let effect = effect::effect(&lake, &setup::rules(&config), &preview).await?;
            show::show(&preview, &effect, &args.show, args.format).await
        }
        RedecodeCommand::Apply(args) => apply_or_propose(&config, &lake, args).await,
        RedecodeCommand::Approve { id, by } => {
            let steps = kept::load(&lake, Some(id)).await?;
            kept::may_approve(&steps, id, by)?;
            let folder = Folder::new()?;
            let proposed = steps.iter().find(|kept| kept.step == Step::Proposed).context("nothing was proposed")?;
            let preview = again(&config, &lake, &proposed.selection, id, folder.path()).await?;
            let kept = Kept { by: by.clone(), at: Timestamp::now(), step: Step::Approved, rows: 0, ..proposed.clone() };
            if !steps.iter().any(|kept| kept.step == Step::Approved) {
                kept::add(&lake, &kept).await?;
            }
            write(&config, &lake, &preview, kept).await
        }
        RedecodeCommand::List { format } => show::list(&kept::load(&lake, None).await?, *format).await,
    }
}

/// The preview of this name, computed once more: what is written must be what was seen.
async fn again(
    config: &Config,
    lake: &Lake,
    selection: &Selection,
    id: &str,
    folder: &Path,
) -> anyhow::Result<Preview> {
    let preview = preview::preview(config, lake, selection, Some(pin_of(id)?), folder).await?;
    ensure!(
        preview.id == id,
        "what would be written is not what preview {id} showed, but {}: the configuration, the registry or the selection \
         is another one; look at a new preview",
        preview.id
    );
    Ok(preview)
}

async fn apply_or_propose(config: &Config, lake: &Lake, args: &ApplyArgs) -> anyhow::Result<()> {
    let (id, by) = (&args.id, args.by.trim());
    ensure!(!by.is_empty(), "who does it is missing");
    ensure!(!args.reason.trim().is_empty(), "why is missing");
    let folder = Folder::new()?;
    let preview = again(config, lake, &args.selection, id, folder.path()).await?;
    let steps = kept::load(lake, Some(id)).await?;
    let has = |step| steps.iter().any(|kept| kept.step == step);
    let kept = Kept {
        id: id.clone(),
        step: Step::Applied,
        at: Timestamp::now(),
        by: by.to_owned(),
        reason: args.reason.trim().to_owned(),
        selection: args.selection.clone(),
        rows: 0,
    };
    let agreed = has(Step::Approved) || has(Step::Applied);
    let effect = match agreed {
        true => Effect::default(),
        false => effect::effect(lake, &setup::rules(config), &preview).await?,
    };
    if !effect.ledger.is_empty() {
        if !has(Step::Proposed) {
            kept::add(lake, &Kept { step: Step::Proposed, ..kept }).await?;
        }
        println!(
            "re-decode {id} is proposed, since {} numbers of issued bills change: somebody other than {by} has to agree \
             with `redecode approve {id} --by NAME`",
            effect.ledger.len()
        );
        return Ok(());
    }
    write(config, lake, &preview, kept).await
}

/// Writes what is not there yet, and takes it down.
async fn write(config: &Config, lake: &Lake, preview: &Preview, kept: Kept) -> anyhow::Result<()> {
    let rows = apply::apply(config, preview).await?;
    let done = kept::load(lake, Some(&kept.id)).await?.iter().any(|k| k.step == Step::Applied);
    if rows > 0 || !done {
        let kept = Kept { step: Step::Applied, at: Timestamp::now(), rows: i64::try_from(rows)?, ..kept };
        kept::add(lake, &kept).await?;
    }
    match rows {
        0 => println!("nothing is to be written: all that preview {} showed stands", preview.id),
        _ => println!(
            "{rows} rows are durable; the next runs of the jobs take them in and post what changes of issued bills"
        ),
    }
    Ok(())
}

/// A folder for as long as a re-decode is computed.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let made = tempfile::Builder::new().prefix("meterlake-redecode-").tempdir();
        made.map(Self).with_context(|| format!("cannot make a folder below {}", std::env::temp_dir().display()))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
