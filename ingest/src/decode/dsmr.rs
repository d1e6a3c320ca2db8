//! DSMR P1 telegrams: not read yet.

use meterlake_model::DeadReason;

use super::Refusal;
use super::document::Document;

/// Reads one telegram.
pub(super) fn parse(_payload: &[u8]) -> Result<Document<'static>, Refusal> {
    Err(Refusal::new(DeadReason::Syntax, "DSMR P1 telegrams are not read by this version"))
}
