//! V03: the multiplier that a message states must be that of the installation.

use meterlake_model::{DeadReason, Timestamp, parse_scaled};

use super::Refusal;
use super::document::{Kind, Value};
use super::speaker::Speaker;

/// Refuses a message that states another multiplier than the registry has at its time. Where the registry knows none, any will do.
pub(super) fn agreed(stated: Value<'_>, speaker: &Speaker<'_>, ts: Timestamp) -> Result<(), Refusal> {
    let text = match stated.kind() {
        Kind::Text { .. } => stated.unescaped(),
        Kind::Number => stated.raw().into(),
        _ => {
            let detail = format!("the multiplier is {}; a number is wanted", stated.described());
            return Err(Refusal::new(DeadReason::BadValue, detail));
        }
    };
    let micros = parse_scaled(text.trim(), 6).map_err(|_| {
        let detail = format!("the multiplier is {}; a number of at most 6 decimals is wanted", stated.described());
        Refusal::new(DeadReason::BadValue, detail)
    })?;
    let Some(entry) = speaker.entry else { return Ok(()) };
    let mut known = entry.multipliers_at(ts).peekable();
    let Some(first) = known.peek().copied() else { return Ok(()) };
    if known.any(|known| known == micros) {
        return Ok(());
    }
    let detail = format!(
        "the message states multiplier {}, the registry has {} for meter `{}`",
        shown(micros),
        shown(first),
        speaker.id
    );
    Err(Refusal::new(DeadReason::Multiplier, detail))
}

/// Without needless decimals.
fn shown(micros: i64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, (micros % 1_000_000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
