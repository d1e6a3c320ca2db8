//! `maps` and `profiles`: what comes with the program, to start one's own from.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use clap::{Args, Subcommand};
use meterlake_config::device_profile::DeviceProfile;
use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::golden;

use crate::output::{self, Format};

/// What can be asked of the payload maps that come with the program.
#[derive(Debug, Subcommand)]
pub enum MapsCommand {
    /// List them: which topics each reads, and what it is for
    List(ListArgs),
    /// Print one, to start one's own file from
    Show(ShowArgs),
}

/// What can be asked of the device profiles that come with the program.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// List them: maker, model, and how many values each reads
    List(ListArgs),
    /// Print one, to start one's own file from
    Show(ShowArgs),
}

/// How a list is written.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Which one.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name, as the list has it
    name: String,
    /// Print its golden file instead: what it reads, and what must come of it (see `meterlake test`)
    #[arg(long)]
    golden: bool,
}

/// Lists or shows maps.
///
/// # Errors
/// When there is none of the name, or the output cannot be written.
pub async fn maps(command: &MapsCommand) -> anyhow::Result<()> {
    match command {
        MapsCommand::List(args) => {
            let names = PayloadMap::shipped_names();
            let maps: Vec<_> =
                names.filter_map(|name| Some((PayloadMap::shipped(name)?, text_of_map(name)?))).collect();
            let columns = vec![
                texts("name", maps.iter().map(|(map, _)| map.name.clone())),
                numbers("version", maps.iter().map(|(map, _)| map.version)),
                texts("topic", maps.iter().map(|(map, _)| map.topic.to_string())),
                texts("for", maps.iter().map(|(_, text)| purpose(text))),
            ];
            list(columns, args).await
        }
        MapsCommand::Show(args) => {
            let golden = |name: &str| golden::shipped().find(|(of, _)| *of == name).map(|(_, text)| text);
            let text = if args.golden { golden(&args.name) } else { text_of_map(&args.name) };
            show("map", args, text, PayloadMap::shipped_names())
        }
    }
}

fn text_of_map(name: &str) -> Option<&'static str> {
    PayloadMap::shipped_text(name)
}

/// Lists or shows profiles.
///
/// # Errors
/// As [`maps`].
pub async fn profiles(command: &ProfilesCommand) -> anyhow::Result<()> {
    match command {
        ProfilesCommand::List(args) => {
            let profiles: Vec<_> = DeviceProfile::shipped_names().filter_map(DeviceProfile::shipped).collect();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let columns = vec![
                texts("name", profiles.iter().map(|p| p.name.clone())),
                numbers("version", profiles.iter().map(|p| p.version)),
                texts("commodity", profiles.iter().map(|p| p.commodity.to_string())),
                texts("maker", profiles.iter().map(|p| p.maker.clone())),
                texts("model", profiles.iter().map(|p| p.model.clone())),
                numbers("values", profiles.iter().map(|p| count(p.fields.len()))),
                numbers("requests", profiles.iter().map(|p| count(meterlake_ingest::modbus::plan(p).len()))),
                texts("source", profiles.iter().map(|p| p.source.clone())),
            ];
            list(columns, args).await
        }
        ProfilesCommand::Show(args) => {
            let name = &args.name;
            let text =
                if args.golden { DeviceProfile::shipped_vector(name) } else { DeviceProfile::shipped_text(name) };
            show("profile", args, text, DeviceProfile::shipped_names())
        }
    }
}

/// The first sentence of a file's opening remark.
fn purpose(text: &str) -> String {
    let remark = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let whole = remark.collect::<Vec<_>>().join(" ");
    whole.split_once(". ").map_or(whole.as_str(), |(first, _)| first).trim_end_matches('.').to_owned()
}

fn show(
    kind: &str,
    args: &ShowArgs,
    text: Option<&str>,
    names: impl Iterator<Item = &'static str>,
) -> anyhow::Result<()> {
    let text = text.with_context(|| {
        let names: Vec<_> = names.collect();
        format!("no {kind} `{}` comes with the program; there are {}", args.name, names.join(", "))
    })?;
    print!("{text}");
    Ok(())
}

async fn list(columns: Vec<(&str, ArrayRef)>, args: &ListArgs) -> anyhow::Result<()> {
    let batch = RecordBatch::try_from_iter(columns)?;
    output::write_batch(batch, args.format.unwrap_or_else(Format::for_stdout)).await
}

fn texts(name: &str, values: impl Iterator<Item = String>) -> (&str, ArrayRef) {
    (name, Arc::new(StringArray::from_iter_values(values)))
}

fn numbers(name: &str, values: impl Iterator<Item = u32>) -> (&str, ArrayRef) {
    (name, Arc::new(UInt32Array::from_iter_values(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_map_says_what_it_is_for() {
        for name in PayloadMap::shipped_names() {
            assert!(purpose(text_of_map(name).unwrap()).len() > 10, "{name} opens without a remark");
        }
        assert_eq!(purpose("# One.\n# Two. Three.\n\nname = 1"), "One");
    }
}
