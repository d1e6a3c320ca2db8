//! `test`: golden messages of payload maps, golden vectors of device profiles and cases of checks, the user's own and the shipped
//! ones.
//!
//! A golden file stands beside its map or profile under the same name: `my-meter.toml` and `my-meter.txt`, or
//! `golden/my-meter.txt`. What it says is told in `ingest::decode::golden` for messages and in
//! `ingest::modbus::golden` for registers; which of them it is shows in its lines. The cases of a check stand beside it as
//! `V27_night_use.cases.toml` (`config::check::Cases`).

mod checks;
mod diff;
mod find;
mod messages;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use meterlake_config::Problem;
use meterlake_config::device_profile::DeviceProfile;

use crate::output::{self, Format};
use find::{Found, What};

/// What is tested.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Golden files, cases of checks, maps, profiles or checks with one beside them, or folders; or the id of a check that comes
    /// with the program, such as V20 [default: the present folder]
    #[arg(value_name = "FOLDER|FILE|ID")]
    paths: Vec<PathBuf>,
    /// Test those of the maps, profiles and checks that come with the program, too; without paths only those
    #[arg(long)]
    shipped: bool,
    /// Write what is read now into the files where it differs; look at the change before you keep it
    #[arg(long, visible_alias = "write", conflicts_with = "shipped")]
    accept: bool,
}

/// What became of one file.
struct Tested {
    cases: usize,
    /// What differs, by case, as text for a person.
    differing: Vec<String>,
    /// The file as it would be right, where it can be told.
    accepted: Option<String>,
}

/// Why a file could not be tested.
enum Refused {
    /// What is wrong in it or in its map or profile.
    Problems(Vec<Problem>),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl From<Vec<Problem>> for Refused {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Problems(problems)
    }
}

/// Counts over all files.
#[derive(Default)]
struct Totals {
    files: usize,
    cases: usize,
    differing: usize,
    refused: usize,
    accepted: usize,
}

/// Runs the tests; the exit code is 1 when something differs or cannot be read.
///
/// # Errors
/// When a path is not there or holds nothing to test, or a file cannot be written.
pub async fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut totals = Totals::default();
    let mut lines = Vec::new();
    if args.shipped {
        for (name, text) in meterlake_ingest::decode::golden::shipped() {
            let file = format!("{name} (shipped)");
            totals.take(&file, messages::test(text, &file, None));
        }
        for name in DeviceProfile::shipped_names() {
            let file = format!("{name} (shipped)");
            let profile = DeviceProfile::shipped(name).context("a shipped profile is refused")?;
            totals.take(&file, vectors::test(DeviceProfile::shipped_vector(name).unwrap_or_default(), &file, &profile));
        }
        for (check, text) in checks::of_program(None) {
            let file = format!("{} (shipped)", check.id);
            let tested = checks::test(&check, text, &file, &mut lines).await;
            totals.take(&file, tested);
        }
    }
    // What is no path may be the id of a check.
    let mut paths = Vec::new();
    for path in &args.paths {
        let named = path.to_str().filter(|_| !path.exists()).map(|id| checks::of_program(Some(id))).unwrap_or_default();
        if named.is_empty() {
            paths.push(path.clone());
        }
        for (check, text) in named {
            let file = format!("{} (shipped)", check.id);
            let tested = checks::test(&check, text, &file, &mut lines).await;
            totals.take(&file, tested);
        }
    }
    if args.paths.is_empty() && !args.shipped {
        paths.push(PathBuf::from("."));
    }
    let found = find::find(&paths)?;
    for Found { path, text, what } in &found.files {
        let file = path.display().to_string();
        let tested = match what {
            What::Messages => messages::test(text, &file, Some(path)),
            What::Vectors => vectors::test_file(text, &file, path),
            What::Cases => checks::test_file(text, path, &mut lines).await,
        };
        if let Some(accepted) = totals.take(&file, tested).filter(|_| args.accept) {
            std::fs::write(path, accepted).with_context(|| format!("cannot write {file}"))?;
            println!("{file}: now records what is read");
            totals.accepted += 1;
        }
    }
    for path in &found.untested {
        println!("{}: has no golden file or cases beside it", path.display());
    }
    if !lines.is_empty() {
        output::write_texts(["check", "case", "result"], &lines, Some(Format::Table)).await?;
    }
    if totals.files == 0 {
        let places: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("there is no golden file in {}; --shipped tests those that come with the program", places.join(", "));
    }
    Ok(totals.close())
}

impl Totals {
    /// Tells what became of a file; its right text where it differs.
    fn take(&mut self, file: &str, tested: Result<Tested, Refused>) -> Option<String> {
        self.files += 1;
        match tested {
            Ok(tested) => {
                self.cases += tested.cases;
                self.differing += tested.differing.len();
                tested.differing.iter().for_each(|text| print!("{text}"));
                tested.accepted.filter(|_| !tested.differing.is_empty())
            }
            Err(Refused::Problems(problems)) => {
                self.refused += 1;
                problems.iter().for_each(|problem| println!("{problem}"));
                println!("{file}: cannot be tested");
                None
            }
        }
    }

    fn close(&self) -> ExitCode {
        let right = self.cases - self.differing;
        let mut text = format!("{right} of {} cases in {} files as recorded", self.cases, self.files);
        if self.refused > 0 {
            text += &format!("; {} files cannot be tested", self.refused);
        }
        if self.accepted > 0 {
            text += &format!("; {} files now record what is read", self.accepted);
        }
        println!("{text}");
        let failed = self.refused > 0 || (self.differing > 0 && self.accepted == 0);
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
