//! Small files in the journal's folder that are replaced whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Writes a file, whole or not at all, so that it outlasts a loss of power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut fresh = OsString::from(path);
    fresh.push(".tmp");
    let fresh = Path::new(&fresh);
    let written = File::create(fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_data()
    });
    written.with_context(|| format!("cannot write {}", fresh.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let replaced = fs::rename(fresh, path).and_then(|()| File::open(folder)?.sync_all());
    replaced.with_context(|| format!("cannot replace {}", path.display()))
}
