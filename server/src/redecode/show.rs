//! How previews and what became of them are shown.

use std::io::IsTerminal;

use clap::ValueEnum;
use meterlake_model::{Amount, Channel};

use super::effect::Effect;
use super::kept::Kept;
use super::preview::Preview;
use super::tally::{Step, Tally, ratio};
use crate::output::{Format, write_texts};

/// A list of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// By meter and channel: what is equal, changed, new and gone.
    Readings,
    /// By month and channel: use before and after.
    Usage,
    /// Of issued bills: the ledger rows to be expected.
    Bills,
}

/// Shows a preview: lists on standard output, counts and its name on standard error.
pub(super) async fn show(
    preview: &Preview,
    effect: &Effect,
    wanted: &[Show],
    format: Option<Format>,
) -> anyhow::Result<()> {
    let all = [Show::Readings, Show::Usage, Show::Bills];
    let default = if std::io::stdout().is_terminal() { &all[..] } else { &all[..1] };
    for list in if wanted.is_empty() { default } else { wanted } {
        match list {
            Show::Readings => readings(preview, format).await?,
            Show::Usage => usage(effect, format).await?,
            Show::Bills => bills(effect, format).await?,
        }
    }
    let counts = preview.counts;
    eprintln!(
        "{} of {} messages decoded again, {} of them are refused now",
        counts.selected, counts.messages, counts.refused
    );
    let notes = [
        (counts.unborn, "messages lean on an earlier one that is not there: what they said is left alone"),
        (preview.unexplained, "readings of these days have no message that was kept: they are left alone"),
        (effect.homeless, "meters with changes serve no usage point"),
        (effect.waiting, "corrections of issued bills wait without it, too: run the jobs first to see them apart"),
    ];
    for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
        eprintln!("{count} {note}");
    }
    let Tally { equal, changed, new, gone, .. } = preview.tallies.total();
    eprintln!("{equal} values equal, {changed} changed, {new} new, {gone} no longer decoded");
    let delta = Amount::sum(effect.ledger.iter().map(|expected| expected.row.delta));
    match (preview.span, effect.ledger.len()) {
        (None, _) => eprintln!("nothing is to be written"),
        (Some(_), 0) => eprintln!("no issued bill changes; preview {}", preview.id),
        (Some(_), rows) => {
            let delta = delta.map(|d| d.to_string()).unwrap_or_default();
            eprintln!("{rows} numbers of issued bills change by {delta} in all; preview {}", preview.id);
        }
    }
    Ok(())
}

async fn readings(preview: &Preview, format: Option<Format>) -> anyhow::Result<()> {
    let headings = [
        "meter_id",
        "channel",
        "equal",
        "changed",
        "new",
        "gone",
        "first_at",
        "first_old",
        "first_new",
        "last_at",
        "last_old",
        "last_new",
        "ratio",
    ];
    let row = |((meter, channel), tally): (&(meterlake_model::MeterId, Channel), &Tally)| {
        let step = |step: Option<Step>| match step {
            Some(Step { ts, old, new }) => [ts.to_string(), shown(*channel, old), shown(*channel, new)],
            None => [String::new(), String::new(), String::new()],
        };
        let [first_at, first_old, first_new] = step(tally.steps.map(|(first, _)| first));
        let [last_at, last_old, last_new] = step(tally.steps.map(|(_, last)| last));
        let ratios = tally.steps.map(|(first, last)| (ratio(&first), ratio(&last)));
        let ratio = match ratios {
            Some((Some(first), Some(last))) if first != last => format!("{first} to {last}"),
            Some((first, last)) => last.or(first).unwrap_or_default(),
            None => String::new(),
        };
        [
            meter.to_string(),
            channel.name().to_owned(),
            tally.equal.to_string(),
            tally.changed.to_string(),
            tally.new.to_string(),
            tally.gone.to_string(),
            first_at,
            first_old,
            first_new,
            last_at,
            last_old,
            last_new,
            ratio,
        ]
    };
    let differing = preview.tallies.0.iter().filter(|(_, tally)| tally.differs());
    write_texts(headings, &differing.map(row).collect::<Vec<_>>(), format).await
}

/// A value in the unit of its column, exact.
fn shown(channel: Channel, value: i64) -> String {
    let scale = usize::from(channel.scale());
    if scale == 0 {
        return value.to_string();
    }
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{part}", if value < 0 { "-" } else { "" })
}

async fn usage(effect: &Effect, format: Option<Format>) -> anyhow::Result<()> {
    let headings = ["month", "channel", "usage_points", "old", "new", "delta", "unit"];
    let row = |((month, channel), of): (&(String, String), &super::effect::MonthOfUse)| {
        [
            month.clone(),
            channel.clone(),
            of.points.to_string(),
            of.old.to_string(),
            of.new.to_string(),
            of.new.checked_sub(of.old).map(|d| d.to_string()).unwrap_or_default(),
            of.unit.clone(),
        ]
    };
    write_texts(headings, &effect.months.iter().map(row).collect::<Vec<_>>(), format).await
}

async fn bills(effect: &Effect, format: Option<Format>) -> anyhow::Result<()> {
    let headings =
        ["usage_point_id", "determinant", "part", "first_day", "last_day", "old", "new", "delta", "unit", "quality"];
    let row = |expected: &super::effect::Expected| {
        [
            expected.key.usage_point_id.clone(),
            expected.key.determinant.clone(),
            expected.key.part.clone(),
            expected.key.first_day.to_string(),
            expected.key.end_day.plus_days(-1).to_string(),
            expected.row.old.map(|old| old.to_string()).unwrap_or_default(),
            expected.row.new.to_string(),
            expected.row.delta.to_string(),
            expected.unit.clone(),
            expected.row.quality.to_string(),
        ]
    };
    write_texts(headings, &effect.ledger.iter().map(row).collect::<Vec<_>>(), format).await
}

/// Lists what was done.
pub(super) async fn list(steps: &[Kept], format: Option<Format>) -> anyhow::Result<()> {
    let row = |kept: &Kept| {
        [
            kept.id.clone(),
            kept.step.as_str().to_owned(),
            kept.at.to_string(),
            kept.by.clone(),
            kept.reason.clone(),
            kept.selection.to_json(),
            kept.rows.to_string(),
        ]
    };
    let headings = ["preview", "step", "at", "person", "reason", "selection", "rows"];
    write_texts(headings, &steps.iter().map(row).collect::<Vec<_>>(), format).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_all_their_decimals() {
        let energy = Channel::by_name("energy_import_kwh").unwrap();
        for (value, text) in [(0, "0.000"), (7, "0.007"), (12_345, "12.345"), (-50, "-0.050")] {
            assert_eq!(shown(energy, value), text);
        }
    }
}
