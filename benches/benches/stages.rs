//! The way of a reading, stage by stage, each by itself: decode, journal, replay, commit, walk, the job, compaction.
//!
//! One core works at a time but where a stage uses more by itself; nothing of the network is in it. The journal is synced
//! to the disk as the collector syncs it (D2), each commit of the tables, too.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, ensure};
use meterlake_analytics::usage::{
    Aids, InstallationReadings, Level, PointInput, PointUsage, Reading, UsageRules, derive,
};
use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_benches::arguments::Arguments;
use meterlake_benches::input::{Input, SEED};
use meterlake_benches::lake::{Door, at_rest, commit, compact, folder, readings_table, with_registry};
use meterlake_benches::measure::{Stopwatch, Timing, head, line};
use meterlake_ingest::decode::decode;
use meterlake_model::{Amount, MeterId, ReadingBatch};
use meterlake_store::journal::{GroupSync, JournalOptions, JournalReader, JournalWriter};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::of_process()?;
    let input = Input::make(arguments)?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{} meters, {} days, {} readings in {} frames of JSON, {} B a reading: {}",
        arguments.meters,
        arguments.days,
        input.readings,
        input.messages.len(),
        input.payload_bytes() / input.readings,
        input.channels().join(", ")
    );
    println!("seed {SEED}, median of {}, {cores} cores, answers checked\n", arguments.repeats);
    println!("{}", head());

    decoding(&input, arguments.repeats);
    journal(&input, arguments.repeats)?;
    let derived = walk(&input, arguments.repeats)?;
    tables(&input, arguments.repeats, &derived).await
}

/// Checked while the input was made: every value is what was sent.
fn decoding(input: &Input, repeats: usize) {
    let timings: Vec<_> = (0..repeats)
        .map(|_| {
            let watch = Stopwatch::start();
            for messages in input.messages.chunks(100) {
                let mut batch = ReadingBatch::default();
                for message in messages {
                    decode(&input.maps, message, false, &input.directory, &mut batch);
                }
                black_box(&batch);
            }
            watch.read()
        })
        .collect();
    println!("{}", line("decode JSON frames", input.readings, &timings));
}

fn journal(input: &Input, repeats: usize) -> anyhow::Result<()> {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    let (mut bytes, mut syncs) = (0, 0);
    for _ in 0..repeats {
        let dir = folder(Path::new(SCRATCH))?;
        let (mut writer, _) = JournalWriter::open(JournalOptions::new(dir.path()))?;
        let group = GroupSync::default().max_bytes;
        let watch = Stopwatch::start();
        syncs = 1;
        for record in &input.records {
            writer.append(record)?;
            if writer.pending_bytes() >= group {
                writer.sync()?;
                syncs += 1;
            }
        }
        writer.sync()?;
        writes.push(watch.read());

        let reader = JournalReader::open(dir.path());
        for (item, sent) in reader.read_from(1)?.zip(&input.records) {
            let (position, batch) = item?;
            ensure!(batch == **sent, "journal record {position} is not read back as it was written");
        }
        let watch = Stopwatch::start();
        let mut readings = 0;
        for item in reader.read_from(1)? {
            readings += black_box(item?.1).reading_count() as u64;
        }
        reads.push(watch.read());
        ensure!(readings == input.readings, "{readings} of {} readings are in the journal", input.readings);
        bytes = reader.verify()?.bytes;
    }
    println!("{}", line("journal: encode, append, fdatasync (D2)", input.readings, &writes));
    println!("{}", line("journal: replay", input.readings, &reads));
    let (records, bytes) = (input.records.len(), bytes as f64 / input.readings as f64);
    println!("{:<44} {bytes:.2} B a reading in {records} records, {syncs} syncs", "  in the journal");
    Ok(())
}

/// What the walk over all meters gives.
#[derive(Debug, PartialEq, Eq, Default)]
struct Derived {
    spans: u64,
    findings: u64,
    /// Of all days.
    used: Amount,
}

fn walk(input: &Input, repeats: usize) -> anyhow::Result<Derived> {
    let (from, to) = input.month();
    let readings = by_meter(input)?;
    let (rules, holidays) = (UsageRules::default(), BTreeSet::new());
    let mut points = Vec::new();
    for installation in &input.registry.installations {
        let point = &input.registry.usage_points[&installation.usage_point_id];
        let channel = installation.channels.first().context("an installation without channels")?;
        let readings = readings.get(&installation.meter_id).map_or(&[][..], Vec::as_slice);
        points.push(PointInput {
            usage_point: point,
            channel: channel.channel,
            installations: vec![InstallationReadings { installation, channel, readings }],
            outages: &[],
            holidays: &holidays,
            wholes: &[],
            aids: Aids::default(),
            anchor: None,
            borders: &[],
            from,
            to,
        });
    }
    let mut derived = Derived::default();
    for point in &points {
        let usage = derive(point, &rules);
        check_use(input, point, &usage)?;
        derived.spans += usage.spans.len() as u64;
        derived.findings += usage.findings.len() as u64;
        let days = Amount::sum(days(&usage)).and_then(|sum| derived.used.checked_add(sum));
        derived.used = days.context("the use of all days does not fit")?;
    }
    let timings: Vec<Timing> = (0..repeats)
        .map(|_| {
            let watch = Stopwatch::start();
            for point in &points {
                black_box(derive(point, &rules));
            }
            watch.read()
        })
        .collect();
    println!("{}", line("usage: the walk alone", input.readings, &timings));
    Ok(derived)
}

/// Registers by meter, as the job hands them to the walk.
fn by_meter(input: &Input) -> anyhow::Result<BTreeMap<MeterId, Vec<Reading>>> {
    let mut by_meter: BTreeMap<MeterId, Vec<Reading>> = BTreeMap::new();
    let installations = input.registry.installations.iter();
    let channels: BTreeMap<_, _> =
        installations.filter_map(|i| Some((&i.meter_id, i.channels.first()?.channel))).collect();
    for rows in input.records.iter().map(|batch| &batch.electricity) {
        for (row, header) in rows.headers().iter().enumerate() {
            let channel = *channels.get(&header.meter_id).context("a reading of no installation")?;
            let value = rows.value(row, channel).context("a reading without a register")?;
            by_meter.entry(header.meter_id.clone()).or_default().push(Reading {
                ts: header.ts,
                received_at_s: header.received_at_s,
                revision: 0,
                value: Amount::from_scaled(value, channel.scale())?,
                flags: header.flags,
            });
        }
    }
    Ok(by_meter)
}

fn days(usage: &PointUsage) -> impl Iterator<Item = Amount> {
    usage.spans.iter().filter(|s| s.level == Level::Day).filter_map(|s| s.value)
}

/// Whether all days but the last, behind which no reading stands yet, add up to the true use, to the meter's last digit.
fn check_use(input: &Input, point: &PointInput<'_>, usage: &PointUsage) -> anyhow::Result<()> {
    const LAST_DIGIT_MICROS: i64 = 1_000;
    let (from, to) = input.instants();
    let last = to.plus_seconds(-86_400);
    let days = usage.spans.iter().filter(|s| s.level == Level::Day && s.end <= last).filter_map(|s| s.value);
    let found = Amount::sum(days).context("the use does not fit")?;
    let truth = input.simulation.truth().usage(&point.usage_point.id, point.channel, from, last);
    let truth = truth.context("nobody knows the true use")?;
    let off = found.micros().abs_diff(truth.micros());
    ensure!(off <= LAST_DIGIT_MICROS.unsigned_abs(), "{}: {found} instead of {truth}", point.usage_point.id);
    Ok(())
}

async fn tables(input: &Input, repeats: usize, derived: &Derived) -> anyhow::Result<()> {
    let (mut commits, mut jobs, mut again, mut compactions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut open, mut closed) = ((0, 0, 0), (0, 0, 0));
    let options = JobOptions::new(input.first_day, input.end_day);
    for _ in 0..repeats {
        let dir = folder(Path::new(SCRATCH))?;
        let lake = with_registry(dir.path(), input).await?;
        let watch = Stopwatch::start();
        commit(&lake, input).await?;
        commits.push(watch.read());
        open = at_rest(&lake, readings_table()).await?;

        let watch = Stopwatch::start();
        let report = run_job(&lake, Job::Usage, &options).await?;
        jobs.push(watch.read());
        let sum = "SELECT CAST(sum(value) AS VARCHAR) FROM usage_spans WHERE level = 'day'";
        let used = Amount::parse(&Door::open(&lake).await?.ask(sum).await?)?;
        let found = Derived { spans: report.spans, findings: report.findings, used };
        ensure!(found == *derived, "the job gives {found:?}, the walk {derived:?}");

        let watch = Stopwatch::start();
        let report = run_job(&lake, Job::Usage, &options).await?;
        again.push(watch.read());
        ensure!(report.partitions_changed == 0, "a second run changed {} partitions", report.partitions_changed);

        let watch = Stopwatch::start();
        compact(&lake, input).await?;
        compactions.push(watch.read());
        closed = at_rest(&lake, readings_table()).await?;
        ensure!(closed.1 == input.readings, "{} of {} readings are left", closed.1, input.readings);
    }
    println!("{}", line("commit: sort, Parquet, Delta, fsync (D2)", input.readings, &commits));
    at_rest_line(open);
    println!("{}", line("usage: the whole job", input.readings, &jobs));
    println!("{}", line("usage: the whole job, nothing new", input.readings, &again));
    println!("{}", line("compaction of the closed month", input.readings, &compactions));
    at_rest_line(closed);
    Ok(())
}

fn at_rest_line((files, rows, bytes): (usize, u64, u64)) {
    println!("{:<44} {:.2} B a reading in {files} files", "  at rest", bytes as f64 / rows as f64);
}
