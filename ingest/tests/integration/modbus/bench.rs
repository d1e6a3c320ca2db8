//! A running line and what it delivers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meterlake_config::device_profile::DeviceProfile;
use meterlake_config::{ModbusDevice, ModbusLine, ModbusTransport};
use meterlake_ingest::modbus::{LineStats, poll_line};
use meterlake_ingest::{Delivery, IngestError};
use meterlake_model::{Channel, MeterDirectory, ReadingBatch};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::modbus::telling::device;

/// Longer than any machine needs: reached, a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line to this gateway.
pub(crate) fn line(gateway: SocketAddr, timeout: Duration, devices: Vec<ModbusDevice>) -> ModbusLine {
    line_over(tcp(gateway), timeout, devices)
}

fn tcp(gateway: SocketAddr) -> ModbusTransport {
    ModbusTransport::Tcp { host: gateway.ip().to_string(), port: gateway.port() }
}

/// A line that is reached in this way.
pub(crate) fn line_over(transport: ModbusTransport, timeout: Duration, devices: Vec<ModbusDevice>) -> ModbusLine {
    ModbusLine {
        name: "bench".to_owned(),
        transport,
        timeout,
        connect_timeout: Duration::from_secs(5),
        pause: Duration::ZERO,
        devices,
    }
}

pub(crate) struct Bench {
    pub(crate) stats: Arc<LineStats>,
    pub(crate) stop: CancellationToken,
    _lines: watch::Sender<ModbusLine>,
    deliveries: mpsc::Receiver<Delivery>,
    task: JoinHandle<Result<(), IngestError>>,
    registry: watch::Sender<Arc<MeterDirectory>>,
}

impl Bench {
    /// Polls a gateway every second: units with their profiles.
    pub(crate) fn start(gateway: SocketAddr, timeout: Duration, devices: Vec<(u8, DeviceProfile)>) -> Self {
        Self::over(tcp(gateway), timeout, devices)
    }

    /// Polls a line that is reached in this way every second: units with their profiles.
    pub(crate) fn over(transport: ModbusTransport, timeout: Duration, devices: Vec<(u8, DeviceProfile)>) -> Self {
        let devices = devices.into_iter().map(|(unit, profile)| device(unit, profile));
        let line = line_over(transport, timeout, devices.collect());
        let stats = Arc::new(LineStats::default());
        let (_lines, line) = watch::channel(line);
        let (out, deliveries) = mpsc::channel(1000);
        let (registry, directory) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(poll_line(line, directory, out, Arc::clone(&stats), stop.clone()));
        Self { stats, stop, _lines, deliveries, task, registry }
    }

    /// Gives the line another registry.
    pub(crate) fn know(&self, directory: MeterDirectory) {
        self.registry.send_replace(Arc::new(directory));
    }

    /// The next delivery.
    pub(crate) async fn next(&mut self) -> ReadingBatch {
        let delivery = tokio::time::timeout(PATIENCE, self.deliveries.recv()).await;
        delivery.expect("a delivery before the test's patience ends").expect("a running line").batch
    }

    /// Everything delivered until `enough` of it is there.
    pub(crate) async fn until(&mut self, enough: impl Fn(&ReadingBatch) -> bool) -> ReadingBatch {
        let mut all = ReadingBatch::default();
        while !enough(&all) {
            all.append(self.next().await);
        }
        all
    }

    /// Stops the line and waits for its end.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("a line that stops");
        assert_eq!(ended.unwrap(), Ok(()));
    }
}

/// One column of all rows.
pub(crate) fn column(batch: &ReadingBatch, channel: &str) -> Vec<Option<i64>> {
    let channel = Channel::by_name(channel).unwrap();
    let rows = batch.rows(channel.commodity());
    (0..rows.len()).map(|row| rows.value(row, channel)).collect()
}
