//! `simulate gateways`: Modbus TCP gateways on this machine, and the configuration that asks them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use clap::Args;
use meterlake_device_sim::modbus::{Gateway, GatewayPlan, Layout};
use meterlake_device_sim::{Fault, FleetPlan, PointRef, Scenario, Simulation};
use meterlake_model::{Timestamp, Zone};

use super::write_registry;
use crate::shutdown;

/// History of Modbus meters begins with the gateways.
const HOUR_S: i64 = 3600;

/// Which meters, where they listen.
#[derive(Debug, Clone, Args)]
pub struct GatewaysArgs {
    /// Electricity meters (Eastron SDM630), up to 32 of all meters on each gateway
    #[arg(long, value_name = "N", default_value_t = 28)]
    electricity: usize,
    /// Water meters (pulse counters)
    #[arg(long, value_name = "N", default_value_t = 4)]
    water: usize,
    /// Electricity meters that never answer, of those above
    #[arg(long, value_name = "N", default_value_t = 0)]
    dead: usize,
    /// Port of the first gateway, the others follow; 0 takes any that are free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Poll interval in the printed configuration
    #[arg(long, value_name = "TIME", default_value = "15m")]
    interval: String,
    /// Seed of the meters and their loads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Civil time of all places, by its name in the zone database
    #[arg(long, value_name = "ZONE", default_value = "Europe/Madrid", value_parser = |text: &str| Zone::parse(text).map_err(|e| e.to_string()))]
    zone: Zone,
    /// Write the meters' registry as CSV files to this folder first
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
}

/// Answers until a signal comes.
pub(super) async fn run(args: &GatewaysArgs) -> anyhow::Result<()> {
    ensure!(args.electricity + args.water > 0, "no meters: --electricity and --water are both 0");
    ensure!(args.dead <= args.electricity, "{} of {} electricity meters cannot be dead", args.dead, args.electricity);
    let hour = Timestamp::now().unix_seconds().div_euclid(HOUR_S) * HOUR_S;
    let now = Timestamp::from_unix_seconds(hour)?;
    let mut plan = FleetPlan::new(args.seed, now, now);
    plan.zone = args.zone.clone();
    (plan.electricity_modbus, plan.water_modbus) = (args.electricity, args.water);
    let faults = (0..args.dead).map(|number| Fault::Dead { point: PointRef::electricity_modbus(number) }).collect();
    let simulation = Arc::new(Simulation::new(plan, Scenario { faults, malformed_ppm: 0 })?);
    if let Some(dir) = &args.registry {
        write_registry(&simulation.registry()?, dir)?;
    }
    let stop = shutdown::on_signal()?;
    let mut gateways = Vec::new();
    for (plan, offset) in simulation.gateways().iter().zip(0_u16..) {
        let port = if args.port == 0 { 0 } else { args.port.saturating_add(offset) };
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let gateway = Gateway::of_plan(Arc::clone(&simulation), plan, listen).await?;
        print!("{}", line_text(plan, gateway.address(), &args.interval));
        gateways.push(gateway);
    }
    eprintln!("{} gateways with {} meters answer until Ctrl-C", gateways.len(), args.electricity + args.water);
    stop.cancelled().await;
    Ok(())
}

/// One `[[modbus]]` table with its devices.
fn line_text(plan: &GatewayPlan, address: SocketAddr, interval: &str) -> String {
    let mut text =
        format!("[[modbus]]\nname = \"{}\"\nhost = \"{}\"\nport = {}\n", plan.name, address.ip(), address.port());
    for unit in &plan.units {
        let profile = match unit.layout {
            Layout::Sdm630 => "eastron-sdm630",
            Layout::PulseWater => "pulse-water",
        };
        text += &format!(
            "\n[[modbus.device]]\nunit = {}\nmeter_id = \"{}\"\nprofile = \"{profile}\"\ninterval = \"{interval}\"\n",
            unit.unit, unit.meter_id
        );
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meterlake_config::Config;

    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration() {
        let now = Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap();
        let mut plan = FleetPlan::new(1, now, now);
        (plan.electricity_modbus, plan.water_modbus) = (30, 4);
        let simulation = Simulation::new(plan, Scenario::none()).unwrap();
        let text: String = (1502_u16..)
            .zip(simulation.gateways())
            .map(|(port, plan)| line_text(&plan, ([127, 0, 0, 1], port).into(), "15m"))
            .collect();
        let config = Config::parse(&text, Path::new("")).unwrap();
        let devices: Vec<_> = config.modbus.iter().map(|line| line.devices.len()).collect();
        assert_eq!(devices, [32, 2]);
    }
}
