//! Metrics in the text form that Prometheus scrapes (OpenMetrics).

mod completeness;

use std::fmt;
use std::sync::atomic::AtomicU64;

use meterlake_analytics::completeness::Figures as DayFigures;
use meterlake_store::Lake;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::status::{DeviceFigures, Figures, StatusReport};

pub use completeness::CompletenessCache;

/// Of what [`render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(String, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;

/// Size of one table as its log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFigures {
    /// Its name.
    pub name: String,
    /// Live files.
    pub files: u64,
    /// Bytes of the live files.
    pub bytes: u64,
    /// Rows of the live files.
    pub rows: u64,
    /// Version of the log.
    pub version: u64,
}

/// Figures of every table that can be read.
pub async fn table_figures(lake: &Lake) -> Vec<TableFigures> {
    let mut figures = Vec::new();
    for name in lake.tables().await.unwrap_or_default() {
        let Ok(snapshot) = lake.snapshot(&name).await else { continue };
        figures.push(TableFigures {
            files: snapshot.files.len() as u64,
            bytes: snapshot.files.iter().map(|file| file.size).sum(),
            rows: snapshot.rows(),
            version: u64::try_from(snapshot.version).unwrap_or(0),
            name,
        });
    }
    figures
}

/// All metrics as text.
///
/// # Errors
/// When the text cannot be written.
pub fn render(
    report: Option<&StatusReport>,
    tables: &[TableFigures],
    day: Option<&DayFigures>,
    now_s: i64,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("meterlake");
    let up = u64::from(report.is_some_and(|report| report.is_fresh(now_s)));
    one(&mut registry, "collect_up", "Whether the collector wrote its status lately", up);
    if let Some(report) = report {
        for (name, value) in &report.totals {
            one(
                &mut registry,
                &format!("collect_{name}"),
                "Since the collector's start; positions are the journal's",
                *value,
            );
        }
        by_source(&mut registry, "mqtt", "broker", &report.brokers);
        by_source(&mut registry, "modbus", "line", &report.lines);
        by_source(&mut registry, "modbus_listener", "listener", &report.listeners);
        by_device(&mut registry, &report.devices);
    }
    let files = family(&mut registry, "table_files", "Live files of a table");
    let bytes = family(&mut registry, "table_bytes", "Bytes of a table's live files");
    let rows = family(&mut registry, "table_rows", "Rows of a table's live files");
    let version = family(&mut registry, "table_version", "Version of a table's log");
    for table in tables {
        let labels = vec![("table".to_owned(), table.name.clone())];
        files.get_or_create(&labels).set(table.files);
        bytes.get_or_create(&labels).set(table.bytes);
        rows.get_or_create(&labels).set(table.rows);
        version.get_or_create(&labels).set(table.version);
    }
    if let Some(day) = day {
        completeness::add(&mut registry, day);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn one(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<u64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

/// One metric for each figure, labelled with the source's name.
fn by_source(registry: &mut Registry, prefix: &str, label: &str, sources: &[(String, Figures)]) {
    let Some((_, first)) = sources.first() else { return };
    for (at, (figure, _)) in first.iter().enumerate() {
        let family = family(registry, &format!("{prefix}_{figure}"), "Since the collector's start, or now");
        for (name, figures) in sources {
            let value = figures.get(at).map_or(0, |(_, value)| *value);
            family.get_or_create(&vec![(label.to_owned(), name.clone())]).set(value);
        }
    }
}

/// One metric for each figure of a device, labelled with line, unit and meter.
fn by_device(registry: &mut Registry, devices: &[DeviceFigures]) {
    let Some(first) = devices.first() else { return };
    for (at, (figure, _)) in first.figures.iter().enumerate() {
        let family = family(registry, &format!("modbus_device_{figure}"), "Since the collector's start, or now");
        for device in devices {
            let labels = [("line", &device.line), ("unit", &device.unit.to_string()), ("meter", &device.meter)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.clone())).to_vec();
            family.get_or_create(&labels).set(device.figures.get(at).map_or(0, |(_, value)| *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use meterlake_analytics::completeness::Tally;
    use meterlake_model::CivilDay;

    use super::*;

    #[test]
    fn every_figure_of_the_collector_is_a_metric() {
        let report = StatusReport {
            written_at_s: 100,
            started_at_s: 1,
            pid: 7,
            totals: vec![("readings_stored".into(), 42)],
            brokers: vec![("yard".into(), vec![("connected".into(), 1)])],
            lines: Vec::new(),
            listeners: vec![("dtus".into(), vec![("links_up".into(), 3)])],
            devices: vec![DeviceFigures {
                line: "dtus/1".into(),
                unit: 7,
                meter: "W1".into(),
                figures: vec![("requests".into(), 9)],
            }],
            reload: None,
        };
        let tables = [TableFigures { name: "water_readings".into(), files: 2, bytes: 3, rows: 5, version: 7 }];
        let tally = |commodity: &str, expected, received| Tally {
            commodity: commodity.into(),
            expected,
            received,
            meters: 2,
            late_meters: 1,
            silent_meters: 0,
        };
        let day = DayFigures {
            day: CivilDay::parse("2026-03-29").unwrap(),
            tallies: vec![tally("electricity", 200, 199), tally("water", 0, 0)],
            causes: vec![("electricity".into(), "gateway".into(), 1)],
        };
        let text = render(Some(&report), &tables, Some(&day), 101).unwrap();
        for line in [
            "meterlake_collect_up 1",
            "meterlake_collect_readings_stored 42",
            "meterlake_mqtt_connected{broker=\"yard\"} 1",
            "meterlake_modbus_listener_links_up{listener=\"dtus\"} 3",
            "meterlake_modbus_device_requests{line=\"dtus/1\",unit=\"7\",meter=\"W1\"} 9",
            "meterlake_table_rows{table=\"water_readings\"} 5",
            "meterlake_completeness_day_seconds 1774742400",
            "meterlake_completeness_ratio{commodity=\"electricity\"} 0.995",
            "meterlake_completeness_expected{commodity=\"water\"} 0",
            "meterlake_completeness_meters_late{commodity=\"electricity\"} 1",
            "meterlake_completeness_missing{commodity=\"electricity\",reason=\"gateway\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let stale = render(Some(&report), &tables, None, 1000).unwrap();
        assert!(stale.lines().any(|l| l == "meterlake_collect_up 0"));
    }
}
