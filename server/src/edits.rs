//! `edit`: values that two people agree on. They stand until they are released, whatever is read later.

use clap::{Args, Subcommand};
use meterlake_analytics::book::{Runs, edit_step, load_book};
use meterlake_analytics::ledger::{EditStep, EditTarget};
use meterlake_model::{Amount, Channel, ChannelKind, CivilDay};

use crate::cli::Global;
use crate::output::{Format, write_texts};
use crate::{jobs, setup};

/// What can be done with edits.
#[derive(Debug, Subcommand)]
pub enum EditCommand {
    /// Propose the use of some days; it stands once somebody else approves
    Propose(ProposeArgs),
    /// Agree to what somebody else proposed: from now on it stands
    Approve(ApproveArgs),
    /// Take an edit back: what was read counts again
    Release {
        /// Which edit, and who
        #[command(flatten)]
        step: ApproveArgs,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List edits
    List(ListArgs),
}

/// What is proposed.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// The usage point
    point: String,
    /// The channel, such as `energy_import_kwh`
    #[arg(long, value_parser = channel)]
    channel: Channel,
    /// First day
    #[arg(long, value_parser = jobs::day)]
    from: CivilDay,
    /// Day after the last
    #[arg(long, value_parser = jobs::day)]
    to: CivilDay,
    /// The use of all these days together, in the unit that closes the channel's name
    #[arg(long = "use", value_name = "AMOUNT", value_parser = amount)]
    value: Amount,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who proposes it
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// Which edit, and who.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Its number, as `edit list` shows it
    number: i64,
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// How edits are listed.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Released and withdrawn ones, too
    #[arg(long)]
    all: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

fn channel(text: &str) -> Result<Channel, String> {
    Channel::by_name(text)
        .filter(|c| c.kind() != ChannelKind::Physical)
        .ok_or_else(|| format!("`{text}` is no register or interval channel, such as energy_import_kwh or volume_m3"))
}

fn amount(text: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| error.to_string())
}

/// Runs one of the commands.
///
/// # Errors
/// When the step is not allowed, or the lake cannot be read or written.
pub async fn run(global: &Global, command: &EditCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        EditCommand::Propose(args) => {
            let registry = lake.read_registry(None).await?;
            anyhow::ensure!(
                registry.usage_points.contains_key(args.point.as_str()),
                "the registry has no usage point {}",
                args.point
            );
            let target = EditTarget {
                usage_point_id: args.point.clone(),
                channel: args.channel,
                first_day: args.from,
                end_day: args.to,
            };
            let step = EditStep::Propose { target, value: args.value, reason: args.reason.clone() };
            let id = edit_step(&lake, None, &args.by, step).await?;
            println!("edit {id} is proposed: somebody other than {} has to approve it", args.by.trim());
        }
        EditCommand::Approve(args) => {
            edit_step(&lake, Some(args.number), &args.by, EditStep::Approve).await?;
            println!("edit {} stands; the next run of its month takes it in", args.number);
        }
        EditCommand::Release { step, reason } => {
            edit_step(&lake, Some(step.number), &step.by, EditStep::Release { reason: reason.clone() }).await?;
            println!("edit {} is released; the next run of its month takes that in", step.number);
        }
        EditCommand::List(args) => {
            let book = load_book(&lake, &Runs::None).await?;
            let headings = [
                "edit",
                "state",
                "usage_point_id",
                "channel",
                "first_day",
                "last_day",
                "use",
                "proposed_by",
                "approved_by",
                "released_by",
                "reason",
            ];
            let shown = book.edits.all().filter(|e| args.all || e.released.is_none());
            let who = |step: Option<(&String, String)>| step.map(|(by, at)| format!("{by} {at}")).unwrap_or_default();
            let rows: Vec<_> = shown
                .map(|e| {
                    [
                        e.id.to_string(),
                        e.state().to_owned(),
                        e.target.usage_point_id.clone(),
                        e.target.channel.name().to_owned(),
                        e.target.first_day.to_string(),
                        e.target.end_day.plus_days(-1).to_string(),
                        e.value.to_string(),
                        who(Some((&e.proposed.0, e.proposed.1.to_string()))),
                        who(e.approved.as_ref().map(|(by, at)| (by, at.to_string()))),
                        who(e.released.as_ref().map(|(by, at, _)| (by, at.to_string()))),
                        e.reason.clone(),
                    ]
                })
                .collect();
            write_texts(headings, &rows, args.format).await?;
        }
    }
    Ok(())
}
