//! What a re-decode would do to use and bills: computed from readings as if the new rows were there, point group by point
//! group.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::prelude::{ParquetReadOptions, SessionContext, col, lit};
use meterlake_analytics::book::{Book, Runs, load_book};
use meterlake_analytics::jobs::{BillsAgain, WhatIf, bills_if, hang_together};
use meterlake_analytics::ledger::{Account, Item, ItemKey, Posting, Row, USE};
use meterlake_analytics::{JobOptions, Rules};
use meterlake_model::{Amount, CivilDay, MeterId, UsagePointId, Zone};
use meterlake_store::Lake;
use meterlake_store::schema::readings_name;

use super::decode::sorting;
use super::preview::{Changes, Preview};
use crate::{billing, jobs, progress};

/// Changed rows whose bills are computed at once: what is in memory.
const ROWS: u64 = 400_000;
/// Where bills hang together all changed rows are in memory at once; not more than these.
const MOST_ROWS: u64 = 4_000_000;

/// A row of the ledger that is to be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) key: ItemKey,
    pub(super) unit: String,
    pub(super) row: Row,
}

/// Use of a month and channel by the bills that end in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MonthOfUse {
    pub(super) points: u64,
    pub(super) old: Amount,
    pub(super) new: Amount,
    pub(super) unit: String,
}

/// What follows for use and bills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// By month and channel; points whose use is known neither now nor then are left out.
    pub(super) months: BTreeMap<(String, String), MonthOfUse>,
    pub(super) ledger: Vec<Expected>,
    /// Issued items that would change without it, since the ledger is behind.
    pub(super) waiting: u64,
    /// Meters that serve no usage point.
    pub(super) homeless: u64,
}

/// Computes what follows from a preview.
pub(super) async fn effect(lake: &Lake, rules: &Rules, preview: &Preview) -> anyhow::Result<Effect> {
    let mut effect = Effect::default();
    let Some((first, last)) = preview.span else { return Ok(effect) };
    let registry = lake.read_registry(None).await?;
    if registry.revision == 0 {
        return Ok(effect);
    }
    let mut counts: BTreeMap<&MeterId, u64> = BTreeMap::new();
    for changes in &preview.changes {
        changes.meters.iter().for_each(|(meter, rows)| *counts.entry(meter).or_default() += rows);
    }
    let mut meters_of: BTreeMap<&UsagePointId, BTreeSet<&MeterId>> = BTreeMap::new();
    let mut homes = BTreeSet::new();
    for installation in &registry.installations {
        if counts.contains_key(&installation.meter_id) {
            homes.insert(&installation.meter_id);
            meters_of.entry(&installation.usage_point_id).or_default().insert(&installation.meter_id);
        }
    }
    effect.homeless = (counts.len() - homes.len()) as u64;
    if meters_of.is_empty() {
        return Ok(effect);
    }
    let utc = Zone::utc();
    let from = utc.day_of(first).plus_days(-1).first_of_month();
    // A cycle of several months may begin with the last change, and the next one begins where it ends.
    let to = utc.day_of(last).plus_days(1).first_of_month().plus_months(rules.cycles.longest_months() + 1);
    let options = JobOptions {
        commit_seq: Some(preview.pin),
        today: Some(jobs::today()),
        rules: rules.clone(),
        ..JobOptions::new(from, to)
    };
    let book = load_book(lake, &Runs::From(billing::run_of(from))).await?;
    let files = sorting()?;
    let together = hang_together(rules);
    let total: u64 = counts.values().sum();
    ensure!(
        !together || total <= MOST_ROWS,
        "{total} rows would change, and bills of several usage points hang together (coincident demands, formulas over \
         others): at most {MOST_ROWS} can be previewed at once; narrow the days or name meters"
    );
    let bar = progress::bar(meters_of.len() as u64, "bills computed anew");
    for group in groups(&meters_of, &counts, if together { u64::MAX } else { ROWS }) {
        let meters: BTreeSet<&MeterId> = group.iter().flat_map(|point| &meters_of[point]).copied().collect();
        let mut rows = BTreeMap::new();
        for changes in &preview.changes {
            let found = rows_of(&files, changes, &meters).await?;
            rows.extend(found.map(|batch| (readings_name(changes.commodity).to_owned(), batch)));
        }
        let points = (!together).then(|| group.iter().map(|point| (*point).clone()).collect());
        let was = WhatIf { rows: BTreeMap::new(), points };
        let is = WhatIf { rows, points: was.points.clone() };
        let was = bills_if(lake, &options, was).await?;
        let is = bills_if(lake, &options, is).await?;
        effect.take(&book, &was, &is);
        bar.inc(group.len() as u64);
    }
    bar.finish_and_clear();
    Ok(effect)
}

/// Usage points with about so many changed rows together.
fn groups<'a>(
    meters_of: &BTreeMap<&'a UsagePointId, BTreeSet<&'a MeterId>>,
    counts: &BTreeMap<&MeterId, u64>,
    most: u64,
) -> Vec<Vec<&'a UsagePointId>> {
    let mut groups: Vec<Vec<&UsagePointId>> = Vec::new();
    let mut rows = 0_u64;
    for (point, meters) in meters_of {
        let more: u64 = meters.iter().filter_map(|meter| counts.get(meter)).sum();
        if groups.is_empty() || rows.saturating_add(more) > most {
            groups.push(Vec::new());
            rows = 0;
        }
        rows = rows.saturating_add(more);
        if let Some(group) = groups.last_mut() {
            group.push(point);
        }
    }
    groups
}

/// The changed rows of some meters, in order.
async fn rows_of(
    files: &SessionContext,
    changes: &Changes,
    meters: &BTreeSet<&MeterId>,
) -> anyhow::Result<Option<RecordBatch>> {
    let wanted: Vec<_> =
        meters.iter().filter(|meter| changes.meters.contains_key(**meter)).map(|meter| lit(meter.as_str())).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let rows = files.read_parquet(changes.path.as_str(), ParquetReadOptions::default()).await?;
    let order = ["meter_id", "ts", "revision"].map(|name| col(name).sort(true, false)).to_vec();
    let batches = rows.filter(col("meter_id").in_list(wanted, false))?.sort(order)?.collect().await?;
    let Some(first) = batches.first() else { return Ok(None) };
    Ok(Some(concat_batches(&first.schema(), &batches)?))
}

impl Effect {
    /// Takes in what the bills of some usage points are and would be.
    fn take(&mut self, book: &Book, was: &BillsAgain, is: &BillsAgain) {
        let by_key = |bills: &BillsAgain| -> BTreeMap<ItemKey, Item> {
            bills.items.iter().map(|item| (item.key.clone(), item.clone())).collect()
        };
        let (old, new) = (by_key(was), by_key(is));
        for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(key))) {
            if key.determinant != USE {
                continue;
            }
            let unit = old.get(key).or(new.get(key)).map(|item| item.unit.clone()).unwrap_or_default();
            let month = self.months.entry((month_of(key), key.part.clone())).or_default();
            month.points += 1;
            month.unit = unit;
            let add = |sum: &mut Amount, item: Option<&Item>| {
                *sum = item.and_then(|item| sum.checked_add(item.value)).unwrap_or(*sum);
            };
            add(&mut month.old, old.get(key));
            add(&mut month.new, new.get(key));
        }
        let next = |account: &Account, item: &Item, bills: &BillsAgain| {
            let context = bills.contexts.get(&item.key).cloned().unwrap_or_default();
            account.next_row(&Posting { item, context: &context, run_id: "preview" })
        };
        for item in &is.items {
            let Some(of) = book.accounts.get(&item.key) else { continue };
            let Some(row) = next(&of.account, item, is) else { continue };
            let without = old.get(&item.key).and_then(|item| next(&of.account, item, was));
            self.waiting += u64::from(without.is_some());
            // What changes without it, too, is not its doing.
            if without.is_none_or(|without| without.new != row.new) {
                self.ledger.push(Expected { key: item.key.clone(), unit: of.unit.clone(), row });
            }
        }
    }
}

/// The month in which a cycle ends, as runs are named.
fn month_of(key: &ItemKey) -> String {
    let last: CivilDay = key.end_day.plus_days(-1);
    billing::run_of(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_about_as_many_rows_as_they_may_and_every_point_once() {
        let meters: Vec<MeterId> = (0..6).map(|n| MeterId::new(&format!("m{n}")).unwrap()).collect();
        let points: Vec<UsagePointId> = (0..6).map(|n| UsagePointId::new(&format!("P{n}")).unwrap()).collect();
        let meters_of: BTreeMap<_, _> = points.iter().zip(&meters).map(|(p, m)| (p, BTreeSet::from([m]))).collect();
        let counts: BTreeMap<_, _> = meters.iter().zip([5, 5, 20, 1, 1, 1]).collect();
        let sizes = |most| groups(&meters_of, &counts, most).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(10), [2, 1, 3]);
        assert_eq!(sizes(1), [1; 6]);
        assert_eq!(sizes(u64::MAX), [6]);
    }
}
