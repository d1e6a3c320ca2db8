//! The connection of one device server: who has it, and how it passes to a newer one.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::modbus::dial::{Dial, Transport};

/// Connections at a time, in all and by address.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<IpAddr, usize>>);

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Seats {
    /// A place for a connection from this address; `None` when there are too many.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, most: usize, most_of_one: usize) -> Option<Seat> {
        let mut taken = self.lock();
        let of_one = taken.get(&address).copied().unwrap_or(0);
        if of_one >= most_of_one || taken.values().sum::<usize>() >= most {
            return None;
        }
        taken.insert(address, of_one + 1);
        Some(Seat { seats: Arc::clone(self), address })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(of_one) = taken.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Where the connection of a device server waits for its line.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<LinkStream>,
    /// Ends the newest connection.
    newest: Option<CancellationToken>,
}

impl Slot {
    /// Hands in a connection; an older one ends at once. Returns whether there was one.
    pub(super) fn put(&self, stream: TcpStream, seat: Seat) -> bool {
        let replaced = CancellationToken::new();
        let stream = LinkStream {
            stream,
            replaced: Box::pin(replaced.clone().cancelled_owned()),
            guard: replaced.clone(),
            _seat: seat,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that ended by itself has cancelled its token.
        let older = state.newest.replace(replaced).filter(|older| !older.is_cancelled());
        if let Some(older) = &older {
            older.cancel();
        }
        state.waiting = Some(stream);
        drop(state);
        self.came.notify_one();
        older.is_some()
    }

    /// Ends the connection: who has it is to call again.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = None;
        if let Some(newest) = state.newest.take() {
            newest.cancel();
        }
    }

    fn take(&self) -> Option<LinkStream> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.take()
    }

    fn is_waiting(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.is_some()
    }
}

/// "Dials" by taking the connection that the device server has made.
#[derive(Debug)]
pub(super) struct LinkDial(pub(super) Arc<Slot>);

#[async_trait]
impl Dial for LinkDial {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        let stream = self.0.take();
        let stream =
            stream.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the device server has not called"))?;
        Ok(Box::new(stream))
    }

    async fn ready(&self) {
        while !self.0.is_waiting() {
            self.0.came.notified().await;
        }
    }
}

/// A connection that ends when a newer one comes, or has to.
struct LinkStream {
    stream: TcpStream,
    replaced: Pin<Box<WaitForCancellationFutureOwned>>,
    guard: CancellationToken,
    _seat: Seat,
}

impl std::fmt::Debug for LinkStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LinkStream").field(&self.stream).finish()
    }
}

impl LinkStream {
    fn poll_replaced(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.replaced.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "ended here: who called has called again, or has to",
            )),
        }
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.guard.cancel();
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_replaced(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_replaced(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_in_all_and_by_address_and_given_back() {
        let seats = Arc::new(Seats::default());
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|address| address.parse().unwrap());
        let first = seats.take(a, 3, 2).unwrap();
        let _second = seats.take(a, 3, 2).unwrap();
        assert!(seats.take(a, 3, 2).is_none(), "two from one address");
        let _third = seats.take(b, 3, 2).unwrap();
        assert!(seats.take(c, 3, 2).is_none(), "three in all");
        drop(first);
        assert!(seats.take(a, 3, 2).is_some());
    }
}
