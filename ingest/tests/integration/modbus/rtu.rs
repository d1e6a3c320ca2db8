//! RTU on a serial line and over TCP: whatever goes wrong there, no value is that of another register.

use std::time::Duration;

use meterlake_config::device_profile::{Function, RegisterRange};
use meterlake_config::{ModbusTransport, Parity, SerialPort};
use meterlake_ingest::modbus::{BlockRequest, FailureKind, LineClient};
use meterlake_model::DeadReason;
use tokio::net::TcpStream;
use tokio_modbus::prelude::{Reader, Slave, rtu};
use tokio_serial::SerialPortBuilderExt;

use crate::modbus::bench::{Bench, line_over};
use crate::modbus::rtu_device::{Act, Asked, Behaviour, behaviour, behind_device_server, on_serial_line, summed};
use crate::modbus::telling::{no_value_is_anothers, no_value_of_unit_1_is_anothers, two_requests};

/// Where answers stay away on purpose.
const SHORT: Duration = Duration::from_millis(300);
/// After it, but before a line of 9,600 baud counts as quiet.
const TOO_LATE: Duration = Duration::from_millis(400);
/// Where they come.
const LONG: Duration = Duration::from_secs(5);

pub(crate) fn serial(device: String) -> ModbusTransport {
    let device = device.into();
    ModbusTransport::Rtu(SerialPort { device, baud: 9_600, parity: Parity::None, data_bits: 8, stop_bits: 1 })
}

async fn over_tcp(behave: Behaviour) -> ModbusTransport {
    let address = behind_device_server(behave).await;
    ModbusTransport::RtuOverTcp { host: address.ip().to_string(), port: address.port() }
}

fn proper(asked: &Asked) -> Vec<Act> {
    vec![Act::Say(asked.answer(&asked.words()))]
}

/// Every fifth request is answered too late, whoever may be listening by then.
fn late_device() -> Behaviour {
    behaviour(|asked| match asked.nth % 5 {
        1 => vec![Act::Wait(TOO_LATE), Act::Say(asked.answer(&asked.words()))],
        _ => proper(asked),
    })
}

async fn late_answers_are_left(transport: ModbusTransport) {
    let devices = vec![(1, two_requests()), (2, two_requests())];
    let mut bench = Bench::over(transport, SHORT, devices);
    let all = bench.until(|all| all.water.len() >= 8).await;
    no_value_is_anothers(&all);
    assert!(bench.stats.failures(FailureKind::Timeout) > 0, "the device was late");
    bench.end().await;
}

#[tokio::test]
async fn a_late_answer_on_a_serial_line_is_never_taken_for_anothers() {
    late_answers_are_left(serial(on_serial_line(late_device()))).await;
}

#[tokio::test]
async fn a_late_answer_of_rtu_over_tcp_is_never_taken_for_anothers() {
    late_answers_are_left(over_tcp(late_device()).await).await;
}

/// Without the guard the same device deceives: this is what the tests above would see.
async fn deceived(mut context: tokio_modbus::client::Context) {
    let mut read = Vec::new();
    for address in [0, 100, 200] {
        let within = if address == 100 { SHORT } else { Duration::from_secs(1) };
        let answer = tokio::time::timeout(within, context.read_holding_registers(address, 2)).await;
        read.push(answer.ok().map(|answer| answer.unwrap().unwrap()));
    }
    assert_eq!(read, [Some(vec![1000, 1001]), None, Some(vec![1100, 1101])], "200 was asked for, 100 was answered");
}

#[tokio::test]
async fn an_unguarded_serial_line_would_take_a_late_answer_for_anothers() {
    let name = on_serial_line(late_device());
    let stream = tokio_serial::new(name, 9_600).open_native_async().unwrap();
    deceived(rtu::attach_slave(stream, Slave(1))).await;
}

#[tokio::test]
async fn unguarded_rtu_over_tcp_would_take_a_late_answer_for_anothers() {
    let address = behind_device_server(late_device()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    deceived(rtu::attach_slave(stream, Slave(1))).await;
}

/// Everything that is not the answer, and then the answer.
fn garbling_device() -> Behaviour {
    behaviour(|asked| {
        let words = asked.words();
        let mut other = *asked;
        let said = match asked.nth {
            0 => {
                other.unit = 9;
                other.answer(&words)
            }
            2 => {
                other.function = 4;
                other.answer(&words)
            }
            4 => [&asked.answer(&words)[..8], &[0]].concat(),
            6 => vec![0xFF; 40],
            8 => [&[0][..], &asked.answer(&words)].concat(),
            10 => summed(&[asked.unit, asked.function, 3, 1, 2, 3]),
            12 => asked.answer(&words)[..6].to_vec(),
            _ => asked.answer(&words),
        };
        vec![Act::Say(said)]
    })
}

async fn garbled_answers_are_dead_letters(transport: ModbusTransport) {
    let mut bench = Bench::over(transport, SHORT, vec![(1, two_requests())]);
    let all = bench.until(|all| all.water.len() >= 5).await;
    no_value_of_unit_1_is_anothers(&all);
    assert!(!all.dead_letters.is_empty());
    assert!(all.dead_letters.iter().all(|dead| dead.reason == DeadReason::BadAnswer));
    assert!(all.dead_letters.iter().any(|dead| dead.detail == "bad_answer: the answer is that of unit 9"));
    assert!(bench.stats.failures(FailureKind::BadAnswer) >= 6, "{:#?}", all.dead_letters);
    bench.end().await;
}

#[tokio::test]
async fn garbled_and_swapped_answers_on_a_serial_line_are_never_read() {
    garbled_answers_are_dead_letters(serial(on_serial_line(garbling_device()))).await;
}

#[tokio::test]
async fn garbled_and_swapped_answers_of_rtu_over_tcp_are_never_read() {
    garbled_answers_are_dead_letters(over_tcp(garbling_device()).await).await;
}

#[tokio::test]
async fn a_client_asks_over_rtu_and_goes_on_after_every_failure() {
    let device = || {
        behaviour(|asked| match asked.unit {
            1 => proper(asked),
            2 => vec![Act::Say(asked.exception(2))],
            3 => vec![],
            _ => vec![Act::Say(asked.answer(&[7]))],
        })
    };
    let range = RegisterRange { first: 100, last: 101 };
    let request = BlockRequest { function: Function::InputRegisters, range };
    for transport in [serial(on_serial_line(device())), over_tcp(device()).await] {
        let mut client = LineClient::new(&line_over(transport.clone(), SHORT, vec![]));
        for (unit, failure) in [
            (1, None),
            (2, Some(FailureKind::Exception)),
            (1, None),
            (3, Some(FailureKind::Timeout)),
            (1, None),
            (4, Some(FailureKind::BadLength)),
            (1, None),
        ] {
            let read = client.read(unit, request, if failure.is_some() { SHORT } else { LONG }).await;
            match failure {
                None => assert_eq!(read, Ok(vec![1100, 1101])),
                Some(kind) => assert_eq!(read.map_err(|failure| failure.kind), Err(kind), "unit {unit} {transport:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_cancelled_question_on_a_serial_line_leaves_nothing_to_the_next() {
    let device = behaviour(|asked| match asked.nth {
        0 => vec![Act::Wait(Duration::from_millis(150)), Act::Say(asked.answer(&asked.words()))],
        _ => proper(asked),
    });
    let mut client = LineClient::new(&line_over(serial(on_serial_line(device)), LONG, vec![]));
    let ask =
        |first| BlockRequest { function: Function::HoldingRegisters, range: RegisterRange { first, last: first + 1 } };
    let cancelled = tokio::time::timeout(Duration::from_millis(50), client.read(1, ask(100), SHORT)).await;
    assert!(cancelled.is_err());
    assert_eq!(client.read(1, ask(200), LONG).await, Ok(vec![1200, 1201]));
}
