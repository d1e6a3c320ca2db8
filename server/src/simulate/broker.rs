//! The broker that simulated meters publish to: its arguments, and publishing with a bar and a last line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use futures::Stream;
use meterlake_device_sim::ledger::Ledger;
use meterlake_device_sim::publisher::{PublishStats, Publisher, PublisherOptions};
use meterlake_device_sim::{Message, SimError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::progress;

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(200);

/// Where to and how fast.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerArgs {
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = address)]
    broker: (String, u16),
    /// Client id at the broker; two publishers with one id drive each other out
    #[arg(long, value_name = "ID", default_value = "meterlake-simulate")]
    client_id: String,
    /// User name at the broker; the password comes from METERLAKE_SIMULATE_PASSWORD
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Messages a second [default: as fast as the broker takes them]
    #[arg(long, value_name = "MESSAGES", value_parser = rate)]
    rate: Option<f64>,
    /// Messages that may wait for the broker's acknowledgement
    #[arg(long, value_name = "MESSAGES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Write down every value that is sent and every acknowledgement, for `check-ledger`; an existing file is replaced
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

fn address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` is not HOST:PORT"))?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { Err(format!("`{text}` names no host")) } else { Ok((host.to_owned(), port)) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("`{text}` messages a second is no rate")),
    }
}

impl BrokerArgs {
    fn options(&self) -> anyhow::Result<PublisherOptions> {
        let credentials = match &self.username {
            None => None,
            Some(user) => {
                let password = std::env::var("METERLAKE_SIMULATE_PASSWORD")
                    .context("--username needs the password in METERLAKE_SIMULATE_PASSWORD")?;
                Some((user.clone(), password))
            }
        };
        let (host, port) = &self.broker;
        Ok(PublisherOptions {
            credentials,
            window: self.window,
            rate: self.rate,
            ..PublisherOptions::new(host, *port, &self.client_id)
        })
    }

    /// Publishes until the source ends or a stop comes, and says what was sent. `expected` messages are a full bar.
    ///
    /// # Errors
    /// When the source fails, the broker refuses, or the ledger cannot be written.
    pub(super) async fn publish(
        &self,
        messages: impl Stream<Item = Result<Message, SimError>>,
        expected: Option<u64>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let ledger = self.ledger.as_deref().map(Ledger::create).transpose()?;
        let stats = Arc::new(PublishStats::default());
        let publisher =
            Publisher { ledger, stats: Arc::clone(&stats), stop: stop.clone(), ..Publisher::new(self.options()?) };
        let started = Instant::now();
        let (host, port) = &self.broker;
        let what = format!("messages to {host}:{port}");
        let bar = expected.map_or_else(|| progress::spinner(&what), |total| progress::bar(total, &what));
        let publishing = publisher.try_publish(messages);
        tokio::pin!(publishing);
        let mut looks = tokio::time::interval(LOOK);
        let published = loop {
            tokio::select! {
                published = &mut publishing => break published,
                _ = looks.tick() => bar.set_position(stats.progress().acknowledged),
            }
        };
        bar.finish_and_clear();
        let progress = published.with_context(|| format!("cannot publish to {host}:{port}"))?;
        let took = started.elapsed().as_secs_f64();
        eprintln!(
            "{} messages with {} readings sent in {took:.1} s, {} acknowledged, {} sent again, {} reconnects",
            progress.messages, progress.readings, progress.acknowledged, progress.again, progress.reconnects
        );
        if progress.unheard > 0 {
            eprintln!("{} messages went to nobody: no collector subscribes to their topics", progress.unheard);
        }
        if stop.is_cancelled() {
            eprintln!("stopped before the end");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for (text, expected) in [
            ("localhost:1883", Some(("localhost", 1883))),
            ("[::1]:1884", Some(("::1", 1884))),
            ("localhost", None),
            (":1883", None),
            ("localhost:mqtt", None),
            ("localhost:70000", None),
        ] {
            let read = address(text).ok();
            assert_eq!(read.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{text}");
        }
    }

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!(rate("2000"), Ok(2000.0));
        for text in ["0", "-1", "nan", "inf", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
