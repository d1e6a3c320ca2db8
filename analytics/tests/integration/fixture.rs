//! A small lake: one transformer with four electricity meters, one of them exchanged, and two water meters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meterlake_analytics::{Job, JobOptions, JobReport, run_job};
use meterlake_model::registry::{
    Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{
    Amount, Channel, CivilDay, Commodity, MeterId, NodeId, ReadingBatch, ReadingFlags, RowHeader, Timestamp,
    UsagePointId, Zone,
};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Committer, CompactOptions, Lake};

pub(crate) const QUARTER_S: i64 = 900;
pub(crate) const HOUR_S: i64 = 3600;

pub(crate) fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::by_name(name).unwrap()
}

pub(crate) fn zone() -> Zone {
    Zone::parse("Europe/Madrid").unwrap()
}

/// A lake in a folder of its own, with its committer.
pub(crate) struct TestLake {
    pub(crate) lake: Lake,
    committer: Committer,
    position: u64,
    folder: tempfile::TempDir,
}

impl TestLake {
    pub(crate) async fn new(registry: &Registry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path()).unwrap();
        lake.write_registry(registry).await.unwrap();
        let committer = Committer::open(&lake).await.unwrap();
        Self { lake, committer, position: 0, folder }
    }

    /// The same folder in the hands of a new process.
    pub(crate) async fn restarted(self) -> Self {
        let Self { lake, committer, position, folder } = self;
        drop((lake, committer));
        let lake = Lake::open(folder.path()).unwrap();
        let committer = Committer::open(&lake).await.unwrap();
        Self { lake, committer, position, folder }
    }

    /// Commits a batch as the journal's next record; gives its position.
    pub(crate) async fn commit(&mut self, batch: ReadingBatch) -> i64 {
        self.queue(batch);
        self.flush().await;
        i64::try_from(self.position).unwrap()
    }

    /// Takes a batch as the journal's next record.
    pub(crate) fn queue(&mut self, batch: ReadingBatch) {
        self.position += 1;
        self.committer.push(self.position, Arc::new(batch));
    }

    /// Commits what was taken.
    pub(crate) async fn flush(&mut self) {
        self.committer.flush().await.unwrap();
    }

    /// Rewrites every table into fewer files, as upkeep does when its months are long over.
    pub(crate) async fn compact(&self) {
        let now = Some(at("2027-06-01T00:00:00Z"));
        for table in self.lake.tables().await.unwrap() {
            let options = CompactOptions { now, min_files: 2, ..CompactOptions::default() };
            self.lake.compact(&table, &options).await.unwrap();
        }
    }

    pub(crate) async fn run(&self, job: Job, from: &str, to: &str) -> JobReport {
        run_job(&self.lake, job, &JobOptions::new(day(from), day(to))).await.unwrap()
    }

    /// Every file of some tables with its bytes.
    pub(crate) fn files(&self, tables: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for table in tables {
            collect(&self.folder.path().join(table), &mut files);
        }
        files
    }

    /// The rows of a query as CSV, without its heading.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let session = self.lake.session(ReadOptions::default()).await.unwrap();
        let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
        let mut text = Vec::new();
        let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut text);
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        drop(writer);
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

fn usage_point(id: &str, commodity: Commodity) -> UsagePoint {
    UsagePoint {
        id: UsagePointId::new(id).unwrap(),
        commodity,
        zone: zone(),
        customer_id: None,
        node_id: NodeId::new(if commodity == Commodity::Electricity { "T1" } else { "D1" }).ok(),
        class: "residential".to_owned(),
        place: format!("{id} street"),
        billing_day: 1,
        active: true,
        continuous_use: false,
        nominal_voltage_dv: (commodity == Commodity::Electricity).then_some(2300),
        customer_since: None,
        parent_id: None,
    }
}

fn installation(meter: &str, point: &str, from: Option<&str>, to: Option<&str>, channel_name: &str) -> Installation {
    let channel = channel(channel_name);
    let interval_s = if channel.commodity() == Commodity::Water { HOUR_S } else { QUARTER_S };
    Installation {
        meter_id: MeterId::new(meter).unwrap(),
        usage_point_id: UsagePointId::new(point).unwrap(),
        installed_at: from.map(at),
        removed_at: to.map(at),
        is_check: false,
        channels: vec![InstallationChannel {
            channel,
            multiplier_micros: 1_000_000,
            digits: None,
            resolution: Amount::parse("0.001").unwrap(),
            interval_s,
            interval_assumed: false,
            capacity_per_hour: None,
            start_register: None,
            end_register: None,
        }],
    }
}

/// Electricity points E1 to E4 with meters e1 to e4; E4 had meter z4 before 2026-02-10. Water W1 and W2.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    for id in ["E1", "E2", "E3", "E4"] {
        registry.usage_points.insert(UsagePointId::new(id).unwrap(), usage_point(id, Commodity::Electricity));
    }
    for id in ["W1", "W2"] {
        registry.usage_points.insert(UsagePointId::new(id).unwrap(), usage_point(id, Commodity::Water));
    }
    let energy = "energy_import_kwh";
    registry.installations = vec![
        installation("e1", "E1", None, None, energy),
        installation("e2", "E2", None, None, energy),
        installation("e3", "E3", None, None, energy),
        installation("e4", "E4", Some("2026-02-10T10:00:00Z"), None, energy),
        installation("w1", "W1", None, None, "volume_m3"),
        installation("w2", "W2", None, None, "volume_m3"),
        installation("z4", "E4", None, Some("2026-02-10T10:00:00Z"), energy),
    ];
    for installation in &registry.installations {
        let id = installation.meter_id.clone();
        let commodity = installation.channels[0].channel.commodity();
        let meter = Meter { id: id.clone(), commodity, serial: None, model: "test".to_owned(), gateway_id: None };
        registry.meters.insert(id, meter);
    }
    for (id, kind) in [("T1", NodeKind::Transformer), ("D1", NodeKind::Dma)] {
        let id = NodeId::new(id).unwrap();
        let name = format!("node {id}");
        registry.network.insert(id.clone(), NetworkNode { id, kind, parent_id: None, name });
    }
    registry
}

/// One reading: meter, time, and values of channels in their own scale.
pub(crate) fn push(batch: &mut ReadingBatch, meter: &str, ts: Timestamp, values: &[(&str, i64)]) {
    let values: Vec<(Channel, i64)> = values.iter().map(|(name, value)| (channel(name), *value)).collect();
    let header = RowHeader {
        meter_id: MeterId::new(meter).unwrap(),
        ts,
        received_at_s: ts.unix_seconds() + 5,
        source: "test".into(),
        profile: "test@1".into(),
        flags: ReadingFlags::NONE,
    };
    batch.rows_mut(values[0].0.commodity()).push(header, &values);
}

/// A register that rises by `step(index)` from reading to reading, from `from` up to `to` (both included).
pub(crate) fn register(
    batch: &mut ReadingBatch,
    (meter, name): (&str, &str),
    (from, to, every_s): (Timestamp, Timestamp, i64),
    start: i64,
    step: impl Fn(i64) -> i64,
) {
    let (mut ts, mut value, mut index) = (from, start, 0);
    while ts <= to {
        push(batch, meter, ts, &[(name, value)]);
        value += step(index);
        index += 1;
        ts = ts.plus_seconds(every_s);
    }
}

/// Three months of everything, in civil days of Madrid from 2026-01-01 up to 2026-04-01.
pub(crate) fn quarter_year() -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    let (from, to) = (zone().start_of_day(day("2026-01-01")), zone().start_of_day(day("2026-04-01")));
    let energy = "energy_import_kwh";
    for (meter, seed) in [("e1", 3), ("e2", 5), ("e3", 7)] {
        register(&mut batch, (meter, energy), (from, to, QUARTER_S), 1_000_000, |i| 40 + (i * seed) % 97);
    }
    let exchange = at("2026-02-10T10:00:00Z");
    let before = exchange.plus_seconds(-QUARTER_S);
    register(&mut batch, ("z4", energy), (from, before, QUARTER_S), 9_000_000, |i| 50 + i % 11);
    register(&mut batch, ("e4", energy), (exchange, to, QUARTER_S), 17, |i| 50 + i % 11);
    // W1 rests every night; W2 does, too, but for 5 days in February, when it never falls below 14 L/h.
    register(&mut batch, ("w1", "volume_m3"), (from, to, HOUR_S), 200_000, |i| if i % 24 < 5 { 0 } else { 11 + i % 7 });
    let (leak_from, leak_to) = leak_hours(from);
    register(&mut batch, ("w2", "volume_m3"), (from, to, HOUR_S), 300_000, |i| {
        let usual = if i % 24 < 5 { 0 } else { 11 + i % 7 };
        if (leak_from..leak_to).contains(&i) { usual.max(3) + 11 } else { usual }
    });
    batch
}

/// First hour of the leak of W2 and the hour after its last, counted from the first reading: 2026-02-05 00:00 to
/// 2026-02-10 00:00 in civil time.
pub(crate) fn leak_hours(from: Timestamp) -> (i64, i64) {
    let hours = |d: &str| zone().start_of_day(day(d)).micros_since(from) / 3_600_000_000;
    (hours("2026-02-05"), hours("2026-02-10"))
}

/// The lake with all of it, and usage derived.
pub(crate) async fn lake_with_usage() -> TestLake {
    let mut lake = TestLake::new(&registry()).await;
    lake.commit(quarter_year()).await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    lake
}
