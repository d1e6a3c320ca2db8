//! The table `redecodes`: who decoded what again, why, and who agreed. Rows are only ever added.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use meterlake_model::{Timestamp, month_key};
use meterlake_store::query::ReadOptions;
use meterlake_store::schema::{MONTH, required, spec, text, time};
use meterlake_store::{Lake, TableSpec};

use super::select::Selection;
use crate::rows;

/// A step in the life of a re-decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Somebody wants it.
    Proposed,
    /// Somebody else agreed.
    Approved,
    /// All its rows are durable.
    Applied,
}

impl Step {
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Proposed, "proposed"), (Self::Approved, "approved"), (Self::Applied, "applied")];

    pub(super) fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(step, _)| *step == self).map_or("", |(_, name)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(step, _)| *step)
    }
}

/// One step as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Name of the preview.
    pub(super) id: String,
    pub(super) step: Step,
    pub(super) at: Timestamp,
    pub(super) by: String,
    pub(super) reason: String,
    pub(super) selection: Selection,
    /// Rows that were handed over in this step.
    pub(super) rows: i64,
}

/// The table.
pub(super) fn table() -> TableSpec {
    let fields = vec![
        text("id"),
        text("step"),
        time("at"),
        text("person"),
        text("reason"),
        text("selection"),
        required("rows", DataType::Int64),
        text(MONTH),
    ];
    spec("redecodes", fields, &[MONTH], &["id", "at", "step"])
}

/// Adds a step.
pub(super) async fn add(lake: &Lake, kept: &Kept) -> anyhow::Result<()> {
    let table = table();
    let one = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let columns: Vec<ArrayRef> = vec![
        one(&kept.id),
        one(kept.step.as_str()),
        Arc::new(TimestampMicrosecondArray::from(vec![kept.at.micros()]).with_timezone("UTC")),
        one(kept.by.trim()),
        one(&kept.reason),
        one(&kept.selection.to_json()),
        Arc::new(Int64Array::from(vec![kept.rows])),
        one(&month_key(kept.at)),
    ];
    lake.append(&table, vec![RecordBatch::try_new(Arc::clone(&table.schema), columns)?]).await?;
    Ok(())
}

/// All steps, or those of one re-decode, in order of time.
pub(super) async fn load(lake: &Lake, id: Option<&str>) -> anyhow::Result<Vec<Kept>> {
    let session = lake.open_session(ReadOptions::default()).await?;
    if !session.versions.contains_key(table().name) {
        return Ok(Vec::new());
    }
    let only = id.map(|id| format!("WHERE id = '{}'", id.replace('\'', "''"))).unwrap_or_default();
    let text = format!(
        "SELECT id, step, CAST(CAST(\"at\" AS BIGINT) AS VARCHAR) AS at_us, person, reason, selection,
                CAST(\"rows\" AS VARCHAR) AS row_count
         FROM redecodes {only} ORDER BY \"at\", step DESC"
    );
    let mut kept = Vec::new();
    for row in rows::fetch(&session.context, &text).await? {
        let [Some(id), Some(step), Some(at), Some(by), reason, Some(selection), Some(rows)] = row.as_slice() else {
            bail!("redecodes has a row that lacks something");
        };
        kept.push(Kept {
            id: id.clone(),
            step: Step::parse(step).with_context(|| format!("redecodes knows no step {step}"))?,
            at: Timestamp::from_micros(at.parse()?)?,
            by: by.clone(),
            reason: reason.clone().unwrap_or_default(),
            selection: Selection::parse(selection)?,
            rows: rows.parse()?,
        });
    }
    Ok(kept)
}

/// Whether somebody may agree to what was proposed, as for edits: another person than the one who proposed it.
pub(super) fn may_approve(steps: &[Kept], id: &str, by: &str) -> anyhow::Result<()> {
    ensure!(!by.trim().is_empty(), "who does it is missing");
    let Some(proposed) = steps.iter().find(|kept| kept.step == Step::Proposed) else {
        bail!("there is no re-decode {id} that waits for approval: `redecode list` shows them");
    };
    let same = proposed.by.trim().to_lowercase() == by.trim().to_lowercase();
    ensure!(!same, "re-decode {id} was proposed by {}: somebody else has to approve it", proposed.by);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(step: Step, by: &str) -> Kept {
        Kept {
            id: "7-ab".to_owned(),
            step,
            at: Timestamp::from_unix_seconds(1_780_000_000).unwrap(),
            by: by.to_owned(),
            reason: "scale".to_owned(),
            selection: Selection::parse(r#"{"from":"2026-01-01","to":"2026-04-01"}"#).unwrap(),
            rows: 3,
        }
    }

    #[tokio::test]
    async fn steps_are_kept_and_read_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path()).unwrap();
        assert_eq!(load(&lake, None).await.unwrap(), Vec::new());
        let steps = [kept(Step::Proposed, "ana"), kept(Step::Approved, "bo"), kept(Step::Applied, "bo")];
        for (n, step) in (0..).zip(&steps) {
            add(&lake, &Kept { at: step.at.plus_seconds(n), ..step.clone() }).await.unwrap();
        }
        let read = load(&lake, Some("7-ab")).await.unwrap();
        assert_eq!(read.iter().map(|k| k.step).collect::<Vec<_>>(), [Step::Proposed, Step::Approved, Step::Applied]);
        assert_eq!(read[0], steps[0]);
        assert_eq!(load(&lake, Some("other")).await.unwrap(), Vec::new());
    }

    #[test]
    fn nobody_approves_their_own_proposal() {
        let steps = [kept(Step::Proposed, "Ana")];
        assert!(may_approve(&steps, "7-ab", " ana ").unwrap_err().to_string().contains("somebody else has to approve"));
        assert!(may_approve(&steps, "7-ab", "").is_err());
        assert!(may_approve(&steps, "7-ab", "bo").is_ok());
        assert!(may_approve(&[], "7-ab", "bo").unwrap_err().to_string().contains("no re-decode 7-ab"));
    }
}
