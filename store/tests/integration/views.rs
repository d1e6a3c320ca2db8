//! The views that people ask: the last reading of each meter, readings with customer and place in civil time.

use std::path::Path;
use std::sync::Arc;

use meterlake_model::registry::{Customer, Installation, Meter, NetworkNode, NodeKind, Registry, UsagePoint};
use meterlake_model::{Commodity, CustomerId, MeterId, NodeId, ReadingBatch, Timestamp, UsagePointId, Zone};
use meterlake_store::journal::{JournalOptions, JournalWriter};
use meterlake_store::query::ReadOptions;
use meterlake_store::{Committer, CompactOptions, Lake};

use crate::faults::{quick_lake, record};
use crate::query::{list, plan};

const E: &str = "energy_import_kwh";
const V: &str = "voltage_l1_v";
const TABLE: &str = "electricity_readings";
/// 2026-10-31T00:00:00Z.
const START: i64 = 1_793_404_800;
const HOUR: i64 = 3600;

/// Journal and committer side by side, as a collector has them.
struct Site {
    lake: Lake,
    journal: std::path::PathBuf,
    writer: JournalWriter,
    committer: Committer,
}

impl Site {
    async fn new(dir: &Path) -> Self {
        let (lake, journal) = (quick_lake(&dir.join("lake")), dir.join("journal"));
        let (writer, _) = JournalWriter::open(JournalOptions::new(&journal)).unwrap();
        let committer = Committer::open(&lake).await.unwrap();
        Self { lake, journal, writer, committer }
    }

    fn say(&mut self, batch: &Arc<ReadingBatch>) {
        let position = self.writer.append(batch).unwrap();
        self.writer.sync().unwrap();
        self.committer.push(position, batch.clone());
    }

    async fn commit(&mut self) {
        self.committer.flush().await.unwrap();
    }

    async fn list(&self, query: &str) -> Vec<String> {
        let options = ReadOptions { journal: Some(self.journal.clone()), ..ReadOptions::default() };
        list(&self.lake.session(options).await.unwrap(), query).await
    }

    /// The last readings by the view, and by going through all readings.
    async fn check(&self, when: &str) {
        let columns = "meter_id || ' ' || ts || ' ' || revision || ' ' || coalesce(CAST(energy_import_kwh AS VARCHAR), '-') \
                       || ' ' || coalesce(CAST(voltage_l1_v AS VARCHAR), '-') || ' ' || flags || ' ' || month";
        let all = format!(
            "SELECT {columns} FROM (SELECT *, row_number() OVER (PARTITION BY meter_id ORDER BY ts DESC) AS n \
             FROM electricity) WHERE n = 1 ORDER BY meter_id"
        );
        let expected = self.list(&all).await;
        assert!(!expected.is_empty());
        for _ in 0..2 {
            let found = self.list(&format!("SELECT {columns} FROM electricity_latest ORDER BY meter_id")).await;
            assert_eq!(found, expected, "{when}");
        }
        for line in expected.iter().step_by(13) {
            let meter = line.split(' ').next().unwrap();
            let one = format!("SELECT {columns} FROM electricity_latest WHERE meter_id = '{meter}'");
            assert_eq!(self.list(&one).await, [line.as_str()], "{when}");
        }
        let two = format!("SELECT {columns} FROM electricity_latest WHERE meter_id IN ('m00', 'nobody') ORDER BY 1");
        assert_eq!(self.list(&two).await, [expected[0].as_str()], "{when}");
        assert_eq!(self.list("SELECT count(*) FROM latest").await, [expected.len().to_string()], "{when}");
    }
}

fn hours(from: i64, to: i64, meters: std::ops::Range<usize>) -> Arc<ReadingBatch> {
    let names: Vec<String> = meters.map(|m| format!("m{m:02}")).collect();
    let values: Vec<[(&str, i64); 1]> = (from..to).map(|h| [(E, 1000 + h)]).collect();
    let rows: Vec<_> = names
        .iter()
        .flat_map(|m| (from..to).zip(&values).map(move |(h, v)| (m.as_str(), START + h * HOUR, v.as_slice())))
        .collect();
    record(&rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_reading_of_each_meter_is_the_one_that_a_look_at_all_readings_finds() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(dir.path()).await;
    // Forty meters over the end of a month; three of them say nothing afterwards.
    site.say(&hours(0, 30, 0..40));
    site.commit().await;
    site.check("one commit").await;
    site.say(&hours(30, 40, 0..37));
    site.commit().await;
    site.check("a second commit").await;
    // Complements and contradictions of the newest time, in further commits.
    site.say(&record(&[("m05", START + 39 * HOUR, &[(V, 2300)]), ("m06", START + 39 * HOUR, &[(E, 7)])]));
    site.commit().await;
    site.check("rows of the same time").await;
    // Late rows change nothing.
    site.say(&record(&[("m07", START + 5 * HOUR + 60, &[(E, 1)]), ("m38", START + 60, &[(E, 1)])]));
    site.commit().await;
    site.check("late rows").await;
    let over = Timestamp::parse_rfc3339("2026-12-20T00:00:00Z").unwrap();
    let options = CompactOptions { now: Some(over), min_files: 2, ..CompactOptions::default() };
    assert!(site.lake.compact(TABLE, &options).await.unwrap().removed_files > 0);
    site.check("compaction").await;
    site.say(&hours(40, 42, 0..3));
    site.check("hot rows").await;
    site.say(&record(&[("m39", START + 29 * HOUR, &[(V, 2310)]), ("new", START, &[(E, 5)])]));
    site.check("a hot complement and a new meter").await;
    site.commit().await;
    site.check("their commit").await;
    let pinned = site.lake.session(ReadOptions { commit_seq: Some(1), ..ReadOptions::default() }).await.unwrap();
    let last = list(&pinned, "SELECT max(ts) FROM electricity_latest").await;
    assert_eq!(last, ["2026-11-01T05:00:00Z"], "a pinned session sees its own last readings");
}

fn registry(customer: &str) -> Registry {
    let mut registry = Registry::default();
    let exchange = Timestamp::from_unix_seconds(START + 10 * HOUR).unwrap();
    let customer_id = CustomerId::new("c1").unwrap();
    let node_id = NodeId::new("T1").unwrap();
    for (point, place, zone) in [("up-1", "Calle 1", "Europe/Madrid"), ("up-2", "High Street 2", "Europe/London")] {
        let id = UsagePointId::new(point).unwrap();
        let first = point == "up-1";
        let point = UsagePoint {
            id: id.clone(),
            commodity: Commodity::Electricity,
            zone: Zone::parse(zone).unwrap(),
            customer_id: first.then(|| customer_id.clone()),
            node_id: Some(node_id.clone()),
            class: "residential".into(),
            place: place.into(),
            billing_day: 1,
            active: true,
            continuous_use: false,
            nominal_voltage_dv: None,
            customer_since: None,
            parent_id: None,
        };
        registry.usage_points.insert(id, point);
    }
    for meter in ["m00", "m01"] {
        let id = MeterId::new(meter).unwrap();
        let made = Meter {
            id: id.clone(),
            commodity: Commodity::Electricity,
            serial: None,
            model: "X".into(),
            gateway_id: None,
        };
        registry.meters.insert(id, made);
    }
    let node =
        NetworkNode { id: node_id.clone(), kind: NodeKind::Transformer, parent_id: None, name: "Station".into() };
    registry.network.insert(node_id, node);
    registry.customers.insert(customer_id.clone(), Customer { id: customer_id, name: customer.into() });
    // m00 hung at up-1, then m01 did, while m00 went to up-2.
    for (meter, point, from, to) in [
        ("m00", "up-1", None, Some(exchange)),
        ("m00", "up-2", Some(exchange), None),
        ("m01", "up-1", Some(exchange), None),
    ] {
        registry.installations.push(Installation {
            meter_id: MeterId::new(meter).unwrap(),
            usage_point_id: UsagePointId::new(point).unwrap(),
            installed_at: from,
            removed_at: to,
            is_check: false,
            channels: Vec::new(),
        });
    }
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_shown_with_the_place_of_their_time_and_its_civil_day() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(dir.path()).await;
    for customer in ["Anna", "Ana"] {
        site.lake.write_registry(&registry(customer)).await.unwrap();
    }
    site.say(&hours(9, 11, 0..3));
    site.say(&hours(23, 24, 0..1));
    site.commit().await;
    let query = "SELECT meter_id || ' ' || coalesce(place, '-') || ' ' || coalesce(customer, '-') || ' ' || \
                 coalesce(node, '-') || ' ' || coalesce(CAST(local_time AS VARCHAR), '-') || ' ' || \
                 coalesce(CAST(local_day AS VARCHAR), '-') || ' ' || coalesce(CAST(local_hour AS VARCHAR), '-') \
                 FROM electricity_full ORDER BY meter_id, ts";
    let expected = [
        "m00 Calle 1 Ana Station 2026-10-31T10:00:00 2026-10-31 10",
        "m00 High Street 2 - Station 2026-10-31T10:00:00 2026-10-31 10",
        "m00 High Street 2 - Station 2026-10-31T23:00:00 2026-10-31 23",
        "m01 - - - - - -",
        "m01 Calle 1 Ana Station 2026-10-31T11:00:00 2026-10-31 11",
        "m02 - - - - - -",
        "m02 - - - - - -",
    ];
    assert_eq!(site.list(query).await, expected);
    assert_eq!(site.list("SELECT count(*) FROM electricity_full").await, ["7"], "no reading is doubled or lost");
    let by_day =
        "SELECT local_day || ' ' || count(*) FROM electricity_full WHERE usage_point_id = 'up-2' GROUP BY local_day";
    assert_eq!(site.list(by_day).await, ["2026-10-31 2"]);
    // A question about one meter does not go through the others' files.
    let context = site.lake.session(ReadOptions::default()).await.unwrap();
    let one = plan(&context, "SELECT place FROM electricity_full WHERE meter_id = 'nobody'").await;
    assert!(!one.contains("electricity_readings"), "{one}");
}
