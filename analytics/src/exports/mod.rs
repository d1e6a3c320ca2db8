//! Exports for billing systems: items of bills and the curves behind them, in the formats that such systems read.
//!
//! Pure writers over plain values ([`Point`]): no tables, no clock, no floats. Files are written once and whole, each with a
//! manifest ([`Exporter`]). Every item has one id ([`Item::id`]) in all formats, by which it is answered.
//!
//! Left out: NEM13 and other accumulation formats, gas, prices.

mod bills;
mod codes;
mod column;
mod csv;
mod error;
mod espi;
mod iec61968;
mod item;
mod json;
mod manifest;
mod nem12;
mod parquet;
mod publish;
#[cfg(test)]
mod tests;
mod writer;
mod xml;

pub use bills::{BillsError, BillsWanted, export_bills};
pub use codes::unit_name;
pub use column::Column;
pub use error::ExportError;
pub use item::{Curve, END_READ, Head, Item, Kind, LeftOut, Pins, Point, Read, START_READ, Slot};
pub use manifest::{FileSum, Held, LeftOutTotal, Manifest, Total};
pub use publish::{Exported, Exporter, Folder};
pub use writer::{ExportOptions, Format, PointWriter};
