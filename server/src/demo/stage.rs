//! What the demo plays on: a fleet, an embedded broker, Modbus gateways, a registry and a configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use meterlake_config::Config;
use meterlake_config::registry::{read_dir, write_dir};
use meterlake_device_sim::modbus::{Gateway, GatewayPlan};
use meterlake_device_sim::publisher::PublisherOptions;
use meterlake_device_sim::{BrokerOptions, EmbeddedBroker, FleetPlan, Scenario, Simulation};
use meterlake_model::{CivilDay, Timestamp, Zone};

use super::{DemoArgs, next_second};
use crate::setup;

const ZONE: &str = "Europe/Madrid";
/// Marks a folder as a demo's, which another demo may replace.
const MARKER: &str = ".meterlake-demo";

/// Everything that stands before the first message.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) simulation: Arc<Simulation>,
    zone: Zone,
    today: CivilDay,
    broker: EmbeddedBroker,
    gateways: Vec<Gateway>,
}

impl Stage {
    pub(crate) async fn set(args: &DemoArgs) -> anyhow::Result<Self> {
        let dir = fresh_folder(&args.dir)?;
        let zone = Zone::parse(ZONE)?;
        let now = Timestamp::now();
        let today = zone.day_of(now);
        let simulation = Arc::new(simulation(args, &zone, today, now)?);
        let broker = EmbeddedBroker::start(&BrokerOptions::default()).await?;
        let plans = simulation.gateways();
        let mut gateways = Vec::new();
        for plan in &plans {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            gateways.push(Gateway::of_plan(Arc::clone(&simulation), plan, listen).await?);
        }

        let registry_dir = dir.join("registry");
        write_dir(&simulation.registry()?, &registry_dir)
            .with_context(|| format!("cannot write {}", registry_dir.display()))?;
        let config_path = dir.join("meterlake.toml");
        let text = config_text(broker.address(), plans.iter().zip(gateways.iter().map(Gateway::address)));
        fs::write(&config_path, text).with_context(|| format!("cannot write {}", config_path.display()))?;
        let config = Config::load(&config_path).context("the demo's own configuration is refused")?;

        let registry = read_dir(&registry_dir)
            .map_err(|problems| anyhow::anyhow!("the demo's own registry is refused: {}", problems[0]))?;
        setup::connect(&config)?.write_registry(&registry).await?;
        Ok(Self { dir, config_path, config, simulation, zone, today, broker, gateways })
    }

    pub(crate) fn introduction(&self) -> String {
        let plan = self.simulation.plan();
        let modbus = plan.electricity_modbus + plan.water_modbus;
        format!(
            "{} electricity and {} water meters over MQTT, {modbus} over Modbus TCP ({} gateways); {} to {}, zone {}",
            plan.electricity_mqtt,
            plan.water_mqtt,
            self.gateways.len(),
            self.zone.local_text(plan.from),
            self.zone.local_text(plan.to),
            self.zone.name()
        )
    }

    /// Readings that history brings, repeats and contradictions among them.
    pub(crate) fn expected_readings(&self) -> u64 {
        let expected = self.simulation.truth().expected();
        expected.distinct + expected.repeated + expected.conflicting
    }

    pub(crate) fn publisher(&self, id: &str) -> PublisherOptions {
        DemoArgs::publisher_options(self.broker.address().port(), id)
    }

    pub(crate) fn present_from(&self) -> Timestamp {
        next_second(Timestamp::now())
    }

    /// The civil days that the jobs derive: all of history and today.
    pub(crate) fn days(&self) -> (CivilDay, CivilDay) {
        (self.zone.day_of(self.simulation.plan().from), self.today.plus_days(1))
    }
}

/// An empty folder; one that an earlier demo left is emptied, anything else is left alone.
fn fresh_folder(dir: &Path) -> anyhow::Result<PathBuf> {
    let marker = dir.join(MARKER);
    if marker.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    } else if dir.exists() && fs::read_dir(dir)?.next().is_some() {
        bail!("{} is not empty and no demo left it there: name another folder with --dir", dir.display());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))?;
    fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))
}

/// History begins at a civil midnight and ends at the last full hour: the grid of water readings.
fn simulation(args: &DemoArgs, zone: &Zone, today: CivilDay, now: Timestamp) -> anyhow::Result<Simulation> {
    let from = zone.start_of_day(today.plus_days(-i32::from(args.days)));
    let hour = 3600;
    let to = Timestamp::from_unix_seconds(now.unix_seconds().div_euclid(hour) * hour)?;
    let water_modbus = args.modbus / 5;
    let mut plan = FleetPlan::new(args.seed, from, to);
    plan.zone = zone.clone();
    // A cycle that ended this morning, so that 35 days hold a closed one.
    plan.billing_day = u8::try_from(today.day()).unwrap_or(1).min(28);
    plan.electricity_mqtt = args.electricity;
    plan.water_mqtt = args.water;
    plan.electricity_modbus = args.modbus - water_modbus;
    plan.water_modbus = water_modbus;
    let scenario = Scenario::defaults(&plan);
    Ok(Simulation::new(plan, scenario)?)
}

fn config_text<'p>(broker: SocketAddr, gateways: impl Iterator<Item = (&'p GatewayPlan, SocketAddr)>) -> String {
    let mut text = format!(
        r#"# Written by `meterlake demo`. The broker and the gateways live as long as the demo.
[collect]
name = "demo"
commit_interval = "2s"
sync_delay = "0s"

[[mqtt]]
name = "demo"
host = "{}"
port = {}
topics = ["meterlake/v1/+/readings"]
maps = ["meterlake-json"]
"#,
        broker.ip(),
        broker.port()
    );
    for (plan, address) in gateways {
        text += &format!(
            "\n[[modbus]]\nname = \"{}\"\nhost = \"{}\"\nport = {}\ntimeout = \"300ms\"\n",
            plan.name,
            address.ip(),
            address.port()
        );
        for unit in &plan.units {
            let profile = unit.layout.profile();
            text += &format!(
                "\n[[modbus.device]]\nunit = {}\nmeter_id = \"{}\"\nprofile = \"{profile}\"\ninterval = \"5s\"\n",
                unit.unit, unit.meter_id
            );
        }
    }
    text
}
