//! What devices and gateways do wrong, and what must come of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use meterlake_config::device_profile::{DeviceProfile, Function, RegisterRange};
use meterlake_ingest::modbus::{BlockRequest, FailureKind, LineClient};
use meterlake_model::{Commodity, DeadReason};
use tokio::net::TcpStream;
use tokio_modbus::prelude::{Reader, Slave, tcp};

use crate::modbus::bench::{Bench, column, line};
use crate::modbus::gateway::{Act, Asked, Gateway};
use crate::modbus::telling::{no_value_is_anothers, no_value_of_unit_1_is_anothers, two_requests, value};

/// Where answers stay away on purpose.
const SHORT: Duration = Duration::from_millis(300);
/// Where they come.
const LONG: Duration = Duration::from_secs(5);

fn proper(asked: &Asked) -> Vec<Act> {
    vec![Act::Say(asked.answer(&asked.words()))]
}

/// As a serial gateway does it: what the line behind it says is passed on as the answer to the newest request, also when
/// it belongs to one before. Every fifth request is answered too late.
fn late_gateway() -> impl FnMut(&Asked) -> Vec<Act> + Send {
    let mut owed: HashMap<usize, Asked> = HashMap::new();
    move |asked| match owed.remove(&asked.connection) {
        Some(late) => {
            vec![Act::Say(asked.answer(&late.words()))]
        }
        None if asked.nth % 5 == 1 => {
            owed.insert(asked.connection, *asked);
            vec![]
        }
        None => proper(asked),
    }
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_anothers() {
    let gateway = Gateway::start(late_gateway()).await;
    let mut bench = Bench::start(gateway.address, SHORT, vec![(1, two_requests()), (2, two_requests())]);
    let all = bench.until(|all| all.water.len() >= 8).await;
    no_value_is_anothers(&all);
    assert!(bench.stats.failures(FailureKind::Timeout) > 0, "the gateway was late");
    bench.end().await;
}

/// Without the guard the same gateway deceives: this is what the test above would see.
#[tokio::test]
async fn a_kept_connection_would_take_a_late_answer_for_anothers() {
    let gateway = Gateway::start(late_gateway()).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut context = tcp::attach_slave(stream, Slave(1));
    let mut read = Vec::new();
    for address in [0, 100, 200] {
        let answer = tokio::time::timeout(Duration::from_secs(1), context.read_holding_registers(address, 2)).await;
        read.push(answer.ok().map(|answer| answer.unwrap().unwrap()));
    }
    assert_eq!(read, [Some(vec![1000, 1001]), None, Some(vec![1100, 1101])], "200 was asked for, 100 was answered");
}

#[tokio::test]
async fn an_answer_of_another_length_is_a_dead_letter_and_no_reading() {
    let gateway = Gateway::start(|asked| match asked.nth {
        0 => vec![Act::Say(asked.answer(&[1, 2, 3]))],
        2 => vec![Act::Say(asked.answer(&[7]))],
        _ => proper(asked),
    })
    .await;
    let mut bench = Bench::start(gateway.address, LONG, vec![(1, two_requests())]);
    let all = bench.until(|all| all.water.len() == 2).await;
    let details: Vec<_> = all.dead_letters.iter().map(|dead| (dead.reason, dead.detail.as_str())).collect();
    assert_eq!(
        details,
        [
            (DeadReason::BadAnswer, "bad_length: 3 registers in the answer, 2 asked for"),
            (DeadReason::BadAnswer, "bad_length: 1 registers in the answer, 2 asked for"),
        ]
    );
    assert_eq!(all.dead_letters[1].message.payload[7..], [3, 2, 0, 7], "the answer as it came");
    assert_eq!(&*all.dead_letters[1].message.topic, "1/3/100+2/answer");
    assert_eq!(column(&all, "volume_m3"), [Some(value(1, 0)); 2], "asked once more");
    assert_eq!(column(&all, "reverse_volume_m3"), [Some(value(1, 100)); 2]);
    assert_eq!(bench.stats.failures(FailureKind::BadLength), 2);
    bench.end().await;
}

#[tokio::test]
async fn swapped_and_garbled_answers_are_never_read() {
    let gateway = Gateway::start(|asked| {
        let words = asked.words();
        let mut other = *asked;
        match asked.nth {
            0 => other.unit = 9,
            2 => other.transaction = asked.transaction.wrapping_add(7),
            4 => other.function = 4,
            6 => return vec![Act::Say(vec![0xFF; 40])],
            8 => return vec![Act::Say(asked.frame(&[]))],
            10 => return vec![Act::Say(asked.frame(&[3, 200, 1, 2])), Act::Close],
            12 => return vec![Act::Say(asked.frame(&[0x83]))],
            14 => return vec![Act::Say(asked.answer(&words)[..6].to_vec()), Act::Close],
            _ => {}
        }
        vec![Act::Say(other.answer(&words))]
    })
    .await;
    let mut bench = Bench::start(gateway.address, SHORT, vec![(1, two_requests())]);
    let all = bench.until(|all| all.water.len() >= 5).await;
    no_value_of_unit_1_is_anothers(&all);
    assert!(!all.dead_letters.is_empty());
    assert!(all.dead_letters.iter().all(|dead| dead.reason == DeadReason::BadAnswer));
    assert!(bench.stats.failures(FailureKind::BadAnswer) >= 5);
    bench.end().await;
}

#[tokio::test]
async fn resets_and_closed_connections_pass() {
    let gateway = Gateway::start(|asked| match asked.nth {
        // A reset in the midst of an answer, then a gateway that closes after each answer.
        1 => vec![Act::Say(asked.answer(&asked.words())[..8].to_vec()), Act::Close],
        _ => vec![Act::Trickle(asked.answer(&asked.words())), Act::Close],
    })
    .await;
    let mut bench = Bench::start(gateway.address, LONG, vec![(1, two_requests())]);
    let all = bench.until(|all| all.water.len() == 3).await;
    assert_eq!(column(&all, "reverse_volume_m3"), [Some(value(1, 100)); 3]);
    assert!(bench.stats.failures(FailureKind::Disconnected) > 0);
    assert_eq!(bench.stats.failures(FailureKind::Timeout), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_register_that_a_device_lacks_costs_its_own_column_only() {
    let mut mended = 0;
    let gateway = Gateway::start(move |asked| {
        mended += u32::from(asked.first == 100);
        if asked.first == 100 && mended <= 3 { vec![Act::Say(asked.exception(2))] } else { proper(asked) }
    })
    .await;
    let mut bench = Bench::start(gateway.address, LONG, vec![(1, two_requests())]);
    let all = bench.until(|all| all.water.len() == 4).await;
    assert_eq!(column(&all, "volume_m3"), [Some(value(1, 0)); 4]);
    assert_eq!(column(&all, "reverse_volume_m3"), [None, None, None, Some(value(1, 100))]);
    assert_eq!(all.dead_letters.len(), 1, "told once, counted after");
    assert!(all.dead_letters[0].detail.contains("illegal data address"), "{}", all.dead_letters[0].detail);
    assert_eq!(bench.stats.failures(FailureKind::Exception), 3);
    assert_eq!(bench.stats.connections.load(Ordering::Relaxed), 1, "an exception is a proper answer");
    bench.end().await;
}

#[tokio::test]
async fn rule_9_one_dead_device_of_32_takes_no_slot_from_the_others() {
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let gateway = Gateway::start(|asked| if asked.unit == 5 { vec![] } else { proper(asked) }).await;
    let devices = (1..=32).map(|unit| (unit, profile.clone())).collect();
    let mut bench = Bench::start(gateway.address, Duration::from_millis(700), devices);
    let of = |meter: &str, all: &meterlake_model::ReadingBatch| {
        let headers = all.water.headers().iter().filter(|header| header.meter_id.as_str() == meter);
        headers.map(|header| header.ts).collect::<BTreeSet<_>>()
    };
    let all = bench.until(|all| of("M32", all).len() >= 6).await;
    let mut times = BTreeMap::new();
    for header in all.rows(Commodity::Water).headers() {
        times.entry(header.meter_id.as_str().to_owned()).or_insert_with(BTreeSet::new).insert(header.ts);
    }
    assert!(!times.contains_key("M5"));
    assert_eq!(times.len(), 31);
    // The last in the queue is the first to lose a slot; whatever it has, all before it have.
    for (meter, read) in &times {
        assert!(read.is_superset(&times["M32"]), "{meter} read at {read:?}, M32 at {:?}", times["M32"]);
    }
    let polls = gateway.asked().iter().filter(|asked| asked.unit == 5).count();
    assert!(polls <= 6, "{polls} tries of the dead device, growing rests between them");
    assert_eq!(bench.stats.backed_off(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_client_asks_each_unit_and_goes_on_after_every_failure() {
    let gateway = Gateway::start(|asked| match asked.unit {
        1 => proper(asked),
        2 => vec![Act::Say(asked.exception(2))],
        3 => vec![],
        4 => vec![Act::Say(asked.answer(&[7]))],
        _ => vec![Act::Close],
    })
    .await;
    let mut client = LineClient::new(&line(gateway.address, SHORT, vec![]));
    let request = BlockRequest { function: Function::HoldingRegisters, range: RegisterRange { first: 100, last: 101 } };
    for (unit, failure) in [
        (1, None),
        (2, Some(FailureKind::Exception)),
        (3, Some(FailureKind::Timeout)),
        (1, None),
        (4, Some(FailureKind::BadLength)),
        (1, None),
        (5, Some(FailureKind::Disconnected)),
        (1, None),
    ] {
        let read = client.read(unit, request, SHORT).await;
        match failure {
            None => assert_eq!(read, Ok(vec![1100, 1101])),
            Some(kind) => assert_eq!(read.map_err(|failure| failure.kind), Err(kind), "unit {unit}"),
        }
    }
    drop(gateway);
}

#[tokio::test]
async fn a_line_reads_only() {
    let gateway = Gateway::start(proper).await;
    let mut bench = Bench::start(gateway.address, LONG, vec![(1, two_requests())]);
    bench.until(|all| all.water.len() == 2).await;
    assert!(gateway.asked().iter().all(|asked| matches!(asked.function, 3 | 4) && asked.registers <= 125));
    bench.end().await;
}
