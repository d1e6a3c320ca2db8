//! Time by the clock and by the processor, medians, and a table of both.

use std::time::{Duration, Instant};

/// The kernel counts a process's time in hundredths of a second for whoever reads `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// What some work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// By the clock.
    pub wall: Duration,
    /// Of all threads of this process, user and system, to 10 ms; `None` where `/proc` does not tell.
    pub cpu: Option<Duration>,
}

/// Runs until it is read.
#[derive(Debug)]
pub struct Stopwatch {
    cpu: Option<Duration>,
    wall: Instant,
}

impl Stopwatch {
    /// From now.
    pub fn start() -> Self {
        let cpu = cpu_time();
        Self { cpu, wall: Instant::now() }
    }

    /// Until now.
    pub fn read(&self) -> Timing {
        let wall = self.wall.elapsed();
        let cpu = cpu_time().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        Timing { wall, cpu }
    }
}

/// What this process has used of the processors.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold anything; user and system time are the 12th and 13th behind.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

/// Forgets the most memory that this process held so far, so that [`peak_memory`] tells of what comes. Where the system cannot,
/// the peak stays that of the whole process.
pub fn forget_peak_memory() {
    // Linux takes a 5 for this; elsewhere there is no such file.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process held since its start or [`forget_peak_memory`], in bytes.
pub fn peak_memory() -> Option<u64> {
    peak_memory_of("self")
}

/// As [`peak_memory`], of another process by its number.
pub(crate) fn peak_memory_of(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The middle of both, each by itself; of an even number the upper. `None` without timings.
pub fn median(timings: &[Timing]) -> Option<Timing> {
    let middle = |mut values: Vec<Duration>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    let cpu = timings.iter().map(|t| t.cpu).collect::<Option<Vec<_>>>();
    Some(Timing { wall: middle(timings.iter().map(|t| t.wall).collect())?, cpu: cpu.and_then(middle) })
}

/// The head of the lines that [`line`] makes.
pub fn head() -> String {
    let (stage, rows, wall) = ("stage", "readings", "seconds");
    format!("{stage:<44} {rows:>10} {wall:>9} {:>13} {:>9} {:>15}", "readings/s", "CPU s", "readings/CPU s")
}

/// One line: a stage, its readings, the median of its times and what both make.
pub fn line(stage: &str, rows: u64, timings: &[Timing]) -> String {
    let Some(timing) = median(timings) else { return format!("{stage:<44} was not timed") };
    let (wall, rate) = (timing.wall.as_secs_f64(), per_second(rows, timing.wall));
    // Below some ticks the kernel's count says nothing.
    let cpu = timing.cpu.filter(|cpu| *cpu >= TICK * 10);
    let cpu_rate = cpu.map_or_else(|| "-".to_owned(), |cpu| per_second(rows, cpu));
    let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.2}", cpu.as_secs_f64()));
    format!("{stage:<44} {rows:>10} {wall:>9.3} {rate:>13} {cpu:>9} {cpu_rate:>15}")
}

fn per_second(rows: u64, time: Duration) -> String {
    format!("{:.0}", rows as f64 / time.as_secs_f64().max(f64::EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(wall: u64, cpu: Option<u64>) -> Timing {
        Timing { wall: Duration::from_millis(wall), cpu: cpu.map(Duration::from_millis) }
    }

    #[test]
    fn clock_and_processor_have_their_own_middle() {
        let timings = [timing(30, Some(1)), timing(10, Some(3)), timing(20, Some(2))];
        assert_eq!(median(&timings), Some(timing(20, Some(2))));
        assert_eq!(median(&[timing(30, None), timing(10, Some(3))]), Some(timing(30, None)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_rate_comes_from_the_time_beside_it() {
        let line = line("walk", 1000, &[timing(500, Some(250))]);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["walk", "1000", "0.500", "2000", "0.25", "4000"]);
    }

    #[test]
    fn too_little_processor_time_is_not_told() {
        assert!(line("walk", 1000, &[timing(500, Some(20))]).trim_end().ends_with('-'));
    }
}
