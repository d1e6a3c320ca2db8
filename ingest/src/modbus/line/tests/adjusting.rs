//! Another configuration while a line is polled.

use super::*;
use crate::modbus::dial::Idle;

/// A line whose connection is never given back, so that a second one is seen.
fn lasting(devices: u8) -> Bench {
    bench_of(devices, 1000, Habits { idle: Idle::Keep, ..BY_CONNECTION })
}

impl Bench {
    fn change(&self, change: impl FnOnce(&mut ModbusLine)) {
        self.settings.send_modify(|setting| change(&mut setting.line));
    }

    fn device(&self, at: usize) -> Arc<DeviceStats> {
        Arc::clone(&self.stats.devices()[at])
    }
}

fn times(rows: &[Row], meter: &str) -> Vec<i64> {
    rows.iter().filter(|row| row.0 == meter).map(|row| row.1).collect()
}

#[tokio::test(start_paused = true)]
async fn a_device_that_changes_leaves_the_others_their_connection_and_their_slots() {
    let mut bench = lasting(3);
    let before = bench.until(seconds(1000)).await;
    assert_eq!(before.len(), 3);
    let kept = bench.device(0);
    bench.gateway.set(4, Behaviour::Answers(Duration::from_millis(50)));
    bench.change(|line| {
        line.devices[1].interval = seconds(300);
        line.devices[2] = ModbusDevice { unit: 4, meter_id: MeterId::new("W4").unwrap(), ..line.devices[2].clone() };
    });
    let rows = bench.until(seconds(3601)).await;
    assert_eq!(times(&rows, "W1"), [1200, 2100, 3000], "untouched");
    assert_eq!(times(&rows, "W2"), (4..=12).map(|slot| slot * 300).collect::<Vec<_>>(), "more often");
    assert!(times(&rows, "W3").is_empty(), "gone");
    assert_eq!(times(&rows, "W4"), [1200, 2100, 3000], "new");
    assert_eq!(bench.count(|s| &s.connections), 1);
    assert_eq!((bench.count(|s| &s.slots_missed), bench.count(|s| &s.late)), (0, 0));
    let meters: Vec<_> = bench.stats.devices().iter().map(|device| device.meter_id.to_string()).collect();
    assert_eq!(meters, ["W1", "W2", "W4"]);
    assert_eq!(kept.readings.load(Ordering::Relaxed), 4, "the counters go on");
    assert!(Arc::ptr_eq(&kept, &bench.device(0)));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_owed_is_read_by_what_the_device_is_now() {
    for (what, change) in [
        ("untouched", (|_| {}) as fn(&mut ModbusDevice)),
        ("another interval", |device| device.interval = seconds(300)),
        ("another unit", |device| device.unit = 9),
        ("another profile", |device| device.profile.version += 1),
    ] {
        let mut bench = lasting(2);
        bench.change(|line| line.timeout = seconds(10));
        bench.gateway.set(1, Behaviour::Answers(seconds(4)));
        bench.gateway.set(9, Behaviour::Answers(Duration::from_millis(50)));
        bench.until(seconds(302)).await;
        // The first is being read, the second is due since two seconds.
        bench.change(|line| change(&mut line.devices[1]));
        let rows = bench.until(seconds(310)).await;
        assert_eq!((times(&rows, "W1"), times(&rows, "W2")), (vec![300], vec![300]), "{what}");
        assert_eq!(bench.count(|s| &s.slots_missed), 0, "{what}");
        assert_eq!(bench.gateway.polls(9), u16::from(what == "another unit"), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_the_new_interval_does_not_have_is_not_read() {
    let mut bench = lasting(1);
    bench.until(seconds(299)).await;
    // The next hour begins 3,000 s after the start.
    bench.change(|line| line.devices[0].interval = seconds(3600));
    assert_eq!(times(&bench.until(seconds(3001)).await, "W1"), [3000]);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_taken_at_once_while_the_line_rests() {
    let mut bench = lasting(1);
    bench.until(seconds(1000)).await;
    bench.change(|line| line.devices[0].interval = seconds(1));
    assert_eq!(times(&bench.until(seconds(1003)).await, "W1"), [1001, 1002]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_that_is_asked_as_before_stays_backed_off() {
    let mut bench = lasting(2);
    bench.gateway.set(2, Behaviour::Silent);
    bench.until(seconds(1000)).await;
    let tries = bench.gateway.polls(2);
    bench.change(|line| line.devices[1].interval = seconds(300));
    bench.until(seconds(1010)).await;
    assert_eq!((bench.gateway.polls(2), bench.stats.backed_off()), (tries, 1), "no sooner than it was to be");
    bench.change(|line| line.devices[1].profile.version += 1);
    bench.until(seconds(1011)).await;
    assert!(bench.gateway.polls(2) > tries, "asked in another way it may answer");
}

#[tokio::test(start_paused = true)]
async fn another_way_to_the_line_is_one_new_connection_and_no_lost_slot() {
    let mut bench = lasting(2);
    bench.gateway.set(1, Behaviour::Answers(Duration::from_millis(900)));
    bench.until(seconds(1200)).await;
    let moved = Arc::new(Gateway::default());
    for unit in 1..=2 {
        moved.set(unit, Behaviour::Answers(Duration::from_millis(50)));
    }
    // In the midst of a slot: the first is read there, the second here.
    tokio::time::sleep_until(bench.began + Duration::from_millis(1_200_500)).await;
    bench.settings.send_modify(|setting| {
        setting.way.dial = Arc::new(Arc::clone(&moved));
        setting.line.transport = ModbusTransport::Tcp { host: "moved".to_owned(), port: 0 };
    });
    let rows = bench.until(seconds(2101)).await;
    assert_eq!((times(&rows, "W1"), times(&rows, "W2")), (vec![1200, 2100], vec![1200, 2100]));
    assert_eq!((moved.polls(1), moved.polls(2), bench.gateway.polls(2)), (1, 2, 1));
    assert_eq!((bench.count(|s| &s.connections), bench.count(|s| &s.slots_missed)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn another_way_is_tried_at_once_where_the_old_one_led_nowhere() {
    let mut bench = lasting(1);
    *bench.gateway.unreachable.lock().unwrap() = true;
    bench.until(seconds(700)).await;
    let moved = Arc::new(Gateway::default());
    moved.set(1, Behaviour::Answers(Duration::from_millis(50)));
    bench.settings.send_modify(|setting| {
        setting.way.dial = Arc::new(moved);
        setting.line.transport = ModbusTransport::Tcp { host: "moved".to_owned(), port: 0 };
    });
    assert_eq!(times(&bench.until(seconds(701)).await, "W1"), [700], "the slot of 300 is not over");
}
