//! The month of a whole utility: from readings to usage spans and billing reads, and beside it DuckDB over the same files.
//!
//! Readings go into the lake as they are made, so that a month of 100,000 meters needs no more memory than one of ten. Memory is
//! counted for each step by itself. All answers are compared before their times count.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use meterlake_analytics::jobs::forget_usage;
use meterlake_analytics::{Job, JobOptions, JobReport, run_job};
use meterlake_benches::arguments::Arguments;
use meterlake_benches::input::{RECORD_ROWS, SEED};
use meterlake_benches::lake::{Door, at_rest, files, folder, readings_table};
use meterlake_benches::measure::{Stopwatch, Timing, forget_peak_memory, median, peak_memory};
use meterlake_benches::peer::Peer;
use meterlake_config::CollectConfig;
use meterlake_device_sim::{FleetPlan, History, MessageForm, Scenario, Simulation};
use meterlake_model::{CivilDay, Commodity, ReadingBatch, ReadingFlags, RowHeader, Timestamp, Zone};
use meterlake_store::{Committer, CompactOptions, Lake};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::of_process()?;
    let zone = Zone::utc();
    let first_day = CivilDay::new(2026, 1, 1)?;
    let month = Month {
        first_day,
        end_day: first_day.plus_days(arguments.days),
        from: zone.start_of_day(first_day),
        to: zone.start_of_day(first_day.plus_days(arguments.days)),
    };
    // An hour more, so that the last day has its register at both ends.
    let mut plan = FleetPlan::new(SEED, month.from, month.to.plus_seconds(3600));
    plan.electricity_mqtt = arguments.meters;
    let simulation = Arc::new(Simulation::new(plan, Scenario::none())?);
    let dir = folder(Path::new(SCRATCH))?;
    let lake = Lake::open(dir.path())?;
    lake.write_registry(&simulation.registry()?).await?;
    let readings = fill(&lake, &simulation).await?;
    let long_after = month.to.plus_seconds(60 * 86_400);
    lake.compact(readings_table(), &CompactOptions { now: Some(long_after), ..CompactOptions::default() }).await?;
    drop(simulation);
    let (files, _, bytes) = at_rest(&lake, readings_table()).await?;
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "{} meters, {} days, {readings} readings in {files} files of {:.2} B a reading; seed {SEED}, median of {}, {cores} cores\n",
        arguments.meters,
        arguments.days,
        bytes as f64 / readings as f64,
        arguments.repeats
    );
    println!("{:<58} {:>9} {:>9} {:>13} {:>9}", "step", "seconds", "CPU s", "readings/s", "peak MiB");
    jobs(&lake, &month, readings, arguments.repeats).await?;
    questions(&lake, &month, readings, arguments.repeats, cores).await
}

/// What is billed.
struct Month {
    first_day: CivilDay,
    end_day: CivilDay,
    from: Timestamp,
    to: Timestamp,
}

/// Commits the simulated readings while they are made, as often as the collector would by its defaults for memory.
async fn fill(lake: &Lake, simulation: &Arc<Simulation>) -> anyhow::Result<u64> {
    let limit = usize::try_from(CollectConfig::default().commit_bytes)?;
    let mut committer = Committer::open(lake).await?;
    let (source, profile): (Arc<str>, Arc<str>) = ("bench/replay".into(), "bench@1".into());
    let (mut record, mut position, mut stored) = (ReadingBatch::default(), 0, 0);
    for sent in History::new(Arc::clone(simulation), MessageForm::Frames) {
        let rows = record.rows_mut(Commodity::Electricity);
        for (ts, values) in sent.rows.iter() {
            let header = RowHeader {
                meter_id: sent.rows.meter_id.clone(),
                ts,
                received_at_s: ts.unix_seconds() + 2,
                source: Arc::clone(&source),
                profile: Arc::clone(&profile),
                flags: ReadingFlags::NONE,
            };
            let values: Vec<_> = sent.rows.channels.iter().copied().zip(values.iter().copied()).collect();
            rows.push(header, &values);
        }
        if record.reading_count() >= RECORD_ROWS {
            position += 1;
            committer.push(position, Arc::new(std::mem::take(&mut record)));
        }
        if committer.pending_bytes() >= limit {
            stored += committer.flush().await?.stored;
        }
    }
    committer.push(position + 1, Arc::new(record));
    stored += committer.flush().await?.stored;
    let sent = simulation.truth().expected().distinct;
    ensure!(stored == sent, "{sent} readings were sent, {stored} stored");
    Ok(stored)
}

/// One step's times, and the most memory that it held in any of them.
#[derive(Default)]
struct Step {
    timings: Vec<Timing>,
    peak: Option<u64>,
}

impl Step {
    async fn time<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        forget_peak_memory();
        let watch = Stopwatch::start();
        let done = work.await?;
        self.timings.push(watch.read());
        self.peak = self.peak.max(peak_memory());
        Ok(done)
    }

    fn print(&self, name: &str, readings: u64) {
        print_line(name, readings, &self.timings, self.peak);
    }
}

fn print_line(name: &str, readings: u64, timings: &[Timing], peak: Option<u64>) {
    let Some(timing) = median(timings) else { return };
    let wall = timing.wall.as_secs_f64();
    let cpu = timing.cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.2}", cpu.as_secs_f64()));
    let peak = peak.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 20).to_string());
    println!("{name:<58} {wall:>9.3} {cpu:>9} {:>13.0} {peak:>9}", readings as f64 / wall);
}

async fn jobs(lake: &Lake, month: &Month, readings: u64, repeats: usize) -> anyhow::Result<()> {
    let options = JobOptions::new(month.first_day, month.end_day);
    let (mut whole, mut again, mut billing) = (Step::default(), Step::default(), Step::default());
    for _ in 0..repeats {
        forget_usage(lake).await?;
        let run = async |job| -> anyhow::Result<JobReport> { Ok(run_job(lake, job, &options).await?) };
        let report = whole.time(run(Job::Usage)).await?;
        ensure!(report.rows_read >= readings, "the job read {} of {readings} readings", report.rows_read);
        let report = again.time(run(Job::Usage)).await?;
        ensure!(report.partitions_changed == 0, "a second run changed {} partitions", report.partitions_changed);
        billing.time(run(Job::Billing)).await?;
    }
    whole.print("usage: walk, spans, days and findings, from nothing", readings);
    again.print("usage: nothing new", readings);
    billing.print("billing reads", readings);
    Ok(())
}

async fn questions(lake: &Lake, month: &Month, readings: u64, repeats: usize, cores: usize) -> anyhow::Result<()> {
    let (table, from, to) = (readings_table(), month.from, month.to);
    let register = "energy_import_kwh";
    let within = format!("ts >= '{from}' AND ts <= '{to}'");
    let boundary = format!(
        "SELECT CAST(count(*) AS VARCHAR) || ' ' || CAST(CAST(sum(used) AS DECIMAL(18, 3)) AS VARCHAR) FROM \
         (SELECT meter_id, max({register}) - min({register}) AS used FROM {table} WHERE {within} GROUP BY meter_id)"
    );
    let boundary_of_days = format!(
        "SELECT CAST(count(*) AS VARCHAR) || ' ' || CAST(CAST(sum(used) AS DECIMAL(18, 3)) AS VARCHAR) FROM \
         (SELECT usage_point_id, sum(value) AS used FROM usage_days \
         WHERE channel = '{register}' AND start >= '{from}' AND start < '{to}' GROUP BY usage_point_id)"
    );
    let steps = format!(
        "SELECT CAST(count(*) FILTER (WHERE gap > 900) AS VARCHAR) || ' ' || CAST(CAST(sum(step) AS DECIMAL(18, 3)) AS VARCHAR) \
         FROM (SELECT {register} - lag({register}) OVER w AS step, \
         extract(epoch FROM ts) - lag(extract(epoch FROM ts)) OVER w AS gap \
         FROM {table} WHERE {within} WINDOW w AS (PARTITION BY meter_id ORDER BY ts))"
    );
    let steps_of_walk = format!(
        "SELECT CAST((SELECT count(*) FROM findings WHERE rule = 'V09' AND start >= '{from}' AND start < '{to}') AS VARCHAR) \
         || ' ' || CAST(CAST(sum(value) AS DECIMAL(18, 3)) AS VARCHAR) FROM usage_days \
         WHERE channel = '{register}' AND start >= '{from}' AND start < '{to}'"
    );
    let door = Door::open(lake).await?;
    let mut peer = Peer::if_there(cores, &files(lake, table).await?);
    for (name, derived, plain) in [
        ("boundary reads, all meters", &boundary_of_days, &boundary),
        ("differences and gaps, all meters", &steps_of_walk, &steps),
    ] {
        println!();
        let (mut of_derived, mut of_readings, mut theirs) = (Step::default(), Step::default(), Vec::new());
        let mut expected = None;
        // The first round fetches footers, ours and theirs, and is not counted.
        for round in 0..=repeats {
            let mut answers = vec![of_derived.time(door.ask(derived)).await?, of_readings.time(door.ask(plain)).await?];
            if let Some(peer) = &mut peer {
                let (wall, answer) = peer.ask(plain)?;
                answers.push(answer);
                theirs.push(Timing { wall, cpu: None });
            }
            if round == 0 {
                of_derived.timings.clear();
                of_readings.timings.clear();
                theirs.clear();
            }
            for answer in answers {
                let expected = expected.get_or_insert_with(|| answer.clone());
                ensure!(*expected == answer, "{name}: first {expected}, then {answer}");
            }
        }
        of_derived.print(&format!("{name}: from exact days"), readings);
        of_readings.print(&format!("{name}: from readings"), readings);
        if let Some(peer) = &peer {
            print_line(&format!("{name}: {}", peer.name), readings, &theirs, peer.peak_memory());
        }
    }
    Ok(())
}
