//! `billing diff`: two runs item by item, with what the ledger says of each difference.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use clap::Args;
use meterlake_analytics::JobOptions;
use meterlake_analytics::Rules;
use meterlake_analytics::book::{Runs, load_book, pinned_run};
use meterlake_analytics::jobs::bills_again;
use meterlake_analytics::ledger::{Item, ItemKey};
use meterlake_store::Lake;

use crate::output::{Format, write_texts};
use crate::{jobs, progress};

/// What is compared.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The older run, by its name in `job list`
    run_id: String,
    /// The newer run; without it, what is known now
    with: Option<String>,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
}

pub(super) async fn run(lake: &Lake, rules: &Rules, args: &DiffArgs) -> anyhow::Result<()> {
    let old = pinned_run(lake, &args.run_id).await?;
    if let Some(why) = old.differs(rules) {
        bail!(why);
    }
    let spinner = progress::spinner("both runs, from readings");
    let was = old.again(lake, rules).await?;
    let is = match &args.with {
        Some(run_id) => {
            let new = pinned_run(lake, run_id).await?;
            if let Some(why) = new.differs(rules) {
                bail!(why);
            }
            new.again(lake, rules).await?
        }
        None => {
            let today = Some(jobs::today());
            bills_again(lake, &JobOptions { today, rules: rules.clone(), ..JobOptions::new(old.from, old.to) }).await?
        }
    };
    spinner.finish_and_clear();
    let book = load_book(lake, &Runs::From(super::run_of(old.from))).await?;
    let by_key = |items: &[Item]| -> BTreeMap<ItemKey, Item> {
        items.iter().map(|item| (item.key.clone(), item.clone())).collect()
    };
    let (was, is) = (by_key(&was.items), by_key(&is.items));
    let keys: BTreeSet<&ItemKey> = was.keys().chain(is.keys()).collect();
    let mut rows = Vec::new();
    for key in keys {
        let (a, b) = (was.get(key), is.get(key));
        if a.map(|i| i.value) == b.map(|i| i.value) {
            continue;
        }
        let text = |item: Option<&Item>| item.map(|i| i.value.to_string()).unwrap_or_default();
        let delta = a.zip(b).and_then(|(a, b)| b.value.checked_sub(a.value));
        let posted = book.accounts.get(key).map(|of| of.account.rows()).unwrap_or_default();
        let causes: Vec<String> =
            posted.iter().filter(|r| r.seq > 0).map(|r| format!("{} {} {}", r.seq, r.cause, r.delta)).collect();
        let ledger = if posted.is_empty() { "not issued".to_owned() } else { causes.join("; ") };
        rows.push([
            key.usage_point_id.clone(),
            key.determinant.clone(),
            key.part.clone(),
            key.first_day.to_string(),
            key.end_day.plus_days(-1).to_string(),
            text(a),
            text(b),
            delta.map(|d| d.to_string()).unwrap_or_default(),
            a.or(b).map(|i| i.unit.clone()).unwrap_or_default(),
            ledger,
        ]);
    }
    eprintln!("{} items, {} differ", was.len().max(is.len()), rows.len());
    let headings =
        ["usage_point_id", "determinant", "part", "first_day", "last_day", "old", "new", "delta", "unit", "ledger"];
    write_texts(headings, &rows, args.format).await
}
