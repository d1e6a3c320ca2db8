//! What the benches share: their arguments, the readings that they work on, the stopwatch and the table of results.
//!
//! Everything is made before it is timed, from a fixed seed, and every answer is checked before its time counts. What a
//! bench measures, and what was seen, is in this crate's README.

pub mod arguments;
pub mod input;
pub mod lake;
pub mod measure;
pub mod peer;
pub mod register_bank;
pub mod replay_broker;
pub mod sets;
pub mod system;
