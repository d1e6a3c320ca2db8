//! The query under the header, as far as it can be told without a table: which parameters it asks for.

use std::collections::BTreeSet;

use meterlake_model::check::Params;

use super::GIVEN;
use crate::problem::Problem;
use crate::spelling::near_miss;

/// Every parameter that is asked for is declared, and every declared one asked for.
pub(super) fn check(sql: &str, params: &Params, file: &str, problems: &mut Vec<Problem>) {
    let scan = scan(sql);
    if !scan.has_words {
        problems.push(Problem::of_file(file, "has no query under its header"));
        return;
    }
    let known: Vec<&str> = params.keys().map(String::as_str).chain(GIVEN).collect();
    let mut used = BTreeSet::new();
    for (name, line) in &scan.asked {
        if !known.contains(&name.as_str()) && used.insert(name.as_str()) {
            let hint = match near_miss(name, &known) {
                Some(near) => format!("did you mean `${near}`?"),
                None => format!("declare it with `-- param: {name} = …`"),
            };
            problems.push(Problem::at(
                file,
                *line,
                format!("asks for `${name}`, which no line of the header gives; {hint}"),
            ));
        }
        used.insert(name);
    }
    for name in params.keys().filter(|name| !used.contains(name.as_str())) {
        problems.push(Problem::of_file(
            file,
            format!("parameter `{name}` is declared, and the query does not ask for `${name}`"),
        ));
    }
}

struct Scan {
    /// Parameters, each with the line it stands on.
    asked: Vec<(String, usize)>,
    has_words: bool,
}

/// Finds `$name` outside texts, quoted names and comments.
fn scan(sql: &str) -> Scan {
    let mut found = Scan { asked: Vec::new(), has_words: false };
    let (mut rest, mut line) = (sql, 1);
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '\'' | '"' => {
                found.has_words = true;
                rest[1..].find(letter).map_or(rest.len(), |end| end + 2)
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '$' => {
                let name: String = rest[1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let length = 1 + name.len();
                found.asked.push((name, line));
                length
            }
            letter => {
                found.has_words |= letter.is_alphabetic();
                letter.len_utf8()
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}
