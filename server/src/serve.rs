//! `serve`: health and Prometheus metrics over HTTP.
//!
//! It reads what the collector writes about itself and what the tables' logs say, so its end touches nobody else.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use meterlake_config::{Config, LakeConfig};
use meterlake_model::Timestamp;
use meterlake_store::{Lake, Location};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::metrics::CompletenessCache;
use crate::status::{self, StatusReport};
use crate::{metrics, setup, shutdown};

/// Answers until a signal comes.
///
/// # Errors
/// When the address cannot be bound.
pub async fn command(global: &Global) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let stop = shutdown::on_signal()?;
    let listener = TcpListener::bind(config.serve.bind)
        .await
        .with_context(|| format!("cannot listen at {}: choose another [serve] bind", config.serve.bind))?;
    answer(&config, listener, stop).await
}

/// Answers at a listener until stopped.
///
/// # Errors
/// When the listener fails.
pub async fn answer(config: &Config, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "serving /health and /metrics");
    let (lake, journal) = (TheLake::of(&config.lake)?, config.collect.journal.clone());
    let state = Arc::new(Places { lake, journal, completeness: CompletenessCache::default() });
    let router = Router::new().route("/health", get(health)).route("/metrics", get(metrics_text)).with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await?;
    Ok(())
}

struct Places {
    lake: TheLake,
    journal: PathBuf,
    completeness: CompletenessCache,
}

/// A folder is opened for each answer: it may come and go. On an object store that would cost dozens of requests each.
enum TheLake {
    Folder(Location),
    Open(Lake),
}

impl TheLake {
    fn of(config: &LakeConfig) -> anyhow::Result<Self> {
        Ok(match setup::location(config) {
            folder @ Location::Local(_) => Self::Folder(folder),
            bucket @ Location::S3(_) => Self::Open(Lake::connect(&bucket)?),
        })
    }

    fn get(&self) -> Option<Lake> {
        match self {
            Self::Folder(folder) => Lake::connect(folder).ok(),
            Self::Open(lake) => Some(lake.clone()),
        }
    }
}

#[derive(Serialize)]
struct Health {
    healthy: bool,
    reasons: Vec<String>,
}

async fn health(State(places): State<Arc<Places>>) -> impl IntoResponse {
    let reasons = ailments(&places);
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(Health { healthy: reasons.is_empty(), reasons }))
}

/// What is wrong, in words for a person.
fn ailments(places: &Places) -> Vec<String> {
    let now_s = Timestamp::now().unix_seconds();
    let report = match status::read_report(&places.journal) {
        Ok(Some(report)) => report,
        Ok(None) => return vec!["the collector has not started yet".to_owned()],
        Err(error) => return vec![format!("{error:#}")],
    };
    if !report.is_fresh(now_s) {
        return vec![format!("the collector has said nothing for {} s", now_s - report.written_at_s)];
    }
    let disconnected = |(name, figures): &(String, status::Figures)| {
        let connected = figures.iter().any(|(figure, value)| figure == "connected" && *value > 0);
        (!connected).then(|| format!("not connected to broker {name}"))
    };
    report.brokers.iter().filter_map(disconnected).collect()
}

async fn metrics_text(State(places): State<Arc<Places>>) -> impl IntoResponse {
    let report: Option<StatusReport> = match status::read_report(&places.journal) {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "cannot read the collector's status");
            None
        }
    };
    let (tables, day) = match places.lake.get() {
        Some(lake) => (metrics::table_figures(&lake).await, places.completeness.figures(&lake).await),
        None => (Vec::new(), None),
    };
    match metrics::render(report.as_ref(), &tables, day.as_ref(), Timestamp::now().unix_seconds()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written; see the log of serve").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_never_started_is_not_healthy() {
        let dir = tempfile::tempdir().unwrap();
        let (lake, journal) = (TheLake::Folder(Location::Local(dir.path().to_owned())), dir.path().join("journal"));
        let places = Places { lake, journal, completeness: CompletenessCache::default() };
        assert_eq!(ailments(&places), ["the collector has not started yet"]);
    }
}
