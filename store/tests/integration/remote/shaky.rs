//! An object store in memory behind a line that fails by the dice, in all the ways that a network has.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::ledger::Dice;

/// Attempts after the first of a request that changes nothing: as many as the client of S3 makes. With fewer, a log of hundreds
/// of commits is seldom read to its end.
const READS: usize = 9;

/// What becomes of a call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing was done.
    Before,
    /// It was done, and the answer was lost.
    After,
    /// It was done, the answer was lost, and the client asked again: the answer is the second's.
    Again,
    /// The answer is "failed", and it is done nevertheless, some calls later.
    Late,
}

/// The store. Its dice are its own, so that a seed replays where calls come in one order.
#[derive(Debug)]
pub(crate) struct Shaky {
    inner: Arc<InMemory>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    permille: u64,
    late: Vec<(u64, Path, PutPayload, PutOptions)>,
    faults: [u64; 4],
}

impl Shaky {
    /// Over a store that may be shared with others; so many of 1,000 calls fail.
    pub(crate) fn new(inner: Arc<InMemory>, seed: u64, permille: u64) -> Arc<Self> {
        let state = State { dice: Dice(seed), permille, late: Vec::new(), faults: [0; 4] };
        Arc::new(Self { inner, state: Mutex::new(state) })
    }

    /// From here on so many of 1,000 calls fail.
    pub(crate) fn fail(&self, permille: u64) {
        self.state.lock().unwrap().permille = permille;
    }

    /// From here on nothing fails; what is late stays so.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().permille = 0;
    }

    /// How often each kind of fault has shown: nothing done, answer lost, asked again, done late.
    pub(crate) fn faults(&self) -> [u64; 4] {
        self.state.lock().unwrap().faults
    }

    async fn fault(&self) -> Option<Fault> {
        let (due, fault) = {
            let mut state = self.state.lock().unwrap();
            let strikes = state.dice.below(1000) < state.permille;
            let kind = state.dice.below(4);
            let (due, late) = std::mem::take(&mut state.late).into_iter().partition(|(calls, ..)| *calls == 0);
            state.late = late;
            state.late.iter_mut().for_each(|(calls, ..)| *calls -= 1);
            let due: Vec<_> = due;
            let fault = match kind {
                0 => Fault::Before,
                1 => Fault::After,
                2 => Fault::Again,
                _ => Fault::Late,
            };
            (due, strikes.then_some(fault))
        };
        for (_, location, payload, opts) in due {
            // Whether it comes to anything is told by its condition.
            let _ = self.inner.put_opts(&location, payload, opts).await;
        }
        fault
    }

    /// What reads, the client asks again by itself.
    async fn read_fault(&self) -> Option<Error> {
        for _ in 0..READS {
            self.fault().await?;
            self.count(Fault::Before);
        }
        Some(self.count(Fault::Before))
    }

    fn count(&self, fault: Fault) -> Error {
        self.state.lock().unwrap().faults[fault as usize] += 1;
        Error::Generic { store: "shaky", source: "the line went dead".into() }
    }
}

impl fmt::Display for Shaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shaky")
    }
}

#[async_trait]
impl ObjectStore for Shaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let Some(fault) = self.fault().await else { return self.inner.put_opts(location, payload, opts).await };
        let failure = self.count(fault);
        match fault {
            Fault::Before => Err(failure),
            Fault::After => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(failure)
            }
            Fault::Again => {
                self.inner.put_opts(location, payload.clone(), opts.clone()).await?;
                self.inner.put_opts(location, payload, opts).await
            }
            Fault::Late => {
                let mut state = self.state.lock().unwrap();
                let calls = state.dice.below(60);
                state.late.push((calls, location.clone(), payload, opts));
                Err(failure)
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.read_fault().await {
            Some(failure) => Err(failure),
            None => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.read_fault().await {
            Some(failure) => Err(failure),
            None => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let strikes = {
            let mut state = self.state.lock().unwrap();
            (0..=READS).all(|_| state.dice.below(1000) < state.permille)
        };
        if strikes {
            let failure = self.count(Fault::Before);
            return futures::stream::once(async move { Err(failure) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.read_fault().await {
            Some(failure) => Err(failure),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
