//! The directory of a SunSpec device: a marker, then models one behind another, each with its number and length.
//!
//! [`Discovery`] says which registers to read next and takes the answers; it knows no connection. What it finds makes a
//! profile by discovery into one with addresses ([`located`]).

use meterlake_config::device_profile::{
    ByteOrder, DeviceProfile, Found, Function, Layout, MAX_TEXT, Register, RegisterRange, RegisterType, SunSpec,
};

use super::planner::BlockRequest;

/// "SunS" in two registers.
const MARKER: [u16; 2] = [0x5375, 0x6E53];
/// The number behind the last model.
const END: u16 = 0xFFFF;
/// The model with the nameplate, and where in it the serial number stands.
const COMMON: u16 = 1;
const SERIAL: u16 = 50;
const SERIAL_REGISTERS: u8 = 16;
/// Models that a device may have; the largest inverters have some thirty.
const MOST_MODELS: usize = 80;
/// Number and length of a model, or the marker.
const HEADER: u16 = 2;

/// A walk through a device's directory.
#[derive(Debug, Clone)]
pub struct Discovery {
    wanted: SunSpec,
    function: Function,
    step: Step,
    models: Vec<Model>,
}

/// A model of a device: its number, and the register where that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// The model's number.
    pub number: u16,
    /// The register that holds it.
    pub address: u16,
    /// Registers behind number and length.
    pub length: u16,
}

#[derive(Debug, Clone)]
enum Step {
    /// The marker is looked for at this place of the list.
    Marker(usize),
    /// A model's number and length are read here.
    Header(u16),
    Done(Result<Found, String>),
}

impl Discovery {
    /// The walk for a profile; `None` when the profile has addresses of its own.
    pub fn of(profile: &DeviceProfile) -> Option<Self> {
        let Layout::SunSpec(wanted) = &profile.layout else { return None };
        let function = profile.fields.iter().flat_map(|field| &field.parts).map(|part| part.register.function).next();
        let function = function.unwrap_or(Function::HoldingRegisters);
        Some(Self { wanted: wanted.clone(), function, step: Step::Marker(0), models: Vec::new() })
    }

    /// What to read next; `None` when the walk is over.
    pub fn next(&self) -> Option<BlockRequest> {
        let address = match &self.step {
            Step::Marker(at) => *self.wanted.bases.get(*at)?,
            Step::Header(address) => *address,
            Step::Done(_) => return None,
        };
        Some(BlockRequest { function: self.function, range: RegisterRange::starting_at(address, HEADER) })
    }

    /// Takes the answer to what [`Self::next`] asked for; `None` when the device answered with an exception.
    pub fn take(&mut self, answer: Option<&[u16]>) {
        self.step = match &self.step {
            Step::Marker(at) => match answer {
                Some(words) if words == MARKER => self.header_at(self.wanted.bases[*at].checked_add(HEADER)),
                _ if at + 1 < self.wanted.bases.len() => Step::Marker(at + 1),
                _ => Step::Done(Err(self.no_marker())),
            },
            Step::Header(address) => match answer {
                Some(&[number, length]) if number != END => {
                    self.with_model(Model { number, address: *address, length })
                }
                // The end, or a device that ends without saying so.
                _ => self.finished(),
            },
            Step::Done(result) => Step::Done(result.clone()),
        };
    }

    fn with_model(&mut self, model: Model) -> Step {
        self.models.push(model);
        if self.models.len() >= MOST_MODELS {
            return self.finished();
        }
        self.header_at(model.address.checked_add(HEADER).and_then(|next| next.checked_add(model.length)))
    }

    /// The next header, or the end where there is no room for one.
    fn header_at(&self, address: Option<u16>) -> Step {
        match address.filter(|address| address.checked_add(1).is_some()) {
            Some(address) => Step::Header(address),
            None => self.finished(),
        }
    }

    fn finished(&self) -> Step {
        let of = |number: u16| self.models.iter().find(|model| model.number == number);
        let found = self.wanted.models.iter().find_map(|number| of(*number));
        let common = of(COMMON).filter(|model| model.length >= SERIAL - HEADER + u16::from(SERIAL_REGISTERS));
        Step::Done(match found {
            Some(model) => {
                Ok(Found { model: model.number, address: model.address, common: common.map(|common| common.address) })
            }
            None => {
                let had: Vec<_> = self.models.iter().map(|model| model.number.to_string()).collect();
                Err(format!(
                    "the device has none of the models {}; it has {}",
                    listed(&self.wanted.models),
                    had.join(", ")
                ))
            }
        })
    }

    fn no_marker(&self) -> String {
        format!("the device has no SunSpec marker at register {}", listed(&self.wanted.bases))
    }

    /// What was found, or why nothing was; `None` while there is more to read.
    pub fn result(&self) -> Option<Result<Found, &str>> {
        match &self.step {
            Step::Done(Ok(found)) => Some(Ok(*found)),
            Step::Done(Err(why)) => Some(Err(why)),
            Step::Marker(_) | Step::Header(_) => None,
        }
    }

    /// The models that were seen so far, in the order of the device.
    pub fn models(&self) -> &[Model] {
        &self.models
    }
}

fn listed(numbers: &[u16]) -> String {
    numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// The profile with the addresses of one device, and its nameplate's serial number to be asked for. A profile with
/// addresses of its own stays as it is.
pub fn located(profile: &DeviceProfile, found: Found) -> DeviceProfile {
    let mut located = profile.clone();
    if !matches!(profile.layout, Layout::SunSpec(_)) {
        return located;
    }
    located.layout = Layout::Found(found);
    located.fields.retain(|field| field.models.contains(&found.model));
    located.status.retain(|status| status.models.contains(&found.model));
    let mut function = Function::HoldingRegisters;
    for field in &mut located.fields {
        for register in field.registers_mut() {
            function = register.function;
            register.address = register.address.saturating_add(found.address);
        }
    }
    for status in &mut located.status {
        status.register.address = status.register.address.saturating_add(found.address);
    }
    located.identify.serial = found.common.map(|common| Register {
        function,
        address: common.saturating_add(SERIAL),
        kind: RegisterType::Text(SERIAL_REGISTERS.min(MAX_TEXT)),
        order: ByteOrder::Big,
        bits: None,
        absent: Vec::new(),
    });
    located
}

#[cfg(test)]
mod tests;
