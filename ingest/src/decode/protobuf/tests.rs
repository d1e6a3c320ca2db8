use super::*;
use crate::decode::{Decoder, Outcome};
use meterlake_config::payload_map::PayloadMap;
use meterlake_model::{Commodity, MeterDirectory, MeterEntry, MeterId, RawMessage, ReadingBatch, Zone};
use proptest::prelude::*;

const SCHEMA: &str = include_str!("../../../../config/schema/meterlake.proto");
const NOON_S: i64 = 1_795_262_400;

/// `name = number` of one block of the schema.
fn block(header: &str) -> Vec<(String, u32)> {
    let body = SCHEMA.split_once(header).unwrap().1.split_once('}').unwrap().0;
    let lines = body.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once(" = "));
    lines.map(|(left, number)| (left.rsplit(' ').next().unwrap().to_owned(), number.parse().unwrap())).collect()
}

#[test]
fn the_schema_names_every_column_with_its_scale() {
    let fields = block("message Reading {");
    for channel in Channel::all() {
        let name = format!("{channel}_e{}", channel.scale());
        let (_, number) = fields.iter().find(|(field, _)| *field == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(CHANNELS[(number - FIRST_COLUMN) as usize], Some(channel), "{name}");
    }
    let others = [("ts_us", TS_US), ("ts_s", TS_S), ("events", EVENTS)];
    assert!(others.iter().all(|(name, number)| fields.contains(&((*name).to_owned(), *number))));
    assert_eq!(fields.len(), Channel::all().count() + others.len());
}

#[test]
fn the_schema_names_every_kind_of_event() {
    let kinds = block("enum Event {");
    assert_eq!(kinds.len(), KINDS.len() + 1);
    for (kind, number) in KINDS.iter().zip(1..) {
        assert!(kinds.contains(&(kind.as_str().to_uppercase(), number)), "{kind}");
    }
}

/// Our own writer: field by field, so that any order and any fault can be written.
#[derive(Default, Clone)]
struct Writer(Vec<u8>);

impl Writer {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap());
        self
    }

    fn number(self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3).varint(value)
    }

    fn signed(self, field: u32, value: i64) -> Self {
        self.number(field, ((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        let mut written = self.varint(u64::from(field) << 3 | 2).varint(bytes.len() as u64);
        written.0.extend(bytes);
        written
    }
}

fn reading(seconds: i64) -> Writer {
    Writer::default().number(TS_S, (NOON_S - 3_600 + seconds).cast_unsigned())
}

fn directory() -> MeterDirectory {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let entry = MeterEntry {
        serial: Some("S-1".into()),
        gateway: Some("gw-7".into()),
        ..MeterEntry::new(Commodity::Electricity, zone)
    };
    MeterDirectory::new([(MeterId::new("e1").unwrap(), entry)])
}

fn decoded(topic: &str, frame: &Writer) -> (ReadingBatch, Outcome) {
    let message =
        RawMessage { source: "test".into(), topic: topic.into(), payload: frame.0.clone(), received_at_s: NOON_S };
    let mut batch = ReadingBatch::default();
    let maps = [PayloadMap::shipped("meterlake-protobuf").unwrap()];
    let outcome = Decoder::default().decode(&maps, &message, false, &directory(), &mut batch);
    (batch, outcome)
}

const TOPIC: &str = "meterlake/v1/e1/frames";

#[test]
fn a_frame_becomes_rows_events_and_a_receipt_in_any_order_of_its_fields() {
    let first = Writer::default().signed(3, 12_345_678).signed(11, -1_500).number(TS_S, NOON_S.cast_unsigned());
    let second =
        reading(0).bytes(EVENTS, &[1, 10]).number(EVENTS, 1).signed(5, 2_301).bytes(99, b"later").number(77, 5);
    let meter = Writer::default()
        .bytes(READINGS, &first.0)
        .bytes(READINGS, &second.0)
        .bytes(METER, b"e1")
        .bytes(SERIAL, b"S-1");
    let frame = Writer::default().bytes(METERS, &meter.0).number(SEQUENCE, 41).bytes(GATEWAY, b"gw-7");
    let (batch, outcome) = decoded(TOPIC, &frame);
    assert_eq!(batch.dead_letters, []);
    assert_eq!(outcome.receipt, Some(Receipt { gateway: "gw-7".into(), sequence: 41 }));
    let values: Vec<_> =
        (0..2).map(|row| batch.electricity.values(row).map(|(c, v)| (c.name(), v)).collect::<Vec<_>>()).collect();
    assert_eq!(values, [vec![("energy_import_kwh", 12_345_678), ("power_kw", -1_500)], vec![("voltage_l1_v", 2_301)]]);
    let kinds: Vec<_> = batch.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::LastGasp, EventKind::LowBattery]);
}

#[test]
fn each_fault_of_a_frame_has_its_reason() {
    let with = |reading: Writer| Writer::default().bytes(METERS, &Writer::default().bytes(READINGS, &reading.0).0);
    let named = |field: u32, name: &[u8]| {
        Writer::default()
            .bytes(METERS, &Writer::default().bytes(field, name).bytes(READINGS, &reading(0).signed(3, 1).0).0)
    };
    let many = (0..10_001).fold(reading(0), |reading, _| reading.signed(3, 1));
    for (frame, reason, detail) in [
        (Writer::default(), DeadReason::MissingField, "no reading"),
        (Writer(vec![0x0a, 5]), DeadReason::Syntax, "meterlake.v1: "),
        (Writer(vec![0xff; 11]), DeadReason::Syntax, "meterlake.v1: "),
        (Writer(vec![0]), DeadReason::Syntax, "meterlake.v1: "),
        (Writer(b"{\"ts\":1}".to_vec()), DeadReason::Syntax, "meterlake.v1"),
        (Writer::default().number(METERS, 1), DeadReason::Syntax, "`meters` is of another type"),
        (Writer::default().bytes(GATEWAY, b"\xff"), DeadReason::Syntax, "`gateway` of the frame is not UTF-8"),
        (with(Writer::default().signed(3, 1)), DeadReason::BadTime, "reading 1: the time"),
        (with(reading(100_000).signed(3, 1)), DeadReason::ImplausibleTime, "a day ahead"),
        (with(reading(0)), DeadReason::MissingField, "no value and no event"),
        (
            with(reading(0).signed(3, 1_000_000_000_000_000)),
            DeadReason::Overflow,
            "`energy_import_kwh` is 1000000000000000",
        ),
        (with(reading(0).signed(3, 1).signed(12, 1)), DeadReason::BadValue, "two commodities"),
        (with(reading(0).signed(12, 1)), DeadReason::Identity, "speaks of water"),
        (with(reading(0).number(EVENTS, 13)), DeadReason::BadValue, "the number 13"),
        (with(reading(0).number(EVENTS, 0)), DeadReason::BadValue, "the number 0"),
        (with(many), DeadReason::TooLarge, "10000 values"),
        (named(METER, b"e2"), DeadReason::Identity, "topic speaks of meter `e1`, the payload of `e2`"),
        (named(SERIAL, b"S-2"), DeadReason::Identity, "serial number `S-2`"),
        (named(METER, b"e1").bytes(GATEWAY, b"gw-8"), DeadReason::Identity, "gateway `gw-8`"),
    ] {
        let (batch, _) = decoded(TOPIC, &frame);
        assert_eq!((batch.reading_count(), batch.events.len(), batch.dead_letters.len()), (0, 0, 1), "{detail}");
        let dead = &batch.dead_letters[0];
        assert_eq!(dead.reason, reason, "{}", dead.detail);
        assert!(dead.detail.contains(detail), "{detail} in {}", dead.detail);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (batch, _) = decoded(TOPIC, &Writer(bytes));
        prop_assert!(batch.dead_letters.len() == 1 || batch.reading_count() + batch.events.len() > 0);
    }

    #[test]
    fn a_mutilated_frame_is_whole_or_one_dead_letter(
        values in prop::collection::vec((3_u32..36, any::<i32>()), 1..20), place in any::<prop::sample::Index>(), byte: u8
    ) {
        let readings = values.iter().fold(Writer::default(), |meter, (field, value)| {
            meter.bytes(READINGS, &reading(0).signed(*field, i64::from(*value)).0)
        });
        let mut frame = Writer::default().bytes(METERS, &readings.0);
        let at = place.index(frame.0.len());
        frame.0[at] = byte;
        let (batch, _) = decoded(TOPIC, &frame);
        prop_assert!(batch.dead_letters.len() <= 1);
        if !batch.dead_letters.is_empty() {
            prop_assert_eq!(batch.reading_count() + batch.events.len(), 0);
        }
    }

    #[test]
    fn signed_numbers_come_back(value: i64) {
        let written = ((value << 1) ^ (value >> 63)).cast_unsigned();
        prop_assert_eq!(zigzag(written), value);
    }
}
