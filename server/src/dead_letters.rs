//! `dead-letters`: what could not be read, and another try after the map, profile or registry is mended.
//!
//! A replay decodes with the configuration of this call and hands what can now be read to the collector, which alone
//! writes the journal. What it handed over is taken down in `dead_letter_replays`, so that nothing is listed or tried
//! again; if it is tried twice all the same, its rows are repeats and are dropped.

use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{Array, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use clap::{Args, Subcommand};
use meterlake_config::{Config, MqttBroker};
use meterlake_ingest::{decode, modbus};
use meterlake_model::{MeterDirectory, RawMessage, ReadingBatch, Timestamp, month_key};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Lake, TableSpec};

use crate::births::KeptBirths;
use crate::cli::Global;
use crate::output::{self, Format};
use crate::{hand_over, rows, setup};

/// What can be asked of dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List those that still cannot be read, newest first
    List(ListArgs),
    /// Read them again with the present maps, profiles and registry, and store what can now be read
    Replay(ReplayArgs),
}

/// Which ones are listed, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this reason, such as no_map or bad_value
    #[arg(long)]
    reason: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Those that were read again since, too
    #[arg(long)]
    all: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// Which ones are tried.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Only this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only of this broker or Modbus line, as the `source` column names it
    #[arg(long)]
    source: Option<String>,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Dead letters that one step of a replay holds in memory.
const CHUNK: usize = 5_000;

/// Runs one of the commands.
///
/// # Errors
/// When the lake cannot be read, or the collector does not take what was read.
pub async fn run(global: &Global, command: &DeadLettersCommand) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    match command {
        DeadLettersCommand::List(args) => list(&lake, args).await,
        DeadLettersCommand::Replay(args) => replay(&config, &lake, args).await,
    }
}

/// Which dead letters were read again, and when.
fn replays_table() -> TableSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        Field::new("position", DataType::Int64, false),
        Field::new("item", DataType::Int32, false),
        Field::new("replayed_at", time, false),
        Field::new("month", DataType::Utf8, false),
    ];
    TableSpec {
        name: "dead_letter_replays",
        schema: Arc::new(Schema::new(fields)),
        partition_by: &["month"],
        sort_by: &["position", "item"],
    }
}

/// The text of a condition on `dead_letters AS d`. Values are quoted; they come from the command line.
fn condition(reason: Option<&str>, source: Option<&str>, outstanding: bool) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut terms = vec!["true".to_owned()];
    terms.extend(reason.map(|reason| format!("d.reason = {}", quoted(reason))));
    terms.extend(source.map(|source| format!("d.source = {}", quoted(source))));
    if outstanding {
        let replayed = "SELECT 1 FROM dead_letter_replays r WHERE r.position = d.position AND r.item = d.item";
        terms.push(format!("NOT EXISTS ({replayed})"));
    }
    terms.join(" AND ")
}

async fn list(lake: &Lake, args: &ListArgs) -> anyhow::Result<()> {
    lake.ensure(&replays_table()).await?;
    let session = lake.session(ReadOptions::default()).await?;
    let text = format!(
        "SELECT d.position, d.item, d.received_at, d.source, d.topic, d.reason, d.detail,
                substr(CAST(d.payload AS VARCHAR), 1, 120) AS payload, d.decoder
         FROM dead_letters d WHERE {} ORDER BY d.position DESC, d.item DESC LIMIT {}",
        condition(args.reason.as_deref(), None, !args.all),
        args.limit
    );
    let stream = rows::stream(&session, &text).await?;
    output::write_stream(stream, args.format.unwrap_or_else(Format::for_stdout), None).await?;
    Ok(())
}

/// One dead letter by its key.
struct Letter {
    position: i64,
    item: i32,
    message: RawMessage,
}

async fn replay(config: &Config, lake: &Lake, args: &ReplayArgs) -> anyhow::Result<()> {
    lake.ensure(&replays_table()).await?;
    let directory = lake.read_registry(None).await?.directory();
    let mut decoder = Decoder::new(config, &directory);
    let (mut tried, mut readable, mut readings, mut after) = (0, 0, 0, (0_i64, -1_i32));
    loop {
        let letters = next_letters(lake, args, after).await?;
        let Some(last) = letters.last() else { break };
        after = (last.position, last.item);
        tried += letters.len();
        let (read, batch) = decoder.read(&letters);
        readable += read.len();
        readings += batch.reading_count();
        if !args.dry_run && !read.is_empty() {
            let name = format!("{}-{}-{}", read[0].position, read[0].item, Timestamp::now().micros());
            hand_over::hand_over(config, &name, &[batch]).await?;
            take_down(lake, &read).await?;
        }
    }
    let verb = if args.dry_run { "could be read" } else { "read again and stored" };
    println!(
        "{readable} of {tried} dead letters {verb}, with {readings} readings; {} still cannot be",
        tried - readable
    );
    Ok(())
}

async fn next_letters(lake: &Lake, args: &ReplayArgs, after: (i64, i32)) -> anyhow::Result<Vec<Letter>> {
    let session = lake.session(ReadOptions::default()).await?;
    let text = format!(
        "SELECT d.position, d.item, d.source, d.topic, d.payload, d.received_at FROM dead_letters d
         WHERE {} AND (d.position > {position} OR (d.position = {position} AND d.item > {item}))
         ORDER BY d.position, d.item LIMIT {CHUNK}",
        condition(args.reason.as_deref(), args.source.as_deref(), true),
        position = after.0,
        item = after.1
    );
    let batches = rows::batches(&session, &text).await?;
    let mut letters = Vec::new();
    for batch in &batches {
        letters.extend(letters_of(batch)?);
    }
    Ok(letters)
}

fn letters_of(batch: &RecordBatch) -> anyhow::Result<Vec<Letter>> {
    let utf8 = |at: usize| arrow::compute::cast(batch.column(at), &DataType::Utf8);
    let position = column::<Int64Array>(batch.column(0))?;
    let item = column::<Int32Array>(batch.column(1))?;
    let (source, topic) = (utf8(2)?, utf8(3)?);
    let (source, topic) = (column::<StringArray>(&source)?, column::<StringArray>(&topic)?);
    let payload = arrow::compute::cast(batch.column(4), &DataType::Binary)?;
    let payload = column::<BinaryArray>(&payload)?;
    let received_at = column::<TimestampMicrosecondArray>(batch.column(5))?;
    let letter = |row: usize| Letter {
        position: position.value(row),
        item: item.value(row),
        message: RawMessage {
            source: source.value(row).into(),
            topic: topic.value(row).into(),
            payload: payload.value(row).to_vec(),
            received_at_s: received_at.value(row).div_euclid(1_000_000),
        },
    };
    Ok((0..batch.num_rows()).map(letter).collect())
}

fn column<T: Array + 'static>(array: &dyn Array) -> anyhow::Result<&T> {
    array.as_any().downcast_ref().with_context(|| format!("dead_letters has a column of type {}", array.data_type()))
}

struct Decoder<'c> {
    config: &'c Config,
    /// Each with what its edge nodes said at their births.
    brokers: Vec<(&'c MqttBroker, decode::Decoder)>,
    directory: &'c MeterDirectory,
}

impl<'c> Decoder<'c> {
    fn new(config: &'c Config, directory: &'c MeterDirectory) -> Self {
        let with_births = |broker: &'c MqttBroker| {
            let births = KeptBirths::load(&config.collect.journal, broker).shared();
            (broker, decode::Decoder::of_dead_letters(births))
        };
        Self { config, brokers: config.mqtt.iter().map(with_births).collect(), directory }
    }

    /// Those that can now be read, and what they say. A message is read whole or not at all.
    fn read<'l>(&mut self, letters: &'l [Letter]) -> (Vec<&'l Letter>, ReadingBatch) {
        let (mut read, mut all) = (Vec::new(), ReadingBatch::default());
        for letter in letters {
            let mut batch = ReadingBatch::default();
            self.read_one(&letter.message, &mut batch);
            if batch.dead_letters.is_empty() && (batch.reading_count() > 0 || !batch.events.is_empty()) {
                all.append(batch);
                read.push(letter);
            }
        }
        (read, all)
    }

    fn read_one(&mut self, message: &RawMessage, out: &mut ReadingBatch) {
        match self.brokers.iter_mut().find(|(broker, _)| broker.name == *message.source) {
            // A retained message is told by its flag at arrival only; a replayed one is none.
            Some((broker, decoder)) => {
                decoder.decode(&broker.maps, message, false, self.directory, out);
            }
            None => modbus::replay(self.config.modbus_lines(), message, self.directory, out),
        }
    }
}

async fn take_down(lake: &Lake, read: &[&Letter]) -> anyhow::Result<()> {
    ensure!(!read.is_empty(), "nothing was read");
    let now = Timestamp::now();
    let spec = replays_table();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from_iter_values(read.iter().map(|letter| letter.position))),
        Arc::new(Int32Array::from_iter_values(read.iter().map(|letter| letter.item))),
        Arc::new(TimestampMicrosecondArray::from(vec![now.micros(); read.len()]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![month_key(now); read.len()])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&spec.schema), columns)?;
    lake.append(&spec, vec![batch]).await?;
    Ok(())
}
