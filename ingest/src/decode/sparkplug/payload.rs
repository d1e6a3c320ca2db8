//! The payload of a Sparkplug B message as it stands on the wire: `org.eclipse.tahu.protobuf.Payload`.

use crate::decode::protobuf::wire::{Fields, Wire, WireError};

/// The quality code of a value that can be used, where a metric states one.
const GOOD: u64 = 192;

/// A payload.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Payload<'p> {
    /// When it was published, in milliseconds since 1970.
    pub(super) timestamp: Option<u64>,
    pub(super) metrics: Vec<Metric<'p>>,
    pub(super) seq: Option<u64>,
}

/// One metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metric<'p> {
    /// Absent where the alias stands for it.
    pub(super) name: Option<&'p str>,
    pub(super) alias: Option<u64>,
    /// When the value was captured, in milliseconds since 1970.
    pub(super) timestamp: Option<u64>,
    /// 0 where it is not stated.
    pub(super) datatype: u32,
    pub(super) historical: bool,
    /// Not to be stored, by its sender's will.
    pub(super) transient: bool,
    pub(super) null: bool,
    /// Its quality is stated and is not good.
    pub(super) doubtful: bool,
    pub(super) value: Raw<'p>,
}

/// A value as it is carried; what it means depends on the data type.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Raw<'p> {
    #[default]
    None,
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Boolean(bool),
    Text(&'p str),
    /// Bytes, a data set, a template or an extension.
    Other,
}

/// Why a payload is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("the payload is not of Sparkplug B: {0}")]
    Wire(#[from] WireError),
    #[error("the payload is not of Sparkplug B: field {0} is of another kind than the format says")]
    Kind(u32),
    #[error("the payload is not of Sparkplug B: text that is not UTF-8")]
    NotUtf8,
    #[error("the payload holds more than {0} metrics")]
    TooMany(usize),
}

/// Reads a payload of at most `max_metrics` metrics.
pub(super) fn parse(bytes: &[u8], max_metrics: usize) -> Result<Payload<'_>, PayloadError> {
    let mut payload = Payload::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, wire) => payload.timestamp = Some(number(1, wire)?),
            (2, wire) => {
                if payload.metrics.len() == max_metrics {
                    return Err(PayloadError::TooMany(max_metrics));
                }
                payload.metrics.push(metric(message(2, wire)?)?);
            }
            (3, wire) => payload.seq = Some(number(3, wire)?),
            // A schema's name, a body of its own, and what later versions add.
            _ => {}
        }
    }
    Ok(payload)
}

fn metric(bytes: &[u8]) -> Result<Metric<'_>, PayloadError> {
    let mut metric = Metric::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, wire) => metric.name = Some(text(1, wire)?).filter(|name| !name.is_empty()),
            (2, wire) => metric.alias = Some(number(2, wire)?),
            (3, wire) => metric.timestamp = Some(number(3, wire)?),
            (4, wire) => metric.datatype = low(number(4, wire)?),
            (5, wire) => metric.historical = number(5, wire)? != 0,
            (6, wire) => metric.transient = number(6, wire)? != 0,
            (7, wire) => metric.null = number(7, wire)? != 0,
            (9, wire) => metric.doubtful = quality(message(9, wire)?)?.is_some_and(|quality| quality != GOOD),
            (10, wire) => metric.value = Raw::Int(low(number(10, wire)?)),
            (11, wire) => metric.value = Raw::Long(number(11, wire)?),
            (12, Wire::Fixed32(bits)) => metric.value = Raw::Float(f32::from_bits(bits)),
            (13, Wire::Fixed64(bits)) => metric.value = Raw::Double(f64::from_bits(bits)),
            (number @ (12 | 13), _) => return Err(PayloadError::Kind(number)),
            (14, wire) => metric.value = Raw::Boolean(number(14, wire)? != 0),
            (15, wire) => metric.value = Raw::Text(text(15, wire)?),
            (16..=19, _) => metric.value = Raw::Other,
            _ => {}
        }
    }
    Ok(metric)
}

/// The property `Quality` of a metric.
fn quality(properties: &[u8]) -> Result<Option<u64>, PayloadError> {
    let (mut at, mut values) = (None, Vec::new());
    let mut keys = 0_usize;
    for field in Fields::of(properties) {
        match field? {
            (1, wire) => {
                if text(1, wire)? == "Quality" {
                    at = Some(keys);
                }
                keys += 1;
            }
            (2, wire) => values.push(message(2, wire)?),
            _ => {}
        }
    }
    let Some(value) = at.and_then(|at| values.get(at)) else { return Ok(None) };
    for field in Fields::of(value) {
        if let (3 | 4, Wire::Varint(quality)) = field? {
            return Ok(Some(quality));
        }
    }
    Ok(None)
}

fn number(field: u32, wire: Wire<'_>) -> Result<u64, PayloadError> {
    match wire {
        Wire::Varint(value) => Ok(value),
        _ => Err(PayloadError::Kind(field)),
    }
}

fn message<'p>(field: u32, wire: Wire<'p>) -> Result<&'p [u8], PayloadError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(PayloadError::Kind(field)),
    }
}

fn text<'p>(field: u32, wire: Wire<'p>) -> Result<&'p str, PayloadError> {
    std::str::from_utf8(message(field, wire)?).map_err(|_| PayloadError::NotUtf8)
}

/// A number of 32 bits; a sender that extends the sign fills the upper half, which the format drops.
fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::protobuf::wire::{write_bytes, write_number, write_varint};
    use proptest::prelude::*;

    fn property(key: &str, value: u64) -> Vec<u8> {
        let (mut properties, mut inner) = (Vec::new(), Vec::new());
        write_bytes(1, b"Unit", &mut properties);
        write_bytes(1, key.as_bytes(), &mut properties);
        write_number(1, 3, &mut inner);
        write_number(3, value, &mut inner);
        write_bytes(2, b"", &mut properties);
        write_bytes(2, &inner, &mut properties);
        properties
    }

    #[test]
    fn a_payload_is_read_field_by_field() {
        let mut metric = Vec::new();
        write_bytes(1, b"Energy/Total", &mut metric);
        for (field, value) in [(2, 7), (3, 1_000), (4, 4), (5, 1), (11, 12_345)] {
            write_number(field, value, &mut metric);
        }
        write_bytes(9, &property("Quality", 500), &mut metric);
        let mut bytes = Vec::new();
        write_number(1, 2_000, &mut bytes);
        write_bytes(2, &metric, &mut bytes);
        write_number(3, 9, &mut bytes);
        write_bytes(4, b"schema", &mut bytes);
        let expected = Metric {
            name: Some("Energy/Total"),
            alias: Some(7),
            timestamp: Some(1_000),
            datatype: 4,
            historical: true,
            doubtful: true,
            value: Raw::Long(12_345),
            ..Metric::default()
        };
        let payload = parse(&bytes, 10).unwrap();
        assert_eq!(payload, Payload { timestamp: Some(2_000), metrics: vec![expected], seq: Some(9) });
        assert_eq!(parse(&bytes, 0), Err(PayloadError::TooMany(0)));
    }

    #[test]
    fn the_quality_is_looked_up_by_its_key() {
        for (key, value, expected) in [("Quality", 192, Some(192)), ("Quality", 0, Some(0)), ("Other", 500, None)] {
            assert_eq!(quality(&property(key, value)), Ok(expected), "{key} {value}");
        }
        assert_eq!(quality(b""), Ok(None));
    }

    #[test]
    fn a_field_of_another_kind_is_refused() {
        let mut double = Vec::new();
        write_varint(13 << 3, &mut double);
        write_varint(1, &mut double);
        let mut bytes = Vec::new();
        write_bytes(2, &double, &mut bytes);
        assert_eq!(parse(&bytes, 10), Err(PayloadError::Kind(13)));
        assert_eq!(parse(b"{\"ts\":1}", 10).map(|_| ()), Err(PayloadError::Wire(WireError::Kind(15, 3))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, 100);
            let _ = quality(&bytes);
        }
    }
}
