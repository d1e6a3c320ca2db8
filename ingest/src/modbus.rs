//! Modbus: lines of devices polled on a schedule, by profile. TCP, RTU on a serial line or over TCP, and device servers
//! that connect to us.
//!
//! ```text
//! profile ─ planner ─ requests ─┐
//! calendar ─ schedule ─ slots ──┼─ turn ─ ask ─ connection ═╦═ dial ── gateway, serial line
//!                               │           │    frame      ╚═ listen ─ device server
//!                     delivery ─┴─ decode ──┘ registers
//! ```
//!
//! [`poll_line`] is the task of one line, [`listen`] that of a port and its many lines, [`LineClient`] asks a line for a
//! person. Before a device is read it is asked what it is, where its profile says how ([`identify`]), and where
//! its registers lie, where only it knows ([`sunspec`]). [`decode_block`] and [`replay`] are pure, so that dead letters are
//! read again after a profile was mended; [`golden`] compares profiles with vectors, [`guess`] looks for the meaning of
//! registers that no profile knows. Nothing is ever written to a device: only function codes 3 and 4 exist here. Devices
//! with a clock of their own and TLS are left out.

mod ask;
mod backoff;
mod client;
mod clock;
mod connection;
mod decode;
mod device;
mod dial;
mod failure;
mod frame;
pub mod golden;
pub mod guess;
mod heartbeat;
mod identity;
mod image;
mod line;
mod listen;
mod number;
mod packet;
mod planner;
mod prepare;
mod schedule;
mod serial;
mod stats;
pub mod sunspec;
mod turn;

use std::borrow::Cow;
use std::sync::Arc;

use meterlake_config::ModbusLine;
use meterlake_config::device_profile::Layout;
use meterlake_model::{DeadLetter, DeadReason, MeterDirectory, RawMessage, ReadingBatch, Timestamp, Zone};

pub use client::LineClient;
pub use decode::{Block, BlockError, BlockValues, decode_block, decode_blocks};
pub use failure::{Failure, FailureKind};
pub use identity::{Nameplate, identify};
pub use image::Image;
pub use line::poll_line;
pub use listen::{ListenStats, listen};
pub use planner::{BlockRequest, plan, plan_identity};
pub use schedule::{SLOT_TOLERANCE_S, Slots};
pub use stats::{DeviceStats, LineStats};

/// Decodes a register block that was kept, by the lines as they are configured now, and adds what it says to `out`: a
/// row and events, or a dead letter with what is still wrong. Its time is worked out from its arrival, as when polled.
///
/// Every event bit that is set becomes an event: what was set before is not known.
pub fn replay<'l>(
    lines: impl IntoIterator<Item = &'l ModbusLine>,
    message: &RawMessage,
    directory: &MeterDirectory,
    out: &mut ReadingBatch,
) {
    let mut refuse = |reason, detail: String, decoder: Arc<str>| {
        out.dead_letters.push(DeadLetter { reason, detail, message: message.clone(), decoder });
    };
    let kept = match decode::read_message(message) {
        Ok(block) => block,
        Err(BlockError { reason, detail }) => return refuse(reason, detail, "modbus".into()),
    };
    let decode::Kept { unit, blocks, found } = kept;
    let line = lines.into_iter().find(|line| line::source_of(&line.name) == message.source);
    let Some(device) = line.and_then(|line| line.devices.iter().find(|device| device.unit == unit)) else {
        let detail = format!("no device with unit {unit} is configured on {}", message.source);
        return refuse(DeadReason::NoMap, detail, "modbus".into());
    };
    let label: Arc<str> = device.profile.label().into();
    let profile = match (&device.profile.layout, found) {
        (Layout::SunSpec(_), Some(found)) => Cow::Owned(sunspec::located(&device.profile, found)),
        (Layout::Fixed, None) => Cow::Borrowed(&device.profile),
        _ => {
            let detail = format!("`{}` was not read by a profile such as {label}", message.topic);
            return refuse(DeadReason::NoMap, detail, label);
        }
    };
    let Ok(received_at) = Timestamp::from_unix_seconds(message.received_at_s) else {
        let detail = format!("arrival at {} s since 1970 is no time", message.received_at_s);
        return refuse(DeadReason::BadTime, detail, label);
    };
    let zone = directory.get(device.meter_id.as_str()).map_or_else(Zone::utc, |entry| entry.zone.clone());
    let serial = directory.get(device.meter_id.as_str()).and_then(|entry| entry.serial.as_deref());
    let identity = identify(&profile, serial, &blocks.iter().collect::<Vec<_>>());
    let answered = decode::Answered {
        unit,
        meter_id: &device.meter_id,
        profile: &profile,
        label: &label,
        source: &message.source,
        directory,
        plate: &[],
        stranger: identity.as_ref().err().map(String::as_str),
        ts: Slots::new(device.interval, zone).stamp(received_at, device.offset).0,
        received_at_s: message.received_at_s,
    };
    let mut status = vec![0; profile.status.len()];
    answered.add_blocks(&blocks, &mut status, out);
}
