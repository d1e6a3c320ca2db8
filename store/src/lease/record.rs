//! What a lease object says.

use std::time::Duration;

use meterlake_model::Timestamp;
use serde::{Deserialize, Serialize};

/// No lease lasts longer, whatever its object says.
const LONGEST: Duration = Duration::from_secs(600);

/// The text of a lease object. Nobody judges by its times: they are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Who has it, told apart for ever.
    pub(super) holder: String,
    /// Who has it, for people.
    pub(super) shown: String,
    /// One taking of the lease.
    pub(super) token: String,
    /// Rises with every taking.
    pub(super) epoch: i64,
    /// Rises with every renewal, so that no two writings are the same bytes: an entity tag may be their hash.
    pub(super) beat: u64,
    /// Silence after which another may take it.
    pub(super) ttl_ms: u64,
    /// Whether it was given back.
    pub(super) released: bool,
    pub(super) written_at: String,
}

impl Record {
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms).min(LONGEST)
    }

    pub(super) fn written_now(self) -> Self {
        Self { beat: self.beat + 1, written_at: Timestamp::now().to_string(), ..self }
    }
}

/// The epoch of the next taking. It goes by the clock only in so far as a lease object that was lost begins beyond what
/// its tables have seen; a clock that stands wrong makes a taking fail and nothing worse.
pub(super) fn next_epoch(last: Option<i64>) -> i64 {
    last.map_or(1, |epoch| epoch.saturating_add(1)).max(Timestamp::now().unix_seconds())
}
