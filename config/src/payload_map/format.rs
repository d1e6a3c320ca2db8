//! What the bytes of a message are, before a map's paths mean anything.

use crate::document::Section;

/// How a payload is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// One bare value, such as `230.1`: it stands at `value`.
    Text,
    /// Lines of cells: each line is an object of texts.
    Csv(CsvFormat),
    /// Frames of `meterlake.v1`, the published schema.
    Protobuf,
    /// Eclipse Sparkplug B.
    SparkplugB,
    /// Records of RFC 8428 in JSON, with base fields and relative times resolved.
    Senml,
    /// Telegrams of the P1 port of Dutch, Belgian, Luxembourgish and Swedish meters.
    DsmrP1(DsmrFormat),
}

impl Format {
    /// Whether numbers are texts there, so that a field need not say so.
    pub fn has_texts_only(&self) -> bool {
        matches!(self, Self::Text | Self::Csv(_))
    }
}

/// How telegrams are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DsmrFormat {
    /// A telegram without a checksum is refused; one that is there must fit in any case.
    pub checksum: bool,
}

/// How lines of cells are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    /// Between cells.
    pub delimiter: u8,
    /// Around cells that hold a delimiter; a doubled one stands for itself. `None`: cells are never quoted.
    pub quote: Option<u8>,
    /// Lines that begin so say nothing.
    pub comment: Option<u8>,
    /// Lines before the first that counts.
    pub skip_lines: u16,
    /// Whether the first line names the cells.
    pub header: bool,
    /// The names of the cells, in order. Empty: those of the first line.
    pub columns: Vec<String>,
    /// Numbers are written with a decimal comma.
    pub decimal_comma: bool,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            skip_lines: 0,
            header: true,
            columns: Vec::new(),
            decimal_comma: false,
        }
    }
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// By its first bytes: gzip, Zstandard, or not at all.
    Auto,
}

/// Reads `format`, `compression`, `[csv]` and `[dsmr]`.
pub(super) fn read(root: &mut Section<'_>) -> (Option<Format>, Compression) {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Json,
        Text,
        Csv,
        Protobuf,
        SparkplugB,
        Senml,
        DsmrP1,
    }
    const KINDS: &[(&str, Kind)] = &[
        ("json", Kind::Json),
        ("text", Kind::Text),
        ("csv", Kind::Csv),
        ("protobuf", Kind::Protobuf),
        ("sparkplug_b", Kind::SparkplugB),
        ("senml", Kind::Senml),
        ("dsmr_p1", Kind::DsmrP1),
    ];
    const COMPRESSIONS: &[(&str, Compression)] = &[
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("auto", Compression::Auto),
    ];
    let kind = root.choice("format", KINDS);
    let kind = root.required("format", kind);
    let compression = root.choice("compression", COMPRESSIONS).unwrap_or_default();
    let csv = csv(root);
    if root.has("csv") && kind.is_some_and(|kind| kind != Kind::Csv) {
        root.refuse("csv", "has a meaning only with `format = \"csv\"`");
    }
    let dsmr = dsmr(root);
    if root.has("dsmr") && kind.is_some_and(|kind| kind != Kind::DsmrP1) {
        root.refuse("dsmr", "has a meaning only with `format = \"dsmr_p1\"`");
    }
    let format = kind.map(|kind| match kind {
        Kind::Json => Format::Json,
        Kind::Text => Format::Text,
        Kind::Csv => Format::Csv(csv),
        Kind::Protobuf => Format::Protobuf,
        Kind::SparkplugB => Format::SparkplugB,
        Kind::Senml => Format::Senml,
        Kind::DsmrP1 => Format::DsmrP1(dsmr),
    });
    (format, compression)
}

fn csv(root: &mut Section<'_>) -> CsvFormat {
    let default = CsvFormat::default();
    let mut section = root.section("csv");
    let delimiter = section.parsed("delimiter", one_byte).unwrap_or(default.delimiter);
    let quote = section.parsed("quote", |text| if text == "none" { Ok(None) } else { one_byte(text).map(Some) });
    let comment = section.parsed("comment", one_byte);
    let skip_lines = section.integer("skip_lines", 0..=1_000_u16).unwrap_or(0);
    let header = section.boolean("header").unwrap_or(default.header);
    let columns: Vec<_> = section.texts("columns").unwrap_or_default().into_iter().map(|name| name.value).collect();
    let decimal = section.choice("decimal", &[("point", false), ("comma", true)]);
    if !header && columns.is_empty() {
        section.refuse("columns", "is missing: without a header nothing names the cells");
    }
    for (at, name) in columns.iter().enumerate() {
        if columns[..at].contains(name) {
            section.refuse("columns", format_args!("names \"{name}\" twice"));
        }
    }
    let decimal_comma = decimal.unwrap_or(default.decimal_comma);
    if decimal_comma && delimiter == b',' {
        section.refuse("delimiter", "is `,`, and so is the decimal sign");
    }
    CsvFormat { delimiter, quote: quote.unwrap_or(default.quote), comment, skip_lines, header, columns, decimal_comma }
}

fn dsmr(root: &mut Section<'_>) -> DsmrFormat {
    let mut section = root.section("dsmr");
    DsmrFormat { checksum: section.boolean("checksum").unwrap_or(true) }
}

fn one_byte(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if *byte == b'\t' || (b' '..=b'~').contains(byte) => Ok(*byte),
        _ => Err(format!("is \"{text}\"; one ASCII character is wanted")),
    }
}
