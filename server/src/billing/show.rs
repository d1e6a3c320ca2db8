//! What is shown of bills: where each stands, the lists that went out, the ledger.

use anyhow::bail;
use clap::Args;
use meterlake_analytics::book::{BillLine, Book, ItemKind, ListedItem, Runs, bill_lines, load_book};
use meterlake_analytics::ledger::{Item, Materiality};
use meterlake_analytics::runs::{BillState, Gate, GateRules};
use meterlake_model::CivilDay;
use meterlake_store::Lake;

use super::{month, run_of};
use crate::jobs;
use crate::output::{Format, write_texts};

/// Which bills are shown, and how.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, value_parser = month)]
    pub(super) month: CivilDay,
    /// Only this usage point
    #[arg(long, value_name = "USAGE_POINT")]
    pub(super) point: Option<String>,
    /// Only bills in this state: waiting, ready, held, issued, acked, rejected, cancelled
    #[arg(long)]
    pub(super) state: Option<String>,
    /// The day for which is asked [default: today]
    #[arg(long, value_name = "DAY", value_parser = jobs::day)]
    pub(super) on: Option<CivilDay>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    pub(super) format: Option<Format>,
}

/// Which lists are shown.
#[derive(Debug, Args)]
pub struct ListsArgs {
    /// What this list says; without it, all lists
    pub(super) number: Option<i64>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    pub(super) format: Option<Format>,
}

/// Which part of the ledger is shown.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// The month in which the cycles end, such as 2026-03
    #[arg(long, value_parser = month)]
    pub(super) month: Option<CivilDay>,
    /// Only this usage point
    #[arg(long, value_name = "USAGE_POINT")]
    pub(super) point: Option<String>,
    /// What was issued, too, and not only what changed
    #[arg(long)]
    pub(super) all: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    pub(super) format: Option<Format>,
}

pub(super) async fn lines(
    lake: &Lake,
    rules: &GateRules,
    month: CivilDay,
    today: CivilDay,
) -> anyhow::Result<(Book, Vec<BillLine>)> {
    let book = load_book(lake, &Runs::Only(run_of(month))).await?;
    let lines = bill_lines(lake, &book, &run_of(month), rules, today).await?;
    Ok((book, lines))
}

pub(super) async fn status(lake: &Lake, rules: &GateRules, args: &StatusArgs) -> anyhow::Result<()> {
    let (_, mut bills) = lines(lake, rules, args.month, args.on.unwrap_or_else(jobs::today)).await?;
    bills.retain(|b| {
        args.point.as_ref().is_none_or(|p| *p == b.usage_point_id)
            && args.state.as_ref().is_none_or(|s| s == b.state.as_str())
    });
    let headings = ["usage_point_id", "customer_id", "first_day", "last_day", "state", "use", "why", "remarks"];
    let rows: Vec<_> = bills.iter().map(cells).collect();
    write_texts(headings, &rows, args.format).await
}

fn cells(line: &BillLine) -> [String; 8] {
    let used = line.items.iter().filter(|(item, _)| item.key.determinant == meterlake_analytics::ledger::USE);
    let used: Vec<String> = used.map(|(item, _)| format!("{} {}", item.value, item.unit)).collect();
    let mut why = line.state.reasons();
    if let (BillState::Ready, Gate::Open { despite }) = (&line.state, &line.gate) {
        why.extend(despite.iter().map(|u| format!("in spite of: {}", u.detail)));
    }
    [
        line.usage_point_id.clone(),
        line.customer_id.clone().unwrap_or_default(),
        line.cycle.first_day.to_string(),
        line.cycle.end_day.plus_days(-1).to_string(),
        match &line.state {
            BillState::Issued(n) | BillState::Acked(n) | BillState::Rejected(n) => {
                format!("{} in list {n}", line.state.as_str())
            }
            state => state.as_str().to_owned(),
        },
        used.join(", "),
        why.join("; "),
        line.remarks.join("; "),
    ]
}

pub(super) async fn show(items: &[Item], format: Option<Format>) -> anyhow::Result<()> {
    let headings =
        ["usage_point_id", "determinant", "part", "first_day", "last_day", "value", "unit", "quality", "estimated"];
    let row = |item: &Item| {
        [
            item.key.usage_point_id.clone(),
            item.key.determinant.clone(),
            item.key.part.clone(),
            item.key.first_day.to_string(),
            item.key.end_day.plus_days(-1).to_string(),
            item.value.to_string(),
            item.unit.clone(),
            item.quality.to_string(),
            item.estimated.to_string(),
        ]
    };
    write_texts(headings, &items.iter().map(row).collect::<Vec<_>>(), format).await
}

pub(super) async fn show_items(items: &[&ListedItem], format: Option<Format>) -> anyhow::Result<()> {
    let headings = [
        "number",
        "kind",
        "usage_point_id",
        "determinant",
        "part",
        "first_day",
        "last_day",
        "old",
        "value",
        "delta",
        "unit",
        "quality",
        "cause",
    ];
    let row = |item: &&ListedItem| {
        [
            item.number.to_string(),
            item.kind.as_str().to_owned(),
            item.key.usage_point_id.clone(),
            item.key.determinant.clone(),
            item.key.part.clone(),
            item.key.first_day.to_string(),
            item.key.end_day.plus_days(-1).to_string(),
            item.old.map(|old| old.to_string()).unwrap_or_default(),
            item.value.to_string(),
            item.delta.to_string(),
            item.unit.clone(),
            item.quality.to_string(),
            item.cause.clone(),
        ]
    };
    write_texts(headings, &items.iter().map(row).collect::<Vec<_>>(), format).await
}

pub(super) async fn lists(lake: &Lake, args: &ListsArgs) -> anyhow::Result<()> {
    if let Some(number) = args.number {
        let events = load_book(lake, &Runs::None).await?;
        let Some(run) = events.run_of_list(number) else { bail!("there is no list {number}") };
        let book = load_book(lake, &Runs::Only(run.to_owned())).await?;
        let items: Vec<&ListedItem> = book.listed.iter().filter(|l| l.number == number).collect();
        return show_items(&items, args.format).await;
    }
    let book = load_book(lake, &Runs::All).await?;
    let headings = ["number", "run", "issued_at", "by", "bills", "corrections", "acked", "rejected"];
    let mut rows = Vec::new();
    for list in book.lists() {
        rows.push([
            list.number.to_string(),
            list.run.clone(),
            list.at.map(|at| at.to_string()).unwrap_or_default(),
            list.by.clone(),
            list.count(ItemKind::Bill).to_string(),
            list.count(ItemKind::Correction).to_string(),
            list.acked.to_string(),
            list.rejected.to_string(),
        ]);
    }
    write_texts(headings, &rows, args.format).await
}

pub(super) async fn ledger(lake: &Lake, notices: &Materiality, args: &LedgerArgs) -> anyhow::Result<()> {
    let runs = args.month.map_or(Runs::All, |month| Runs::Only(run_of(month)));
    let book = load_book(lake, &runs).await?;
    let headings = [
        "usage_point_id",
        "determinant",
        "part",
        "first_day",
        "last_day",
        "seq",
        "cause",
        "old",
        "new",
        "delta",
        "unit",
        "quality",
        "notice",
        "run_id",
    ];
    let run = args.month.map(run_of);
    let mut rows = Vec::new();
    for (key, of) in &book.accounts {
        let wanted =
            run.as_ref().is_none_or(|r| *r == of.run) && args.point.as_ref().is_none_or(|p| *p == key.usage_point_id);
        if !wanted {
            continue;
        }
        let told = book.notices(key, notices);
        for (row, notice) in of.account.rows().iter().zip(told).filter(|(row, _)| args.all || row.seq > 0) {
            rows.push([
                key.usage_point_id.clone(),
                key.determinant.clone(),
                key.part.clone(),
                key.first_day.to_string(),
                key.end_day.plus_days(-1).to_string(),
                row.seq.to_string(),
                row.cause.to_string(),
                row.old.map(|old| old.to_string()).unwrap_or_default(),
                row.new.to_string(),
                row.delta.to_string(),
                of.unit.clone(),
                row.quality.to_string(),
                notice.as_str().to_owned(),
                row.run_id.clone(),
            ]);
        }
    }
    write_texts(headings, &rows, args.format).await
}
