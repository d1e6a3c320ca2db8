//! The product, from top to bottom: collectors hand over, the journal makes durable, the tables take.
//!
//! This is the one place where `ingest` and `store` meet. Every channel is bounded, so that a slow disk holds back the
//! brokers instead of filling the memory; an acknowledgement goes out only after the journal's sync.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meterlake_config::{CollectConfig, Config};
use meterlake_ingest::modbus::LineStats;
use meterlake_ingest::mqtt::MqttStats;
use meterlake_ingest::{Ack, Delivery, Directory, modbus, mqtt};
use meterlake_model::ReadingBatch;
use meterlake_store::journal::{GroupSync, JournalHandle, JournalOptions, JournalReader, JournalWriter};
use meterlake_store::{Committer, Lake};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::status::{self, CollectStatus, Sources};
use crate::{directory, doctor, replay_spool, shutdown};

/// What one journal record takes at most; more deliveries wait for the next.
const RECORD_ROWS: usize = 16_384;
/// Raw bytes that one journal record takes at most.
const RECORD_BYTES: usize = 4 << 20;
/// Batches that are durable and wait for the tables.
const COMMIT_QUEUE: usize = 256;
/// Between two attempts to commit while the tables refuse.
const COMMIT_RETRY: Duration = Duration::from_secs(2);
/// How long each part may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Collects until stopped: everything that a meter says goes this way.
///
/// # Errors
/// When it cannot start safely (another collector owns the journal, the doctor finds the lake unsafe), when a
/// subscription is refused, or when the journal can no longer be synced. What was acknowledged is on disk.
pub async fn collect(config: &Config, status: Arc<CollectStatus>, stop: CancellationToken) -> anyhow::Result<()> {
    // Where it goes, and whether that is safe: judged before anything is written or begun anew.
    doctor::refuse_if_unsafe(&config.lake.root, &config.collect.journal).await?;
    let lake = Lake::open(&config.lake.root)
        .with_context(|| format!("cannot open the lake at {}", config.lake.root.display()))?;
    let (writer, recovery) = JournalWriter::open(journal_options(&config.collect))
        .with_context(|| format!("cannot open the journal at {}", config.collect.journal.display()))?;
    tracing::info!(?recovery, "journal open");

    // What the journal holds and the tables do not, after a crash.
    let mut committer = Committer::open(&lake).await.context("cannot open the reading tables")?;
    let committed = catch_up(&config.collect, &mut committer, &status).await?;
    let journal = JournalHandle::spawn(writer, group_sync(&config.collect))?;
    journal.release(committed);

    // The way of a reading, from its end to its beginning, so that every part finds its successor.
    let (to_tables, durable_batches) = mpsc::channel(COMMIT_QUEUE);
    let tables = tokio::spawn(commit_batches(
        durable_batches,
        committer,
        journal.clone(),
        config.collect.clone(),
        Arc::clone(&status),
        stop.clone(),
    ));
    let (to_journal, deliveries) = mpsc::channel(config.collect.queue);
    let writer = tokio::spawn(make_durable(deliveries, journal.clone(), to_tables, Arc::clone(&status)));

    // Who brings readings.
    let collectors_stop = stop.child_token();
    let (directory, directory_task) = directory::follow(&lake, collectors_stop.clone()).await?;
    let mut collectors = JoinSet::new();
    let sources = start_collectors(config, &directory, &to_journal, &collectors_stop, &mut collectors);
    // Set once: a status belongs to one collector.
    let _ = status.sources.set(sources);
    let spool = config.collect.journal.clone();
    collectors.spawn(replay_spool::follow(spool, to_journal, collectors_stop.clone()));
    let reporter_stop = CancellationToken::new();
    let journal_dir = config.collect.journal.clone();
    let report = status::publish(journal_dir, Arc::clone(&status), reporter_stop.clone());
    let reporter = tokio::spawn(report);

    // Until told to stop, or until a part cannot go on; then in order: sources, journal, tables.
    let mut outcome = watch(&mut collectors, &writer, &tables, &stop).await;
    collectors_stop.cancel();
    keep_first(&mut outcome, drain(collectors).await);
    keep_first(&mut outcome, shutdown::finish("directory of meters", directory_task, STOP_LIMIT).await);
    keep_first(&mut outcome, shutdown::finish("journal writer", writer, STOP_LIMIT).await);
    stop.cancel();
    keep_first(&mut outcome, shutdown::finish("table committer", tables, STOP_LIMIT).await);
    journal.close().await;
    reporter_stop.cancel();
    reporter.await.ok();
    outcome
}

fn journal_options(config: &CollectConfig) -> JournalOptions {
    JournalOptions {
        dir: config.journal.clone(),
        segment_bytes: config.segment_bytes,
        keep: config.journal_keep,
        keep_bytes: config.journal_keep_bytes,
    }
}

fn group_sync(config: &CollectConfig) -> GroupSync {
    GroupSync { max_delay: config.sync_delay, max_bytes: usize::try_from(config.sync_bytes).unwrap_or(usize::MAX) }
}

/// Commits what is in the journal and not yet in every table; returns the position that all tables hold.
async fn catch_up(config: &CollectConfig, committer: &mut Committer, status: &CollectStatus) -> anyhow::Result<u64> {
    let start = committer.position();
    let reader = JournalReader::open(&config.journal);
    let mut records = 0_u64;
    for record in reader.read_from(start + 1).context("cannot read the journal")? {
        let (position, batch) = record.context("cannot read the journal")?;
        CollectStatus::add(&status.durable, batch.reading_count() as u64);
        committer.push(position, Arc::new(batch));
        records += 1;
        if committer.pending_bytes() as u64 >= config.commit_bytes {
            flush(committer, status).await?;
        }
    }
    flush(committer, status).await?;
    if records > 0 {
        tracing::info!(records, from = start + 1, to = committer.position(), "caught up from the journal");
    }
    Ok(committer.position())
}

fn start_collectors(
    config: &Config,
    directory: &Directory,
    out: &mpsc::Sender<Delivery>,
    stop: &CancellationToken,
    collectors: &mut JoinSet<anyhow::Result<()>>,
) -> Sources {
    let mut sources = Sources::default();
    for broker in &config.mqtt {
        let (name, stats) = (broker.name.clone(), Arc::new(MqttStats::default()));
        sources.brokers.push((name.clone(), Arc::clone(&stats)));
        let collect = mqtt::collect(broker.clone(), directory.clone(), out.clone(), stats, stop.clone());
        collectors.spawn(async move { collect.await.with_context(|| format!("broker {name}")) });
    }
    for line in &config.modbus {
        let (name, stats) = (line.name.clone(), Arc::new(LineStats::new(line)));
        sources.lines.push((name.clone(), Arc::clone(&stats)));
        let poll = modbus::poll_line(line.clone(), directory.clone(), out.clone(), stats, stop.clone());
        collectors.spawn(async move { poll.await.with_context(|| format!("modbus line {name}")) });
    }
    sources
}

/// Appends deliveries to the journal, several to a record, and acknowledges each after its record's sync, in order.
async fn make_durable(
    mut deliveries: mpsc::Receiver<Delivery>,
    journal: JournalHandle,
    to_tables: mpsc::Sender<(u64, Arc<ReadingBatch>)>,
    status: Arc<CollectStatus>,
) -> anyhow::Result<()> {
    while let Some(first) = deliveries.recv().await {
        let (batch, acks) = gather(first, &mut deliveries);
        CollectStatus::add(&status.received, batch.reading_count() as u64);
        let batch = Arc::new(batch);
        let position = journal.append(Arc::clone(&batch)).await.context("the journal takes no more")?;
        for ack in acks {
            ack.durable();
        }
        status.durable_position.store(position, std::sync::atomic::Ordering::Relaxed);
        CollectStatus::add(&status.durable, batch.reading_count() as u64);
        to_tables.send((position, batch)).await.context("the table committer is gone")?;
    }
    Ok(())
}

/// What has queued up behind the first delivery, up to the size of a record.
fn gather(first: Delivery, deliveries: &mut mpsc::Receiver<Delivery>) -> (ReadingBatch, Vec<Ack>) {
    let (mut batch, mut acks) = (first.batch, vec![first.ack]);
    let mut bytes = input_bytes(&batch);
    while batch.reading_count() < RECORD_ROWS && bytes < RECORD_BYTES {
        let Ok(next) = deliveries.try_recv() else { break };
        bytes += input_bytes(&next.batch);
        batch.append(next.batch);
        acks.push(next.ack);
    }
    (batch, acks)
}

fn input_bytes(batch: &ReadingBatch) -> usize {
    let raw: usize = batch.raw.iter().map(|message| message.payload.len()).sum();
    let dead: usize = batch.dead_letters.iter().map(|letter| letter.message.payload.len()).sum();
    raw + dead
}

/// Gathers durable batches and commits them to the tables by time, rows or bytes. While the tables refuse it tries
/// again and holds back the journal; at the end it tries once more, and what then fails is in the journal.
async fn commit_batches(
    mut batches: mpsc::Receiver<(u64, Arc<ReadingBatch>)>,
    mut committer: Committer,
    journal: JournalHandle,
    config: CollectConfig,
    status: Arc<CollectStatus>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut due = Instant::now() + config.commit_interval;
    loop {
        let next = tokio::time::timeout_at(due, batches.recv()).await;
        let ended = match next {
            Ok(Some((position, batch))) => {
                committer.push(position, batch);
                let (rows, bytes) = (committer.pending_rows() as u64, committer.pending_bytes() as u64);
                if rows < config.commit_rows && bytes < config.commit_bytes {
                    continue;
                }
                false
            }
            Ok(None) => true,
            Err(_) => false,
        };
        let mut outcome = flush(&mut committer, &status).await;
        while let Err(error) = outcome {
            if ended || stop.is_cancelled() {
                return Err(error.context("the last commit failed; the rows are in the journal"));
            }
            tracing::error!(error = format!("{error:#}"), retry_in_s = COMMIT_RETRY.as_secs(), "cannot commit");
            shutdown::until_stopped(&stop, tokio::time::sleep(COMMIT_RETRY)).await;
            outcome = flush(&mut committer, &status).await;
        }
        journal.release(committer.position());
        if ended {
            return Ok(());
        }
        due = Instant::now() + config.commit_interval;
    }
}

async fn flush(committer: &mut Committer, status: &CollectStatus) -> anyhow::Result<()> {
    let started = Instant::now();
    let report = committer.flush().await.context("cannot commit to the tables")?;
    status.committed_position.store(report.position, std::sync::atomic::Ordering::Relaxed);
    if report.is_empty() {
        return Ok(());
    }
    CollectStatus::add(&status.stored, report.stored);
    CollectStatus::add(&status.duplicates, report.duplicates);
    CollectStatus::add(&status.conflicts, report.conflicts);
    CollectStatus::add(&status.dead_letters, report.dead_letters);
    CollectStatus::add(&status.events, report.events);
    CollectStatus::add(&status.commits, 1);
    tracing::info!(
        position = report.position,
        stored = report.stored,
        duplicates = report.duplicates,
        conflicts = report.conflicts,
        dead_letters = report.dead_letters,
        took_ms = started.elapsed().as_millis(),
        "committed"
    );
    Ok(())
}

/// Waits for the request to stop, or for the first part that ends on its own.
async fn watch(
    collectors: &mut JoinSet<anyhow::Result<()>>,
    writer: &tokio::task::JoinHandle<anyhow::Result<()>>,
    tables: &tokio::task::JoinHandle<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = collectors.join_next() => match ended {
                // A collector ends by itself only when it cannot go on.
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(join) => anyhow::bail!("a collector ended abruptly: {join}"),
            },
            _ = looks.tick() => {
                if writer.is_finished() || tables.is_finished() {
                    return Ok(());
                }
            }
        }
    }
}

async fn drain(mut collectors: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_LIMIT;
    let mut outcome = Ok(());
    loop {
        match tokio::time::timeout_at(deadline, collectors.join_next()).await {
            Ok(None) => return outcome,
            Ok(Some(Ok(result))) => keep_first(&mut outcome, result),
            Ok(Some(Err(join))) => keep_first(&mut outcome, Err(anyhow::anyhow!("a collector ended abruptly: {join}"))),
            Err(_) => {
                tracing::warn!(still_running = collectors.len(), "collectors late in stopping, ended");
                collectors.abort_all();
                return outcome;
            }
        }
    }
}

fn keep_first(outcome: &mut anyhow::Result<()>, next: anyhow::Result<()>) {
    if outcome.is_ok() {
        *outcome = next;
    }
}
