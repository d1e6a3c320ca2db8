//! What the demo prints beside the comparisons.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use datafusion::prelude::SessionContext;
use meterlake_analytics::Rules;
use meterlake_store::Lake;

use super::stage::Stage;
use super::{DemoArgs, Sent};
use crate::profile_picture;
use crate::rows;
use crate::status::CollectStatus;

/// Seconds of history's way, and what went.
pub(crate) fn history(sent: &Sent, status: &CollectStatus, since_start: Duration) -> String {
    let seconds = sent.took.as_secs_f64();
    let durable = CollectStatus::get(&status.durable);
    format!(
        "history: {} messages with {} readings published and durable in {seconds:.1} s ({:.0} readings/s), {:.0} s after the start",
        sent.progress.messages,
        durable,
        rate(durable, seconds),
        since_start.as_secs_f64()
    )
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

/// Readings received, stored, duplicate, dead.
pub(crate) async fn readings(session: &SessionContext, status: &CollectStatus) -> anyhow::Result<String> {
    let tables = rows::count(
        session,
        "SELECT (SELECT count(*) FROM electricity_readings) + (SELECT count(*) FROM water_readings)",
    )
    .await?;
    let (received, stored) = (CollectStatus::get(&status.received), CollectStatus::get(&status.stored));
    let duplicates = CollectStatus::get(&status.duplicates);
    let on_the_way = received.saturating_sub(stored + duplicates);
    Ok(format!(
        "Readings: {received} received, {stored} stored ({tables} rows in the tables), {duplicates} duplicates dropped, {on_the_way} on the way; {} contradictions kept and flagged; {} dead letters",
        CollectStatus::get(&status.conflicts),
        CollectStatus::get(&status.dead_letters),
    ))
}

/// Dead letters by reason.
pub(crate) async fn dead_letters(session: &SessionContext) -> anyhow::Result<String> {
    let found =
        rows::fetch(session, "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY 2 DESC, 1").await?;
    let mut text = String::from("Dead letters by reason:");
    for row in &found {
        let cell = |at: usize| row[at].as_deref().unwrap_or("");
        write!(text, " {} {},", cell(0), cell(1))?;
    }
    Ok(text.trim_end_matches([',', ':']).to_owned() + "\n")
}

/// One customer's profile as lines, and as a picture file.
pub(crate) async fn profile(lake: &Lake, dir: &Path) -> anyhow::Result<String> {
    let Some(id) = profile_picture::most_complete(lake).await? else {
        return Ok("No profile: nothing was used".to_owned());
    };
    let picture = profile_picture::draw(lake, &id, None, None, &Rules::default()).await?;
    let path = dir.join(format!("profile-{}.svg", picture.usage_point_id));
    std::fs::write(&path, &picture.svg).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!("{}\nas a picture: {}\n", picture.lines, path.display()))
}

/// Where the data is, and what to try.
pub(crate) fn farewell(args: &DemoArgs, stage: &Stage, took: Duration) -> String {
    let query = DemoArgs::query_words(&stage.config_path);
    let lake = &stage.config.lake.root;
    let picture = if args.keep { "" } else { "; --keep goes on running" };
    format!(
        "Done in {:.0} s{picture}. The Delta tables are in {lake}. Three queries to try:\n  \
         {query} \"SELECT usage_point_id, use_amount, state FROM billing_reads ORDER BY use_amount DESC LIMIT 10\"\n  \
         {query} \"SELECT severity, summary, place FROM alerts ORDER BY severity, start\"\n  \
         {query} \"SELECT meter_id, count(*) AS readings, max(ts) AS newest FROM electricity GROUP BY meter_id LIMIT 10\"",
        took.as_secs_f64()
    )
}
