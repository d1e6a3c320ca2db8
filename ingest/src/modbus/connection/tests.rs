//! What comes that nobody asked for, in virtual time: RTU has no number by which an answer could be told from another, so
//! that which is owed must be gone before the next request. Each case is shown to deceive where it is not.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use meterlake_config::device_profile::{Function, RegisterRange};
use meterlake_config::{ModbusFraming, Parity, SerialPort};
use tokio::io::{DuplexStream, WriteHalf, duplex, split};
use tokio::sync::mpsc;

use super::*;
use crate::modbus::dial::{AfterFailure, Dial, Habits};
use crate::modbus::listen;

/// Where answers stay away on purpose.
const SHORT: Duration = Duration::from_millis(300);
/// Where they come.
const LONG: Duration = Duration::from_secs(5);

/// What the line says after each request, and when; before the first request is what a former user of it is owed.
type Script = &'static [&'static [(u64, Says)]];

#[derive(Debug, Clone, Copy)]
enum Says {
    /// The registers from this address on.
    Answer(u16),
    /// Of that answer only these bytes.
    Part(u16, usize, usize),
}

impl Says {
    fn bytes(self) -> Vec<u8> {
        let (first, from, to) = match self {
            Self::Answer(first) => (first, 0, 9),
            Self::Part(first, from, to) => (first, from, to),
        };
        let words = words(first);
        let content = [&[1, 3, 4], &words[0].to_be_bytes()[..], &words[1].to_be_bytes()].concat();
        let sum = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&content).to_le_bytes();
        [&content[..], &sum].concat()[from..to].to_vec()
    }
}

/// Registers tell their address.
fn words(first: u16) -> Vec<u16> {
    vec![1000 + first, 1001 + first]
}

fn ask(first: u16) -> BlockRequest {
    BlockRequest { function: Function::HoldingRegisters, range: RegisterRange { first, last: first + 1 } }
}

/// A line in memory. What is said on it goes to whoever connected last.
#[derive(Debug)]
struct Line {
    newest: Arc<Mutex<Option<WriteHalf<DuplexStream>>>>,
    requests: mpsc::UnboundedSender<()>,
}

impl Line {
    fn of(script: Script) -> Arc<Self> {
        let newest: Arc<Mutex<Option<WriteHalf<DuplexStream>>>> = Arc::default();
        let (requests, mut asked) = mpsc::unbounded_channel();
        let listener = Arc::clone(&newest);
        tokio::spawn(async move {
            for says in script {
                // Making the first connection counts as asking.
                asked.recv().await;
                for (after_ms, what) in *says {
                    sleep(Duration::from_millis(*after_ms)).await;
                    let taken = listener.lock().unwrap().take();
                    if let Some(mut to) = taken {
                        to.write_all(&what.bytes()).await.ok();
                        listener.lock().unwrap().get_or_insert(to);
                    }
                }
            }
        });
        requests.send(()).unwrap();
        Arc::new(Self { newest, requests })
    }
}

#[async_trait]
impl Dial for Arc<Line> {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        let (ours, theirs) = duplex(1024);
        let (mut from, to) = split(theirs);
        *self.newest.lock().unwrap() = Some(to);
        let requests = self.requests.clone();
        tokio::spawn(async move {
            let mut request = [0; 8];
            while from.read_exact(&mut request).await.is_ok() {
                requests.send(()).ok();
            }
        });
        Ok(Box::new(ours))
    }
}

fn connection(script: Script, habits: Habits) -> Connection {
    let line = ModbusLine {
        name: "line".to_owned(),
        transport: ModbusTransport::DialIn(ModbusFraming::Rtu),
        timeout: SHORT,
        connect_timeout: LONG,
        pause: Duration::ZERO,
        devices: Vec::new(),
    };
    let way = Way { dial: Arc::new(Line::of(script)), habits, heartbeats: Heartbeats::default() };
    Connection::new(&line, way)
}

fn serial_line() -> Habits {
    let port = SerialPort { device: "/dev/null".into(), baud: 9_600, parity: Parity::None, data_bits: 8, stop_bits: 1 };
    crate::modbus::serial::habits(&port)
}

/// Every way in which an answer comes on other connections or none of its own.
fn ways() -> [(&'static str, Habits); 3] {
    let called = listen::habits(SHORT, Duration::from_secs(3600));
    [("serial", serial_line()), ("device server", crate::modbus::dial::THROUGH_DEVICE_SERVER), ("dial-in", called)]
}

/// Without what throws away what is owed.
fn unguarded(habits: Habits) -> Habits {
    Habits { after_failure: AfterFailure { drain: None, ..habits.after_failure }, ..habits }
}

/// Asks for 100, which is answered too late, and at once for 200.
async fn after_a_timeout(script: Script, habits: Habits) -> Result<Vec<u16>, Failure> {
    let mut connection = connection(script, habits);
    let late = connection.read(1, ask(100), SHORT).await.unwrap_err();
    assert!(matches!(late.kind, FailureKind::Timeout | FailureKind::BadAnswer), "{late:?}");
    connection.read(1, ask(200), LONG).await
}

const LATE: Script = &[&[], &[(400, Says::Answer(100))], &[(50, Says::Answer(200))]];

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_its_time_is_never_the_next_ones() {
    for (way, habits) in ways() {
        assert_eq!(after_a_timeout(LATE, habits).await, Ok(words(200)), "{way}");
        let deceived = after_a_timeout(LATE, unguarded(habits)).await;
        // A line of its own ends with its connection; these do not.
        assert_eq!(deceived, Ok(words(100)), "{way} without the guard");
    }
}

/// Begun in time or not, it goes on in pieces, each within the quiet that tells an end.
const TRICKLING: Script = &[
    &[],
    &[
        (440, Says::Part(100, 0, 1)),
        (3, Says::Part(100, 1, 2)),
        (3, Says::Part(100, 2, 3)),
        (3, Says::Part(100, 3, 4)),
        (3, Says::Part(100, 4, 5)),
        (3, Says::Part(100, 5, 6)),
        (3, Says::Part(100, 6, 7)),
        (3, Says::Part(100, 7, 9)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
        (3, Says::Answer(100)),
    ],
    &[(50, Says::Answer(200))],
];

#[tokio::test(start_paused = true)]
async fn a_late_answer_that_goes_on_beyond_the_rest_is_waited_for() {
    // Rests that end while it still comes.
    for (way, habits) in ways() {
        let Some((_, quiet)) = habits.after_failure.drain else { panic!("{way} drains") };
        let rests = |quiet| {
            let drain = Some((Duration::from_millis(150), quiet));
            Habits { after_failure: AfterFailure { drain, ..habits.after_failure }, ..habits }
        };
        assert_eq!(after_a_timeout(TRICKLING, rests(quiet)).await, Ok(words(200)), "{way}");
        assert_ne!(after_a_timeout(TRICKLING, rests(Duration::ZERO)).await, Ok(words(200)), "{way} without quiet");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_cancelled_question_is_never_the_next_ones() {
    const CANCELLED: Script = &[&[], &[(2_000, Says::Answer(100))], &[(50, Says::Answer(200))]];
    async fn asked(habits: Habits) -> Result<Vec<u16>, Failure> {
        let mut connection = connection(CANCELLED, habits);
        assert!(timeout(Duration::from_millis(500), connection.read(1, ask(100), LONG)).await.is_err());
        connection.read(1, ask(200), LONG).await
    }
    for (way, habits) in ways() {
        assert_eq!(asked(habits).await, Ok(words(200)), "{way}");
        assert_eq!(asked(unguarded(habits)).await, Ok(words(100)), "{way} without the guard");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_former_user_of_a_serial_line_is_owed_is_never_ours() {
    const OWED: Script = &[&[(100, Says::Answer(100))], &[(50, Says::Answer(200))]];
    let first = async |habits: Habits| connection(OWED, habits).read(1, ask(200), LONG).await;
    assert_eq!(first(serial_line()).await, Ok(words(200)));
    assert_eq!(first(unguarded(serial_line())).await, Ok(words(100)), "without the guard");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_nothing_is_asked_is_never_an_answer() {
    // Much later than anything is waited for.
    const IDLE: Script = &[&[], &[(50, Says::Answer(0)), (20_000, Says::Answer(100))], &[(50, Says::Answer(200))]];
    for (way, habits) in ways() {
        let mut connection = connection(IDLE, habits);
        assert_eq!(connection.read(1, ask(0), LONG).await, Ok(words(0)), "{way}");
        // The connection is not looked at meanwhile.
        sleep(Duration::from_secs(30)).await;
        assert_eq!(connection.read(1, ask(200), LONG).await, Ok(words(200)), "{way}");
    }
}
