//! `simulate replay`: what real meters once sent, sent again.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use futures::stream;
use meterlake_device_sim::replay::{Dataset, Recording, data_folder};

use super::broker::BrokerArgs;
use super::write_registry;
use crate::shutdown;

/// Which recording, sent how.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The recording
    #[arg(value_enum)]
    set: Set,
    #[command(flatten)]
    broker: BrokerArgs,
    /// The folder of recorded data [default: METERLAKE_DATA, else ../shared/data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Send up to so many readings of a meter in one message, 96 if no number is given: four days of hours, or a day of
    /// quarters [default: one reading a message]
    #[arg(long, value_name = "READINGS", num_args = 0..=1, default_missing_value = "96", value_parser = clap::value_parser!(u16).range(1..=1000))]
    frames: Option<u16>,
    /// Write the registry that is made from the file as CSV files to this folder first
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Write the registry and send nothing
    #[arg(long, requires = "registry")]
    registry_only: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Set {
    /// Registers of 92 water meters in Alicante over a year, 674,019 readings.
    Daiad,
    /// Quarter-hourly use of 150 Swiss homes over seven weeks, 705,600 readings.
    Swiss,
    /// Hourly use of 80 homes in Western Australia over 112 days, 215,040 readings.
    Perth,
}

impl Set {
    fn dataset(self) -> Dataset {
        match self {
            Self::Daiad => Dataset::Daiad,
            Self::Swiss => Dataset::Swiss,
            Self::Perth => Dataset::Perth,
        }
    }
}

/// Publishes the recording.
pub(super) async fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let folder = args.data.clone().unwrap_or_else(data_folder);
    let recording = Recording::open(args.set.dataset(), &folder)?;
    if let Some(dir) = &args.registry {
        write_registry(&recording.registry()?, dir)?;
    }
    if args.registry_only {
        return Ok(());
    }
    let messages = recording.messages(args.frames.map_or(1, usize::from))?;
    let stop = shutdown::on_signal()?;
    args.broker.publish(stream::iter(messages), None, stop).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        replay: ReplayArgs,
    }

    #[test]
    fn frames_are_of_a_stated_length_or_of_96() {
        for (words, expected) in [("daiad", None), ("daiad --frames", Some(96)), ("daiad --frames 24", Some(24))] {
            let line = Line::try_parse_from(std::iter::once("replay").chain(words.split_whitespace())).unwrap();
            assert_eq!(line.replay.frames, expected, "{words}");
        }
    }
}
