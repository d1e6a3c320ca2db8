//! `tap`: what comes in, as it comes in: readings, events and dead letters, followed from the journal's synced tail.
//!
//! It runs in a process of its own, takes no lock and writes nothing, so it cannot disturb the collector; it shows what
//! is on disk, a few milliseconds after it came, and holds one record of the journal at a time.
//!
//! Rows of readings bear their meter, source and map, not the topic that they came by: that stands in the messages. So a
//! topic selects messages (those that a map keeps with `keep_raw`, and dead letters, which are always kept), which are
//! read once more with the present maps for their readings.

mod follow;
pub(crate) mod messages;
pub(crate) mod select;
mod show;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use meterlake_config::Config;
use meterlake_model::{Commodity, ReadingBatch, Timestamp};

use crate::cli::Global;
use crate::{setup, status};
use follow::{Follower, Next};
use messages::Messages;
use select::{Selection, TopicFilter};
use show::{Item, Kind};

/// What is shown, and how.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Only this meter; a trailing * stands for the rest of the name. May be given several times
    ///
    /// Of dead letters, which have no meter, those that name it anywhere are shown.
    #[arg(long, value_name = "ID")]
    meter: Vec<String>,
    /// Only what came by topics that match this MQTT filter (+ one level, # the rest); of Modbus lines the topic is
    /// UNIT/FUNCTION/FIRST+COUNT, such as 7/4/0+80. May be given several times
    ///
    /// Shows the messages as they came and what the present maps read of them. Only maps and profiles with `keep_raw`
    /// keep messages that could be read; what could not be read is always kept.
    #[arg(long, value_name = "FILTER", value_parser = TopicFilter::parse)]
    topic: Vec<TopicFilter>,
    /// Only of this broker or Modbus line, by its name in the configuration. May be given several times
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only readings of this commodity, electricity or water
    #[arg(long, value_parser = commodity)]
    commodity: Option<Commodity>,
    /// Show readings; with any of --readings, --events, --dead-letters only what they name [default: all three]
    #[arg(long)]
    readings: bool,
    /// Show meter events
    #[arg(long)]
    events: bool,
    /// Show what could not be read, with its reason
    #[arg(long)]
    dead_letters: bool,
    /// End after so many are shown
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Begin at this position of the journal, or with the `oldest` that is kept, instead of now
    #[arg(long, value_name = "POSITION", value_parser = start)]
    from: Option<u64>,
    /// End where the journal ends now instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Form [default: text on a terminal, json elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<TapFormat>,
}

/// Form of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TapFormat {
    /// One line each, for people.
    Text,
    /// One JSON object a line, values as exact numbers.
    Json,
}

/// Between two looks at the journal when there was nothing new.
const LOOK: Duration = Duration::from_millis(100);

fn commodity(text: &str) -> Result<Commodity, String> {
    Commodity::parse(text).ok_or_else(|| "electricity and water are known".to_owned())
}

fn start(text: &str) -> Result<u64, String> {
    if text == "oldest" {
        return Ok(0);
    }
    text.parse().map_err(|_| "a position such as 1200, or `oldest`, is allowed".to_owned())
}

/// Shows what comes in until it is told to stop, or as much as was asked for.
///
/// # Errors
/// When the configuration is refused or the journal cannot be read.
pub async fn run(global: &Global, args: &TapArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let mut follower = Follower::open(&config.collect.journal, args.from)?;
    let messages = if args.topic.is_empty() { None } else { Some(Messages::new(&config).await?) };
    let person = io::stdout().is_terminal();
    if io::stderr().is_terminal() {
        announce(&config, &follower, args, messages.as_ref());
    }
    let mut tap = Tap {
        selection: Selection::new(&config, args),
        messages,
        format: args.format.unwrap_or(if person { TapFormat::Text } else { TapFormat::Json }),
    };
    let end = args.no_follow.then(|| follower.synced()).transpose()?;
    let mut out = BufWriter::new(io::stdout());
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        if end.is_some_and(|end| follower.position() > end) {
            break;
        }
        match follower.next()? {
            Next::Record(position, batch) => match tap.show(position, &batch, &mut left, &mut out) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            },
            Next::Told(what) => eprintln!("{what}"),
            Next::Nothing if end.is_some() => break,
            Next::Nothing => tokio::time::sleep(LOOK).await,
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// What a person should know who looks and sees nothing.
fn announce(config: &Config, follower: &Follower, args: &TapArgs, messages: Option<&Messages>) {
    let journal = &config.collect.journal;
    eprintln!("following {} from position {}; Ctrl-C ends it", journal.display(), follower.position());
    let now_s = Timestamp::now().unix_seconds();
    if !args.no_follow && !status::read_report(journal).ok().flatten().is_some_and(|report| report.is_fresh(now_s)) {
        eprintln!("no collector runs on it now: nothing new comes until `meterlake collect` or `meterlake run` does");
    }
    if let Some(unkept) = messages.and_then(|messages| messages.unkept(config)) {
        eprintln!("{unkept}");
    }
}

struct Tap {
    selection: Selection,
    /// To read messages once more, where they are selected by topic.
    messages: Option<Messages>,
    format: TapFormat,
}

impl Tap {
    fn show(&mut self, position: u64, batch: &ReadingBatch, left: &mut u64, out: &mut impl Write) -> io::Result<()> {
        let (selection, format) = (&self.selection, self.format);
        let mut shown = Ok(());
        let mut emit = |item: Item<'_>| {
            if *left > 0 && shown.is_ok() && selection.takes(&item) {
                *left -= 1;
                shown = match format {
                    TapFormat::Text => show::text(&item, out),
                    TapFormat::Json => show::json(position, &item, out),
                };
            }
        };
        match &mut self.messages {
            None => show::items(batch, None, &mut emit),
            Some(messages) => {
                for raw in batch.raw.iter().filter(|raw| selection.takes_topic(&raw.topic)) {
                    emit(Item { topic: Some(&raw.topic), kind: Kind::Message(raw) });
                    show::items(&messages.read(raw), Some(&raw.topic), &mut emit);
                }
                let dead = batch.dead_letters.iter().filter(|dead| selection.takes_topic(&dead.message.topic));
                dead.for_each(|dead| emit(Item { topic: Some(&dead.message.topic), kind: Kind::Dead(dead) }));
            }
        }
        shown?;
        out.flush()
    }
}
