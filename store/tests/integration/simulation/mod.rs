//! Journal, committer, tables and their upkeep, simulated from a seed: meters, a broker and a clock of our own, a disk
//! and a store that fail, processes that are killed and power that goes. The code that runs is the product's.
//!
//! `METERLAKE_SIM_SEEDS=n` runs so many seeds (500 by default), `METERLAKE_SIM_SEED=n` runs one and prints its trace.
//! A seed decides everything: the same seed gives the same trace. `METERLAKE_SIM_STRIKES=n` tries each n-th call only
//! in the tests that go through all calls (1 for all of them).

mod disk;
mod machine;
mod meters;
mod random;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::{Fate, Op, Strike, Weather};
use meters::START_S;
pub(crate) use random::Random;
use world::{Play, World};

const SEEDS: u64 = 500;
const THREADS: usize = 2;

/// What is played under a seed: a fifth with a sound machine, the rest with one kind of trouble or all.
fn play_of(seed: u64) -> Play {
    let mut random = Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let disk = Weather { disk: 20, ..Weather::default() };
    let store = Weather { store: 20, reads: 3, ..Weather::default() };
    let deaths = Weather { kill: 8, cut: 8, ..Weather::default() };
    let all = Weather { disk: 8, store: 8, reads: 2, kill: 5, cut: 5 };
    let weather = [Weather::default(), disk, store, deaths, all][random.below(5)];
    Play {
        seed,
        steps: 30 + random.below(30),
        weather,
        releases_at_once: random.per_mille(500),
        jumps_of_clock: random.per_mille(300),
        segment_bytes: 4096,
        clock_off_s: 0,
    }
}

/// Runs a future so that its course does not depend on the speed of threads. It is polled in rounds: what it left to
/// the one thread for blocking work is done then, nothing that came later has begun, and every task has seen it.
fn drive<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async move {
        let mut future = std::pin::pin!(future);
        // Dropping it lets the thread go on.
        let mut barrier: Option<std::sync::mpsc::Sender<()>> = None;
        loop {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await;
            if let std::task::Poll::Ready(output) = polled {
                return output;
            }
            let (reached, arrival) = tokio::sync::oneshot::channel();
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || {
                let _ = reached.send(());
                let _ = wait.recv();
            });
            drop(barrier.replace(go_on));
            arrival.await.unwrap();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    })
}

/// What one run did.
struct Told {
    outcome: Result<(), String>,
    trace: Vec<String>,
    struck: BTreeMap<String, usize>,
    restarts: usize,
}

fn play(play: Play, strike: Option<Strike>) -> (Told, World) {
    let mut world = World::new(play);
    world.machine.set_strike(strike);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drive(world.run())));
    let outcome = run.unwrap_or_else(|_| Err("it panicked".to_owned()));
    let (trace, struck) = (world.machine.trace(), world.machine.struck());
    (Told { outcome, trace, struck, restarts: world.restarts }, world)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn rule_2_whatever_fails_in_whatever_order_what_was_acknowledged_is_there_once() {
    if let Some(seed) = number("METERLAKE_SIM_SEED") {
        let (told, _) = play(play_of(seed), None);
        println!("{:#?}\n{}", play_of(seed), told.trace.join("\n"));
        told.outcome.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        return;
    }
    let seeds = number("METERLAKE_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let sums: Mutex<(BTreeMap<String, usize>, usize, Vec<String>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds {
                        break;
                    }
                    let (told, _) = play(play_of(seed), None);
                    let mut sums = sums.lock().unwrap();
                    sums.1 += told.restarts;
                    for (fault, times) in told.struck {
                        *sums.0.entry(fault).or_insert(0) += times;
                    }
                    if let Err(fault) = told.outcome {
                        let tail = told.trace.len().saturating_sub(12);
                        sums.2.push(format!("seed {seed}: {fault}\n    {}", told.trace[tail..].join("\n    ")));
                    }
                }
            });
        }
    });
    let (struck, restarts, failed) = sums.into_inner().unwrap();
    println!("{seeds} seeds, {restarts} restarts, faults: {struck:?}");
    for fault in failed.iter().take(5) {
        println!("{fault}");
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds fail; METERLAKE_SIM_SEED=… shows the whole trace", failed.len());
    // The storms came: each kind of call failed, and each kind of death.
    for op in [Op::Write, Op::Sync, Op::File, Op::Put, Op::PutSync, Op::Read] {
        assert!(struck.keys().any(|k| k.starts_with(&format!("{op:?} "))), "no {op:?} failed: {struck:?}");
    }
    assert!(restarts > 0 && struck.keys().any(|k| k.contains("Cut")) && struck.keys().any(|k| k.contains("Kill")));
}

#[test]
fn a_seed_repeats_its_run_to_the_last_line() {
    for seed in [3, 4, 9, 17] {
        let (first, second) = (play(play_of(seed), None).0, play(play_of(seed), None).0);
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// Runs in which one thing goes wrong at one call, for the calls of each kind: every `share`-th of them.
fn strike_each(ops: &[Op], fates: &[Fate], share: usize) {
    let calm = Play {
        steps: 40,
        weather: Weather::default(),
        releases_at_once: true,
        segment_bytes: 1024,
        jumps_of_clock: false,
        ..play_of(7)
    };
    let (told, world) = play(calm, None);
    told.outcome.unwrap();
    let mut strikes = Vec::new();
    for op in ops {
        let calls = world.machine.calls(*op);
        assert!(calls > 4, "{op:?} is called {calls} times: the run is too short to mean something");
        for (at, fate) in fates.iter().enumerate() {
            strikes.extend((at % share..calls).step_by(share).map(|nth| Strike { op: *op, nth, fate: *fate }));
        }
    }
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap();
                    let Some(strike) = strikes.get(at) else { break };
                    let (told, _) = play(calm, Some(*strike));
                    let fault = match told.outcome {
                        Err(fault) => fault,
                        Ok(()) if told.struck.is_empty() => "it did not strike".to_owned(),
                        Ok(()) => continue,
                    };
                    failed.lock().unwrap().push(format!("{strike:?}: {fault}\n    {}", told.trace.join("\n    ")));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{} strikes at {ops:?}, {} fail", strikes.len(), failed.len());
    for fault in failed.iter().take(2) {
        println!("{fault}");
    }
    assert!(failed.is_empty());
}

fn share(default: usize) -> usize {
    number("METERLAKE_SIM_STRIKES").map_or(default, |n| usize::try_from(n).unwrap().max(1))
}

/// Through the journal and the commits: no false acknowledgement, no panic, on again when space returns.
#[test]
fn rule_11_any_call_that_fails_or_finds_no_space_delays_and_loses_nothing() {
    let share = share(16);
    strike_each(&[Op::Write], &[Fate::Before, Fate::Short, Fate::Full], share);
    strike_each(&[Op::File, Op::Put], &[Fate::Before, Fate::Full], share);
    strike_each(&[Op::Put], &[Fate::After], share);
    strike_each(&[Op::Sync, Op::PutSync], &[Fate::Before], share);
}

#[test]
fn rule_2_a_kill_before_or_after_any_call_loses_and_doubles_nothing() {
    let fates = [Fate::Kill(false), Fate::Kill(true)];
    strike_each(&[Op::File, Op::Write, Op::Sync, Op::Put, Op::PutSync], &fates, share(40));
}

#[test]
fn rule_1_a_power_cut_before_or_after_any_call_loses_and_doubles_nothing() {
    let fates = [Fate::Cut(false), Fate::Cut(true)];
    strike_each(&[Op::File, Op::Write, Op::Sync, Op::Put, Op::PutSync], &fates, share(40));
}

/// The clock goes wrong for a while, and the upkeep, which asks it, runs on.
#[test]
fn rule_2_a_clock_that_is_wrong_for_a_while_loses_and_doubles_nothing() {
    let day = 86_400;
    // Summer time ends in Europe on 2026-10-25 and begins on 2027-03-28, at 01:00 UTC.
    let switches = [1_792_890_000 - START_S, 1_806_195_600 - START_S];
    let offsets = [1, -1, 3600, -3600, day, -day, 40 * day, -40 * day, -START_S, 2_147_483_647 - START_S];
    for (seed, offset) in (100..).zip(offsets.into_iter().chain(switches)) {
        let wrong = Play { clock_off_s: offset, steps: 60, jumps_of_clock: false, ..play_of(seed) };
        let (told, _) = play(wrong, None);
        told.outcome.unwrap_or_else(|fault| panic!("{offset} s: {fault}\n{}", told.trace.join("\n")));
    }
}
