//! Modbus TCP gateways with many units behind each: some answer, some late, some never.
//!
//! Registers are laid out from the makers' documents, not from the collectors' device profiles.

mod layout;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meterlake_model::{Commodity, MeterId, Timestamp};
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use layout::{Layout, UnitValues};

use crate::error::SimError;
use crate::plan::{Link, PointRef, UNITS_PER_GATEWAY};
use crate::point::Point;
use crate::scenario::Fault;
use crate::simulation::{Cursor, Simulation};

/// Masters that may be connected to a gateway at a time.
const MAX_MASTERS: usize = 16;
/// Registers that one request may ask for, by the protocol.
const MAX_REGISTERS: u16 = 125;

/// How a unit behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// At once.
    #[default]
    Answers,
    /// Never.
    Dead,
    /// After a while; the gateway's other units wait behind it, as on a serial line.
    Slow(Duration),
}

/// What a unit shows at the moment of the question.
pub type Source = Arc<dyn Fn() -> UnitValues + Send + Sync>;

/// A unit behind a gateway.
#[derive(Clone)]
pub struct Unit {
    /// Where its values lie.
    pub layout: Layout,
    /// Whether and when it answers.
    pub behaviour: Behaviour,
    /// Its values.
    pub source: Source,
}

/// A unit of a plan's gateway, for the collector's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUnit {
    /// Unit number, from 1.
    pub unit: u8,
    /// Its place in the plan.
    pub place: PointRef,
    /// The meter.
    pub meter_id: MeterId,
    /// Where its values lie.
    pub layout: Layout,
    /// Whether and when it answers.
    pub behaviour: Behaviour,
}

/// A gateway of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPlan {
    /// Its name.
    pub name: String,
    /// Its units, at most 32.
    pub units: Vec<GatewayUnit>,
}

impl Simulation {
    /// The gateways of all Modbus meters, 32 units on each but the last.
    pub fn gateways(&self) -> Vec<GatewayPlan> {
        let points: Vec<_> = self.points().iter().filter(|p| p.place.link == Link::Modbus).collect();
        let gateway = |(number, points): (usize, &[&Point])| GatewayPlan {
            name: format!("gateway-{}", number + 1),
            units: (1..)
                .zip(points)
                .map(|(unit, point)| GatewayUnit {
                    unit,
                    place: point.place,
                    meter_id: point.mounts[0].meter_id.clone(),
                    layout: match point.place.commodity {
                        Commodity::Electricity => Layout::Sdm630,
                        Commodity::Water => Layout::PulseWater,
                    },
                    behaviour: behaviour(&point.faults),
                })
                .collect(),
        };
        points.chunks(UNITS_PER_GATEWAY).enumerate().map(gateway).collect()
    }
}

fn behaviour(faults: &[Fault]) -> Behaviour {
    let of = |fault: &Fault| match fault {
        Fault::Dead { .. } => Some(Behaviour::Dead),
        Fault::Slow { delay, .. } => Some(Behaviour::Slow(*delay)),
        _ => None,
    };
    faults.iter().find_map(of).unwrap_or_default()
}

/// A gateway that listens until it is dropped.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Gateway {
    /// Starts a gateway of a simulation whose units show what is true now.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn of_plan(
        simulation: Arc<Simulation>,
        plan: &GatewayPlan,
        listen: SocketAddr,
    ) -> Result<Self, SimError> {
        let units = plan.units.iter().filter_map(|unit| {
            let index = simulation.point(unit.place)?.index;
            let source = source(Arc::clone(&simulation), index);
            Some((unit.unit, Unit { layout: unit.layout, behaviour: unit.behaviour, source }))
        });
        Self::start(listen, units.collect()).await
    }

    /// Starts a gateway with these units by their number. Port 0 takes any that is free.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(listen: SocketAddr, units: BTreeMap<u8, Unit>) -> Result<Self, SimError> {
        let bound = TcpListener::bind(listen).await.and_then(|l| Ok((l.local_addr()?, l)));
        let (address, listener) = bound.map_err(|e| SimError::io(format!("modbus gateway on {listen}"), e))?;
        let units = Arc::new(units);
        let masters = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move {
            let connected = |stream, _| {
                let service = Master::join(&masters, &units);
                async move { Ok(service.map(|service| (service, stream))) }
            };
            // A master that goes away in the middle is none of our business.
            let server = Server::new(listener);
            tokio::select! {
                () = token.cancelled() => {}
                ended = server.serve(&connected, |_| {}) => if let Err(error) = ended {
                    tracing::error!(%address, %error, "modbus gateway ended");
                }
            }
        });
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The values of a usage point at the moment of the question.
fn source(simulation: Arc<Simulation>, index: usize) -> Source {
    let cursor = Mutex::new(Cursor::default());
    Arc::new(move || {
        let point = &simulation.points()[index];
        let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
        match simulation.values_with(&mut cursor, point, Timestamp::now()) {
            Some((_, values)) => UnitValues::of_reading(&point.channels, &values),
            // Before it was installed it shows the register that it came with.
            None => UnitValues { register_milli: point.mounts[0].start_register_milli, ..UnitValues::default() },
        }
    })
}

/// The gateway as one connected master sees it.
struct Master {
    units: Arc<BTreeMap<u8, Unit>>,
    masters: Arc<AtomicUsize>,
}

impl Master {
    fn join(masters: &Arc<AtomicUsize>, units: &Arc<BTreeMap<u8, Unit>>) -> Option<Self> {
        let master = Self { units: Arc::clone(units), masters: Arc::clone(masters) };
        // Dropped again when there is no room, which gives the place back.
        (masters.fetch_add(1, Ordering::AcqRel) < MAX_MASTERS).then_some(master)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.masters.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Service for Master {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

    fn call(&self, asked: Self::Request) -> Self::Future {
        let unit = self.units.get(&asked.slave).cloned();
        Box::pin(async move {
            let Some(unit) = unit else { return Err(ExceptionCode::GatewayTargetDevice) };
            match unit.behaviour {
                Behaviour::Answers => {}
                Behaviour::Dead => return Ok(None),
                Behaviour::Slow(delay) => tokio::time::sleep(delay).await,
            }
            answer(&unit, &asked.request).map(Some)
        })
    }
}

fn answer(unit: &Unit, request: &Request<'_>) -> Result<Response, ExceptionCode> {
    let (start, count, input) = match request {
        Request::ReadInputRegisters(start, count) => (*start, *count, true),
        Request::ReadHoldingRegisters(start, count) => (*start, *count, false),
        _ => return Err(ExceptionCode::IllegalFunction),
    };
    if input != unit.layout.is_input() {
        return Err(ExceptionCode::IllegalFunction);
    }
    if count == 0 || count > MAX_REGISTERS {
        return Err(ExceptionCode::IllegalDataValue);
    }
    let registers = unit.layout.registers(&(unit.source)());
    let start = usize::from(start);
    let words = registers.get(start..start + usize::from(count)).ok_or(ExceptionCode::IllegalDataAddress)?.to_vec();
    Ok(if input { Response::ReadInputRegisters(words) } else { Response::ReadHoldingRegisters(words) })
}

#[cfg(test)]
mod tests;
