//! A payload that is one bare value, as devices write it that have a topic for each.

use meterlake_model::DeadReason;

use super::document::{Builder, Document};
use super::{LIMITS, Refusal};

/// The member under which the value stands.
const MEMBER: &str = "value";

/// Reads the payload as one text without outer blanks, at `value` of an object. Nothing at all is an absent value.
pub(super) fn parse(payload: &[u8]) -> Result<Document<'static>, Refusal> {
    let text = std::str::from_utf8(payload).map_err(|error| {
        Refusal::new(DeadReason::Syntax, format!("the payload is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut builder = Builder::new(LIMITS);
    builder.object()?;
    builder.key(MEMBER)?;
    match text.trim() {
        "" => builder.null()?,
        text => builder.text(text)?,
    }
    builder.end()?;
    builder.finish()
}
