//! What a line asks a device before its registers: where its model lies, and whether it is the one it is taken for.

use std::time::Duration;

use meterlake_config::device_profile::DeviceProfile;
use meterlake_model::MeterDirectory;
use tokio::time::Instant;

use super::ask::{Pace, question};
use super::connection::Connection;
use super::decode::Block;
use super::device::Device;
use super::failure::{Failure, FailureKind};
use super::identity::{Nameplate, identify};
use super::planner::plan_identity;
use super::stats::{DeviceStats, LineStats};
use super::sunspec::{Discovery, located};

/// A line that was given back between two polls is connected again at each: its devices are asked anew this often. After
/// a failure they are asked at once.
const AGAIN: Duration = Duration::from_secs(3600);

/// What a device said before it was read.
#[derive(Debug)]
pub(super) struct Preparation {
    /// The profile as configured, of a device that has to be walked through.
    configured: Option<Box<DeviceProfile>>,
    /// When it was asked, and on the how-manieth connection; `None` when it is to be asked.
    asked: Option<(Instant, u64)>,
    /// The registers of its nameplate.
    pub(super) plate: Vec<Block>,
    /// Why it has no nameplate.
    unreadable: Option<String>,
    /// What the log was told of it.
    told: Option<Result<Nameplate, String>>,
}

impl Preparation {
    pub(super) fn new(profile: &DeviceProfile) -> Self {
        let configured = Discovery::of(profile).map(|_| Box::new(profile.clone()));
        Self { configured, asked: None, plate: Vec::new(), unreadable: None, told: None }
    }

    /// Whether it is that of a device with this profile, of which its own is what was found out so far.
    pub(super) fn is_for(&self, profile: &DeviceProfile, own: &DeviceProfile) -> bool {
        self.configured.as_deref().unwrap_or(own) == profile
    }

    /// It is to be asked again: it may be another device by now.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    fn is_due(&self, connection: &Connection) -> bool {
        self.asked.is_none_or(|(at, made)| {
            let is_new = !connection.is_open() || connection.made() != made;
            is_new && at.elapsed() >= AGAIN
        })
    }
}

/// Asks what is still to be asked. Returns why the device cannot be read, if it cannot.
///
/// # Errors
/// When the line cannot be connected: that says nothing about the device.
pub(super) async fn prepare(
    connection: &mut Connection,
    device: &mut Device,
    pace: Pace,
    stats: (&LineStats, &DeviceStats),
) -> Result<Option<Failure>, Failure> {
    let nothing = device.preparation.configured.is_none() && device.profile.identify.is_empty();
    if nothing || !device.preparation.is_due(connection) {
        return Ok(None);
    }
    if let Some(configured) = device.preparation.configured.clone()
        && let Some(mut walk) = Discovery::of(&configured)
    {
        while let Some(request) = walk.next() {
            match question(connection, device.unit, request, pace, stats, &mut Vec::new()).await? {
                Ok(words) => walk.take(Some(&words)),
                Err(failure) if is_last_word(&failure) => walk.take(None),
                Err(failure) => return Ok(Some(failure)),
            }
        }
        match walk.result() {
            Some(Ok(found)) => device.adopt(located(&configured, found)),
            Some(Err(why)) => {
                return Ok(Some(Failure::answered(FailureKind::BadAnswer, why.to_owned(), Vec::new())));
            }
            None => {}
        }
    }
    let (mut plate, mut unreadable) = (Vec::new(), None);
    for request in plan_identity(&device.profile) {
        match question(connection, device.unit, request, pace, stats, &mut Vec::new()).await? {
            Ok(words) => plate.push(Block { request, words }),
            Err(failure) if is_last_word(&failure) => {
                unreadable = Some(format!("the device has no nameplate at {request}: {failure}"));
            }
            Err(failure) => return Ok(Some(failure)),
        }
    }
    let preparation = &mut device.preparation;
    (preparation.plate, preparation.unreadable) = (plate, unreadable);
    preparation.asked = Some((Instant::now(), connection.made()));
    Ok(None)
}

/// Why the device is not the one that registry and profile take it for; `None` when it is, or was not asked. Tells the
/// log what changed.
pub(super) fn stranger(device: &mut Device, directory: &MeterDirectory, line: &str) -> Option<String> {
    if device.profile.identify.is_empty() {
        return None;
    }
    let serial = directory.get(device.meter_id.as_str()).and_then(|entry| entry.serial.clone());
    let preparation = &mut device.preparation;
    let plate: Vec<&Block> = preparation.plate.iter().collect();
    let said = match &preparation.unreadable {
        Some(why) => Err(why.clone()),
        None => identify(&device.profile, serial.as_deref(), &plate),
    };
    if preparation.told.as_ref() != Some(&said) {
        match &said {
            Ok(Nameplate { model, serial }) => {
                tracing::info!(line, unit = device.unit, meter = %device.meter_id, model, serial, "device is the expected one");
            }
            Err(error) => {
                tracing::warn!(line, unit = device.unit, meter = %device.meter_id, error, "device is another one, its readings are refused");
            }
        }
        preparation.told = Some(said.clone());
    }
    let refusal = said.err();
    if refusal.is_some() {
        preparation.forget();
    }
    refusal
}

/// Whether asking again would bring the same.
fn is_last_word(failure: &Failure) -> bool {
    failure.kind == FailureKind::Exception && !failure.silent
}
