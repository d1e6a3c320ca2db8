//! Completeness of the newest civil day that is over: by commodity and reason, however many meters there are.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use meterlake_analytics::completeness::{Figures, ReportError, last_day_figures};
use meterlake_model::Zone;
use meterlake_store::Lake;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, family, one};

/// The figures, read again only when the table changed.
#[derive(Debug, Default)]
pub struct CompletenessCache(Mutex<Option<(i64, Option<Figures>)>>);

impl CompletenessCache {
    /// The figures of the newest day that is over; `None` when there is none, or the table cannot be read.
    pub async fn figures(&self, lake: &Lake) -> Option<Figures> {
        let version = lake.snapshot("completeness").await.ok()?.version;
        if let Ok(known) = self.0.lock()
            && let Some((_, figures)) = known.as_ref().filter(|(of, _)| *of == version)
        {
            return figures.clone();
        }
        let figures = match last_day_figures(lake).await {
            Ok(figures) => figures,
            Err(ReportError::NotDerived) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot read completeness");
                return None;
            }
        };
        if let Ok(mut known) = self.0.lock() {
            *known = Some((version, figures.clone()));
        }
        figures
    }
}

/// Adds the figures.
pub(super) fn add(registry: &mut Registry, figures: &Figures) {
    let day = u64::try_from(Zone::utc().start_of_day(figures.day).unix_seconds()).unwrap_or(0);
    one(registry, "completeness_day_seconds", "The newest civil day that is over, as seconds since 1970", day);
    let ratio = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    registry.register("completeness_ratio", "Received of expected readings of that day", ratio.clone());
    let expected = family(registry, "completeness_expected", "Expected readings of that day");
    let received = family(registry, "completeness_received", "Received ones of them");
    let late = family(registry, "completeness_meters_late", "Meters with a late reading that day");
    let silent = family(registry, "completeness_meters_silent", "Meters that said nothing that day");
    for tally in &figures.tallies {
        let labels = vec![("commodity".to_owned(), tally.commodity.clone())];
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        expected.get_or_create(&labels).set(count(tally.expected));
        received.get_or_create(&labels).set(count(tally.received));
        late.get_or_create(&labels).set(count(tally.late_meters));
        silent.get_or_create(&labels).set(count(tally.silent_meters));
        if tally.expected > 0 {
            // A figure for a graph: exact to one in a billion is enough.
            let billionths = i128::from(tally.received) * 1_000_000_000 / i128::from(tally.expected);
            ratio.get_or_create(&labels).set(f64::from(i32::try_from(billionths).unwrap_or(0)) / 1e9);
        }
    }
    let missing = family(registry, "completeness_missing", "Missing readings of that day by their main cause");
    for (commodity, reason, count) in &figures.causes {
        let labels = vec![("commodity".to_owned(), commodity.clone()), ("reason".to_owned(), reason.clone())];
        missing.get_or_create(&labels).set(u64::try_from(*count).unwrap_or(0));
    }
}
