//! Questions to a closed month, ours and DuckDB's answers over the same files, in turns in one run.
//!
//! Both keep footers between questions; neither opens its session in the time. Ours is measured twice: planned from a text
//! whose like was never asked, as DuckDB plans, and asked again, when the session takes the plan of an earlier question of that
//! shape.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meterlake_benches::arguments::Arguments;
use meterlake_benches::input::{Input, SEED};
use meterlake_benches::lake::{Door, commit, compact, files, folder, readings_table, with_registry};
use meterlake_benches::measure::{Timing, median};
use meterlake_benches::peer::Peer;

/// On the disk of the build.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::of_process()?;
    let input = Input::make(arguments)?;
    let dir = folder(Path::new(SCRATCH))?;
    let lake = with_registry(dir.path(), &input).await?;
    commit(&lake, &input).await?;
    compact(&lake, &input).await?;
    let files = files(&lake, readings_table()).await?;
    let cores = std::thread::available_parallelism()?.get();
    let door = Door::open(&lake).await?;
    println!(
        "{} meters, {} days, {} readings in {} files of a closed month; seed {SEED}, median of {} in turns, {cores} cores",
        arguments.meters,
        arguments.days,
        input.readings,
        files.len(),
        arguments.repeats
    );
    let mut peer = Peer::if_there(cores, &files);
    let name = peer.as_ref().map_or("", |p| p.name.as_str());
    println!(
        "\n{:<44} {:>9} {:>9} {:>9} {:>9} {:>14} {:>11} {:>9}",
        "question", "new ms", "planning", "again ms", "planning", name, "its / new", "its / again"
    );
    for (question, text, its_text) in questions(&input)? {
        let answer = door.ask(&text).await?;
        if let Some(peer) = &mut peer {
            let (_, other) = peer.ask(&its_text)?;
            ensure!(answer == other, "{question}: we say {answer}, {} says {other}", peer.name);
        }
        let (mut new, mut again, mut theirs) = (Asked::default(), Asked::default(), Vec::new());
        for round in 0..arguments.repeats {
            // Words that were never asked: the session has to plan them. The answer has one row.
            let fresh = format!("{text} LIMIT {}", round + 2);
            new.add(ask(&door, &fresh, &answer).await?);
            again.add(ask(&door, &text, &answer).await?);
            if let Some(peer) = &mut peer {
                theirs.push(Timing { wall: peer.ask(&its_text)?.0, cpu: None });
            }
        }
        let (new, new_planning) = new.millis()?;
        let (again, again_planning) = again.millis()?;
        let theirs = median(&theirs).map(|t| t.wall.as_secs_f64() * 1000.0);
        let tell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        println!(
            "{question:<44} {new:>9.2} {new_planning:>9.2} {again:>9.2} {again_planning:>9.2} {:>14} {:>11} {:>9}",
            tell(theirs),
            tell(theirs.map(|t| t / new)),
            tell(theirs.map(|t| t / again))
        );
    }
    Ok(())
}

/// Times of one question.
#[derive(Default)]
struct Asked {
    whole: Vec<Timing>,
    planning: Vec<Timing>,
}

impl Asked {
    fn add(&mut self, (whole, planning): (Duration, Duration)) {
        self.whole.push(Timing { wall: whole, cpu: None });
        self.planning.push(Timing { wall: planning, cpu: None });
    }

    /// Medians of the whole and of the planning.
    fn millis(&self) -> anyhow::Result<(f64, f64)> {
        let millis = |of: &[Timing]| median(of).map(|t| t.wall.as_secs_f64() * 1000.0).context("nothing was timed");
        Ok((millis(&self.whole)?, millis(&self.planning)?))
    }
}

async fn ask(door: &Door, text: &str, expected: &str) -> anyhow::Result<(Duration, Duration)> {
    let begin = Instant::now();
    let (answer, planning) = door.ask_in_parts(text).await?;
    let whole = begin.elapsed();
    ensure!(answer == expected, "`{text}`: first {expected}, then {answer}");
    Ok((whole, planning))
}

/// Questions with one value as their answer, ours and DuckDB's words: the same, but for our view of last readings.
fn questions(input: &Input) -> anyhow::Result<Vec<(&'static str, String, String)>> {
    let meter = input.registry.meters.keys().nth(input.registry.meters.len() / 2).context("there is no meter")?;
    let (from, to) = input.instants();
    let channels = input.channels();
    let register = channels.iter().find(|c| c.starts_with("energy_import")).context("no meter sends a register")?;
    let table = readings_table();
    let sums = channels
        .iter()
        .map(|c| format!("coalesce(CAST(sum({c}) AS VARCHAR), '-')"))
        .collect::<Vec<_>>()
        .join(" || ' ' || ");
    let same = |(name, text): (&'static str, String)| (name, text.clone(), text);
    let last =
        |of: &str| format!("SELECT CAST(count(*) AS VARCHAR) || ' ' || CAST(sum({register}) AS VARCHAR) FROM {of}");
    let newest = format!("(SELECT arg_max({register}, ts) AS {register} FROM {table} GROUP BY meter_id)");
    Ok(vec![
        same((
            "one meter's month, all its channels",
            format!(
                "SELECT CAST(count(*) AS VARCHAR) || ' ' || {sums} FROM {table} \
                 WHERE meter_id = '{meter}' AND ts >= '{from}' AND ts < '{to}'"
            ),
        )),
        ("last register of each meter, from memory", last("electricity_latest"), last(&newest)),
        same((
            "differences of all registers (lag)",
            format!(
                "SELECT CAST(count(step) AS VARCHAR) || ' ' || CAST(sum(step) AS VARCHAR) || ' ' || \
                 CAST(max(step) AS VARCHAR) FROM (SELECT {register} - lag({register}) OVER \
                 (PARTITION BY meter_id ORDER BY ts) AS step FROM {table} WHERE ts >= '{from}' AND ts < '{to}')"
            ),
        )),
    ])
}
