//! The product, from top to bottom: collectors hand over, the journal makes durable, the tables take.
//!
//! This is the one place where `ingest` and `store` meet. Every channel is bounded, so that a slow disk holds back the
//! brokers instead of filling the memory; an acknowledgement goes out only after the journal's sync.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meterlake_config::{CollectConfig, Config};
use meterlake_ingest::{Ack, Delivery};
use meterlake_model::ReadingBatch;
use meterlake_store::journal::{GroupSync, JournalHandle, JournalOptions, JournalReader, JournalWriter};
use meterlake_store::{Committer, Holder, Role, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::collectors::Collectors;
use crate::reload::{self, ReloadOutcome};
use crate::status::{self, CollectStatus};
use crate::{directory, doctor, replay_spool, setup, shutdown};

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
/// Between two looks at whether every part still runs.
const LOOK: Duration = Duration::from_millis(200);

/// Collects until stopped: everything that a meter says goes this way. Other configurations that come through `reloads`
/// are followed while it runs.
///
/// # Errors
/// When it cannot start safely (another collector owns the journal, the doctor finds the lake unsafe), when a
/// subscription is refused, or when the journal can no longer be synced. What was acknowledged is on disk.
pub async fn collect(
    config: &Config,
    reloads: Option<mpsc::Receiver<reload::Request>>,
    status: Arc<CollectStatus>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Where it goes, and whether that is safe: judged before anything is written or begun anew.
    let lake = setup::connect(config)?;
    doctor::refuse_if_unsafe(&lake, &config.collect.journal).await?;
    let (writer, recovery) = JournalWriter::open(journal_options(&config.collect))
        .with_context(|| format!("cannot open the journal at {}", config.collect.journal.display()))?;
    tracing::info!(?recovery, "journal open");

    // Nobody else feeds these tables from here on.
    let holder = Holder::of_journal(&config.collect.journal, &config.collect.name)?;
    let ownership = lake.own(Role::Collector, &holder).await?;

    // What the journal holds and the tables do not, after a crash.
    let mut committer = Committer::open(&lake).await.context("cannot open the reading tables")?;
    catch_up(&config.collect, &mut committer, &status).await?;
    let journal = JournalHandle::spawn(writer, group_sync(&config.collect))?;
    journal.release(committer.releasable());

    // The way of a reading, from its end to its beginning, so that every part finds its successor.
    let (to_tables, durable_batches) = mpsc::channel(COMMIT_QUEUE);
    let (limits, commit_limits) = watch::channel(config.collect.clone());
    let tables = tokio::spawn(commit_batches(
        durable_batches,
        committer,
        journal.clone(),
        commit_limits,
        Arc::clone(&status),
        stop.clone(),
    ));
    let (to_journal, deliveries) = mpsc::channel(config.collect.queue);
    let writer = tokio::spawn(make_durable(deliveries, journal.clone(), to_tables, Arc::clone(&status)));

    // Who brings readings.
    let collectors_stop = stop.child_token();
    let (directory, directory_task) = directory::follow(&lake, collectors_stop.clone()).await?;
    let spool = config.collect.journal.clone();
    let spool = tokio::spawn(replay_spool::follow(spool, to_journal.clone(), collectors_stop.clone()));
    let mut collectors = Collectors::new(
        config.collect.journal.clone(),
        directory,
        to_journal,
        collectors_stop.clone(),
        Arc::clone(&status),
    );
    collectors.follow(config).await;
    let reporter_stop = CancellationToken::new();
    let journal_dir = config.collect.journal.clone();
    let report = status::publish(journal_dir, Arc::clone(&status), reporter_stop.clone());
    let reporter = tokio::spawn(report);

    // Until told to stop, or until a part cannot go on; then in order: sources, journal, tables.
    let mut running = Running { config: config.clone(), collectors, limits, writer, tables, spool, status };
    let mut outcome = tokio::select! {
        outcome = running.watch(reloads, &stop) => outcome,
        lost = ownership.lost() => Err(lost.into()),
    };
    let Running { collectors, writer, tables, spool, .. } = running;
    collectors_stop.cancel();
    keep_first(&mut outcome, collectors.drain().await);
    keep_first(&mut outcome, shutdown::finish("dead-letter spool", spool, STOP_LIMIT).await);
    keep_first(&mut outcome, shutdown::finish("directory of meters", directory_task, STOP_LIMIT).await);
    keep_first(&mut outcome, shutdown::finish("journal writer", writer, STOP_LIMIT).await);
    stop.cancel();
    keep_first(&mut outcome, shutdown::finish("table committer", tables, STOP_LIMIT).await);
    journal.close().await;
    if let Err(error) = ownership.release().await {
        tracing::warn!(%error, "cannot give the lease back; it ends by itself");
    }
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
    let max_bytes = usize::try_from(config.sync_bytes).unwrap_or(usize::MAX);
    GroupSync { max_delay: config.sync_delay, max_bytes, ..GroupSync::default() }
}

/// Commits what is in the journal and not yet in every table.
async fn catch_up(config: &CollectConfig, committer: &mut Committer, status: &CollectStatus) -> anyhow::Result<()> {
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
    Ok(())
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
    limits: watch::Receiver<CollectConfig>,
    status: Arc<CollectStatus>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut due = Instant::now() + limits.borrow().commit_interval;
    loop {
        let next = tokio::time::timeout_at(due, batches.recv()).await;
        let ended = match next {
            Ok(Some((position, batch))) => {
                committer.push(position, batch);
                let (rows, bytes) = (committer.pending_rows() as u64, committer.pending_bytes() as u64);
                let limits = limits.borrow();
                if rows < limits.commit_rows && bytes < limits.commit_bytes {
                    continue;
                }
                false
            }
            Ok(None) => true,
            Err(_) => false,
        };
        let mut outcome = flush(&mut committer, &status).await;
        while let Err(error) = outcome {
            let lost = matches!(error.downcast_ref(), Some(StoreError::Lost { .. }));
            if ended || lost || stop.is_cancelled() {
                return Err(error.context("the last commit failed; the rows are in the journal"));
            }
            tracing::error!(error = format!("{error:#}"), retry_in_s = COMMIT_RETRY.as_secs(), "cannot commit");
            shutdown::until_stopped(&stop, tokio::time::sleep(COMMIT_RETRY)).await;
            outcome = flush(&mut committer, &status).await;
        }
        journal.release(committer.releasable());
        if ended {
            return Ok(());
        }
        due = Instant::now() + limits.borrow().commit_interval;
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

/// The parts while they run.
struct Running {
    config: Config,
    collectors: Collectors,
    limits: watch::Sender<CollectConfig>,
    writer: JoinHandle<anyhow::Result<()>>,
    tables: JoinHandle<anyhow::Result<()>>,
    spool: JoinHandle<anyhow::Result<()>>,
    status: Arc<CollectStatus>,
}

impl Running {
    /// Follows other configurations until the request to stop, or until a part ends that the others cannot do without.
    async fn watch(
        &mut self,
        mut reloads: Option<mpsc::Receiver<reload::Request>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOK);
        let mut reloaded = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                request = next_request(&mut reloads) => {
                    reloaded += 1;
                    self.reload(request, reloaded).await;
                }
                _ = looks.tick() => {
                    if self.writer.is_finished() || self.tables.is_finished() || self.spool.is_finished() {
                        return Ok(());
                    }
                    for error in self.collectors.ended().await {
                        if reloaded == 0 {
                            return Err(error);
                        }
                        // What a reload brought must not take down what ran well before it.
                        tracing::error!(error = format!("{error:#}"), "a source cannot go on; the others do");
                    }
                }
            }
        }
    }

    async fn reload(&mut self, request: reload::Request, number: u64) {
        let outcome = match request {
            Err(refused) => Err(refused),
            Ok(config) => match reload::needs_restart(&self.config, &config).as_slice() {
                [] => Ok(config),
                keys => Err(format!("{} can change only with a restart", keys.join(", "))),
            },
        };
        let (applied, detail) = match outcome {
            Err(refused) => {
                tracing::error!(refused, "configuration not reloaded; the old one holds");
                (false, refused)
            }
            Ok(config) => {
                let changes = self.collectors.follow(&config).await.to_string();
                self.limits.send_replace(config.collect.clone());
                self.config = config;
                tracing::info!(changes, "configuration reloaded");
                (true, changes)
            }
        };
        self.status.set_reload(ReloadOutcome { number, applied, detail });
    }
}

/// The next request; never, once nobody can ask any more.
async fn next_request(reloads: &mut Option<mpsc::Receiver<reload::Request>>) -> reload::Request {
    if let Some(receiver) = reloads
        && let Some(request) = receiver.recv().await
    {
        return request;
    }
    *reloads = None;
    std::future::pending().await
}

fn keep_first(outcome: &mut anyhow::Result<()>, next: anyhow::Result<()>) {
    if outcome.is_ok() {
        *outcome = next;
    }
}
