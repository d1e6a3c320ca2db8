//! Counters of one line, read by metrics while it runs.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use meterlake_config::ModbusLine;
use meterlake_model::MeterId;

use super::failure::FailureKind;

/// What one line did since it started.
#[derive(Debug, Default)]
pub struct LineStats {
    /// Requests sent.
    pub requests: AtomicU64,
    /// Readings handed over.
    pub readings: AtomicU64,
    /// Dead letters handed over.
    pub dead_letters: AtomicU64,
    /// Readings that came more than 10 s after their slot; they bear their own time.
    pub late: AtomicU64,
    /// Slots that passed without a reading.
    pub slots_missed: AtomicU64,
    /// Deliveries that had to wait because the receiver was full.
    pub waits: AtomicU64,
    /// Deliveries given up because the receiver stayed full.
    pub dropped: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    /// By device, in the order of the configuration.
    pub devices: Vec<DeviceStats>,
}

/// What one device did since the line started.
#[derive(Debug)]
pub struct DeviceStats {
    /// Its address on the line.
    pub unit: u8,
    /// The meter.
    pub meter_id: MeterId,
    /// When it was last read, in seconds since 1970; 0 for not yet.
    pub last_success_s: AtomicI64,
    /// Whether it does not answer and is tried at a slower pace.
    pub backed_off: AtomicBool,
    /// Slots that passed without a reading.
    pub slots_missed: AtomicU64,
}

impl LineStats {
    /// All zero, for the devices of a line.
    pub fn new(line: &ModbusLine) -> Self {
        let devices = line.devices.iter().map(|device| DeviceStats {
            unit: device.unit,
            meter_id: device.meter_id.clone(),
            last_success_s: AtomicI64::new(0),
            backed_off: AtomicBool::new(false),
            slots_missed: AtomicU64::new(0),
        });
        Self { devices: devices.collect(), ..Self::default() }
    }

    /// Failed requests by kind.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Devices that do not answer.
    pub fn backed_off(&self) -> usize {
        self.devices.iter().filter(|device| device.backed_off.load(Ordering::Relaxed)).count()
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        count(&self.failures[kind as usize]);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
