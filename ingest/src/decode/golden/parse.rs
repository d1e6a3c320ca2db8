//! Lines of a golden file into cases; every problem at once.

use meterlake_config::Problem;
use meterlake_model::{Commodity, MeterDirectory, MeterEntry, MeterId, RawMessage, Timestamp, Zone};

use super::{Case, Golden, Named, Recorded};

/// When messages arrive unless the file says otherwise.
const RECEIVED: &str = "2026-11-21T12:00:00Z";
/// What stands before the first case.
const HEADER_WORDS: &str = "`map`, `meter`, `received` and `# title`";
/// What stands in a case.
const CASE_WORDS: &str = "`topic`, `retained`, `received`, `payload`, `payload_crlf`, `payload_hex`, rows that begin with `->`, and `# title`";

struct Reader<'t> {
    file: &'t str,
    problems: Vec<Problem>,
    maps: Vec<Named>,
    meters: Vec<(MeterId, MeterEntry)>,
    received_at_s: i64,
    cases: Vec<Case>,
    /// Whether the last message has a `payload` line, which the next one follows after a line feed.
    in_payload: bool,
}

pub(super) fn golden(text: &str, file: &str) -> Result<Golden, Vec<Problem>> {
    let mut reader = Reader {
        file,
        problems: Vec::new(),
        maps: Vec::new(),
        meters: Vec::new(),
        received_at_s: time(RECEIVED).unwrap_or_default(),
        cases: Vec::new(),
        in_payload: false,
    };
    for (line, at) in text.lines().zip(1_usize..) {
        reader.line(line, at);
    }
    let (cases, mut problems) = (reader.cases, reader.problems);
    if cases.is_empty() {
        problems.push(Problem::of_file(file, "has no case: one begins with `# title`, then `topic` and `payload`"));
    }
    for case in cases.iter().filter(|case| case.messages.is_empty()) {
        problems.push(Problem::at(file, case.line, "the case has no `topic`"));
    }
    if problems.is_empty() {
        return Ok(Golden { maps: reader.maps, directory: MeterDirectory::new(reader.meters), cases });
    }
    problems.sort_by_key(|problem| problem.line);
    Err(problems)
}

impl Reader<'_> {
    fn refuse(&mut self, at: usize, message: impl Into<String>) {
        self.problems.push(Problem::at(self.file, at, message));
    }

    fn line(&mut self, line: &str, at: usize) {
        let (word, rest) = line.split_once(' ').unwrap_or((line.trim_end(), ""));
        match word {
            "" if rest.trim().is_empty() => {}
            _ if word.starts_with("//") => {}
            "#" => self.cases.push(Case { title: rest.trim().to_owned(), line: at, messages: Vec::new() }),
            _ if self.cases.is_empty() => self.header(word, rest, at),
            _ => self.of_case(word, rest, at, line),
        }
    }

    fn header(&mut self, word: &str, rest: &str, at: usize) {
        match word {
            "map" => self.maps.push(Named { name: rest.trim().to_owned(), line: at }),
            "meter" => match meter(rest) {
                Ok(meter) => self.meters.push(meter),
                Err(message) => self.refuse(at, message),
            },
            "received" => match time(rest) {
                Ok(time) => self.received_at_s = time,
                Err(message) => self.refuse(at, message),
            },
            _ => self.refuse(at, format!("`{word}` is not known before the first case; there are {HEADER_WORDS}")),
        }
    }

    fn of_case(&mut self, word: &str, rest: &str, at: usize, line: &str) {
        let (received_at_s, in_payload) =
            (self.received_at_s, std::mem::replace(&mut self.in_payload, word == "payload"));
        let Some(case) = self.cases.last_mut() else { return };
        if word == "topic" {
            let message = RawMessage {
                source: "golden".into(),
                topic: rest.trim_end().into(),
                payload: Vec::new(),
                received_at_s,
            };
            case.messages.push(Recorded { message, retained: false, rows_after: at, expected: Vec::new() });
            return;
        }
        let Some(recorded) = case.messages.last_mut() else {
            return self.refuse(at, format!("`{word}` comes before the case's `topic`"));
        };
        if word == "->" {
            recorded.expected.push((at, line.trim_end().to_owned()));
            return;
        }
        if !recorded.expected.is_empty() {
            return self
                .refuse(at, format!("`{word}` comes after the message's rows; the next message begins with `topic`"));
        }
        recorded.rows_after = at;
        let payload = &mut recorded.message.payload;
        match word {
            "retained" => recorded.retained = true,
            "received" => match time(rest) {
                Ok(time) => recorded.message.received_at_s = time,
                Err(message) => self.refuse(at, message),
            },
            "payload" => {
                if in_payload {
                    payload.push(b'\n');
                }
                payload.extend(rest.as_bytes());
            }
            "payload_crlf" => {
                payload.extend(rest.as_bytes());
                payload.extend(b"\r\n");
            }
            "payload_hex" => match bytes(rest) {
                Some(bytes) => payload.extend(bytes),
                None => {
                    self.refuse(at, format!("`payload_hex` is \"{rest}\"; pairs of hexadecimal digits are allowed"));
                }
            },
            _ => self.refuse(at, format!("`{word}` is not known in a case; there are {CASE_WORDS}")),
        }
    }
}

fn time(text: &str) -> Result<i64, String> {
    let text = text.trim();
    Timestamp::parse_rfc3339(text).map(Timestamp::unix_seconds).map_err(|error| format!("`received` is wrong: {error}"))
}

fn meter(text: &str) -> Result<(MeterId, MeterEntry), String> {
    const FORM: &str = "`meter ID COMMODITY ZONE [serial=NUMBER]`";
    let mut words = text.split_whitespace();
    let (Some(id), Some(commodity), Some(zone)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("`meter` is incomplete; its form is {FORM}"));
    };
    let id = MeterId::new(id).map_err(|error| format!("meter \"{id}\" is wrong: {error}"))?;
    let commodity = Commodity::parse(commodity)
        .ok_or_else(|| format!("`{commodity}` is no commodity; electricity and water are allowed"))?;
    let zone = Zone::parse(zone).map_err(|error| format!("zone \"{zone}\" is wrong: {error}"))?;
    let mut entry = MeterEntry::new(commodity, zone);
    for word in words {
        match word.split_once('=') {
            Some(("serial", serial)) => entry.serial = Some(serial.into()),
            _ => return Err(format!("`{word}` is not known of a meter; its form is {FORM}")),
        }
    }
    Ok((id, entry))
}

/// Bytes from hexadecimal digits; blanks between them are for people.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
