//! The text of a vector, line by line.

use meterlake_config::Problem;
use meterlake_config::device_profile::Function;
use meterlake_model::{Channel, DeadReason, EventKind};

use super::super::identity::Nameplate;
use super::super::image::Image;
use super::{Case, Said};

/// Registers that one file may hold.
const MOST_WORDS: usize = 65_536;

pub(super) fn cases(text: &str, file: &str) -> Result<Vec<Case>, Vec<Problem>> {
    let mut cases: Vec<Case> = Vec::new();
    let mut problems = Vec::new();
    let mut words_left = MOST_WORDS;
    for (line, text) in (1_usize..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with("//") {
            continue;
        }
        if let Some(title) = text.strip_prefix("# ") {
            cases.push(Case {
                title: title.trim().to_owned(),
                line,
                serial: None,
                image: Image::new(),
                expected: Said::default(),
            });
            continue;
        }
        let read = match cases.last_mut() {
            Some(case) => line_of(case, text, &mut words_left),
            None => Err("stands before the first title, such as `# 230 V, importing`".to_owned()),
        };
        if let Err(message) = read {
            problems.push(Problem::at(file, line, message));
        }
    }
    if cases.is_empty() && problems.is_empty() {
        problems.push(Problem::of_file(file, "has no case; each begins with a title, such as `# 230 V, importing`"));
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn line_of(case: &mut Case, text: &str, words_left: &mut usize) -> Result<(), String> {
    if let Some(expected) = text.strip_prefix("->") {
        return said(&mut case.expected, expected.trim());
    }
    if let Some(serial) = text.strip_prefix("serial ") {
        case.serial = Some(serial.trim().to_owned());
        return Ok(());
    }
    let (place, words) = text.split_once(':').ok_or_else(|| {
        format!("`{text}` is no line of a case: registers such as `3/0x0000: 1234`, `serial …` or `-> …`")
    })?;
    let (function, address) = place.split_once('/').ok_or("registers begin as in `3/0x0000:`")?;
    let function = function.trim().parse().ok().and_then(Function::from_code);
    let function = function.ok_or("the function code is 3 or 4")?;
    let address = number(address.trim()).ok_or_else(|| format!("`{address}` is no address from 0 to 65535"))?;
    let words = words_of(words, words_left)?;
    if usize::from(address) + words.len() > usize::from(u16::MAX) + 1 {
        return Err("the registers go beyond the last address".to_owned());
    }
    case.image.set(function, address, &words);
    Ok(())
}

/// Decimal, or with `0x`.
fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn words_of(text: &str, left: &mut usize) -> Result<Vec<u16>, String> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        let (word, times) = part.split_once('*').unwrap_or((part, "1"));
        let word = u16::from_str_radix(word, 16).ok().filter(|_| word.len() == 4);
        let word = word.ok_or_else(|| format!("`{part}` is no word of four hexadecimal digits"))?;
        let times: usize = times.parse().map_err(|_| format!("`{part}` is no word that is repeated"))?;
        *left = left.checked_sub(times).ok_or_else(|| format!("there are more than {MOST_WORDS} registers"))?;
        words.resize(words.len() + times, word);
    }
    if words.is_empty() { Err("there are no words".to_owned()) } else { Ok(words) }
}

fn said(expected: &mut Said, text: &str) -> Result<(), String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "event" => {
            let kind = EventKind::parse(rest.trim()).ok_or_else(|| format!("there is no event `{rest}`"))?;
            expected.events.push(kind);
        }
        "dead" => {
            let (reason, part) = rest.split_once(' ').unwrap_or((rest, ""));
            let reason = DeadReason::parse(reason).ok_or_else(|| format!("there is no reason `{reason}`"))?;
            expected.dead.push((reason, part.trim().to_owned()));
        }
        "identity" => {
            let (model, serial) = rest.rsplit_once(' ').ok_or("model and serial number are wanted, `-` for none")?;
            let given = |text: &str| Some(text.trim().to_owned()).filter(|text| text != "-");
            expected.identity = Some(Nameplate { model: given(model), serial: given(serial) });
        }
        _ => {
            for pair in text.split_whitespace() {
                let (channel, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is no COLUMN=VALUE"))?;
                let channel = Channel::by_name(channel).ok_or_else(|| format!("there is no column `{channel}`"))?;
                expected.values.push((channel, value.to_owned()));
            }
        }
    }
    Ok(())
}
