//! Jobs over a lake on disk, by the rules that they keep: reruns give the same bytes, late readings touch only their
//! partitions, estimates raise nothing, parts add up, what people did stays.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as the tests do")]

mod alerts;
mod billing;
mod causes;
mod checks;
mod completeness;
mod determinants;
mod exports;
mod fills;
mod fixture;
mod incremental;
mod ledger;
mod perth;
mod plan;
mod profiles;
mod rerun;
mod scale;
mod usage;
mod years_later;
