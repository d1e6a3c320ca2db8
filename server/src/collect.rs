//! `collect`: the collector as a process.

use std::sync::Arc;

use crate::cli::Global;
use crate::status::CollectStatus;
use crate::{pipeline, reload, setup, shutdown};

/// Collects until a signal comes; SIGHUP has it read its configuration again.
///
/// # Errors
/// As [`pipeline::collect`].
pub async fn command(global: &Global) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    if config.mqtt.is_empty() && config.modbus.is_empty() && config.modbus_listen.is_empty() {
        tracing::warn!("no broker and no Modbus line is configured: nothing will come in but replayed dead letters");
    }
    let stop = shutdown::on_signal()?;
    let reloads = reload::on_hangup(global)?;
    pipeline::collect(&config, Some(reloads), Arc::new(CollectStatus::default()), stop).await
}
