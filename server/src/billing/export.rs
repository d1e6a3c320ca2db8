//! `billing export`: bills as files for a billing system, each written once, with a manifest.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use meterlake_analytics::book::{Runs, load_book};
use meterlake_analytics::exports::{BillsWanted, Column, ExportOptions, Folder, Format, export_bills};
use meterlake_config::Config;
use meterlake_model::CivilDay;
use meterlake_store::Lake;
use meterlake_store::durable::SystemSync;

use super::{month, run_of};
use crate::progress;

/// What is exported, and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, visible_alias = "run", value_parser = month)]
    month: CivilDay,
    /// Which list of the month; `billing lists` shows them [default: the only one]
    #[arg(long, value_name = "NUMBER")]
    list: Option<i64>,
    /// Only this usage point: a customer's own file
    #[arg(long, value_name = "USAGE_POINT")]
    point: Option<String>,
    /// How the file is written
    #[arg(long, short, value_enum)]
    format: ExportFormat,
    /// The folder; what is there is never overwritten
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    /// Items, with the columns of `[billing.export]`
    Csv,
    /// Items, all columns, exact decimals
    Parquet,
    /// Items, all columns, decimals as texts
    Json,
    /// Green Button: curves and uses as an Atom feed of ESPI
    Espi,
    /// Curves of electricity by market day (UTC+10), AEMO's MDFF
    Nem12,
    /// Curves, registers and all other items as MeterReadings of IEC 61968-9
    Iec61968,
}

impl ExportFormat {
    const fn format(self) -> Format {
        match self {
            Self::Csv => Format::Csv,
            Self::Parquet => Format::Parquet,
            Self::Json => Format::Json,
            Self::Espi => Format::Espi,
            Self::Nem12 => Format::Nem12,
            Self::Iec61968 => Format::Iec61968,
        }
    }
}

/// What the configuration says of exports.
pub(crate) fn options(config: &Config) -> ExportOptions {
    let export = &config.export;
    ExportOptions {
        columns: export.columns.iter().filter_map(|name| Column::by_name(name)).collect(),
        nem12_from: export.nem12_from.clone(),
        nem12_to: export.nem12_to.clone(),
    }
}

pub(super) async fn run(config: &Config, lake: &Lake, args: &ExportArgs) -> anyhow::Result<()> {
    let run = run_of(args.month);
    let list = match args.list {
        Some(list) => list,
        None => the_only_list(lake, &run).await?,
    };
    let wanted = BillsWanted { run, list: Some(list), usage_point_id: args.point.clone() };
    let folder = Folder { path: args.to.clone(), sync: Arc::new(SystemSync) };
    let spinner = progress::spinner(&format!("bills of {} to {}", wanted.run, args.to.display()));
    let exported = export_bills(lake, &wanted, args.format.format(), &options(config), &folder).await;
    spinner.finish_and_clear();
    let exported = exported?;
    let (manifest, there) = (&exported.manifest, if exported.was_there { " (was there, the same bytes)" } else { "" });
    println!("{}{there}", exported.path.display());
    let file = &manifest.file;
    eprintln!(
        "list {list}: {} items of {} usage points, {} slots, {} bytes; {}",
        file.items,
        file.usage_points,
        file.slots,
        file.bytes,
        exported.manifest_path.display()
    );
    for left in &manifest.left_out {
        eprintln!("left out: {} ({} of them, the first is {})", left.why, left.count, left.first);
    }
    Ok(())
}

/// What was issued is what goes out.
async fn the_only_list(lake: &Lake, run: &str) -> anyhow::Result<i64> {
    let book = load_book(lake, &Runs::Only(run.to_owned())).await?;
    let lists: BTreeSet<i64> = book.listed.iter().filter(|l| l.run == run).map(|l| l.number).collect();
    match lists.iter().copied().collect::<Vec<_>>().as_slice() {
        [] => bail!("nothing of run {run} has been issued: `billing issue --month {run}` does that"),
        [list] => Ok(*list),
        lists => bail!("run {run} went out in lists {lists:?}: name one with --list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_knows_the_columns_that_exports_have_and_every_format_has_a_name() {
        let names: Vec<&str> = Column::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names, meterlake_config::EXPORT_COLUMNS);
        let formats: Vec<Format> = ExportFormat::value_variants().iter().map(|f| f.format()).collect();
        assert_eq!(formats, Format::ALL);
        for format in ExportFormat::value_variants() {
            assert_eq!(format.to_possible_value().unwrap().get_name(), format.format().as_str());
        }
    }
}
