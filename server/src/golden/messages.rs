//! Golden messages against their maps.

use std::path::Path;

use meterlake_config::Problem;
use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::golden::{Golden, Named};

use super::{Refused, Tested, diff, find};

/// Tests one file. `path` is where other files are looked for; a shipped one has none.
pub(super) fn test(text: &str, file: &str, path: Option<&Path>) -> Result<Tested, Refused> {
    let golden = Golden::parse(text, file)?;
    let maps = maps(&golden, file, path)?;
    let rows = golden.run(&maps);
    let mut differing = Vec::new();
    for (case, rows) in golden.cases.iter().zip(&rows) {
        for (recorded, rows) in case.messages.iter().zip(rows).filter(|(recorded, rows)| !recorded.is(rows)) {
            let line = recorded.rows_after;
            let topic = &recorded.message.topic;
            let diff = diff::diff(&recorded.expected, rows);
            differing.push(format!("{file}:{line}: \"{}\" differs ({topic}):\n{diff}", case.title));
        }
    }
    // One case is one failure, however many of its messages differ.
    let cases = golden.cases.iter().map(|case| case.messages.len()).sum();
    Ok(Tested { cases, differing, accepted: Some(golden.accept(text, &rows)) })
}

/// The maps that the file names, or the one of its own name.
fn maps(golden: &Golden, file: &str, path: Option<&Path>) -> Result<Vec<PayloadMap>, Refused> {
    if golden.maps.is_empty() {
        let Some(owner) = path.and_then(find::owner) else {
            let message = "names no map: add a line such as `map my-map.toml` before the first case, or put the map beside \
                           it under the same name";
            return Err(Problem::of_file(file, message).into());
        };
        return Ok(vec![read(&owner)?]);
    }
    let mut maps = Vec::new();
    let mut problems = Vec::new();
    for named in &golden.maps {
        match map(named, file, path) {
            Ok(map) => maps.push(map),
            Err(Refused::Problems(more)) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(maps) } else { Err(problems.into()) }
}

fn map(named: &Named, file: &str, path: Option<&Path>) -> Result<PayloadMap, Refused> {
    let name = &named.name;
    if name.ends_with(".toml") {
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        return read(&folder.join(name));
    }
    PayloadMap::shipped(name).ok_or_else(|| {
        let names: Vec<_> = PayloadMap::shipped_names().collect();
        let message =
            format!("no map `{name}` comes with the program; there are {}, and files .toml", names.join(", "));
        Problem::at(file, named.line, message).into()
    })
}

fn read(path: &Path) -> Result<PayloadMap, Refused> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::of_file(name.clone(), format!("cannot be read: {error}")))?;
    Ok(PayloadMap::parse(&text, &name)?)
}
