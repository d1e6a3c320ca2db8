//! The same year by other code: what the meters sent goes through mosquitto, collector and jobs, and beside that to
//! `tests/oracle/billing_year.py`, which shares no line with the product. Every slot, day, billing read, finding and figure
//! of a determinant must be the oracle's to the last digit, and none may be missing. Tariffs are in `tests/oracle/tariffs/`:
//! the oracle reads the same files.
//!
//! 50,000 meter-days by default; `METERLAKE_ORACLE_METER_DAYS=1000000` is the long form, a fleet of other meters, faults and
//! time zone for each 50,000; while one is compared, the next is sent. `METERLAKE_ORACLE_FLEET=12` plays that fleet alone.
//! `METERLAKE_LONG=1` also measures how far estimates are from the truth of recorded data.

use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use futures::stream;
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::replay::data_folder;
use meterlake_device_sim::{Fault, FleetPlan, History, Message, MessageForm, PointRef, Scenario, Simulation, Window};
use meterlake_model::registry::Registry;
use meterlake_model::{Amount, Channel, CivilDay, Commodity, Timestamp, Zone};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mosquitto::{Mosquitto, broker_table};
use crate::peers;
use crate::process::until;
use crate::real_input::replay_from;
use crate::site::{PATIENCE, Site};

const ELECTRICITY: usize = 17;
const WATER: usize = 120;
const DAYS: usize = 365;
/// Clocks that are put forward and back in the night, at midnight itself, and never. Lord Howe's half hour is left out: after
/// its change the hours of that day lie across those of others, and whether like days may learn from them is not settled.
const ZONES: [&str; 3] = ["Europe/Madrid", "America/Santiago", "Asia/Shanghai"];
const FROM: &str = "2025-01-01";
const TO: &str = "2026-01-01";

/// The fleets by their seeds.
fn fleets() -> RangeInclusive<usize> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().unwrap());
    let meter_days = number("METERLAKE_ORACLE_METER_DAYS").unwrap_or(50_000);
    number("METERLAKE_ORACLE_FLEET")
        .map_or(1..=meter_days.div_ceil((ELECTRICITY + WATER) * DAYS), |fleet| fleet..=fleet)
}

/// Compares, and fails with the first differences of each kind. Tariffs are those of [`with_tariffs`].
fn ask_the_oracle(site: &Site, from: &str, to: &str, zone: &str, source: &[&str]) {
    let started = Instant::now();
    let mut command = script("billing_year.py");
    command.args(["--from", from, "--to", to]).args(source);
    command.arg("--registry").arg(site.path("registry")).arg("--lake").arg(site.path("lake"));
    command.arg("--holidays").arg(oracle("../../config/holidays"));
    command.arg("--tariffs").args(tariffs(zone).map(|name| oracle("tariffs").join(name)));
    println!("{}{:.1} s", told(command), started.elapsed().as_secs_f64());
}

/// Something beside the oracle's scripts.
fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle").join(name)
}

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(oracle(name));
    command
}

/// The calendars of a zone, and the determinants that go by them.
fn tariffs(zone: &str) -> [String; 2] {
    [format!("{}.toml", zone.to_lowercase().replace('/', "-")), "determinants.toml".to_owned()]
}

/// A site that bills by the tariffs of a zone.
fn with_tariffs(broker: &str, zone: &str) -> Site {
    let files = tariffs(zone);
    let site = Site::new(&format!("{broker}\n[billing]\ntariff_files = {files:?}\n"));
    for file in std::fs::read_dir(oracle("tariffs")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), site.path(file.file_name().to_str().unwrap())).unwrap();
    }
    site
}

/// What a script that must succeed says.
fn told(mut command: Command) -> String {
    let answer = command.output().expect("METERLAKE_PEERS=1 needs python3");
    let (out, err) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{out}{err}");
    out.into_owned()
}

fn jobs(site: &Site, from: &str, to: &str) {
    for job in ["usage", "billing"] {
        print!("{}", site.tell(&["job", "run", job, "--from", from, "--to", to]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_oracle_bills_a_simulated_year_alike() {
    if !peers::asked_for() {
        return;
    }
    let _machine = peers::whole_machine().await;
    let mosquitto = Mosquitto::start();
    let mut asked: Option<tokio::task::JoinHandle<()>> = None;
    for seed in fleets() {
        let zone = ZONES[(seed - 1) % ZONES.len()];
        let simulation = Arc::new(simulation(seed as u64, zone));
        let table = broker_table(mosquitto.address, "meterlake/v1/+/readings", "meterlake-json");
        let site = with_tariffs(&table, zone);
        let mut registry = simulation.registry().unwrap();
        vary(&mut registry, seed);
        site.import(&registry);
        let messages = changed(&site, History::new(Arc::clone(&simulation), MessageForm::Frames).collect());

        let started = Instant::now();
        let collector = site.collect();
        let count = messages.len() as u64;
        let options = PublisherOptions::new("127.0.0.1", mosquitto.address.port(), &format!("meters-{seed}"));
        Publisher::new(options).publish(stream::iter(messages)).await.unwrap();
        until("all messages durable", PATIENCE * 3, || {
            let report = site.report(&collector)?;
            let acknowledged = report.brokers[0].1.iter().find(|(name, _)| name == "acknowledged")?.1;
            (acknowledged >= count).then_some(())
        });
        site.stop(collector);
        println!("fleet {seed}, {zone}: {count} messages in {:.1} s", started.elapsed().as_secs_f64());
        jobs(&site, FROM, TO);
        if let Some(before) = asked.take() {
            before.await.unwrap();
        }
        asked = Some(tokio::task::spawn_blocking(move || {
            ask_the_oracle(&site, FROM, TO, zone, &["--messages", site.path("sent").to_str().unwrap()]);
        }));
    }
    if let Some(last) = asked {
        last.await.unwrap();
    }
}

/// Messages with what `faults.py` adds to them, kept in the file `sent` of the site.
fn changed(site: &Site, mut messages: Vec<Message>) -> Vec<Message> {
    let (simulated, sent) = (site.path("simulated"), site.path("sent"));
    let mut file = BufWriter::new(std::fs::File::create(&simulated).unwrap());
    for message in &messages {
        file.write_all(&[message.topic.as_bytes(), b" ", &message.payload, b"\n"].concat()).unwrap();
    }
    file.into_inner().unwrap();
    let mut command = script("faults.py");
    command.arg(&simulated).arg(&sent);
    told(command);
    let lines = std::fs::read(&sent).unwrap();
    let mut lines = lines.split(|byte| *byte == b'\n');
    for message in &mut messages {
        let (topic, payload) = lines.next().unwrap().split_at(message.topic.len());
        assert_eq!(topic, message.topic.as_bytes());
        message.payload = payload[1..].to_vec().into();
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_oracle_bills_a_year_of_real_water_meters_alike() {
    if !peers::asked_for() {
        return;
    }
    let folder: PathBuf = std::path::absolute(data_folder()).unwrap();
    let recorded = folder.join("daiad-water/readings.csv.gz");
    if !recorded.is_file() {
        println!("skipped: {} is absent; set METERLAKE_DATA to the folder of recorded data", recorded.display());
        return;
    }
    let _machine = peers::whole_machine().await;
    let mosquitto = Mosquitto::start();
    let table = broker_table(mosquitto.address, "litres/+/reading", "litres-local-json");
    let site = with_tariffs(&table, "recorded");
    replay_from(&folder, &site, &mosquitto, "daiad", "96");
    jobs(&site, "2016-03-01", "2017-03-01");
    ask_the_oracle(&site, "2016-03-01", "2017-03-01", "recorded", &["--daiad", recorded.to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn estimates_of_gaps_cut_into_recorded_data_are_no_worse_than_a_straight_line() {
    let folder: PathBuf = std::path::absolute(data_folder()).unwrap();
    if !peers::asked_for() || std::env::var("METERLAKE_LONG").is_err() || !folder.is_dir() {
        println!("skipped: needs METERLAKE_PEERS=1, METERLAKE_LONG=1 and recorded data in {}", folder.display());
        return;
    }
    let _machine = peers::whole_machine().await;
    let mosquitto = Mosquitto::start();
    for (set, topic, map, from, to) in [
        ("daiad", "litres/+/reading", "litres-local-json", "2016-03-01", "2017-03-01"),
        ("swiss", "meterlake/v1/+/readings", "meterlake-json", "2015-10-26", "2015-12-14"),
    ] {
        let site = Site::new(&broker_table(mosquitto.address, topic, map));
        let ask = |what| {
            let mut command = script("estimation.py");
            command.args([what, set, "--data"]).arg(&folder).arg("--out").arg(site.path("cut"));
            command.arg("--lake").arg(site.path("lake"));
            println!("{}", told(command));
        };
        ask("cut");
        replay_from(&site.path("cut"), &site, &mosquitto, set, "96");
        print!("{}", site.tell(&["job", "run", "usage", "--from", from, "--to", to]));
        ask("score");
    }
}

fn simulation(seed: u64, zone: &str) -> Simulation {
    let zone = Zone::parse(zone).unwrap();
    let start = |day: &str| zone.start_of_day(CivilDay::parse(day).unwrap());
    // Readings go on behind the last cycle, so that its end is read like any other.
    let mut plan = FleetPlan::new(seed, start(FROM), start(TO).plus_seconds(2 * 86_400));
    plan.zone = zone;
    (plan.electricity_mqtt, plan.water_mqtt) = (ELECTRICITY, WATER);
    let scenario = scenario(&plan);
    Simulation::new(plan, scenario).unwrap()
}

/// Each usage point has troubles of one kind, many times over; every tenth has none.
fn scenario(plan: &FleetPlan) -> Scenario {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut faults = Vec::new();
    for point in plan.points() {
        let hours = plan.to.micros_since(plan.from) / 3_600_000_000;
        let hour = |rng: &mut StdRng| plan.from.plus_seconds(rng.random_range(24..hours - 48 * 24) * 3600);
        let gap = |from: Timestamp, minutes: i64| Fault::Gap {
            point,
            window: Window { from, to: from.plus_seconds(minutes * 60) },
        };
        match point.number % 10 {
            1 => faults.extend((0..60).map(|_| gap(hour(&mut rng), rng.random_range(1..16) * 15))),
            2 => faults.extend((0..30).map(|_| gap(hour(&mut rng), rng.random_range(3..40) * 60))),
            3 => faults.extend((0..10).map(|_| gap(hour(&mut rng), rng.random_range(20..300) * 60))),
            4 => faults.extend(around_months(plan, &mut rng).flat_map(|from| {
                // With one reading, or some, between two gaps.
                let length = rng.random_range(2..90);
                let between = rng.random_range(1..4);
                [gap(from, length * 60), gap(from.plus_seconds((length + between) * 3600), 60 * (110 - length))]
            })),
            5 => faults.extend(exchanges(plan, point, &mut rng)),
            6 => {
                let left_milli = if point.commodity == Commodity::Electricity { 300_000 } else { 20_000 };
                faults.push(Fault::Rollover { point, left_milli });
                faults.extend((0..20).map(|_| gap(hour(&mut rng), rng.random_range(1..30) * 60)));
            }
            7 => {
                for _ in 0..40 {
                    let add_milli = rng.random_range(-40..40);
                    faults.push(Fault::Conflict { point, at: hour(&mut rng), add_milli });
                }
                faults.push(Fault::Duplicate { point, window: Window::hours(hour(&mut rng), 500) });
            }
            8 => {
                for _ in 0..10 {
                    let late = Window::hours(hour(&mut rng), 30);
                    faults.push(Fault::Late { point, window: late, days: rng.random_range(1..40) });
                    faults.push(Fault::OutOfOrder { point, window: Window::hours(hour(&mut rng), 48) });
                }
            }
            9 => {
                // Silent for weeks, and where the clock is put forward or back.
                faults.push(gap(hour(&mut rng), rng.random_range(20..45) * 1440));
                for day in ["2025-03-30", "2025-04-06", "2025-09-07", "2025-10-05", "2025-10-26"] {
                    let midnight = plan.zone.start_of_day(CivilDay::parse(day).unwrap());
                    let from = midnight.unix_seconds().div_euclid(3600) + rng.random_range(-6..6);
                    let from = Timestamp::from_unix_seconds(from * 3600).unwrap();
                    faults.push(gap(from, rng.random_range(1..30) * 60));
                }
            }
            _ => {}
        }
    }
    Scenario { faults, malformed_ppm: 5_000 }
}

/// An hour some days before each turn of a month.
fn around_months(plan: &FleetPlan, rng: &mut StdRng) -> impl Iterator<Item = Timestamp> + use<> {
    let first = CivilDay::parse(FROM).unwrap();
    let turns: Vec<_> = (1..12)
        .map(|month| {
            let turn = plan.zone.start_of_day(first.plus_months(month)).unix_seconds().div_euclid(3600);
            Timestamp::from_unix_seconds((turn - rng.random_range(1..100)) * 3600).unwrap()
        })
        .collect();
    turns.into_iter()
}

/// Three meters one after the other, with silence before the second exchange.
fn exchanges(plan: &FleetPlan, point: PointRef, rng: &mut StdRng) -> Vec<Fault> {
    let at = |rng: &mut StdRng, days: std::ops::Range<i64>| {
        plan.from.plus_seconds(rng.random_range(days.start * 24..days.end * 24) * 3600)
    };
    let (first, second) = (at(rng, 20..150), at(rng, 160..330));
    let silent = Window { from: second.plus_seconds(-rng.random_range(1..100) * 3600), to: second };
    vec![
        Fault::Exchange { point, at: first, new_register_milli: 3_000 },
        Fault::Exchange { point, at: second, new_register_milli: rng.random_range(0..90_000) },
        Fault::Gap { point, window: silent },
    ]
}

/// Cycles of their own, transformer ratios, removals without a register, reactive registers: what only the registry says.
fn vary(registry: &mut Registry, seed: usize) {
    for (nth, point) in registry.usage_points.values_mut().enumerate() {
        // Points of a coincident demand have one cycle.
        let together = ["UP-E-000010", "UP-E-000013", "UP-E-000016"].contains(&point.id.as_str());
        let day = if together { 5 } else { 1 + (nth * 3 + seed) % 28 };
        point.billing_day = u8::try_from(day).unwrap();
    }
    for (nth, installation) in registry.installations.iter_mut().enumerate() {
        let of_point: usize = installation.usage_point_id.as_str()[5..].parse().unwrap();
        for channel in &mut installation.channels {
            // The same for all meters of a point.
            let ratio = [1, 1, 40, 1][of_point % 4];
            channel.multiplier_micros = ratio * 1_000_000;
            let capacity = channel.capacity_per_hour.unwrap().micros();
            channel.capacity_per_hour = Amount::from_micros(capacity * ratio);
            if nth % 3 == 0 {
                channel.end_register = None;
            }
        }
        let electricity = installation.usage_point_id.as_str().starts_with("UP-E");
        if let Some(permille) = reactive_permille(of_point).filter(|_| electricity) {
            let mut reactive = installation.channels[0].clone();
            reactive.channel = Channel::by_name("reactive_import_kvarh").unwrap();
            for register in [&mut reactive.start_register, &mut reactive.end_register] {
                let share = |active: Amount| Amount::from_micros(active.micros() / 1000 * permille / 1000 * 1000);
                *register = register.and_then(share);
            }
            installation.channels.push(reactive);
        }
    }
}

/// Reactive energy of an electricity meter beside its active energy, as `faults.py` makes it.
fn reactive_permille(of_point: usize) -> Option<i64> {
    let share = if of_point == 13 { 995 } else { (of_point % 7 + 2) * 100 };
    (of_point % 3 == 1 && of_point % 10 != 7).then(|| i64::try_from(share).unwrap())
}
