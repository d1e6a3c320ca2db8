//! Round trips of the codec, and bytes that are no record.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Any batch, with few different texts as in life.
pub(in crate::journal) fn any_batch() -> impl Strategy<Value = ReadingBatch> {
    let rows = |commodity| vec(any_row(commodity), 0..12).prop_map(move |rows| to_rows(commodity, rows));
    let letters = vec((any_reason(), ".{0,20}", any_message(), "[a-c]{1,3}"), 0..4);
    (rows(Commodity::Electricity), rows(Commodity::Water), vec(any_event(), 0..4), letters, vec(any_message(), 0..4))
        .prop_map(|(electricity, water, events, letters, raw)| ReadingBatch {
            electricity,
            water,
            events,
            dead_letters: letters
                .into_iter()
                .map(|(reason, detail, message, decoder)| DeadLetter {
                    reason,
                    detail,
                    message,
                    decoder: decoder.into(),
                })
                .collect(),
            raw,
        })
}

type Row = (RowHeader, Vec<(Channel, Option<i64>)>);

fn to_rows(commodity: Commodity, rows: Vec<Row>) -> ReadingRows {
    let mut out = ReadingRows::new(commodity);
    for (header, values) in rows {
        let values: Vec<_> = values.into_iter().filter_map(|(c, v)| Some((c, v?))).collect();
        out.push(header, &values);
    }
    out
}

fn any_row(commodity: Commodity) -> impl Strategy<Value = Row> {
    let channels: Vec<_> = Channel::of(commodity).collect();
    let values = channels
        .into_iter()
        .map(|c| {
            let limit = 10_i64.pow(u32::from(c.precision())) - 1;
            option::weighted(0.3, -limit..=limit).prop_map(move |v| (c, v))
        })
        .collect::<Vec<_>>();
    let header = ("[a-d]{1,2}", any_time(), any::<i64>(), "[ab]", "[ab]@1", any::<u32>());
    (header, values).prop_map(|((meter, ts, received_at_s, source, profile, flags), values)| {
        let header = RowHeader {
            meter_id: MeterId::new(&meter).unwrap(),
            ts,
            received_at_s,
            source: source.into(),
            profile: profile.into(),
            flags: ReadingFlags::from_bits(flags),
        };
        (header, values)
    })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (-2_000_000_000_000_000_i64..4_000_000_000_000_000).prop_map(|us| Timestamp::from_micros(us).unwrap())
}

fn any_event() -> impl Strategy<Value = MeterEvent> {
    let kinds = [EventKind::LastGasp, EventKind::Leak, EventKind::ClockSet];
    ("[a-d]", any_time(), 0..kinds.len(), ".{0,8}", any::<i64>(), "[ab]").prop_map(
        move |(meter, ts, kind, detail, received_at_s, source)| MeterEvent {
            meter_id: MeterId::new(&meter).unwrap(),
            ts,
            kind: kinds[kind],
            detail: detail.into(),
            received_at_s,
            source: source.into(),
        },
    )
}

fn any_reason() -> impl Strategy<Value = DeadReason> {
    prop_oneof![Just(DeadReason::Syntax), Just(DeadReason::Overflow), Just(DeadReason::Identity)]
}

fn any_message() -> impl Strategy<Value = RawMessage> {
    ("[ab]", "[a-z/]{0,20}", vec(any::<u8>(), 0..900), any::<i64>()).prop_map(
        |(source, topic, payload, received_at_s)| RawMessage {
            source: source.into(),
            topic: topic.into(),
            payload,
            received_at_s,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rule_1_a_batch_is_read_back_as_it_was(batch in any_batch()) {
        let encoded = EncodedBatch::new(&batch).unwrap();
        prop_assert_eq!(decode(&encoded.body, encoded.raw_len), Ok(batch));
    }

    #[test]
    fn equal_batches_have_equal_bytes(batch in any_batch()) {
        prop_assert_eq!(encode(&batch), encode(&batch.clone()));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in vec(any::<u8>(), 0..400), raw_len in any::<u32>()) {
        let _ = decode(&bytes, 0);
        let _ = decode(&bytes, raw_len);
    }

    #[test]
    fn a_changed_byte_never_panics(batch in any_batch(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut raw = encode(&batch);
        let at = at.index(raw.len());
        raw[at] = byte;
        let _ = decode(&raw, 0);
    }

    #[test]
    fn a_cut_record_is_refused(batch in any_batch(), at in any::<prop::sample::Index>()) {
        let raw = encode(&batch);
        prop_assert!(decode(&raw[..at.index(raw.len())], 0).is_err());
    }
}

#[test]
fn a_stated_length_beyond_the_limit_reserves_nothing() {
    assert!(decode(&[0; 16], u32::MAX).unwrap_err().contains("before compression"));
}

#[test]
fn a_frame_of_one_meter_takes_few_bytes() {
    let energy = Channel::by_name("energy_import_kwh").unwrap();
    let mut batch = ReadingBatch::default();
    for i in 0..96_i64 {
        let header = RowHeader {
            meter_id: MeterId::new("meter-1").unwrap(),
            ts: Timestamp::from_unix_seconds(1_700_000_000 + i * 900).unwrap(),
            received_at_s: 1_700_090_000,
            source: "mqtt/main".into(),
            profile: "meterlake@1".into(),
            flags: ReadingFlags::NONE,
        };
        batch.electricity.push(header, &[(energy, 1_000_000 + i * 120)]);
    }
    let encoded = EncodedBatch::new(&batch).unwrap();
    assert!(encoded.len() < 200, "{} bytes", encoded.len());
    assert_eq!(decode(&encoded.body, encoded.raw_len), Ok(batch));
}

#[test]
fn a_channel_of_a_later_version_is_named() {
    let mut raw = Vec::new();
    put_len(&mut raw, 4);
    for text in ["m", "s", "p", "moonlight_lx"] {
        put_bytes(&mut raw, text.as_bytes());
    }
    put_len(&mut raw, 1);
    for id in [0, 0, 0, 1, 2, 0] {
        put_column(&mut raw, std::iter::once(id));
    }
    put_len(&mut raw, 1);
    put_i64(&mut raw, 3);
    assert_eq!(decode(&raw, 0), Err("channel `moonlight_lx` is unknown".into()));
}
