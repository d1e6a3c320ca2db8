//! Messages as they came, decoded with the present configuration into sorted rows, in a file for as long as it takes.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext, col};
use futures::TryStreamExt;
use meterlake_config::Config;
use meterlake_model::{Channel, Commodity, DeadReason, RawMessage, ReadingBatch};
use meterlake_store::query::LakeSession;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::compare::Decoded;
use super::rows::{DECODED, decoded_batch, decoded_schema};
use super::select::Selection;
use crate::tap::messages::Messages;
use crate::{progress, rows};

/// Rows that are gathered before they are written.
const ROWS: usize = 16_384;
/// Memory of the sort, in bytes; what does not fit lies in files.
const SORT_BYTES: usize = 256 << 20;

/// Sources and seconds in which messages arrived.
#[derive(Default)]
pub(super) struct Arrivals {
    sources: HashMap<Arc<str>, u32>,
    seconds: Vec<(u32, i64)>,
}

impl Arrivals {
    fn add(&mut self, source: &Arc<str>, second: i64) {
        let next = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let at = *self.sources.entry(Arc::clone(source)).or_insert(next);
        if self.seconds.last() != Some(&(at, second)) {
            self.seconds.push((at, second));
        }
    }

    fn close(&mut self) {
        self.seconds.sort_unstable();
        self.seconds.dedup();
        self.seconds.shrink_to_fit();
    }

    pub(super) fn has(&self, source: &str, second: i64) -> bool {
        self.sources.get(source).is_some_and(|at| self.seconds.binary_search(&(*at, second)).is_ok())
    }
}

/// Counts of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All that were looked at.
    pub(super) messages: u64,
    /// Those that were asked for.
    pub(super) selected: u64,
    /// Of those that were asked for: refused now, so that what they said stands no more.
    pub(super) refused: u64,
    /// Of those that were asked for: they lean on an earlier message that is not there, so what they said is left alone.
    pub(super) unborn: u64,
}

/// Rows of one commodity while they are gathered.
struct Gathering {
    commodity: Commodity,
    writer: ArrowWriter<std::fs::File>,
    rows: Vec<Decoded>,
    written: i64,
    channels: BTreeSet<Channel>,
}

/// What messages say now.
pub(super) struct Scan {
    pub(super) counts: Counts,
    /// When selected messages arrived that say what their maps make of them.
    pub(super) arrivals: Arrivals,
    context: SessionContext,
    /// By commodity: where its rows are, and which channels they have.
    files: Vec<(Commodity, String, BTreeSet<Channel>)>,
}

/// Decodes all messages of the sources and days asked for: those that were not asked for explain rows.
pub(super) async fn scan(
    config: &Config,
    session: &LakeSession,
    selection: &Selection,
    pin: i64,
    folder: &Path,
) -> anyhow::Result<Scan> {
    let condition = condition(config, selection, pin);
    let total = rows::count(&session.context, &format!("SELECT count(*) FROM raw_messages WHERE {condition}")).await?;
    ensure!(
        total > 0,
        "no message is kept of these days and sources: maps and profiles with `keep_raw = true` keep them, from then on"
    );
    let mut messages = Messages::new(config).await?;
    let mut gathering = Commodity::ALL
        .map(|commodity| Gathering::begin(commodity, folder))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let (mut counts, mut arrivals) = (Counts::default(), Arrivals::default());
    let bar = progress::bar(total, "messages decoded");
    let text = format!(
        "SELECT source, topic, payload, received_at FROM raw_messages WHERE {condition} ORDER BY position, item"
    );
    let mut stream = session.context.sql(&text).await?.execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        for message in raw_messages(&batch)? {
            counts.messages += 1;
            let read = messages.decode(&message);
            take(selection, &message, &read, &mut counts, &mut arrivals, &mut gathering)?;
        }
        bar.inc(batch.num_rows() as u64);
    }
    bar.finish_and_clear();
    arrivals.close();
    let files = gathering.into_iter().filter_map(|g| g.finish(folder).transpose()).collect::<anyhow::Result<_>>()?;
    ensure!(
        counts.selected > 0,
        "none of the {total} messages of these days and sources is of the topic, unit, map or meter that was asked for"
    );
    Ok(Scan { counts, arrivals, context: sorting()?, files })
}

fn condition(config: &Config, selection: &Selection, pin: i64) -> String {
    let (from, to) = selection.span();
    let mut condition = format!("received_at >= '{from}' AND received_at < '{to}' AND commit_seq <= {pin}");
    if let Some(source) = selection.source_column(config) {
        condition.push_str(&format!(" AND source = '{}'", source.replace('\'', "''")));
    }
    condition
}

/// Takes what one message says.
fn take(
    selection: &Selection,
    message: &RawMessage,
    read: &ReadingBatch,
    counts: &mut Counts,
    arrivals: &mut Arrivals,
    gathering: &mut [Gathering],
) -> anyhow::Result<()> {
    let by_topic = selection.takes_topic(&message.topic);
    let labels = read.dead_letters.iter().map(|dead| &*dead.decoder);
    // What is ignored now has no map that says so.
    let by_map = selection.map.is_none() || labels.into_iter().any(|label| selection.takes_map(label));
    let unborn = read.dead_letters.iter().any(|dead| dead.reason == DeadReason::NoBirth);
    let mut asked = by_topic && by_map;
    for gathered in gathering {
        let rows = read.rows(gathered.commodity);
        for (at, header) in rows.headers().iter().enumerate() {
            let of_map = by_topic && selection.takes_map(&header.profile);
            asked |= of_map;
            let selected = of_map && selection.takes_meter(header.meter_id.as_str());
            let values: Vec<_> = rows.values(at).collect();
            gathered.channels.extend(values.iter().map(|(channel, _)| *channel));
            gathered.rows.push(Decoded { header: header.clone(), values, selected });
        }
        if gathered.rows.len() >= ROWS {
            gathered.write()?;
        }
    }
    if asked && unborn {
        counts.unborn += 1;
    } else if asked {
        counts.refused += u64::from(!read.dead_letters.is_empty());
        arrivals.add(&message.source, message.received_at_s);
    }
    counts.selected += u64::from(asked);
    Ok(())
}

fn raw_messages(batch: &RecordBatch) -> anyhow::Result<Vec<RawMessage>> {
    let cast = |at: usize, form| arrow::compute::cast(batch.column(at), &form);
    let (source, topic, payload) = (cast(0, DataType::Utf8)?, cast(1, DataType::Utf8)?, cast(2, DataType::Binary)?);
    let (source, topic) = (source.as_string::<i32>(), topic.as_string::<i32>());
    let payload = payload.as_binary::<i32>();
    let received = batch.column(3).as_primitive_opt::<TimestampMicrosecondType>().context("received_at is no time")?;
    let mut before: Option<Arc<str>> = None;
    let message = |row: usize| {
        let source: Arc<str> = match &before {
            Some(name) if **name == *source.value(row) => Arc::clone(name),
            _ => source.value(row).into(),
        };
        before = Some(Arc::clone(&source));
        RawMessage {
            source,
            topic: topic.value(row).into(),
            payload: payload.value(row).to_vec(),
            received_at_s: received.value(row).div_euclid(1_000_000),
        }
    };
    Ok((0..batch.num_rows()).map(message).collect())
}

/// Files that last as long as a re-decode.
pub(super) fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(1 << 17))
        .build()
}

impl Gathering {
    fn begin(commodity: Commodity, folder: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::create(folder.join(format!("decoded-{commodity}.parquet")))?;
        let writer = ArrowWriter::try_new(file, decoded_schema(commodity), Some(properties()))?;
        Ok(Self { commodity, writer, rows: Vec::new(), written: 0, channels: BTreeSet::new() })
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let batch = decoded_batch(&decoded_schema(self.commodity), &self.rows, self.written)?;
        self.written += i64::try_from(self.rows.len())?;
        self.rows.clear();
        Ok(self.writer.write(&batch)?)
    }

    /// `None`: there is no row of this commodity.
    fn finish(mut self, folder: &Path) -> anyhow::Result<Option<(Commodity, String, BTreeSet<Channel>)>> {
        self.write()?;
        self.writer.close()?;
        let path = folder.join(format!("decoded-{}.parquet", self.commodity)).display().to_string();
        Ok((self.written > 0).then_some((self.commodity, path, self.channels)))
    }
}

/// A session that sorts files on disk.
pub(super) fn sorting() -> anyhow::Result<SessionContext> {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES))).build_arc()?;
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

impl Scan {
    /// The rows of a commodity, sorted by meter and time, and for each in order of arrival; `None` where there is none.
    pub(super) async fn sorted(&self, commodity: Commodity) -> anyhow::Result<Option<SendableRecordBatchStream>> {
        let Some((_, path, channels)) = self.files.iter().find(|(of, ..)| *of == commodity) else { return Ok(None) };
        let rows = self.context.read_parquet(path.as_str(), ParquetReadOptions::default()).await?;
        let columns: Vec<&str> = DECODED.into_iter().chain(channels.iter().map(|c| c.name())).collect();
        let order = ["meter_id", "ts", "seq"].map(|name| col(name).sort(true, false)).to_vec();
        Ok(Some(rows.select_columns(&columns)?.sort(order)?.execute_stream().await?))
    }
}
