//! Messages that cannot be read, each broken in one way.

use bytes::Bytes;

use crate::history::topic;
use crate::json;
use crate::message::{Malformed, Message, MessageKind, Rows};

/// A broken message in the name of a meter that has just sent `rows`.
pub fn message(kind: Malformed, rows: &Rows) -> Message {
    let mut first = rows.clone();
    first.times.truncate(1);
    first.values.truncate(rows.channels.len());
    let good = json::single(&first);
    let register = rows.channels.first().map_or("register", |c| c.name());
    let time = first.times.first().map(ToString::to_string).unwrap_or_default();
    let payload = match kind {
        Malformed::Truncated => good[..good.len() * 2 / 3].to_vec(),
        Malformed::NotANumber => format!("{{\"ts\":\"{time}\",\"{register}\":\"overflow\"}}").into_bytes(),
        Malformed::NoTime => format!("{{\"{register}\":1.000}}").into_bytes(),
        Malformed::BadTime => format!("{{\"ts\":\"2026-02-30T25:61:00Z\",\"{register}\":1.000}}").into_bytes(),
        Malformed::LongAgo => format!("{{\"ts\":\"1970-01-01T00:00:17Z\",\"{register}\":1.000}}").into_bytes(),
        Malformed::TooFine => format!("{{\"ts\":\"{time}\",\"{register}\":1.2345678}}").into_bytes(),
    };
    Message {
        topic: topic(rows.meter_id.as_str()),
        payload: Bytes::from(payload),
        kind: MessageKind::Malformed(kind),
        rows: Rows::new(rows.meter_id.clone(), rows.channels.clone()),
    }
}
