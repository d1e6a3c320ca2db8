//! What files for billing systems look like.

use crate::document::Section;

/// The columns that an exported item has, in the order in which they are written by default.
pub const EXPORT_COLUMNS: [&str; 25] = [
    "item",
    "run",
    "list",
    "kind",
    "usage_point_id",
    "customer_id",
    "commodity",
    "determinant",
    "part",
    "unit",
    "first_day",
    "last_day",
    "start",
    "end",
    "value",
    "old",
    "delta",
    "quality",
    "estimated",
    "estimated_share",
    "start_register",
    "start_quality",
    "end_register",
    "end_quality",
    "cause",
];

/// Bytes of a participant's name in NEM12.
const PARTICIPANT_BYTES: usize = 10;

/// `[billing.export]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConfig {
    /// Columns of CSV, each of [`EXPORT_COLUMNS`] at most once.
    pub columns: Vec<String>,
    /// Participant that sends NEM12 files; empty: it is not named.
    pub nem12_from: String,
    /// Participant that receives NEM12 files; empty: it is not named.
    pub nem12_to: String,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self { columns: EXPORT_COLUMNS.map(str::to_owned).to_vec(), nem12_from: String::new(), nem12_to: String::new() }
    }
}

impl ExportConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let columns = section.texts("columns").map(|texts| {
            if texts.is_empty() {
                section.refuse("columns", "is empty: a file without columns says nothing");
            }
            let mut columns: Vec<String> = Vec::new();
            for text in texts {
                let complaint = if !EXPORT_COLUMNS.contains(&text.value.as_str()) {
                    format!("names no column `{}`; there are {}", text.value, EXPORT_COLUMNS.join(", "))
                } else if columns.contains(&text.value) {
                    format!("names `{}` twice", text.value)
                } else {
                    columns.push(text.value);
                    continue;
                };
                section.document().note(text.line, format!("`billing.export.columns` {complaint}"));
            }
            columns
        });
        let mut participant = |key| section.parsed(key, participant).unwrap_or_default();
        Self {
            nem12_from: participant("nem12_from"),
            nem12_to: participant("nem12_to"),
            columns: columns.unwrap_or(default.columns),
        }
    }
}

fn participant(text: &str) -> Result<String, String> {
    if text.len() <= PARTICIPANT_BYTES && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Ok(text.to_owned());
    }
    Err(format!("is `{text}`; at most {PARTICIPANT_BYTES} letters and digits are wanted"))
}
