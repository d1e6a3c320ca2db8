//! The best candidates as a profile file, and what was read as its golden vector.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::guess::Candidate;
use meterlake_ingest::modbus::{Image, golden, plan};
use meterlake_model::{Channel, Commodity, Timestamp};

/// The golden vector beside a profile.
fn vector_of(profile: &Path) -> PathBuf {
    profile.with_extension("txt")
}

/// # Errors
/// When one of the files is there and may not be replaced: said before the device is asked.
pub(super) fn must_be_free(file: &Path, force: bool) -> anyhow::Result<()> {
    for file in [file, &vector_of(file)] {
        ensure!(
            force || !file.exists(),
            "{} is there already: name another, or replace it with --force",
            file.display()
        );
    }
    Ok(())
}

/// Below this little speaks for a candidate that nobody asked for.
const ENOUGH: u32 = 50;

/// The best candidate of each column whose registers no better one has; with `expected` only of those.
///
/// # Errors
/// When an expected column has none, or nothing is left.
pub(super) fn choose<'c>(candidates: &'c [Candidate], expected: &[Channel]) -> anyhow::Result<Vec<&'c Candidate>> {
    let mut chosen: Vec<&Candidate> = Vec::new();
    let wanted = |candidate: &&Candidate| match expected {
        [] => candidate.score >= ENOUGH,
        _ => expected.contains(&candidate.field.channel),
    };
    let mut best: Vec<&Candidate> = candidates.iter().filter(wanted).collect();
    best.sort_by_key(|candidate| std::cmp::Reverse(candidate.score));
    for candidate in best {
        let commodity = candidate.field.channel.commodity();
        let free = chosen.iter().all(|other| {
            let apart = other.field.registers().all(|a| {
                candidate.field.registers().all(|b| a.function != b.function || !a.range().overlaps(b.range()))
            });
            other.field.channel != candidate.field.channel && other.field.channel.commodity() == commodity && apart
        });
        if free {
            chosen.push(candidate);
        }
    }
    let missing: Vec<_> =
        expected.iter().filter(|channel| !chosen.iter().any(|c| c.field.channel == **channel)).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|channel| channel.name()).collect();
        bail!(
            "no register looks like {}: nothing is written; a larger --tolerance or other --registers may help",
            names.join(", ")
        );
    }
    ensure!(!chosen.is_empty(), "no candidate to write: say more with --expect and --registers");
    chosen.sort_by_key(|candidate| candidate.field.channel);
    Ok(chosen)
}

/// Writes both files, once the program itself has read them.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(
    file: &Path,
    chosen: &[&Candidate],
    image: &Image,
    source: &str,
    max_registers: u16,
) -> anyhow::Result<()> {
    let text = profile_text(file, chosen, source, max_registers);
    let name = file.display().to_string();
    let profile = DeviceProfile::parse(&text, &name).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the candidates do not make a profile:\n{}", problems.join("\n"))
    })?;
    // Only what the profile asks for: the vector is to be read by people.
    let mut own = Image::new();
    plan(&profile).into_iter().for_each(|request| own.add(&image.block_or_zero(request)));
    let title = format!("as read from {source} on {}", today());
    let vector = golden::record(&profile, &title, &own).map_err(anyhow::Error::msg)?;
    for (path, text) in [(file.to_owned(), &text), (vector_of(file), &vector)] {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn today() -> String {
    Timestamp::now().to_string().split('T').next().unwrap_or_default().to_owned()
}

fn profile_text(file: &Path, chosen: &[&Candidate], source: &str, max_registers: u16) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let commodity = chosen.first().map_or(Commodity::Electricity, |candidate| candidate.field.channel.commodity());
    let source = format!("meterlake modbus doctor, {source}, {}; not yet compared with the maker's document", today());
    let mut text = format!(
        "# Guessed from registers: compare every line with the maker's document.\n\nname = {}\nversion = 1\n\
         maker = \"unknown\"\nmodel = \"unknown\"\nsource = {}\ncommodity = \"{commodity}\"\n\n[read]\n\
         max_registers = {max_registers}\n",
        quoted(&name_of(file)),
        quoted(&source),
    );
    for candidate in chosen {
        let why: Vec<_> = candidate.reasons.iter().map(|reason| reason.replace(['\n', '\r'], " ")).collect();
        text += &format!("\n# {}: {}\n{}\n", candidate.value, why.join("; "), candidate.toml.trim());
    }
    text
}

/// The file's name as a profile may have it.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_' { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    if name.is_empty() { "my-meter".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_makes_a_name_that_a_profile_may_have() {
        for (file, name) in [("my-meter.toml", "my-meter"), ("Zähler 7.toml", "z-hler-7"), (".toml", "-toml")] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }
}
