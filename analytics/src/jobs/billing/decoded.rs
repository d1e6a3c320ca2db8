//! Which readings were decoded again, told by the rows themselves: so that a change of a bill has its cause.

use std::collections::HashMap;

use datafusion::error::DataFusionError;
use meterlake_model::registry::Installation;
use meterlake_model::revision::FIRST_RE_DECODED;
use meterlake_model::{Commodity, Timestamp};
use meterlake_store::schema::readings_name;

use super::super::JobError;
use super::super::run::Run;
use crate::tables::read::{Rows, instant_at};

/// A boundary may follow from a reading so far from it.
const NEAR_S: i64 = 86_400;

/// What one commit brought of one meter.
struct Again {
    commit_seq: i64,
    first: Timestamp,
    last: Timestamp,
}

/// The commits that decoded history again, by meter. Few: such rows come in order of meter, so that one or two commits
/// bring all of one.
#[derive(Default)]
pub(super) struct Decoded(HashMap<String, Vec<Again>>);

impl Decoded {
    /// Of readings in some time. Files without such rows are not read: their statistics tell.
    pub(super) async fn read(run: &Run<'_>, range: (Timestamp, Timestamp)) -> Result<Self, JobError> {
        let mut decoded = Self::default();
        for commodity in Commodity::ALL.into_iter().filter(|c| run.has(readings_name(*c))) {
            let sql = format!(
                "SELECT meter_id, commit_seq, min(ts) AS first, max(ts) AS last FROM {}
                 WHERE revision >= {FIRST_RE_DECODED} AND ts >= $from AND ts < $to GROUP BY meter_id, commit_seq",
                readings_name(commodity)
            );
            let mut rows = run.stream_between(&sql, range).await?;
            while let Some(batch) = run.next(&mut rows).await? {
                let mut take = || {
                    let rows = Rows(&batch);
                    let (meter_id, commit_seq) = (rows.text("meter_id")?, rows.long("commit_seq")?);
                    let (first, last) = (rows.time("first")?, rows.time("last")?);
                    for row in 0..rows.len() {
                        let again = Again {
                            commit_seq: commit_seq.value(row),
                            first: instant_at(first, row)?,
                            last: instant_at(last, row)?,
                        };
                        decoded.0.entry(meter_id.at(row).to_owned()).or_default().push(again);
                    }
                    Ok::<_, DataFusionError>(())
                };
                take().map_err(|e| run.failed(e))?;
            }
        }
        Ok(decoded)
    }

    /// The newest commit that decoded readings of these meters again that a bill of this time may rest on; empty: none.
    pub(super) fn of(&self, installations: &[&Installation], (start, end): (Timestamp, Timestamp)) -> String {
        let (from, to) = (start.plus_seconds(-NEAR_S), end.plus_seconds(NEAR_S));
        let of_meters = installations.iter().filter_map(|i| self.0.get(i.meter_id.as_str())).flatten();
        let newest = of_meters.filter(|a| a.first <= to && from <= a.last).map(|a| a.commit_seq).max();
        newest.map(|seq| seq.to_string()).unwrap_or_default()
    }
}
