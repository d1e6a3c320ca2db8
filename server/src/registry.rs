//! `registry import` and `registry show`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use meterlake_config::registry::read_dir;
use meterlake_model::registry::Registry;
use meterlake_store::Lake;
use meterlake_store::life::SubjectKind;

use crate::cli::Global;
use crate::setup;

/// What can be asked of the registry.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Read CSV files (usage_points.csv, meters.csv, installations.csv, installation_channels.csv, customers.csv,
    /// network.csv) as the registry's next revision; refused whole when anything in them is wrong
    Import {
        /// The folder with the files
        dir: PathBuf,
        /// Take in meters and customers that were erased, too: they are somebody's again
        #[arg(long)]
        with_erased: bool,
    },
    /// Say what the registry holds
    Show,
}

/// Runs one of them.
///
/// # Errors
/// When the files are refused, with every problem by file and line; when the lake cannot be written.
pub async fn run(global: &Global, command: &RegistryCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    match command {
        RegistryCommand::Import { dir, with_erased } => {
            let registry = match read_dir(dir) {
                Ok(registry) => registry,
                Err(problems) => {
                    for problem in &problems {
                        eprintln!("{problem}");
                    }
                    bail!("{} problems in {}; nothing was imported", problems.len(), dir.display());
                }
            };
            let lake = setup::connect(&config)?;
            if !with_erased {
                refuse_erased(&lake, &registry).await?;
            }
            let imported = lake.write_registry(&registry).await?;
            let verb = if imported.changed { "is now" } else { "was already" };
            println!(
                "the registry {verb} revision {}: {} usage points, {} meters, {} installations, {} customers, {} network nodes",
                imported.revision,
                registry.usage_points.len(),
                registry.meters.len(),
                registry.installations.len(),
                registry.customers.len(),
                registry.network.len()
            );
        }
        RegistryCommand::Show => {
            let registry = setup::open_lake(&config)?.read_registry(None).await?;
            println!(
                "revision {}: {} usage points, {} meters, {} installations, {} customers, {} network nodes",
                registry.revision,
                registry.usage_points.len(),
                registry.meters.len(),
                registry.installations.len(),
                registry.customers.len(),
                registry.network.len()
            );
        }
    }
    Ok(())
}

/// An erasure is not undone by files that still name whom it was about.
async fn refuse_erased(lake: &Lake, registry: &Registry) -> anyhow::Result<()> {
    let erasures = lake.erasures().await?;
    let meters = registry.meters.keys().map(|id| (SubjectKind::Meter, id.as_str()));
    let customers = registry.customers.keys().map(|id| (SubjectKind::Customer, id.as_str()));
    let named: Vec<_> = meters
        .chain(customers)
        .filter_map(|(kind, id)| Some((kind, id, erasures.iter().find(|e| e.is_of(kind, id))?)))
        .map(|(kind, id, erasure)| format!("{kind} {id}, erased at {}", erasure.erased_at))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    bail!(
        "the files name who was erased; take them out, or import with --with-erased. Nothing was imported:\n  {}",
        named.join("\n  ")
    )
}
