//! Modbus TCP devices that answer at once, whatever they are asked: each register holds a function of its address and of
//! how often it was read, so that nothing can be cached. One thread a connection; requests and registers are counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most registers of one request.
const MAX_REGISTERS: u16 = 125;
/// Transaction, protocol, length, unit, function, first register, count.
const REQUEST: usize = 12;

/// What was asked so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests.
    pub requests: AtomicU64,
    /// Registers of all requests.
    pub registers: AtomicU64,
    /// Requests for something else than registers.
    pub refused: AtomicU64,
}

/// Devices behind one address; dropped, they answer no new connection.
pub struct RegisterBank {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
}

impl RegisterBank {
    /// Listens on a free port, at every address of this machine's loopback among others, so that each line can have its own.
    ///
    /// # Errors
    /// When the system gives no port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()));
        let (counters, stop) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let (counting, stopping) = (Arc::clone(&counters), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let counters = Arc::clone(&counting);
                std::thread::spawn(move || answer(stream, &counters));
            }
        });
        Ok(Self { address, counters, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for RegisterBank {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

/// Until the client leaves.
fn answer(mut stream: TcpStream, counters: &Counters) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut request = [0; REQUEST];
    let mut reply = Vec::with_capacity(9 + 2 * usize::from(MAX_REGISTERS));
    loop {
        stream.read_exact(&mut request).ok()?;
        let function = request[7];
        let first = u16::from_be_bytes([request[8], request[9]]);
        let count = u16::from_be_bytes([request[10], request[11]]);
        reply.clear();
        reply.extend(&request[..4]);
        if !matches!(function, 3 | 4) || !(1..=MAX_REGISTERS).contains(&count) {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            reply.extend([0, 3, request[6], function | 0x80, 1]);
        } else {
            let asked = counters.requests.fetch_add(1, Ordering::Relaxed);
            counters.registers.fetch_add(u64::from(count), Ordering::Relaxed);
            reply.extend((3 + 2 * count).to_be_bytes());
            reply.extend([request[6], function, u8::try_from(2 * count).unwrap_or(u8::MAX)]);
            for register in 0..count {
                reply.extend(value(first.wrapping_add(register), asked).to_be_bytes());
            }
        }
        stream.write_all(&reply).ok()?;
    }
}

/// High words of 32-bit values (even addresses) stay small, so that registers look like those of a meter.
fn value(register: u16, asked: u64) -> u16 {
    if register.is_multiple_of(2) {
        0
    } else {
        register.wrapping_mul(7).wrapping_add(u16::try_from(asked & 0xFFF).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_answered_and_counted_and_nothing_else_is() {
        let bank = RegisterBank::start().unwrap();
        let mut stream = TcpStream::connect(bank.address()).unwrap();
        stream.write_all(&[0, 9, 0, 0, 0, 6, 3, 4, 0, 10, 0, 2]).unwrap();
        let mut reply = [0; 13];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [0, 9, 0, 0, 0, 7, 3, 4, 4, 0, 0, 0, 77]);
        stream.write_all(&[0, 9, 0, 0, 0, 6, 3, 6, 0, 10, 0, 2]).unwrap();
        let mut refusal = [0; 9];
        stream.read_exact(&mut refusal).unwrap();
        assert_eq!(refusal, [0, 9, 0, 0, 0, 3, 3, 0x86, 1]);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = bank.counters();
        assert_eq!((count(&counters.requests), count(&counters.registers), count(&counters.refused)), (1, 2, 1));
    }
}
