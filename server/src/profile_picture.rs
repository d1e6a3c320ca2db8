//! `profile`: one customer's load shape and key figures, in the terminal and as a picture file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use datafusion::prelude::SessionContext;
use meterlake_analytics::profiles::picture::{Sheet, svg};
use meterlake_analytics::profiles::{DayType, Profile, SlotUse, profile, terminal};
use meterlake_model::registry::UsagePoint;
use meterlake_model::{Amount, Channel, CivilDay, Quality, Timestamp, UsagePointId};
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;

use crate::cli::Global;
use crate::{rows, setup};

/// Whose profile, over which days.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The usage point [default: the one with the most complete days]
    usage_point: Option<String>,
    /// First civil day [default: 35 days before --to]
    #[arg(long, value_parser = crate::jobs::day)]
    from: Option<CivilDay>,
    /// Day after the last [default: the day of the newest use]
    #[arg(long, value_parser = crate::jobs::day)]
    to: Option<CivilDay>,
    /// Write the picture to this SVG file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Days that a profile shows by default: five whole weeks.
const DEFAULT_DAYS: i32 = 35;

/// A profile as text and as an SVG file's content.
pub struct Drawn {
    /// Whose.
    pub usage_point_id: UsagePointId,
    /// For the terminal.
    pub lines: String,
    /// For a file.
    pub svg: String,
}

/// Shows one profile.
///
/// # Errors
/// When the usage point is not there or has no use in these days.
pub async fn run(global: &Global, args: &ProfileArgs) -> anyhow::Result<()> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let rules = setup::rules(&config);
    let id = match &args.usage_point {
        Some(text) => UsagePointId::new(text)?,
        None => most_complete(&lake).await?.context("no usage spans yet: run `meterlake job run usage` first")?,
    };
    let drawn = draw(&lake, &id, args.from, args.to, &rules).await?;
    println!("{}", drawn.lines);
    if let Some(path) = &args.svg {
        std::fs::write(path, &drawn.svg).with_context(|| format!("cannot write {}", path.display()))?;
        println!("as a picture: {}", path.display());
    }
    Ok(())
}

/// The usage point with the most use by actual slots; the first by name of those that are equal.
///
/// # Errors
/// When the lake cannot be read.
pub async fn most_complete(lake: &Lake) -> anyhow::Result<Option<UsagePointId>> {
    let session = lake.session(ReadOptions::default()).await?;
    let text = "SELECT usage_point_id FROM usage_spans
                WHERE level = 'slot' AND quality IN ('derived', 'valid', 'verified') AND value > 0
                GROUP BY usage_point_id ORDER BY count(*) DESC, usage_point_id LIMIT 1";
    let found = rows::fetch(&session, text).await?;
    let id = found.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    id.map(|id| UsagePointId::new(&id)).transpose().map_err(Into::into)
}

/// Draws the profile of a usage point's main channel over some days.
///
/// # Errors
/// When the registry does not know the usage point, or it has no use in these days.
pub async fn draw(
    lake: &Lake,
    id: &UsagePointId,
    from: Option<CivilDay>,
    to: Option<CivilDay>,
    rules: &meterlake_analytics::Rules,
) -> anyhow::Result<Drawn> {
    let registry = lake.read_registry(None).await?;
    let point = registry.usage_points.get(id).with_context(|| format!("the registry has no usage point {id}"))?;
    let session = lake.session(ReadOptions::default()).await?;
    let to = match to {
        Some(day) => day,
        None => newest_day(&session, point).await?,
    };
    let from = from.unwrap_or_else(|| to.plus_days(-DEFAULT_DAYS));
    let Ok(days @ 1..=400) = u16::try_from(to.days_since(from)) else {
        bail!("{from} to {to} is not a span of 1 to 400 days");
    };
    let (channel, slots) = main_slots(&session, point, from, to).await?;
    let shape = profile(slots, &point.zone, from, days, &rules.holidays, &rules.profile);
    Ok(sheet(point, channel, &shape, &rules.holidays, days))
}

async fn newest_day(session: &SessionContext, point: &UsagePoint) -> anyhow::Result<CivilDay> {
    let text = format!(
        "SELECT CAST(max(\"end\") AS BIGINT) FROM usage_spans WHERE usage_point_id = '{}' AND level = 'slot'",
        quoted(&point.id)
    );
    let newest = rows::fetch(session, &text).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    let newest = newest.with_context(|| format!("usage point {} has no usage spans yet", point.id))?;
    Ok(point.zone.day_of(Timestamp::from_micros(newest.parse()?)?))
}

fn quoted(id: &UsagePointId) -> String {
    id.as_str().replace('\'', "''")
}

/// The slots of the point's first channel in the catalogue's order: imported energy, or volume.
async fn main_slots(
    session: &SessionContext,
    point: &UsagePoint,
    from: CivilDay,
    to: CivilDay,
) -> anyhow::Result<(Channel, Vec<SlotUse>)> {
    let text = format!(
        "SELECT channel, CAST(start AS BIGINT) AS start_us, CAST(\"end\" AS BIGINT) AS end_us, value, quality FROM usage_spans
         WHERE usage_point_id = '{}' AND level = 'slot'
           AND CAST(start AS BIGINT) >= {} AND CAST(start AS BIGINT) < {} ORDER BY channel, start_us",
        quoted(&point.id),
        point.zone.start_of_day(from).micros(),
        point.zone.start_of_day(to).micros()
    );
    let found = rows::fetch(session, &text).await?;
    let channel_of = |row: &rows::Row| Channel::by_name(row[0].as_deref()?);
    let channel = found.iter().filter_map(channel_of).min();
    let channel = channel.with_context(|| format!("usage point {} has no use from {from} to {to}", point.id))?;
    let slots = found.iter().filter(|row| channel_of(row) == Some(channel)).filter_map(slot).collect();
    Ok((channel, slots))
}

fn slot(row: &rows::Row) -> Option<SlotUse> {
    let instant = |at: usize| Timestamp::from_micros(row[at].as_ref()?.parse().ok()?).ok();
    Some(SlotUse {
        start: instant(1)?,
        end: instant(2)?,
        value: Amount::parse(row[3].as_ref()?).ok()?,
        actual: Quality::parse(row[4].as_ref()?)?.feeds_history(),
    })
}

fn sheet(point: &UsagePoint, channel: Channel, shape: &Profile, holidays: &BTreeSet<CivilDay>, days: u16) -> Drawn {
    let first = shape.first_day;
    let day_types: Vec<_> = (0..i32::from(days)).map(|at| DayType::of(first.plus_days(at), holidays)).collect();
    let unit = match channel.name().rsplit('_').next() {
        Some("m3") => "m³",
        Some("kvarh") => "kvarh",
        _ => "kWh",
    };
    let subtitle = format!(
        "{} · {} · {first} to {} · {} of {days} days complete",
        channel.name(),
        point.class,
        first.plus_days(i32::from(days) - 1),
        shape.complete_days()
    );
    let title = format!("Usage point {}", point.id);
    let sheet = Sheet { title: &title, subtitle: &subtitle, unit, profile: shape, day_types: &day_types };
    Drawn { usage_point_id: point.id.clone(), lines: terminal::draw(&sheet), svg: svg(&sheet) }
}
