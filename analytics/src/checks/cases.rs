//! Cases of a check: rows that are given, findings that are expected. They run as the check does, over tables in memory.

mod rows;

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use meterlake_model::calendar::Calendars;
use meterlake_model::check::{Catalogue, Check, OnFail, Params};
use meterlake_model::{Amount, CivilDay, Zone};
use meterlake_store::query::{ReadOptions, session_without_lake};

use super::{Found, Month, Place, Subjects, given, run_month};
use crate::tables::read::Rows;
use rows::Given;

/// What a case says.
#[derive(Debug, Clone, Copy)]
pub struct CaseInput<'a> {
    /// The month that is checked, such as `2026-04`.
    pub month: &'a str,
    /// Parameters that are not as the check has them.
    pub params: &'a Params,
    /// CSV by table.
    pub rows: &'a [(String, String)],
    /// CSV of what is expected, by the columns that matter; empty: nothing.
    pub expect: &'a str,
}

/// What became of a case, in the columns that it names: lines in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseOutcome {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What was expected.
    pub expected: Vec<Vec<String>>,
    /// What was found.
    pub found: Vec<Vec<String>>,
}

impl CaseOutcome {
    /// Whether what was found is what was expected.
    pub fn holds(&self) -> bool {
        self.expected == self.found
    }
}

/// Columns of a finding by which a case may tell it.
const COLUMNS: [&str; 11] = [
    "usage_point_id",
    "channel",
    "start",
    "end",
    "severity",
    "on_fail",
    "measured",
    "reference",
    "limit",
    "meter_id",
    "evidence",
];
/// What is compared where nothing is expected.
const COMMON: [&str; 5] = ["usage_point_id", "channel", "start", "end", "evidence"];

/// Runs a case. A check that is off by itself is run nevertheless.
///
/// # Errors
/// What is wrong with the case or the check, in words.
pub async fn run_case(check: &Check, input: &CaseInput<'_>) -> Result<CaseOutcome, String> {
    let month = CivilDay::parse(&format!("{}-01", input.month)).map_err(|e| e.to_string())?;
    let options = ReadOptions { calendars: Arc::new(Calendars::default()), ..ReadOptions::default() };
    let context = session_without_lake(&options).map_err(|e| e.to_string())?;
    let given = Given::read(input.rows, &Month::of(month))?;
    let subjects = subjects(&given).map_err(|e| e.to_string())?;
    put(&context, given)?;
    let mut check = check.clone();
    for (name, value) in input.params {
        let known = check.params.get_mut(name).ok_or_else(|| format!("the check has no parameter `{name}`"))?;
        let kind = known.kind();
        *known = value.clone().like(known).ok_or_else(|| format!("parameter `{name}` is {value}; {kind} is wanted"))?;
    }
    if check.on_fail == OnFail::Off {
        check.on_fail = OnFail::Keep;
    }
    let catalogue = Catalogue { checks: vec![check], settings: Vec::new(), most: None };
    let found = run_month(&context, &catalogue, &subjects, &Month::of(month), None).await.map_err(|e| e.to_string())?;
    if let Some((_, why)) = found.failed.into_iter().next() {
        return Err(why);
    }
    compared(&found.rows, input.expect)
}

fn put(context: &SessionContext, given: Given) -> Result<(), String> {
    for (name, rows) in given.tables {
        given::put(context, &name, rows).map_err(|e| e.to_string())?;
    }
    given::fill(context).map_err(|e| e.to_string())
}

/// The places of the table `points`.
fn subjects(given: &Given) -> Result<Subjects, datafusion::error::DataFusionError> {
    let Some((_, batch)) = given.tables.iter().find(|(name, _)| name == "points") else {
        return Ok(Subjects::default());
    };
    let rows = Rows(batch);
    let (id, commodity, zone) = (rows.text("usage_point_id")?, rows.text("commodity")?, rows.text("zone")?);
    let (customer, node, class) = (rows.text("customer_id")?, rows.text("node_id")?, rows.text("class")?);
    let (active, continuous) = (rows.flag("active")?, rows.flag("continuous_use")?);
    let place = |row: usize| Place {
        commodity: commodity.at(row).to_owned(),
        zone: Zone::parse(zone.at(row)).unwrap_or_else(|_| Zone::utc()),
        customer_id: customer.get(row).map(str::to_owned),
        node_id: node.get(row).map(str::to_owned),
        class: class.at(row).to_owned(),
        active: active.value(row),
        continuous_use: continuous.value(row),
    };
    Ok(Subjects::from_places((0..rows.len()).map(|row| (id.at(row).to_owned(), place(row)))))
}

fn compared(found: &[Found], expect: &str) -> Result<CaseOutcome, String> {
    let mut lines = expect.trim().lines();
    let columns: Vec<String> = match lines.next() {
        Some(head) => head.split(',').map(|name| name.trim().to_owned()).collect(),
        None => COMMON.map(str::to_owned).to_vec(),
    };
    for name in &columns {
        if !COLUMNS.contains(&name.as_str()) {
            return Err(format!("`expect` names `{name}`; a finding has {}", COLUMNS.join(", ")));
        }
    }
    let mut expected = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.len() != columns.len() {
            return Err(format!("`expect` has {} cells in `{line}`, and {} columns", cells.len(), columns.len()));
        }
        expected.push(columns.iter().zip(cells).map(|(name, cell)| written(name, cell)).collect());
    }
    let mut found: Vec<Vec<String>> =
        found.iter().map(|found| columns.iter().map(|name| cell(found, name)).collect()).collect();
    expected.sort();
    found.sort();
    Ok(CaseOutcome { columns, expected, found })
}

fn cell(found: &Found, name: &str) -> String {
    let amount = |amount: Option<Amount>| amount.map_or_else(String::new, |amount| amount.to_string());
    match name {
        "usage_point_id" => found.usage_point_id.clone(),
        "channel" => found.channel.clone(),
        "start" => found.start.to_string(),
        "end" => found.end.to_string(),
        "severity" => found.severity.as_str().to_owned(),
        "on_fail" => found.on_fail.as_str().to_owned(),
        "measured" => amount(found.measured),
        "reference" => amount(found.reference),
        "limit" => amount(found.limit),
        "meter_id" => found.meter_id.clone(),
        _ => found.evidence.clone(),
    }
}

/// A cell as findings write it.
fn written(name: &str, cell: &str) -> String {
    let as_found = match name {
        "measured" | "reference" | "limit" => Amount::parse(cell).ok().map(|amount| amount.to_string()),
        "start" | "end" => meterlake_model::Timestamp::parse_rfc3339(cell).ok().map(|ts| ts.to_string()),
        _ => None,
    };
    as_found.unwrap_or_else(|| cell.to_owned())
}
