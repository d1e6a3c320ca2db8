//! Lines of cells: each line is an object of texts, in a list.

use meterlake_config::payload_map::CsvFormat;
use meterlake_model::DeadReason;

use super::document::{Builder, Document, Place, shortened};
use super::{LIMITS, Refusal};

/// Reads the lines. A cell that is empty is absent.
pub(super) fn parse(payload: &[u8], format: &CsvFormat) -> Result<Document<'static>, Refusal> {
    let text = std::str::from_utf8(payload).map_err(|error| {
        Refusal::new(DeadReason::Syntax, format!("the payload is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    for _ in 0..format.skip_lines {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let mut builder = Builder::new(LIMITS);
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(format.delimiter).comment(format.comment).has_headers(false).flexible(true);
    match format.quote {
        Some(quote) => reader.quote(quote),
        None => reader.quoting(false),
    };
    let mut reader = reader.from_reader(rest.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut names: Vec<Place> = format.columns.iter().map(|name| builder.place(name)).collect();
    let mut header = format.header;
    builder.list()?;
    let mut line = 0_u64;
    while read(&mut reader, &mut record)? {
        if header {
            header = false;
            if names.is_empty() {
                names.extend(record.iter().map(|name| builder.place(name.trim())));
                refuse_twins(&record)?;
            }
            continue;
        }
        line += 1;
        row(&mut builder, &names, &record, line)?;
    }
    builder.end()?;
    builder.finish()
}

fn read(reader: &mut csv::Reader<&[u8]>, record: &mut csv::StringRecord) -> Result<bool, Refusal> {
    reader
        .read_record(record)
        .map_err(|error| Refusal::new(DeadReason::Syntax, format!("the payload's lines cannot be read: {error}")))
}

fn row(builder: &mut Builder, names: &[Place], record: &csv::StringRecord, line: u64) -> Result<(), Refusal> {
    if record.len() != names.len() {
        let detail = format!("line {line} of values has {} cells, {} are wanted", record.len(), names.len());
        return Err(Refusal::new(DeadReason::Syntax, detail));
    }
    builder.object()?;
    for (name, cell) in names.iter().zip(record) {
        builder.key_at(*name)?;
        match cell.trim() {
            "" => builder.null()?,
            cell => builder.text(cell)?,
        }
    }
    builder.end()
}

/// Nobody knows which of two columns of one name is meant.
fn refuse_twins(header: &csv::StringRecord) -> Result<(), Refusal> {
    let mut names: Vec<&str> = header.iter().map(str::trim).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1] && !pair[0].is_empty()) {
        None => Ok(()),
        Some(pair) => {
            let detail = format!("the first line names `{}` twice", shortened(pair[0]));
            Err(Refusal::new(DeadReason::Syntax, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::document::{Kind, Value};
    use proptest::prelude::*;

    fn format() -> CsvFormat {
        CsvFormat { delimiter: b';', comment: Some(b'#'), ..CsvFormat::default() }
    }

    fn told(payload: &[u8], format: &CsvFormat) -> Result<String, (DeadReason, String)> {
        let document = parse(payload, format).map_err(|refusal| (refusal.reason, refusal.detail))?;
        let member = |(key, value): (Value<'_>, Value<'_>)| match value.kind() {
            Kind::Null => format!("{}-", key.raw()),
            _ => format!("{}={}", key.raw(), value.raw()),
        };
        let line = |item: Value<'_>| item.members().map(member).collect::<Vec<_>>().join(" ");
        Ok(document.root().items().map(line).collect::<Vec<_>>().join("/"))
    }

    #[test]
    fn lines_become_objects_of_texts() {
        for (text, expected) in [
            ("a;b\n1;2\n3;4\n", "a=1 b=2/a=3 b=4"),
            ("a;b\r\n1; 2 \r\n", "a=1 b=2"),
            ("\u{feff}a;b\n1;", "a=1 b-"),
            ("# who\na;b\n#1;2\n1;2", "a=1 b=2"),
            ("a;b\n\"x;y\";\"say \"\"so\"\"\"", "a=x;y b=say \"so\""),
            ("a\n\n1\n\n2\n", "a=1/a=2"),
            ("a;b", ""),
            ("", ""),
        ] {
            assert_eq!(told(text.as_bytes(), &format()).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn cells_are_named_by_the_map_where_it_says_so() {
        let named =
            |header, skip_lines| CsvFormat { header, skip_lines, columns: vec!["t".into(), "v".into()], ..format() };
        assert_eq!(told(b"1;2", &named(false, 0)).as_deref(), Ok("t=1 v=2"));
        assert_eq!(told(b"x;y\n1;2", &named(true, 0)).as_deref(), Ok("t=1 v=2"));
        assert_eq!(told(b"Export of today\n\nx;y\n1;2", &named(true, 2)).as_deref(), Ok("t=1 v=2"));
        assert_eq!(told(b"only", &named(false, 5)).as_deref(), Ok(""));
    }

    #[test]
    fn lines_of_another_length_and_double_names_are_refused() {
        for (payload, detail) in [
            (&b"a;b\n1;2;3"[..], "line 1 of values has 3 cells, 2 are wanted"),
            (b"a;b\n1;2\n3", "line 2 of values has 1 cells, 2 are wanted"),
            (b"a;a\n1;2", "the first line names `a` twice"),
            (b"a;b\n1;\xff", "the payload is not UTF-8 at byte 6"),
        ] {
            let (reason, found) = told(payload, &format()).unwrap_err();
            assert_eq!((reason, &*found), (DeadReason::Syntax, detail));
        }
        let long = format!("a\n{}", "1\n".repeat(LIMITS.values));
        assert_eq!(told(long.as_bytes(), &format()).unwrap_err().0, DeadReason::TooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), quoted: bool, header: bool) {
            let quote = quoted.then_some(b'"');
            let columns = if header { Vec::new() } else { vec!["a".to_owned()] };
            let _ = parse(&bytes, &CsvFormat { quote, header, columns, ..format() });
        }
    }
}
