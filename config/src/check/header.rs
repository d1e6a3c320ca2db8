//! The header: the comment lines at the top of the file, `-- key: value`.

use meterlake_model::CivilDay;
use meterlake_model::check::{Check, Days, OnFail, Params, Scope, Severity, Source, Value};

use super::GIVEN;
use crate::problem::Problem;
use crate::spelling::near_miss;

const KEYS: [&str; 8] = ["check", "about", "severity", "on_fail", "scope", "param", "valid_from", "valid_to"];
/// The most parameters.
const MOST_PARAMS: usize = 40;

/// Reads the header; what is missing or wrong is noted, and stands as it commonly is. The query keeps its line numbers: the
/// header is in it as comments.
pub(super) fn read(text: &str, file: &str, problems: &mut Vec<Problem>) -> Check {
    let mut check = Check {
        id: String::new(),
        about: String::new(),
        severity: Severity::Issue,
        on_fail: OnFail::Keep,
        scope: Scope::default(),
        params: Params::new(),
        days: Days::default(),
        source: Source::Sql(text.to_owned()),
    };
    let mut given: Vec<&str> = Vec::new();
    let mut note = |line: usize, message: String| problems.push(Problem::at(file, line, message));
    for (line, text) in (1..).zip(text.lines()) {
        let Some(text) = text.strip_prefix("--") else { break };
        if text.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = text.split_once(':').map(|(key, value)| (key.trim(), value.trim())) else {
            note(line, format!("`{}` is no line of a header; `key: value` is wanted", text.trim()));
            continue;
        };
        let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
            let hint = match near_miss(key, &KEYS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", KEYS.join(", ")),
            };
            note(line, format!("unknown key `{key}`; {hint}"));
            continue;
        };
        if known != "param" && given.contains(&known) {
            note(line, format!("`{key}` is given twice"));
        }
        given.push(known);
        if let Err(complaint) = take(&mut check, known, value) {
            note(line, if known == "param" { complaint } else { format!("`{key}` {complaint}") });
        }
    }
    for key in ["check", "about", "severity", "on_fail"] {
        if !given.contains(&key) {
            note(1, format!("`{key}` is missing: the file begins with a header of lines such as `-- {key}: …`"));
        }
    }
    if let (Some(from), Some(to)) = (check.days.from, check.days.to)
        && from >= to
    {
        note(1, format!("`valid_from` {from} must lie before `valid_to` {to}"));
    }
    check
}

fn take(check: &mut Check, key: &str, value: &str) -> Result<(), String> {
    if value.is_empty() && key != "scope" {
        return Err("is empty".to_owned());
    }
    match key {
        "check" => check.id = id(value)?,
        "about" => check.about = value.to_owned(),
        "severity" => {
            let names = Severity::ALL.map(Severity::as_str).join(", ");
            check.severity = Severity::parse(value).ok_or_else(|| format!("is `{value}`; it is one of {names}"))?;
        }
        "on_fail" => check.on_fail = on_fail(value)?,
        "scope" => check.scope = Scope::parse(value)?,
        "param" => {
            let (name, value) = param(value)?;
            if check.params.insert(name.clone(), value).is_some() {
                return Err(format!("parameter `{name}` is given twice"));
            }
            if check.params.len() > MOST_PARAMS {
                return Err(format!("there are more than {MOST_PARAMS} parameters"));
            }
        }
        "valid_from" => check.days.from = Some(day(value)?),
        _ => check.days.to = Some(day(value)?),
    }
    Ok(())
}

/// `V20_high_low`: a letter, two or three digits, and a name.
fn id(text: &str) -> Result<String, String> {
    let wrong =
        || format!("is `{text}`; a letter, two or three digits, `_` and a name is wanted, such as V27_night_use");
    let (number, name) = text.split_once('_').ok_or_else(wrong)?;
    let digits = number.strip_prefix(|c: char| c.is_ascii_uppercase()).ok_or_else(wrong)?;
    let is_number = (2..=3).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit());
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_number && is_name && text.len() <= 64 { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// What can follow from a finding of a query: it sets nothing aside and fills nothing.
pub(crate) fn on_fail(text: &str) -> Result<OnFail, String> {
    match OnFail::parse(text) {
        Some(OnFail::Fill | OnFail::SetAside) => {
            Err(format!("is `{text}`, which a query cannot do: it finds, and never writes a value"))
        }
        Some(policy) => Ok(policy),
        None => {
            let can = OnFail::ALL.into_iter().filter(|p| !matches!(p, OnFail::Fill | OnFail::SetAside));
            let names = can.map(OnFail::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("is `{text}`; it is one of {names}"))
        }
    }
}

/// `days = 28 -- words`.
fn param(text: &str) -> Result<(String, Value), String> {
    let text = text.split_once(" --").map_or(text, |(text, _)| text).trim();
    let wrong = || format!("`param` is `{text}`; a name and a value is wanted, such as `param: days = 28`");
    let (name, value) = text.split_once('=').map(|(name, value)| (name.trim(), value.trim())).ok_or_else(wrong)?;
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_name {
        return Err(wrong());
    }
    if GIVEN.contains(&name) {
        return Err(format!("parameter `{name}` is given to every check and cannot be declared"));
    }
    Ok((name.to_owned(), Value::parse(value).map_err(|complaint| format!("parameter `{name}` {complaint}"))?))
}

fn day(text: &str) -> Result<CivilDay, String> {
    CivilDay::parse(text).map_err(|_| format!("is `{text}`; a day such as 2026-01-01 is wanted"))
}
