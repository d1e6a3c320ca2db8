//! Devices polled each second (workload W4).

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::ensure;
use meterlake_benches::register_bank::RegisterBank;
use meterlake_benches::system::System;

use super::{PATIENCE, Size, Subject, scratch};

const PYMODBUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/pymodbus_poll.py");

/// Where the 60 fields of a device lie: seven ranges with holes between them.
fn addresses() -> impl Iterator<Item = u16> {
    [0, 40, 80, 200, 240, 400, 600]
        .into_iter()
        .zip([10, 10, 10, 10, 8, 6, 6])
        .flat_map(|(start, fields)| (0..fields).map(move |f| start + 2 * f))
}

/// The columns of a profile, each given once; further fields of the map are those of a second device on the same unit.
pub(crate) fn compare(size: &Size, subjects: &[(Subject, PathBuf)]) -> anyhow::Result<()> {
    println!("\n{} devices of 60 registers in 7 ranges polled each second for {} s\n", size.devices, size.poll_seconds);
    println!(
        "{:<26} {:>9} {:>11} {:>8} {:>16} {:>13}",
        "system", "requests", "registers", "CPU s", "requests/CPU s", "CPU a poll us"
    );
    for (subject, program) in subjects {
        let mut costs = Vec::new();
        for _ in 0..size.repeats {
            costs.push(poll_once(*subject, program, size)?);
        }
        costs.sort_by_key(|cost| cost.cpu);
        let Some(cost) = costs.get(costs.len() / 2) else { continue };
        let name = match subject {
            Subject::Ours => "meterlake collect (D2)",
            Subject::Telegraf => "Telegraf to discard (D0)",
            Subject::Python => "pymodbus, decoded (D0)",
        };
        let seconds = cost.cpu.as_secs_f64();
        println!(
            "{name:<26} {:>9} {:>11} {seconds:>8.2} {:>16.0} {:>13.1}",
            cost.requests,
            cost.registers,
            cost.requests as f64 / seconds,
            seconds * 1e6 / cost.polls
        );
    }
    Ok(())
}

struct PollCost {
    cpu: Duration,
    requests: u64,
    registers: u64,
    /// Devices times rounds.
    polls: f64,
}

fn poll_once(subject: Subject, program: &Path, size: &Size) -> anyhow::Result<PollCost> {
    let folder = scratch()?;
    let bank = RegisterBank::start()?;
    let (port, devices) = (bank.address().port(), size.devices);
    let system = match subject {
        Subject::Ours => {
            std::fs::write(folder.path().join("bench.toml"), our_profile())?;
            std::fs::write(folder.path().join("meterlake.toml"), our_lines(port, devices))?;
            System::start("ours", program, &["--config", "meterlake.toml", "--log", "error", "collect"], folder.path())?
        }
        Subject::Telegraf => {
            std::fs::write(folder.path().join("telegraf.conf"), telegraf_modbus(port, devices))?;
            System::start("telegraf", program, &["--quiet", "--config", "telegraf.conf"], folder.path())?
        }
        Subject::Python => {
            let (port, devices) = (port.to_string(), devices.to_string());
            System::start("pymodbus", program, &[PYMODBUS, &port, &devices], folder.path())?
        }
    };
    // The start is not what is measured: from the first request on, a while later.
    let requests = || bank.counters().requests.load(Ordering::Relaxed);
    let registers = || bank.counters().registers.load(Ordering::Relaxed);
    let begun = Instant::now();
    while requests() < devices as u64 {
        ensure!(begun.elapsed() < PATIENCE, "no polls:\n{}", system.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, asked, words, started) = (system.cpu()?, requests(), registers(), Instant::now());
    std::thread::sleep(Duration::from_secs(size.poll_seconds));
    let rounds = started.elapsed().as_secs_f64();
    let cost = PollCost {
        cpu: system.cpu()?.saturating_sub(cpu),
        requests: requests() - asked,
        registers: registers() - words,
        polls: rounds * devices as f64,
    };
    system.finish()?;
    ensure!(cost.requests > 0, "nothing was polled");
    Ok(cost)
}

/// Our profile knows 24 columns of electricity; the map's other registers are asked for as parts of sums.
fn our_profile() -> String {
    let mut text = "name = \"bench\"\nversion = 1\nmaker = \"none\"\nmodel = \"bench\"\nsource = \"benches/benches/collect.rs\"\n\
                    commodity = \"electricity\"\n[read]\nmax_hole = 8\n[defaults]\naddress_base = 0\nfunction = 3\ntype = \"u32\"\n"
        .to_owned();
    let channels: Vec<_> = meterlake_model::Channel::of(meterlake_model::Commodity::Electricity).collect();
    let addresses: Vec<_> = addresses().collect();
    let share = addresses.len().div_ceil(channels.len());
    for (channel, parts) in channels.iter().zip(addresses.chunks(share)) {
        let unit = match channel.name().rsplit('_').next() {
            _ if channel.name() == "power_factor" => "1",
            Some("kwh") => "Wh",
            Some("kvarh") => "varh",
            Some("v") => "mV",
            Some("a") => "mA",
            Some("kw") => "W",
            Some("kvar") => "var",
            Some("kva") => "VA",
            Some("hz") => "Hz",
            _ => continue,
        };
        let parts: Vec<_> = parts.iter().map(|address| format!("{{ address = {address} }}")).collect();
        text += &format!("[[field]]\nchannel = \"{channel}\"\nunit = \"{unit}\"\nparts = [{}]\n", parts.join(", "));
    }
    text
}

/// Ten devices a line.
fn our_lines(port: u16, devices: usize) -> String {
    let mut text = "[collect]\ncommit_interval = \"5s\"\n".to_owned();
    for (line, first) in (0..devices).step_by(10).enumerate() {
        // Lines may not share an address: the loopback has many.
        text += &format!("[[modbus]]\nname = \"line-{line}\"\nhost = \"127.0.0.{}\"\nport = {port}\n", line + 1);
        for device in first..(first + 10).min(devices) {
            text += &format!(
                "[[modbus.device]]\nunit = {}\nmeter_id = \"M{device}\"\nprofile = \"bench.toml\"\ninterval = \"1s\"\n",
                device - first + 1
            );
        }
    }
    text
}

fn telegraf_modbus(port: u16, devices: usize) -> String {
    let mut text = "[agent]\ninterval = \"1s\"\nflush_interval = \"1s\"\nmetric_batch_size = 10000\nquiet = true\n\
                    omit_hostname = true\n[[outputs.discard]]\n"
        .to_owned();
    let fields: Vec<_> = addresses()
        .enumerate()
        .map(|(n, address)| format!("{{ address = {address}, name = \"f{n}\", type = \"UINT32\", scale = 0.001 }}"))
        .collect();
    let fields = fields.join(",\n");
    for first in (0..devices).step_by(10) {
        text += &format!(
            "[[inputs.modbus]]\nname = \"line-{first}\"\ncontroller = \"tcp://127.0.0.1:{port}\"\nconfiguration_type = \"request\"\n"
        );
        for device in first..(first + 10).min(devices) {
            text += &format!(
                "[[inputs.modbus.request]]\nslave_id = {}\nbyte_order = \"ABCD\"\nregister = \"holding\"\n\
                 optimization = \"max_insert\"\noptimization_max_register_fill = 8\nfields = [\n{fields}\n]\n",
                device - first + 1
            );
        }
    }
    text
}
