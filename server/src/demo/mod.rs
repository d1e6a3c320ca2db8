//! `demo`: the whole way of a reading with simulated meters, beside the truth that only the simulator knows.
//!
//! Everything is real but the meters: an embedded broker on loopback, Modbus gateways, the collector, the lake, the
//! jobs. History goes in as frames no faster than the collector makes it durable, then the present follows.

mod compare;
mod report;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::StreamExt;
use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_device_sim::publisher::{Progress, Publisher, PublisherOptions};
use meterlake_device_sim::{History, LivePlan, MessageForm, live};
use meterlake_model::Timestamp;
use meterlake_store::query::ReadOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::status::CollectStatus;
use crate::{jobs, pipeline, progress, serve, setup, shutdown};
use stage::Stage;

/// How large the show is, and whether it goes on.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where the demo puts its lake; replaced if an earlier demo left one there
    #[arg(long, value_name = "DIR", default_value = "meterlake-demo")]
    dir: PathBuf,
    /// Electricity meters over MQTT
    #[arg(long, default_value_t = 340)]
    electricity: usize,
    /// Water meters over MQTT
    #[arg(long, default_value_t = 140)]
    water: usize,
    /// Modbus TCP meters, four fifths electricity, installed when the present begins
    #[arg(long, default_value_t = 25)]
    modbus: usize,
    /// Days of history
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u16).range(33..=400))]
    days: u16,
    /// Seconds of the present before the jobs run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    live: u64,
    /// Seed of the fleet, its loads and its faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with the present, and serve health and metrics, until a signal comes
    #[arg(long)]
    keep: bool,
}

/// Readings that may be under way between the simulator and the journal: the embedded broker drops what exceeds its
/// memory.
const READINGS_AHEAD: u64 = 20_000;
/// Between two looks at what is durable.
const LOOK: Duration = Duration::from_millis(5);
/// The collector starts and subscribes well within this.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(30);
/// History that has not arrived after this long will not arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo.
///
/// # Errors
/// When its folder is in use for something else, or any part of the pipeline fails.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = shutdown::on_signal()?;
    let stage = Stage::set(args).await?;
    println!("{}", stage.introduction());

    let status = Arc::new(CollectStatus::default());
    let collector_stop = CancellationToken::new();
    let collector = {
        let (config, status, stop) = (stage.config.clone(), Arc::clone(&status), collector_stop.clone());
        tokio::spawn(async move { pipeline::collect(&config, None, status, stop).await })
    };

    let show = async {
        wait_until_subscribed(&status).await?;
        let history = publish_history(&stage, &status).await?;
        println!("{}", report::history(&history, &status, started.elapsed()));
        let (present, present_stop) = start_present(&stage)?;
        wait_with_bar(args.live, "the present, each second").await;
        let results = derive_and_report(args, &stage, &status, started).await;
        if args.keep && results.is_ok() {
            keep_on(&stage, &stop).await?;
        }
        present_stop.cancel();
        present.await.context("the live publisher ended abruptly")??;
        results
    };
    let outcome = tokio::select! {
        outcome = show => outcome,
        () = stop.cancelled() => Ok(()),
    };
    collector_stop.cancel();
    shutdown::finish("collector", collector, STOP_LIMIT).await?;
    outcome
}

/// What history was sent.
pub(crate) struct Sent {
    progress: Progress,
    took: Duration,
}

/// The broker forgets what nobody has subscribed to.
async fn wait_until_subscribed(status: &CollectStatus) -> anyhow::Result<()> {
    let subscribed = async {
        while !status.is_subscribed() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(SUBSCRIBE_LIMIT, subscribed).await;
    waited.with_context(|| format!("the collector did not subscribe within {} s", SUBSCRIBE_LIMIT.as_secs()))
}

async fn publish_history(stage: &Stage, status: &Arc<CollectStatus>) -> anyhow::Result<Sent> {
    let started = Instant::now();
    let history = History::new(Arc::clone(&stage.simulation), MessageForm::Frames);
    let bar = progress::bar(stage.expected_readings(), "history, readings durable");
    let pace = {
        let (status, bar) = (Arc::clone(status), bar.clone());
        move |sent: Progress| {
            let (status, bar) = (Arc::clone(&status), bar.clone());
            async move {
                loop {
                    let durable = CollectStatus::get(&status.durable);
                    bar.set_position(durable);
                    if sent.readings < durable + READINGS_AHEAD {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    };
    let Publisher { options, ledger, stats, stop, .. } = Publisher::new(stage.publisher("history"));
    let publisher = Publisher { options, ledger, stats, stop, pace };
    let progress = publisher.publish(futures::stream::iter(history)).await.context("cannot publish history")?;
    wait_until_durable(stage, status, &bar).await?;
    bar.finish_and_clear();
    Ok(Sent { progress, took: started.elapsed() })
}

async fn wait_until_durable(stage: &Stage, status: &CollectStatus, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
    let (expected, deadline) = (stage.expected_readings(), Instant::now() + ARRIVAL_LIMIT);
    loop {
        let durable = CollectStatus::get(&status.durable);
        bar.set_position(durable);
        if durable >= expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{durable} of {expected} readings arrived within {} s", ARRIVAL_LIMIT.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Present = JoinHandle<anyhow::Result<()>>;

fn start_present(stage: &Stage) -> anyhow::Result<(Present, CancellationToken)> {
    let plan = LivePlan { from: stage.present_from(), step_s: Some(1) };
    let messages = live(Arc::clone(&stage.simulation), plan)?;
    let stop = CancellationToken::new();
    let publisher = Publisher { stop: stop.clone(), ..Publisher::new(stage.publisher("present")) };
    let task = tokio::spawn(async move {
        publisher.publish(messages.boxed()).await.context("cannot publish the present")?;
        Ok(())
    });
    Ok((task, stop))
}

async fn wait_with_bar(seconds: u64, what: &str) {
    let bar = progress::bar(seconds, what);
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
}

async fn derive_and_report(
    args: &DemoArgs,
    stage: &Stage,
    status: &CollectStatus,
    started: Instant,
) -> anyhow::Result<()> {
    let lake = setup::connect(&stage.config)?;
    wait_until_committed(status).await;
    let _owned = jobs::own(&lake).await?;
    let (from, to) = stage.days();
    let options = JobOptions { rules: setup::rules(&stage.config), ..JobOptions::new(from, to) };
    for job in Job::ALL {
        let spinner = progress::spinner(&format!("job {}", job.as_str()));
        let report = run_job(&lake, job, &options).await;
        spinner.finish_and_clear();
        println!("{}", jobs::line(&report?));
    }
    let session = lake.session(ReadOptions::default()).await?;
    println!("\n{}", report::readings(&session, status).await?);
    println!("{}", report::dead_letters(&session).await?);
    println!("{}", compare::billing(&session, &stage.simulation).await?);
    println!("{}", compare::alerts(&session, &stage.simulation).await?);
    println!("{}", report::profile(&lake, &stage.dir).await?);
    println!("{}", report::farewell(args, stage, started.elapsed()));
    Ok(())
}

/// The jobs read committed rows; waits until those that are durable now are committed.
async fn wait_until_committed(status: &CollectStatus) {
    let position = CollectStatus::get(&status.durable_position);
    while CollectStatus::get(&status.committed_position) < position {
        tokio::time::sleep(LOOK).await;
    }
}

async fn keep_on(stage: &Stage, stop: &CancellationToken) -> anyhow::Result<()> {
    let address = stage.config.serve.bind;
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
    println!("going on: http://{address}/health and http://{address}/metrics; Ctrl-C ends it");
    serve::answer(&stage.config, listener, stop.clone()).await
}

impl DemoArgs {
    pub(crate) fn publisher_options(port: u16, id: &str) -> PublisherOptions {
        PublisherOptions::new("127.0.0.1", port, &format!("meterlake-demo-{id}"))
    }

    /// Words that repeat a query on the demo's lake.
    pub(crate) fn query_words(config: &Path) -> String {
        format!("cargo run -- --config {} query", config.display())
    }
}

/// The present is what came after history; it begins at the wall clock's next second.
pub(crate) fn next_second(now: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(now.unix_seconds() + 1).unwrap_or(now)
}
