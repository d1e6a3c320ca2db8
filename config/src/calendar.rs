//! Tariff calendars as people write them: `[calendar.NAME]`, and files of holidays.
//!
//! A calendar is refused with all that is wrong with it: unknown buckets and holidays, rules of one priority that overlap,
//! stretches without a bucket, years that its holidays do not cover. What buckets are used for is not known here.

mod holidays;
mod read;
#[cfg(test)]
mod tests;

pub use holidays::Holidays;
pub(crate) use read::{calendars, point_ids};
