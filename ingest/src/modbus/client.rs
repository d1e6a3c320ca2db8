//! One line, opened for a person's question: the same connection and the same guard as the polls.

use std::fmt;
use std::time::Duration;

use meterlake_config::ModbusLine;
use tokio::time::sleep;

use super::connection::Connection;
use super::dial::Way;
use super::failure::Failure;
use super::planner::BlockRequest;

/// Asks the devices of one line, one request at a time. It connects when it is first asked and again after whatever
/// ended a connection; it never writes to a device.
///
/// A line takes one such client at a time: a gateway or serial line that is being polled answers both wrongly.
pub struct LineClient {
    name: String,
    connection: Connection,
    pause: Duration,
}

impl LineClient {
    /// For a line as it is configured; its devices need not be among those that are asked. A line that connects to us is
    /// its listener's: asked here, it cannot be connected.
    pub fn new(line: &ModbusLine) -> Self {
        Self { name: line.name.clone(), connection: Connection::new(line, Way::to(line)), pause: line.pause }
    }

    /// Reads registers of the device with this address on the line: as many words as `request` asks for. The line's pause
    /// is kept before each request; `timeout` bounds the answer, and the line's own time-out the connection.
    ///
    /// Nothing is asked twice: whether to try again is the caller's to know. Cancelled, it drops the connection.
    ///
    /// # Errors
    /// When the line cannot be connected, nothing proper comes in time, or the device answers with an exception. The next
    /// call begins anew in every case.
    pub async fn read(&mut self, unit: u8, request: BlockRequest, timeout: Duration) -> Result<Vec<u16>, Failure> {
        self.connection.open().await?;
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        self.connection.read(unit, request, timeout).await
    }
}

impl fmt::Debug for LineClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineClient").field("line", &self.name).finish_non_exhaustive()
    }
}
