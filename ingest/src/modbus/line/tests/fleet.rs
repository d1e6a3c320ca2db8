//! A thousand devices on fifty lines, a day in virtual time: what the dead do to the others.

use super::*;
use crate::modbus::dial::AfterFailure;

const LINES: usize = 50;
const DEVICES_OF_LINE: u8 = 20;
const SLOTS: u64 = 96;

/// Each answers in its own time, like the meters of a street.
fn answer_time(line: usize, unit: u8) -> Duration {
    Duration::from_millis(30 + (u64::from(unit) * 37 + line as u64 * 11) % 90)
}

/// Every tenth, spread over the lines.
fn is_dead(line: usize, unit: u8) -> bool {
    (line * usize::from(DEVICES_OF_LINE) + usize::from(unit)) * 7919 % 10 == 3
}

/// How late each reading of the living came after its slot, the least first, and which of them came in the first slot.
struct Lateness {
    all: Vec<Duration>,
    after_first_slot: Vec<Duration>,
    missed_by_living: u64,
    dead: usize,
}

impl Lateness {
    fn percentile(of: &[Duration], permille: usize) -> Duration {
        of[(of.len() - 1) * permille / 1000]
    }
}

async fn day_of_a_fleet(habits: Habits, some_are_dead: bool) -> Lateness {
    let began = Instant::now();
    let clock = Clock::new(move || {
        let elapsed = i64::try_from(began.elapsed().as_micros()).unwrap();
        Timestamp::from_unix_seconds(START_S).unwrap().plus_micros(elapsed)
    });
    let (out, mut received) = mpsc::channel(10_000);
    let (_directory, directory) = watch::channel(Arc::default());
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let (mut tasks, mut counters, mut dead) = (tokio::task::JoinSet::new(), Vec::new(), 0);
    for number in 0..LINES {
        let gateway = Arc::new(Gateway::default());
        let devices = (1..=DEVICES_OF_LINE).map(|unit| {
            let silent = some_are_dead && is_dead(number, unit);
            dead += usize::from(silent);
            let answers = Behaviour::Answers(answer_time(number, unit));
            gateway.set(unit, if silent { Behaviour::Silent } else { answers });
            let meter_id = MeterId::new(&format!("{number}-{unit}")).unwrap();
            ModbusDevice { unit, meter_id, profile: profile.clone(), interval: QUARTER, offset: Duration::ZERO }
        });
        let line = ModbusLine { name: number.to_string(), devices: devices.collect(), ..line() };
        let stats = Arc::new(LineStats::default());
        counters.push(Arc::clone(&stats));
        let (_, setting) = watch::channel(setting(line, &gateway, habits));
        tasks.spawn(Poller::new(setting, clock.clone(), directory.clone(), out.clone(), stats).run());
    }
    drop(out);
    let mut lateness = Lateness { all: Vec::new(), after_first_slot: Vec::new(), missed_by_living: 0, dead };
    let end = began + Duration::from_secs(300 + SLOTS * 900 - 1);
    while let Ok(Some(delivery)) = tokio::time::timeout_at(end, received.recv()).await {
        assert_eq!(delivery.batch.water.len(), 1);
        let since_first = began.elapsed() - Duration::from_secs(300);
        let slot = since_first.as_secs() / 900;
        let late = since_first - Duration::from_secs(slot * 900);
        lateness.all.push(late);
        if slot > 0 {
            lateness.after_first_slot.push(late);
        }
    }
    for (line, stats) in counters.iter().enumerate() {
        for device in stats.devices().iter().filter(|device| !(some_are_dead && is_dead(line, device.unit))) {
            lateness.missed_by_living += device.slots_missed.load(Ordering::Relaxed);
        }
    }
    lateness.all.sort_unstable();
    lateness.after_first_slot.sort_unstable();
    lateness
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_a_thousand_devices_dead_makes_the_others_no_later() {
    let kept = Habits {
        after_failure: AfterFailure {
            keep: true,
            drain: Some((Duration::from_millis(500), Duration::from_millis(100))),
        },
        idle: crate::modbus::dial::Idle::Keep,
        ..BY_CONNECTION
    };
    for habits in [BY_CONNECTION, kept] {
        let healthy = day_of_a_fleet(habits, false).await;
        let troubled = day_of_a_fleet(habits, true).await;
        let devices = LINES * usize::from(DEVICES_OF_LINE);
        assert_eq!((devices, healthy.dead, troubled.dead), (1_000, 0, 100));
        assert_eq!(healthy.all.len(), devices * 96);
        assert_eq!(troubled.all.len(), (devices - troubled.dead) * 96, "each slot of each that lives");
        assert_eq!((healthy.missed_by_living, troubled.missed_by_living), (0, 0));
        let p99 = |of: &[Duration]| Lateness::percentile(of, 990);
        let (well, ill) = (p99(&healthy.all), p99(&troubled.all));
        println!(
            "p99 {well:?} healthy, {ill:?} with 100 of 1,000 dead; after the first slot at most {:?} and {:?}",
            healthy.after_first_slot.last().unwrap(),
            troubled.after_first_slot.last().unwrap()
        );
        assert!(ill <= well.mul_f64(1.05), "p99 of lateness {ill:?}, {well:?} when all live");
        // The first silence of a device is what it costs the others; from then on nobody waits longer than for a short try,
        // a quarter of the deadline: when the silent are tried is left to chance, and so is whether one meets a slot.
        let (well, ill) = (healthy.after_first_slot.last().unwrap(), troubled.after_first_slot.last().unwrap());
        assert!(*ill <= *well + line().timeout / 4, "the latest {ill:?}, {well:?} when all live");
    }
}
