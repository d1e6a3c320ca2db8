//! What a line knows of one device: its next slot, whether it answers, what was odd about its answers.

use std::sync::Arc;
use std::time::Duration;

use meterlake_config::ModbusDevice;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_model::{MeterDirectory, MeterId, Timestamp, Zone};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::failure::{Failure, FailureKind};
use super::planner::{BlockRequest, plan};
use super::prepare::Preparation;
use super::schedule::Slots;
use super::stats::DeviceStats;

/// The first rest of a device that did not answer, and the longest: one that comes back is read within this time.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A slot this much further ahead than it can be means that the clock was set back.
const CLOCK_MARGIN_S: i64 = 60;

pub(super) struct Device {
    pub(super) unit: u8,
    pub(super) meter_id: MeterId,
    pub(super) profile: DeviceProfile,
    /// Name and version of the profile.
    pub(super) label: Arc<str>,
    pub(super) plan: Vec<BlockRequest>,
    /// What it said about itself.
    pub(super) preparation: Preparation,
    /// Status registers as last read.
    pub(super) status: Vec<u32>,
    pub(super) counters: Arc<DeviceStats>,
    interval: Duration,
    offset: Duration,
    zone: Zone,
    slots: Slots,
    /// The slot to be read next, and the one after it.
    slot: Timestamp,
    following: Timestamp,
    backoff: Backoff,
    silence: Option<Silence>,
    /// By request: what has been wrong with its answers since when it was last right.
    odd: Vec<Option<FailureKind>>,
}

/// A device that does not answer.
pub(super) struct Silence {
    /// The first slot without a reading.
    pub(super) since: Timestamp,
    /// Slots without a reading.
    pub(super) slots_missed: u64,
    /// When it is tried again.
    pub(super) retry_at: Instant,
}

impl Device {
    pub(super) fn new(config: ModbusDevice, directory: &MeterDirectory, now: Timestamp) -> Self {
        let ModbusDevice { unit, meter_id, profile, interval, offset } = config;
        let plan = plan(&profile);
        let zone = zone_of(&meter_id, directory);
        let slots = Slots::new(interval, zone.clone());
        let mut device = Self {
            unit,
            label: profile.label().into(),
            status: vec![0; profile.status.len()],
            odd: vec![None; plan.len()],
            preparation: Preparation::new(&profile),
            counters: Arc::new(DeviceStats::new(unit, meter_id.clone())),
            meter_id,
            profile,
            plan,
            interval,
            offset,
            zone,
            slots,
            slot: now,
            following: now,
            backoff: Backoff::new(FIRST_REST, LONGEST_REST),
            silence: None,
        };
        // Not the slot that has begun: another run may have read it, and a second value would contradict the first.
        device.wait_for(device.slots.after(device.shifted(now)));
        device
    }

    /// The same meter by another configuration. What is known of a device that is asked as before stays, and a slot that
    /// it still owes is not given up where that is one of its new slots, too.
    pub(super) fn adjusted(self, config: ModbusDevice, directory: &MeterDirectory, now: Timestamp) -> Self {
        let is_at_its_times = self.interval == config.interval && self.offset == config.offset;
        let is_asked_as_before = self.unit == config.unit && self.preparation.is_for(&config.profile, &self.profile);
        let owed = self.slot;
        let mut device = match is_asked_as_before {
            true if is_at_its_times => return self,
            true => Self {
                interval: config.interval,
                offset: config.offset,
                slots: Slots::new(config.interval, self.zone.clone()),
                ..self
            },
            false => {
                let counters = (self.unit == config.unit).then_some(self.counters);
                let device = Self::new(config, directory, now);
                Self { counters: counters.unwrap_or(device.counters), ..device }
            }
        };
        let next = device.slots.after(device.shifted(now));
        let is_slot = device.slots.at_or_before(owed) == owed;
        device.wait_for(if is_slot { owed.min(next) } else { next });
        device
    }

    /// Takes the addresses that the device itself named.
    pub(super) fn adopt(&mut self, profile: DeviceProfile) {
        if profile == self.profile {
            return;
        }
        self.plan = plan(&profile);
        self.odd = vec![None; self.plan.len()];
        self.status = vec![0; profile.status.len()];
        self.profile = profile;
    }

    fn wait_for(&mut self, slot: Timestamp) {
        self.slot = slot;
        self.following = self.slots.after(slot);
    }

    /// When the next slot is to be read.
    pub(super) fn due(&self) -> Timestamp {
        self.slot.plus_micros(micros(self.offset))
    }

    /// The silence it is in.
    pub(super) fn silence(&self) -> Option<&Silence> {
        self.silence.as_ref()
    }

    /// The time that an answer bears, and whether it came soon enough for its slot.
    pub(super) fn stamp(&self, answered_at: Timestamp) -> (Timestamp, bool) {
        self.slots.stamp(answered_at, self.offset)
    }

    /// Follows the clock. Returns how many slots passed without a reading.
    pub(super) fn follow(&mut self, now: Timestamp) -> u64 {
        let at = self.shifted(now);
        let ahead = micros(self.slots.interval()).saturating_add(CLOCK_MARGIN_S * 1_000_000);
        if self.slot.micros_since(at) > ahead {
            self.wait_for(self.slots.after(at));
            return 0;
        }
        if at < self.following {
            return 0;
        }
        let newest = self.slots.at_or_before(at);
        let passed = newest.micros_since(self.slot) / micros(self.slots.interval()).max(1);
        self.wait_for(newest);
        let missed = u64::try_from(passed).unwrap_or(1).max(1);
        if let Some(silence) = &mut self.silence {
            silence.slots_missed += missed;
        }
        missed
    }

    /// Takes the zone of a new registry.
    pub(super) fn follow_registry(&mut self, directory: &MeterDirectory, now: Timestamp) {
        let zone = zone_of(&self.meter_id, directory);
        if zone != self.zone {
            self.slots = Slots::new(self.interval, zone.clone());
            self.zone = zone;
            self.wait_for(self.slots.after(self.shifted(now)));
        }
    }

    /// The slot is done with, be it with a reading or without one.
    pub(super) fn next_slot(&mut self) {
        self.wait_for(self.following);
    }

    /// It did not answer. Returns whether that is new.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.preparation.forget();
        let retry_at = now + self.backoff.fail();
        match &mut self.silence {
            Some(silence) => silence.retry_at = retry_at,
            None => self.silence = Some(Silence { since: self.slot, slots_missed: 0, retry_at }),
        }
        self.backoff.failures() == 1
    }

    /// Whatever kept it silent may be over: it is tried again at once.
    pub(super) fn hope(&mut self, now: Instant) {
        if let Some(silence) = &mut self.silence {
            silence.retry_at = now;
        }
    }

    /// It answered. Returns the silence that this ends.
    pub(super) fn answer(&mut self) -> Option<Silence> {
        self.backoff.succeed();
        self.silence.take()
    }

    /// Notes how a request was answered. Returns whether an oddity begins, or the one that ends.
    pub(super) fn note_answer(&mut self, request: usize, failure: Option<&Failure>) -> Change {
        let kind = failure.map(|failure| failure.kind);
        let Some(odd) = self.odd.get_mut(request) else { return Change::None };
        let before = std::mem::replace(odd, kind);
        match (before, kind) {
            (before, Some(kind)) if before != Some(kind) => Change::Begins,
            (Some(ended), None) => Change::Ends(ended),
            _ => Change::None,
        }
    }

    fn shifted(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(-micros(self.offset))
    }
}

/// What an answer changes about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// As before.
    None,
    /// The first odd answer of its kind.
    Begins,
    /// The first right answer after odd ones.
    Ends(FailureKind),
}

fn zone_of(meter_id: &MeterId, directory: &MeterDirectory) -> Zone {
    directory.get(meter_id.as_str()).map_or_else(Zone::utc, |entry| entry.zone.clone())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn device(offset_s: u64) -> Device {
        let config = ModbusDevice {
            unit: 7,
            meter_id: MeterId::new("M7").unwrap(),
            profile: DeviceProfile::shipped("pulse-water").unwrap(),
            interval: Duration::from_secs(900),
            offset: Duration::from_secs(offset_s),
        };
        Device::new(config, &MeterDirectory::default(), ts("2026-11-21T10:15:05Z"))
    }

    #[test]
    fn the_slot_that_has_begun_is_left_to_the_run_before() {
        assert_eq!(device(0).due(), ts("2026-11-21T10:30:00Z"));
        assert_eq!(device(6).due(), ts("2026-11-21T10:15:06Z"));
    }

    #[test]
    fn slots_that_passed_are_counted_and_not_made_up_for() {
        let mut device = device(0);
        assert_eq!(device.follow(ts("2026-11-21T10:44:59Z")), 0);
        assert_eq!(device.follow(ts("2026-11-21T11:00:00Z")), 2, "10:30 and 10:45");
        assert_eq!(device.due(), ts("2026-11-21T11:00:00Z"));
        device.next_slot();
        assert_eq!(device.follow(ts("2026-11-21T11:14:59Z")), 0);
        assert_eq!(device.follow(ts("2027-11-21T11:15:00Z")), 365 * 96, "a clock that jumps ahead");
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_polls() {
        let mut device = device(0);
        assert_eq!(device.follow(ts("2026-11-21T06:00:00Z")), 0);
        assert_eq!(device.due(), ts("2026-11-21T06:15:00Z"));
    }

    #[tokio::test]
    async fn a_silence_remembers_its_first_slot_and_what_was_missed() {
        let mut device = device(0);
        device.follow(ts("2026-11-21T10:30:00Z"));
        assert!(device.fail(Instant::now()));
        device.follow(ts("2026-11-21T11:00:01Z"));
        assert!(!device.fail(Instant::now()));
        let silence = device.answer().unwrap();
        assert_eq!((silence.since, silence.slots_missed), (ts("2026-11-21T10:30:00Z"), 2));
        assert!(device.silence().is_none());
    }

    #[test]
    fn an_oddity_is_told_at_its_beginning_and_its_end() {
        let mut device = device(0);
        let exception = Failure::exception(2, vec![]);
        assert_eq!(device.note_answer(0, Some(&exception)), Change::Begins);
        assert_eq!(device.note_answer(0, Some(&exception)), Change::None);
        assert_eq!(device.note_answer(0, None), Change::Ends(FailureKind::Exception));
        assert_eq!(device.note_answer(0, None), Change::None);
        assert_eq!(device.note_answer(99, None), Change::None);
    }
}
