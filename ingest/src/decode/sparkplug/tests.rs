use super::payload::Raw;
use super::*;
use crate::decode::document::{Kind, Value};
use crate::decode::protobuf::wire::write_varint;
use proptest::prelude::*;

/// 2026-11-21T10:00:00Z.
const NOW_S: i64 = 1_795_255_200;

#[derive(Debug, Clone, Copy)]
enum Named {
    Both(&'static str, u64),
    Name(&'static str),
    Alias(u64),
}

fn metric(named: Named, datatype: u64, value: u64) -> Vec<u8> {
    let mut metric = Vec::new();
    if let Named::Both(name, _) | Named::Name(name) = named {
        write_bytes(1, name.as_bytes(), &mut metric);
    }
    if let Named::Both(_, alias) | Named::Alias(alias) = named {
        write_number(2, alias, &mut metric);
    }
    write_number(3, 1_795_255_200_000, &mut metric);
    if datatype != 0 {
        write_number(4, datatype, &mut metric);
    }
    write_number(11, value, &mut metric);
    metric
}

fn payload(seq: Option<u64>, metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    write_number(1, 1_795_255_200_000, &mut payload);
    metrics.iter().for_each(|metric| write_bytes(2, metric, &mut payload));
    if let Some(seq) = seq {
        write_number(3, seq, &mut payload);
    }
    payload
}

/// One broker's edge nodes, as a test hears them.
struct Plant {
    births: Births,
    now_s: i64,
}

/// What became of a message.
#[derive(Debug, PartialEq)]
struct Heard {
    /// Of the first reading, by name.
    values: Vec<(String, String)>,
    reason: Option<DeadReason>,
    asked: bool,
}

impl Plant {
    fn new() -> Self {
        Self { births: Births::new(), now_s: NOW_S }
    }

    fn hear_as(&mut self, hearing: Hearing, topic: &str, payload: Vec<u8>) -> Heard {
        let message = RawMessage {
            source: "test".into(),
            topic: format!("spBv1.0/{topic}").into(),
            payload: Vec::new(),
            received_at_s: self.now_s,
        };
        let mut rebirth = None;
        let read = parse(&message, &payload, &mut self.births, hearing, &mut rebirth);
        self.births.check_names();
        let values = read.as_ref().ok().and_then(Option::as_ref).map(|document| first(document.root()));
        Heard { values: values.unwrap_or_default(), reason: read.err().map(|e| e.reason), asked: rebirth.is_some() }
    }

    fn hear(&mut self, topic: &str, payload: Vec<u8>) -> Heard {
        self.hear_as(Hearing::Live, topic, payload)
    }

    fn node_born(&mut self, bd_seq: u64) {
        let metrics = [metric(Named::Name("bdSeq"), 4, bd_seq)];
        assert_eq!(self.hear("g/NBIRTH/e", payload(Some(0), &metrics)).reason, None);
    }

    fn device_born(&mut self, seq: u64, metrics: &[(Named, u64)]) -> Heard {
        let metrics: Vec<_> = metrics.iter().map(|(named, value)| metric(*named, 8, *value)).collect();
        self.hear("g/DBIRTH/e/d", payload(Some(seq), &metrics))
    }

    /// Born with `A` as alias 1.
    fn born() -> Self {
        let mut plant = Self::new();
        plant.node_born(0);
        assert_eq!(plant.device_born(1, &[(Named::Both("A", 1), 10)]), values(&[("A", "10")]));
        plant
    }

    fn data(&mut self, seq: u64, alias: u64, value: u64) -> Heard {
        self.hear("g/DDATA/e/d", payload(Some(seq), &[metric(Named::Alias(alias), 0, value)]))
    }

    fn replayed(&mut self, alias: u64, value: u64) -> Heard {
        self.hear_as(Hearing::Old, "g/DDATA/e/d", payload(Some(9), &[metric(Named::Alias(alias), 0, value)]))
    }
}

impl Births {
    /// What is counted is what is held.
    fn check_names(&self) {
        assert_eq!(self.names, self.nodes.values().map(births::Node::size).sum::<usize>());
        assert!(self.nodes.len() <= MAX_NODES && self.names <= MAX_NAMES);
    }
}

fn first(root: Value<'_>) -> Vec<(String, String)> {
    let readings = root.member("readings").unwrap().unwrap();
    let reading = readings.items().next().unwrap();
    let metrics = reading.member("metrics").unwrap().unwrap();
    assert_eq!(metrics.kind(), Kind::Object);
    metrics.members().map(|(name, value)| (name.raw().to_owned(), value.raw().to_owned())).collect()
}

fn values(expected: &[(&str, &str)]) -> Heard {
    let values = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Heard { values, reason: None, asked: false }
}

fn unborn(asked: bool) -> Heard {
    Heard { values: Vec::new(), reason: Some(DeadReason::NoBirth), asked }
}

#[test]
fn topics_are_of_the_namespace_or_none() {
    for (topic, expected) in [
        ("spBv1.0/g/NBIRTH/e", Some((Type::NodeBirth, None))),
        ("spBv1.0/g/DDATA/e/d", Some((Type::DeviceData, Some("d")))),
        ("spBv1.0/g/NCMD/e", Some((Type::Other, None))),
        ("spBv1.0/STATE/host", Some((Type::Other, None))),
        ("spBv1.0/g/NBIRTH/e/d", None),
        ("spBv1.0/g/DDATA/e", None),
        ("spBv1.0/g/DDATA/e/d/x", None),
        ("spBv1.0/g/DDATA/e/", None),
        ("spBv1.0/g/NDATA/", None),
        ("spBv1.0/g/XDATA/e", None),
        ("spBv1.0/g", None),
        ("spBv1.0", None),
        ("spAv1.0/g/NBIRTH/e", None),
    ] {
        let found = Topic::parse(topic).map(|topic| (topic.kind, topic.device));
        assert_eq!(found, expected, "{topic}");
    }
}

#[test]
fn a_gap_is_counted_and_asked_about_once_a_minute_and_its_data_are_taken() {
    let mut plant = Plant::born();
    assert_eq!(plant.data(2, 1, 11), values(&[("A", "11")]));
    assert_eq!(plant.data(4, 1, 12), Heard { asked: true, ..values(&[("A", "12")]) });
    assert_eq!(plant.data(5, 1, 13), values(&[("A", "13")]));
    plant.now_s += 59;
    assert_eq!(plant.data(7, 1, 14), values(&[("A", "14")]), "asked a moment ago");
    plant.now_s += 1;
    assert_eq!(plant.data(9, 1, 15), Heard { asked: true, ..values(&[("A", "15")]) });
    let counts = plant.births.counts();
    assert_eq!((counts.gaps, counts.rebirths, counts.without_birth), (3, 2, 0));
}

#[test]
fn numbers_wrap_at_256() {
    let mut plant = Plant::born();
    for seq in (2..=255).chain(0..=3) {
        assert_eq!(plant.data(seq, 1, 1), values(&[("A", "1")]), "{seq}");
    }
    assert_eq!(plant.births.counts().gaps, 0);
}

#[test]
fn the_request_is_what_the_specification_says() {
    let mut plant = Plant::new();
    let message = RawMessage {
        source: "test".into(),
        topic: "spBv1.0/g/NDATA/e".into(),
        payload: Vec::new(),
        received_at_s: NOW_S,
    };
    let mut rebirth = None;
    let data = payload(Some(3), &[metric(Named::Alias(1), 0, 1)]);
    assert!(parse(&message, &data, &mut plant.births, Hearing::Live, &mut rebirth).is_err());
    let rebirth = rebirth.unwrap();
    assert_eq!(rebirth.topic, "spBv1.0/g/NCMD/e");
    let payload = payload::parse(&rebirth.payload, 10).unwrap();
    let expected = Metric {
        name: Some("Node Control/Rebirth"),
        timestamp: Some(1_795_255_200_000),
        datatype: 11,
        value: Raw::Boolean(true),
        ..Metric::default()
    };
    assert_eq!(payload, Payload { timestamp: Some(1_795_255_200_000), metrics: vec![expected], seq: None });
}

#[test]
fn data_before_a_birth_are_explained_by_the_birth_that_they_asked_for() {
    let mut plant = Plant::new();
    assert_eq!(plant.data(7, 1, 10), unborn(true));
    plant.now_s += 1;
    assert_eq!(plant.data(8, 1, 11), unborn(false));
    plant.now_s += 1;
    plant.node_born(0);
    plant.device_born(1, &[(Named::Both("A", 1), 12)]);
    plant.now_s -= 2;
    assert_eq!(plant.replayed(1, 10), values(&[("A", "10")]));
    plant.now_s -= 1;
    assert_eq!(plant.replayed(1, 9), unborn(false), "before anybody asked");
}

#[test]
fn old_data_are_never_read_by_the_names_of_a_later_session() {
    let mut plant = Plant::born();
    for (kept, expected) in [(true, values(&[("A", "10")])), (false, unborn(false))] {
        plant.now_s += 100;
        let died = payload(None, &[metric(Named::Name("bdSeq"), 4, 0)]);
        plant.hear("g/NDEATH/e", died);
        plant.now_s += 100;
        plant.node_born(0);
        let alias = if kept { 1 } else { 2 };
        plant.device_born(1, &[(Named::Both("A", alias), 10), (Named::Both("B", 3 - alias), 10)]);
        let now = std::mem::replace(&mut plant.now_s, NOW_S + 1);
        assert_eq!(plant.replayed(1, 10), expected, "names kept: {kept}");
        plant.now_s = now;
    }
}

#[test]
fn what_is_old_changes_nothing_and_asks_for_nothing() {
    let mut plant = Plant::born();
    let before = plant.births.clone();
    let birth = payload(Some(0), &[metric(Named::Both("X", 9), 8, 1)]);
    for topic in ["g/NBIRTH/e", "g/DBIRTH/e/d", "g/NDEATH/e", "g/DDEATH/e/d", "g/DDATA/other/d", "g/NBIRTH/other"] {
        assert!(!plant.hear_as(Hearing::Old, topic, birth.clone()).asked, "{topic}");
    }
    assert_eq!(plant.births, before);
}

#[test]
fn a_death_ends_the_names_of_its_session_only() {
    let mut plant = Plant::new();
    plant.node_born(5);
    plant.device_born(1, &[(Named::Both("A", 1), 1)]);
    let death = |bd_seq| payload(None, &[metric(Named::Name("bdSeq"), 4, bd_seq)]);
    plant.hear("g/NDEATH/e", death(4));
    assert_eq!(plant.data(2, 1, 2), values(&[("A", "2")]), "a will of the session before");
    plant.hear("g/NDEATH/e", death(5));
    assert_eq!(plant.data(3, 1, 3), unborn(true));
    let counts = plant.births.counts();
    assert_eq!((counts.deaths, counts.stale_deaths), (1, 1));
}

#[test]
fn a_device_speaks_only_after_its_own_birth_of_the_session() {
    let mut plant = Plant::born();
    plant.node_born(0);
    assert_eq!(plant.data(1, 1, 2), unborn(true), "born again, the device not yet");
    assert_eq!(plant.device_born(2, &[(Named::Both("A", 1), 3)]), values(&[("A", "3")]));
    assert_eq!(plant.data(3, 1, 4), values(&[("A", "4")]));
    plant.hear("g/DDEATH/e/d", payload(Some(4), &[]));
    assert_eq!(plant.data(5, 1, 5), unborn(false));
    assert_eq!(plant.births.counts().gaps, 0);
}

#[test]
fn a_device_that_is_born_without_its_node_is_read_and_the_node_asked() {
    let mut plant = Plant::new();
    let heard = plant.device_born(4, &[(Named::Both("A", 1), 10)]);
    assert_eq!(heard, Heard { asked: true, ..values(&[("A", "10")]) });
    assert_eq!(plant.data(5, 1, 11), values(&[("A", "11")]));
}

#[test]
fn after_an_interruption_only_the_right_number_proves_that_no_birth_was_lost() {
    let mut plant = Plant::born();
    plant.births.interrupted();
    assert_eq!(plant.data(2, 1, 11), values(&[("A", "11")]));
    assert_eq!(plant.data(9, 1, 12), Heard { asked: true, ..values(&[("A", "12")]) }, "an ordinary gap");
    plant.births.interrupted();
    plant.now_s += 60;
    assert_eq!(plant.data(20, 1, 13), unborn(true));
    assert_eq!(plant.data(21, 1, 14), unborn(false));
    plant.node_born(0);
    plant.device_born(1, &[(Named::Both("A", 1), 15)]);
    assert_eq!(plant.data(2, 1, 16), values(&[("A", "16")]));
}

#[test]
fn births_survive_a_restart() {
    let mut plant = Plant::born();
    plant.data(2, 1, 11);
    plant.hear("g/DDATA/other/x", payload(Some(7), &[metric(Named::Alias(1), 0, 1)]));
    let bytes = plant.births.to_bytes();
    let mut again = Plant { births: Births::from_bytes(&bytes).unwrap(), now_s: NOW_S + 10 };
    again.births.check_names();
    assert_eq!(again.births.to_bytes(), bytes);
    assert_eq!(again.replayed(1, 12), values(&[("A", "12")]), "a dead letter is read as well");
    assert_eq!(again.data(3, 1, 12), values(&[("A", "12")]));
    let mut missed = Plant { births: Births::from_bytes(&bytes).unwrap(), now_s: NOW_S + 10 };
    assert_eq!(missed.data(5, 1, 12), unborn(true));
}

#[test]
fn kept_births_that_were_changed_are_not_read() {
    let bytes = Plant::born().births.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(Births::from_bytes(&changed), Err(BirthsError::Checksum), "byte {at}");
        assert_eq!(Births::from_bytes(&bytes[..at]), Err(BirthsError::Checksum), "cut at {at}");
    }
    let mut later = Vec::new();
    write_number(1, 2, &mut later);
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&later);
    later.extend(checksum.to_le_bytes());
    assert_eq!(Births::from_bytes(&later), Err(BirthsError::Version(2)));
}

#[test]
fn the_nodes_that_were_silent_longest_are_forgotten_at_the_limit() {
    let mut plant = Plant::born();
    for node in 0..MAX_NODES {
        plant.now_s += 1;
        let birth = payload(Some(0), &[metric(Named::Both("A", 1), 8, 1)]);
        plant.births.node_born(&format!("g/{node}"), &payload::parse(&birth, 1).unwrap().metrics, Some(0), plant.now_s);
    }
    plant.births.check_names();
    assert_eq!(plant.births.nodes.len(), MAX_NODES);
    assert_eq!(plant.births.counts().forgotten, 1);
    assert_eq!(plant.data(2, 1, 1), unborn(true));
}

#[test]
fn doubtful_and_transient_metrics_are_no_readings() {
    let mut plant = Plant::born();
    let mut doubtful = metric(Named::Alias(1), 0, 9);
    let (mut quality, mut properties) = (Vec::new(), Vec::new());
    write_number(1, 3, &mut quality);
    write_number(3, 500, &mut quality);
    write_bytes(1, b"Quality", &mut properties);
    write_bytes(2, &quality, &mut properties);
    write_bytes(9, &properties, &mut doubtful);
    let mut transient = metric(Named::Alias(1), 0, 9);
    write_number(6, 1, &mut transient);
    let heard = plant.hear("g/DDATA/e/d", payload(Some(2), &[doubtful, transient]));
    assert_eq!(heard, values(&[]));
    assert_eq!(plant.births.counts().skipped, 2);
}

fn any_call() -> impl Strategy<Value = (u8, u8, u8, u64, u64)> {
    (0_u8..8, 0_u8..3, 0_u8..3, 0_u64..4, 0_u64..260)
}

proptest! {
    /// Whatever comes in whatever order: the counts hold, nothing panics, and bytes give the same again.
    #[test]
    fn no_order_of_messages_breaks_what_is_known(calls in prop::collection::vec(any_call(), 0..60)) {
        let mut plant = Plant::new();
        for (kind, node, device, alias, seq) in calls {
            plant.now_s += i64::try_from(alias).unwrap();
            let named = [Named::Both("A", alias), Named::Name("bdSeq"), Named::Alias(alias)][usize::from(device)];
            let metrics = [metric(named, u64::from(device) * 4, seq)];
            let (node, device) = (["x", "y", "z"][usize::from(node)], ["p", "q", "r"][usize::from(device)]);
            let topic = match kind {
                0 => format!("g/NBIRTH/{node}"),
                1 => format!("g/NDEATH/{node}"),
                2 => format!("g/NDATA/{node}"),
                3 => format!("g/DBIRTH/{node}/{device}"),
                4 => format!("g/DDEATH/{node}/{device}"),
                5 => format!("g/DDATA/{node}/{device}"),
                6 => { plant.births.interrupted(); continue }
                _ => {
                    let again = Births::from_bytes(&plant.births.to_bytes()).unwrap();
                    again.check_names();
                    let mut expected = plant.births.nodes.clone();
                    expected.values_mut().for_each(|node| {
                        node.unproven = true;
                        node.asked_s = None;
                    });
                    prop_assert_eq!(&again.nodes, &expected);
                    continue;
                }
            };
            plant.hear(&topic, payload(Some(seq), &metrics));
        }
    }

    #[test]
    fn mutilated_payloads_never_panic(at in 0_usize..200, bits: u8, cut in 0_usize..200) {
        let mut plant = Plant::born();
        let mut bytes = payload(Some(2), &[metric(Named::Alias(1), 0, 11), metric(Named::Both("B", 2), 4, 12)]);
        write_varint(5 << 3, &mut bytes);
        write_varint(1, &mut bytes);
        let place = at % bytes.len();
        bytes[place] ^= bits;
        bytes.truncate(cut.max(1));
        plant.hear("g/DDATA/e/d", bytes.clone());
        plant.hear("g/DBIRTH/e/d", bytes.clone());
        plant.hear("g/NBIRTH/e", bytes);
    }

    #[test]
    fn bytes_that_are_no_births_never_panic(mut bytes: Vec<u8>) {
        let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&bytes);
        bytes.extend(checksum.to_le_bytes());
        if let Ok(births) = Births::from_bytes(&bytes) {
            births.check_names();
        }
    }
}
