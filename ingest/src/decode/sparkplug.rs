//! Sparkplug B: not read yet.

use meterlake_model::{DeadReason, RawMessage};

use super::births::Births;
use super::document::Document;
use super::{Outcome, Refusal};

/// Reads one message, with its topic. `None` is a message that is understood and holds no reading.
pub(super) fn parse(
    _message: &RawMessage,
    _payload: &[u8],
    _births: &mut Births,
    _outcome: &mut Outcome,
) -> Result<Option<Document<'static>>, Refusal> {
    Err(Refusal::new(DeadReason::Syntax, "Sparkplug B is not read by this version"))
}
