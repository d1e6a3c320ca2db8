//! `billing explain`: everything that a bill's numbers rest on, from the readings up.

use anyhow::bail;
use clap::Args;
use meterlake_analytics::Rules;
use meterlake_analytics::book::{BillLine, Book, What};
use meterlake_analytics::runs::Gate;
use meterlake_model::registry::Installation;
use meterlake_model::{Channel, ChannelKind, CivilDay, Timestamp, Zone};
use meterlake_store::Lake;
use meterlake_store::query::ReadOptions;
use meterlake_store::schema::readings_name;

use crate::output::{Format, write_texts};
use crate::{jobs, rows};

/// Which bill is explained.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The usage point
    point: String,
    /// The month in which the cycle ends, such as 2026-03
    #[arg(long, value_parser = super::month)]
    month: CivilDay,
    /// Every reading of the cycle, and not only those around its start and end and around gaps
    #[arg(long)]
    readings: bool,
    /// The day for which is asked [default: today]
    #[arg(long, value_name = "DAY", value_parser = jobs::day)]
    on: Option<CivilDay>,
    /// Form of the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

/// What, channel, from, to, value, quality, and in words.
type Line = [String; 7];

const HEADINGS: [&str; 7] = ["what", "channel", "from", "to", "value", "quality", "detail"];

/// Readings so far around a start, an end or a gap are shown.
const NEAR_S: i64 = 6 * 3600;

pub(super) async fn run(lake: &Lake, rules: &Rules, args: &ExplainArgs) -> anyhow::Result<()> {
    let today = args.on.unwrap_or_else(jobs::today);
    let (book, bills) = super::show::lines(lake, &rules.gates, args.month, today).await?;
    let Some(bill) = bills.into_iter().find(|b| b.usage_point_id == args.point) else {
        bail!("run {} has no bill of usage point {}", super::run_of(args.month), args.point);
    };
    let registry = lake.read_registry(None).await?;
    let Some(point) = registry.usage_points.get(args.point.as_str()) else {
        bail!("the registry has no usage point {}", args.point);
    };
    let installations: Vec<&Installation> =
        registry.installations.iter().filter(|i| i.usage_point_id.as_str() == args.point).collect();
    let period = (point.zone.start_of_day(bill.cycle.first_day), point.zone.start_of_day(bill.cycle.end_day));
    let mut lines = of_bill(&bill);
    lines.extend(of_rules(rules));
    lines.extend(of_registry(&installations, period));
    let (derived, gaps) = derived(lake, &args.point, period).await?;
    lines.extend(derived);
    let mut near: Vec<(Timestamp, Timestamp)> = vec![(period.0, period.0), (period.1, period.1)];
    near.extend(gaps.iter().flat_map(|(from, to)| [(*from, *from), (*to, *to)]));
    if args.readings {
        near = vec![period];
    }
    lines.extend(readings(lake, &installations, &near).await?);
    lines.extend(of_book(&book, &bill, rules, &point.zone));
    write_texts(HEADINGS, &lines, args.format).await
}

fn line(cells: [&str; 7]) -> Line {
    cells.map(str::to_owned)
}

fn of_bill(bill: &BillLine) -> Vec<Line> {
    let (first, last) = (bill.cycle.first_day.to_string(), bill.cycle.end_day.plus_days(-1).to_string());
    let mut lines = vec![line(["bill", "", &first, &last, "", bill.state.as_str(), &bill.state.reasons().join("; ")])];
    let (word, unmet) = match &bill.gate {
        Gate::Open { despite } => ("open", despite),
        Gate::Wait(unmet) => ("wait", unmet),
        Gate::Hold(unmet) => ("hold", unmet),
    };
    let why: Vec<String> = unmet.iter().map(|u| format!("{}: {}", u.code, u.detail)).collect();
    lines.push(line(["gate", "", &first, &last, "", word, &why.join("; ")]));
    for (item, _) in &bill.items {
        let value = format!("{} {}", item.value, item.unit);
        let estimated = format!("{} of it estimated", item.estimated);
        lines.push(line([
            &item.key.determinant,
            &item.key.part,
            &first,
            &last,
            &value,
            item.quality.as_str(),
            &estimated,
        ]));
    }
    lines.extend(bill.remarks.iter().map(|r| line(["remark", "", "", "", "", "", r])));
    lines
}

/// The rules that it went by.
fn of_rules(rules: &Rules) -> Vec<Line> {
    let texts = [
        ("gates", format!("{:?}", rules.gates)),
        ("billing", format!("{:?}", rules.billing)),
        ("usage", format!("{:?}", rules.usage)),
        ("all rules", rules.hash()),
    ];
    texts.iter().map(|(name, text)| line(["rule", "", "", "", "", name, text])).collect()
}

fn of_registry(installations: &[&Installation], (start, end): (Timestamp, Timestamp)) -> Vec<Line> {
    let shown = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let mut lines = Vec::new();
    for installation in installations {
        let (from, to) = (installation.installed_at, installation.removed_at);
        if from.is_some_and(|at| at >= end) || to.is_some_and(|at| at <= start) {
            continue;
        }
        for channel in installation.channels.iter().filter(|c| c.channel.kind() != ChannelKind::Physical) {
            let register = |r: Option<meterlake_model::Amount>| r.map_or_else(|| "-".to_owned(), |r| r.to_string());
            let detail = format!(
                "meter {}, multiplier {} millionths, digits {:?}, resolution {}, every {} s, from register {} to {}",
                installation.meter_id,
                channel.multiplier_micros,
                channel.digits,
                channel.resolution,
                channel.interval_s,
                register(channel.start_register),
                register(channel.end_register)
            );
            let name = channel.channel.name();
            lines.push(line(["installation", name, &shown(from), &shown(to), "", "", &detail]));
        }
    }
    lines
}

/// Days and findings of the cycle, and its gaps.
async fn derived(
    lake: &Lake,
    point: &str,
    (start, end): (Timestamp, Timestamp),
) -> anyhow::Result<(Vec<Line>, Vec<(Timestamp, Timestamp)>)> {
    let session = lake.session(ReadOptions::default()).await?;
    let id = point.replace('\'', "''");
    let text = format!(
        "SELECT channel, CAST(start AS BIGINT) AS start_us, CAST(\"end\" AS BIGINT) AS end_us, value, quality, method, estimated,
           start_register, start_register_quality, end_register, end_register_quality, meter_id
         FROM usage_days WHERE usage_point_id = '{id}'
           AND CAST(\"end\" AS BIGINT) > {} AND CAST(start AS BIGINT) < {} ORDER BY channel, start_us",
        start.micros(),
        end.micros()
    );
    let cell = |cell: &Option<String>| cell.clone().unwrap_or_default();
    let instant = |cell: &Option<String>| cell.as_ref()?.parse().ok().and_then(|us| Timestamp::from_micros(us).ok());
    let shown = |at: &Option<String>| instant(at).map(|at| at.to_string()).unwrap_or_default();
    let mut lines = Vec::new();
    for row in rows::fetch(&session, &text).await? {
        let detail = format!(
            "meter {}: register {} ({}) to {} ({}), {} estimated{}",
            cell(&row[11]),
            cell(&row[7]),
            cell(&row[8]),
            cell(&row[9]),
            cell(&row[10]),
            cell(&row[6]),
            row[5].as_ref().map(|m| format!(", {m}")).unwrap_or_default()
        );
        lines.push([
            "day".to_owned(),
            cell(&row[0]),
            shown(&row[1]),
            shown(&row[2]),
            cell(&row[3]),
            cell(&row[4]),
            detail,
        ]);
    }
    let text = format!(
        "SELECT channel, CAST(start AS BIGINT) AS start_us, CAST(\"end\" AS BIGINT) AS end_us, rule, severity, evidence FROM findings
         WHERE usage_point_id = '{id}' AND CAST(\"end\" AS BIGINT) >= {} AND CAST(start AS BIGINT) < {}
         ORDER BY channel, start_us, rule",
        start.micros(),
        end.micros()
    );
    let mut gaps = Vec::new();
    for row in rows::fetch(&session, &text).await? {
        if row[3].as_deref() == Some("V09")
            && let Some(gap) = instant(&row[1]).zip(instant(&row[2]))
        {
            gaps.push(gap);
        }
        lines.push([
            "finding".to_owned(),
            cell(&row[0]),
            shown(&row[1]),
            shown(&row[2]),
            cell(&row[3]),
            cell(&row[4]),
            cell(&row[5]),
        ]);
    }
    Ok((lines, gaps))
}

/// Readings around some times.
async fn readings(
    lake: &Lake,
    installations: &[&Installation],
    near: &[(Timestamp, Timestamp)],
) -> anyhow::Result<Vec<Line>> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let mut channels: Vec<Channel> = installations.iter().flat_map(|i| i.channels.iter().map(|c| c.channel)).collect();
    channels.retain(|c| c.kind() != ChannelKind::Physical);
    channels.sort_unstable();
    channels.dedup();
    let meters: Vec<String> =
        installations.iter().map(|i| format!("'{}'", i.meter_id.as_str().replace('\'', "''"))).collect();
    let times: Vec<String> = near
        .iter()
        .map(|(from, to)| {
            let (from, to) = (from.plus_seconds(-NEAR_S).micros(), to.plus_seconds(NEAR_S).micros());
            format!("CAST(ts AS BIGINT) BETWEEN {from} AND {to}")
        })
        .collect();
    let mut lines = Vec::new();
    for channel in channels {
        let table = readings_name(channel.commodity());
        if !session.versions.contains_key(table) || meters.is_empty() {
            continue;
        }
        let name = channel.name();
        let text = format!(
            "SELECT CAST(ts AS BIGINT) AS ts_us, {name}, revision, received_at, source, profile, flags, commit_seq, meter_id
             FROM {table} WHERE meter_id IN ({}) AND {name} IS NOT NULL AND ({})
             ORDER BY ts_us, meter_id, revision LIMIT 20000",
            meters.join(", "),
            times.join(" OR ")
        );
        for row in rows::fetch(&session.context, &text).await? {
            let cell = |at: usize| row[at].clone().unwrap_or_default();
            let ts = cell(0).parse().ok().and_then(|us| Timestamp::from_micros(us).ok());
            let detail = format!(
                "meter {}, revision {}, received {}, source {}, profile {}, flags {}, commit {}",
                cell(8),
                cell(2),
                cell(3),
                cell(4),
                cell(5),
                cell(6),
                cell(7)
            );
            let at = ts.map(|ts| ts.to_string()).unwrap_or_default();
            lines.push(["reading".to_owned(), name.to_owned(), at.clone(), at, cell(1), String::new(), detail]);
        }
    }
    Ok(lines)
}

/// Edits, ledger rows and what people did.
fn of_book(book: &Book, bill: &BillLine, rules: &Rules, zone: &Zone) -> Vec<Line> {
    let mut lines = Vec::new();
    let day = |ts: Timestamp| zone.day_of(ts).to_string();
    for edit in book
        .edits
        .all()
        .filter(|e| e.target.touches(&bill.usage_point_id, e.target.channel, bill.cycle.first_day, bill.cycle.end_day))
    {
        let approved =
            edit.approved.as_ref().map_or_else(String::new, |(by, at)| format!(", approved by {by} {}", day(*at)));
        let detail =
            format!("edit {} by {} {}{approved}: {}", edit.id, edit.proposed.0, day(edit.proposed.1), edit.reason);
        let (from, to) = (edit.target.first_day.to_string(), edit.target.end_day.plus_days(-1).to_string());
        let (channel, value) = (edit.target.channel.name(), edit.value.to_string());
        lines.push(line(["edit", channel, &from, &to, &value, edit.state(), &detail]));
    }
    for (key, of) in book.accounts_of(&bill.usage_point_id).filter(|(key, _)| key.first_day == bill.cycle.first_day) {
        for (row, notice) in of.account.rows().iter().zip(book.notices(key, &rules.notices)) {
            let detail = format!(
                "{} {}: {} {}, run {}, notice {}",
                key.determinant,
                row.seq,
                row.cause,
                row.delta,
                row.run_id,
                notice.as_str()
            );
            let value = row.new.to_string();
            lines.push(line(["ledger", &key.part, "", "", &value, row.quality.as_str(), &detail]));
        }
    }
    let mine = |what: &What| match what {
        What::Bill { scope, .. } => {
            scope.run == bill.run && scope.usage_point_id.as_ref().is_none_or(|p| *p == bill.usage_point_id)
        }
        _ => false,
    };
    for event in book.events.iter().filter(|e| mine(&e.what)) {
        let What::Bill { step, .. } = &event.what else { continue };
        let at = event.at.to_string();
        lines.push(line(["event", "", &at, &at, "", step.as_str(), &format!("by {}: {step:?}", event.by)]));
    }
    lines
}
