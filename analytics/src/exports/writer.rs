//! One file, usage point by usage point: what all formats have in common.

use std::io::Write;

use meterlake_model::{CivilDay, Timestamp, Zone};

use super::column::Column;
use super::csv::CsvWriter;
use super::error::ExportError;
use super::espi::EspiWriter;
use super::iec61968::MeterReadingsWriter;
use super::item::{Head, LeftOut, Point};
use super::json::JsonWriter;
use super::nem12::{Nem12Writer, market_span};
use super::parquet::ParquetWriter;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Items, columns by configuration.
    Csv,
    /// Items, all columns, exact types.
    Parquet,
    /// Items, all columns, decimals as texts.
    Json,
    /// Green Button: curves and the use of each cycle as an Atom feed of ESPI.
    Espi,
    /// Curves of electricity by market day, AEMO's MDFF.
    Nem12,
    /// Curves, registers and other items as a message of IEC 61968-9.
    Iec61968,
}

impl Format {
    /// All.
    pub const ALL: [Self; 6] = [Self::Csv, Self::Parquet, Self::Json, Self::Espi, Self::Nem12, Self::Iec61968];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Json => "json",
            Self::Espi => "espi",
            Self::Nem12 => "nem12",
            Self::Iec61968 => "iec61968",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }

    /// What its file names end with.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Csv => ".csv",
            Self::Parquet => ".parquet",
            Self::Json => ".json",
            Self::Espi => ".espi.xml",
            Self::Nem12 => ".nem12.csv",
            Self::Iec61968 => ".iec61968.xml",
        }
    }

    /// The stretch of curve that a cycle takes, where the format carries curves.
    pub fn curve_span(self, zone: &Zone, first_day: CivilDay, end_day: CivilDay) -> Option<(Timestamp, Timestamp)> {
        match self {
            Self::Csv | Self::Parquet | Self::Json => None,
            Self::Espi | Self::Iec61968 => Some((zone.start_of_day(first_day), zone.start_of_day(end_day))),
            Self::Nem12 => Some(market_span(first_day, end_day)),
        }
    }

    /// Begins a file.
    ///
    /// # Errors
    /// When its beginning cannot be written.
    pub fn begin<'a, W: Write + Send + 'a>(
        self,
        head: &'a Head,
        options: &'a ExportOptions,
        out: W,
    ) -> Result<Box<dyn PointWriter<W> + Send + 'a>, ExportError> {
        Ok(match self {
            Self::Csv => Box::new(CsvWriter::begin(head, &options.columns, out)?),
            Self::Parquet => Box::new(ParquetWriter::begin(head, out)?),
            Self::Json => Box::new(JsonWriter::begin(head, out)?),
            Self::Espi => Box::new(EspiWriter::begin(head, out)?),
            Self::Nem12 => Box::new(Nem12Writer::begin(head, options, out)?),
            Self::Iec61968 => Box::new(MeterReadingsWriter::begin(head, out)?),
        })
    }
}

/// What the configuration says of exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// Columns of CSV, in this order.
    pub columns: Vec<Column>,
    /// Participant that sends NEM12 files, at most 10 characters.
    pub nem12_from: String,
    /// Participant that receives NEM12 files, at most 10 characters.
    pub nem12_to: String,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { columns: Column::ALL.to_vec(), nem12_from: String::new(), nem12_to: String::new() }
    }
}

/// Writes one file. Usage points come in order of their ids, each once; memory holds one of them.
pub trait PointWriter<W> {
    /// Writes a usage point, and gives what the format has no place for.
    ///
    /// # Errors
    /// When it cannot be written, or holds a number that the format cannot say.
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError>;

    /// Closes the file.
    ///
    /// # Errors
    /// When its end cannot be written.
    fn finish(self: Box<Self>) -> Result<W, ExportError>;
}
