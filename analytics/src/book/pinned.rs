//! Runs of the job `billing` as `job_runs` took them down: what it takes to compute one again.

use arrow::array::Array;
use meterlake_model::CivilDay;
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;

use super::BookError;
use crate::JobOptions;
use crate::jobs::{BillsAgain, bills_again};
use crate::rules::Rules;
use crate::tables::read::{Rows, day_at, maybe_day_at};

/// What a run was pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedRun {
    /// Its name.
    pub run_id: String,
    /// First day asked for.
    pub from: CivilDay,
    /// Day after the last.
    pub to: CivilDay,
    /// The newest commit that it read.
    pub commit_seq: i64,
    /// The registry's revision.
    pub registry_revision: i64,
    /// Hash of its rules.
    pub rules_hash: String,
    /// The program that ran it.
    pub program: String,
    /// The day that it was made for.
    pub today: Option<CivilDay>,
    /// The last event of people that it went by.
    pub events: i64,
    /// Hash of its bills.
    pub output_hash: String,
}

impl PinnedRun {
    /// Why it cannot give the same again, if so: other rules.
    pub fn differs(&self, rules: &Rules) -> Option<String> {
        let hash = rules.hash();
        (hash != self.rules_hash).then(|| {
            format!(
                "run {} went by rules {}, this configuration has {hash}: name the configuration of then with --config",
                self.run_id, self.rules_hash
            )
        })
    }

    /// Computes it again, from readings.
    ///
    /// # Errors
    /// When what it read is not there any more.
    pub async fn again(&self, lake: &Lake, rules: &Rules) -> Result<BillsAgain, BookError> {
        let options = JobOptions {
            commit_seq: Some(self.commit_seq),
            registry_revision: Some(self.registry_revision),
            today: self.today,
            events: Some(self.events),
            rules: rules.clone(),
            ..JobOptions::new(self.from, self.to)
        };
        bills_again(lake, &options).await.map_err(|e| BookError::Job(Box::new(e)))
    }
}

/// Finds a run of the job `billing` by its name.
///
/// # Errors
/// When there is none, or it is so old that its pins were not taken down.
pub async fn pinned_run(lake: &Lake, run_id: &str) -> Result<PinnedRun, BookError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let nothing = || BookError::Nothing(format!("there is no billing run {run_id}: `job list` shows the runs"));
    if !session.versions.contains_key("job_runs") {
        return Err(nothing());
    }
    let sql = format!("SELECT * FROM job_runs WHERE job = 'billing' AND run_id = '{}'", run_id.replace('\'', ""));
    for batch in session.context.sql(&sql).await?.collect().await? {
        let rows = Rows(&batch);
        if rows.len() == 0 {
            continue;
        }
        let (events, hash) = (rows.long("events")?, rows.text("output_hash")?);
        let Some(output_hash) = hash.get(0).filter(|_| events.is_valid(0)) else {
            return Err(BookError::Nothing(format!("run {run_id} is older than pins of bills are")));
        };
        return Ok(PinnedRun {
            run_id: run_id.to_owned(),
            from: day_at(rows.day("from_day")?, 0)?,
            to: day_at(rows.day("to_day")?, 0)?,
            commit_seq: rows.long("commit_seq")?.value(0),
            registry_revision: rows.long("registry_revision")?.value(0),
            rules_hash: rows.text("rules_hash")?.at(0).to_owned(),
            program: rows.text("program")?.at(0).to_owned(),
            today: maybe_day_at(rows.day("today")?, 0)?,
            events: events.value(0),
            output_hash: output_hash.to_owned(),
        });
    }
    Err(nothing())
}
