//! The lake as it was: which commits, registry revision and versions of derived tables belong to a moment.
//!
//! Rows of what came in bear their `commit_seq`, so they are told apart for as long as they are kept. The registry has
//! its revisions. Derived tables are replaced in place: an older version can be read only while its log and its files are
//! kept (a week after they left the table); after that a question to it is refused, and the others are still answered.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use meterlake_model::{LocalResolution, Timestamp, Zone};

use super::error::QueryError;
use crate::error::StoreError;
use crate::history::Then;
use crate::lake::Lake;
use crate::registry::usage_points;
use crate::schema;

/// A moment of the past, as a person names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// When every table of what came in held the journal up to this position, and no further.
    Commit(i64),
    /// By the clock.
    Time(Timestamp),
}

impl AsOf {
    /// From `4711` (a `commit_seq`), `2026-11-20T08:00:00Z` (any offset), or a civil time or day with its zone:
    /// `2026-11-20 08:00 Europe/Madrid`.
    ///
    /// # Errors
    /// Says what is missing. A civil time without a zone is refused, and so is one that a zone has twice or never.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(commit_seq) = text.parse::<i64>() {
            return Ok(Self::Commit(commit_seq));
        }
        if let Ok(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::Time(at));
        }
        let forms = "a commit_seq such as 4711, a time such as 2026-11-20T08:00:00Z, or a civil time with its zone such \
                     as `2026-11-20 08:00 Europe/Madrid`";
        let Some((local, zone)) =
            text.rsplit_once(' ').filter(|(_, zone)| zone.starts_with(|c: char| c.is_alphabetic()))
        else {
            return Err(format!("`{text}` is none of these: {forms}"));
        };
        let zone = Zone::parse(zone).map_err(|e| e.to_string())?;
        match zone.resolve_local(local.trim()).map_err(|e| format!("{e}; known are {forms}"))? {
            LocalResolution::Unique(at) => Ok(Self::Time(at)),
            LocalResolution::Ambiguous { earlier, later } => {
                Err(format!("{local} occurs twice in {}: say {earlier} or {later}", zone.name()))
            }
            LocalResolution::Skipped(_) => Err(format!("{local} does not occur in {}: clocks skip it", zone.name())),
        }
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(commit_seq) => write!(f, "commit {commit_seq}"),
            Self::Time(at) => at.fmt(f),
        }
    }
}

/// A moment as the tables know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Rows of commits up to this one had come.
    pub commit_seq: i64,
    /// The time of it; `None` when the commits of then are not told of any more.
    pub at: Option<Timestamp>,
    /// The revision of the registry; `None` when it is not known.
    pub(super) revision: Option<i64>,
}

impl Lake {
    /// What a moment is to the tables.
    ///
    /// # Errors
    /// `Refused` when a commit is still to come, or the commits do not tell what was newest at that time.
    pub async fn moment(&self, as_of: AsOf) -> Result<Moment, QueryError> {
        let tables = self.tables().await?;
        let collected = schema::collected().map(|spec| spec.name);
        let collected: Vec<&str> = collected.into_iter().filter(|name| tables.iter().any(|t| t == name)).collect();
        let (commit_seq, at) = match as_of {
            AsOf::Time(at) => (self.position_at(&collected, at).await?, Some(at)),
            AsOf::Commit(commit_seq) => (commit_seq, self.time_of(&collected, commit_seq).await?),
        };
        let registry = tables.iter().any(|t| t == usage_points().name);
        let revision = match at {
            Some(at) if registry => match self.then(usage_points().name, at).await {
                Ok(Then::NotYet) => Some(0),
                Ok(Then::Version { revision, .. }) => Some(revision),
                Err(StoreError::Refused { .. }) => None,
                Err(e) => return Err(e.into()),
            },
            _ => None,
        };
        Ok(Moment { commit_seq, at, revision })
    }

    /// Up to where every table of what comes in held the journal: one cut through all of them.
    async fn position_at(&self, tables: &[&str], at: Timestamp) -> Result<i64, QueryError> {
        let mut least: Option<i64> = None;
        for table in tables {
            let position = match self.then(table, at).await {
                Ok(Then::NotYet) => 0,
                Ok(Then::Version { commit_seq, .. }) => commit_seq,
                Err(StoreError::Refused { table, reason }) => {
                    return Err(QueryError::Refused(format!("table {table}: {reason}")));
                }
                Err(e) => return Err(e.into()),
            };
            least = Some(least.map_or(position, |l| l.min(position)));
        }
        Ok(least.unwrap_or(0))
    }

    /// When the last of the tables had reached a position.
    async fn time_of(&self, tables: &[&str], commit_seq: i64) -> Result<Option<Timestamp>, QueryError> {
        let mut latest: Option<Timestamp> = None;
        for table in tables {
            let newest = self.snapshot(table).await?.journal_position().cast_signed();
            if commit_seq > newest || commit_seq < 0 {
                let reason = format!("there is no commit {commit_seq} in table {table} yet, its newest is {newest}");
                return Err(QueryError::Refused(reason));
            }
            match self.reached(table, commit_seq).await? {
                Some(at) => latest = latest.max(Some(at)),
                None => return Ok(None),
            }
        }
        Ok(latest)
    }
}

/// A table that cannot be shown as it was. It has its columns, so that views and listings work; every read is refused.
#[derive(Debug)]
pub(super) struct RefusedTable {
    pub(super) schema: SchemaRef,
    pub(super) reason: String,
}

#[async_trait]
impl TableProvider for RefusedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan_err!("{}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_commit_or_a_time_that_is_clear() {
        let at = |text: &str| Ok(AsOf::Time(Timestamp::parse_rfc3339(text).unwrap()));
        for (text, expected) in [
            ("4711", Ok(AsOf::Commit(4711))),
            ("2026-11-20T08:00:00Z", at("2026-11-20T08:00:00Z")),
            ("2026-11-20T08:00:00+01:00", at("2026-11-20T07:00:00Z")),
            ("2026-11-20 08:00 Europe/Madrid", at("2026-11-20T07:00:00Z")),
            ("2026-07-20T08:00:30 Europe/Madrid", at("2026-07-20T06:00:30Z")),
            ("2026-11-20 Europe/Madrid", at("2026-11-19T23:00:00Z")),
            ("2026-11-20 08:00 UTC", at("2026-11-20T08:00:00Z")),
        ] {
            assert_eq!(AsOf::parse(text), expected, "{text}");
        }
        for (text, said) in [
            ("yesterday", "is none of these"),
            ("2026-11-20 08:00", "is none of these"),
            ("2026-11-20 08:00 Europe/Madird", "Europe/Madird"),
            ("2026-10-25 02:30 Europe/Madrid", "occurs twice in Europe/Madrid: say 2026-10-25T00:30:00Z"),
            ("2026-03-29 02:30 Europe/Madrid", "does not occur"),
            ("soon Europe/Madrid", "soon"),
        ] {
            let error = AsOf::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
