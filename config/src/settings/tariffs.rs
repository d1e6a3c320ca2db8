//! Calendars and determinants: those of the configuration itself, and those of the files that it names.

use meterlake_model::calendar::Calendars;
use meterlake_model::determinant::Determinant;

use super::Surroundings;
use crate::calendar::calendars;
use crate::determinant::determinants;
use crate::document::{At, Document, Section};

/// Reads all. Files come behind the configuration, in the order in which they are named.
pub(super) fn read(
    root: &mut Section<'_>,
    files: Vec<At<String>>,
    around: &Surroundings<'_>,
) -> (Calendars, Vec<Determinant>) {
    let (mut known, mut wanted) = (Calendars::new(), Vec::new());
    calendars(root, around, &mut known);
    determinants(root, &known, &mut wanted);
    for file in files {
        let path = around.path(&file.value);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let complaint = format!("`billing.tariff_files`: {} cannot be read: {error}", path.display());
                root.document().note(file.line, complaint);
                continue;
            }
        };
        let name = path.display().to_string();
        let (doc, table) = Document::parse(&name, &text);
        {
            let mut root = Section::root(&doc, &table);
            calendars(&mut root, around, &mut known);
            determinants(&mut root, &known, &mut wanted);
        }
        root.document().note_all(doc.into_problems());
    }
    (known, wanted)
}
