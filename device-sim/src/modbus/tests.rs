use std::net::Ipv4Addr;

use tokio::time::timeout;
use tokio_modbus::client::{Client, tcp};
use tokio_modbus::prelude::Reader;
use tokio_modbus::{Slave, client};

use super::*;
use crate::plan::FleetPlan;
use crate::scenario::Scenario;

fn unit(layout: Layout, behaviour: Behaviour, register_milli: i64) -> Unit {
    let values = UnitValues { register_milli, volts_dv: [2301, 2298, 2310], watts: 1500 };
    Unit { layout, behaviour, source: Arc::new(move || values) }
}

async fn connect(gateway: &Gateway, unit: u8) -> client::Context {
    tcp::connect_slave(gateway.address(), Slave(unit)).await.unwrap()
}

fn float(words: &[u16]) -> f32 {
    f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]))
}

#[tokio::test]
async fn units_answer_late_or_never_as_they_are_told_and_others_are_refused() {
    let units = BTreeMap::from([
        (1, unit(Layout::Sdm630, Behaviour::Answers, 4_321_987)),
        (2, unit(Layout::PulseWater, Behaviour::Slow(Duration::from_millis(30)), 70_000)),
        (3, unit(Layout::Sdm630, Behaviour::Dead, 1)),
    ]);
    let gateway = Gateway::start((Ipv4Addr::LOCALHOST, 0).into(), units).await.unwrap();

    let mut electricity = connect(&gateway, 1).await;
    let words = electricity.read_input_registers(0, 0x50).await.unwrap().unwrap();
    assert_eq!(float(&words[0..]), 230.1);
    assert_eq!(float(&words[4..]), 231.0);
    assert_eq!(float(&words[0x34..]), 1500.0);
    assert!((float(&words[0x48..]) - 4321.987).abs() < 0.0005);
    assert_eq!(electricity.read_holding_registers(0, 2).await.unwrap(), Err(ExceptionCode::IllegalFunction));
    assert_eq!(electricity.read_input_registers(0x0180, 8).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));

    let mut water = connect(&gateway, 2).await;
    let asked = std::time::Instant::now();
    let words = water.read_holding_registers(0, 5).await.unwrap().unwrap();
    assert_eq!(u32::from(words[0]) << 16 | u32::from(words[1]), 70_000);
    assert!(asked.elapsed() >= Duration::from_millis(30));

    let mut dead = connect(&gateway, 3).await;
    assert!(timeout(Duration::from_millis(100), dead.read_input_registers(0, 2)).await.is_err());

    let mut nobody = connect(&gateway, 9).await;
    assert_eq!(nobody.read_input_registers(0, 2).await.unwrap(), Err(ExceptionCode::GatewayTargetDevice));
    nobody.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_simulated_meter_shows_its_true_register_of_now() {
    let now = Timestamp::now().unix_seconds().div_euclid(3600) * 3600;
    let from = Timestamp::from_unix_seconds(now - 86_400).unwrap();
    let mut plan = FleetPlan::new(1, from, from);
    (plan.electricity_modbus, plan.water_modbus) = (3, 40);
    let dead = PointRef::electricity_modbus(2);
    let scenario = Scenario { faults: vec![Fault::Dead { point: dead }], malformed_ppm: 0 };
    let simulation = Arc::new(Simulation::new(plan, scenario).unwrap());
    let gateways = simulation.gateways();
    assert_eq!(gateways.iter().map(|g| g.units.len()).collect::<Vec<_>>(), [32, 11]);
    assert_eq!(gateways[0].units[2].behaviour, Behaviour::Dead);
    assert_eq!(gateways[0].units[3].layout.profile(), "pulse-water");

    let plan = &gateways[0];
    let gateway = Gateway::of_plan(Arc::clone(&simulation), plan, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let point = simulation.point(PointRef::electricity_modbus(0)).unwrap();
    let before = simulation.register_milli(point, Timestamp::now()).unwrap().1;
    let words = connect(&gateway, 1).await.read_input_registers(0x48, 2).await.unwrap().unwrap();
    let after = simulation.register_milli(point, Timestamp::now()).unwrap().1;
    let shown = f64::from(float(&words)) * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "compared to the float that the device speaks")]
    let (low, high) = (before as f64 - 0.3, after as f64 + 0.3);
    assert!((low..=high).contains(&shown), "{low} {shown} {high}");
}
