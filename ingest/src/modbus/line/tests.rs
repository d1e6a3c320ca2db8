//! Lines in virtual time against devices in memory. Faults on real sockets are in `tests/integration/modbus`.

use super::*;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use async_trait::async_trait;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_config::{ModbusDevice, ModbusTransport};
use meterlake_model::{Channel, DeadReason, MeterId, ReadingFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use crate::modbus::dial::{BY_CONNECTION, Dial, Habits, Transport, Way};
use crate::modbus::failure::FailureKind;
use crate::modbus::heartbeat::Heartbeats;
use crate::modbus::stats::DeviceStats;

mod adjusting;
mod fleet;

/// How a unit behaves.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    /// Answers after so long.
    Answers(Duration),
    /// Never answers.
    Silent,
    /// Answers with this exception.
    Exception(u8),
}

/// A gateway in memory: pulse counters whose count is their number of answers so far.
#[derive(Debug, Default)]
struct Gateway {
    units: Mutex<BTreeMap<u8, Behaviour>>,
    polls: Mutex<BTreeMap<u8, u16>>,
    unreachable: Mutex<bool>,
}

impl Gateway {
    fn set(&self, unit: u8, behaviour: Behaviour) {
        self.units.lock().unwrap().insert(unit, behaviour);
    }

    fn polls(&self, unit: u8) -> u16 {
        self.polls.lock().unwrap().get(&unit).copied().unwrap_or_default()
    }

    async fn serve(self: Arc<Self>, mut stream: DuplexStream) -> io::Result<()> {
        loop {
            let mut request = [0; 12];
            stream.read_exact(&mut request).await?;
            let [t0, t1, _, _, _, _, unit, function, _, _, _, registers] = request;
            let count = {
                let mut polls = self.polls.lock().unwrap();
                let count = polls.entry(unit).or_default();
                *count += 1;
                *count
            };
            let behaviour = self.units.lock().unwrap().get(&unit).copied().unwrap_or(Behaviour::Silent);
            let mut answer = vec![t0, t1, 0, 0, 0, 3, unit];
            match behaviour {
                Behaviour::Silent => continue,
                Behaviour::Exception(code) => answer.extend([function | 0x80, code]),
                Behaviour::Answers(after) => {
                    tokio::time::sleep(after).await;
                    answer[5] = 3 + registers * 2;
                    answer.extend([function, registers * 2, 0, 0]);
                    answer.extend(count.to_be_bytes());
                    answer.resize(9 + usize::from(registers) * 2, 0);
                }
            }
            stream.write_all(&answer).await?;
        }
    }
}

#[async_trait]
impl Dial for Arc<Gateway> {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        if *self.unreachable.lock().unwrap() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = duplex(1024);
        tokio::spawn(Arc::clone(self).serve(theirs));
        Ok(Box::new(ours))
    }
}

struct Bench {
    gateway: Arc<Gateway>,
    stats: Arc<LineStats>,
    received: mpsc::Receiver<Delivery>,
    began: Instant,
    settings: watch::Sender<Setting>,
    task: tokio::task::JoinHandle<Result<(), IngestError>>,
    _directory: watch::Sender<Arc<MeterDirectory>>,
}

/// Five minutes before a quarter of an hour.
const START_S: i64 = 1_800_000_600;
const QUARTER: Duration = Duration::from_secs(900);

/// A line without devices.
fn line() -> ModbusLine {
    ModbusLine {
        name: "cellar".to_owned(),
        transport: ModbusTransport::Tcp { host: String::new(), port: 0 },
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
        devices: Vec::new(),
    }
}

/// A line that this gateway is at the end of.
fn setting(line: ModbusLine, gateway: &Arc<Gateway>, habits: Habits) -> Setting {
    let way = Way { dial: Arc::new(Arc::clone(gateway)), habits, heartbeats: Heartbeats::default() };
    Setting { line, way }
}

/// A line of so many pulse counters, read every quarter of an hour, with room for so many deliveries.
fn bench(devices: u8, room: usize) -> Bench {
    bench_of(devices, room, BY_CONNECTION)
}

fn bench_of(devices: u8, room: usize, habits: Habits) -> Bench {
    let gateway = Arc::new(Gateway::default());
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let devices = (1..=devices).map(|unit| {
        gateway.set(unit, Behaviour::Answers(Duration::from_millis(50)));
        let meter_id = MeterId::new(&format!("W{unit}")).unwrap();
        ModbusDevice { unit, meter_id, profile: profile.clone(), interval: QUARTER, offset: Duration::ZERO }
    });
    let line = ModbusLine { devices: devices.collect(), ..line() };
    let began = Instant::now();
    let clock = Clock::new(move || {
        let elapsed = i64::try_from(began.elapsed().as_micros()).unwrap();
        Timestamp::from_unix_seconds(START_S).unwrap().plus_micros(elapsed)
    });
    let (out, received) = mpsc::channel(room);
    let (_directory, directory) = watch::channel(Arc::default());
    let stats = Arc::new(LineStats::default());
    let (settings, setting) = watch::channel(setting(line, &gateway, habits));
    let poller = Poller::new(setting, clock, directory, out, Arc::clone(&stats));
    Bench { gateway, stats, received, began, settings, task: tokio::spawn(poller.run()), _directory }
}

/// What came: meter, seconds after the start of the bench, pulses.
type Row = (String, i64, Option<i64>);

impl Bench {
    /// Lets time pass to this instant, and takes what was delivered meanwhile.
    async fn until(&mut self, after_start: Duration) -> Vec<Row> {
        tokio::time::sleep_until(self.began + after_start).await;
        let volume = Channel::by_name("volume_m3").unwrap();
        let mut rows = Vec::new();
        while let Ok(delivery) = self.received.try_recv() {
            let water = &delivery.batch.water;
            for (row, header) in water.headers().iter().enumerate() {
                let seconds = header.ts.unix_seconds() - START_S;
                rows.push((header.meter_id.to_string(), seconds, water.value(row, volume)));
            }
        }
        rows
    }

    fn count(&self, counter: impl Fn(&LineStats) -> &std::sync::atomic::AtomicU64) -> u64 {
        counter(&self.stats).load(Ordering::Relaxed)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn devices_are_read_at_their_slots_and_bear_their_time() {
    let mut bench = bench(3, 100);
    assert_eq!(bench.until(seconds(299)).await, [], "not before the first slot");
    let row = |meter: &str, at, pulses| (meter.to_owned(), at, Some(pulses));
    assert_eq!(bench.until(seconds(301)).await, [row("W1", 300, 1), row("W2", 300, 1), row("W3", 300, 1)]);
    assert_eq!(bench.until(seconds(1201)).await, [row("W1", 1200, 2), row("W2", 1200, 2), row("W3", 1200, 2)]);
    assert_eq!(bench.stats.devices()[0].last_success_s.load(Ordering::Relaxed), START_S + 1200);
    assert_eq!(bench.count(|s| &s.readings), 6);
    assert_eq!((bench.count(|s| &s.slots_missed), bench.count(|s| &s.late)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_day_of_polls_does_not_drift() {
    let mut bench = bench(2, 1000);
    let rows = bench.until(seconds(300 + 96 * 900)).await;
    let expected: Vec<i64> = (0..96).map(|slot| 300 + slot * 900).collect();
    for meter in ["W1", "W2"] {
        let times: Vec<i64> =
            rows.iter().filter(|row| row.0 == meter && row.1 < 300 + 96 * 900).map(|row| row.1).collect();
        assert_eq!(times, expected, "{meter}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_9_one_dead_device_of_32_costs_the_others_no_slot() {
    let mut bench = bench(32, 10_000);
    bench.gateway.set(5, Behaviour::Silent);
    let slots = 40;
    let rows = bench.until(seconds(300 + slots * 900 - 1)).await;
    for unit in (1..=32).filter(|unit| *unit != 5) {
        let meter = format!("W{unit}");
        let times: Vec<i64> = rows.iter().filter(|row| row.0 == meter).map(|row| row.1).collect();
        let expected: Vec<i64> = (0..40).map(|slot| 300 + slot * 900).collect();
        assert_eq!(times, expected, "{meter}");
    }
    assert!(rows.iter().all(|row| row.0 != "W5"));
    assert_eq!(bench.count(|s| &s.late), 0);
    assert_eq!(bench.stats.backed_off(), 1);
    let tries = u64::from(bench.gateway.polls(5));
    assert!((slots..slots * 6).contains(&tries), "{tries} tries in {slots} slots");
    assert_eq!(bench.stats.failures(FailureKind::Timeout), tries);
    assert_eq!(bench.stats.devices()[4].slots_missed.load(Ordering::Relaxed), slots - 1, "the last slot is not over");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_back_is_read_before_long_and_at_its_own_time() {
    let mut bench = bench(2, 1000);
    bench.gateway.set(2, Behaviour::Silent);
    bench.until(seconds(2000)).await;
    bench.gateway.set(2, Behaviour::Answers(Duration::from_millis(50)));
    let rows = bench.until(seconds(2000 + 400)).await;
    let back: Vec<_> = rows.iter().filter(|row| row.0 == "W2").map(|row| row.1).collect();
    assert!(!back.is_empty() && back[0] < 2390, "{rows:?}");
    assert_eq!(bench.stats.backed_off(), 0);
    let rows = bench.until(seconds(3002)).await;
    assert!(rows.contains(&("W2".to_owned(), 3000, Some(i64::from(bench.gateway.polls(2))))), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn half_of_a_line_dead_leaves_the_other_half_its_slots() {
    let mut bench = bench(32, 10_000);
    for unit in 1..=16 {
        bench.gateway.set(unit, Behaviour::Silent);
    }
    // The first round pays for each silence once, with a second of waiting; the next ones no more.
    bench.until(seconds(1000)).await;
    let late_at_first = bench.count(|s| &s.late);
    let rows = bench.until(seconds(300 + 20 * 900 - 1)).await;
    for unit in 17..=32 {
        let meter = format!("W{unit}");
        let times: Vec<i64> = rows.iter().filter(|row| row.0 == meter).map(|row| row.1).collect();
        assert_eq!(times, (1..20).map(|slot| 300 + slot * 900).collect::<Vec<_>>(), "{meter}");
    }
    assert_eq!(bench.count(|s| &s.late), late_at_first);
}

#[tokio::test(start_paused = true)]
async fn a_lasting_exception_is_one_dead_letter_and_a_count() {
    let mut bench = bench(2, 1000);
    bench.gateway.set(1, Behaviour::Exception(2));
    tokio::time::sleep_until(bench.began + seconds(300 + 10 * 900 - 1)).await;
    let mut dead = Vec::new();
    let mut flags = Vec::new();
    while let Ok(delivery) = bench.received.try_recv() {
        dead.extend(delivery.batch.dead_letters);
        flags.extend(delivery.batch.water.headers().iter().map(|header| header.flags));
    }
    assert_eq!(dead.len(), 1, "{dead:#?}");
    assert_eq!(dead[0].reason, DeadReason::BadAnswer);
    assert_eq!(&*dead[0].message.topic, "1/3/0+5/answer");
    assert_eq!(dead[0].message.payload[7..], [0x83, 2], "the answer as it came");
    assert!(dead[0].detail.contains("illegal data address"), "{}", dead[0].detail);
    assert_eq!(bench.stats.failures(FailureKind::Exception), 10);
    assert_eq!(bench.count(|s| &s.slots_missed), 10);
    assert_eq!(bench.stats.backed_off(), 0, "it answers");
    assert_eq!(bench.count(|s| &s.connections), 10, "the line is given back between the slots, not after an exception");
    assert_eq!(flags, vec![ReadingFlags::COLLECTOR_TIME.with(ReadingFlags::UNKNOWN_METER); 10], "the other device");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_cannot_reach_its_device_is_asked_again_later() {
    let mut bench = bench(2, 1000);
    bench.gateway.set(1, Behaviour::Exception(11));
    let rows = bench.until(seconds(5000)).await;
    assert!(rows.iter().all(|row| row.0 == "W2"));
    assert_eq!(bench.stats.backed_off(), 1);
    assert_eq!(bench.count(|s| &s.dead_letters), 0, "silence is no input");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_cannot_be_connected_misses_slots_and_says_so() {
    let mut bench = bench(2, 1000);
    *bench.gateway.unreachable.lock().unwrap() = true;
    assert_eq!(bench.until(seconds(2250)).await, []);
    assert_eq!(bench.count(|s| &s.slots_missed), 4, "two slots of two devices");
    assert_eq!(bench.stats.backed_off(), 0, "the devices are not to blame");
    let attempts = bench.stats.failures(FailureKind::Connect);
    assert!((50..200).contains(&attempts), "{attempts} attempts in {} s", 2250 - 300);
    *bench.gateway.unreachable.lock().unwrap() = false;
    let rows = bench.until(seconds(2300)).await;
    assert_eq!(rows.len(), 2, "read at once, at their own time: {rows:?}");
    assert!(rows.iter().all(|row| row.1 > 2250));
    assert_eq!(bench.until(seconds(3002)).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_receiver_holds_the_line_only_so_long() {
    let mut bench = bench(3, 1);
    tokio::time::sleep_until(bench.began + seconds(300 + 29)).await;
    assert_eq!((bench.count(|s| &s.waits), bench.count(|s| &s.dropped)), (1, 0));
    tokio::time::sleep_until(bench.began + seconds(300 + 100)).await;
    assert_eq!((bench.count(|s| &s.readings), bench.count(|s| &s.dropped)), (1, 2));
    assert_eq!(bench.until(seconds(401)).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_line_ends_when_nobody_takes_its_readings() {
    let bench = bench(1, 1);
    drop(bench.received);
    let ended = bench.task.await.unwrap();
    assert_eq!(ended, Err(IngestError::ReceiverGone { source_name: "cellar".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn a_device_slower_than_its_slot_has_its_own_time() {
    let mut bench = bench(20, 1000);
    for unit in 1..=20 {
        bench.gateway.set(unit, Behaviour::Answers(Duration::from_millis(800)));
    }
    let rows = bench.until(seconds(900)).await;
    assert_eq!(rows.len(), 20);
    let in_slot = rows.iter().filter(|row| row.1 == 300).count();
    assert_eq!(in_slot, 13, "answered within 10 s and what is cut of the eleventh: {rows:?}");
    assert_eq!(bench.count(|s| &s.late), 7);
    assert_eq!(bench.count(|s| &s.slots_missed), 0);
}
