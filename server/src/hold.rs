//! `hold`: periods that must stay, whatever retention says; they block erasures too.

use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{Array, RecordBatch, StringArray};
use clap::{Args, Subcommand};
use meterlake_model::{CivilDay, Commodity, Timestamp, Zone};
use meterlake_store::life::{Hold, SubjectKind};

use crate::cli::Global;
use crate::output::{self, Format};
use crate::{jobs, setup};

/// What can be asked of holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Place a hold: nothing that it names is taken out by retention or erasure until it is released
    Add(AddArgs),
    /// List the active holds
    List(ListArgs),
    /// Release a hold; it stays listed with --all
    Release {
        /// Its id, as `hold list` gives it
        id: String,
        /// Who releases it
        #[arg(long)]
        who: String,
    },
}

/// What is held. What is left out does not narrow it: without any, everything is.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Why, for whoever finds it in five years
    #[arg(long)]
    reason: String,
    /// Who says so
    #[arg(long)]
    who: String,
    /// Only this table
    #[arg(long)]
    table: Option<String>,
    /// Only this commodity: electricity or water
    #[arg(long, value_parser = commodity)]
    commodity: Option<Commodity>,
    /// Only this meter
    #[arg(long, group = "subject")]
    meter: Option<String>,
    /// Only this usage point, with all its meters
    #[arg(long, group = "subject")]
    usage_point: Option<String>,
    /// Only this customer, with all their usage points
    #[arg(long, group = "subject")]
    customer: Option<String>,
    /// From this day on, in UTC
    #[arg(long, value_parser = jobs::day)]
    from: Option<CivilDay>,
    /// Before this day, in UTC
    #[arg(long, value_parser = jobs::day)]
    to: Option<CivilDay>,
}

/// Which are listed, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Released ones too
    #[arg(long)]
    all: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

fn commodity(text: &str) -> Result<Commodity, String> {
    Commodity::parse(text).ok_or_else(|| format!("`{text}` is no commodity: electricity or water"))
}

/// Runs one of them.
///
/// # Errors
/// When the lake cannot be read or written, or there is nothing of what is to be held.
pub async fn run(global: &Global, command: &HoldCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        HoldCommand::Add(args) => {
            let hold = hold(args);
            if let Some(table) = &hold.table
                && !lake.tables().await?.contains(table)
            {
                bail!("there is no table {table} to hold; there are {}", lake.tables().await?.join(", "));
            }
            if let Some((kind, id)) = &hold.subject
                && !lake.subject(*kind, id).await?.registered
            {
                bail!("the registry knows no {kind} {id}: a hold that keeps nothing is a mistake");
            }
            let id = lake.place_hold(&hold, Timestamp::now()).await?;
            println!("{id} keeps {} until it is released", hold.scope());
        }
        HoldCommand::List(args) => {
            let mut holds = lake.holds().await?;
            holds.retain(|hold| args.all || hold.is_active());
            output::write_batch(batch(&holds)?, args.format.unwrap_or_else(Format::for_stdout)).await?;
        }
        HoldCommand::Release { id, who } => {
            let hold = lake.release_hold(id, who, Timestamp::now()).await?;
            println!("{id} is released: {} may go when its time is over", hold.scope());
        }
    }
    Ok(())
}

fn hold(args: &AddArgs) -> Hold {
    let kinds = [
        (SubjectKind::Meter, &args.meter),
        (SubjectKind::UsagePoint, &args.usage_point),
        (SubjectKind::Customer, &args.customer),
    ];
    let utc = Zone::utc();
    Hold {
        id: String::new(),
        table: args.table.clone(),
        commodity: args.commodity,
        subject: kinds.into_iter().find_map(|(kind, id)| Some((kind, id.clone()?))),
        from: args.from.map(|day| utc.start_of_day(day)),
        to: args.to.map(|day| utc.start_of_day(day)),
        reason: args.reason.clone(),
        who: args.who.clone(),
        placed_at: Timestamp::now(),
        released: None,
    }
}

fn batch(holds: &[Hold]) -> anyhow::Result<RecordBatch> {
    let texts = |of: &dyn Fn(&Hold) -> Option<String>| -> Arc<dyn Array> {
        Arc::new(holds.iter().map(of).collect::<StringArray>())
    };
    RecordBatch::try_from_iter_with_nullable([
        ("hold_id", texts(&|h| Some(h.id.clone())), false),
        ("table", texts(&|h| h.table.clone()), true),
        ("commodity", texts(&|h| h.commodity.map(|c| c.as_str().to_owned())), true),
        ("subject", texts(&|h| h.subject.as_ref().map(|(kind, id)| format!("{kind} {id}"))), true),
        ("from", texts(&|h| h.from.map(|t| t.to_string())), true),
        ("to", texts(&|h| h.to.map(|t| t.to_string())), true),
        ("reason", texts(&|h| Some(h.reason.clone())), false),
        ("who", texts(&|h| Some(h.who.clone())), false),
        ("placed_at", texts(&|h| Some(h.placed_at.to_string())), false),
        ("released_at", texts(&|h| h.released.as_ref().map(|r| r.0.to_string())), true),
        ("released_by", texts(&|h| h.released.as_ref().map(|r| r.1.clone())), true),
    ])
    .context("the answer cannot be written")
}
