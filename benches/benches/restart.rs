//! What a collector does when it starts again after it was killed: the journal is opened, its end examined, and what no
//! table holds is read back into memory, ready for the first commit.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use meterlake_benches::arguments::Arguments;
use meterlake_benches::lake::folder;
use meterlake_benches::measure::{Stopwatch, head, line};
use meterlake_benches::sets::Set;
use meterlake_store::journal::{JournalOptions, JournalReader, JournalWriter};
use meterlake_store::{Committer, Lake};

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::of_process()?;
    let set = Set::sm1(arguments.meters as u64, i64::from(arguments.days))?;
    let dir = folder(Path::new(SCRATCH))?;
    let journal = dir.path().join("journal");
    let (mut writer, _) = JournalWriter::open(JournalOptions::new(&journal))?;
    for record in set.records() {
        writer.append(&record?)?;
        writer.sync()?;
    }
    drop(writer);
    let bytes: u64 = std::fs::read_dir(&journal)?.map(|f| Ok(f?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    println!(
        "{}: {} readings, {bytes} bytes of journal, none of them in a table; median of {}\n",
        set.name,
        set.rows(),
        arguments.repeats
    );
    println!("{}", head());
    let (mut opens, mut reads, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut first_ms = f64::MAX;
    for _ in 0..arguments.repeats {
        let watch = Stopwatch::start();
        drop(JournalWriter::open(JournalOptions::new(&journal))?);
        opens.push(watch.read());
        let watch = Stopwatch::start();
        let reader = JournalReader::open(&journal);
        let mut rows = 0;
        for item in reader.read_from(1)? {
            rows += std::hint::black_box(item?.1).reading_count() as u64;
        }
        reads.push(watch.read());
        ensure!(rows == set.rows(), "{rows} of {} readings are in the journal", set.rows());

        let root = folder(dir.path())?;
        let lake = Lake::open(root.path())?;
        Committer::open(&lake).await?;
        let watch = Stopwatch::start();
        let begin = Instant::now();
        let mut committer = Committer::open(&Lake::open(root.path())?).await?;
        first_ms = first_ms.min(begin.elapsed().as_secs_f64() * 1000.0);
        for item in reader.read_from(committer.position() + 1)? {
            let (position, batch) = item?;
            committer.push(position, std::sync::Arc::new(batch));
        }
        whole.push(watch.read());
        ensure!(committer.pending_rows() as u64 == set.rows(), "{} readings wait", committer.pending_rows());
    }
    println!("{}", line("journal opened, its end examined", set.rows(), &opens));
    println!("{}", line("journal read back", set.rows(), &reads));
    println!("{}", line("tables opened, journal read back to the committer", set.rows(), &whole));
    println!("  tables opened in {first_ms:.1} ms at best");
    Ok(())
}
