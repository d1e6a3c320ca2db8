//! Files that appear whole or not at all, once, and are never overwritten.
//!
//! A file is written under another name, synced, given its own name by a hard link, which fails where the name is taken, and the
//! folder is synced. The manifest comes last: where it is, the export is complete. Writing the same again finds the same
//! bytes and changes nothing; other bytes under the same name are refused.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meterlake_store::durable::DiskSync;
use sha2::{Digest, Sha256};

use super::error::ExportError;
use super::item::{Head, Point};
use super::manifest::{Held, Manifest, Sums};
use super::writer::{ExportOptions, Format, PointWriter};
use crate::alerts::hex;

/// Where an export is written.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder; it is made where it is missing, its parent is not.
    pub path: PathBuf,
    /// How files come to disk.
    pub sync: Arc<dyn DiskSync>,
}

/// A file with its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// The manifest beside it.
    pub manifest_path: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// Whether both were there already, with the same bytes.
    pub was_there: bool,
}

/// An export that is being written.
pub struct Exporter<'a> {
    folder: &'a Folder,
    head: &'a Head,
    format: Format,
    writer: Box<dyn PointWriter<Staged> + Send + 'a>,
    sums: Sums,
}

impl<'a> Exporter<'a> {
    /// Begins the file.
    ///
    /// # Errors
    /// When it cannot be made in the folder.
    pub fn begin(
        folder: &'a Folder,
        head: &'a Head,
        format: Format,
        options: &'a ExportOptions,
    ) -> Result<Self, ExportError> {
        match std::fs::create_dir(&folder.path) {
            Ok(()) => sync_folder(folder, folder.path.parent())?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(&folder.path, "created")(e)),
        }
        let staged = Staged::new(folder, &format!("{}{}", head.name(), format.ending()))?;
        let writer = format.begin(head, options, staged)?;
        Ok(Self { folder, head, format, writer, sums: Sums::default() })
    }

    /// Writes a usage point; they come in order of their ids, each once.
    ///
    /// # Errors
    /// When it cannot be written, or holds a number that the format cannot say.
    pub fn point(&mut self, point: &Point) -> Result<(), ExportError> {
        let left_out = self.writer.point(point)?;
        self.sums.add(point, left_out);
        Ok(())
    }

    /// Gives the file its name, and then the manifest.
    ///
    /// # Errors
    /// When the disk fails, or other bytes are there under one of the names.
    pub fn finish(self, held: Vec<Held>) -> Result<Exported, ExportError> {
        let staged = self.writer.finish()?;
        let (name, bytes) = (staged.name.clone(), staged.bytes);
        let (path, sha256, file_was_there) = staged.publish()?;
        let manifest = self.sums.manifest(self.head, self.format, (name.clone(), bytes, sha256), held);
        let mut staged = Staged::new(self.folder, &format!("{name}.manifest.json"))?;
        serde_json::to_writer_pretty(&mut staged, &manifest).map_err(io::Error::from)?;
        staged.write_all(b"\n")?;
        let (manifest_path, _, manifest_was_there) = staged.publish()?;
        Ok(Exported { path, manifest_path, manifest, was_there: file_was_there && manifest_was_there })
    }
}

/// A file under another name, with the sum of what was written so far. Dropped, it is gone.
struct Staged {
    out: BufWriter<File>,
    sum: Sha256,
    bytes: u64,
    name: String,
    staging: PathBuf,
    folder: Folder,
}

impl Staged {
    fn new(folder: &Folder, name: &str) -> Result<Self, ExportError> {
        let mut number = 1_u32;
        loop {
            let staging = folder.path.join(format!(".{name}.part-{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&staging) {
                Ok(file) => {
                    return Ok(Self {
                        out: BufWriter::new(file),
                        sum: Sha256::new(),
                        bytes: 0,
                        name: name.to_owned(),
                        staging,
                        folder: folder.clone(),
                    });
                }
                // Of a run that died, or of another that is at it: both are left alone.
                Err(e) if e.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(e) => return Err(failed(&staging, "created")(e)),
            }
        }
    }

    /// Gives the file its name, its sum, and whether it was there already.
    fn publish(mut self) -> Result<(PathBuf, String, bool), ExportError> {
        self.out.flush().map_err(failed(&self.staging, "written"))?;
        self.folder.sync.file(self.out.get_ref()).map_err(failed(&self.staging, "synced"))?;
        let here = hex(&self.sum.clone().finalize());
        let path = self.folder.path.join(&self.name);
        let was_there = match std::fs::hard_link(&self.staging, &path) {
            Ok(()) => false,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let there = sum_of(&path).map_err(failed(&path, "read"))?;
                if there != here {
                    return Err(ExportError::Differs { path, there, here });
                }
                true
            }
            Err(e) => return Err(failed(&path, "created")(e)),
        };
        // Also where it was there: who wrote it may have died before its name was durable.
        sync_folder(&self.folder, Some(&self.folder.path))?;
        Ok((path, here, was_there))
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What stays of it is hidden and harms nobody.
        let _ = std::fs::remove_file(&self.staging);
    }
}

fn sum_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sum.finalize())),
            n => sum.update(&buffer[..n]),
        }
    }
}

fn sync_folder(folder: &Folder, path: Option<&Path>) -> Result<(), ExportError> {
    // The parent of a plain name is the empty path.
    let path = path.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.sync.directory(path).map_err(failed(path, "synced"))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> ExportError + use<> {
    let path = path.to_owned();
    move |source| ExportError::File { path, what, source }
}
